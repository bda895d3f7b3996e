"""The snapshot, ``store.json``: all tables at one moment, as a file that plain ``TinyDB(path)`` opens.

It is written and read a document at a time, so that neither needs memory for all of them. Which
segments it makes superfluous stands in its last line, the table ``_meta``, with a checksum of the
rest. Every function blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from drmaaticd.errors import StoreError
from drmaaticd.journal.segments import FILE_MODE, READ_BUFFER, Change, place, sync_folder

NAME = "store.json"
TEMPORARY = "store.json.new"

#: The table that every snapshot begins with, and the one that says what the snapshot is.
FIRST_TABLE = "tasks"
META = "_meta"

FORMAT = 1

ADVICE = "see 'drmaaticd store repair'"

#: Bytes after which what was written so far is forced to the disk: one large sync at the end would
#: hold up the journal's small ones.
SYNC_EVERY = 4 * 1024 * 1024

_HEADER = b'{"%s":{\n' % FIRST_TABLE.encode()
_TABLE = re.compile(rb'\},"([A-Za-z0-9_-]+)":\{\n')
_ROW = re.compile(rb'"([1-9][0-9]*)":(\{.*\}),?\n')
_META = re.compile(
    rb'(\},"_meta":\{"1":\{"format":([0-9]+),"segment":([0-9]+),"seq":([0-9]+),"documents":([0-9]+),"crc32":")'
    rb'([0-9a-f]{8})"\}\}\}\n'
)


@dataclass(frozen=True, slots=True)
class Meta:
    """What a snapshot says of itself: the last segment and sequence number that are in it."""

    segment: int = 0
    seq: int = 0
    size: int = 0
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a snapshot: a document, or `fault` says why it is none."""

    number: int
    byte: int
    raw: bytes
    change: Change | None
    fault: str = ""


class Writer:
    """Writes a snapshot beside the present one, which it replaces at the end. Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / TEMPORARY
        self._fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        self._crc = 0
        self._size = 0
        self._unsynced = 0
        self._documents = 0
        self._rows = 0
        self._put(_HEADER)

    def table(self, name: str) -> None:
        """Begin a further table; the first is `FIRST_TABLE`."""
        self._put(b'%s},"%s":{\n' % (self._row_end(), name.encode()))
        self._rows = 0

    def rows(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Add documents, (id, JSON) each, to the table."""
        lines = [b'"%d":%s' % row for row in rows]
        if lines:
            before = b",\n" if self._rows else b""
            self._rows += len(lines)
            self._documents += len(lines)
            self._put(before + b",\n".join(lines))

    def _row_end(self) -> bytes:
        return b"\n" if self._rows else b""

    def finish(self, segment: int, seq: int) -> int:
        """Replace the present snapshot, durably; returns the bytes of the new one."""
        meta = b'%s},"%s":{"1":{"format":%d,"segment":%d,"seq":%d,"documents":%d,"crc32":"' % (
            self._row_end(),
            META.encode(),
            FORMAT,
            segment,
            seq,
            self._documents,
        )
        self._put(meta)
        self._put(b'%08x"}}}\n' % self._crc)
        os.fsync(self._fd)
        self._close()
        self._file.replace(self._folder / NAME)
        sync_folder(self._folder)
        return self._size

    def discard(self) -> None:
        """Leave the present snapshot as it is."""
        self._close()
        self._file.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, data: bytes) -> None:
        self._crc = crc32(data, self._crc)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY:
            os.fdatasync(self._fd)
            self._unsynced = 0


def read(path: Path, put: Callable[[Change], object]) -> Meta:
    """Hand every document to `put` and return what the snapshot says of itself.

    `put` raises KeyError, TypeError or ValueError for a document that is none. Raises `StoreError`
    naming the place of the first thing that is wrong; OSError.
    """
    with path.open("rb", buffering=READ_BUFFER) as stream:
        ours = stream.readline() == _HEADER
    return _read_ours(path, put) if ours else _read_any(path, put)


def rows(path: Path) -> Iterator[Row]:
    """The documents of a damaged snapshot that was written here, line by line, and what is none.

    Raises OSError.
    """
    table = FIRST_TABLE
    for number, offset, line in _lines(path):
        begun = _TABLE.fullmatch(line)
        if begun is not None:
            table = begun[1].decode()
        elif (row := _ROW.fullmatch(line)) is not None:
            yield Row(number, offset, line, Change(table, int(row[1]), row[2]))
        elif line != _HEADER and _META.fullmatch(line) is None:
            yield Row(number, offset, line, None, "this is no line of a snapshot")


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    with path.open("rb", buffering=READ_BUFFER) as stream:
        for number, line in enumerate(stream, 1):
            yield number, offset, line
            offset += len(line)


def _read_ours(path: Path, put: Callable[[Change], object]) -> Meta:
    crc = count = 0
    table = ""
    meta: Meta | None = None
    number = offset = 0
    for number, offset, line in _lines(path):
        if meta is not None:
            raise _damage(path, number, offset, "something follows the end")
        row = _ROW.fullmatch(line)
        if row is not None:
            try:
                put(Change(table, int(row[1]), row[2]))
            except (KeyError, TypeError, ValueError) as error:
                raise _damage(path, number, offset, f"the document is not valid: {error!r}") from error
            count += 1
        elif number == 1:
            table = FIRST_TABLE
        elif (begun := _TABLE.fullmatch(line)) is not None:
            table = begun[1].decode()
        elif (end := _META.fullmatch(line)) is not None:
            if int(end[2]) != FORMAT:
                raise StoreError(f"{path} has format {int(end[2])}, this version reads {FORMAT}")
            if int(end[6], 16) != crc32(end[1], crc) or int(end[5]) != count:
                raise _damage(path, number, offset, "the checksum does not fit what stands before")
            meta = Meta(int(end[3]), int(end[4]), offset + len(line))
        else:
            raise _damage(path, number, offset, "this is no line of a snapshot")
        crc = crc32(line, crc)
    if meta is None:
        raise _damage(path, number, offset, "the end is missing")
    return meta


def _read_any(path: Path, put: Callable[[Change], object]) -> Meta:
    """A snapshot that plain TinyDB has rewritten: all on one line, which takes memory for all of it."""
    tables = load(path)
    meta = tables.pop(META).get("1")
    for name, documents in tables.items():
        for key, document in documents.items():
            try:
                put(Change(name, int(key), orjson.dumps(document)))
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(
                    f"{path}: table {name}, document {key} is not valid: {error!r}; {ADVICE}"
                ) from error
    if not isinstance(meta, dict) or not all(isinstance(meta.get(name), int) for name in ("segment", "seq")):
        raise StoreError(f"{path}: the table {META} is not as it was written; {ADVICE}")
    return Meta(meta["segment"], meta["seq"], path.stat().st_size)


def load(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a snapshot in any layout of JSON. Raises `StoreError`, OSError."""
    try:
        tables = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise _damage(path, error.lineno, error.pos, f"this is no JSON: {error.msg}") from error
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise _damage(path, 1, 0, "this is no TinyDB file")
    for name in (FIRST_TABLE, META):
        if name not in tables:
            raise _damage(path, 1, 0, f"there is no table {name}")
    return tables


def _damage(path: Path, number: int, offset: int, fault: str) -> StoreError:
    return StoreError(f"{place(path, number, offset)}: {fault}; {ADVICE}")
