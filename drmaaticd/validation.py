"""From pydantic's errors to findings that name file, line, key, value, and what is allowed.

The base model and the field types that `settings` and `script_file` share are here too; what the
keys are and mean is said there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from drmaaticd import units
from drmaaticd.errors import Finding
from drmaaticd.toml_source import KeyPath, Source

#: Characters of a wrong value that a message shows.
SHOWN = 60
#: Bytes that RE2 may use for one pattern: enough for ``\p{L}{1,100}``. Matching is linear in the
#: text; for the worst patterns of this size it was 0.3 s for 5,000 characters, for usual ones 0.03 ms.
PATTERN_MEMORY = 2 * 1024 * 1024
PATTERN_LENGTH = 1000


class Model(BaseModel):
    """A table of a TOML file: immutable, without unknown keys and without silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield what is wrong between keys that are each right, as (key, message)."""
        yield from ()

    @model_validator(mode="after")
    def _no_problems(self) -> Self:
        if found := list(self.problems()):
            raise PydanticCustomError("problems", "keys do not fit together", {"problems": found})
        return self


def matching(pattern: str, words: str) -> AfterValidator:
    """Make a validator of texts that match `pattern` as a whole; `words` says so to people."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


def compile_pattern(pattern: str) -> Callable[[str], Any]:
    """Return the whole-match function of an RE2 pattern; ValueError if there is none."""
    if len(pattern) > PATTERN_LENGTH:
        raise ValueError(f"must be a pattern of at most {PATTERN_LENGTH} characters")
    options = re2.Options()
    options.max_mem = PATTERN_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        matcher: Callable[[str], Any] = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "unknown"
        raise ValueError(f"must be a pattern in RE2's syntax: {reason}") from None
    return matcher


def _one_line(value: str) -> str:
    if any(not (c.isprintable() or c == "\t") for c in value):
        raise ValueError("must be one line of printable characters")
    return value


def _checked_pattern(value: str) -> str:
    compile_pattern(value)
    return value


Duration = Annotated[float, BeforeValidator(units.parse_duration), units.DURATION]
Size = Annotated[int, BeforeValidator(units.parse_size), units.SIZE]
Rate = Annotated[float, BeforeValidator(units.parse_rate), units.RATE]
Line = Annotated[str, AfterValidator(_one_line)]
Pattern = Annotated[str, AfterValidator(_checked_pattern)]
Texts = Annotated[tuple[Line, ...], Strict(False)]

#: A name that goes into a DRM's native specification unquoted: a queue, an account.
DrmName = Annotated[
    str, matching(r"[A-Za-z0-9_][A-Za-z0-9_.@,:/+-]{0,127}", "a name of letters, digits and _.@,:/+-")
]


def check_group_name(value: str) -> str:
    """Return a group's name; ValueError if it is none."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", value):
        raise ValueError("must be a name: a letter, then up to 31 letters, digits, _ and -")
    return value


GroupName = Annotated[str, AfterValidator(check_group_name)]

M = TypeVar("M", bound=BaseModel)


def validate(
    model: type[M], value: Any, source: Source, path: KeyPath = ()
) -> tuple[M | None, list[Finding]]:
    """Read one table of a file; return the model, or None and everything that is wrong with it."""
    try:
        return model.model_validate(value, context={"folder": source.file.parent}), []
    except ValidationError as error:
        return None, list(_findings(error, model, value, source, path))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` if one of the known words is near, else nothing."""
    near = difflib.get_close_matches(word[:100].lower(), sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: Any) -> str:
    """Return a value as a message shows it: as TOML writes it, cut, without control characters."""
    if isinstance(value, str):
        value = value[: SHOWN + 1]
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def unit_of(annotation: Any, metadata: Iterable[Any] = ()) -> units.Unit | None:
    """Find the unit in which a field's numbers are written, if it has one."""
    for item in metadata:
        if isinstance(item, units.Unit):
            return item
    if get_origin(annotation) is Annotated:
        return unit_of(get_args(annotation)[0], annotation.__metadata__)
    for inner in get_args(annotation):
        if (found := unit_of(inner)) is not None:
            return found
    return None


def _findings(
    error: ValidationError, model: type[BaseModel], value: Any, source: Source, path: KeyPath
) -> Iterator[Finding]:
    for item in error.errors(include_url=False):
        loc = tuple(part for part in item["loc"] if part != "[key]")
        if item["type"] == "problems":
            for key, message in item["ctx"]["problems"]:
                yield source.finding((*path, *loc, *key), message)
        else:
            written = _written(value, loc, item["input"])
            yield source.finding((*path, *loc), _message(item, model, loc, written))


def _written(value: Any, loc: KeyPath, otherwise: Any) -> Any:
    """The value as it stands in the file, not as a validator has made it."""
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return otherwise
    return value


def _message(item: Mapping[str, Any], model: type[BaseModel], loc: KeyPath, value: Any) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(str(loc[-1]), _keys_at(model, loc[:-1]))
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        listed = ", ".join(repr(choice) for choice in choices)
        return f"must be one of {listed} (got {shown(value)}){did_you_mean(str(value), choices)}"
    if kind == "value_error":
        return f"{context['error']} (got {shown(value)})"
    return f"{_plain_words(kind, context, model, loc, value) or item['msg']} (got {shown(value)})"


_TYPE_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}
_BOUND_WORDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _plain_words(
    kind: str, context: Mapping[str, Any], model: type[BaseModel], loc: KeyPath, value: Any
) -> str | None:
    if kind in _BOUND_WORDS:
        words, key = _BOUND_WORDS[kind]
        annotation, metadata = _annotation_at(model, loc)
        unit = unit_of(annotation, metadata)
        return f"must be {words} {unit.format(context[key]) if unit else context[key]}"
    if kind in ("too_short", "string_too_short"):  # no key has another lower bound than 1
        return "must not be empty"
    if kind in ("too_long", "string_too_long"):
        what = "characters" if isinstance(value, str) else "entries"
        return f"must have at most {context['max_length']} {what}"
    return _TYPE_WORDS.get(kind)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Word the finding for a key that is not among the known ones."""
    known = sorted(known)
    return f"is not known{did_you_mean(key, known)} (known here: {', '.join(known)})"


def _keys_at(model: type[BaseModel], loc: KeyPath) -> list[str]:
    annotation, _ = _annotation_at(model, loc)
    inner = _model_in(annotation)
    return list(inner.model_fields) if inner else []


def _annotation_at(model: type[BaseModel], loc: KeyPath) -> tuple[Any, Iterable[Any]]:
    """Follow a location through models, lists and tables; return its annotation and metadata."""
    annotation: Any = model
    metadata: Iterable[Any] = ()
    for part in loc:
        inner = _model_in(annotation)
        if isinstance(part, str) and inner is not None and part in inner.model_fields:
            found = inner.model_fields[part]
            annotation, metadata = found.annotation, found.metadata
    return annotation, metadata


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as ``tuple[Provider, ...]`` holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if (found := _model_in(inner)) is not None:
            return found
    return None
