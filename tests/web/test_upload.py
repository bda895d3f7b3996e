"""``POST /task/``: streaming, framing, clients that go away, and everything that is refused late."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest
import requests

from drmaaticd.web import base, upload
from tests.web.fakes import FakeService
from tests.web.running import Running, until
from tests.web.wire import at_end, chunked, form, part, post_head, read_answer

FILE = bytes(range(256)) * 2 + b"\r\n--" + b"\r\r\n------drmaatic\r\n"
BODY = form(part("input", FILE, "my genes.fasta"), part("task_name", b"fasta-stats"), part("k", "ü".encode()))


def check(service: FakeService) -> None:
    (draft,) = service.drafts
    assert draft.finished
    assert draft.fields == [("task_name", "fasta-stats"), ("k", "ü")]
    assert draft.files == [("input", "my genes.fasta", FILE)]


@pytest.mark.parametrize("size", [1, 5, 20, 200, len(BODY)])
def test_pieces_of_a_body_with_its_length(running: Running, size: int) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY)))
        for at in range(0, len(BODY), size):
            sock.sendall(BODY[at : at + size])
        answer = read_answer(sock)
    assert answer.status == 201
    task = answer.json()
    assert answer.headers["location"] == f"https://api.example.org/base/task/{task['uuid']}"
    assert running.service.draft_arguments == [{"length": len(BODY), "key": None, "chunked": False}]
    check(running.service)


@pytest.mark.parametrize("size", [1, 5, 20, 200, len(BODY)])
def test_pieces_of_a_chunked_body(running: Running, size: int) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=None))
        for chunk in chunked(BODY, size):
            sock.sendall(chunk)
        assert read_answer(sock).status == 201
    assert running.service.draft_arguments == [{"length": None, "key": None, "chunked": True}]
    check(running.service)


@pytest.mark.parametrize("length", [len(BODY), None])
def test_client_goes_away_half_way(running: Running, length: int | None) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=length))
        half = BODY[: len(BODY) // 2]
        sock.sendall(half if length else chunked(half, 50)[0])
        until(lambda: running.service.drafts)
    until(lambda: running.service.drafts[0].aborted, "abort")
    assert not running.service.drafts[0].finished
    until(lambda: not running.app.requests_under_way)


def test_two_uploads_over_one_connection(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall((post_head(length=len(BODY)) + BODY) * 2)  # pipelined
        assert read_answer(sock).status == 201
        assert read_answer(sock).status == 201
    assert len(running.service.drafts) == 2


def test_expect_100_continue(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY), Expect="100-Continue"))
        assert read_answer(sock).status == 100
        sock.sendall(BODY)
        assert read_answer(sock).status == 201


def test_refusal_instead_of_100_continue(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY), Expect="100-continue", Authorization="Bearer bad"))
        answer = read_answer(sock)
        answer.problem(401)
        assert answer.headers["connection"] == "close"
        assert at_end(sock)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("status", [401, 413, 415, 429, 503])
def test_early_refusal_is_seen_while_the_body_is_sent(running: Running, framing: str, status: int) -> None:
    """A client that sends all before it reads (16 MiB: more than sockets hold) sees the answer."""
    from drmaaticd.errors import TooManyRequests, Unavailable

    service = running.service
    service.draft_error = {
        429: TooManyRequests("Slowly.", retry_after=7),
        503: Unavailable("Later."),
    }.get(status)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    if status == 401:
        headers["Authorization"] = "Bearer bad"
    if status == 415:
        headers["Content-Type"] = "text/plain"
    block = b"x" * 65536
    if status == 413:
        service.config.server.max_upload = 1000
    data = (block for _ in range(256)) if framing == "chunked" else block * 256
    for _ in range(3):
        if not isinstance(data, bytes):
            data = (block for _ in range(256))
        response = requests.post(running.url + "/task/", data=data, headers=headers, timeout=20)
        assert response.status_code == status
        assert response.json()["status"] == status
        assert response.headers["Connection"] == "close"
    if status == 429:
        assert response.headers["Retry-After"] == "7"
    until(lambda: all(draft.aborted for draft in service.drafts))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_answer_comes_before_the_body_has_ended(running: Running, framing: str) -> None:
    """The answer is there, and the connection's end too, while the client still has to send."""
    with running.connect() as sock:
        length = 10_000_000 if framing == "length" else None
        sock.sendall(post_head(length=length, Authorization="Bearer bad"))
        read_answer(sock).problem(401)
        assert at_end(sock)
        for _ in range(100):  # and no reset for what is sent nevertheless
            sock.sendall(b"x" * 10_000 if length else b"2710\r\n" + b"x" * 10_000 + b"\r\n")


