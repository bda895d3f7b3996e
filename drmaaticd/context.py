"""What a piece of work carries along wherever it goes: the id of the request that asked for it."""

from __future__ import annotations

from contextvars import ContextVar

#: ``-`` outside of requests. Set by the handlers, read by access and audit log.
request_id: ContextVar[str] = ContextVar("request_id", default="-")
