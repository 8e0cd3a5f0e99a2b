"""Writes the generated parts of the SDK from the API's document, docs/openapi.json: the models, by datamodel-code-generator; the
calls; and the synchronous half of everything, by unasync. With --check it writes nothing and fails where what is there differs.
"""

import filecmp
import json
import keyword
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

HERE = Path(__file__).resolve().parent.parent
DOCUMENT = HERE.parent.parent / "docs" / "openapi.json"
HEAD = "# Generated from docs/openapi.json by scripts/generate.py: do not edit.\n"
# Calls whose bodies are bytes, streams or WebSockets: `_async/base.py` has them. The rest are second names of others.
BY_HAND = {
    "readFile",
    "waitVm",
    "writeFile",
    "openExec",
    "openapi",
    "getBuildByPost",
    "listVMsUnversioned",
    "destroyCachedVMShort",
    "runSnippet",
}
# What can be done twice with no harm, among the calls that change something.
HARMLESS = {
    "stopVM",
    "startCachedVM",
    "stopCachedVM",
    "destroyCachedVM",
    "suspendVM",
    "cancelBuild",
    "enableWebhook",
    "putRegistry",
}


def snake(name: str) -> str:
    name = name.replace("VMs", "Vms").replace("VM", "Vm").replace("GB", "Gb")
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return word + "_" if keyword.iskeyword(word) else word


def reference(schema: dict) -> str:
    return schema["$ref"].rsplit("/", 1)[1]


def type_of(schema: dict, schemas: dict) -> str:
    """The Python type of a parameter or a field. Words of an enumeration are text: a server of a later version may have more."""
    if "$ref" in schema:
        target = schemas[reference(schema)]
        return (
            f"models.{reference(schema)}" if "properties" in target or "allOf" in target else type_of(target, schemas)
        )
    if "oneOf" in schema:
        return " | ".join(dict.fromkeys(type_of(one, schemas) for one in schema["oneOf"] if one.get("type") != "null"))
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if kind == "array":
        return f"Sequence[{type_of(schema['items'], schemas)}]"
    if kind == "object":
        return f"Mapping[str, {type_of(schema['additionalProperties'], schemas)}]"
    return {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}[kind]


def call(method: str, path: str, operation: dict, schemas: dict) -> str:
    name = snake(operation["operationId"])
    positional, named, query, body = [], [], [], []
    keyed = False
    for parameter in operation.get("parameters", []):
        wire, own = parameter["name"], snake(parameter["name"])
        if parameter["in"] == "path":
            positional.append(f"{own}: str")
        elif parameter["in"] == "header":
            keyed = True
        elif wire == "metadata.KEY":
            named.append("metadata: Mapping[str, str] | None = None")
            query.append('**{f"metadata.{name}": value for name, value in (metadata or {}).items()}')
        elif wire != "follow":
            kind = type_of(parameter["schema"], schemas)
            named.append(f"{own}: {kind}" if parameter.get("required") else f"{own}: {kind} | None = None")
            query.append(f'"{wire}": {own}')
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        schema = schemas[reference(content["schema"])]
        required = set(schema.get("required", []))
        for wire, field in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
            own, kind = snake(wire), type_of(field, schemas)
            if wire == "files":
                kind = "Sequence[models.BuildFile | Mapping[str, Any]]"
            named.append(f"{own}: {kind}" if wire in required else f"{own}: {kind} | None = None")
            body.append(f'"{wire}": {own}')
    answer = "None"
    for status, response in operation["responses"].items():
        found = response.get("content", {}).get("application/json")
        if status.startswith("2") and found and "$ref" in found["schema"]:
            answer = f"models.{reference(found['schema'])}"
            break
    if keyed:
        named.append("idempotency_key: str | None = None")
    named.append("timeout: float | None = None")
    harmless = method != "post" or operation["operationId"] in HARMLESS
    again = "Again.KEYED" if keyed else "Again.ALWAYS" if harmless else "Again.NEVER"
    place = re.sub(r"\{(\w+)\}", lambda found: f"{{part({snake(found[1])})}}", path)
    words = [f'"{method.upper()}"', f'f"{place}"' if "{" in place else f'"{place}"']
    words += [answer] if answer != "None" else []
    words += [f"query={{{', '.join(query)}}}"] if query else []
    words += [f"json={{{', '.join(body)}}}"] if body else []
    words += [f"again={again}"]
    words += ["idempotency_key=idempotency_key"] if keyed else []
    # A command's own time is the least that its call may take.
    words += [
        "timeout=timeout or (timeout_seconds or 60) + 15" if operation["operationId"] == "execVM" else "timeout=timeout"
    ]
    verb = "await self._do" if answer == "None" else "return await self._call"
    summary = " ".join((operation.get("summary") or "").split())
    description = "\n\n        ".join(
        [summary, *filter(None, [" ".join((operation.get("description") or "").split())])]
    )
    quotes = '"' * 3
    docstring = quotes + description.replace('"', "'") + quotes
    return f"""
    async def {name}(self, {", ".join([*positional, "*", *named])}) -> {answer}:
        {docstring}
        {verb}({", ".join(words)})
"""


