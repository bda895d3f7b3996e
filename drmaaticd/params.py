"""A script's parameters: which values each takes, and which words of the command line they become.

Pure. How parameters are written in a file is said in `script_file`; a whole request is checked in
`checked`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drmaaticd.units import format_size
from drmaaticd.validation import compile_pattern, shown

Type = Literal["int", "float", "string", "bool", "file"]
Value = int | float | str | bool

#: Characters of a string unless the script says otherwise.
DEFAULT_MAX_LENGTH = 5000
#: Characters of a number: more digits than any tool reads.
MAX_NUMBER_LENGTH = 64
#: Values of one parameter with `multiple`.
MAX_VALUES = 1000
#: Characters of what follows the first dot of a file's name and is kept.
MAX_EXTENSION = 32

#: Strict decimals, as they are passed on: no blanks, underscores, NaN, infinity or other digits.
_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_BOOLS = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a request: the name that the client gave, its bytes, and the caller's own token."""

    client_name: str
    size: int
    token: Any


@dataclass(frozen=True, kw_only=True)
class Param:
    """One parameter. `min` and `max` are inclusive, `max_length` is in characters, `max_size` in bytes."""

    name: str
    type: Type
    description: str = ""
    required: bool = False
    default: Value | tuple[Value, ...] | None = None
    private: Value | tuple[Value, ...] | None = None
    """The administrator's fixed value; nobody may send another."""
    flag: str | None = None
    choices: tuple[Value, ...] = ()
    min: int | float | None = None
    max: int | float | None = None
    max_length: int | None = None
    pattern: str | None = None
    multiple: bool = False
    separator: str | None = None
    extensions: tuple[str, ...] = ()
    max_size: int | None = None
    allow_dash: bool = False
    _matches: Callable[[str], Any] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the pattern. Raises ValueError if it is none."""
        object.__setattr__(self, "_matches", None if self.pattern is None else compile_pattern(self.pattern))

    # -- values ----------------------------------------------------------------------------------

    def problem(self, text: str, *, trusted: bool = False) -> str | None:
        """What is wrong with one value, and what is allowed; None if it is right.

        A `trusted` value (the administrator's own) may begin with a dash anywhere.
        """
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            return f"must not hold NUL or half a character (got {shown(text)})"
        check = {"int": self._number_problem, "float": self._number_problem, "bool": _bool_problem}
        problem = check.get(self.type, self._text_problem)(text)
        if problem is None and self.choices and not self._is_choice(text):
            listed = ", ".join(text_of(choice) for choice in self.choices)
            problem = f"must be one of {listed} (got {shown(text)})"
        if problem is None and not trusted and self._looks_like_option(text):
            problem = f"must not begin with - (got {shown(text)})"
        return problem

    def _number_problem(self, text: str) -> str | None:
        kind, pattern = ("a whole number", _INT) if self.type == "int" else ("a number", _FLOAT)
        if len(text) > MAX_NUMBER_LENGTH or not pattern.fullmatch(text):
            return f"must be {kind} (got {shown(text)})"
        number = self._number(text)
        if not math.isfinite(number):
            return f"must be a finite number (got {shown(text)})"
        if (self.min is not None and number < self.min) or (self.max is not None and number > self.max):
            return f"must be {kind} {self._range_words()} (got {shown(text)})"
        return None

    def _number(self, text: str) -> int | float:
        return int(text) if self.type == "int" else float(text)

    def _range_words(self) -> str:
        if self.min is None:
            return f"of at most {self.max}"
        return f"of at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"

    def _text_problem(self, text: str) -> str | None:
        limit = self.max_length or DEFAULT_MAX_LENGTH
        if len(text) > limit:
            return f"must have at most {limit} characters (has {len(text)})"
        if self._matches is not None and not self._matches(text):
            return f"must match {self.pattern} as a whole (got {shown(text)})"
        return None

    def _is_choice(self, text: str) -> bool:
        if self.type in ("int", "float"):
            return self._number(text) in self.choices
        return text in self.choices

    def _looks_like_option(self, text: str) -> bool:
        """Whether a program would take a positional text for one of its options."""
        free = self.type == "string" and self.flag is None and not self.allow_dash and not self.choices
        return free and text.startswith("-")

    def texts_problem(self, texts: Sequence[str], *, trusted: bool = False) -> str | None:
        """What is wrong with all values of this parameter together; None if they are right."""
        if (problem := self._count_problem(len(texts))) is not None:
            return problem
        for text in texts:
            if (problem := self.problem(text, trusted=trusted)) is not None:
                return problem
            if self.separator is not None and self.separator in text:
                return f"must not hold {self.separator!r}, which separates the values (got {shown(text)})"
        return None

    def uploads_problem(self, uploads: Sequence[Upload]) -> str | None:
        """What is wrong with the files for this parameter; None if they are right."""
        if (problem := self._count_problem(len(uploads))) is not None:
            return problem
        for upload in uploads:
            if self.extensions and not _base_name(upload.client_name).lower().endswith(self.extensions):
                listed = ", ".join(self.extensions)
                return f"must be a file with a name that ends in {listed} (got {shown(upload.client_name)})"
            if self.max_size is not None and upload.size > self.max_size:
                return f"must be a file of at most {format_size(self.max_size)} (has {upload.size} bytes)"
        return None

    def _count_problem(self, count: int) -> str | None:
        if count > 1 and not self.multiple:
            return f"must be given once (was given {count} times)"
        if count > MAX_VALUES:
            return f"must be given at most {MAX_VALUES} times (was given {count} times)"
        return None

    @property
    def fixed_texts(self) -> tuple[str, ...]:
        """The values where none was sent: the private one or the default, as texts; may be empty."""
        value = self.default if self.private is None else self.private
        if value is None:
            return ()
        return tuple(map(text_of, value)) if isinstance(value, tuple) else (text_of(value),)

    # -- the command line ------------------------------------------------------------------------

    def words(self, texts: Sequence[str]) -> list[str]:
        """The words of the command line for these values.

        Without a flag the value alone; with ``--x`` two words; with a flag that ends in ``=`` one.
        Several values are joined by the separator if there is one, else each comes by itself, with
        the flag again. A bool with a flag of the two-word kind is the flag alone, or nothing; else
        it is ``true`` or ``false``.
        """
        if not texts:
            return []
        if self.type == "bool":
            value = _BOOLS[texts[0].lower()]
            if self.flag is not None and not self.flag.endswith("="):
                return [self.flag] if value else []
            texts = [text_of(value)]
        if self.separator is not None:
            texts = [self.separator.join(texts)]
        if self.flag is None:
            return list(texts)
        if self.flag.endswith("="):
            return [self.flag + text for text in texts]
        return [word for text in texts for word in (self.flag, text)]

    # -- the API ---------------------------------------------------------------------------------

    def public(self, *, admin: bool = False) -> dict[str, Any]:
        """The parameter as the API shows it; an administrator sees its flag and private value too."""
        shown_keys: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "description": self.description or None,
            "default": _as_json(self.default),
            "required": self.required,
            "choices": list(self.choices) or None,
            "min": self.min,
            "max": self.max,
            "max_length": self.max_length,
            "pattern": self.pattern,
            "multiple": self.multiple or None,
            "extensions": list(self.extensions) or None,
            "max_size": self.max_size,
        }
        if admin:
            shown_keys |= {"flag": self.flag, "private": _as_json(self.private)}
        return {key: value for key, value in shown_keys.items() if value is not None}


def text_of(value: Value) -> str:
    """A value of a definition as a client would send it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def stored_names(param: str, client_names: Sequence[str]) -> list[str]:
    """The safe names under which a parameter's files are stored (API.md, Tasks)."""
    if len(client_names) == 1:
        return [param + extensions_of(client_names[0])]
    return [f"{param}_{index}{extensions_of(name)}" for index, name in enumerate(client_names)]


def extensions_of(client_name: str) -> str:
    """What follows the first dot of the base name, with the dot, if it is short and harmless."""
    _, dot, rest = _base_name(client_name).partition(".")
    return dot + rest if re.fullmatch(rf"[A-Za-z0-9.]{{1,{MAX_EXTENSION}}}", rest) else ""


def _base_name(client_name: str) -> str:
    """The last part of a name; some clients send a path of their own system."""
    return re.split(r"[/\\]", client_name)[-1]


def _bool_problem(text: str) -> str | None:
    if text.lower() not in _BOOLS:
        return f"must be true or false (or 1, 0, yes, no, on, off) (got {shown(text)})"
    return None


def _as_json(value: Value | tuple[Value, ...] | None) -> Any:
    return list(value) if isinstance(value, tuple) else value
