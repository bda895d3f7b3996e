"""Multipart forms: the conformance suite of others, and every way of cutting a body into pieces."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multipart_form_data_conformance import get_tests_dir

from drmaaticd.errors import DrmaaticdError, InvalidInput
from drmaaticd.web.contenttype import form_kind
from drmaaticd.web.parts import MultipartForm
from tests.web.fakes import FakeCaller, FakeDraft, FakeService
from tests.web.wire import BOUNDARY, form, part

#: Where we differ from the suite, and why.
REFUSED = {
    "061-lf-only-lenient": "bare line feeds are no line ends (RFC 2046, section 4.1.1)",
    "062-mixed-endings": "likewise: the header never ends",
}
#: Where we read a name as browsers write it, who do not double a backslash.
NAMES = {"026-filename-with-backslash": "folder\\\\file.txt"}

CASES = sorted(get_tests_dir().glob("*/*/test.json"))


def run(boundary: str, pieces: Iterable[bytes]) -> FakeDraft:
    async def feed() -> FakeDraft:
        draft = FakeDraft(FakeService(), FakeCaller(None, False, ""), None)
        multipart = MultipartForm(boundary, draft)
        for piece in pieces:
            await multipart.feed(piece)
        await multipart.end()
        return draft

    return asyncio.run(feed())


def expected_parts(case: dict[str, Any]) -> tuple[list[tuple[str, bytes]], list[tuple[str, str, bytes]]]:
    """The fields and files of a case; content of which only the digest is given stands for itself."""
    fields, files = [], []
    for entry in case["expected"]["parts"]:
        if "body_text" in entry:
            content = entry["body_text"].encode()
        elif "body_base64" in entry:
            content = base64.b64decode(entry["body_base64"])
        else:
            content = entry["body_sha256"].encode()
        filename = entry["filename"] if entry["filename"] is not None else entry.get("filename_star")
        filename = NAMES.get(case["id"], filename)
        if filename is None:
            fields.append((entry["name"], content))
        elif filename or content:
            files.append((entry["name"], filename, content))
    return fields, files


def test_there_are_cases() -> None:
    assert len(CASES) > 50


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_conformance(path: Path, size: int) -> None:
    case = json.loads(path.read_text())
    header = json.loads((path.parent / "headers.json").read_text())["content-type"]
    body = (path.parent / "input.raw").read_bytes()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    _, boundary = form_kind(header)
    if not case["expected"]["valid"] or case["id"] in REFUSED:
        with pytest.raises(InvalidInput):
            run(boundary, pieces)
        return
    draft = run(boundary, pieces)
    fields, files = expected_parts(case)
    assert [(name, value.encode()) for name, value in draft.fields] == fields
    got = [(name, client, bytes(data)) for name, client, data in draft.files]
    assert [(name, client) for name, client, _ in got] == [(name, client) for name, client, _ in files]
    for (*_, content), (*_, wanted) in zip(got, files, strict=True):
        assert wanted in (content, hashlib.sha256(content).hexdigest().encode())


NEAR = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", BOUNDARY.encode(), b"\r\n--", b"x"])).map(
    b"".join
)
CONTENT = (st.binary(max_size=200) | NEAR).filter(
    lambda data: b"\r\n--" + BOUNDARY.encode() not in b"\r\n" + data
)


@given(st.lists(CONTENT, max_size=4), st.lists(st.integers(1, 60), min_size=1, max_size=5))
@settings(deadline=None)
def test_any_content_in_any_pieces(contents: list[bytes], sizes: list[int]) -> None:
    body = form(*[part(f"f{number}", content, "n") for number, content in enumerate(contents)])
    pieces, at, turn = [], 0, 0
    while at < len(body):
        pieces.append(body[at : at + sizes[turn % len(sizes)]])
        at += len(pieces[-1])
        turn += 1
    draft = run(BOUNDARY, pieces)
    assert [bytes(data) for _, _, data in draft.files] == contents


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(deadline=None)
def test_noise_is_refused_and_nothing_else(noise: bytes, size: int) -> None:
    good = form(part("a", b"1"), part("b", b"2", "f"))
    for body in (noise, good[: len(noise)], good[:100] + noise, part("a", noise) + noise):
        with pytest.raises(DrmaaticdError):
            run(BOUNDARY, [body[at : at + size] for at in range(0, len(body), size)])


def test_small_pieces_are_collected_and_large_ones_passed_on() -> None:
    written: list[int] = []

    class Counting(FakeDraft):
        async def write(self, data: bytes) -> None:
            written.append(len(data))
            await super().write(data)

    async def feed() -> None:
        draft = Counting(FakeService(), FakeCaller(None, False, ""), None)
        multipart = MultipartForm(BOUNDARY, draft)
        body = form(part("a", b"x" * 3_000_000, "f"))
        for at in range(0, len(body), 1000):
            await multipart.feed(body[at : at + 1000])
        await multipart.end()

    asyncio.run(feed())
    assert sum(written) == 3_000_000
    assert len(written) == 6


def test_a_form_of_many_parts_lets_others_run() -> None:
    async def turns() -> int:
        draft = FakeDraft(FakeService(), FakeCaller(None, False, ""), None)
        body = form(*[part("a", b"") for _ in range(1000)])
        feeding = asyncio.create_task(MultipartForm(BOUNDARY, draft).feed(body))
        count = 0
        while not feeding.done():
            await asyncio.sleep(0)
            count += 1
        await feeding
        return count

    assert asyncio.run(turns()) > 20
