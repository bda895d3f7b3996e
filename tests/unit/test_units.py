"""Durations, sizes and rates: what is read, what is refused, and that writing and reading agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drmaaticd.units import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3 hours", 10800),
        ("0.25 s", 0.25),
        ("90 days", 7_776_000),
        ("1 h 30 min", 5400),
        ("1h30min", 5400),
        ("250ms", 0.25),
        ("2 Weeks", 1_209_600),
        ("1 minute", 60),
        (" 5 s ", 5),
        ("30", 30),
        (7, 7),
        (0.5, 0.5),
        (0, 0),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "soon",
        "3 parsecs",
        "-1 s",
        -1,
        True,
        None,
        [],
        "1 s s",
        "1e3 s",
        "٣ s",
        math.inf,
        math.nan,
        1e300,
        "1_000 s",
        "200 years",
        "36501 days",
        ".5 s",
        "1, s",
    ],
)
def test_what_is_no_duration_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^(must be|has an unknown unit)"):
        parse_duration(bad)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2 GiB", 2 * 1024**3),
        ("512 MB", 512_000_000),
        ("1.5 KiB", 1536),
        ("10 kB", 10_000),
        ("1tib", 1024**4),
        ("100 bytes", 100),
        ("100", 100),
        (4096, 4096),
        (1e6, 1_000_000),
        (MAX_SIZE, MAX_SIZE),
        ("0.3 KiB", 307),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size
    assert isinstance(parse_size(text), int)


@pytest.mark.parametrize(
    "bad", ["", "2 G", "512M", "-1 MB", -1, True, None, 1.5, "9 EB", MAX_SIZE + 1, "1 PiB PiB"]
)
def test_what_is_no_size_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^(must be|has an unknown unit)"):
        parse_size(bad)


def test_an_ambiguous_unit_is_explained() -> None:
    with pytest.raises(ValueError, match=r"MB, GB \(1000\) or KiB, MiB"):
        parse_size("512M")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("30/s", 30),
        ("1 per 30 s", 1 / 30),
        ("100 per hour", 100 / 3600),
        ("5 / 2 min", 5 / 120),
        (2, 2),
        ("30", 30),
        ("0/s", 0),
        ("1per30s", 1 / 30),
    ],
)
def test_rates_are_read(text: object, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("bad", ["", "fast", "1 per 0 s", "1 perhaps s", "-1/s", True, None, "1/furlong"])
def test_what_is_no_rate_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"^(must be|has an unknown unit)"):
        parse_rate(bad)


@given(st.integers(min_value=0, max_value=int(MAX_DURATION) * 1000))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=MAX_SIZE))
def test_a_written_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.one_of(st.integers(1, 10_000).map(float), st.integers(1, 100_000).map(lambda n: 1 / n)))
def test_a_written_rate_reads_back(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=1e-5)


@given(st.text())
@example("1 per 0 s")
@example("99 PiB")
def test_every_text_is_read_or_refused_in_words(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        try:
            value = parse(text)
        except ValueError as error:
            words = str(error)
        else:
            words = "must be" if value >= 0 else "negative"
        assert words.startswith(("must be", "has an unknown unit"))


def test_words_are_the_ones_people_use() -> None:
    assert format_duration(0.25) == "0.25 s"
    assert format_duration(7_776_000) == "90 days"
    assert format_duration(3600) == "1 hour"
    assert format_duration(90) == "90 s"
    assert format_duration(0) == "0 s"
    assert format_size(2 * 1024**3) == "2 GiB"
    assert format_size(1000) == "1000 bytes"
    assert format_rate(1 / 30) == "1 per 30 s"
    assert format_rate(30) == "30/s"
