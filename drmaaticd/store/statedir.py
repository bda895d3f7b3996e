"""The state folder: made, closed to others, and held by one process at a time.

The lock is flock(2)'s on the file ``lock``: the system lets go of it however the process ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from drmaaticd.errors import StoreError

log = logging.getLogger(__name__)

LOCK = "lock"
FOLDER_MODE = 0o700
FILE_MODE = 0o600


class StateDir:
    """A state folder that this process holds until `release`, or to the end of a ``with``."""

    def __init__(self, path: Path) -> None:
        """Take hold of the folder, which is made if it is not there.

        Raises `StoreError` if another process holds it (and says which), or it cannot be used.
        """
        self.path = path
        try:
            _prepare(path)
            self._fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise StoreError(f"{path} cannot be used as the state folder: {error}") from error
        try:
            self._lock()
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreError(
                f"{self.path} is in use by another drmaaticd (process {holder}): end that one, or give "
                "this one a state_dir of its own"
            ) from None
        except OSError as error:
            raise StoreError(f"{self.path / LOCK} cannot be locked: {error}") from error
        # Only a help for people: a full disk may leave it empty and nothing depends on it.
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _prepare(path: Path) -> None:
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        log.info("%s is closed to other accounts", path)
        path.chmod(FOLDER_MODE)
