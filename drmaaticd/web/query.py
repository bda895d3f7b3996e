"""The query string: each parameter once, in UTF-8, and of the kind that was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from drmaaticd.errors import FieldError, InvalidInput

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Query:
    """The parameters of one request. Unknown ones are ignored. Everything raises `InvalidInput`, at once
    or, where several are read, once for all of them.
    """

    def __init__(self, arguments: Mapping[str, Sequence[bytes]]) -> None:
        self._arguments = arguments
        self._collected: list[FieldError] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within, a parameter that is wrong counts as left out; at the end `InvalidInput` names all of them,
        and what else was found wrong within.
        """
        collected: list[FieldError] = []
        self._collected = collected
        try:
            yield
        except InvalidInput as error:
            if not collected:
                raise
            collected += error.errors
        finally:
            self._collected = None
        if collected:
            raise InvalidInput("Query parameters are wrong.", errors=collected)

    def _wrong(self, name: str, detail: str) -> None:
        if self._collected is None:
            raise InvalidInput("A query parameter is wrong.", errors=[FieldError(name, detail)])
        self._collected.append(FieldError(name, detail))

    def text(self, name: str) -> str | None:
        """The parameter's value, None if it is not there."""
        values = self._texts(name)
        if len(values) > 1:
            self._wrong(name, "must be given once")
            return None
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
            self._wrong(name, f"must be a whole number from {least}")
            return default
        return int(text)

    def flag(self, name: str) -> bool:
        """A yes or no; no if it is not there."""
        text = (self.text(name) or "").lower()
        if text not in _TRUE | _FALSE:
            self._wrong(name, "must be 1 or 0")
        return text in _TRUE

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of `allowed`; the first if it is not there."""
        text = self.text(name)
        if text is None:
            return allowed[0]
        if text not in allowed:
            self._wrong(name, f"must be one of {', '.join(allowed)}")
            return allowed[0]
        return text

    def _texts(self, name: str) -> list[str]:
        try:
            return [value.decode() for value in self._arguments.get(name, ())]
        except UnicodeDecodeError:
            self._wrong(name, "must be UTF-8")
            return []
