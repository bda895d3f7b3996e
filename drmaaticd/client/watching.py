"""Waiting for tasks: by the service's event stream where there is one, else by asking now and then.

An event only says when to ask: what the task is like is always what ``GET /task/{uuid}`` answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus
from typing import Any

import requests

from drmaaticd.client.failures import ApiError, ClientError, Unreachable, WaitTimeout
from drmaaticd.client.wire import Wire, reason
from drmaaticd.client.wording import FINAL, Task

#: Seconds between two questions: the first, the longest, the factor.
FIRST_POLL, LONGEST_POLL, POLL_GROWTH = 0.2, 5.0, 1.5
#: Seconds of silence, heartbeats included, after which a stream is taken for dead.
SILENCE = 40.0
#: Seconds until a stream that was refused is asked for again, where the service names none.
REFUSED_PAUSE = 15.0
#: Seconds before the end of a wait from which on it asks: a stream's silence cannot be cut short.
LAST_SECONDS = 2 * SILENCE

#: A service, or what stands before it, that has no streams.
_NOT_OFFERED = frozenset(
    {
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.NOT_ACCEPTABLE,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)


class Watch:
    """Looks at one task until it has ended. `ask` answers it, and is told for how many seconds to bear a
    service that is away; `path` is the task's own."""

    def __init__(self, wire: Wire, path: str, ask: Callable[[float], Task], *, streams: bool = True) -> None:
        self._wire = wire
        self._path = path
        self._ask = ask
        self._streams = streams
        self._stream_after = 0.0

    def looks(self, timeout: float | None = None) -> Iterator[Task]:
        """The task at each look, the last time when it has ended.

        Raises `WaitTimeout` after `timeout` seconds, and what a question raises that stays unanswered
        for as long as the wire is patient.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, seen = FIRST_POLL, None
        while True:
            task = self._look(deadline)
            yield task
            if task["state"] in FINAL:
                return
            news = (task["state"], task.get("array"))
            pause = FIRST_POLL if news != seen else min(pause * POLL_GROWTH, LONGEST_POLL)
            seen = news
            if self._may_stream(deadline) and (yield from self._streamed(deadline)):
                return
            if deadline is not None and time.monotonic() + pause > deadline:
                raise WaitTimeout(f"task {task['uuid']} has not ended after {timeout:g} s")
            time.sleep(pause)

    def _look(self, deadline: float | None) -> Task:
        """Ask; a service that is away is not borne for longer than the wait may last."""
        left = self._wire.patience if deadline is None else max(0.0, deadline - time.monotonic())
        return self._ask(min(self._wire.patience, left))

    def _may_stream(self, deadline: float | None) -> bool:
        return self._streams and _far(deadline) and time.monotonic() >= self._stream_after

    def _streamed(self, deadline: float | None) -> Generator[Task, None, bool]:
        """The task at each event, of which the first comes at once. Whether it has ended."""
        told = False
        try:
            for _ in self._events(deadline):
                told = True
                task = self._look(deadline)
                yield task
                if task["state"] in FINAL:
                    return True
        except ApiError as error:
            self._refused(error)
        except Unreachable as error:
            # A stream begins with the present: one that says nothing is kept back by a proxy. Otherwise
            # the next question finds out whether the service is there.
            self._streams = told or not error.connected
        return False

    def _refused(self, error: ApiError) -> None:
        if error.status in _NOT_OFFERED:
            self._streams = False
        elif error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            pause = REFUSED_PAUSE if error.retry_after is None else error.retry_after
            self._stream_after = time.monotonic() + pause
        else:
            raise error

    def _events(self, deadline: float | None) -> Iterator[list[str]]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        options: dict[str, Any] = {"stream": True, "timeout": (self._wire.timeout[0], SILENCE), "patience": 0}
        with self._wire.call("GET", f"{self._path}/events", headers=headers, **options) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                self._streams = False
                return
            for data in events(lines(response)):
                if not _far(deadline):
                    return
                if data:
                    yield data


def _far(deadline: float | None) -> bool:
    return deadline is None or deadline - time.monotonic() > LAST_SECONDS


def lines(response: requests.Response) -> Iterator[str]:
    """The lines of a stream as they come. Raises `Unreachable` when it breaks off or falls silent."""
    try:
        # A byte at a time: a larger wish would wait for its fulfilment. There are few of them.
        for line in response.iter_lines(chunk_size=1):
            yield line.decode("utf-8", "replace")
    except requests.RequestException as error:
        raise Unreachable(f"the stream broke off: {reason(error)}") from error


def events(stream: Iterator[str]) -> Iterator[list[str]]:
    """The data lines of each event (WHATWG HTML, "Server-sent events"); none for a heartbeat."""
    data: list[str] = []
    for line in stream:
        if line.startswith("data"):
            data.append(line.partition(":")[2].removeprefix(" "))
        elif line.startswith(":"):
            yield []
        elif not line and data:
            yield data
            data = []


def changes(looks: Iterator[Task], changed: Callable[[Task], None] | None) -> Task:
    """The last look; `changed` is called with each whose state, or whose jobs' states, are new."""
    seen, task = None, None
    for task in looks:
        news = (task["state"], task.get("array"))
        if news != seen and changed is not None:
            changed(task)
        seen = news
    if task is None:
        raise ClientError("there was nothing to wait for")
    return task
