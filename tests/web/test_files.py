"""Files on their way out: ranges, conditions, headers, clients that go away or do not read."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
import zipfile

import pytest
import requests

from drmaaticd.web import transfer
from tests.web.fakes import TASK, FakeOpened, FakeService
from tests.web.running import Running, until
from tests.web.wire import at_end, read_answer

BIG = os.urandom(3 * transfer.BLOCK + 12345)


def url(running: Running, path: str) -> str:
    return f"{running.url}/task/{TASK}/file/{path}"


def all_closed(service: FakeService) -> bool:
    return all(opened.closed for opened in service.opened) and all(a.closed for a in service.archives)


def test_a_file_and_its_headers(running: Running) -> None:
    running.service.contents[b"big.bin"] = BIG
    response = requests.get(url(running, "big.bin"), timeout=20)
    assert response.status_code == 200
    assert response.content == BIG
    headers = response.headers
    assert headers["Content-Length"] == str(len(BIG))
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == 'inline; filename="big.bin"'
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["X-Content-Type-Options"] == "nosniff"
    until(lambda: all_closed(running.service))


def test_html_scripts(running: Running) -> None:
    running.service.html_scripts = True
    running.service.contents[b"report.html"] = b"<script>"
    headers = requests.get(url(running, "report.html"), timeout=20).headers
    assert headers["Content-Security-Policy"] == "sandbox allow-scripts"
    assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("asked", "status", "content", "shown"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
        ("Bytes=0-99999999999999999999", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=99999999999999999999-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=" + "9" * 5000 + "-", 416, None, "bytes */10"),
        ("bytes=-" + "9" * 5000, 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-" + "9" * 5000, 206, b"56789", "bytes 5-9/10"),
        ("bytes=" + "0" * 5000 + "4-5", 206, b"45", "bytes 4-5/10"),
    ],
)
def test_ranges(running: Running, asked: str, status: int, content: bytes | None, shown: str | None) -> None:
    response = requests.get(url(running, "log.txt"), headers={"Range": asked}, timeout=20)
    assert response.status_code == status
    assert response.headers.get("Content-Range") == shown
    if content is None:
        assert response.json()["status"] == 416
    else:
        assert response.content == content
    until(lambda: all_closed(running.service))


def test_range_of_a_large_file(running: Running) -> None:
    running.service.contents[b"big.bin"] = BIG
    start, end = 1000, 2 * transfer.BLOCK + 7
    response = requests.get(url(running, "big.bin"), headers={"Range": f"bytes={start}-{end}"}, timeout=20)
    assert response.content == BIG[start : end + 1]


def test_an_empty_file(running: Running) -> None:
    for headers, status in (({}, 200), ({"Range": "bytes=0-"}, 416), ({"Range": "bytes=-5"}, 200)):
        response = requests.get(url(running, "empty"), headers=headers, timeout=20)
        assert response.status_code == status
    assert response.content == b""
    until(lambda: all_closed(running.service))


def test_conditions(running: Running) -> None:
    def get(**headers: str) -> requests.Response:
        return requests.get(
            url(running, "log.txt"),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            timeout=20,
        )

    etag = get().headers["ETag"]
    assert etag.startswith('"')
    for same in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        response = get(If_None_Match=same, Range="bytes=0-1")
        assert response.status_code == 304
        assert response.headers["ETag"] == etag
        assert response.content == b""
    assert get(If_None_Match='"x"').status_code == 200
    assert get(If_None_Match="garbage").status_code == 200
    assert get(If_Range=etag, Range="bytes=0-1").status_code == 206
    for other in ('"x"', f"W/{etag}", "Sat, 29 Oct 1994 19:43:31 GMT"):
        assert get(If_Range=other, Range="bytes=0-1").status_code == 200
    until(lambda: all_closed(running.service))


def test_a_growing_log_is_followed(running: Running) -> None:
    contents = running.service.contents
    assert (
        requests.get(url(running, "log.txt"), headers={"Range": "bytes=10-"}, timeout=20).status_code == 416
    )
    contents[b"log.txt"] += b"new"
    response = requests.get(url(running, "log.txt"), headers={"Range": "bytes=10-"}, timeout=20)
    assert (response.status_code, response.content) == (206, b"new")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("bad%ff", b"bad\xff"),
        ("a/b%20c", b"a/b c"),
        ("%2541", b"%41"),
        ("100%", b"100%"),
        ("-x", b"-x"),
        ("a%0Ab", b"a\nb"),
        ("%e2%82%ac.txt", "€.txt".encode()),
        ("x" * 255, b"x" * 255),
        ("a;b%3Fc", b"a;b?c"),
        ("...", b"..."),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_names(running: Running, raw: str, name: bytes, slash: str) -> None:
    running.service.contents = {name: b"found"}
    with running.connect() as sock:
        sock.sendall(f"GET /task/{TASK}/file/{raw}{slash} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = read_answer(sock)
    assert (answer.status, answer.body) == (200, b"found")
    assert "\n" not in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    "raw",
    ["..", "../x", "a/../log.txt", "%2e%2e/x", "./log.txt", "a%2Flog.txt", "%2e%2e%2fx", "log.txt%00",
     "/log.txt", "log.txt//", "a//b", "%2F", "log%252Etxt"],
)  # fmt: skip
def test_names_of_nothing(running: Running, raw: str) -> None:
    running.service.contents = {b"log.txt": b"", b"a/log.txt": b"", b"a/b": b""}
    with running.connect() as sock:
        sock.sendall(f"GET /task/{TASK}/file/{raw} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        read_answer(sock).problem(404)
    assert not running.service.opened


def test_head(running: Running) -> None:
    with running.connect() as sock:
        for path, length in (("file/log.txt", "10"), ("file/empty", "0"), ("download", None)):
            sock.sendall(f"HEAD /task/{TASK}/{path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n".encode())
            answer = read_answer(sock, head=True)
            assert answer.status == 200
            if length is not None:
                assert answer.headers["content-length"] == length
            else:
                assert int(answer.headers["content-length"]) > 100
    until(lambda: all_closed(running.service))


def test_head_tells_no_length_that_is_not_known(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(f"HEAD /task/{TASK}/download?format=tar.gz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = read_answer(sock, head=True)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/gzip"
        assert "content-length" not in answer.headers
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")  # on the same connection
        assert read_answer(sock).json() == {"status": "ok"}
    until(lambda: all_closed(running.service))


def test_download(running: Running) -> None:
    response = requests.get(f"{running.url}/task/{TASK}/download/", timeout=20)
    assert response.headers["Content-Type"] == "application/zip"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{TASK}.zip"'
    assert response.headers["Content-Length"] == str(len(response.content))
    with zipfile.ZipFile(io.BytesIO(response.content)) as packed:
        assert packed.read(f"{TASK}/log.txt") == b"0123456789"
    response = requests.get(f"{running.url}/task/{TASK}/download?format=tar.gz", timeout=20)
    assert response.headers["Content-Type"] == "application/gzip"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert requests.get(f"{running.url}/task/{TASK}/download?format=rar", timeout=20).status_code == 400
    until(lambda: all_closed(running.service))


@pytest.mark.logs("a transfer broke off")
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_breaks_is_not_taken_for_whole(running: Running, kind: str) -> None:
    running.service.contents[b"big"] = BIG
    running.service.archive_error = RuntimeError("vanished")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{running.url}/task/{TASK}/download?format={kind}", timeout=20)
    until(lambda: all_closed(running.service))


@pytest.mark.logs("a transfer broke off")
def test_a_file_that_shrinks(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.service.contents[b"big"] = BIG
    monkeypatch.setattr("tests.web.fakes.FakeOpened", lambda content: FakeOpened(content, len(content) + 1))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url(running, "big"), timeout=20)
    until(lambda: all_closed(running.service))


def test_the_client_goes_away(running: Running) -> None:
    running.service.contents[b"big"] = BIG * 20
    with running.connect() as sock:
        sock.sendall(f"GET /task/{TASK}/file/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert sock.recv(1000)
    until(lambda: running.service.opened and all_closed(running.service))
    until(lambda: not running.app.requests_under_way)


def test_a_client_that_takes_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.1)
    running.service.contents[b"big"] = BIG * 20
    with running.connect() as sock:
        sock.sendall(f"GET /task/{TASK}/file/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: running.service.opened and all_closed(running.service), "giving up")
        until(lambda: not running.app.requests_under_way)


def test_a_client_that_takes_slowly(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience is counted in bytes taken: a whole block may take many times as long."""
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.4)
    content = running.service.contents[b"big"] = BIG * 4
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", running.port))
        sock.sendall(f"GET /task/{TASK}/file/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = bytearray()
        for _ in range(20):
            got += sock.recv(60_000)
            time.sleep(0.05)
        while data := sock.recv(1_000_000):
            got += data
    assert got.endswith(content)


def test_many_that_take_slowly_hold_smaller_blocks(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """All transfers together hold no more than `HELD`, however many there are."""
    monkeypatch.setattr(transfer, "HELD", 2 * transfer.BLOCK)
    running.service.contents[b"big"] = BIG * 20
    with contextlib.ExitStack() as clients:
        for open_now, most in ((1, transfer.BLOCK), (4, transfer.BLOCK // 4), (20, transfer.LEAST_BLOCK)):
            while len(running.service.opened) < open_now:
                count = len(running.service.opened)
                sock = clients.enter_context(running.connect())
                sock.sendall(f"GET /task/{TASK}/file/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert sock.recv(1000)
                assert len(running.service.opened) == count + 1
            assert transfer.Blocks.size() == most
    until(lambda: all_closed(running.service))
    until(lambda: not running.app.requests_under_way)
    assert transfer.Blocks.size() == transfer.BLOCK


def test_a_block_is_as_large_as_its_share(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "HELD", transfer.BLOCK)
    monkeypatch.setattr(transfer, "LEAST_BLOCK", 1000)
    running.service.contents[b"big"] = BIG
    asked: list[int] = []
    read = FakeOpened.pread

    def pread(opened: FakeOpened, offset: int, length: int) -> bytes:
        asked.append(length)
        return read(opened, offset, length)

    monkeypatch.setattr(FakeOpened, "pread", pread)
    assert requests.get(url(running, "big"), timeout=20).content == BIG
    assert max(asked) == transfer.BLOCK // 2
    assert sum(asked) == len(BIG)


def test_a_large_answer_that_is_not_read(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.1)
    running.service.all_scripts = [{"name": f"{number}", "text": "x" * 500_000} for number in range(100)]
    with running.connect() as sock:
        sock.sendall(b"GET /script?page_size=100 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000)
        until(lambda: "does not read its answer" in caplog.text)
        total = 0
        while data := sock.recv(1_000_000):
            total += len(data)
        assert total < 50_000_000


def test_keep_alive_after_a_download(running: Running) -> None:
    with running.connect() as sock:
        for _ in range(2):
            sock.sendall(
                f"GET /task/{TASK}/file/log.txt HTTP/1.1\r\nHost: x\r\n\r\n"
                f"GET /task/{TASK}/file/nope HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            assert read_answer(sock).body == b"0123456789"
            read_answer(sock).problem(404)
        sock.shutdown(socket.SHUT_WR)
        assert at_end(sock)


def test_a_file_is_no_part_of_our_own_pages(running: Running) -> None:
    def status(site: str, dest: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest}
        return requests.get(
            f"{running.url}/task/{TASK}/file/log.txt", headers=headers, timeout=20
        ).status_code

    assert [status("same-origin", dest) for dest in ("script", "style", "serviceworker")] == [403] * 3
    assert [status("same-origin", dest) for dest in ("image", "iframe", "document", "empty")] == [200] * 4
    assert status("cross-site", "script") == 200  # a report's own, in its sandbox
