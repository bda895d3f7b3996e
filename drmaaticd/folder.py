"""One folder that jobs write into, seen through file descriptors: opening, walking, listing.

Nothing in it is trusted: names may be any bytes, and what is a directory now may be a link a moment
later. So every step is relative to a descriptor and follows no link. Which folder it is, and how its
files are sent, is left to others.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import quote_from_bytes

from drmaaticd.errors import Forbidden, NotFound, StorageFull, Unavailable

MAX_DEPTH = 64
"""Components of a path. What lies deeper is neither listed nor opened nor packed."""

MAX_ENTRIES = 200_000
"""Directory entries that a listing looks at before it stops and says so (`Listing.truncated`)."""

_SORTED_AT_ONCE = 10_000
"""Entries that one `list.sort` may take: it holds the interpreter lock, and with it the loop."""

_FIRST_SECOND = -62_135_596_800  # 0001-01-01: earlier and later ones, RFC 3339 cannot say
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59

SEARCH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""To go through a directory: needs no permission to read it, and opens no device or FIFO."""

LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""To read a directory's entries."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_UNREADABLE = frozenset({errno.EACCES, errno.EPERM})
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,  # a link where none is followed
        errno.ENAMETOOLONG,
        errno.ENXIO,  # a socket, or a FIFO at its other end
        errno.ENODEV,
        errno.ESTALE,  # removed on the file server
        errno.EINVAL,  # a name that this file system cannot have
        errno.EILSEQ,
    }
)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn "no space left" and "quota used up" into `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk is full, or a quota on it is used up") from error
        raise


@contextmanager
def opened(path: str | os.PathLike[str], flags: int, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor that is closed at the end of the block. Raises OSError."""
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One regular file of a listing; `size` in bytes, `mtime_ns` in nanoseconds since 1970."""

    raw: bytes
    """The path inside the folder, exactly as it is on disk."""
    size: int
    mtime_ns: int
    mode: int
    """``st_mode``."""
    uid: int

    @property
    def path(self) -> str:
        """The path to show: bytes that are no UTF-8 appear as U+FFFD."""
        return self.raw.decode("utf-8", "replace")

    @property
    def quoted(self) -> str:
        """The exact path, percent-encoded (RFC 3986, section 2.1), ``/`` left as it is."""
        return quote_from_bytes(self.raw, safe="/")

    def details(self) -> dict[str, str | int]:
        """The API's ``?details=1`` entry: the exact, percent-encoded path, bytes, and time."""
        seconds = min(max(self.mtime_ns // 10**9, _FIRST_SECOND), _LAST_SECOND)
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=self.mtime_ns // 1000 % 10**6)
        modified = moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        return {"path": self.quoted, "size": self.size, "modified": modified}


class Listing(list[FileInfo]):
    """The regular files of a folder, sorted by the path that is shown."""

    truncated = False
    """Whether files are missing: `MAX_ENTRIES` or `MAX_DEPTH` was reached."""
    unreadable = 0
    """Directories and entries that could not be looked at, because a job took the permissions away."""


class OpenedFile:
    """A regular file, open for reading; size, time and inode are those at the time of opening.

    `pread` and `close` may come from different threads: `close` waits for a read under way.
    """

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        """The descriptor, -1 once closed."""
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.inode = status.st_ino
        self._lock = threading.Lock()

    @property
    def etag(self) -> str:
        """A strong validator, with its quotes (RFC 9110, section 8.8.3)."""
        return f'"{self.inode:x}-{self.size:x}-{self.mtime_ns:x}"'

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file. Raises OSError."""
        with self._lock:
            return os.pread(self.fd, length, offset)

    def close(self) -> None:
        """Close the descriptor; closing twice is no error."""
        with self._lock:
            if self.fd >= 0:
                fd, self.fd = self.fd, -1
                os.close(fd)


def components(path: bytes) -> tuple[bytes, ...]:
    """The components of a relative path. Raises `NotFound` for any path that no file can have here.

    That is an absolute or empty one, one with NUL or an empty component, ``.`` or ``..``, and one of
    more than `MAX_DEPTH` components. Nothing is normalised.
    """
    parts = tuple(path.split(b"/"))
    if b"\0" in path or len(parts) > MAX_DEPTH or any(part in (b"", b".", b"..") for part in parts):
        raise NotFound("there is no such file")
    return parts


def is_plain(name: str) -> bool:
    """Whether a name that the daemon made is one component, and so stays where it is put."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def open_directory(root: int, parts: Sequence[bytes], flags: int = SEARCH) -> int:
    """A descriptor (opened with `flags`) of the directory `parts` below `root`; the caller closes it.

    Raises OSError, also where a component is a link.
    """
    current = os.open(b".", SEARCH if parts else flags, dir_fd=root)
    for number, part in enumerate(parts, start=1):
        try:
            following = os.open(part, flags if number == len(parts) else SEARCH, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def open_regular(root: int, parts: Sequence[bytes]) -> tuple[int, os.stat_result]:
    """A descriptor for reading the regular file `parts` below `root`, and its status.

    Raises OSError, ``ENXIO`` for anything that is no regular file.
    """
    parent = open_directory(root, parts[:-1])
    try:
        # Opening a device may act on it, so the type is looked at before; and again after, since the
        # name may mean something else by then.
        _check_regular(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False))
        fd = os.open(parts[-1], _READ, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        status = os.fstat(fd)
        _check_regular(status)
    except OSError:
        os.close(fd)
        raise
    return fd, status


def open_file(root: int, path: bytes) -> OpenedFile:
    """The regular file at exactly this path below `root`.

    Raises `NotFound` for whatever is no regular file inside, `Forbidden` for a file that a job made
    unreadable, `Unavailable` while descriptors or memory are short, OSError for a failing disk.
    """
    parts = components(path)
    try:
        fd, status = open_regular(root, parts)
    except OSError as error:
        _refuse(error)
    return OpenedFile(fd, status)


def walk(root: int, listing: Listing, limit: int | None = None) -> Iterator[tuple[bytes, os.stat_result]]:
    """The path and status of everything below `root` but links, directories before their contents.

    What could not be looked at is noted in `listing`, as is that more than `limit` entries were found.
    One directory is open at a time. Raises OSError for a failing disk.
    """
    pending: list[tuple[bytes, ...]] = [()]
    seen = 0
    while pending:
        parts = pending.pop()
        for name, status in _entries(root, parts, listing):
            seen += 1
            if limit is not None and seen > limit:
                listing.truncated = True
                return
            if stat.S_ISDIR(status.st_mode):
                if len(parts) + 2 > MAX_DEPTH:  # its files would have one component more
                    listing.truncated = True
                    continue
                pending.append((*parts, name))
            yield b"/".join((*parts, name)), status


def list_files(root: int) -> Listing:
    """The regular files below `root`. Raises OSError for a failing disk."""
    listing = Listing()
    found = [
        FileInfo(raw, status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid)
        for raw, status in walk(root, listing, MAX_ENTRIES)
        if stat.S_ISREG(status.st_mode)
    ]
    listing.extend(_unique(_sorted(found)))
    return listing


def used_bytes(root: int) -> tuple[int, int]:
    """The bytes that everything below `root` takes on the disk, and how much could not be looked at.

    Hard-linked files count once.
    """
    listing = Listing()
    total = os.stat(b".", dir_fd=root).st_blocks
    linked: set[tuple[int, int]] = set()
    for _, status in walk(root, listing):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in linked:
                continue
            linked.add(key)
        total += status.st_blocks
    return total * 512, listing.unreadable  # the unit of st_blocks, whatever the file system's own


def _entries(root: int, parts: tuple[bytes, ...], listing: Listing) -> Iterator[tuple[bytes, os.stat_result]]:
    """Name and status of a directory's entries, links left out; one that vanished has none."""
    try:
        fd = open_directory(root, parts, LIST)
    except OSError as error:
        _note(error, listing)
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError as error:
                    _note(error, listing)
                    continue
                if not stat.S_ISLNK(status.st_mode):
                    yield os.fsencode(entry.name), status
    finally:
        os.close(fd)


def _note(error: OSError, listing: Listing) -> None:
    """Count what is unreadable, pass over what vanished or was swapped, raise the rest."""
    if error.errno in _UNREADABLE:
        listing.unreadable += 1
    elif error.errno not in _ABSENT:
        raise error


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


def _refuse(error: OSError) -> NoReturn:
    """Raise what the caller is told when a file could not be opened."""
    if error.errno in _ABSENT:
        raise NotFound("there is no such file") from error
    if error.errno in _UNREADABLE:
        raise Forbidden("the job has made this file unreadable") from error
    if error.errno in _BUSY:
        raise Unavailable("too many files are open") from error
    raise error


def _by_path(info: FileInfo) -> tuple[str, bytes]:
    return info.path, info.raw


def _sorted(files: list[FileInfo]) -> Iterable[FileInfo]:
    slices = [
        sorted(files[start : start + _SORTED_AT_ONCE], key=_by_path)
        for start in range(0, len(files), _SORTED_AT_ONCE)
    ]
    return slices[0] if len(slices) == 1 else heapq.merge(*slices, key=_by_path)


def _unique(files: Iterable[FileInfo]) -> Iterator[FileInfo]:
    """Without repetitions: a directory that changes while it is read may give a name twice."""
    last: bytes | None = None
    for info in files:
        if info.raw != last:
            yield info
        last = info.raw
