"""Exit statuses of ``drmaatic``: a task's own, and those of the client, as in ``sysexits.h``.

| status | meaning |
|---|---|
| 0 | fine; where a task was waited for: it is done |
| 1 | something else went wrong; a task that failed without an exit status of its own |
| 2 | wrong command line, or values that the service does not take |
| 66 | there is no such script, task or file |
| 69 | the service cannot be reached |
| 75 | the service is busy, full, or asks to come again later |
| 77 | not signed in, or not allowed |
| 124 | `--timeout` is over, and the task goes on |
| 128 + N | the task was ended by signal N |
| 130 | interrupted (Ctrl-C); tasks go on |
"""

from __future__ import annotations

import re
import signal
from http import HTTPStatus

from drmaaticd.client.failures import ApiError, ClientError, Unreachable, WaitTimeout
from drmaaticd.client.wording import Task

FINE, WRONG, USAGE = 0, 1, 2
NO_INPUT, UNAVAILABLE, TRY_LATER, NO_PERMISSION = 66, 69, 75, 77
TIMED_OUT, SIGNALLED, INTERRUPTED, BROKEN_PIPE = 124, 128, 130, 141

_OF_REFUSAL: dict[int, int] = {
    HTTPStatus.BAD_REQUEST: USAGE,
    HTTPStatus.UNAUTHORIZED: NO_PERMISSION,
    HTTPStatus.FORBIDDEN: NO_PERMISSION,
    HTTPStatus.NOT_FOUND: NO_INPUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: USAGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: USAGE,
    HTTPStatus.TOO_MANY_REQUESTS: TRY_LATER,
    HTTPStatus.BAD_GATEWAY: TRY_LATER,
    HTTPStatus.SERVICE_UNAVAILABLE: TRY_LATER,
    HTTPStatus.GATEWAY_TIMEOUT: TRY_LATER,
    HTTPStatus.INSUFFICIENT_STORAGE: TRY_LATER,
}

_REAL_TIME = re.compile(r"SIGRTMIN\+([0-9]{1,2})|SIG([0-9]{1,2})")


def of_task(task: Task) -> int:
    """The exit status of a task that has ended."""
    if task["state"] == "done":
        return FINE
    status = task.get("exit_status")
    if status:
        return status & 0xFF or WRONG
    number = _number(task.get("signal", ""))
    if number is None and task["state"] == "stopped":
        number = signal.SIGTERM
    return WRONG if number is None else SIGNALLED + number


def of_error(error: ClientError) -> int:
    """The exit status for a call that failed."""
    if isinstance(error, ApiError):
        return _OF_REFUSAL.get(error.status, WRONG)
    if isinstance(error, Unreachable):
        return UNAVAILABLE
    return TIMED_OUT if isinstance(error, WaitTimeout) else WRONG


def _number(name: str) -> int | None:
    """The number of a signal, None for what is no signal here."""
    if name in signal.Signals.__members__:
        return signal.Signals[name].value
    found = _REAL_TIME.fullmatch(name)
    if found is None:
        return None
    return signal.SIGRTMIN + int(found[1]) if found[1] else int(found[2])
