"""The Python blocks of README.md: printed as one program for mypy, what they take from a reader's own declared; with --run also run,
one after the other as a reader would, against the server of the environment."""

import asyncio
import re
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cakework as package
from cakework import errors, models

readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
assert len(blocks) >= 2, "README.md has hardly any code"
blocks = [re.sub(r"^from cakework import .*\n", "", block, flags=re.M) for block in blocks]


def function(name: str, code: str) -> str:
    return f"async def {name}() -> None:\n{textwrap.indent(code, '    ')}"


def stop_soon(vm_id: str) -> None:
    """Who reads a log to its end waits for the VM's."""

    def stop() -> None:
        with package.Cakework() as cakework:
            cakework.stop_vm(vm_id)

    threading.Timer(1, stop).start()


class Cakework(package.Cakework):
    def follow_vm_logs(self, vm_id: str, **options: Any) -> Iterator[models.LogLine]:
        stop_soon(vm_id)
        return super().follow_vm_logs(vm_id, **options)


class AsyncCakework(package.AsyncCakework):
    def follow_vm_logs(self, vm_id: str, **options: Any) -> AsyncIterator[models.LogLine]:
        stop_soon(vm_id)
        return super().follow_vm_logs(vm_id, **options)


if sys.argv[1:] == ["--run"]:
    printed: list[str] = []

    def note(*words: Any) -> None:
        printed.append(" ".join(str(word) for word in words))
        print(*words)

    names: dict[str, Any] = {"Cakework": Cakework, "AsyncCakework": AsyncCakework, "errors": errors, "print": note}
    for at, block in enumerate(blocks):
        if "await" in block:
            exec(function(f"block{at}", block), names)
            asyncio.run(names[f"block{at}"]())
        else:
            exec(block, names)
    for wanted in ("http://", "index.html", "destroyed"):
        assert any(wanted in line for line in printed), f"no line with {wanted!r} among {printed}"
else:
    print("from cakework import AsyncCakework, Cakework, errors\n\nimage_id: str = ''\n")
    for at, block in enumerate(blocks):
        print(function(f"block{at}", block))
