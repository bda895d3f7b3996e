"""A submission without files: nothing arrives aside, its folder is made where it belongs.

What `incoming` does for submissions with files, at a fraction of the cost: a mark, not a folder, says
meanwhile that the task is not recorded yet. The mark is a further name of one file, as making and
removing a file each time is what file systems are slow at: ext4 looks through all inodes that were freed
in the last seconds for one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from drmaaticd.errors import Conflict, NotFound
from drmaaticd.folder import LIST, SEARCH, opened, storage_errors
from drmaaticd.incoming import NO_LINKS, Modes, places
from drmaaticd.removal import move, remove_tree

MARK = ".mark"
"""The file that all marks are names of."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfiled:
    """The folder of one task without files; used like `Incoming`. Its calls block, one after the other."""

    def __init__(self, tasks_dir: Path, uuid: str, modes: Modes) -> None:
        self._tasks_dir, self._uuid, self._modes = tasks_dir, uuid, modes
        self._marked = False
        self._home: str | None = None

    def commit(self, names: Mapping[int, str]) -> None:
        """Make the task's folder; it is not on the disk yet, and `discard` is due.

        `names` is empty, as there are no files. Raises `StorageFull`; `Conflict` if there is such a folder.
        """
        _check(names)
        with storage_errors(), places(self._tasks_dir) as (tasks, aside):
            self._mark(aside)
            try:
                os.mkdir(self._uuid, 0o700, dir_fd=tasks)
            except FileExistsError as error:
                raise Conflict("there is a folder of this task already") from error
            self._home = self._uuid
            with opened(self._uuid, LIST, dir_fd=tasks) as folder:
                self._modes.apply(folder, self._modes.folder)

    def commit_into(self, folder_uuid: str, names: Mapping[int, str]) -> None:
        """Put nothing into another task's folder, which must be there; `discard` is still due.

        Raises `NotFound`, `StorageFull`.
        """
        _check(names)
        with storage_errors(), places(self._tasks_dir) as (tasks, aside):
            self._mark(aside)
            try:
                with opened(folder_uuid, SEARCH, dir_fd=tasks):
                    return
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotFound("the parent task's folder is gone") from error

    def undo(self) -> None:
        """Take a commit back, because the task could not be recorded. Raises OSError (`FilesRemain`)."""
        home, self._home = self._home, None
        if home is None:
            return
        gone = f"{home}.undone"
        with places(self._tasks_dir) as (tasks, aside):
            with suppress(FileNotFoundError):
                move(tasks, home, aside, gone)
            remove_tree(aside, gone)

    def discard(self) -> None:
        """Remove the mark: the task is recorded, or is not to be. May be called again. Raises OSError."""
        if self._marked:
            self._marked = False
            with places(self._tasks_dir) as (_, aside), suppress(FileNotFoundError):
                os.unlink(self._uuid, dir_fd=aside)

    def _mark(self, aside: int) -> None:
        """Note that the task is under way, for the next daemon if this one dies before it is recorded."""
        self._marked = True
        try:
            self._link(aside)
        except FileNotFoundError:
            os.close(os.open(MARK, _CREATE, 0o600, dir_fd=aside))
            self._link(aside)

    def _link(self, aside: int) -> None:
        try:
            os.link(MARK, self._uuid, src_dir_fd=aside, dst_dir_fd=aside, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.close(os.open(self._uuid, _CREATE | os.O_EXCL, 0o600, dir_fd=aside))


def _check(names: Mapping[int, str]) -> None:
    if names:
        raise ValueError(f"a submission without files has none to be named: {dict(names)!r}")
