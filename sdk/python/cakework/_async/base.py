"""The calls of the client that are not made from the document: waits, streams and files. And how each call is sent."""

from __future__ import annotations

import json as _json
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import BaseModel, ValidationError
from typing_extensions import Self

from .. import models
from .._built import Built
from .._http import (
    BREAKS_MAX,
    CALL_SECS,
    RETRIES,
    SILENCE_SECS,
    TRANSFER_SECS,
    Again,
    from_environment,
    new_key,
    params,
    part,
    pause_after,
    plain,
    refusal,
)
from .._sleep import asleep
from ..errors import BuildFailed, CakeworkError, Conflict, ConnectionFailed, TimedOut, failure

_Answer = TypeVar("_Answer", bound=BaseModel)
_WAIT_SECS = 600.0
#: The server holds a wait for no longer.
_WAIT_CALL_SECS = 50
_POLL_SECS = 0.25


class AsyncBase:
    """A server and a key. Use it as a context manager, or close it."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = CALL_SECS,
        max_retries: int = RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """By default the server is CAKEWORK_URL, or this machine's, and the key CAKEWORK_API_KEY. `timeout` is the time of a call with
        all its tries, in seconds; `max_retries` how often one is sent again, where that can do nothing twice."""
        self._url, self._key = from_environment(url, api_key)
        self._timeout = timeout
        self._max_retries = max_retries
        self._http = httpx.AsyncClient(base_url=self._url, headers={"x-api-key": self._key}, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def wait_for_image(self, image_id: str, *, timeout: float = _WAIT_SECS) -> models.Image:
        """Waits until an image is whole; raises `Conflict` where it fails."""
        end = time.monotonic() + timeout
        while True:
            image = await self._call("GET", f"/v1/image/{part(image_id)}", models.Image)
            if image.state == "ready":
                return image
            if image.state == "failed":
                raise Conflict(image.error.message if image.error else f"the image {image_id} failed", status_code=409)
            if time.monotonic() > end:
                raise TimedOut(f"the image {image_id} did not arrive in time")
            await asleep(_POLL_SECS)

    async def wait_for_build(self, build_id: str, *, timeout: float = _WAIT_SECS) -> Built:
        """Waits until a build has succeeded; raises `BuildFailed`, with the line of the Dockerfile, where it fails."""
        end = time.monotonic() + timeout
        while True:
            build = await self._call("GET", f"/v1/image/build/{part(build_id)}", models.Build)
            if build.status == "failed":
                raise BuildFailed(build)
            if build.status == "succeeded":
                return Built.model_validate(build.model_dump(by_alias=True))
            if time.monotonic() > end:
                raise TimedOut(f"the build {build_id} was not over in time")
            await asleep(_POLL_SECS)

    async def wait_for_vm(self, vm_id: str, state: str = "started", *, timeout: float = _WAIT_SECS) -> models.Vm:
        """Waits until a VM is in a state; raises `Conflict` where it is destroyed instead."""
        end = time.monotonic() + timeout
        while True:
            seconds = max(0, min(_WAIT_CALL_SECS, int(end - time.monotonic()) + 1))
            query = {"state": state, "timeout": seconds}
            vm = await self._call("GET", f"/v1/vm/{part(vm_id)}/wait", models.Vm, query=query, timeout=seconds + 10)
            if vm.state == state:
                return vm
            if vm.state == "destroyed":
                why = f" ({vm.exit.reason})" if vm.exit else ""
                raise Conflict(f"the VM {vm_id} is over{why}", status_code=409)
            if time.monotonic() >= end:
                raise TimedOut(f"the VM {vm_id} is {vm.state}, and was not {state} in time")

    async def follow_vm_logs(
        self, vm_id: str, *, query: str | None = None, since: str | None = None
    ) -> AsyncIterator[models.LogLine]:
        """The lines of a VM's log as they come, until there will be no more. A stream that was cut off goes on where it was."""
        async for line in self._follow(f"/v1/vm/{part(vm_id)}/logs", {"query": query, "from": since}):
            yield line

    async def follow_build_logs(self, build_id: str, *, query: str | None = None) -> AsyncIterator[models.LogLine]:
        """The lines of a build's log as they come, until the build is over."""
        async for line in self._follow(f"/v1/image/build/{part(build_id)}/logs", {"query": query}):
            yield line

    async def exec_stream(self, vm_id: str, command: str | list[str], **options: Any) -> AsyncIterator[tuple[str, Any]]:
        """Runs a command and hands on what it writes as it comes: ("stdout", text), ("stderr", text), and last ("exit", how it ended).
        `options` are the fields of `exec_vm`, as the API names them."""
        body = plain({"command": command, **options})
        headers = {"accept": "text/event-stream"}
        response = await self._open("POST", f"/v1/vm/{part(vm_id)}/exec", again=Again.NEVER, json=body, headers=headers)
        try:
            async for event in EventSource(response).aiter_sse():
                said = _json.loads(event.data)
                if event.event in ("stdout", "stderr"):
                    yield event.event, said["data"]
                elif event.event == "exit":
                    yield "exit", models.ExecExit.model_validate(said)
                    return
                elif event.event == "error":
                    raise failure(503, None, said.get("detail", ""), None)
            raise ConnectionFailed("the command's stream broke off")
        except (httpx.TransportError, SSEError) as error:
            raise ConnectionFailed(f"the command's stream broke off: {error}") from error
        finally:
            await response.aclose()

    async def read_file(self, vm_id: str, path: str) -> bytes:
        """A file's bytes."""
        headers = {"accept": "application/octet-stream"}
        response = await self._open("GET", f"/v1/vm/{part(vm_id)}/files", query={"path": path}, headers=headers)
        content = await self._whole(response)
        if response.headers.get("content-type", "").startswith("application/json"):
            raise Conflict(f"{path} is a directory", status_code=409)
        return content

    async def list_files(self, vm_id: str, path: str) -> models.FileList:
        """What is in a directory."""
        response = await self._open("GET", f"/v1/vm/{part(vm_id)}/files", query={"path": path})
        content = await self._whole(response)
        if not response.headers.get("content-type", "").startswith("application/json"):
            raise Conflict(f"{path} is not a directory", status_code=409)
        return models.FileList.model_validate_json(content)

    async def write_file(
        self, vm_id: str, path: str, data: bytes | str, *, mode: str | None = None
    ) -> models.FileEntry:
        """Writes a file, whole or not at all. `mode` is in octal digits, such as `0755`."""
        return await self._put(vm_id, {"path": path, "mode": mode}, data)

    async def make_directory(self, vm_id: str, path: str, *, mode: str | None = None) -> models.FileEntry:
        """Makes a directory, with those on the way."""
        return await self._put(vm_id, {"path": path, "mode": mode, "directory": True}, b"")

    async def download(self, vm_id: str, path: str) -> bytes:
        """A directory as a tar archive."""
        query = {"path": path, "format": "tar"}
        return await self._whole(await self._open("GET", f"/v1/vm/{part(vm_id)}/files", query=query))

    async def upload(self, vm_id: str, path: str, archive: bytes) -> models.FileEntry:
        """Unpacks a tar archive into a directory."""
        return await self._put(vm_id, {"path": path, "format": "tar"}, archive)

    async def _put(self, vm_id: str, query: Mapping[str, Any], data: bytes | str) -> models.FileEntry:
        content = data.encode() if isinstance(data, str) else data
        headers = {"content-type": "application/octet-stream"}
        path = f"/v1/vm/{part(vm_id)}/files"
        response = await self._open("PUT", path, query=query, content=content, headers=headers, timeout=TRANSFER_SECS)
        return _read(models.FileEntry, await self._whole(response), response)

    async def _follow(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[models.LogLine]:
        last: str | None = None
        breaks = 0
        while True:
            try:
                headers = {"accept": "text/event-stream", **({"last-event-id": last} if last else {})}
                response = await self._open(
                    "GET", path, query={**query, "follow": True}, headers=headers, again=Again.NEVER
                )
                try:
                    async for event in EventSource(response).aiter_sse():
                        if event.event == "end":
                            return
                        if event.event == "log":
                            breaks, last = 0, event.id
                            yield models.LogLine.model_validate_json(event.data)
                finally:
                    await response.aclose()
                raise ConnectionFailed("the log's stream broke off")
            except (httpx.TransportError, SSEError, CakeworkError) as error:
                broken = (
                    error
                    if isinstance(error, CakeworkError)
                    else ConnectionFailed(f"the log's stream broke off: {error}")
                )
                pause = pause_after(broken, breaks)
                breaks += 1
                if pause is None or breaks > BREAKS_MAX:
                    raise broken from error
                await asleep(pause)

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[_Answer],
        *,
        query: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        again: Again = Again.ALWAYS,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> _Answer:
        """Sends a call and reads its answer."""
        headers = {"idempotency-key": idempotency_key or new_key()} if again is Again.KEYED else {}
        body = None if json is None else plain(json)
        response = await self._open(method, path, query=query, json=body, headers=headers, again=again, timeout=timeout)
        return _read(answer, await self._whole(response), response)

    async def _do(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        again: Again = Again.ALWAYS,
        timeout: float | None = None,
    ) -> None:
        """Sends a call whose answer says nothing."""
        await self._whole(await self._open(method, path, query=query, again=again, timeout=timeout))

    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        again: Again = Again.ALWAYS,
        timeout: float | None = None,
    ) -> httpx.Response:
        """An answer whose body is not yet read. It has to be closed."""
        limit = timeout or self._timeout
        end = time.monotonic() + limit
        tried = 0
        while True:
            left = max(0.001, end - time.monotonic())
            bounds = httpx.Timeout(
                left,
                connect=min(left, 10.0),
                read=min(left, limit) if limit < SILENCE_SECS else max(left, SILENCE_SECS),
            )
            request = self._http.build_request(
                method, path, params=params(query), json=json, content=content, headers=headers, timeout=bounds
            )
            try:
                response = await self._http.send(request, stream=True)
                if response.is_success:
                    return response
                await response.aread()
                # What an earlier try has removed is gone, as was asked for.
                if method == "DELETE" and tried > 0 and response.status_code == 404:
                    return response
                error: CakeworkError = refusal(response)
            except httpx.TimeoutException as late:
                raise TimedOut(f"{self._url} did not answer in time") from late
            except httpx.TransportError as away:
                error = ConnectionFailed(f"{self._url} can't be reached: {away}")
                error.__cause__ = away
            pause = pause_after(error, tried)
            most = 0 if again is Again.NEVER else self._max_retries
            if pause is None or tried >= most or time.monotonic() + pause >= end:
                raise error
            tried += 1
            await asleep(pause)

    async def _whole(self, response: httpx.Response) -> bytes:
        """A body to its end."""
        try:
            return await response.aread()
        except httpx.TimeoutException as late:
            raise TimedOut(f"{self._url} did not answer in time") from late
        except httpx.TransportError as broken:
            raise ConnectionFailed(f"the answer broke off: {broken}") from broken
        finally:
            await response.aclose()


def _read(answer: type[_Answer], content: bytes, response: httpx.Response) -> _Answer:
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        text = content[:1000].decode(errors="replace")
        raise CakeworkError(
            "the answer is not the API's: is this its URL?", status_code=response.status_code, body=text
        ) from error
