"""What a call of `Client` raises."""

from __future__ import annotations

from collections.abc import Mapping


class ClientError(Exception):
    """The root of what a call of `Client` raises."""


class Refused(ClientError):
    """It cannot be done, for a reason on this side."""


class WaitTimeout(ClientError):
    """The task had not ended when the time was up."""


class Unreachable(ClientError):
    """There is no answer: nobody listens, the connection broke, or time ran out.

    `connected` tells whether there had been a connection, so that the request may have been carried
    out. `idempotency_key` is that of a task whose fate is not known: the same request with it never
    makes a second task.
    """

    def __init__(self, text: str, *, connected: bool = True) -> None:
        super().__init__(text)
        self.connected = connected
        self.idempotency_key: str | None = None


class ApiError(ClientError):
    """The service said no: RFC 9457's `title` and `detail`.

    `errors` maps the name of each wrong field to what is wrong with it; `retry_after` is in seconds,
    None where the service does not say that trying again helps. `content_range` is that of a 416.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        errors: Mapping[str, str] | None = None,
        *,
        retry_after: float | None = None,
        content_range: str = "",
        uuid: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = dict(errors or {})
        self.retry_after = retry_after
        self.content_range = content_range
        self.uuid = uuid
        """The task that was kept although the DRM refused it."""
        self.request_id = request_id
        """What the service's log calls the request (``X-Request-ID``)."""
        self.repeated = False
        """Whether the connection broke before, so that an earlier try may have been carried out."""
        super().__init__(self.text())

    def text(self, names: Mapping[str, str] | None = None) -> str:
        """The refusal in words, a line for each wrong field; `names` are what to call them instead."""
        lines = [f"{self.title}: {self.detail}" if self.detail else self.title]
        called = names or {}
        lines += [f"  {called.get(name, name)}: {text}" for name, text in self.errors.items()]
        return "\n".join(lines)
