"""Waiting and following: by events, by asking, through breaks, and without losing a line."""

from __future__ import annotations

import io
import itertools
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import ApiError, Client, Unreachable, WaitTimeout, watching
from drmaaticd.client.logs import Follower, Labelled, Raw, Shown
from tests.httpservice import CUT, TASK, Content, Service, task

STREAM = {"Content-Type": "text/event-stream"}
ASK, EVENTS = f"GET /task/{TASK}", f"GET /task/{TASK}/events"


def states(client: Client, **options: Any) -> list[str]:
    seen: list[str] = []
    client.wait(TASK, changed=lambda now: seen.append(now["state"]), **options)
    return seen


def test_wait_by_asking(service: Service, client: Client) -> None:
    service.on(ASK, *map(task, ["queued_active", "running", "running", "done"]))
    assert states(client) == ["queued_active", "running", "done"]
    assert service.asked("GET").count(f"/task/{TASK}/events") == 1, "a service without streams is asked once"


def test_wait_by_events(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        raise AssertionError("there is nothing to ask for")

    monkeypatch.setattr(watching.time, "sleep", never)
    stream = (
        b'retry: 2000\n\n:\n\nid: 1\ndata: {"state"\ndata: :1}\n\n:\n\ndata: 2\n\nevent: end\ndata: {}\n\n'
    )
    service.answers[EVENTS] = [(200, STREAM, stream)]
    service.on(ASK, *map(task, ["created", "running", "done"]))
    assert states(client) == ["created", "running", "done"]


@pytest.mark.parametrize(
    "answer",
    [
        (204, {}, b""),
        (405, {}, b"{}"),
        (200, {"Content-Type": "text/html"}, b"<html>"),
        (503, {"Retry-After": "15"}, b"{}"),
        (429, {"Retry-After": "15"}, b"{}"),
        (200, STREAM, b":\n\n"),
        (200, {**STREAM, "X-Length": "100"}, b"data: 1\n\n"),
        (CUT, {}, b""),
    ],
)
def test_a_stream_that_is_none_or_ends(service: Service, client: Client, answer: Any) -> None:
    service.answers[EVENTS] = [answer]
    service.on(ASK, *map(task, ["created", "created", "created", "running", "done"]))
    assert states(client) == ["created", "running", "done"]


def test_a_stream_is_asked_for_again_when_the_service_says(service: Service, client: Client) -> None:
    service.on(EVENTS, {}, status=429, **{"Retry-After": "3600"})
    service.on(ASK, *map(task, ["created", "running", "running", "running", "done"]))
    client.wait(TASK)
    assert service.asked("GET").count(f"/task/{TASK}/events") == 1


def test_a_stream_that_a_proxy_keeps_back_is_given_up(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SILENCE", 0.05)
    over = threading.Event()

    def silent(headers: dict[str, str]) -> Any:
        over.wait(20)
        return 200, STREAM, b""

    service.answers[EVENTS] = [silent]
    service.on(ASK, *map(task, ["created", "running", "running", "done"]))
    assert states(client) == ["created", "running", "done"]
    over.set()
    assert service.asked("GET").count(f"/task/{TASK}/events") == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_stream_that_is_refused(service: Service, client: Client, status: int) -> None:
    service.on(EVENTS, {}, status=status)
    service.on(ASK, task("running"))
    with pytest.raises(ApiError):
        client.wait(TASK)


def test_wait_bears_a_restart_but_not_for_ever(service: Service) -> None:
    service.answers[ASK] = [(503, {}, b"{}"), (502, {}, b""), (CUT, {}, b"")]
    more = service.answers[ASK]
    service.on(ASK, task("failed"))
    service.answers[ASK] = more + service.answers[ASK]
    with Client(service.url) as client:
        assert client.wait(TASK)["state"] == "failed"
    with Client(service.url, patience=0.01) as client:
        service.on(ASK, {}, status=503)
        with pytest.raises(ApiError):
            client.wait(TASK)
        service.answers[ASK] = [(CUT, {}, b"")]
        with pytest.raises(Unreachable):
            client.wait(TASK)
        service.on(ASK, task("running"))
        with pytest.raises(WaitTimeout):
            client.wait(TASK, timeout=0.01)
    assert f"/task/{TASK}/events" not in service.asked("GET"), "a stream's silence outlasts so short a wait"


def test_a_bounded_wait_does_not_bear_a_service_that_is_away(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(watching.time, "sleep", slept.append)
    service.on(ASK, {}, status=503, **{"Retry-After": "30"})
    with pytest.raises(ApiError):
        client.wait(TASK, timeout=5)
    assert slept == []


def test_a_refusal_ends_a_wait(service: Service, client: Client) -> None:
    service.on(ASK, {"title": "Not found"}, status=404)
    with pytest.raises(ApiError, match="Not found"):
        client.wait(TASK)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=5), max_size=8))
