"""What both halves of the client share: how often a call may be sent, how long it waits, and the errors that it ends with."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from .errors import CakeworkError, ConnectionFailed, failure
from .models import Problem

DEFAULT_URL = "http://localhost:8081"
#: Time for a call with all its tries, in seconds.
CALL_SECS = 60.0
#: What the server allows for a file on its way, in seconds.
TRANSFER_SECS = 3600.0
RETRIES = 3
#: The server gives a sign of life every 15 s; a stream without any for so many seconds is dead.
SILENCE_SECS = 45.0
#: How often in a row a stream may break without a word.
BREAKS_MAX = 8
_RETRIED = {429, 502, 503, 504}
_PAUSE_SECS = 0.2
_PAUSE_MAX_SECS = 5.0


class Again(Enum):
    """Whether a call may be sent again."""

    ALWAYS = "it can do nothing twice"
    KEYED = "it makes something, and an idempotency key says that it is the same"
    NEVER = "it could be done twice"


def part(name: str) -> str:
    """A part of a path: an id of somebody else's making leads nowhere else."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not an id")
    return quote(name, safe="")


def from_environment(url: str | None, api_key: str | None) -> tuple[str, str]:
    """The server and the key: what was passed, or else CAKEWORK_URL and CAKEWORK_API_KEY."""
    return (url or os.environ.get("CAKEWORK_URL") or DEFAULT_URL).rstrip("/"), api_key or os.environ.get(
        "CAKEWORK_API_KEY"
    ) or ""


def plain(value: Any) -> Any:
    """A value as the wire has it: models are mappings, and what is None is absent."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def params(query: Mapping[str, Any] | None) -> dict[str, str]:
    """Parameters as text."""
    said = {name: value for name, value in (query or {}).items() if value is not None}
    return {
        name: ("true" if value else "false") if isinstance(value, bool) else str(value) for name, value in said.items()
    }


def new_key() -> str:
    return str(uuid.uuid4())


def refusal(response: httpx.Response) -> CakeworkError:
    """The error of an answer that was read to its end."""
    problem: Problem | None
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = None
    after = response.headers.get("retry-after", "")
    return failure(
        response.status_code, problem, response.text, int(after) if after.isascii() and after.isdigit() else None
    )


def pause_after(error: CakeworkError, tried: int) -> float | None:
    """Seconds before a call that failed is sent again; None where that would not help."""
    passes = isinstance(error, ConnectionFailed) or error.status_code in _RETRIED or error.code == "request_in_progress"
    if not passes:
        return None
    if error.retry_after is not None:
        return error.retry_after * (1 + random.random() / 10)
    return random.random() * min(_PAUSE_MAX_SECS, _PAUSE_SECS * float(2**tried)) + _PAUSE_SECS / 2
