"""A whole request's values against a script's parameters, and the command line that comes of them.

Every wrong field is reported at once. What one value may be is said in `params`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drmaaticd.errors import FieldError, InvalidInput
from drmaaticd.params import Param, Upload, stored_names
from drmaaticd.validation import did_you_mean

#: Fields of a request that are the service's own; no parameter has such a name.
RESERVED = frozenset({"task_name", "task_description", "parent_task", "dependencies", "dependency_type"})

#: Bytes of one argument with its NUL (Linux: MAX_ARG_STRLEN, 32 pages).
MAX_ARGUMENT = 128 * 1024
#: Bytes of all arguments with their NULs and pointers. Linux takes a quarter of the stack's limit,
#: 2 MiB as a rule, for these and the environment together; a compute node may have a smaller stack.
MAX_ARGUMENTS = 1024 * 1024
_POINTER = 8

#: Names of a script's parameters that a message lists.
_NAMES_LISTED = 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file with the name under which it is stored in the task's folder."""

    param: str
    stored_name: str
    client_name: str
    token: Any


@dataclass(frozen=True, slots=True)
class Bound:
    """A parameter with its values, as texts."""

    param: Param
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A request whose values are all right, in the order of the script's parameters."""

    bound: tuple[Bound, ...]
    files: tuple[StoredFile, ...]

    @property
    def params(self) -> tuple[dict[str, Any], ...]:
        """What the task's record keeps: ``name`` and ``value`` (a list for `multiple`)."""
        return tuple(map(_record, self.bound))

    def renamed(self, mapping: Mapping[str, str]) -> Checked:
        """The same with other stored names, where a parent's folder has a name already."""
        return Checked(
            tuple(
                replace(one, texts=tuple(mapping.get(text, text) for text in one.texts))
                if one.param.type == "file"
                else one
                for one in self.bound
            ),
            tuple(
                replace(file, stored_name=mapping.get(file.stored_name, file.stored_name))
                for file in self.files
            ),
        )

    def arguments(self) -> list[str]:
        """The command line after the command."""
        return [word for one in self.bound for word in one.param.words(one.texts)]


def check(
    params: Sequence[Param],
    fields: Mapping[str, Sequence[str]],
    files: Mapping[str, Sequence[Upload]],
    *,
    ignore_unknown: bool = False,
) -> Checked:
    """Check a request. Raises `InvalidInput` naming every wrong field."""
    errors: list[FieldError] = []
    bound: list[Bound] = []
    stored: list[StoredFile] = []
    for param in params:
        texts, uploads = _without_empty(param, fields.get(param.name, ()), files.get(param.name, ()))
        problem = _problem(param, texts, uploads)
        if problem is not None:
            errors.append(FieldError(param.name, problem))
            continue
        if uploads:
            mine = _stored(param, uploads)
            stored += mine
            texts = [file.stored_name for file in mine]
        if values := tuple(texts) or param.fixed_texts:
            bound.append(Bound(param, values))
    if not ignore_unknown:
        errors += _unknown(params, [*fields, *files])
    errors = errors or list(_too_long(bound))
    if errors:
        raise InvalidInput("The parameters are not valid.", errors=errors)
    return Checked(tuple(bound), tuple(stored))


def _without_empty(
    param: Param, texts: Sequence[str], uploads: Sequence[Upload]
) -> tuple[list[str], list[Upload]]:
    """Leave out what browsers send for a field that was not filled in.

    That is an empty value, which only a string can mean, and a file part without name and content.
    """
    kept = [text for text in texts if text or param.type == "string"]
    return kept, [upload for upload in uploads if upload.client_name or upload.size]


def _problem(param: Param, texts: Sequence[str], uploads: Sequence[Upload]) -> str | None:
    if param.private is not None:
        return "must not be sent: the administrator has set it" if texts or uploads else None
    if param.type == "file":
        if texts:
            return "must be a file, not text"
        problem = param.uploads_problem(uploads)
    else:
        if uploads:
            return "must be text, not a file"
        problem = param.texts_problem(texts)
    if problem is None and param.required and not texts and not uploads:
        return "is required"
    return problem


def _stored(param: Param, uploads: Sequence[Upload]) -> list[StoredFile]:
    names = stored_names(param.name, [upload.client_name for upload in uploads])
    return [
        StoredFile(param.name, name, _without_surrogates(upload.client_name), upload.token)
        for name, upload in zip(names, uploads, strict=True)
    ]


def _without_surrogates(text: str) -> str:
    """The text with bytes that are no UTF-8, and halves of characters, as U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _unknown(params: Sequence[Param], names: Sequence[str]) -> Iterator[FieldError]:
    known = {param.name for param in params}
    public = [param.name for param in params if param.private is None]
    listed = ", ".join(public[:_NAMES_LISTED]) + (", …" if len(public) > _NAMES_LISTED else "")
    has = f"the script has {listed}" if public else "the script has none"
    for name in dict.fromkeys(names):
        if name not in known and name not in RESERVED:
            yield FieldError(
                _without_surrogates(name[:100]), f"is no parameter{did_you_mean(name, public)} ({has})"
            )


def _too_long(bound: Sequence[Bound]) -> Iterator[FieldError]:
    """Find the parameters that the system could not pass to a program (execve's E2BIG)."""
    total = 0
    for one in bound:
        sizes = [len(word.encode()) + 1 for word in one.param.words(one.texts)]
        if max(sizes, default=0) > MAX_ARGUMENT:
            yield FieldError(one.param.name, f"is longer than an argument may be, {MAX_ARGUMENT // 1024} KiB")
        before, total = total, total + sum(sizes) + _POINTER * len(sizes)
        if before <= MAX_ARGUMENTS < total:
            yield FieldError(
                one.param.name,
                f"makes all arguments together longer than they may be, {MAX_ARGUMENTS // 1024} KiB",
            )


def _record(one: Bound) -> dict[str, Any]:
    value: Any = list(one.texts) if one.param.multiple else one.texts[0]
    record = {"name": one.param.name, "value": value}
    return record | {"private": True} if one.param.private is not None else record
