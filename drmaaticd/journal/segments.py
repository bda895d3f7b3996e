"""The journal's segments: one change is one line of a file, with a sequence number and a checksum.

Here a line is made, read back and written; every function blocks. When it is written, and what
becomes of a change that could not be, is decided in `storage`.

A line is a JSON array: ``["<crc32>",<sequence number>,"<table>",<document id>,<document or null>]``.
The checksum, eight lowercase hexadecimal digits, is over everything that follows its comma up to the
line's end. null stands for a removal.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

#: Files of the store are for the daemon's account alone.
FILE_MODE = 0o600

#: Bytes read at once from a segment or snapshot.
READ_BUFFER = 1024 * 1024

#: What says that there is no room: the disk, the quota, the process's limit of a file's size.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: Bytes behind the end of the last segment that are set aside for changes that free room, such as a
#: deletion: some hundreds of them. They are set aside by blocks of so many bytes.
RESERVE = 256 * 1024
BLOCK = 4096

#: What says that this file system can set no room aside, or this kernel.
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

#: linux/falloc.h: the file's size stays what it is.
_FALLOC_FL_KEEP_SIZE = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

_NAME = re.compile(r"journal\.([1-9][0-9]*)")
_CHECKSUM_END = len('["12345678",')
_NULL = b"null"


class Full(Exception):
    """There is no room. What was to be written is not on the disk, not even in part."""


class Change(NamedTuple):
    """A document's new content as JSON, or None for its removal."""

    table: str
    id: int
    data: bytes | None


class Record(NamedTuple):
    """A change as it stands in a segment."""

    seq: int
    change: Change


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a segment, good (`record`) or damaged (`fault` says how)."""

    file: Path
    number: int
    byte: int
    raw: bytes
    record: Record | None
    fault: str = ""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return place(self.file, self.number, self.byte)


def place(file: Path, line: int, byte: int) -> str:
    """A place in a file for people: lines count from 1, bytes from 0."""
    return f"{file}, line {line} (byte {byte})"


def encode(seq: int, change: Change) -> bytes:
    """The line of a change, with its newline. The data must hold no newline (JSON needs none)."""
    table, document, data = change
    rest = b'%d,"%s",%d,%s]' % (seq, table.encode(), document, _NULL if data is None else data)
    return b'["%08x",%s\n' % (crc32(rest), rest)


def decode(line: bytes) -> Record:
    """The record of a line with its newline. Raises ValueError if it is not exactly what was written."""
    if line[-1:] != b"\n":
        raise ValueError("the line is incomplete")
    rest = line[_CHECKSUM_END:-1]
    if line[:_CHECKSUM_END] != b'["%08x",' % crc32(rest):
        raise ValueError("the checksum does not fit")
    seq, table, document, data = rest.split(b",", 3)
    data = data[:-1]
    return Record(int(seq), Change(table[1:-1].decode(), int(document), None if data == _NULL else data))


def read(path: Path) -> Iterator[Line]:
    """The lines of a segment, in order. Raises OSError."""
    offset = 0
    with path.open("rb", buffering=READ_BUFFER) as stream:
        for number, raw in enumerate(stream, 1):
            try:
                yield Line(path, number, offset, raw, decode(raw))
            except ValueError as error:
                yield Line(path, number, offset, raw, None, str(error))
            offset += len(raw)


def path_of(folder: Path, number: int) -> Path:
    """Where the segment of this number is."""
    return folder / f"journal.{number}"


def numbers(folder: Path) -> list[int]:
    """The numbers of the segments that are there, in order. Raises OSError."""
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed names of a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create(folder: Path, number: int) -> None:
    """Make an empty segment, durably. Raises OSError."""
    fd = os.open(path_of(folder, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)


def _set_aside(fd: int, start: int, end: int) -> None:
    """Give a file room from here to there, and leave its size. Raises OSError.

    Where the file system cannot do that, there is no reserve.
    """
    if _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, start, end - start) != 0:
        number = ctypes.get_errno()
        if number not in _CANNOT_RESERVE:
            raise OSError(number, os.strerror(number))


class Writer:
    """Appends to the last segment. Used by one thread at a time; every method blocks.

    Any OSError that it raises means that nobody knows what is on the disk: write no more.
    """

    def __init__(self, folder: Path, number: int, seq: int, size: int) -> None:
        """Go on in segment `number`, behind the record `seq`; `size`: bytes of all segments."""
        self.folder = folder
        self.number = number
        self.seq = seq
        self.size = size
        """Bytes of the segments that no snapshot holds yet."""
        self._fd = os.open(path_of(folder, number), os.O_WRONLY)
        self._end = os.fstat(self._fd).st_size
        self._closed_size = size - self._end
        self._set_aside = self._end
        """Up to where the file has room, whatever else fills the disk."""
        with suppress(Full):  # the first change will tell
            self._set_room_aside(0)

    def append(self, changes: Iterable[Change], *, frees: bool = False) -> None:
        """Write these and return when they are on the disk. Raises `Full`, OSError.

        What `frees` room may use what is set aside; the rest is refused once it can be set aside no more.
        """
        lines = [encode(seq, change) for seq, change in enumerate(changes, self.seq + 1)]
        data = b"".join(lines)
        if not frees:
            self._set_room_aside(len(data))
        try:
            self._write(data)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._take_back()
            raise Full(error.strerror) from error
        # Never in the block above: a sync that failed has lost pages, whatever its reason, and the
        # next one would say that all is well.
        os.fdatasync(self._fd)
        self._end += len(data)
        self.size += len(data)
        self.seq += len(lines)

    def _set_room_aside(self, size: int) -> None:
        """Make sure that `RESERVE` is left when `size` more bytes are written. Raises `Full`."""
        wanted = self._end + size + RESERVE
        if wanted <= self._set_aside:
            return
        wanted += -wanted % BLOCK
        try:
            _set_aside(self._fd, self._end, wanted)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise Full(error.strerror) from error
        self._set_aside = wanted

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, view[written:], self._end + written)

    def _take_back(self) -> None:
        """Cut off what was written in part, durably: the caller is going to say that it is not there."""
        os.ftruncate(self._fd, self._end)
        self._set_aside = self._end
        os.fsync(self._fd)

    def rotate(self) -> tuple[int, int]:
        """Begin the next segment; the number of the one before and its last sequence number.

        Raises `Full` (all is as it was) or OSError.
        """
        path = path_of(self.folder, self.number + 1)
        try:
            create(self.folder, self.number + 1)
            with ExitStack() as undo:
                fd = os.open(path, os.O_WRONLY)
                undo.callback(os.close, fd)
                _set_aside(fd, 0, RESERVE)
                undo.pop_all()
        except OSError as error:
            if error.errno not in FULL:
                raise
            path.unlink(missing_ok=True)
            raise Full(error.strerror) from error
        # Where no snapshot follows, what the old one has set aside would be lost.
        os.ftruncate(self._fd, self._end)
        os.close(self._fd)
        closed = self.number
        self.number += 1
        self._closed_size = self.size
        self._fd, self._end, self._set_aside = fd, 0, RESERVE
        return closed, self.seq

    def drop(self, last: int) -> None:
        """Remove the segments up to and with `last`: a snapshot holds what is in them."""
        for number in numbers(self.folder):
            if number <= last:
                path_of(self.folder, number).unlink()
        self.size -= self._closed_size
        self._closed_size = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
