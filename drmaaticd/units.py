"""Durations, sizes and rates as people write them, and back.

Pure. What a key may hold and within which bounds is said by the models that use these, in
`config` and `script_file`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

#: A century: longer than any timer needs, and well inside what every clock call takes.
MAX_DURATION = 100 * 365 * 86_400.0
#: Bytes; what a signed 64-bit file offset can hold.
MAX_SIZE = 2**63 - 1
#: Per second; more than one process can answer.
MAX_RATE = 1_000_000.0

#: Of the words for one unit, the first two are those that are written: singular and plural.
_DURATIONS: dict[str, tuple[Decimal, tuple[str, ...]]] = {
    "week": (Decimal(604_800), ("week", "weeks", "w")),
    "day": (Decimal(86_400), ("day", "days", "d")),
    "hour": (Decimal(3600), ("hour", "hours", "h")),
    "minute": (Decimal(60), ("minute", "minutes", "min")),
    "second": (Decimal(1), ("s", "s", "sec", "second", "seconds")),
    "millisecond": (Decimal("0.001"), ("ms", "ms", "millisecond", "milliseconds")),
}
_DURATION_WORDS = {word: factor for factor, words in _DURATIONS.values() for word in words}

_SIZE_WORDS: dict[str, int] = {"b": 1, "byte": 1, "bytes": 1} | {
    word: base**power
    for power, letter in enumerate("kmgtp", start=1)
    for base, word in ((1000, f"{letter}b"), (1024, f"{letter}ib"))
}
_SIZE_WRITTEN = ("PiB", "TiB", "GiB", "MiB", "KiB")

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_AMOUNT = re.compile(rf"({_NUMBER}) *([A-Za-z]*)")
_AMOUNTS = re.compile(rf"(?:{_NUMBER} *[A-Za-z]+ *)+")
_RATE = re.compile(rf"({_NUMBER}) *(?:/|per) *({_NUMBER})? *([A-Za-z]+)")


def parse_duration(value: Any) -> float:
    """Return seconds for ``"3 hours"``, ``"1 h 30 min"``, ``"0.25 s"`` or a number of seconds.

    Raises `ValueError`, worded for the one who wrote the value.
    """
    number = _plain_number(value)
    if number is None and isinstance(value, str) and _AMOUNTS.fullmatch(value.strip()):
        number = sum(
            (Decimal(amount) * _duration_factor(word) for amount, word in _AMOUNT.findall(value)), Decimal()
        )
    if number is None:
        raise ValueError('must be a duration such as "0.25 s", "10 min", "3 hours" or "90 days"')
    if not 0 <= number <= MAX_DURATION:
        raise ValueError("must be a duration from 0 s to 36500 days")
    return float(number)


def parse_size(value: Any) -> int:
    """Return whole bytes for ``"2 GiB"`` (1024), ``"512 MB"`` (1000) or a number of bytes.

    Raises `ValueError`, worded for the one who wrote the value.
    """
    number = _plain_number(value)
    if number is None and isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())):
        number = Decimal(match[1]) * _size_factor(match[2])
    if number is None:
        raise ValueError('must be a size such as "512 MB", "1.5 GiB" or a whole number of bytes')
    if not 0 <= number <= MAX_SIZE:
        raise ValueError("must be a size from 0 to 8 EiB")
    if isinstance(value, float) and number != int(number):
        raise ValueError("must be a whole number of bytes, or a text with a unit")
    return int(number)


def parse_rate(value: Any) -> float:
    """Return how often a second for ``"30/s"``, ``"1 per 30 s"``, ``"100 per hour"`` or a number.

    Raises `ValueError`, worded for the one who wrote the value.
    """
    number = _plain_number(value)
    if number is None and isinstance(value, str) and (match := _RATE.fullmatch(value.strip())):
        seconds = Decimal(match[2] or 1) * _duration_factor(match[3])
        if not seconds:
            raise ValueError("must be a rate over a time of more than 0 s")
        number = Decimal(match[1]) / seconds
    if number is None:
        raise ValueError('must be a rate such as "30/s", "100 per hour" or "1 per 30 s"')
    if not 0 <= number <= MAX_RATE:
        raise ValueError(f"must be a rate from 0 to {MAX_RATE:.0f}/s")
    return float(number)


def format_duration(seconds: float) -> str:
    """Return the shortest writing that `parse_duration` reads as exactly this."""
    exact = Decimal(repr(float(seconds)))
    for name, (factor, words) in _DURATIONS.items():
        if name in ("week", "millisecond"):  # "90 days" and "0.25 s" read better
            continue
        amount = exact / factor
        if amount == amount.to_integral_value() and amount >= 1:
            return f"{amount:.0f} {words[amount != 1]}"
    return f"{exact.normalize():f} s"


def format_size(size: int) -> str:
    """Return the shortest writing that `parse_size` reads as exactly this."""
    for power, word in zip(range(len(_SIZE_WRITTEN), 0, -1), _SIZE_WRITTEN, strict=True):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power} {word}"
    return f"{size} bytes"


def format_rate(rate: float) -> str:
    """Return a writing of a rate for people: ``30/s``, or ``1 per 30 s`` where that is whole."""
    if 0 < rate < 1 and math.isclose(round(1 / rate), 1 / rate, rel_tol=1e-9):
        return f"1 per {format_duration(round(1 / rate))}"
    return f"{rate:g}/s"


@dataclass(frozen=True, slots=True)
class Unit:
    """A kind of quantity: what the reference calls it, how it is written, and an example."""

    name: str
    format: Callable[[Any], str]


DURATION = Unit("duration", format_duration)
SIZE = Unit("size", format_size)
RATE = Unit("rate", format_rate)


def _plain_number(value: Any) -> Decimal | None:
    """The number that a bare TOML number, or a text of digits alone, stands for; None for others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(repr(value)) if math.isfinite(value) and abs(value) < 1e300 else None
    if isinstance(value, str) and re.fullmatch(_NUMBER, value.strip()):
        return Decimal(value.strip())
    return None


def _duration_factor(word: str) -> Decimal:
    try:
        return _DURATION_WORDS[word.lower()]
    except KeyError:
        raise ValueError(f"has an unknown unit {word!r}: write ms, s, min, h, days or weeks") from None


def _size_factor(word: str) -> int:
    try:
        return _SIZE_WORDS[word.lower()]
    except KeyError:
        # A bare M is 1000² to some tools and 1024² to others (Grid Engine has both, m and M).
        raise ValueError(
            f"has an unknown unit {word!r}: write kB, MB, GB (1000) or KiB, MiB, GiB (1024)"
        ) from None
