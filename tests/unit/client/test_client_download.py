"""Downloads: whole or not at all, continued where they broke off, and never outside of their folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import ApiError, Client, ClientError, Refused, Unreachable
from drmaaticd.client import download as downloads
from tests.httpservice import TASK, Content, Service

BLOCK = downloads.BLOCK
DATA = bytes(range(251)) * (5 * BLOCK // 251)


def listed(*paths: str, size: int = len(DATA)) -> list[dict[str, Any]]:
    return [{"path": path, "size": size, "modified": "2026-11-24T10:00:00.123Z"} for path in paths]


def offer(service: Service, content: Content, path: str = "out.bin") -> Content:
    """The task has this one file."""
    service.on(f"GET /task/{TASK}/file/?details=1", listed(path, size=len(content.data)))
    service.answers[f"GET /task/{TASK}/file/{path}"] = [content]
    service.answers[f"HEAD /task/{TASK}/file/{path}"] = [lambda headers: (200, {"ETag": content.etag}, b"")]
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download(service: Service, client: Client, tmp_path: Path) -> None:
    offer(service, Content(DATA))
    told: list[tuple[int, int | None]] = []
    stored = client.download(
        TASK, tmp_path, progress=lambda file: lambda done, total: told.append((done, total))
    )
    assert stored == [tmp_path / "out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == DATA
    assert names(tmp_path) == ["out.bin"]
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))


def test_what_breaks_off_is_continued(service: Service, client: Client, tmp_path: Path) -> None:
    content = offer(service, Content(DATA, breaks=(BLOCK + 10, 0, 2 * BLOCK)))
    client.download(TASK, tmp_path)
    assert (tmp_path / "out.bin").read_bytes() == DATA
    assert content.ranges == [None, f"bytes={BLOCK}-", f"bytes={BLOCK}-", f"bytes={3 * BLOCK}-"]
    assert [headers.get("If-Range") for _, path, headers, _ in service.requests if "out.bin" in path] == [
        None,
        '"one"',
        '"one"',
        '"one"',
    ]


def test_the_next_call_continues_what_this_one_could_not(service: Service, tmp_path: Path) -> None:
    content = offer(service, Content(DATA, breaks=(BLOCK,)))
    with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable, match="broke off"):
            client.download(TASK, tmp_path)
        assert not (tmp_path / "out.bin").exists()
        assert len(names(tmp_path)) == 1
        client.download(TASK, tmp_path)
    assert content.ranges == [None, f"bytes={BLOCK}-"]
    assert (tmp_path / "out.bin").read_bytes() == DATA
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("when", ["between calls", "in a call"])
def test_another_content_is_fetched_from_its_start(service: Service, tmp_path: Path, when: str) -> None:
    content = offer(service, Content(DATA, breaks=(BLOCK,)))
    with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable):
            client.download(TASK, tmp_path)
        if when == "between calls":
            content.etag = '"two"'
        else:  # after the question for its tag
            service.answers[f"HEAD /task/{TASK}/file/out.bin"] = [(200, {"ETag": '"one"'}, b"")]
            content.etag = '"two"'
        content.data = DATA[::-1]
        client.download(TASK, tmp_path)
    assert (tmp_path / "out.bin").read_bytes() == DATA[::-1]
    assert names(tmp_path) == ["out.bin"]


def test_a_part_that_is_all_of_it(
    service: Service, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the last byte and the renaming."""
    content = offer(service, Content(DATA))

    def fails(self: Path, target: Path) -> Path:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="killed"):
            client.download(TASK, tmp_path)
    client.download(TASK, tmp_path)
    assert content.ranges == [None, f"bytes={len(DATA)}-"]
    assert (tmp_path / "out.bin").read_bytes() == DATA
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_without_a_strong_tag_nothing_is_kept(service: Service, tmp_path: Path, etag: str | None) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", listed("out.bin"))
    headers = {"X-Length": str(len(DATA))} | ({"ETag": etag} if etag else {})
    service.answers[f"GET /task/{TASK}/file/out.bin"] = [(200, headers, DATA[:5]), (200, {}, DATA)]
    with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable):
            client.download(TASK, tmp_path)
        assert names(tmp_path) == []
        client.download(TASK, tmp_path)
    assert "Range" not in service.requests[-1][2]
    assert (tmp_path / "out.bin").read_bytes() == DATA


def test_a_service_that_sends_another_part(service: Service, tmp_path: Path) -> None:
    content = offer(service, Content(DATA, breaks=(BLOCK,)))
    with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable):
            client.download(TASK, tmp_path)
        wrong = {"ETag": content.etag, "Content-Range": f"bytes {BLOCK - 1}-{len(DATA) - 1}/{len(DATA)}"}
        service.answers[f"GET /task/{TASK}/file/out.bin"] = [(206, wrong, DATA[BLOCK - 1 :])]
        with pytest.raises(ClientError, match="another part"):
            client.download(TASK, tmp_path)
    assert not (tmp_path / "out.bin").exists()


