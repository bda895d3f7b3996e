"""The exceptions that mean something to a caller.

Each class carries the HTTP status and title with which it is answered (RFC 9457); what is not in
this tree is a bug and is answered as a bare 500. Nothing here knows about HTTP beyond these two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request: its name, what is wrong with it and what is allowed."""

    name: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """The entry of the answer's ``errors`` list."""
        return {"name": self.name, "detail": self.detail}


class DrmaaticdError(Exception):
    """The root of the tree; `detail` is shown to the caller and therefore names no internal path."""

    status: int = 500
    title: str = "Internal server error"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Iterable[FieldError] = (),
        headers: dict[str, str] | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers or {}
        self.extra = extra or {}
        """Further members of the problem document, such as the `uuid` of a rejected task."""


class InvalidInput(DrmaaticdError):
    """The request is malformed, or fields of it are wrong; `errors` names every one of them."""

    status = 400
    title = "Invalid input"


class NotAuthenticated(DrmaaticdError):
    """The caller must say who they are, or what they said is not (or no longer) valid."""

    status = 401
    title = "Not authenticated"


class Forbidden(DrmaaticdError):
    """The caller is known and may not do this."""

    status = 403
    title = "Forbidden"


class NotFound(DrmaaticdError):
    """There is no such thing, or none that this caller may know of."""

    status = 404
    title = "Not found"


class MethodNotAllowed(DrmaaticdError):
    """The path exists, the method does not; `headers` carries ``Allow``."""

    status = 405
    title = "Method not allowed"


class Conflict(DrmaaticdError):
    """The state of the thing does not allow this now."""

    status = 409
    title = "Conflict"


class TooLarge(DrmaaticdError):
    """A body, field or file is over its limit; the detail names the limit."""

    status = 413
    title = "Content too large"


class UnsupportedMediaType(DrmaaticdError):
    """The body's content type is none that this path reads."""

    status = 415
    title = "Unsupported media type"


class RangeNotSatisfiable(DrmaaticdError):
    """The asked-for bytes lie beyond the file; `headers` carries ``Content-Range``."""

    status = 416
    title = "Range not satisfiable"


class HeadTooLarge(DrmaaticdError):
    """The request's line and headers are larger than the server reads."""

    status = 431
    title = "Request header fields too large"


class KeyReused(DrmaaticdError):
    """An idempotency key came again with another request."""

    status = 422
    title = "Idempotency key was used for another request"


class TooManyRequests(DrmaaticdError):
    """Throttled; `retry_after` is in whole seconds and is true. None: to try again never helps."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: int | None) -> None:
        super().__init__(detail, headers={} if retry_after is None else {"Retry-After": str(retry_after)})


class Rejected(DrmaaticdError):
    """The DRM refused the job for good; the task stays, `rejected`."""

    status = 500
    title = "The job was refused"


class ProviderFailed(DrmaaticdError):
    """The identity provider cannot be reached or answers nonsense."""

    status = 502
    title = "The identity provider failed"


class Unavailable(DrmaaticdError):
    """The daemon cannot do this now: it is stopping, overloaded, or its store has failed."""

    status = 503
    title = "Service unavailable"

    def __init__(self, detail: str, *, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class StorageFull(DrmaaticdError):
    """The disk is full (ENOSPC) or a quota is used up (EDQUOT)."""

    status = 507
    title = "Insufficient storage"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong in a configuration or script file.

    `key` is the dotted path of the key (``server.port``, ``param[1].min``), `line` counts from 1;
    either may be missing. `message` says what is wrong, what is allowed, and what was perhaps meant.
    """

    file: Path
    message: str
    key: str | None = None
    line: int | None = None
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        kind = "warning: " if self.warning else ""
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {kind}{key}{self.message}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `findings` names everything that is wrong with it."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class StoreError(Exception):
    """The store cannot be opened or has failed; no more may be acknowledged."""


class IllegalMove(Exception):
    """A task was to go to a state that its present one does not lead to."""
