"""TOML files together with the lines on which their keys stand, so that a finding can name its line.

`tomllib` decides what is valid TOML and what it means; the scan here only runs over text that
`tomllib` has accepted. What keys a file may have is said elsewhere.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmaaticd.errors import ConfigurationError, Finding

#: Bytes; a larger file is no configuration but a mistake.
MAX_FILE_SIZE = 1024 * 1024

#: Where a key stands: the names of tables and keys, and the places (from 0) in arrays.
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """One TOML file that was read: its values, and the line of each key (counting from 1)."""

    file: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it; None if nothing of it is there."""
        for end in range(len(path), 0, -1):
            if (line := self.lines.get(path[:end])) is not None:
                return line
        return None

    def finding(self, path: KeyPath, message: str, *, warning: bool = False) -> Finding:
        """Say something about a key of this file."""
        return Finding(self.file, message, dotted(path) or None, self.line(path), warning)


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: ``param[1].min``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else repr(part)
        text += f".{name}" if text else name
    return text


def read(file: Path) -> Source:
    """Read a TOML file. Raises `ConfigurationError` with the one finding that stopped it."""
    raw = _read_bytes(file)
    text = _decode(file, raw)
    try:
        return Source(file, tomllib.loads(text), _locate(text))
    except RecursionError:
        raise _broken(file, "is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() refusing thousands of digits
        message, line = _syntax_error(str(error), text)
        raise _broken(file, f"is not valid TOML: {message}", line) from None


def _broken(file: Path, message: str, line: int | None = None) -> ConfigurationError:
    return ConfigurationError([Finding(file, message, line=line)])


def _read_bytes(file: Path) -> bytes:
    try:
        raw = read_regular(file, MAX_FILE_SIZE)
    except OSError as error:
        raise _broken(file, f"cannot be read: {error.strerror}") from None
    if raw is None:
        raise _broken(file, f"is larger than {MAX_FILE_SIZE // 1024} KiB")
    return raw


def read_regular(file: Path, limit: int) -> bytes | None:
    """Return the content of a regular file, None if it is larger than `limit` bytes.

    Raises `OSError`, for anything else than a regular file too.
    """
    # Not blocking, since opening a FIFO would wait for a writer that never comes.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(fd, "rb", closefd=False) as stream:
            raw = stream.read(limit + 1)
    finally:
        os.close(fd)
    return raw if len(raw) <= limit else None


def _decode(file: Path, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _broken(file, f"is not UTF-8: byte 0x{raw[error.start]:02x}", line) from None
    # A byte order mark is left by some editors; tomllib takes it for a key.
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _syntax_error(message: str, text: str) -> tuple[str, int | None]:
    """Split tomllib's message into what and where."""
    if match := re.search(r" \(at line (\d+), column \d+\)$", message):
        return message[: match.start()], int(match[1])
    if message.endswith(" (at end of document)"):
        return message.removesuffix(" (at end of document)") + " at the end", text.rstrip().count("\n") + 1
    return message, None


_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING = re.compile(
    r'''"""(?:[^"\\]|\\[\s\S]|""?(?!"))*"{3,5}'''
    r"""|'''(?:[^']|''?(?!'))*'{3,5}"""
    r"""|"(?:[^"\\]|\\.)*"|'[^']*'"""
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def _locate(text: str) -> dict[KeyPath, int]:
    """Return the line of every table and key of a text that `tomllib` has accepted."""
    return _Scanner(text).run()


class _Scanner:
    """One run over a valid TOML text, noting where each key begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[KeyPath, int] = {}
        self._lengths: dict[KeyPath, int] = {}
        """How many elements each array of tables has so far."""

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._text.startswith("[", self._pos):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._pos)
        if match is None:  # cannot be: the text is valid
            raise ValueError(f"cannot be scanned (at line {self._line(self._pos)}, column 1)")
        self._pos = match.end()
        return match.group()

    def _line(self, pos: int) -> int:
        return bisect_right(self._starts, pos)

    def _note(self, path: KeyPath, start: int) -> None:
        """Note a path, and the tables that come to be with it; the first mention counts."""
        for end in range(1, len(path) + 1):
            self._lines.setdefault(path[:end], self._line(start))

    def _names(self) -> tuple[str, ...]:
        """Read a key with its dots, and what follows up to the next character of meaning."""
        names = []
        while True:
            self._skip(_SPACE)
            raw = self._skip(_KEY)
            names.append(tomllib.loads(f"key = {raw}")["key"] if raw[0] in "\"'" else raw)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._pos):
                return tuple(names)
            self._pos += 1

    def _header(self) -> KeyPath:
        """Read ``[a.b]`` or ``[[a.b]]``; return the path of the table that it opens."""
        start = self._pos
        is_array = self._text.startswith("[[", start)
        self._pos += 2 if is_array else 1
        names = self._names()
        self._pos += 2 if is_array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._last_element((*path, name))
        path = (*path, names[-1])
        if is_array:
            self._note(path, start)
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            path = (*path, index)
        else:
            path = self._last_element(path)
        self._note(path, start)
        self._lines[path] = self._line(start)  # better than an earlier mention in passing
        return path

    def _last_element(self, path: KeyPath) -> KeyPath:
        """In a header, the name of an array of tables means its last element (TOML 1.0)."""
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _pair(self, table: KeyPath) -> None:
        start = self._pos
        path = (*table, *self._names())
        self._note(path, start)
        self._pos += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._pos]
        if first == "[":
            self._elements(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _elements(self, path: KeyPath) -> None:
        index = 0
        while not self._at_end("]"):
            self._note((*path, index), self._pos)
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        while not self._at_end("}"):
            self._pair(path)

    def _at_end(self, bracket: str) -> bool:
        """Step over the opening bracket or a comma; tell (and step over) the closing bracket."""
        self._skip(_BLANK)
        if self._text[self._pos] != bracket:
            self._pos += 1
            self._skip(_BLANK)
        if self._text[self._pos] == bracket:
            self._pos += 1
            return True
        return False
