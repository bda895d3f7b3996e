"""The query string: each parameter once, in UTF-8, and of the kind that was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drmaaticd.errors import FieldError, InvalidInput

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


def _wrong(name: str, detail: str) -> InvalidInput:
    return InvalidInput("A query parameter is wrong.", errors=[FieldError(name, detail)])


class Query:
    """The parameters of one request. Unknown ones are ignored. Everything raises `InvalidInput`."""

    def __init__(self, arguments: Mapping[str, Sequence[bytes]]) -> None:
        self._arguments = arguments

    def text(self, name: str) -> str | None:
        """The parameter's value, None if it is not there."""
        values = self._texts(name)
        if len(values) > 1:
            raise _wrong(name, "must be given once")
        return values[0] if values else None

    def joined(self, name: str) -> str | None:
        """The values of a comma-separated parameter, which may also be repeated, with commas between."""
        values = self._texts(name)
        return ",".join(values) if values else None

    def number(self, name: str, default: int, least: int = 1) -> int:
        """A whole number from 1, or from `least`."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) <= 18 and int(text) >= least):
            raise _wrong(name, f"must be a whole number from {least}")
        return int(text)

    def flag(self, name: str) -> bool:
        """A yes or no; no if it is not there."""
        text = (self.text(name) or "").lower()
        if text not in _TRUE | _FALSE:
            raise _wrong(name, "must be 1 or 0")
        return text in _TRUE

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of `allowed`; the first if it is not there."""
        text = self.text(name)
        if text is None:
            return allowed[0]
        if text not in allowed:
            raise _wrong(name, f"must be one of {', '.join(allowed)}")
        return text

    def _texts(self, name: str) -> list[str]:
        try:
            return [value.decode() for value in self._arguments.get(name, ())]
        except UnicodeDecodeError as error:
            raise _wrong(name, "must be UTF-8") from error
