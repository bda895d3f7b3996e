"""A multipart form (RFC 7578) on its way from the socket into a draft.

Nothing is kept but one field's text and one buffer of a file, whatever the sizes and the order.
"""

from __future__ import annotations

import asyncio
import logging
import re
from urllib.parse import unquote_to_bytes

from multipart import MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from drmaaticd.errors import DrmaaticdError, FieldError, InvalidInput, TooLarge
from drmaaticd.web.forms import MAX_FIELDS, too_many_fields
from drmaaticd.web.interface import Draft

log = logging.getLogger(__name__)

#: Bytes of one field's text, and of all fields of a form together: they are held in memory.
MAX_FIELD = 1024 * 1024
MAX_FIELDS_TOTAL = 2 * 1024 * 1024

#: Bytes of one header line of a part, and lines of a part's header.
MAX_PART_HEADER = 8 * 1024
MAX_HEADER_LINES = 8

#: Bytes of a file that are collected before they go to the disk in one call.
WRITE_SIZE = 512 * 1024

#: Smaller pieces than this are copied together at once: each object has its price.
SMALL = 16 * 1024

#: After so many events of the parser, others get their turn.
EVENTS_AT_A_TIME = 50

_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "latin-1": "latin-1",
}

#: Transfer encodings that change nothing (RFC 2045, section 6.2); RFC 7578 deprecates them all.
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})

_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*\"?([A-Za-z0-9_-]+)'[^']*'([^;\"]*)", re.IGNORECASE)


class MultipartForm:
    """Feeds the parts of a form into a draft.

    `feed` and `end` raise `InvalidInput` for a broken form, `TooLarge` for one over a limit, and what
    the draft raises. After an error the form is not fed again.
    """

    def __init__(self, boundary: str, draft: Draft) -> None:
        self._draft = draft
        # Headers are decoded in two steps: bytes that are no UTF-8 must not make a file's name,
        # which is only displayed, an error.
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER,
            max_header_count=MAX_HEADER_LINES,
            max_segment_count=MAX_FIELDS,
            header_charset="latin-1",
        )
        self._part: _FieldPart | _FilePart | None = None
        self._room = MAX_FIELDS_TOTAL
        self._events = 0

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            for event in self._parser.parse(chunk):
                await self._take(event)
        except ParserLimitReached as error:
            if self._part is None and "count exceeded" in str(error) and "header" not in str(error):
                raise too_many_fields() from error
            raise TooLarge(
                f"A part's header has at most {MAX_HEADER_LINES} lines of {MAX_PART_HEADER} bytes."
            ) from error
        except ParserError as error:
            raise InvalidInput(f"The multipart form is broken: {error}.") from error

    async def end(self) -> None:
        """The body is complete: so must the form be."""
        try:
            self._parser.close()
        except ParserError as error:
            raise InvalidInput("The multipart form ends before its final boundary.") from error

    async def settle(self) -> None:
        """Wait for what is under way, so that the draft may be aborted."""
        if isinstance(self._part, _FilePart):
            try:
                await self._part.settle()
            except DrmaaticdError as error:
                log.debug("the write under way failed as well: %s", error)

    async def _take(self, event: MultipartSegment | bytes | None) -> None:
        if isinstance(event, MultipartSegment):
            self._part = self._begin(event)
        elif self._part is not None:
            if event is None:
                part, self._part = self._part, None
                await part.end()
            elif isinstance(self._part, _FilePart):
                await self._part.feed(event)
            else:
                self._room -= len(event)
                if self._room < 0:
                    raise TooLarge(f"All fields together have at most {MAX_FIELDS_TOTAL} bytes.")
                self._part.feed(event)
        self._events += 1
        if self._events % EVENTS_AT_A_TIME == 0:
            await asyncio.sleep(0)

    def _begin(self, segment: MultipartSegment) -> _FieldPart | _FilePart:
        name = _name(segment)
        if segment.header("Content-Transfer-Encoding", "").strip().lower() not in _IDENTITY:
            raise _wrong(name, "must be sent without a Content-Transfer-Encoding")
        client_name = _client_name(segment)
        if client_name is None:
            return _FieldPart(name, segment.charset, self._draft)
        return _FilePart(name, client_name, self._draft)


class _FieldPart:
    """A field: its text is collected."""

    def __init__(self, name: str, charset: str | None, draft: Draft) -> None:
        self._name = name
        self._draft = draft
        codec = _CHARSETS.get((charset or "utf-8").lower())
        if codec is None:
            raise _wrong(name, "must be UTF-8")
        self._codec = codec
        self._value = bytearray()

    def feed(self, data: bytes) -> None:
        if len(self._value) + len(data) > MAX_FIELD:
            raise TooLarge(
                f"A field has at most {MAX_FIELD} bytes.",
                errors=[FieldError(self._name, f"must have at most {MAX_FIELD} bytes")],
            )
        self._value += data

    async def end(self) -> None:
        try:
            value = self._value.decode(self._codec)
        except UnicodeDecodeError as error:
            raise _wrong(self._name, f"must be {self._codec}") from error
        self._draft.field(self._name, value)


class _FilePart:
    """A file: its bytes are passed on in pieces worth a write, and received while one is written.

    It is opened with its first byte or, if it has a name, at its end: a part with neither is what
    browsers send for a file that was not chosen, and is left out.
    """

    def __init__(self, name: str, client_name: str, draft: Draft) -> None:
        self._name = name
        self._client_name = client_name
        self._draft = draft
        self._opened = False
        self._waiting: list[bytes | bytearray] = []
        self._size = 0
        self._writing: asyncio.Task[None] | None = None

    async def feed(self, data: bytes) -> None:
        await self._open()
        last = self._waiting[-1] if self._waiting else None
        if len(data) >= SMALL:
            self._waiting.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._waiting.append(bytearray(data))
        self._size += len(data)
        if self._size >= WRITE_SIZE:
            await self._flush()

    async def end(self) -> None:
        if self._client_name:
            await self._open()
        if self._opened:
            if self._size:
                await self._flush()
            await self.settle()
            await self._draft.close_file()

    async def settle(self) -> None:
        """Wait for the write under way; it may raise."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _open(self) -> None:
        if not self._opened:
            self._opened = True
            await self._draft.open_file(self._name, self._client_name)

    async def _flush(self) -> None:
        await self.settle()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._writing = asyncio.get_running_loop().create_task(self._draft.write(data))


def _wrong(name: str, detail: str) -> InvalidInput:
    return InvalidInput("The form is broken.", errors=[FieldError(name, detail)])


def _name(segment: MultipartSegment) -> str:
    try:
        name = (segment.name or "").encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("The multipart form is broken: a field's name is no UTF-8.") from error
    if not name:
        raise InvalidInput("The multipart form is broken: a part has no name.")
    return name


def _client_name(segment: MultipartSegment) -> str | None:
    """The name that the client gave to a file, None for a field. ``filename*`` (RFC 8187), which
    RFC 7578 forbids and some send, counts where there is no other."""
    if segment.filename is not None:
        return str(segment.filename.encode("latin-1"), "utf-8", "replace")
    extended = _EXTENDED_NAME.search(segment.header("Content-Disposition", ""))
    if extended is None:
        return None
    codec = _CHARSETS.get(extended[1].lower(), "utf-8")
    return unquote_to_bytes(extended[2]).decode(codec, "replace")
