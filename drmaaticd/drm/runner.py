"""One named thread for one fragile thing: calls are put in line by priority, timed, logged, answered.

The thread that owns libdrmaa's session is its only user: the loop awaits futures and never blocks.
What a call does, and what its errors mean, is the caller's business.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The part of a busy thread's time that is kept for `Priority.BACKGROUND` while such calls wait.
BACKGROUND_SHARE = 0.2

#: Seconds of advantage that one kind of calls can save up against the other: after one call that
#: was stuck for a minute, the others must not wait for minutes.
LONGEST_DEBT = 2.0

#: A call that takes longer than this many seconds is logged as information, not for debugging only.
SLOW_CALL = 5.0


class Priority(enum.IntEnum):
    """Which of the waiting calls comes first; within one priority, the order of asking."""

    CONTROL = 0
    """Stop and hold: someone wants a job not to run."""
    SUBMIT = 1
    BACKGROUND = 2
    """Reaping and the sweep. `BACKGROUND_SHARE` of the time is theirs whatever else waits."""


class RunnerClosed(RuntimeError):
    """The runner has been closed; the call was not made."""


class _Call:
    """One call: what to do, and the future of the loop that awaits it."""

    __slots__ = ("function", "future", "loop", "name")

    def __init__(self, name: str, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.function = function
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def answer(self, result: Any, error: BaseException | None) -> None:
        """Give the answer to the loop, from the runner's thread."""
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            log.debug("%s: nobody is left to hear the answer", self.name)  # the loop is closed

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return  # the caller went away
        if isinstance(error, StopIteration):
            self.future.set_exception(
                RuntimeError(f"{self.name} raised StopIteration")
            )  # none may enter a future
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Runner:
    """A single thread that makes blocking calls one after the other.

    `run` may be called from any event loop; a call whose caller went away before its turn is not
    made at all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: tuple[deque[_Call], ...] = tuple(deque() for _ in Priority)
        self._changed = threading.Condition()
        self._closed = False
        self._debt = 0.0  # seconds that the background is owed
        self._present: tuple[str, float] | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Calls that were put in line before are made now."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(map(len, self._lines))

    def busy(self) -> tuple[str, float] | None:
        """The name of the call under way and for how many seconds it has lasted; None if idle."""
        present = self._present
        return None if present is None else (present[0], time.monotonic() - present[1])

    async def run(
        self, function: Callable[..., T], *args: Any, priority: Priority = Priority.BACKGROUND, name: str = ""
    ) -> T:
        """Make a call in the thread and await its answer; its exceptions come out here.

        Raises `RunnerClosed` if the runner was closed before the call's turn came.
        """
        call = _Call(
            name or function.__name__.lstrip("_"), lambda: function(*args), asyncio.get_running_loop()
        )
        with self._changed:
            if self._closed:
                raise RunnerClosed(f"{self.name} is closed")
            self._lines[priority].append(call)
            self._changed.notify()
        answer: T = await call.future
        return answer

    async def close(self, patience: float) -> bool:
        """Refuse further calls and await the one under way; False if it lasts longer than `patience` seconds.

        The thread is a daemon: one that is stuck in a foreign library does not keep the process alive.
        """
        with self._changed:
            self._closed = True
            dropped = [call for line in self._lines for call in line]
            for line in self._lines:
                line.clear()
            self._changed.notify()
        for call in dropped:
            call.answer(None, RunnerClosed(f"{self.name} is closed"))
        if not self._thread.is_alive():
            return True
        await asyncio.to_thread(self._thread.join, patience)
        return not self._thread.is_alive()

    # -- in the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or any(self._lines)):
                    self._changed.wait()
                if self._closed:
                    return
                priority = self._next()
                call = self._lines[priority].popleft()
                others_wait = any(self._lines)
            if not call.future.cancelled():
                seconds = self._make(call)
                self._account(priority, seconds, others_wait)

    def _next(self) -> Priority:
        """Whose turn it is. The lock is held, and something waits."""
        background = self._lines[Priority.BACKGROUND]
        foreground = next((kind for kind in Priority if self._lines[kind]), Priority.BACKGROUND)
        if background and self._debt > 0:
            return Priority.BACKGROUND
        return foreground

    def _account(self, priority: Priority, seconds: float, others_wait: bool) -> None:
        """Keep the shares: idle time is nobody's, so only calls that made others wait are counted."""
        if not others_wait:
            self._debt = 0.0
        elif priority is Priority.BACKGROUND:
            self._debt -= seconds
        else:
            self._debt += seconds * BACKGROUND_SHARE / (1 - BACKGROUND_SHARE)
        self._debt = min(max(self._debt, -LONGEST_DEBT), LONGEST_DEBT)

    def _make(self, call: _Call) -> float:
        """Make one call and give its answer away; returns how many seconds it took."""
        start = time.monotonic()
        self._present = (call.name, start)
        result: Any = None
        error: BaseException | None = None
        try:
            result = call.function()
        except BaseException as caught:  # noqa: BLE001 - every answer belongs to the caller, none to the thread
            error = caught
        seconds = time.monotonic() - start
        self._present = None
        level = logging.INFO if seconds >= SLOW_CALL else logging.DEBUG
        log.log(
            level,
            "%s: %s took %.1f ms%s",
            self.name,
            call.name,
            seconds * 1000,
            f": {type(error).__name__}: {error}" if error is not None else "",
        )
        call.answer(result, error)
        return seconds
