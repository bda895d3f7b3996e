"""The signals that tell the daemon to stop, or to read its scripts again, from its first moment to its last.

asyncio's own handlers begin with its loop and end with it; a signal that came before or after would
kill the process, with a status of its own and perhaps a traceback.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP = (signal.SIGTERM, signal.SIGINT)
RELOAD = signal.SIGHUP


@contextmanager
def held() -> Iterator[None]:
    """Let these signals wait until the end of the block; they take the way then that they have by then.

    They wait also for the program that this process becomes within the block (execve).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, RELOAD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, RELOAD))


class Signals:
    """Takes these signals from its making on; to be made once, in the main thread."""

    def __init__(self) -> None:
        self.stop_asked = False
        """Whether one has come that says to stop."""
        self._reload_asked = False
        self._tell: Callable[[Callable[[], None]], object] | None = None
        self._stop: Callable[[], None] = _nobody
        self._reload: Callable[[], None] = _nobody
        for number in (*STOP, RELOAD):
            signal.signal(number, self._handle)

    def attach(self, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        """Have these called on the running loop, at once for what has come already."""
        self._stop, self._reload = stop, reload
        self._tell = asyncio.get_running_loop().call_soon_threadsafe
        if self.stop_asked:
            stop()
        if self._reload_asked:
            reload()

    def ignore(self) -> None:
        """Whatever comes from now on changes nothing any more: to be called while the loop still runs."""
        for number in (*STOP, RELOAD):
            signal.signal(number, signal.SIG_IGN)
        self._tell = None

    def _handle(self, number: int, _: FrameType | None) -> None:
        # It may run between any two steps of the main thread: it notes, and hands on.
        if number == RELOAD:
            self._reload_asked, receiver = True, self._reload
        else:
            self.stop_asked, receiver = True, self._stop
        if self._tell is not None:
            self._tell(receiver)


def _nobody() -> None:
    """There is nobody yet to be told."""
