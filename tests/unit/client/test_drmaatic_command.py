"""``drmaatic`` as a whole, in this process, against a small HTTP server."""

from __future__ import annotations

import argparse
import ast
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drmaaticd.client import (
    ApiError,
    Refused,
    Unreachable,
    WaitTimeout,
    cli,
    credentials,
    signin,
    status,
    upload,
)
from drmaaticd.client.arguments import add_parameters, inputs
from drmaaticd.client.terminal import printable
from tests.httpservice import CUT, TASK, Content, Service, task

SCRIPT = {
    "name": "stats",
    "description": "Numbers about 100% of a file, not %(prog)s",
    "param": [
        {"name": "input", "type": "file", "required": True, "extensions": [".fa"]},
        {"name": "min_length", "type": "int", "default": 0, "min": 0},
        {"name": "deep", "type": "bool"},
        {"name": "wait", "type": "string", "multiple": True},
    ],
}

Run = Callable[..., int]
Output = pytest.CaptureFixture[str]


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


# What starts a command


def test_help_loads_little() -> None:
    code = "import sys; from drmaaticd.client import cli; cli.build_parser(); print(sorted(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)
    assert not {"requests", "urllib3", "tqdm", "shtab", "tornado", "tinydb", "pydantic", "ssl"} & set(loaded)
    ours = {name for name in loaded if name.startswith("drmaaticd")}
    assert all(name == "drmaaticd" or name.startswith("drmaaticd.client") for name in ours)


