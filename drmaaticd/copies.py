"""Copies of the scripts' programs, where the jobs can read them, at paths that stand for their content.

So a task that waits runs the version that it was sent with, and `scripts.d` need not be visible to
compute nodes. A copy that nobody has asked for lately may be taken out; whether a task still needs it,
`pruning` finds out. Everything here blocks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from drmaaticd.folder import LIST, SEARCH, is_plain, opened
from drmaaticd.incoming import Modes
from drmaaticd.removal import move

#: Permissions of a copy.
MODE = 0o555

#: Hexadecimal digits of a content's hash in the path.
DIGEST_LENGTH = 32

#: Seconds after which a copy that is asked for is dated anew, and without which it counts as old. Whoever
#: was given one has the time between the two to put it on record.
DATED_ANEW = 3600.0
OLD = 24 * 3600.0

_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_LENGTH}}}")


class _Known(NamedTuple):
    """A copy whose content was compared: what it looked like then, and when that was (monotonic clock)."""

    looks: tuple[int, ...]
    since: float


def digest_of(content: bytes) -> str:
    """What stands for a content in the path of its copies."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


class Copies:
    """The folder of copies, named relative to the folder of the tasks. To be used by any number of threads.

    `tasks` is everywhere a descriptor of the folder of the tasks.
    """

    def __init__(self, folder: str, modes: Modes) -> None:
        self._folder = folder
        self._modes = modes
        self._known: dict[Path, _Known] = {}
        self._changing = threading.Lock()
        """Held by whoever makes, dates or takes out a copy."""
        self._named = re.compile(rb"/%b/([0-9a-f]{%d})/" % (re.escape(folder.encode()), DIGEST_LENGTH))

    def store(self, tasks: int, content: bytes, name: str) -> Path:
        """The place of a copy, relative to the folder of copies, which lies in the directory `tasks`.

        Made once, and looked at each time: a copy that differs is replaced. It is read again only if its
        status says that it was touched since, or to date it anew. Raises OSError.
        """
        if not is_plain(name):
            raise ValueError(f"not a file's name: {name!r}")
        digest = digest_of(content)
        copy = Path(digest, name)
        seen = f"{self._folder}/{copy}"
        known = self._known.get(copy)
        if known is not None and time.monotonic() - known.since < DATED_ANEW:
            looks = _looks(tasks, seen)
            if looks is not None and known.looks == looks:
                return copy
        with self._changing, opened(self._folder, SEARCH, dir_fd=tasks) as scripts:
            self._modes.make_folder(scripts, digest, self._modes.readable)
            with opened(digest, LIST, dir_fd=scripts) as place:
                now = time.monotonic()
                dated = _date(place, name)
                # Taken before the content is read: what is changed meanwhile looks different afterwards.
                looks = _looks(tasks, seen)
                if looks is None or not (dated and _holds(place, name, content)):
                    self._write(place, name, content)
                    looks = ()  # it is compared the next time
                self._known[copy] = _Known(looks, now)
        return copy

    def named(self, text: bytes) -> set[str]:
        """The digests of the copies whose paths appear in a text, such as a launcher's."""
        return {match.decode("ascii") for match in self._named.findall(text)}

    def old(self, tasks: int) -> set[str]:
        """The digests of the copies that nobody has asked for in the last `OLD` seconds. Raises OSError."""
        with opened(self._folder, LIST, dir_fd=tasks) as scripts:
            digests = filter(_DIGEST.fullmatch, _names(scripts))
            return {digest for digest in digests if self._is_old(scripts, digest)}

    def take_out(self, tasks: int, digest: str, target: int, new_name: str) -> bool:
        """Move the copies of a content into the directory `target`, if they are old. Raises OSError."""
        with self._changing, opened(self._folder, SEARCH, dir_fd=tasks) as scripts:
            if not self._is_old(scripts, digest):
                return False
            for copy in [copy for copy in self._known if copy.parts[0] == digest]:
                del self._known[copy]
            move(scripts, digest, target, new_name)
        return True

    def _is_old(self, scripts: int, digest: str) -> bool:
        """Whether nobody has asked for these copies lately, here or (by their dates) in another process.

        The clocks of this machine and of the file server may differ by what is left of a day; those who
        asked in this process are known by a clock that nobody sets.
        """
        now = time.monotonic()
        known = [known.since for copy, known in list(self._known.items()) if copy.parts[0] == digest]
        if known and now - max(known) < OLD:
            return False
        try:
            with opened(digest, LIST, dir_fd=scripts) as place:
                return time.time() - max(_dates(place)) >= OLD
        except (FileNotFoundError, NotADirectoryError):
            return False

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


def _names(place: int) -> list[str]:
    with os.scandir(place) as entries:
        return [entry.name for entry in entries]


def _dates(place: int) -> Iterator[float]:
    """When a folder of copies and what is in it were last changed."""
    yield os.fstat(place).st_mtime
    for name in _names(place):
        with suppress(FileNotFoundError):
            yield os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime


def _date(place: int, name: str) -> bool:
    """Give a copy the present date; False if there is none, or it is not ours."""
    try:
        os.utime(name, dir_fd=place, follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        return False
    return True


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
