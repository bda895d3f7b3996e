"""Conditional and range requests (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drmaaticd.errors import RangeNotSatisfiable

_ETAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
#: More digits than any file's size has, and few enough for `int`.
_DIGITS = 20

_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)


def quoted(etag: str) -> str:
    """The entity tag with its quotes."""
    return etag if etag.endswith('"') else f'"{etag}"'


def none_match(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the representation (weak comparison): then 304."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(opaque == etag.removeprefix("W/") for _, opaque in _ETAG.findall(header))


def if_range(header: str | None, etag: str) -> bool:
    """Whether ``Range`` is to be honoured: no ``If-Range``, or one with this strong entity tag.

    No answer carries ``Last-Modified``, so that a date never matches (section 13.1.5).
    """
    return header is None or header.strip() == etag


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, and without, `end`, of `size`."""

    start: int
    end: int
    size: int

    @property
    def header(self) -> str:
        """The value of ``Content-Range``."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def byte_range(header: str | None, size: int) -> ByteRange | None:
    """The one range that is asked for; None if the whole is to be sent.

    Other units, several ranges and malformed ones are ignored (section 14.2). `RangeNotSatisfiable`
    is raised where no byte of the range exists. A suffix of an empty file is the empty whole.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = _number(last)
        if length and not size:
            return None
        return _within(max(size - length, 0), size, size)
    start = _number(first)
    if last and _number(last) < start:
        return None
    return _within(start, min(_number(last) + 1, size) if last else size, size)


def _number(digits: str) -> int:
    """What they say, or something that is beyond every file."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS else 10**_DIGITS


def _within(start: int, end: int, size: int) -> ByteRange:
    if start >= size or start >= end:
        raise RangeNotSatisfiable("The file has no such bytes.", headers={"Content-Range": f"bytes */{size}"})
    return ByteRange(start, end, size)
