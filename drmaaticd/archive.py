"""A folder's files packed while they are sent: a zip whose length is known before, or a tar.gz.

Nothing is kept on disk or in memory but the list of files. What is packed is what was there at the
start, with the sizes of that moment; who may have it, and how it travels, is left to others.
"""

from __future__ import annotations

import os
import stat
import tarfile
import threading
import time
import unicodedata
import zlib
from collections.abc import Generator, Iterable, Iterator
from zipfile import ZIP_FILECOUNT_LIMIT, ZIP_STORED

from zipstream.ng import ZipStream, ZipStreamInfo  # type: ignore[import-untyped]

from drmaaticd.errors import FieldError, InvalidInput, TooLarge
from drmaaticd.folder import MAX_ENTRIES, SEARCH, FileInfo, list_files, open_regular

CHUNK = 256 * 1024
"""Bytes read at once, and at least as many are handed on at once, but for the last."""

FORMATS = ("zip", "tar.gz")

MAX_NAME = 255
"""Bytes of a component of a name, so that it can be unpacked everywhere."""

GZIP_LEVEL = 1
"""Fast: results are often packed already, and the daemon has one machine for all."""

MAX_EXTENSION = 64
"""Bytes of what is kept as a name's extension when a number is put before it."""

_EARLIEST = 315_619_200
"""2 January 1980: before the first, a zip knows no time (APPNOTE.TXT 4.4.6), in any time zone."""
_LATEST = 4_354_732_800
"""30 December 2107, likewise the last."""

_TAR_LATEST = 8**11 - 1
"""The last time that fits into a tar header's field (POSIX pax, ustar)."""


class ArchiveBroken(Exception):
    """A file shrank, vanished or could not be read after its size was promised.

    The stream must be broken off so that the client sees a short transfer: there is no way to go on
    that would not pass wrong content off as right.
    """


class Archive(Iterator[bytes]):
    """The archive's bytes, to be taken once. `next` and `close` block, and may come from any thread.

    `next` raises `ArchiveBroken`, and again if it is called again: a broken archive has no end that could
    be taken for one. `close` is always due and waits for a `next` under way.
    """

    def __init__(self, root: int, pieces: Generator[bytes, None, None], length: int | None) -> None:
        self.length = length
        """Bytes in all, None where this is not known before."""
        self.skipped = 0
        """Files that are not packed because a job made them, or their directory, unreadable."""
        self._root = root
        self._pieces = pieces
        self._lock = threading.Lock()
        self._broken: ArchiveBroken | None = None

    def __next__(self) -> bytes:
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._root < 0:
                raise ValueError("the archive is closed")
            try:
                return next(self._pieces)
            except ArchiveBroken as error:
                self._broken = error
                raise

    def close(self) -> None:
        """Close everything; closing twice is no error."""
        with self._lock:
            self._pieces.close()
            if self._root >= 0:
                root, self._root = self._root, -1
                os.close(root)


def open_archive(folder: int, arc_root: str, format: str) -> Archive:
    """All regular files of a folder (a descriptor, which stays the caller's), packed under `arc_root`.

    Raises `InvalidInput` for another format than `FORMATS`, `TooLarge` for a folder that a listing
    cannot hold, OSError for a failing disk.
    """
    if format not in FORMATS:
        detail = f"{format!r} is no format; allowed: {', '.join(FORMATS)}"
        raise InvalidInput(detail, errors=[FieldError("format", detail)])
    found = list_files(folder)
    if found.truncated:
        raise TooLarge(f"with more than {MAX_ENTRIES} files, or so deeply nested, it cannot be packed")
    files = [info for info in found if _readable(folder, info)]
    names = archive_names([info.raw for info in files])
    root = os.open(".", SEARCH, dir_fd=folder)
    members = [_Member(root, info, f"{arc_root}/{name}") for info, name in zip(files, names, strict=True)]
    if format == "zip":
        stream = _zip(members, arc_root)
        archive = Archive(root, _gathered(stream), len(stream))
    else:
        archive = Archive(root, _gathered(_tar_gz(members)), None)
    archive.skipped = len(found) - len(files) + found.unreadable
    return archive


def archive_names(paths: Iterable[bytes]) -> list[str]:
    """The name in an archive for each of these different paths: different, too, and safe to unpack.

    Control characters, backslashes and bytes that are no UTF-8 become ``_``. Where this makes a name
    that there is already, ``~2`` (and so on) is put before the extension of the changed one.
    """
    names = _Names()
    paths = list(paths)
    for path in paths:
        names.reserve(path)
    return [names.place(path) for path in paths]


