"""`Client` against a small HTTP server: what it asks, what it makes of answers, when it asks again."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import ApiError, Client, ClientError, Unreachable, api, wire
from tests.httpservice import CUT, TASK, Service, parts_of, task


def test_run_with_files_knows_its_length(service: Service, client: Client, tmp_path: Path) -> None:
    service.on("POST /task/", {"uuid": TASK}, status=201)
    (tmp_path / "a.fa").write_bytes(b">a\nACGT\n")
    made = client.run(
        "stats", {"deep": True, "wait": ["a", "b"]}, {"input": tmp_path / "a.fa"}, description="x"
    )
    assert made == {"uuid": TASK}
    _, _, headers, body = service.requests[-1]
    assert int(headers["Content-Length"]) == len(body)
    assert "Transfer-Encoding" not in headers
    assert len(headers["Idempotency-Key"]) >= 22
    assert parts_of(headers["Content-Type"], body) == [
        ("task_name", None, b"stats"),
        ("deep", None, b"true"),
        ("wait", None, b"a"),
        ("wait", None, b"b"),
        ("task_description", None, b"x"),
        ("input", "a.fa", b">a\nACGT\n"),
    ]


def test_run_without_files_is_a_form(service: Service, client: Client) -> None:
    service.on("POST /task/", {"uuid": TASK}, status=201)
    client.run("stats", {"k": 7}, dependencies=["a", "b"])
    assert service.requests[-1][3] == b"task_name=stats&k=7&dependencies=a%2Cb"


def test_errors_name_every_field(service: Service, client: Client) -> None:
    wrong = [{"name": "k", "detail": "too small"}]
    service.on("POST /task/", {"title": "Invalid input", "detail": "2 fields", "errors": wrong}, status=400)
    with pytest.raises(ApiError) as caught:
        client.run("stats")
    assert (caught.value.status, caught.value.errors) == (400, {"k": "too small"})
    assert str(caught.value) == "Invalid input: 2 fields\n  k: too small"
    assert caught.value.text({"k": "-k"}).endswith("\n  -k: too small")


def test_errors_of_others(service: Service, client: Client) -> None:
    service.on("GET /script/x", b"<html>", status=500)
    with pytest.raises(ApiError, match=r"^HTTP 500"):
        client.script("x")
    service.on("GET /script/y", b"<html>")
    with pytest.raises(ClientError, match="is it drmaaticd"):
        client.script("y")
    service.on("GET /script/z", b"", status=302, Location="/elsewhere")
    with pytest.raises(ApiError, match=r"^HTTP 302"):
        client.script("z")
    for odd in ([1], {"errors": "no list", "title": None}, {"errors": [1, {"name": "x"}]}):
        service.on("GET /script/odd", odd, status=400)
        with pytest.raises(ApiError, match=r"^HTTP 400"):
            client.script("odd")


def test_nobody_there_is_told_at_once() -> None:
    notices: list[float] = []
    with Client("http://127.0.0.1:1", notice=lambda _, pause: notices.append(pause)) as client:
        with pytest.raises(Unreachable, match="refused") as caught:
            client.task(TASK)
        assert not caught.value.connected
    assert not notices


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://example.org", "http://", "http://me:secret@example.org", "http://a/?b"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "a b", "secret\n", "secret\r\nX: y", "secrét"])
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(ValueError, match="no token") as caught:
        Client("http://127.0.0.1:1", token)
    assert "secr" not in str(caught.value)


def test_a_token_is_in_no_error(service: Service) -> None:
    service.on("GET /me", {"title": "Bad", "detail": "Bearer hush-hush is bad"}, status=401)
    with Client(service.url, "hush-hush") as client, pytest.raises(ApiError) as caught:
        client.me()
    assert "hush" not in str(caught.value)


def test_pages(service: Service, client: Client) -> None:
    service.on("GET /task/?state=done&page=1&page_size=100", {"results": [{"n": 1}], "next": "http://x"})
    service.on("GET /task/?state=done&page=2&page_size=100", {"results": [{"n": 2}], "next": None})
    assert list(client.tasks(state="done")) == [{"n": 1}, {"n": 2}]


def test_the_token_is_sent_and_netrc_is_not_asked(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.on(f"GET /task/{TASK}", {"state": "done"})
    with Client(service.url, "token") as client:
        client.task(TASK)
    assert service.requests[-1][2]["Authorization"] == "Bearer token"
    with Client(service.url) as client:
        client.task(TASK)
    assert "Authorization" not in service.requests[-1][2]


def test_exchange(service: Service) -> None:
    service.on("GET /token/0000-0002-1825-0097", {"access_token": "ours"})
    with Client(service.url, "mine") as client:
        assert client.exchange("0000-0002-1825-0097", "theirs")["access_token"] == "ours"
    assert service.requests[-1][2]["Authorization"] == "Bearer theirs"


# Second tries


def busy(service: Service, request: str, status: int, answer: object = None, **headers: str) -> None:
    """Refuse with this status twice, then answer."""
    service.on(request, {"title": "Busy"}, status=status, **headers)
    service.answers[request] *= 2
    first = service.answers[request]
    service.on(request, {"uuid": TASK} if answer is None else answer)
    service.answers[request] = first + service.answers[request]


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "0"}), (503, {}), (503, {"Retry-After": "0"}), (502, {}), (504, {})],
)
def test_a_busy_service_is_asked_again(
    service: Service, client: Client, status: int, headers: dict[str, str]
) -> None:
    busy(service, f"GET /task/{TASK}", status, **headers)
    assert client.task(TASK) == {"uuid": TASK}
    busy(service, "POST /task/", status, **headers)
    assert client.run("stats") == {"uuid": TASK}
    keys = [headers["Idempotency-Key"] for method, _, headers, _ in service.requests if method == "POST"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_the_time_that_is_named_is_waited(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    told: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", slept.append)
    busy(service, f"GET /task/{TASK}", 429, **{"Retry-After": "7"})
    with Client(service.url, notice=lambda error, pause: told.append(pause)) as client:
        client.task(TASK)
    assert slept == told == [7.0, 7.0]


def test_a_time_that_is_too_far_away_is_told(service: Service, client: Client) -> None:
    service.on(f"GET /task/{TASK}", {"title": "Busy"}, status=429, **{"Retry-After": "3600"})
    with pytest.raises(ApiError) as caught:
        client.task(TASK)
    assert caught.value.retry_after == 3600
    assert len(service.requests) == 1


def test_what_no_waiting_mends_is_told_at_once(service: Service, client: Client) -> None:
    for status in (400, 401, 403, 404, 409, 413, 429, 500, 507):
        service.requests.clear()
        service.on("POST /task/", {"title": "No"}, status=status)
        with pytest.raises(ApiError):
            client.run("stats")
        assert len(service.requests) == 1, status


def test_what_cannot_be_repeated_is_not(service: Service) -> None:
    line = wire.Wire(service.url, None)
    service.answers["POST /x"] = [(CUT, {}, b""), (200, {}, b"{}")]
    with pytest.raises(Unreachable):
        line.json("POST", "/x")
    service.answers["POST /x"] = [(503, {"Retry-After": "0"}, b"{}"), (200, {}, b"{}")]
    with pytest.raises(ApiError):
        line.json("POST", "/x")
    line.close()
    assert len(service.requests) == 2


def test_a_connection_that_breaks_makes_no_second_task(
    service: Service, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a.fa").write_bytes(b">a\n")
    # The service may think that the first try is still arriving.
    service.answers["POST /task/"] = [
        (CUT, {}, b""),
        (409, {}, b'{"title": "Conflict"}'),
        (201, {}, b'{"uuid": "x"}'),
    ]
    assert client.run("stats", {}, {"input": tmp_path / "a.fa"})["uuid"] == "x"
    sent = [(headers["Idempotency-Key"], body) for _, _, headers, body in service.requests]
    assert len(sent) == 3
    assert len(set(sent)) == 1


def test_an_unknown_fate_has_a_key(service: Service) -> None:
    service.answers["POST /task/"] = [(CUT, {}, b"")]
    with Client(service.url, patience=0.01) as client, pytest.raises(Unreachable) as caught:
        client.run("stats")
    assert caught.value.idempotency_key == service.requests[-1][2]["Idempotency-Key"]
    assert caught.value.connected


def test_a_removal_that_was_carried_out_is_fine(service: Service, client: Client) -> None:
    service.answers[f"DELETE /task/{TASK}"] = [(CUT, {}, b""), (404, {}, b"{}")]
    client.delete(TASK)
    with pytest.raises(ApiError):
        client.delete(TASK)


@given(st.text())
def test_retry_after_is_never_nonsense(text: str) -> None:
    seconds = wire.retry_after(text)
    assert seconds is None or seconds >= 0


def test_retry_after_may_be_a_date() -> None:
    assert wire.retry_after(None) is None
    assert wire.retry_after(" 12 ") == 12
    assert wire.retry_after(email.utils.formatdate(time.time() - 5, usegmt=True)) == 0
    later = wire.retry_after(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 50 < later <= 100


# Files


def test_read_from_a_place_on(service: Service, client: Client) -> None:
    service.on(f"GET /task/{TASK}/file/out.txt", b"more", status=206)
    assert b"".join(client.read(TASK, "out.txt", 5)) == b"more"
    assert service.requests[-1][2]["Range"] == "bytes=5-"
    service.on(f"GET /task/{TASK}/file/out.txt", b"all of it")
    with pytest.raises(ClientError, match="parts"):
        list(client.read(TASK, "out.txt", 5))


def test_rerun_sends_the_same_again(service: Service, client: Client, tmp_path: Path) -> None:
    old = task(
        task_description="first",
        files_name={"input_0.fa": "my genes.fa"},
        params=[
            {"name": "input", "value": ["input_0.fa"]},
            {"name": "k", "value": "7"},
            {"name": "words", "value": ["a", "b"]},
        ],
    )
    service.on(f"GET /task/{TASK}", old)
    kinds = [{"name": "input", "type": "file"}, {"name": "k", "type": "int"}]
    service.on("GET /script/stats", {"name": "stats", "param": kinds})
    service.on(f"GET /task/{TASK}/file/input_0.fa", b"ACGT")
    service.on("POST /task/", {"uuid": "new"}, status=201)
    assert client.rerun(TASK, tmp_path, params={"k": "8"})["uuid"] == "new"
    _, _, headers, body = service.requests[-1]
    assert parts_of(headers["Content-Type"], body) == [
        ("task_name", None, b"stats"),
        ("k", None, b"8"),
        ("words", None, b"a"),
        ("words", None, b"b"),
        ("task_description", None, b"first"),
        ("input", "my genes.fa", b"ACGT"),
    ]


def test_the_page_size_is_one_that_the_service_takes() -> None:
    assert 1 <= api.PAGE_SIZE <= 100
