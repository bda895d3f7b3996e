"""The audit trail's lines: as text one line that cannot be forged, as JSON one member a value."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd import context, logs
from drmaaticd.auth import audit


@pytest.fixture
def request_id() -> Iterator[str]:
    token = context.request_id.set("a-request")
    yield "a-request"
    context.request_id.reset(token)


def written(kind: str, event: str, **fields: str | None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.formatter(kind, journal=False))
    audit.log.addHandler(handler)
    level = audit.log.level
    audit.log.setLevel(logging.INFO)
    try:
        audit.record(event, **fields)
    finally:
        audit.log.removeHandler(handler)
        audit.log.setLevel(level)
    return stream.getvalue()


def test_as_text(request_id: str) -> None:
    line = written(
        "text", "task.deleted", user="ORCID:0000", address="2001:db8::1", task=None, by="the owner"
    )
    assert line.split(" ", 1)[1] == (
        "INFO drmaaticd.audit: task.deleted user=ORCID:0000 address=2001:db8::1 "
        'by="the owner" request_id=a-request\n'
    )


def test_as_json(request_id: str) -> None:
    record = json.loads(written("json", "limit.hit", address="192.0.2.1", limit="rate"))
    assert (record["event"], record["address"], record["limit"], record["request_id"]) == (
        *("limit.hit", "192.0.2.1", "rate", "a-request"),
    )
    assert "user" not in record


@given(st.text(max_size=60))
def test_no_value_ends_its_line_or_passes_for_another(text: str) -> None:
    line = written("text", "token.refused", claimed=text)
    assert line.count("\n") == 1
    assert line.isascii()
    rest = line.partition(" claimed=")[2].removesuffix(" request_id=-\n")
    assert rest == text or json.loads(rest) == text
