"""The ``Accept`` header (RFC 9110, section 12.5.1), as far as it decides between two types. Pure."""

from __future__ import annotations

import re

#: A media range and its parameters up to the weight.
_RANGE = re.compile(r"\s*([^\s;,]+)\s*((?:;[^,]*)?)")
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def prefers(header: str | None, kind: str, other: str) -> bool:
    """Whether the client would rather have `kind` than `other`, both media types. Without a word: no."""
    return header is not None and _weight(header, kind) > _weight(header, other)


def _weight(header: str, kind: str) -> float:
    """The weight of the most exact range that takes this type; 0 if none does."""
    main = kind.partition("/")[0]
    exactness = {"*/*": 1, f"{main}/*": 2, kind: 3}
    best, weight = 0, 0.0
    for named, parameters in _RANGE.findall(header):
        exact = exactness.get(named.lower(), 0)
        if exact > best:
            given = _WEIGHT.search(parameters)
            best, weight = exact, float(given[1]) if given else 1.0
    return weight
