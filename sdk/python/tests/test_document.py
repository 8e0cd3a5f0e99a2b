"""The document's own examples are what its schemas say."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cakework import models

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
EXAMPLES = [
    (name, schema["example"])
    for name, schema in DOCUMENT["components"]["schemas"].items()
    if isinstance(schema.get("example"), dict)
]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_is_what_its_schema_says(name: str, example: dict[str, Any]) -> None:
    model: type[BaseModel] = getattr(models, name)
    read = model.model_validate(example)
    # What the schema does not know would be missing here.
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == example
