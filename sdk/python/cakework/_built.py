"""What a build is once it has succeeded."""

from pydantic import Field

from . import models


class Built(models.Build):
    """A build that has succeeded: it has an image."""

    image_id: str = Field(alias="imageId")