class _Names:
    """Which names are taken, of files and directories alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._placed: dict[bytes, str] = {b"": ""}
        """Directories that have their name."""

    def reserve(self, path: bytes) -> None:
        """Let what needs no change keep its name."""
        while path and path not in self._placed:
            name = _clean(path)
            if name.encode() == path:
                self._taken.add(name)
                self._placed[path] = name
            path = path.rpartition(b"/")[0]

    def place(self, path: bytes) -> str:
        """The path's name; it has the same whenever it is asked for."""
        if path not in self._placed:
            parent, _, last = path.rpartition(b"/")
            above = self.place(parent)
            prefix = f"{above}/" if above else ""
            cleaned, number = _clean(last), 1
            candidate = prefix + cleaned
            while candidate in self._taken:
                number += 1
                candidate = prefix + _numbered(cleaned, number)
            self._taken.add(candidate)
            self._placed[path] = candidate
        return self._placed[path]


def _clean(path: bytes) -> str:
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:  # which excludes all that is looked for below
        return text
    return "".join("_" if c == "\\" or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _numbered(name: str, number: int) -> str:
    stem, dot, extension = name.partition(".")
    if not stem or len(extension.encode()) > MAX_EXTENSION:
        stem, dot, extension = name, "", ""
    tail = f"~{number}{dot}{extension}"
    return stem.encode()[: MAX_NAME - len(tail.encode())].decode(errors="ignore") + tail


def _readable(folder: int, info: FileInfo) -> bool:
    """Whether a file can be read now; its own owner's permissions say so without opening it."""
    if info.uid == os.geteuid() and info.mode & stat.S_IRUSR:
        return True
    try:
        fd, _ = open_regular(folder, info.raw.split(b"/"))
    except PermissionError:
        return False
    except OSError:
        return True  # gone meanwhile: this shows when its turn comes
    os.close(fd)
    return True


class _Member:
    """One file to be packed; iterating over it gives exactly the bytes that it had at the start."""

    def __init__(self, root: int, info: FileInfo, name: str) -> None:
        self.info = info
        self.name = name
        self.mode = 0o755 if info.mode & stat.S_IXUSR else 0o644
        self._root = root

    def __iter__(self) -> Iterator[bytes]:
        left = self.info.size
        try:
            fd, status = open_regular(self._root, self.info.raw.split(b"/"))
        except OSError as error:
            raise ArchiveBroken(f"{self.name!r} can no longer be read: {error.strerror}") from error
        try:
            if status.st_size < left:
                raise ArchiveBroken(f"{self.name!r} has become shorter")
            while left:
                data = os.read(fd, min(CHUNK, left))
                if not data:
                    raise ArchiveBroken(f"{self.name!r} has become shorter")
                left -= len(data)
                yield data
        except OSError as error:
            raise ArchiveBroken(f"{self.name!r} cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)


def _gathered(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    """The same bytes, in pieces of `CHUNK` and more."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


class _Zip(ZipStream):  # type: ignore[misc]  # the library has no types
    """A zip stream that keeps the times and permissions of its members; the library sets its own."""

    def _gen_file_entry(self, **entry: object) -> Iterator[bytes]:
        member = entry.get("iterable")
        if not isinstance(member, _Member):
            yield from super()._gen_file_entry(**entry)
            return
        seconds = min(max(member.info.mtime_ns // 10**9, _EARLIEST), _LATEST)
        record = ZipStreamInfo(member.name, time.localtime(seconds)[:6])
        record.external_attr = (stat.S_IFREG | member.mode) << 16
        record.compress_type = ZIP_STORED
        record.file_size = member.info.size
        record.header_offset = self._pos
        for piece in record._file_data(member):
            yield self._track(piece)
        self._filelist.append(record)


def _zip(members: list[_Member], arc_root: str) -> ZipStream:
    stream = _Zip(sized=True)
    if len(members) in (0, ZIP_FILECOUNT_LIMIT):
        # An archive of nothing is refused by some programs. And with just as many entries as the old
        # format can count, the library's footer is longer than the length that it foretells.
        stream.mkdir(arc_root)
    for member in members:
        stream.add(member, member.name, size=member.info.size)
    return stream


def _tar_gz(members: Iterable[_Member]) -> Iterator[bytes]:
    """POSIX pax, so that names of any length and files of any size fit."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    size = 0
    for member in members:
        for piece in _tar_member(member):
            size += len(piece)
            yield packer.compress(piece)
    end = 2 * tarfile.BLOCKSIZE
    yield packer.compress(bytes(end + -(size + end) % tarfile.RECORDSIZE))
    yield packer.flush()


def _tar_member(member: _Member) -> Iterator[bytes]:
    header = tarfile.TarInfo(member.name)
    header.size = member.info.size
    header.mtime = min(max(member.info.mtime_ns // 10**9, 0), _TAR_LATEST)
    header.mode = member.mode
    yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    yield from member
    yield bytes(-header.size % tarfile.BLOCKSIZE)
