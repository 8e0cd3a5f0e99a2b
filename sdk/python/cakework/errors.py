"""What a call can end with."""

from __future__ import annotations

from . import models


class CakeworkError(Exception):
    """A call that failed. `code` is the word to branch on, the text a sentence with the fix."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        problem: models.Problem | None = None,
        body: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        #: The HTTP status, where the server answered.
        self.status_code = status_code
        #: The problem (RFC 9457), where the server said one.
        self.problem = problem
        #: The answer as text, where it is no problem.
        self.body = body
        #: Seconds that the server asks to wait before the next try.
        self.retry_after = retry_after

    @property
    def code(self) -> str | None:
        """The word to branch on."""
        return self.problem.code if self.problem else None

    @property
    def request_id(self) -> str | None:
        """What names the call in the server's log."""
        return self.problem.request_id if self.problem else None


class BadRequest(CakeworkError):
    """400: the request can't be carried out as it is."""


class Unauthorized(CakeworkError):
    """401: the key is missing, wrong, revoked or expired."""


class Forbidden(CakeworkError):
    """403: the key's scope or the account's quota does not allow it."""


class DoesNotExist(CakeworkError):
    """404: there is no such thing, or it is another account's."""


class Conflict(CakeworkError):
    """409: the thing's state does not allow it."""


class TooManyRequests(CakeworkError):
    """429: too much at once."""


class InternalServerError(CakeworkError):
    """500: the operator finds the cause under `request_id`."""


class Unavailable(CakeworkError):
    """503: it can't be done at present."""


class ConnectionFailed(CakeworkError):
    """The server can't be reached, or the connection broke."""


class TimedOut(CakeworkError):
    """The call did not end in its time. What it asked for may have been done."""


class BuildFailed(CakeworkError):
    """A build that was waited for and failed."""

    def __init__(self, build: models.Build) -> None:
        error = build.error
        place = f" (line {error.line})" if error and error.line else ""
        super().__init__(f"{error.message}{place}" if error else f"the build {build.build_id} failed")
        self.build = build


_CLASSES: dict[int, type[CakeworkError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: DoesNotExist,
    409: Conflict,
    429: TooManyRequests,
    500: InternalServerError,
    503: Unavailable,
}


def failure(status: int, problem: models.Problem | None, body: str, retry_after: int | None) -> CakeworkError:
    """The error of an answer."""
    message = " ".join(filter(None, [problem.detail, problem.fix])) if problem else f"the server answered {status}"
    found = _CLASSES.get(status, CakeworkError)
    return found(message, status_code=status, problem=problem, body="" if problem else body, retry_after=retry_after)
