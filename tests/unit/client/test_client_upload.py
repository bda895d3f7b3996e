"""The upload encoder against a parser that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import upload
from tests.httpservice import parts_of


def parsed(body: upload.MultipartBody) -> list[tuple[str, str | None, bytes]]:
    data = b"".join(body)
    assert len(data) == len(body)
    return parts_of(body.content_type, data)


@given(
    st.lists(st.tuples(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(st.characters(codec="utf-8"))))
)
def test_fields_arrive_as_they_are(fields: list[tuple[str, str]]) -> None:
    expected = [(name, None, value.encode()) for name, value in fields]
    assert parsed(upload.MultipartBody(fields, [])) == expected


@pytest.mark.parametrize("size", [0, 1, upload.BLOCK, upload.BLOCK + 1])
def test_files_arrive_as_they_are(tmp_path: Path, size: int) -> None:
    path = tmp_path / 'my "genes" ü.fasta'
    path.write_bytes(b"x" * size)
    body = upload.MultipartBody([("k", "v")], [("input", path)])
    for _ in range(2):  # a second try sends the same
        assert parsed(body)[0] == ("k", None, b"v")
        name, filename, content = parsed(body)[1]
        assert (name, content) == ("input", b"x" * size)
        assert filename is not None
        assert filename.replace("%22", '"') == path.name


def test_a_file_that_grows_is_sent_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first")
    body = upload.MultipartBody([], [("input", path)])
    path.write_bytes(b"first and more")
    assert parsed(body) == [("input", "log", b"first")]


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first")
    body = upload.MultipartBody([], [("input", path)])
    path.write_bytes(b"f")
    with pytest.raises(upload.FileChanged, match="became shorter"):
        list(body)


def test_a_file_that_is_none_is_refused_before_sending(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing"):
        upload.MultipartBody([], [("input", tmp_path / "missing")])
    with pytest.raises(OSError, match=r"no regular file"):
        upload.MultipartBody([], [("input", tmp_path)])


def test_progress_begins_anew_with_a_second_try(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 * upload.BLOCK))
    told: list[tuple[int, int | None]] = []
    body = upload.MultipartBody([], [("input", path)], lambda done, total: told.append((done, total)))
    for _ in range(2):
        told.clear()
        list(body)
        assert told[0] == (0, len(body))
        assert told[-1] == (len(body), len(body))
        assert told == sorted(told)


def test_a_file_may_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    assert parsed(upload.MultipartBody([], [("k", upload.Upload(tmp_path / "x", "a.fa"))])) == [
        ("k", "a.fa", b"1")
    ]
