"""The client against a small HTTP server, and its upload encoder against a real parser."""

from __future__ import annotations

import argparse
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import multipart
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import ApiError, Client, ClientError, Unreachable, WaitTimeout, api, cli, upload
from drmaaticd.client.arguments import add_parameters, inputs

TASK = "6f1c3d1e-8a52-4b9e-9b5e-1c2d3e4f5a6b"
SCRIPT = {
    "name": "stats",
    "description": "Numbers about 100% of a file",
    "param": [
        {"name": "input", "type": "file", "required": True, "extensions": [".fa"]},
        {"name": "min_length", "type": "int", "default": 0, "min": 0},
        {"name": "deep", "type": "bool"},
        {"name": "wait", "type": "string", "multiple": True},
    ],
}

Answer = tuple[int, dict[str, str], bytes]


class Service:
    """Answers from a table and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.command, self.path, dict(self.headers), body))
                queue = service.answers.get(f"{self.command} {self.path}", [(404, {}, b"{}")])
                status, headers, content = queue.pop(0) if len(queue) > 1 else queue[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", headers.get("X-Length", str(len(content))))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = "X-Length" in headers

            do_GET = do_POST = do_PUT = do_DELETE = _answer

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, request: str, *answers: Any, status: int = 200, **headers: str) -> None:
        """Answer a request ("GET /path") with these one after the other, the last one for ever."""
        self.answers[request] = [
            (status, headers, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            for answer in answers
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url + "/") as made:
        yield made


@pytest.fixture
def drmaatic(service: Service) -> Callable[..., int]:
    return lambda *words: cli.main(["--url", service.url, *words])


# The encoder


def parsed(body: upload.MultipartBody) -> list[tuple[str, str | None, bytes]]:
    data = b"".join(body)
    assert len(data) == len(body)
    return parts_of(body.content_type, data)


def parts_of(content_type: str, data: bytes) -> list[tuple[str, str | None, bytes]]:
    """Name, file name and content of each part, by a parser that is not ours."""
    options = multipart.parse_options_header(content_type)[1]
    parts = multipart.MultipartParser(io.BytesIO(data), options["boundary"], content_length=len(data))
    found = []
    for part in parts:
        found.append((part.name, part.filename, part.raw))
        part.close()
    return found


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


# Client


def test_run_with_files_knows_its_length(service: Service, client: Client, tmp_path: Path) -> None:
    service.on("POST /task/", {"uuid": TASK}, status=201)
    (tmp_path / "a.fa").write_bytes(b">a\nACGT\n")
    task = client.run(
        "stats", {"deep": True, "wait": ["a", "b"]}, {"input": tmp_path / "a.fa"}, description="x"
    )
    assert task == {"uuid": TASK}
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
    problem = {
        "title": "Invalid input",
        "detail": "2 fields",
        "errors": [{"name": "k", "detail": "too small"}],
    }
    service.on("POST /task/", problem, status=400)
    with pytest.raises(ApiError) as caught:
        client.run("stats")
    assert (caught.value.status, caught.value.errors) == (400, {"k": "too small"})
    assert str(caught.value) == "Invalid input: 2 fields\n  k: too small"


def test_errors_of_others(service: Service, client: Client) -> None:
    service.on("GET /script/x", b"<html>", status=502)
    with pytest.raises(ApiError, match=r"^HTTP 502"):
        client.script("x")
    service.on("GET /script/y", b"<html>")
    with pytest.raises(ClientError, match="is it drmaaticd"):
        client.script("y")
    service.on("GET /script/z", b"", status=302, Location="/elsewhere")
    with pytest.raises(ApiError, match=r"^HTTP 302"):
        client.script("z")


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(Unreachable, match="refused"):
        client.task(TASK)


def test_pages(service: Service, client: Client) -> None:
    service.on("GET /task/?state=done&page=1&page_size=100", {"results": [{"n": 1}], "next": "http://x"})
    service.on("GET /task/?state=done&page=2&page_size=100", {"results": [{"n": 2}], "next": None})
    assert list(client.tasks(state="done")) == [{"n": 1}, {"n": 2}]


def test_wait(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FIRST_POLL", 0.001)
    states = ["queued_active", "running", "running", "done"]
    service.on(f"GET /task/{TASK}", *({"state": state} for state in states))
    seen: list[str] = []
    assert client.wait(TASK, changed=lambda task: seen.append(task["state"]))["state"] == "done"
    assert seen == ["queued_active", "running", "done"]


def test_wait_bears_a_restart_but_not_for_ever(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "FIRST_POLL", 0.001)
    monkeypatch.setattr(api, "LONGEST_POLL", 0.001)
    service.answers[f"GET /task/{TASK}"] = [
        (503, {}, b"{}"),
        (502, {}, b""),
        (200, {}, b'{"state": "failed"}'),
    ]
    assert client.wait(TASK)["state"] == "failed"
    monkeypatch.setattr(api, "PATIENCE", 0.01)
    service.on(f"GET /task/{TASK}", {}, status=503)
    with pytest.raises(ApiError):
        client.wait(TASK)
    service.on(f"GET /task/{TASK}", {"state": "running"})
    with pytest.raises(WaitTimeout):
        client.wait(TASK, timeout=0.01)


def test_a_refusal_ends_a_wait(service: Service, client: Client) -> None:
    service.on(f"GET /task/{TASK}", {"title": "Not found"}, status=404)
    with pytest.raises(ApiError, match="Not found"):
        client.wait(TASK)


def test_download(service: Service, client: Client, tmp_path: Path) -> None:
    disposition = {"Content-Disposition": f'attachment; filename="{TASK}.zip"'}
    service.on(f"GET /task/{TASK}/download", b"PK", **disposition)
    assert client.download(TASK, tmp_path) == tmp_path / f"{TASK}.zip"
    assert (tmp_path / f"{TASK}.zip").read_bytes() == b"PK"
    service.on(f"GET /task/{TASK}/download?format=tar.gz", b"\x1f")
    assert client.download(TASK, tmp_path / "mine", "tar.gz") == tmp_path / "mine"


def test_a_download_that_breaks_off_leaves_nothing(service: Service, client: Client, tmp_path: Path) -> None:
    service.on(f"GET /task/{TASK}/download", b"PK", **{"X-Length": "100"})
    with pytest.raises(Unreachable, match="broke off"):
        client.download(TASK, tmp_path)
    assert not list(tmp_path.iterdir())


def test_read_from_a_place_on(service: Service, client: Client) -> None:
    service.on(f"GET /task/{TASK}/file/out.txt", b"more", status=206)
    assert b"".join(client.read(TASK, "out.txt", 5)) == b"more"
    assert service.requests[-1][2]["Range"] == "bytes=5-"
    service.on(f"GET /task/{TASK}/file/out.txt", {}, status=416)
    assert b"".join(client.read(TASK, "out.txt", 9)) == b""


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


# The arguments of `run`


def given_inputs(*words: str) -> tuple[dict[str, list[str]], dict[str, list[Path]]]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--wait", action="store_true")
    add_parameters(parser, SCRIPT)
    found = inputs(parser.parse_args(words), SCRIPT)
    return found.values, found.files


def test_parameters_are_options() -> None:
    words = ("--input", "a.fa", "--min-length", "5", "--deep")
    assert given_inputs(*words) == ({"min_length": ["5"], "deep": ["true"]}, {"input": [Path("a.fa")]})
    assert given_inputs("--min_length=-5")[0] == {"min_length": ["-5"]}
    assert given_inputs("--min-length", "-5")[0] == {"min_length": ["-5"]}


def test_a_parameter_by_its_name() -> None:
    assert given_inputs("-p", "wait=x=1", "-p", "wait=", "--wait")[0] == {"wait": ["x=1", ""]}
    assert given_inputs("-p", "input=a.fa")[1] == {"input": [Path("a.fa")]}
    with pytest.raises(ValueError, match="NAME=VALUE"):
        given_inputs("-p", "wait")


# drmaatic


def test_scripts(service: Service, drmaatic: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    listed = [{"name": "stats", "description": "Numbers"}, {"name": "x"}]
    service.on("GET /script?page=1&page_size=100", {"results": listed, "next": None})
    assert drmaatic("scripts") == 0
    assert capsys.readouterr().out == "stats  Numbers\nx\n"
    service.on("GET /script/stats", SCRIPT)
    assert drmaatic("scripts", "stats") == 0
    output = capsys.readouterr().out
    assert "Numbers about 100% of a file" in output
    assert "--min_length INT" in output
    assert "(default 0; min 0)" in output


def test_run_and_wait(
    service: Service, drmaatic: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.fa").write_bytes(b">a\n")
    service.on("GET /script/stats", SCRIPT)
    service.on("POST /task/", {"uuid": TASK, "state": "received", "task_name": "stats"}, status=201)
    ended = {"uuid": TASK, "state": "failed", "task_name": "stats", "exit_status": 3}
    service.on(f"GET /task/{TASK}", ended)
    assert drmaatic("run", "stats", "--input", str(tmp_path / "a.fa")) == 0
    assert capsys.readouterr().out == f"{TASK}  received  stats\n"
    assert drmaatic("run", "stats", "--input", str(tmp_path / "a.fa"), "--wait") == 1
    assert capsys.readouterr().err == f"task {TASK}\nfailed: exit 3\n"
    assert drmaatic("--json", "run", "stats", "--wait") == 1
    assert json.loads(capsys.readouterr().out) == ended


def test_output(service: Service, drmaatic: Callable[..., int], tmp_path: Path) -> None:
    service.on("GET /script/stats", SCRIPT)
    service.on("POST /task/", {"uuid": TASK, "state": "received", "task_name": "stats"}, status=201)
    service.on(f"GET /task/{TASK}", {"uuid": TASK, "state": "done", "task_name": "stats"})
    files = [{"path": "sub/a%20b%FF.txt", "size": 3, "modified": ""}]
    service.on(f"GET /task/{TASK}/file/?details=1", files)
    service.on(f"GET /task/{TASK}/file/sub/a%20b%FF.txt", b"abc")
    assert drmaatic("run", "stats", "--output", str(tmp_path / "out")) == 0
    (made,) = (tmp_path / "out" / "sub").iterdir()
    assert (made.name, made.read_bytes()) == ("a b\udcff.txt", b"abc")
    assert drmaatic("run", "stats", "--output", str(tmp_path / "out")) == 1
    assert drmaatic("run", "stats", "--output", str(tmp_path / "out"), "--force") == 0


@pytest.mark.parametrize("path", ["..%2Fx", "/etc/x", "a/../../x", "%2E%2E/x", "."])
def test_no_file_leaves_the_folder(service: Service, client: Client, tmp_path: Path, path: str) -> None:
    service.on(f"GET /task/{TASK}/file/?details=1", [{"path": path, "size": 3, "modified": ""}])
    with pytest.raises(cli.Refused, match="outside"):
        cli.save_files(client, TASK, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_logs(service: Service, drmaatic: Callable[..., int], capfdbinary: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cli, "FOLLOW_PAUSE", 0.001)
    names = {"uuid": TASK, "stdout": "6f1c3d1e_out.txt", "stderr": "6f1c3d1e_err.txt"}
    service.on(f"GET /task/{TASK}", {**names, "state": "running"}, {**names, "state": "done"})
    path = f"GET /task/{TASK}/file/6f1c3d1e_out.txt"
    service.answers[path] = [(404, {}, b"{}"), (200, {}, b"one\n")]
    assert drmaatic("logs", "--follow", TASK) == 0
    assert capfdbinary.readouterr().out == b"one\n"
    service.on(f"GET /task/{TASK}/file/6f1c3d1e_err.txt", b"\xff\x00")
    assert drmaatic("logs", "--stderr", TASK) == 0
    assert capfdbinary.readouterr().out == b"\xff\x00"


def test_stop_and_rm_go_on_after_a_refusal(
    service: Service, drmaatic: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    service.on("PUT /task/b/stop", {"detail": "is being stopped"})
    assert drmaatic("stop", "a", "b") == 1
    output = capsys.readouterr()
    assert (output.out, output.err) == ("b: is being stopped\n", "a: HTTP 404 Not Found\n")
    service.on("DELETE /task/b", b"", status=204)
    assert drmaatic("rm", "b") == 0
    assert capsys.readouterr().out == "b: removed\n"


def test_status(service: Service, drmaatic: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    task = {
        "uuid": TASK,
        "state": "failed",
        "task_name": "stats",
        "signal": "SIGKILL",
        "detail": "\x1b[2Jtime",
    }
    service.on(f"GET /task/{TASK}", task)
    assert drmaatic("status", TASK) == 0
    assert capsys.readouterr().out == f"{TASK}  failed  stats  SIGKILL, \\x1b[2Jtime\n"
    service.on("GET /task/?page=1&page_size=100", {"results": [], "next": None})
    assert drmaatic("status") == 0
    assert capsys.readouterr().out == ""


def test_refusals_are_told(
    service: Service, drmaatic: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert drmaatic("run", "nothing") == 1
    assert capsys.readouterr().err == "drmaatic: HTTP 404 Not Found\n"
    service.on("GET /script/stats", SCRIPT)
    with pytest.raises(SystemExit) as ended:
        drmaatic("run", "stats", "--nonsense", "1")
    assert ended.value.code == 2
    assert "usage: drmaatic run stats" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        drmaatic("run", "stats", "--help")
    assert ended.value.code == 0
    assert "--deep [true|false]" in capsys.readouterr().out
