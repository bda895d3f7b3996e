"""The id that a request carries through answer and log.

`current` holds it while the request is worked on (see `context`); `RequestIdFilter` puts it into log
records.
"""

from __future__ import annotations

import logging
import re
import uuid

from drmaaticd.context import request_id

#: The id of the request that is worked on.
current = request_id

HEADER = "X-Request-ID"

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def accept(given: str | None) -> str:
    """The id that the client gave, if it is sane, else a new one."""
    if given is not None and _SANE.fullmatch(given):
        return given
    return uuid.uuid4().hex


class RequestIdFilter(logging.Filter):
    """Gives every record the attribute ``request_id``, ``-`` outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: nothing is held back."""
        record.request_id = current.get()
        return True