def write(target: Path) -> None:
    """Writes all that is generated into a directory that has the rest."""
    document = json.loads(DOCUMENT.read_text())
    schemas = document["components"]["schemas"]
    options = [
        "--input-file-type=openapi",
        "--output-model-type=pydantic_v2.BaseModel",
        "--target-python-version=3.10",
        "--snake-case-field",
        "--allow-population-by-field-name",
        "--use-standard-collections",
        "--use-union-operator",
        "--use-annotated",
        "--use-schema-description",
        "--use-field-description",
        "--collapse-root-models",
        "--extra-fields=ignore",
        "--output-datetime-class=datetime",
        "--disable-timestamp",
        f"--custom-file-header={HEAD.strip()}",
        "--formatters=ruff-format",
        "--formatters=ruff-check",
    ]
    models = target / "models.py"
    program = Path(sys.executable).parent / "datamodel-codegen"
    # What a server of a later version adds is no mistake: fields are passed over, and words of an enumeration are text.
    for schema in schemas.values():
        schema.pop("enum", None)
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as source:
        json.dump(document, source)
        source.flush()
        subprocess.run([program, "--input", source.name, "--output", models, *options], check=True)
    format_files(models)
    calls = [
        call(method, path, operation, schemas)
        for path, item in sorted(document["paths"].items())
        for method, operation in item.items()
        if operation["operationId"] not in BY_HAND
    ]
    text = f"""{HEAD}from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import models
from .._http import Again, part
from .base import AsyncBase


class AsyncCakework(AsyncBase):
    \"\"\"The client of Cakework's API.\"\"\"
{"".join(calls)}"""
    asynchronous = target / "_async"
    (asynchronous / "client.py").write_text(text)
    format_files(asynchronous / "client.py")
    for file in asynchronous.glob("*.py"):
        (target / "_sync").mkdir(exist_ok=True)
        (target / "_sync" / file.name).unlink(missing_ok=True)
    replaced = {
        "AsyncCakework": "Cakework",
        "AsyncBase": "Base",
        "AsyncClient": "Client",
        "AsyncBaseTransport": "BaseTransport",
        "AsyncIterator": "Iterator",
        "AsyncIterable": "Iterable",
        "AsyncByteStream": "SyncByteStream",
        "aconnect_sse": "connect_sse",
        "aiter_sse": "iter_sse",
        "aiter_bytes": "iter_bytes",
        "aread": "read",
        "aclose": "close",
        "asleep": "sleep",
    }
    rule = unasync.Rule(fromdir="/_async/", todir="/_sync/", additional_replacements=replaced)
    unasync.unasync_files([str(file) for file in asynchronous.glob("*.py")], [rule])
    for file in (target / "_sync").glob("*.py"):
        if file.name == "base.py":
            file.write_text("# Generated from _async/base.py by scripts/generate.py: do not edit.\n" + file.read_text())
    format_files(*(target / "_sync").glob("*.py"))


def format_files(*files: Path) -> None:
    ruff = Path(sys.executable).parent / "ruff"
    config = ["--config", str(HERE / "pyproject.toml")]
    subprocess.run([ruff, "check", "--quiet", "--select", "I,F401", "--fix", *config, *files], check=True)
    subprocess.run([ruff, "format", "--quiet", *config, *files], check=True)


def main() -> None:
    package = HERE / "cakework"
    if "--check" not in sys.argv:
        write(package)
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "cakework"
        (copy / "_async").mkdir(parents=True)
        for name in ["__init__.py", "base.py"]:
            (copy / "_async" / name).write_text((package / "_async" / name).read_text())
        write(copy)
        made = [file.relative_to(copy) for file in copy.rglob("*.py")]
        stale = [
            str(name)
            for name in made
            if not (package / name).exists() or not filecmp.cmp(copy / name, package / name, shallow=False)
        ]
    if stale:
        sys.exit(f"{', '.join(sorted(stale))}: not what docs/openapi.json says. Run scripts/generate.py and commit it.")


main()
