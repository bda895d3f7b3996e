"""Every route with every method: no 5xx, the one error body, the headers; CORS; bodies nobody reads."""

from __future__ import annotations

import itertools
import json
import re

import pytest
import requests

from drmaaticd.errors import TooManyRequests
from drmaaticd.web.app import API_ROUTES
from tests.web.fakes import TASK
from tests.web.running import Running, until
from tests.web.wire import Answer, at_end, read_answer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
ORIGIN = "https://portal.example.org"


def path_of(pattern: str) -> str:
    """An address that the pattern matches, and that there is."""
    path = pattern.replace("/task/([^/]+)", f"/task/{TASK}").replace("/script/([^/]+)", "/script/script-1")
    path = path.replace("(stop|hold|release|suspend|resume)", "stop").replace("(.+)", "log.txt")
    path = path.replace("/token/([^/]+)", "/token/0000-0002-1825-0097").removesuffix("/?").replace("\\.", ".")
    assert re.fullmatch(pattern, path)
    return path


PATHS = [path_of(pattern) for pattern, _ in API_ROUTES] + ["/nothing/at/all"]


#: What is made to be read by GET alone.
NO_HEAD = ("/token/0000-0002-1825-0097", "/task/events", f"/task/{TASK}/events")


def check_headers(headers: dict[str, str], path: str) -> None:
    secret = path.startswith("/token") or path.endswith("/link")
    assert headers["cache-control"] == ("no-store" if secret else "private, no-cache")
    vary = "Authorization, Origin"
    assert headers["vary"] == (f"Accept, {vary}" if path == "/" else vary)
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == "walk"
    assert headers["server"] == "drmaaticd"
    assert headers["access-control-allow-origin"] == ORIGIN
    assert "ETag" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("path", PATHS)
def test_walk(running: Running, path: str) -> None:
    slashes = [""] if path == "/" else ["", "/"]
    for method, token, slash in itertools.product(METHODS, ["", "Authorization: Bearer bad\r\n"], slashes):
        running.service.all_tasks = [{"uuid": TASK, "task_name": "fasta-stats"}]
        with running.connect() as sock:
            head = f"{method} {path}{slash} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\n"
            sock.sendall(f"{head}X-Request-ID: walk\r\n{token}\r\n".encode())
            check_answer(read_answer(sock, head=method == "HEAD"), path, method, bool(token))
            if method != "BREW":
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_answer(sock).status == 200


def check_answer(answer: Answer, path: str, method: str, bad_token: bool) -> None:
    assert answer.status < 500
    assert not 300 <= answer.status < 400
    check_headers(answer.headers, path)
    if answer.status == 405:
        assert method == "HEAD" or answer.json()["title"] == "Method not allowed"
        allowed = answer.headers["allow"].split(", ")
        assert method not in allowed
        assert "OPTIONS" in allowed
        assert ("GET" in allowed) == ("HEAD" in allowed) or path in NO_HEAD
    if method == "HEAD":
        assert answer.status in (200, 401, 404, 405)
        assert int(answer.headers["content-length"]) > 0
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert method == "HEAD" or answer.json()["status"] == answer.status
    if bad_token and method not in ("OPTIONS", "BREW") and answer.status not in (404, 405):
        assert answer.status == 401


@pytest.mark.parametrize("path", [path for path in PATHS if path not in NO_HEAD])
def test_head_has_the_length_of_get(running: Running, path: str) -> None:
    head = requests.head(running.url + path, timeout=20)
    get = requests.get(running.url + path, timeout=20)
    assert head.status_code == get.status_code
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert head.content == b""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body_where_none_is_read(running: Running, path: str, method: str, framing: str) -> None:
    data = b"x" * 5_000_000 if framing == "length" else (b"x" * 65536 for _ in range(80))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = requests.request(method, running.url + path, data=data, headers=headers, timeout=20)
    if "nothing" in path:
        assert response.status_code == 404
    elif (path, method) == ("/task", "POST"):
        assert response.status_code == 400
    else:
        assert response.status_code in (405, 413)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert not running.service.drafts or running.service.drafts[0].aborted


@pytest.mark.parametrize(
    "framing", ["Content-Length: 5\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"]
)
def test_a_small_body_where_none_is_read(running: Running, framing: str) -> None:
    with running.connect() as sock:
        for request in (f"PUT /task/{TASK}/stop", "GET /health", f"GET /task/{TASK}/file/log.txt"):
            sock.sendall(f"{request} HTTP/1.1\r\nHost: x\r\n{framing}".encode())
            assert read_answer(sock).status == 200


def test_preflight(running: Running) -> None:
    def ask(path: str, origin: str | None, method: str | None = "POST", **more: str) -> requests.Response:
        headers = {"Origin": origin or "", "Access-Control-Request-Method": method or "", **more}
        given = {name: value for name, value in headers.items() if value}
        return requests.options(running.url + path, headers=given, timeout=20)

    good = ask("/task/", ORIGIN, Authorization="Bearer bad")
    assert good.status_code == 204
    assert good.content == b""
    assert good.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert set(good.headers["Access-Control-Allow-Methods"].split(", ")) >= {"GET", "POST", "HEAD"}
    for name in ("Authorization", "Content-Type", "Idempotency-Key", "Range", "If-None-Match", "If-Range"):
        assert name in good.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Max-Age" in good.headers
    assert ask(f"/task/{TASK}", ORIGIN, "DELETE").headers["Access-Control-Allow-Methods"] == (
        "GET, HEAD, DELETE, OPTIONS"
    )
    assert ask("/nothing", ORIGIN).status_code == 204
    assert ask("/nothing", "https://evil.example.org").status_code == 404
    other = ask("/task/", "https://evil.example.org")
    assert not [name for name in other.headers if name.lower().startswith("access-control")]
    plain = ask("/task/", None, None)
    assert plain.status_code == 204
    assert plain.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    assert "Access-Control-Allow-Methods" not in plain.headers