def test_every_command_is_there() -> None:
    import importlib

    (commands,) = [a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert len(commands.choices) >= 20
    for name, parser in commands.choices.items():
        module, function = parser.get_default("run")
        assert callable(getattr(importlib.import_module(f"drmaaticd.client.{module}"), function)), name
    assert f"| {status.TIMED_OUT} |" in str(status.__doc__)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(drmaatic: Run, capsys: Output, shell: str) -> None:
    assert drmaatic("completion", shell) == 0
    output = capsys.readouterr().out
    for word in ("download", "rerun", "idempotency-key"):
        assert word in output


@pytest.mark.parametrize("words", [[], ["nonsense"], ["status"], ["--nonsense"], ["tasks", "--page", "x"]])
def test_a_wrong_command_line(drmaatic: Run, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        drmaatic(*words)
    assert ended.value.code == status.USAGE


# Scripts and running


def test_scripts(service: Service, drmaatic: Run, capsys: Output) -> None:
    listed = [{"name": "stats", "description": "Numbers\x1b[2J"}, {"name": "x"}]
    service.on("GET /script?page=1&page_size=100", {"results": listed, "next": None})
    assert drmaatic("scripts") == 0
    assert capsys.readouterr().out == "stats  Numbers\\x1b[2J\nx\n"
    service.on("GET /script/stats", SCRIPT)
    assert drmaatic("scripts", "stats") == 0
    output = capsys.readouterr().out
    assert "Numbers about 100% of a file, not %(prog)s" in output
    assert "--min-length INT" in output
    assert "(default 0; min 0)" in output
    assert drmaatic("scripts", "stats", "--json") == 0
    assert json.loads(capsys.readouterr().out) == SCRIPT


def test_a_script_cannot_write_to_the_terminal(service: Service, drmaatic: Run, capsys: Output) -> None:
    evil = {"name": "a\x1b", "type": "int", "description": "b\x1b[2J"}
    param = [evil, {**evil, "name": "k"}]
    service.on("GET /script/x", {"name": "x\x1b", "description": "c\x1b", "param": param})
    with pytest.raises(SystemExit):
        drmaatic("run", "x", "--help")
    assert "\x1b" not in capsys.readouterr().out


@pytest.fixture
def stats(service: Service, tmp_path: Path) -> Path:
    """The script and what it is given."""
    service.on("GET /script/stats", SCRIPT)
    service.on("POST /task/", task("received"), status=201)
    (tmp_path / "a.fa").write_bytes(b">a\n")
    return tmp_path / "a.fa"


def test_run(service: Service, drmaatic: Run, stats: Path, capsys: Output) -> None:
    assert drmaatic("run", "stats", "--input", stats) == 0
    assert capsys.readouterr().out == f"{TASK}\n"
    assert drmaatic("--json", "run", "stats", "--input", stats) == 0
    assert json.loads(capsys.readouterr().out)["uuid"] == TASK


def test_run_and_wait(service: Service, drmaatic: Run, stats: Path, capsys: Output) -> None:
    ended = task("failed", exit_status=3)
    service.on(f"GET /task/{TASK}", ended)
    assert drmaatic("run", "stats", "--input", stats, "--wait") == 3
    assert capsys.readouterr() == (f"{TASK}\n", "failed: exit 3\n")
    assert drmaatic("--json", "run", "--wait", "stats", "--input", stats) == 3
    said = capsys.readouterr()
    assert json.loads(said.out) == ended
    assert said.err == f"task {TASK}\nfailed: exit 3\n"


def test_output(service: Service, drmaatic: Run, stats: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "out"
    service.on(f"GET /task/{TASK}", task("done"))
    files = [{"path": "x", "size": 3, "modified": "2026-11-24T10:00:00.123Z"}]
    service.on(f"GET /task/{TASK}/file/?details=1", files)
    service.on(f"GET /task/{TASK}/file/x", b"abc")
    assert drmaatic("run", "stats", "--input", stats, "-o", out) == 0
    assert (out / "x").read_bytes() == b"abc"
    assert drmaatic("wait", TASK, "--output", out) == 0
    (out / "x").write_bytes(b"mine")
    assert drmaatic("wait", TASK, "--output", out) == 1
    assert "exists already" in capsys.readouterr().err
    assert drmaatic("wait", TASK, "--output", out, "--force") == 0


def test_wrong_values_are_told_by_option(
    service: Service, drmaatic: Run, stats: Path, capsys: Output
) -> None:
    names = ["min_length", "wait", "task_description", "dependencies", "new"]
    wrong = [{"name": name, "detail": "is wrong"} for name in names]
    service.on("POST /task/", {"title": "Invalid input", "errors": wrong}, status=400)
    assert drmaatic("run", "stats", "--input", stats) == status.USAGE
    assert re.findall(r"drmaatic:   (.*): is wrong", capsys.readouterr().err) == [
        "--min-length",
        "-p wait",
        "--description",
        "--after",
        "new",
    ]


def test_a_wrong_command_line_of_a_script(drmaatic: Run, stats: Path, tmp_path: Path, capsys: Output) -> None:
    for words, told in (
        (["--nonsense", "1"], "--nonsense"),
        (["-p", "wait"], "NAME=VALUE"),
        (["--input", str(tmp_path / "missing")], "--input: .*missing: there is no such file"),
        (["--input", str(tmp_path)], "--input: .*: is no regular file"),
    ):
        with pytest.raises(SystemExit) as ended:
            drmaatic("run", "stats", *words)
        assert ended.value.code == status.USAGE
        assert re.search(f"drmaatic run stats: error: .*{told}", capsys.readouterr().err)


def test_an_unknown_fate_is_told_with_a_key(
    service: Service, drmaatic: Run, stats: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.client.wire.Schedule.again", lambda self, error: False)
    service.answers["POST /task/"] = [(CUT, {}, b"")]
    assert drmaatic("run", "stats", "--input", stats) == status.UNAVAILABLE
    (key,) = re.findall(r"--idempotency-key (\S+)", capsys.readouterr().err)
    assert service.requests[-1][2]["Idempotency-Key"] == key


def test_ctrl_c_leaves_the_task(
    service: Service, drmaatic: Run, stats: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on(f"GET /task/{TASK}", task("running"))
    monkeypatch.setattr(
        "drmaaticd.client.watching.time.sleep", lambda pause: signal.raise_signal(signal.SIGINT)
    )
    assert drmaatic("run", "stats", "--input", stats, "--output", "out") == status.INTERRUPTED
    said = capsys.readouterr().err
    assert f"drmaatic wait {TASK} --output out\n" in said
    assert f"drmaatic stop {TASK}\n" in said
    assert service.asked("PUT") == service.asked("DELETE") == []


@pytest.mark.parametrize("when", ["in the body", "after it"])
def test_ctrl_c_while_sending(
    service: Service, drmaatic: Run, stats: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stats.write_bytes(b"x" * 2_000_000)
    real = upload._blocks

    def interrupted(path: Path, size: int) -> Any:
        yield from real(path, size // 2)
        signal.raise_signal(signal.SIGINT)

    def answer(headers: dict[str, str]) -> Any:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        threading.Event().wait(1)
        return CUT, {}, b""

    if when == "in the body":
        monkeypatch.setattr(upload, "_blocks", interrupted)
    else:
        service.answers["POST /task/"] = [answer]
    assert drmaatic("run", "stats", "--input", stats) == status.INTERRUPTED
    said = capsys.readouterr().err
    assert ("nothing was run" in said) == (when == "in the body")
    assert ("--idempotency-key" in said) == (when == "after it")


def test_a_wait_may_be_bounded(service: Service, drmaatic: Run, capsys: Output) -> None:
    service.on(f"GET /task/{TASK}", task("running"))
    assert drmaatic("wait", TASK, "--timeout", "0") == status.TIMED_OUT
    assert f"drmaatic wait {TASK}" in capsys.readouterr().err


# Tasks


def test_tasks(service: Service, drmaatic: Run, capsys: Output) -> None:
    row = task("failed", signal="SIGKILL", detail="\x1b[2Jtime")
    path = "GET /task/?state=failed&task_name=sta&page=2&page_size=1"
    service.on(path, {"count": 5, "next": "http://x", "previous": None, "results": [row]})
    words = ("tasks", "--state", "failed", "--script", "sta", "--page", "2", "--limit", "1")
    assert drmaatic(*words) == 0
    output = capsys.readouterr()
    assert output.out == f"{TASK}  failed  stats  2026-11-24 10:00:00  SIGKILL, \\x1b[2Jtime\n"
    assert "page 2 of 5" in output.err
    service.on("GET /task/?ids=a%2Cb&page=1&page_size=100", {"results": [], "next": None})
    assert drmaatic("tasks", "--all", "a", "b") == 0
    assert capsys.readouterr() == ("", "")
    service.on("GET /task/?page=1&page_size=20", {"count": 0, "results": [], "next": None})
    service.on("GET /me", {"group": "anonymous"})
    assert drmaatic("tasks") == 0
    assert "anonymous" in capsys.readouterr().err


def test_status(service: Service, drmaatic: Run, capsys: Output) -> None:
    array = {"begin": 1, "end": 3, "step": 1, "states": {"done": 2, "running": 1}}
    params = [{"name": "input", "value": "input.fa"}, {"name": "note", "value": "\x1b[2J"}]
    shown = task("running", params=params, files_name={"input.fa": "genes.fa"}, array=array)
    service.on(f"GET /task/{TASK}", shown)
    assert drmaatic("status", TASK) == 0
    output = capsys.readouterr().out
    for words in ("2 done, 1 running", "--input:   genes.fa", "--note:    \\x1b[2J"):
        assert words in output
    assert drmaatic("status", TASK, TASK, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [shown, shown]


def test_files_are_shown_and_not_obeyed(service: Service, drmaatic: Run, capsys: Output) -> None:
    files = [{"path": "a%1B%5B2J%FF%0A.txt", "size": 3, "modified": "now"}]
    service.on(f"GET /task/{TASK}/file/?details=1", files)
    assert drmaatic("files", TASK) == 0
    assert capsys.readouterr().out == "3  now  a\\x1b[2J\\udcff\\n.txt\n"


def test_download(
    service: Service, drmaatic: Run, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listing = [
        {"path": name, "size": 3, "modified": "2026-11-24T10:00:00Z"} for name in ("a.tsv", "b%20c", "d.tsv")
    ]
    service.on(f"GET /task/{TASK}/file/?details=1", listing)
    for name in ("a.tsv", "b%20c", "d.tsv"):
        service.answers[f"GET /task/{TASK}/file/{name}"] = [Content(b"abc")]
    assert drmaatic("download", TASK, "*.tsv", "b c") == 0
    assert capsys.readouterr().out.splitlines() == [f"{TASK}/{name}" for name in ("a.tsv", "b c", "d.tsv")]
    assert drmaatic("download", TASK, "*.csv") == 1
    assert "no file *.csv" in capsys.readouterr().err
    assert drmaatic("download", TASK, "-o", "all", "--json") == 0
    assert json.loads(capsys.readouterr().out) == ["all/a.tsv", "all/b c", "all/d.tsv"]
    service.on(f"GET /task/{TASK}/download", b"PK")
    assert drmaatic("download", TASK, "--archive", "zip") == 0
    assert (tmp_path / f"{TASK}.zip").read_bytes() == b"PK"
    assert drmaatic("download", TASK, "--archive", "zip") == 1
    assert drmaatic("download", TASK, "--archive", "zip", "--force") == 0
    assert drmaatic("download", TASK, "a.tsv", "--archive", "zip") == 1


def test_each_task_is_tried(service: Service, drmaatic: Run, capsys: Output) -> None:
    service.on("PUT /task/b/stop", {"detail": "is being stopped"})
    assert drmaatic("stop", "a", "b") == status.NO_INPUT
    output = capsys.readouterr()
    assert (output.out, output.err) == ("b: is being stopped\n", "drmaatic: a: HTTP 404 Not Found\n")
    service.on("DELETE /task/b", b"", status=204)
    assert drmaatic("rm", "b") == 0
    assert capsys.readouterr().out == "b: removed\n"
    for action in ("hold", "release", "suspend", "resume"):
        service.on(f"PUT /task/b/{action}", {"detail": "conflict"}, status=409)
        assert drmaatic(action, "b", "--json") == 1
        assert json.loads(capsys.readouterr().out)[0]["error"].endswith("conflict")
    service.on("PUT /task/b/get_ownership", {"detail": "yours"})
    assert drmaatic("own", "b") == 0


def test_nothing_was_written(service: Service, drmaatic: Run, capsys: Output) -> None:
    service.on(f"GET /task/{TASK}", task("queued_active"))
    assert drmaatic("logs", TASK) == 0
    assert "queued_active" in capsys.readouterr().err


def test_link(service: Service, drmaatic: Run, capsys: Output) -> None:
    made = {"url": f"http://x/drm/task/{TASK}?link=secret", "expires_in": 60}
    service.on(f"POST /task/{TASK}/link?lifetime=60", made, status=201)
    assert drmaatic("link", TASK, "--lifetime", "60") == 0
    said = capsys.readouterr()
    assert said.out == f"http://x/drm/task/{TASK}?link=secret\n"
    assert said.err.endswith(f"http://x/drm/ui/task/{TASK}?link=secret\n")
    assert drmaatic("link", TASK, "--lifetime", "60", "--json") == 0
    assert json.loads(capsys.readouterr().out) == made


def test_a_fault_of_the_service_is_told_with_its_number(
    service: Service, drmaatic: Run, capsys: Output
) -> None:
    service.on(f"GET /task/{TASK}", {}, status=500, **{"X-Request-ID": "abc123"})
    assert drmaatic("status", TASK) == 1
    assert "abc123" in capsys.readouterr().err


# Signing in


def test_login(
    service: Service, drmaatic: Run, capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    me = {"user_name": "me", "name": "My Self", "group": "registered", "is_admin": False}
    service.on("GET /me", me)
    service.on("GET /cpu-credit/", {"available_cpu_credit": 7})
    monkeypatch.setenv("DRMAATIC_TOKEN", "hush")
    assert drmaatic("login") == 0
    monkeypatch.delenv("DRMAATIC_TOKEN")
    output = capsys.readouterr()
    assert output.out == f"My Self (me) at {service.url}\n"
    assert "hush" not in output.err
    assert drmaatic("whoami") == 0
    assert "CPU credit: 7" in capsys.readouterr().out
    assert service.requests[-1][2]["Authorization"] == "Bearer hush"
    service.on("DELETE /token", b"", status=204)
    assert drmaatic("logout") == 0
    assert service.requests[-1][2]["Authorization"] == "Bearer hush"
    assert drmaatic("whoami") == 0
    assert "Authorization" not in service.requests[-1][2]
    assert drmaatic("logout") == 0


def test_a_bad_token_is_not_kept(
    service: Service, drmaatic: Run, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on("GET /me", {"title": "Not authenticated"}, status=401)
    for token, number in (("hush", status.NO_PERMISSION), ("hu sh", status.USAGE), (" ", status.WRONG)):
        monkeypatch.setenv("DRMAATIC_TOKEN", token)
        assert drmaatic("login") == number
    assert "hu" not in capsys.readouterr().err
    assert not credentials.path().exists()


def test_the_provider_s_token_is_exchanged(
    service: Service, drmaatic: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on("GET /token/0000-0002-1825-0097", {"access_token": "ours"})
    service.on("GET /me", {"user_name": "x", "group": "registered"})
    monkeypatch.setenv("DRMAATIC_PROVIDER_TOKEN", "theirs")
    assert drmaatic("login", "--exchange", "0000-0002-1825-0097") == 0
    assert [headers["Authorization"] for _, _, headers, _ in service.requests] == [
        "Bearer theirs",
        "Bearer ours",
    ]
    assert credentials.resolve(None)[1] == "ours"


def test_no_token_over_a_plain_connection(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRMAATIC_TOKEN", "hush")
    assert cli.main(["--url", "http://example.org", "login"]) == 1
    assert "unencrypted" in capsys.readouterr().err
    assert signin._is_private("https://example.org")
    assert signin._is_private("http://[::1]:8300")
    assert signin._is_private("http://localhost")
    assert not signin._is_private("http://127.0.0.1.example.org")


def test_logout_without_the_service(
    drmaatic: Run, service: Service, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.keep("http://127.0.0.1:1", "hush", "me")
    assert cli.main(["--url", "http://127.0.0.1:1", "logout"]) == status.UNAVAILABLE
    assert "could not be revoked" in capsys.readouterr().err
    assert credentials.resolve("http://127.0.0.1:1")[1] is None
    credentials.keep(service.url, "hush", "me")
    service.on("DELETE /token", {}, status=401)
    assert drmaatic("logout") == 0


# Exit statuses


@pytest.mark.parametrize(
    ("state", "more", "number"),
    [
        ("done", {}, 0),
        ("done", {"exit_status": 0}, 0),
        ("failed", {"exit_status": 3}, 3),
        ("failed", {"exit_status": 512}, 1),
        ("failed", {"exit_status": 137, "signal": "SIGKILL"}, 137),
        ("failed", {"signal": "SIGXCPU"}, 128 + signal.SIGXCPU),
        ("failed", {"signal": "SIGRTMIN+1"}, 128 + signal.SIGRTMIN + 1),
        ("failed", {"signal": "SIG33"}, 161),
        ("failed", {"signal": "nonsense"}, 1),
        ("failed", {}, 1),
        ("stopped", {}, 143),
        ("stopped", {"signal": "SIGKILL"}, 137),
        ("rejected", {}, 1),
    ],
)
def test_the_task_s_exit_status(state: str, more: dict[str, Any], number: int) -> None:
    assert status.of_task(task(state, **more)) == number  # type: ignore[arg-type]


def test_the_exit_status_of_errors() -> None:
    expected = {
        400: 2,
        401: 77,
        403: 77,
        404: 66,
        409: 1,
        413: 2,
        422: 2,
        429: 75,
        500: 1,
        503: 75,
        507: 75,
        599: 1,
    }
    assert {number: status.of_error(ApiError(number, "x")) for number in expected} == expected
    assert status.of_error(Unreachable("x")) == 69
    assert status.of_error(WaitTimeout("x")) == 124
    assert status.of_error(Refused("x")) == 1


def test_printable() -> None:
    assert printable("ü a") == "ü a"
    assert printable("\x1b[2J\x9b\u202e\n\udcff") == "\\x1b[2J\\x9b\\u202e\\n\\udcff"
