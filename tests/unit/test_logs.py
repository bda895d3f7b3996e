"""Log records stay one line each, whatever they hold."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd import logs


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("drmaaticd.test", level, __file__, 1, "%s", (message,), None)
    made.created, made.msecs = 1795514400.123, 123
    vars(made).update(extra)
    return made


def failed(message: str) -> logging.LogRecord:
    made = record("it failed", logging.ERROR)
    try:
        raise ValueError(message)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_text() -> None:
    line = logs.TextFormatter().format(record("hello, wörld"))
    assert line == "2026-11-24T10:00:00.123Z INFO drmaaticd.test: hello, wörld"


@pytest.mark.parametrize(
    ("text", "request_id", "expected"),
    [
        ("task 1 is deleted", "abc", "task 1 is deleted [abc]"),
        ("request abc: gone", "abc", "request abc: gone"),
        ("outside of requests", "-", "outside of requests"),
    ],
)
def test_the_request_of_a_record_is_named_once(text: str, request_id: str, expected: str) -> None:
    made = record(text, request_id=request_id)
    assert logs.TextFormatter().format(made).endswith(f": {expected}")
    assert logs.JournalFormatter().format(made).endswith(f": {expected}")
    assert json.loads(logs.JsonFormatter().format(made))["request_id"] == request_id


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb", "a\\nb"),
        ("\r", "\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x85\u2028", "\\x85\\u2028"),
        ("\u202ereversed", "\\u202ereversed"),
        ("\udc80", "\\udc80"),
        ("na\u00efve \U0001f9ec", "na\u00efve \U0001f9ec"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert logs.escape(text) == escaped


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    for formatter in (logs.TextFormatter(), logs.JournalFormatter(), logs.JsonFormatter()):
        assert len(formatter.format(record(text)).splitlines()) == 1


@given(st.text())
def test_an_exception_cannot_forge_a_record(text: str) -> None:
    first, *others = logs.TextFormatter().format(failed(text)).split("\n")
    assert first.endswith("it failed")
    assert others
    assert all(line.startswith("  | ") for line in others)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_journal_priorities(level: int, priority: int) -> None:
    assert logs.JournalFormatter().format(record("text", level)) == f"<{priority}>drmaaticd.test: text"


def test_every_line_of_a_traceback_has_its_priority() -> None:
    lines = logs.JournalFormatter().format(failed("no\n<7>forged")).splitlines()
    assert len(lines) > 3
    assert all(line.startswith(("<3>drmaaticd.test: ", "<3>  | ")) for line in lines)


def test_json() -> None:
    fields = json.loads(logs.JsonFormatter().format(record("a\nb", request="42")))
    assert fields == {
        "time": "2026-11-24T10:00:00.123Z",
        "level": "info",
        "logger": "drmaaticd.test",
        "message": "a\nb",
        "request": "42",
    }
    assert "ValueError: why" in json.loads(logs.JsonFormatter().format(failed("why")))["exception"]


def test_under_journal(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        there = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs.under_journal(stream, there)
        assert not logs.under_journal(stream, {"JOURNAL_STREAM": "1:1"})
        assert not logs.under_journal(stream, {})
    assert not logs.under_journal(io.StringIO(), there)


def test_formatter() -> None:
    assert isinstance(logs.formatter("json", journal=True), logs.JsonFormatter)
    assert isinstance(logs.formatter("text", journal=True), logs.JournalFormatter)
    assert isinstance(logs.formatter("text", journal=False), logs.TextFormatter)