def test_too_much_after_a_refusal_ends_the_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "DRAIN_BYTES", 100_000)
    with running.connect() as sock:
        sock.sendall(post_head(length=10**9, Authorization="Bearer bad"))
        read_answer(sock).problem(401)
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            send_forever(sock)


def send_forever(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * 65536)


def test_a_refused_client_that_stays_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "DRAIN_SECONDS", 0.05)
    with running.connect() as sock:
        sock.sendall(post_head(length=10**9, Authorization="Bearer bad"))
        read_answer(sock).problem(401)
        until(lambda: not running.app.requests_under_way)


def test_size_is_counted_where_no_length_is_announced(running: Running) -> None:
    running.service.config.server.max_upload = 100_000
    with running.connect() as sock:
        sock.sendall(post_head(length=None))
        for chunk in chunked(form(part("a", b"x" * 200_000, "f")), 5000):
            sock.sendall(chunk)
        answer = read_answer(sock)
        answer.problem(413)
        assert at_end(sock)
    (draft,) = running.service.drafts
    assert draft.aborted


@pytest.mark.parametrize("whole", [True, False])
def test_full_disk(running: Running, whole: bool) -> None:
    running.service.disk = 1_000_000
    body = form(part("a", b"x" * 3_000_000, "f"), part("task_name", b"t"))
    with running.connect() as sock:
        sock.sendall(post_head(length=len(body)) + (body if whole else body[:2_500_000]))
        answer = read_answer(sock)
        answer.problem(507)
        assert answer.headers["connection"] == "close"
        assert at_end(sock)
    assert running.service.drafts[0].aborted


