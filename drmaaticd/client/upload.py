"""A `multipart/form-data` body (RFC 7578) that is read from disk while it is sent.

requests' own `files=` builds the whole body in memory; this one knows its length beforehand and
holds a block at a time. What is sent where is the business of `api`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.client.failures import Refused

Progress = Callable[[int, int | None], None]
"""Is called with the bytes that are done and, if it is known, how many they will be."""

#: Bytes read and handed to the socket at a time.
BLOCK = 256 * 1024

#: How a browser writes what would end a quoted name (WHATWG HTML, "multipart/form-data encoding").
_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class FileChanged(Refused):
    """A file shrank while it was being sent."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent, under another name than its own if `name` is given."""

    path: Path
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    head: bytes
    content: bytes | Path
    size: int

    @property
    def length(self) -> int:
        return len(self.head) + self.size + len(b"\r\n")


class MultipartBody:
    """The body of one request; it can be iterated again for a second try.

    `fields` are sent as text, `files` under their base names unless told. Raises OSError if a file
    cannot be read, at once rather than half-way through the request.
    """

    def __init__(
        self,
        fields: Iterable[tuple[str, str]],
        files: Iterable[tuple[str, Path | Upload]],
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self.boundary = f"drmaatic-{secrets.token_hex(16)}"
        self._parts = [
            *(self._text(name, value) for name, value in fields),
            *(self._file(name, file if isinstance(file, Upload) else Upload(file)) for name, file in files),
        ]
        self._end = f"--{self.boundary}--\r\n".encode("ascii")

    @property
    def content_type(self) -> str:
        """The value of the request's ``Content-Type``."""
        return f"multipart/form-data; boundary={self.boundary}"

    def __len__(self) -> int:
        return sum(part.length for part in self._parts) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        if self._progress is None:
            return self._pieces()
        return _told(self._pieces(), len(self), self._progress)

    def _pieces(self) -> Iterator[bytes]:
        for part in self._parts:
            yield part.head
            if isinstance(part.content, bytes):
                yield part.content
            else:
                yield from _blocks(part.content, part.size)
            yield b"\r\n"
        yield self._end

    def _text(self, name: str, value: str) -> _Part:
        content = value.encode("utf-8")
        return _Part(self._head(f'name="{name.translate(_QUOTED)}"'), content, len(content))

    def _file(self, name: str, upload: Upload) -> _Part:
        path = upload.path
        if path.exists() and not path.is_file():  # to open a FIFO would wait for its writer
            raise OSError(f"{path} is no regular file")
        with path.open("rb") as file:  # readable? Better asked before the first byte is sent
            size = os.fstat(file.fileno()).st_size
        disposition = (
            f'name="{name.translate(_QUOTED)}"; filename="{(upload.name or path.name).translate(_QUOTED)}"'
        )
        return _Part(self._head(disposition, "application/octet-stream"), path, size)

    def _head(self, disposition: str, content_type: str | None = None) -> bytes:
        lines = [f"--{self.boundary}", f"Content-Disposition: form-data; {disposition}"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        # A local name that is no UTF-8 (surrogates from os.fsdecode) is sent with question marks.
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def _told(pieces: Iterator[bytes], total: int, progress: Progress) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        progress(done, total)
        yield piece
        done += len(piece)
    progress(done, total)


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of the file: what it grows by meanwhile is not sent."""
    left = size
    with path.open("rb") as file:
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise FileChanged(f"{path} became shorter while it was being sent")
            left -= len(block)
            yield block
