"""What the suites share. The server is real: its address, a key and an image are in the environment, and the tests of the crate
`cakework` set them."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from cakework import Cakework

URL = os.environ["CAKEWORK_URL"]
KEY = os.environ["CAKEWORK_API_KEY"]


@pytest.fixture
def cakework() -> Iterator[Cakework]:
    """The client, by the environment alone."""
    with Cakework() as client:
        yield client


@pytest.fixture
def image_id() -> str:
    """A Python web app on port 8080."""
    return os.environ["CAKEWORK_TEST_IMAGE"]


class BadLine:
    """A line to the server that cuts each connection after so many bytes of its answers."""

    def __init__(self, cut: Callable[[int], float]) -> None:
        self._cut = cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._carry, args=(near, self._cut(self.connections)), daemon=True).start()

    def _carry(self, near: socket.socket, left: float) -> None:
        place = urlsplit(URL)
        with near, socket.create_connection((place.hostname or "", place.port or 80)) as far:
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            try:
                while left > 0 and (chunk := far.recv(65536)):
                    kept = chunk if left == float("inf") else chunk[: int(left)]
                    near.sendall(kept)
                    left -= len(chunk)
                near.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while chunk := near.recv(65536):
                far.sendall(chunk)
        except OSError:
            pass


@pytest.fixture
def bad_line() -> Iterator[Callable[[Callable[[int], float]], BadLine]]:
    lines: list[BadLine] = []

    def make(cut: Callable[[int], float]) -> BadLine:
        lines.append(BadLine(cut))
        return lines[-1]

    yield make
    for line in lines:
        line.close()
