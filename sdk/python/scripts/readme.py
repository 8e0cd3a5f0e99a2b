"""Prints the Python blocks of README.md as one program for mypy: what they take from a reader's own is declared."""

import re
import textwrap
from pathlib import Path

readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
assert len(blocks) >= 2, "README.md has hardly any code"
print("from cakework import AsyncCakework, Cakework, errors\n\nimage_id: str = ''\n")
for at, block in enumerate(blocks):
    code = re.sub(r"^from cakework import .*\n", "", block, flags=re.M)
    print(f"async def block{at}() -> None:\n{textwrap.indent(code, '    ')}")
