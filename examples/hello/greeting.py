"""What an end user wrote."""

import os


def greeting():
    return f"Hello from an image that Cakework built! token={os.environ.get('TOKEN', '')}"
