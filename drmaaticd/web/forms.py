"""Small form bodies that are read whole: ``application/x-www-form-urlencoded`` and JSON. Pure.

Both become pairs of names and strings, repeated fields as repeated pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from drmaaticd.errors import FieldError, InvalidInput, TooLarge

#: Bytes of a form that is no multipart form.
MAX_BODY = 1024 * 1024

#: Fields of one form, multipart ones and their files too.
MAX_FIELDS = 1000

#: Bytes that are percent-decoded in one call.
SLICE = 16 * 1024

Pairs = list[tuple[str, str]]


def too_many_fields() -> TooLarge:
    """The error of a form with more fields than `MAX_FIELDS`."""
    return TooLarge(f"A form has at most {MAX_FIELDS} fields.")


def parse_urlencoded(body: bytes) -> Pairs:
    """The fields of an urlencoded form (URL standard, section 5.1), which must be UTF-8.

    Raises `InvalidInput` for all fields that are not, `TooLarge` for too many.
    """
    if body.count(b"&") >= MAX_FIELDS:
        raise too_many_fields()
    pairs: Pairs = []
    errors: list[FieldError] = []
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        if not part:
            continue
        try:
            pairs.append((_decode(name), _decode(value)))
        except UnicodeDecodeError:
            shown = unquote_to_bytes(name).decode("utf-8", "replace")
            errors.append(FieldError(shown, "must be UTF-8"))
    if errors:
        raise InvalidInput("The form is broken.", errors=errors)
    return pairs


def _decode(text: bytes) -> str:
    return b"".join(_decoded_slices(text.replace(b"+", b" "))).decode()


def _decoded_slices(text: bytes) -> Iterator[bytes]:
    """Decode bit by bit: one call for a megabyte of escapes would keep all other threads waiting."""
    start = 0
    while start < len(text):
        end = start + SLICE
        escape = text.rfind(b"%", end - 2, end)
        if escape != -1 and end < len(text):  # an escape is not cut
            end = escape
        yield unquote_to_bytes(text[start:end])
        start = end


class _Number(str):
    """A number as it was written: ``1.50`` stays ``1.50``."""

    __slots__ = ()


class _Repeated(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


def parse_json(body: bytes) -> Pairs:
    """The fields of a JSON object: strings, numbers, booleans, null (left out), and lists of the first three.

    Numbers keep their text. Raises `InvalidInput` for anything else, a repeated name too, and
    `TooLarge` for too many values.
    """
    # A field has at most four quotes that are not escaped; this finds what a parser only finds after
    # having built it all, a name repeated a hundred thousand times for one.
    if body.count(b'"') - body.count(b'\\"') > 4 * MAX_FIELDS:
        raise too_many_fields()
    # orjson is the strict one (NaN, surrogates, depth) and fast enough to look first; the standard
    # library, which alone can keep a number's text, then sees nothing unreasonable.
    try:
        _check_shape(orjson.loads(body))
        document = json.loads(
            body, parse_int=_Number, parse_float=_Number, object_pairs_hook=_without_repetition
        )
    except _Repeated as error:
        raise InvalidInput(
            "The form is broken.", errors=[FieldError(error.name, "is there more than once; use a list")]
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The body is no valid JSON.") from error
    return list(_pairs(document))


def _check_shape(document: Any) -> None:
    if not isinstance(document, dict):
        raise InvalidInput("The body must be a JSON object.")
    errors = [
        FieldError(name, "must be a string, a number, true or false, or a list of these")
        for name, value in document.items()
        if any(isinstance(member, dict | list) for member in _members(value))
        or (isinstance(value, list) and None in value)
    ]
    if errors:
        raise InvalidInput("The form is broken.", errors=errors)
    if len(document) + sum(len(_members(value)) - 1 for value in document.values()) > MAX_FIELDS:
        raise too_many_fields()


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise _Repeated(name)
        document[name] = value
    return document


def _pairs(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        for member in _members(value):
            if isinstance(member, bool):
                yield name, "true" if member else "false"
            elif member is not None:
                yield name, str(member)
