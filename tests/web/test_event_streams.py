"""Streams of events over HTTP, over the double: framing, ends, clients that go and that do not read."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
import requests

from drmaaticd.web import transfer
from drmaaticd.web.events import RECONNECT, framed
from tests.web.fakes import TASK, FakeEvent
from tests.web.running import Running, until
from tests.web.wire import at_end, read_answer, read_chunk, read_line

EVENTS = f"/task/{TASK}/events"


def ask(running: Running, path: str = EVENTS, **headers: str) -> requests.Response:
    return requests.get(running.url + path, headers=headers, timeout=20)


def open_stream(running: Running, path: str = EVENTS) -> socket.socket:
    """A stream whose head has been read."""
    sock = running.connect()
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert read_line(sock) == b"HTTP/1.1 200 OK"
    while read_line(sock):
        pass
    return sock


def test_events_are_framed_as_the_standard_says() -> None:
    events = [FakeEvent("", "u@1@0", {"text": "a\nb\r\u2028"}), FakeEvent("gone", "", {"uuid": "u"})]
    text = framed(events).decode()
    assert text == ('id: u@1@0\ndata: {"text":"a\\nb\\r\u2028"}\n\nevent: gone\ndata: {"uuid":"u"}\n\n')
    assert framed([]) == b":\n\n"


def test_a_stream_tells_and_ends_and_the_connection_goes_on(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = read_answer(sock)
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "etag" not in answer.headers
        first, _, rest = answer.body.decode().partition("\n\n")
        wait = int(re.fullmatch(r"retry: (\d+)", first)[1])  # type: ignore[index]
        assert RECONNECT[0] <= wait <= RECONNECT[1]
        assert rest == f'id: e1\ndata: {{"uuid":"{TASK}","state":"done"}}\n\n'
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sock).status == 200
    assert running.service.watches[0].closed


def test_what_was_heard_last_is_handed_on(running: Running) -> None:
    ask(running, **{"Last-Event-ID": "e1"})
    ask(running, **{"Last-Event-ID": "x" * 10_000})
    ask(running, "/task/events?ids=a,b&ids=c")
    ask(running, "/task/events/")
    assert running.service.watched == [(TASK, "e1"), (TASK, None), ({"ids": "a,b,c"}, None), ({}, None)]


def test_nothing_to_be_told_any_more_is_204(running: Running) -> None:
    running.service.events = None
    for path in (EVENTS, "/task/events"):
        answer = ask(running, path)
        assert (answer.status_code, answer.content) == (204, b"")


def test_an_unknown_task_is_404_and_no_stream(running: Running) -> None:
    for path in ("/task/00000000-0000-4000-8000-00000000000f/events", "/task/x/events"):
        answer = ask(running, path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_head_and_other_methods_open_nothing(running: Running) -> None:
    for path in (EVENTS, "/task/events"):
        for method in ("HEAD", "POST", "DELETE", "PUT"):
            answer = requests.request(method, running.url + path, timeout=20)
            assert answer.status_code == 405
            assert answer.headers["Allow"] == "GET, OPTIONS"
    assert not running.service.watches


def test_signs_of_life_are_sent(running: Running) -> None:
    running.service.events = [[], []]
    assert ask(running).content.endswith(b"\n\n:\n\n:\n\n")


def test_a_client_that_goes_gives_its_place_back(running: Running) -> None:
    running.service.endless = True
    with open_stream(running) as sock:
        assert read_chunk(sock).startswith(b"retry")
        until(lambda: running.service.watches[0].told == 1)
        assert not running.service.watches[0].closed
    until(lambda: running.service.watches[0].closed)
    until(lambda: not running.app.requests_under_way)


def test_a_client_that_is_reset_gives_its_place_back(running: Running) -> None:
    running.service.endless = True
    sock = open_stream(running)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    until(lambda: running.service.watches and running.service.watches[0].closed)
    until(lambda: not running.app.requests_under_way)


def test_a_reader_that_takes_nothing_is_told_no_more_and_given_up(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.2)
    running.service.events = [[FakeEvent("", "e", {"text": "x" * 100_000})] * 10] * 1000
    with running.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: running.service.watches and running.service.watches[0].closed)
        assert running.service.watches[0].told < 100
    until(lambda: not running.app.requests_under_way)


def test_the_server_ends_a_stream_by_closing_the_watch(running: Running) -> None:
    running.service.endless = True
    with open_stream(running) as sock:
        until(lambda: running.service.watches and running.service.watches[0].told == 1)
        running._loop.call_soon_threadsafe(running.service.watches[0].close)
        pieces = list(iter(lambda: read_chunk(sock), b""))
        assert b"".join(pieces).endswith(b"\n\n")
        until(lambda: not running.app.requests_under_way)


def test_http_1_0_is_ended_by_closing(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(f"GET {EVENTS} HTTP/1.0\r\n\r\n".encode())
        whole = b""
        while data := sock.recv(65536):
            whole += data
        assert b"Transfer-Encoding" not in whole
        assert whole.endswith(b"}\n\n")
        assert at_end(sock)


# -- links


READ = ("", "/status", "/file/", "/file/log.txt", "/download", "/events")


@pytest.mark.parametrize("rest", READ)
def test_a_link_opens_what_only_reads(running: Running, rest: str) -> None:
    running.service.anonymous = False
    path = f"/task/{TASK}{rest}"
    assert ask(running, path).status_code == 401
    assert ask(running, f"{path}?link=good").status_code == 200
    assert ask(running, f"{path}?link=bad").status_code == 401
    assert ask(running, f"{path}?link=").status_code == 401
    assert ask(running, f"{path}?link=good&link=good").status_code == 400


WRITES: list[tuple[str, str]] = [
    ("DELETE", ""),
    ("PUT", "/stop"),
    ("PUT", "/hold"),
    ("PUT", "/get_ownership"),
    ("POST", "/link"),
]


@pytest.mark.parametrize(("method", "rest"), WRITES)
def test_a_link_is_for_nothing_else(running: Running, method: str, rest: str) -> None:
    running.service.anonymous = False
    url = f"{running.url}/task/{TASK}{rest}?link=good"
    assert requests.request(method, url, timeout=20).status_code == 401
    for path in ("/task/events", "/task/", "/me", "/script/"):
        assert ask(running, f"{path}?link=good").status_code == 401


def test_a_link_is_made(running: Running) -> None:
    def made(query: str = "") -> Any:
        return requests.post(f"{running.url}/task/{TASK}/link{query}", timeout=20)

    assert made().status_code == 201
    assert made().json() == {"url": f"https://api.example.org/base/task/{TASK}?link=good", "expires_in": 300}
    assert made("?lifetime=60").json()["expires_in"] == 60
    for wrong in ("0", "-1", "x", "1.5", "", "1&lifetime=2"):
        assert made(f"?lifetime={wrong}").json()["errors"][0]["name"] == "lifetime"
    assert "ETag" not in made().headers