@pytest.mark.logs("request .*: POST '/task/' failed")
def test_a_bug_while_the_body_arrives(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*args: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("tests.web.fakes.FakeDraft.open_file", bug)
    response = requests.post(running.url + "/task/", files={"a": b"x"}, timeout=20)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert running.service.drafts[0].aborted


def test_a_late_refusal_keeps_the_connection(running: Running) -> None:
    bad = form(part("other", b"1"))
    with running.connect() as sock:
        sock.sendall(post_head(length=len(bad)) + bad)
        answer = read_answer(sock)
        assert answer.problem(400)["errors"] == [{"name": "task_name", "detail": "is required"}]
        assert running.service.drafts[0].aborted
        sock.sendall(post_head(length=len(BODY)) + BODY)
        assert read_answer(sock).status == 201


def test_the_same_key_again(running: Running) -> None:
    def send(value: str, key: str) -> requests.Response:
        return requests.post(
            running.url + "/task/", data={"task_name": value}, headers={"Idempotency-Key": key}, timeout=20
        )

    first = send("t", "k" * 22)
    assert first.status_code == 201
    again = send("t", "k" * 22)
    assert again.status_code == 200
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert send("u", "k" * 22).status_code == 422
    for bad in ("k" * 65, "a b", "a\tb", "ä"):
        assert send("t", bad.encode("latin-1")).json()["errors"][0]["name"] == "Idempotency-Key"


@pytest.mark.parametrize(
    "body",
    [
        BODY[:-20],
        b"",
        b"--" + b"x" * 100,
        BODY.replace(b"form-data", b"attachment"),
        BODY.replace(b'name="k"', b""),
        BODY.replace(b"Content-Disposition", b"Content Disposition"),
        BODY.replace("ü".encode(), b"\xff"),
        BODY.replace(b'name="k"', b'name="\xff"'),
        BODY.replace(b'name="k"\r\n', b'name="k"\r\nContent-Transfer-Encoding: base64\r\n'),
        BODY.replace(b'name="k"\r\n', b'name="k"\r\nContent-Type: text/plain; charset=utf-16\r\n'),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_broken_form(running: Running, body: bytes, framing: str) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=len(body) if framing == "length" else None))
        sock.sendall(body if framing == "length" else b"".join(chunked(body, 100)))
        read_answer(sock).problem(400)
    assert running.service.drafts[0].aborted


def test_limits_of_a_form(running: Running) -> None:
    many = form(*[part(f"f{number}", b"") for number in range(1001)])
    long_field = form(part("a", b"x" * (1024 * 1024 + 1)))
    all_fields = form(*[part("a", b"x" * 1_000_000)] * 3)
    header = form(part("x" * 9000, b""))
    lines = form(part("a", b"").replace(b"\r\n\r\n", b"\r\nX: y" * 9 + b"\r\n\r\n"))
    for body in (many, long_field, all_fields, header, lines):
        with running.connect() as sock:
            sock.sendall(post_head(length=len(body)) + body)
            read_answer(sock).problem(413)
    assert all(draft.aborted for draft in running.service.drafts)
    most = form(*[part(f"f{number}", b"") for number in range(999)], part("task_name", b"t"))
    with running.connect() as sock:
        sock.sendall(post_head(length=len(most)) + most)
        assert read_answer(sock).status == 201


def test_files_that_were_not_chosen_and_odd_names(running: Running) -> None:
    body = form(
        part("none", b"", ""),
        part("unnamed", b"content", ""),
        part("empty", b"", "e.txt"),
        part("path", b"", "../../etc/passwd"),
        part("quote", b"", "a%22b;c.txt"),
        part("latin", b"", "x").replace(b'"x"', b'"\xe9.txt"'),
        part("star", b"", "x").replace(b'filename="x"', b"filename*=UTF-8''%E2%82%AC.txt"),
        part("task_name", b"t"),
        b"--" + b"-" * 4 + b"drmaaticd--\r\nan epilogue that is to be ignored\r\n",
    )
    with running.connect() as sock:
        sock.sendall(post_head(length=len(body)) + body)
        assert read_answer(sock).status == 201
    assert [(name, client, bytes(data)) for name, client, data in running.service.drafts[0].files] == [
        ("unnamed", "", b"content"),
        ("empty", "e.txt", b""),
        ("path", "../../etc/passwd", b""),
        ("quote", 'a"b;c.txt', b""),
        ("latin", "�.txt", b""),
        ("star", "€.txt", b""),
    ]


def test_json_and_urlencoded(running: Running) -> None:
    url = running.url + "/task"
    document = (
        '{"task_name": "t", "n": 1.50, "big": 123456789012345678901234567890, "b": true, "no": null,'
        ' "l": ["x", 2, false]}'
    )
    sent = requests.post(url, data=document, headers={"Content-Type": "application/json"}, timeout=20)
    assert sent.status_code == 201
    assert running.service.drafts[0].fields == [
        ("task_name", "t"), ("n", "1.50"), ("big", "123456789012345678901234567890"), ("b", "true"),
        ("l", "x"), ("l", "2"), ("l", "false"),
    ]  # fmt: skip
    sent = requests.post(url, data={"task_name": "t ä&", "e": "", "l": ["1", "2"]}, timeout=20)
    assert sent.status_code == 201
    assert running.service.drafts[1].fields == [("task_name", "t ä&"), ("e", ""), ("l", "1"), ("l", "2")]
    large = requests.post(url, data={"task_name": "t", "x": "y" * 1_000_000}, timeout=20)
    assert large.status_code == 201


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"a": {"b": 1}}', 400),
        ("application/json", b'{"a": [[1]]}', 400),
        ("application/json", b'{"a": 1, "a": 2}', 400),
        ("application/json", b'{"a": NaN}', 400),
        ("application/json", b'{"a": "\\ud800"}', 400),
        ("application/json", b'{"a": "\xff"}', 400),
        ("application/json", b"[1]", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"a": [' + b"1," * 1000 + b"1]}", 413),
        ("application/json", b"{" + b'"a":1,' * 100_000 + b'"a":1}', 413),
        ("application/json", b'{"a": "' + b"x" * 1024 * 1024 + b'"}', 413),
        ("application/x-www-form-urlencoded", b"a=%ff", 400),
        ("application/x-www-form-urlencoded", b"&" * 1000, 413),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 1024 * 1024, 413),
        ("application/x-www-form-urlencoded; charset=latin-1", b"a=b", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=", b"x", 400),
        ('multipart/form-data; boundary="a b "', b"x", 400),
        ("multipart/form-data; boundary=" + "x" * 71, b"x", 400),
        ("multipart/mixed; boundary=x", b"x", 415),
        ("text/plain", b"x", 415),
        ("", b"x", 415),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_that_are_refused(running: Running, kind: str, body: bytes, status: int, framing: str) -> None:
    data = body if framing == "length" else iter([body])
    response = requests.post(running.url + "/task/", data=data, headers={"Content-Type": kind}, timeout=20)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert all(draft.aborted for draft in running.service.drafts)


def test_compressed_bodies_are_refused(running: Running) -> None:
    response = requests.post(
        running.url + "/task/", data={"a": "b"}, headers={"Content-Encoding": "gzip"}, timeout=20
    )
    assert response.status_code == 415


@pytest.mark.parametrize("length", ["Content-Length: 0\r\n", ""])
@pytest.mark.parametrize("kind", ["", "Content-Type: application/x-www-form-urlencoded\r\n"])
def test_no_body(running: Running, length: str, kind: str) -> None:
    with running.connect() as sock:
        sock.sendall(f"POST /task HTTP/1.1\r\nHost: x\r\n{length}{kind}\r\n".encode())
        assert read_answer(sock).problem(400)["errors"][0]["name"] == "task_name"
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sock).status == 200
    assert running.service.drafts[0].aborted


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: x", "Content-Length: -1", "Content-Length: 1\r\nContent-Length: 2",
     "Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip",
     "Transfer-Encoding: gzip, chunked", "Content-Length: " + "9" * 30],
)  # fmt: skip
def test_framing_that_cannot_be_trusted(running: Running, framing: str) -> None:
    with running.connect() as sock:
        sock.sendall(f"POST /task/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        read_answer(sock).problem(400)
    until(lambda: not running.app.requests_under_way)


def test_broken_chunks_leave_nothing(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=None) + chunked(BODY, 100)[0] + b"zz\r\n")
        until(lambda: running.service.drafts and running.service.drafts[0].aborted)


