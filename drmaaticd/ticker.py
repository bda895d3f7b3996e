"""What is done every so often, by a clock that nobody can set.

Tornado's `PeriodicCallback` goes by the time of day: when that is set back by an hour, it does nothing
for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Ticker:
    """Calls a function every so often. What it raises goes to the loop's exception handler."""

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self._seconds = seconds
        self._function = function
        self._next = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; the first call comes after the interval."""
        self.stop()
        self._next = asyncio.get_running_loop().time()
        self._schedule()

    def stop(self) -> None:
        """No more calls."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self) -> None:
        """The next call, a whole number of intervals after the first: those that were missed are left out."""
        loop = asyncio.get_running_loop()
        behind = max(loop.time() - self._next, 0.0)
        self._next += (math.floor(behind / self._seconds) + 1) * self._seconds
        self._handle = loop.call_at(self._next, self._call)

    def _call(self) -> None:
        self._schedule()
        self._function()


class Timer:
    """Runs a coroutine function every so often, one run at a time, and logs what it raises."""

    def __init__(self, name: str, seconds: float, function: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._function = function
        self._run: asyncio.Task[None] | None = None
        self._failed = False
        self._ticker = Ticker(seconds, self._start_run)

    def start(self) -> None:
        """Begin; the first run comes after the interval."""
        self._ticker.start()

    async def stop(self) -> None:
        """No more runs; the one under way is awaited."""
        self._ticker.stop()
        if self._run is not None:
            await asyncio.gather(self._run, return_exceptions=True)

    def _start_run(self) -> None:
        if self._run is None or self._run.done():
            self._run = asyncio.get_running_loop().create_task(self._guarded())

    async def _guarded(self) -> None:
        try:
            await self._function()
            self._failed = False
        except Exception:
            # The next run may do better. A fault that lasts is told once, not four times a second.
            if not self._failed:
                log.exception("%s failed; it is tried again", self._name)
            self._failed = True