def test_two_at_once_do_not_mix(service: Service, tmp_path: Path) -> None:
    offer(service, Content(DATA, breaks=(BLOCK,)))
    with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable):
            client.download(TASK, tmp_path)
        (part,) = tmp_path.iterdir()
        with part.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(Refused, match="another process"):
                client.download(TASK, tmp_path)
        client.download(TASK, tmp_path)


def test_what_is_there_is_left_alone(service: Service, client: Client, tmp_path: Path) -> None:
    content = offer(service, Content(DATA))
    client.download(TASK, tmp_path)
    client.download(TASK, tmp_path)
    assert len(content.ranges) == 1
    (tmp_path / "out.bin").write_bytes(b"mine")
    with pytest.raises(Refused, match="exists already"):
        client.download(TASK, tmp_path)
    assert (tmp_path / "out.bin").read_bytes() == b"mine"
    client.download(TASK, tmp_path, replace=True)
    assert (tmp_path / "out.bin").read_bytes() == DATA


def test_only_some(service: Service, client: Client, tmp_path: Path) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", listed("a", "b"))
    service.on(f"GET /task/{TASK}/file/b", DATA)
    client.download(TASK, tmp_path, ["b"])
    assert names(tmp_path) == ["b"]
    with pytest.raises(Refused, match="no file c"):
        client.download(TASK, tmp_path, ["c"])


def test_a_name_that_is_no_text(service: Service, client: Client, tmp_path: Path) -> None:
    path = "sub/a%20b%FF.txt"
    service.on(f"GET /task/{TASK}/file/?details=1", listed(path))
    service.on(f"GET /task/{TASK}/file/{path}", DATA)
    client.download(TASK, tmp_path)
    assert os.listdir(os.fsencode(tmp_path / "sub")) == [b"a b\xff.txt"]  # noqa: PTH208 - as bytes


HOSTILE = ["..%2Fx", "/etc/x", "a/../../x", "%2E%2E/x", ".", "", "a//b", "a%00b", "../x", "a/.", "%2Fetc%2Fx"]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_file_leaves_the_folder(service: Service, client: Client, tmp_path: Path, path: str) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", listed("good", path))
    service.on(f"GET /task/{TASK}/file/good", DATA)
    with pytest.raises(Refused, match="outside"):
        client.download(TASK, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@given(st.binary(min_size=1, max_size=40))
def test_a_place_is_always_inside(name: bytes) -> None:
    folder = Path("/nowhere/out")
    try:
        target = downloads.place(folder, "".join(f"%{byte:02X}" for byte in name))
    except Refused:
        return
    assert ".." not in target.parts
    assert target.is_relative_to(folder)
    assert target != folder
    assert target.name.translate(dict.fromkeys(range(32))) == target.name


def test_a_link_does_not_lead_out(service: Service, client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path)
    service.on(f"GET /task/{TASK}/file/?details=1", listed("sub/x"))
    with pytest.raises(Refused, match="link"):
        client.download(TASK, tmp_path / "out")
    (tmp_path / "out" / "x").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_bytes(b"kept")
    service.on(f"GET /task/{TASK}/file/?details=1", listed("x"))
    service.on(f"GET /task/{TASK}/file/x", DATA)
    with pytest.raises(Refused, match="exists"):
        client.download(TASK, tmp_path / "out")
    client.download(TASK, tmp_path / "out", replace=True)
    assert (tmp_path / "victim").read_bytes() == b"kept"
    assert (tmp_path / "out" / "x").read_bytes() == DATA


def test_names_that_a_terminal_would_obey(service: Service, client: Client, tmp_path: Path) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", listed("a%1B%5B2Jb"))
    service.on(f"GET /task/{TASK}/file/a%1B%5B2Jb", DATA)
    client.download(TASK, tmp_path)
    assert names(tmp_path) == ["a_[2Jb"]
    service.on(f"GET /task/{TASK}/file/?details=1", listed("c%1B", "c%07"))
    with pytest.raises(Refused, match="two files"):
        client.download(TASK, tmp_path)


def test_an_archive(service: Service, client: Client, tmp_path: Path) -> None:
    service.answers[f"GET /task/{TASK}/download"] = [(200, {"X-Length": "100"}, b"PK"), (200, {}, b"PK all")]
    assert client.archive(TASK, tmp_path / "a.zip") == tmp_path / "a.zip"
    assert (tmp_path / "a.zip").read_bytes() == b"PK all"
    service.on(f"GET /task/{TASK}/download?format=tar.gz", b"\x1f")
    client.archive(TASK, tmp_path / "a.tar.gz", "tar.gz")
    assert names(tmp_path) == ["a.tar.gz", "a.zip"]
    service.on(f"GET /task/{TASK}/download", {"detail": "has not ended"}, status=404)
    with pytest.raises(ApiError):
        client.archive(TASK, tmp_path / "b.zip")
    assert names(tmp_path) == ["a.tar.gz", "a.zip"]


@pytest.mark.parametrize("modified", ["", "yesterday", None])
def test_a_time_that_is_none(service: Service, client: Client, tmp_path: Path, modified: str | None) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", [{"path": "x", "size": 1, "modified": modified}])
    service.on(f"GET /task/{TASK}/file/x", DATA)
    client.download(TASK, tmp_path)
    assert names(tmp_path) == ["x"]