def test_a_client_that_stops_sending(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PROGRESS_SECONDS", 0.05)
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY)) + BODY[:100])
        assert at_end(sock)
    until(lambda: running.service.drafts[0].aborted)


def test_a_slow_client_is_waited_for(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PROGRESS_SECONDS", 1.5)
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY)))
        step = len(BODY) // 8 + 1
        for at in range(0, len(BODY), step):
            sock.sendall(BODY[at : at + step])
            time.sleep(0.25)
        assert read_answer(sock).status == 201


def test_a_client_gone_after_its_last_byte_still_gets_its_task(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(post_head(length=len(BODY)) + BODY)
    until(lambda: running.service.drafts and running.service.drafts[0].finished)


def test_requests_as_the_usage_guide_has_them(running: Running) -> None:
    files = [
        ("input", ("genes.fasta", b">a\nACGT\n")),
        ("input", ("größe.fasta", b">b\nAC\n")),
    ]
    response = requests.post(running.url + "/task/", data={"task_name": "t"}, files=files, timeout=20)
    assert response.status_code == 201
    (draft,) = running.service.drafts
    assert [(name, client) for name, client, _ in draft.files] == [
        ("input", "genes.fasta"),
        ("input", "größe.fasta"),
    ]


@pytest.mark.parametrize("chunks", [False, True])
def test_curl(running: Running, tmp_path: object, chunks: bool) -> None:
    path = os.path.join(str(tmp_path), "big.bin")  # noqa: PTH118
    with open(path, "wb") as file:
        file.write(os.urandom(1024 * 1024) * 8)
    command = ["curl", "-sS", "-D", "-", "-F", f"input=@{path}", "-F", "task_name=t", running.url + "/task/"]
    if chunks:
        command += ["-H", "Transfer-Encoding: chunked"]
    good = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert b"201 Created" in good.stdout
    assert len(running.service.drafts[0].files[0][2]) == 8 * 1024 * 1024
    bad = subprocess.run(
        [*command, "-H", "Authorization: Bearer bad"], capture_output=True, check=False, timeout=60
    )
    assert b"401 Unauthorized" in bad.stdout
    assert json.loads(bad.stdout[bad.stdout.rindex(b"\r\n\r\n") :])["status"] == 401


def test_connection_reset_in_mid_upload(running: Running) -> None:
    sock = running.connect()
    sock.sendall(post_head(length=len(BODY)) + BODY[:300])
    until(lambda: running.service.drafts)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    until(lambda: running.service.drafts[0].aborted)
