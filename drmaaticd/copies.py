"""Copies of the scripts' programs, where the jobs can read them, at paths that stand for their content.

So a task that waits runs the version that it was sent with, and `scripts.d` need not be visible to
compute nodes. Everything here blocks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from drmaaticd.folder import LIST, SEARCH, is_plain, opened
from drmaaticd.incoming import Modes

#: Permissions of a copy.
MODE = 0o555

#: Hexadecimal digits of a content's hash in the path.
DIGEST_LENGTH = 32


class Copies:
    """The folder of copies, named relative to the folder of the tasks."""

    def __init__(self, folder: str, modes: Modes) -> None:
        self._folder = folder
        self._modes = modes
        self._known: dict[Path, tuple[int, ...]] = {}
        """Copies whose content was compared, and what they looked like then."""

    def store(self, tasks: int, content: bytes, name: str) -> Path:
        """The place of a copy, relative to the folder of copies, which lies in the directory `tasks`.

        Made once, and looked at each time: a copy that differs is replaced. It is read again only if its
        status says that it was touched since. Raises OSError.
        """
        if not is_plain(name):
            raise ValueError(f"not a file's name: {name!r}")
        digest = hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
        copy = Path(digest, name)
        seen = f"{self._folder}/{copy}"
        looks = _looks(tasks, seen)
        if looks is not None and self._known.get(copy) == looks:
            return copy
        with opened(self._folder, SEARCH, dir_fd=tasks) as scripts:
            self._modes.make_folder(scripts, digest, self._modes.readable)
            with opened(digest, LIST, dir_fd=scripts) as place:
                # Taken before the content is read: what is changed meanwhile looks different afterwards.
                looks = _looks(tasks, seen)
                if _holds(place, name, content) and looks is not None:
                    self._known[copy] = looks
                else:
                    self._write(place, name, content)
        return copy

    def _write(self, place: int, name: str, content: bytes) -> None:
        """Write a script beside its place, and rename it there."""
        draft = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with opened(draft, flags, dir_fd=place) as fd:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self._modes.apply(fd, MODE)
                os.fsync(fd)
            os.rename(draft, name, src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=place)
            raise
        os.fsync(place)


def _looks(tasks: int, path: str) -> tuple[int, ...] | None:
    """What changes with each change of a file, None where there is none."""
    try:
        status = os.stat(path, dir_fd=tasks, follow_symlinks=False)
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _holds(place: int, name: str, content: bytes) -> bool:
    """Whether the script is there, with this content, executable, and no link to anything else."""
    try:
        with opened(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place) as fd:
            status = os.fstat(fd)
            if status.st_mode & 0o7777 != MODE or status.st_size != len(content):
                return False
            with os.fdopen(fd, "rb", closefd=False) as file:
                return file.read(len(content) + 1) == content
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.ENXIO):
            return False
        raise
