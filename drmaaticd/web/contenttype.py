"""The ``Content-Type`` of a request: which form it announces, and the boundary of a multipart one. Pure."""

from __future__ import annotations

import re

from drmaaticd.errors import InvalidInput, UnsupportedMediaType

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"

#: RFC 2046, section 5.1.1: 1 to 70 of ``bchars``, the last one no space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")

#: A parameter whose value is quoted, or ends with the next semicolon: clients forget the quotes
#: that a boundary such as ``==1/2==`` needs.
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;]*))')


def parse(header: str | None) -> tuple[str, dict[str, str]]:
    """The media type in lower case, and its parameters."""
    kind, semicolon, rest = (header or "").partition(";")
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", in_quotes) if in_quotes else bare.strip()
        for name, in_quotes, bare in _PARAMETER.findall(semicolon + rest)
    }
    return kind.strip().lower(), parameters


def form_kind(header: str | None) -> tuple[str, str]:
    """Which form a body is, and its boundary (empty unless it is a multipart form).

    Raises `UnsupportedMediaType` or, for a boundary that is none, `InvalidInput`.
    """
    kind, parameters = parse(header)
    if kind not in (MULTIPART, URLENCODED, JSON):
        raise UnsupportedMediaType(f"The body must be {MULTIPART}, {URLENCODED} or {JSON}.")
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("The body must be UTF-8.")
    if kind != MULTIPART:
        return kind, ""
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidInput(
            "The multipart form's boundary is missing or not 1 to 70 of the characters allowed."
        )
    return kind, boundary