def test_cors_on_refusals(running: Running) -> None:
    response = requests.post(
        running.url + "/task/",
        data=b"x" * 100_000,
        headers={"Origin": ORIGIN, "Content-Type": "text/plain"},
        timeout=20,
    )
    assert response.status_code == 415
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_token_is_made_for_get_alone(running: Running) -> None:
    response = requests.head(f"{running.url}/token/0000-0002-1825-0097", timeout=20)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, OPTIONS"
    assert running.service.exchanged == []
    got = requests.get(
        f"{running.url}/token/a%20b%2Fc", headers={"Authorization": "Bearer theirs"}, timeout=20
    )
    assert got.status_code == 200
    assert "ETag" not in got.headers
    assert running.service.exchanged == [("Bearer theirs", "a b/c")]


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/health"])
def test_a_request_is_counted_once(running: Running, path: str) -> None:
    requests.get(running.url + path, timeout=20)
    assert len(running.service.callers) <= 1
    running.service.callers.clear()
    requests.post(f"{running.url}/task/", data={"task_name": "x", "text": "y"}, timeout=20)
    assert len(running.service.callers) == 1


def test_a_throttled_page_may_read_when_to_come_again(running: Running) -> None:
    running.service.throttled = TooManyRequests("Too many requests.", retry_after=7)
    for path in ("/", "/task/", f"/task/{TASK}", "/nothing"):
        response = requests.get(running.url + path, headers={"Origin": ORIGIN}, timeout=20)
        assert response.status_code == 429
        assert response.headers["Retry-After"] == "7"
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    assert requests.options(f"{running.url}/task/", headers=preflight, timeout=20).status_code == 204
    assert requests.get(f"{running.url}/health", timeout=20).status_code == 200


def test_pipelined_requests(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        for _ in range(20):
            assert read_answer(sock).status == 200
            read_answer(sock).problem(404)


def test_http_1_0(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(f"GET /task/{TASK}/download?format=tar.gz HTTP/1.0\r\n\r\n".encode())
        whole = b""
        while data := sock.recv(65536):
            whole += data
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Transfer-Encoding" not in whole


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\n" + b"y" * 600_000, b""])
@pytest.mark.parametrize("start", [b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", b"GET /health?"])
def test_a_head_over_the_limit_is_told(running: Running, start: bytes, end: bytes) -> None:
    with running.connect() as sock:
        sock.sendall(start + b"x" * 20_000 + end)
        answer = read_answer(sock)
        assert "16384" in answer.problem(431)["detail"]
        assert at_end(sock)
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    until(lambda: not running.app.requests_under_way)
    assert json.loads(requests.get(running.url + "/health", timeout=20).content) == {"status": "ok"}


HOST = b"GET /me HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [b"GET /me HTTP/1.1\r\n\r\n", HOST + b"Host: y\r\n\r\n", b"GET /me\r\n\r\n",
     b"GET /me HTTP/2.0\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n", HOST + b"no colon\r\n\r\n",
     HOST + b"A: \0\r\n\r\n", HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
     HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100],
)  # fmt: skip
def test_what_is_no_http_is_told_as_any_error(running: Running, sent: bytes) -> None:
    with running.connect() as sock:
        sock.sendall(sent)
        answer = read_answer(sock)
        assert "HTTP/1.1" in answer.problem(400)["detail"]
        assert at_end(sock)
    assert answer.headers["connection"] == "close"
    until(lambda: not running.app.requests_under_way)


def test_an_answer_to_a_broken_head_follows_those_before_it(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /me\r\n\r\n" + b"x" * 300_000)
        assert read_answer(sock).status == 200
        read_answer(sock).problem(400)
        assert at_end(sock)


@pytest.mark.parametrize("target", ["http://other.example/health", "HTTPS://x:8443/health?a=b"])
def test_a_target_in_absolute_form(running: Running, target: str) -> None:
    with running.connect() as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert read_answer(sock).json() == {"status": "ok"}
        sock.sendall(b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sock).status == 200


@pytest.mark.parametrize("method", ["GET", "TRACE", "get", "FOO"])
def test_there_is_no_such_path_for_any_method(running: Running, method: str) -> None:
    with running.connect() as sock:
        sock.sendall(f"{method} /nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = read_answer(sock)
        answer.problem(404)
        assert "allow" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/task/x", "/task/x/status", "/task/x/file/", "/task/x/file/a", "/task/x/download"]
)
def test_the_closed_tell_nothing_of_what_is_no_uuid(running: Running, path: str) -> None:
    running.service.anonymous = False
    assert requests.get(running.url + path, timeout=20).status_code == 401
    assert requests.get(f"{running.url}/task/x/events", timeout=20).status_code == 401
