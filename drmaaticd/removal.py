"""Removing whole trees that jobs wrote: of any depth and width, with any permissions, following no link.

Every directory that is not empty is first moved up to the place where the tree lies. So there is no
recursion, two descriptors are enough, and ``..`` is never used, which a running job could turn into a
way out.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from drmaaticd.folder import LIST, SEARCH

MAX_PASSES = 16
"""How often a directory is read again because entries came, or were passed over, while it was emptied."""

MAX_PROBLEMS = 10
"""Reasons that are kept when things cannot be removed."""

_NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})


class FilesRemain(OSError):
    """Not all could be removed; `problems` holds the first reasons."""

    def __init__(self, problems: list[OSError]) -> None:
        self.problems = problems[:MAX_PROBLEMS]
        super().__init__(problems[0].errno, f"files remain: {problems[0].strerror}", problems[0].filename)


def remove_tree(place: int, name: str) -> None:
    """Remove what is called `name` in the directory `place` (a descriptor), if there is anything.

    Meanwhile parts of the tree appear in `place` under names that begin with `name` and a dot; if the
    work is broken off they are what is left. Raises `FilesRemain` when all that can be removed is.
    """
    problems: list[OSError] = []
    pending = [name]
    while pending:
        current = pending.pop()
        try:
            pending += _dissolve(place, current, name, problems)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(error)
    if problems:
        raise FilesRemain(problems)


def empty(place: int, prefix: str = "") -> None:
    """Remove everything in the directory `place` whose name begins with `prefix`.

    Raises `FilesRemain` when all that can be removed is.
    """
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    problems: list[OSError] = []
    for name in names:
        try:
            remove_tree(place, name)
        except FilesRemain as error:
            problems += error.problems
    if problems:
        raise FilesRemain(problems)


def move(source: int, name: str, target: int, new_name: str) -> None:
    """Rename from one directory to another, also a directory whose permissions were taken away.

    Raises OSError.
    """
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    except PermissionError:
        # Moving a directory changes its "..", for which it must be writable.
        with suppress(OSError):  # then the second try says what is wrong
            _make_accessible(source, name)
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)


def _dissolve(place: int, name: str, prefix: str, problems: list[OSError]) -> list[str]:
    """Remove a file or a directory; the names under which its subdirectories now lie in `place`."""
    try:
        fd = _open(place, name)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        os.unlink(name, dir_fd=place)
        return []
    lifted: list[str] = []
    before = len(problems)
    try:
        for _ in range(MAX_PASSES):
            _empty(fd, place, prefix, lifted, problems)
            if len(problems) > before or _rmdir(place, name):
                return lifted
    finally:
        os.close(fd)
    problems.append(OSError(errno.ENOTEMPTY, "files are still being written there", name))
    return lifted


def _open(place: int, name: str) -> int:
    """The directory, readable and writable for its owner."""
    try:
        fd = os.open(name, LIST, dir_fd=place)
    except PermissionError:
        with suppress(OSError):  # then the second try says what is wrong
            _make_accessible(place, name)
        fd = os.open(name, LIST, dir_fd=place)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        with suppress(OSError):  # not ours: perhaps the group's permissions do, else the removals will tell
            os.fchmod(fd, 0o700)
    return fd


def _empty(fd: int, place: int, prefix: str, lifted: list[str], problems: list[OSError]) -> None:
    """Remove the entries of `fd`; directories that hold something are moved to `place`."""
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=fd)
                elif not _rmdir(fd, entry.name):
                    new_name = f"{prefix}.{secrets.token_hex(8)}"
                    move(fd, entry.name, place, new_name)
                    lifted.append(new_name)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(error)


def _rmdir(place: int, name: str) -> bool:
    """Whether the directory was empty, and is gone. Raises OSError."""
    try:
        os.rmdir(name, dir_fd=place)
    except OSError as error:
        if error.errno in _NOT_EMPTY:
            return False
        raise
    return True


def _make_accessible(place: int, name: str) -> None:
    """Give its owner all permissions of a directory, and of nothing that a link leads to."""
    fd = os.open(name, SEARCH, dir_fd=place)
    try:
        # A descriptor that needs no permission to open cannot be handed to fchmod; its name can.
        Path(f"/proc/self/fd/{fd}").chmod(0o700)
    finally:
        os.close(fd)
