"""What is done every so often, and Tornado's loop by a clock that nobody can set.

Of itself Tornado reckons its callbacks and time-outs by the time of day: when that is set back by an
hour, a `PeriodicCallback` does nothing for an hour.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tornado.ioloop import PeriodicCallback
from tornado.platform.asyncio import AsyncIOMainLoop

log = logging.getLogger(__name__)


class SteadyLoop(AsyncIOMainLoop):
    """Tornado's view of the running asyncio loop. To be made before anything of Tornado's asks for one."""

    def time(self) -> float:
        """Seconds by asyncio's own clock, which is monotonic."""
        return self.asyncio_loop.time()


class Timer:
    """Runs a coroutine function every so often, one run at a time, and logs what it raises."""

    def __init__(self, name: str, seconds: float, function: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._function = function
        self._run: asyncio.Task[None] | None = None
        self._failed = False
        self._callback = PeriodicCallback(self._start_run, seconds * 1000)

    def start(self) -> None:
        """Begin; the first run comes after the interval."""
        self._callback.start()

    async def stop(self) -> None:
        """No more runs; the one under way is awaited, which `PeriodicCallback.stop` does not do."""
        self._callback.stop()
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
