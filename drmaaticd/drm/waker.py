"""Wakes a library that sleeps over an answer which has come: Grid Engine's libdrmaa.

Its calls and its own event client wait for messages at one condition variable, and the one may use up
the other's wake-up: then a call whose answer is there already sleeps out a whole second, one in about
two hundred. Any further message ends that sleep, so a call that lasts suspiciously long is accompanied
by a small question in another thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

#: Seconds after which a call is accompanied, several times what most take; each further question comes
#: after twice as long.
SUSPICIOUS = 0.01

#: Seconds of a call from which on it is not asleep: the DRM does not answer, and is left alone.
HOPELESS = 1.5

#: Threads that ask: a question may fall asleep itself, and is then woken by the other's.
THREADS = 2

#: Seconds without a call after which the threads stop looking.
IDLE = 1.0


class Waker:
    """Accompanies calls that are made one at a time. `ask` sends the library's DRM a small question.

    `ask` may block and is called in threads of this object, in several at a time.
    """

    def __init__(self, ask: Callable[[], object], *, suspicious: float = SUSPICIOUS) -> None:
        self._ask = ask
        self._suspicious = suspicious
        self._changed = threading.Condition()
        self._since: float | None = None
        self._number = 0
        self._last = 0.0
        self._seen = [0] * THREADS
        self._sleeping = 0
        self._asking = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(place,), name=f"waker-{place}", daemon=True)
            for place in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """A call that the DRM itself answers is made within this block."""
        self._number += 1
        self._last = self._since = time.monotonic()
        if self._sleeping:  # else they look by themselves, which spares each call a change of threads
            with self._changed:
                self._changed.notify_all()
        try:
            yield
        finally:
            self._since = None

    def quiet(self, patience: float) -> bool:
        """Wait until no question is under way; False if one lasts longer than `patience` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asking == 0, patience)

    def close(self) -> None:
        """Ask nothing more. A question under way is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- in the threads --------------------------------------------------------------------------

    def _work(self, place: int) -> None:
        """The threads take turns: each question of a call comes from the one after the last's."""
        number, questions = 0, 0
        while self._await_look(place):
            since = self._since
            if since is None:
                continue
            if number != self._number:
                number, questions = self._number, place
            lasted = time.monotonic() - since
            if self._suspicious * 2**questions <= lasted < HOPELESS:
                questions += THREADS
                self._send(number)

    def _await_look(self, place: int) -> bool:
        """Wait for the time of the next look; False if there is none any more."""
        with self._changed:
            if self._since is None and time.monotonic() - self._last > IDLE:
                seen = self._seen[place]
                self._sleeping += 1  # before the look at the number, which `watching` raises before this one
                self._changed.wait_for(lambda: self._number != seen or self._closed)
                self._sleeping -= 1
            else:
                self._changed.wait(self._suspicious / 2)
            self._seen[place] = self._number
            return not self._closed

    def _send(self, number: int) -> None:
        with self._changed:
            if self._closed or self._since is None or self._number != number:
                return
            self._asking += 1
        try:
            self._ask()
        except Exception:  # the answer is of no use, and no failure may end the thread
            log.exception("a question to wake libdrmaa failed")
        finally:
            with self._changed:
                self._asking -= 1
                self._changed.notify_all()
