"""One sync of a folder for all threads that want one at the same time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

#: Failed syncs that are remembered for threads that have not looked yet.
FAILURES_KEPT = 64


class SharedSync:
    """Syncs one folder. A thread whose changes came before a sync began need not make its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._begun = 0
        self._done = 0
        self._failed: dict[int, OSError] = {}

    def sync(self) -> None:
        """Return when the entries made so far are on the disk. Raises OSError, to all who shared it."""
        with self._changed:
            wanted = self._begun + 1
            self._changed.wait_for(lambda: self._done == self._begun or self._done >= wanted)
            if self._done >= wanted:
                failure = self._failed.get(wanted)
                if failure is not None:
                    raise OSError(failure.errno, failure.strerror, failure.filename)
                return
            self._begun = number = wanted
        failure = None
        try:
            self._sync()
        except OSError as error:
            failure = error
            raise
        finally:
            with self._changed:
                self._done = number
                if failure is not None:
                    self._failed[number] = failure
                    self._failed.pop(number - FAILURES_KEPT, None)
                self._changed.notify_all()

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