def test_events_bear_any_line(lines: list[str]) -> None:
    for data in watching.events(iter(lines)):
        assert isinstance(data, list)


# Logs


class Stream(io.TextIOWrapper):
    """A stream that may be a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def got(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()  # type: ignore[attr-defined,no-any-return]


class Growing:
    """A log that grows by a piece at each look, on connections that break."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.content = Content(b"")
        self.pieces = pieces

    def __call__(self, headers: dict[str, str]) -> Any:
        if self.pieces:
            self.content.data += self.pieces.pop(0)
            if len(self.pieces) % 3 == 0:
                self.content.breaks = [3]
        return self.content(headers)


def log(name: str) -> str:
    return f"GET /task/{TASK}/file/{TASK[:8]}_{name}.txt"


def test_following_loses_and_repeats_nothing(
    service: Service, client: Client, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    pieces = [f"line {number}\n".encode() * 3 for number in range(20)]
    out = Growing(list(pieces))
    service.answers[log("out")] = [(404, {}, b"{}"), out]
    service.on(log("err"), b"why\n")

    def now(headers: dict[str, str]) -> Any:
        state = "done" if not out.pieces else "running"
        return 200, {}, json.dumps(task(state)).encode()

    service.answers[ASK] = [now]
    service.answers[log("err")] = [Content(b"why\n")]
    ended, copied = Follower(client, TASK, ["stdout", "stderr"], pytest.fail).run(follow=True)
    assert ended["state"] == "done"
    assert tuple(capsysbinary.readouterr()) == (b"".join(pieces), b"why\n")
    assert copied == len(b"".join(pieces)) + 4


def test_a_log_that_begins_anew(
    service: Service, client: Client, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    content = Content(b"first try\n")
    looks = [task("running"), task("running"), task("done")]

    def now(headers: dict[str, str]) -> Any:
        if len(looks) == 2:
            content.data = b"second\n"
        return 200, {}, json.dumps(looks.pop(0)).encode()

    service.answers[ASK] = [now]
    service.answers[log("out")] = [content]
    told: list[str] = []
    Follower(client, TASK, ["stdout"], told.append).run(follow=True)
    assert capsysbinary.readouterr().out == b"first try\nsecond\n"
    assert len(told) == 1


def test_the_jobs_of_an_array(
    service: Service, client: Client, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    short = TASK[:8]
    service.on(ASK, task("done", stdout=f"{short}_out.<index>.txt", stderr=f"{short}_err.<index>.txt"))
    names = [
        f"{short}_out.10.txt",
        f"{short}_out.9.txt",
        f"{short}_err.9.txt",
        f"{short}_out.x.txt",
        "out.1.txt",
    ]
    service.on(f"{ASK}/file/?details=1", [{"path": name, "size": 1, "modified": ""} for name in names])
    service.on(log("out.10"), b"a\nb")
    service.on(log("out.9"), b"\n")
    Follower(client, TASK, ["stdout"], pytest.fail).run(follow=False)
    assert capsysbinary.readouterr().out == b"9: \n10: a\n10: b\n"
    Follower(client, TASK, ["stdout"], pytest.fail, index=10).run(follow=False)
    assert capsysbinary.readouterr().out.endswith(b"a\nb")


def test_a_name_from_a_hostile_service(
    service: Service, client: Client, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    service.on(ASK, task("done", stdout="../../x"))
    Follower(client, TASK, ["stdout"], pytest.fail).run(follow=False)
    assert service.asked("GET")[-1] == f"/task/{TASK}/file/..%2F..%2Fx"


TEXT = "ü a\tb\r\n\x1b[2J\x9b31m\rover\u202e\r\n".encode()


@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_a_terminal_is_shown_and_does_not_obey(cuts: list[int]) -> None:
    stream = Stream(terminal=True)
    sink = Shown(stream)
    places = [0, *sorted(cuts), len(TEXT)]
    for begin, end in itertools.pairwise(places):
        sink.write(TEXT[begin:end])
    sink.finish()
    assert stream.got().decode() == "ü a\tb\n\\x1b[2J\\x9b31m\\rover\\u202e\n"


@given(st.binary(), st.integers(1, 5))
def test_a_pipe_gets_bytes_as_they_are(data: bytes, size: int) -> None:
    stream = Stream()
    sink = Raw(stream)
    for start in range(0, len(data), size):
        sink.write(data[start : start + size])
    sink.finish()
    assert stream.got() == data


@given(st.binary(), st.integers(1, 5))
def test_labels_lose_no_byte(data: bytes, size: int) -> None:
    stream = Stream()
    sink = Labelled(Raw(stream), "7")
    for start in range(0, len(data), size):
        sink.write(data[start : start + size])
    sink.finish()
    lines = data.split(b"\n")
    expected = b"".join(b"7: " + line + b"\n" for line in (lines if lines[-1] else lines[:-1]))
    assert stream.got() == expected
