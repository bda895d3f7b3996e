"""The client against a real daemon, as a user has it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import requests

from drmaaticd.client import Client, Unreachable
from drmaaticd.settings import ORCID_PATTERN
from tests.e2e.daemon import PATIENCE, ROOT, Daemon, daemon, wait_until
from tests.e2e.proxy import Proxy
from tests.provider import Provider

#: A file that would be seen in the client's memory if it were held there, and what the client may have.
LARGE, BOUND = 1024**3, 160 * 1024**2

KEEP = """
inline = '''#!/bin/sh
wc -c < "$1"
echo "$2" > note.txt
'''
[[param]]
name = "input"
type = "file"
required = true
[[param]]
name = "note"
type = "string"
allow_dash = true
default = ""
[[param]]
name = "how_many"
type = "int"
min = 1
"""

#: Two streams, line by line, for as long as nobody has seen the first ones.
TALKS = """
i=0
while [ $i -lt 3000 ]; do
    echo "line $i"
    echo "error $i" >&2
    i=$((i + 1))
    [ $((i % 500)) -ne 0 ] || sleep 0.2
done
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("drmaatic"), start=False, drm={"slots": 4}) as running:
        running.script("keep", KEEP)
        running.inline("fails", "echo why >&2; exit 3")
        running.inline("killed", "kill -USR1 $$")
        running.inline("sleeps", "echo begun; sleep 600")
        running.inline("talks", TALKS)
        running.inline("gate", "while [ ! -e go ]; do sleep 0.1; done")
        running.inline("odd", r"""echo x > "$(printf 'a\033[2Jb')"; printf '\033[2J\033]0;title\007gone\n'""")
        running.inline("large", "head -c 5000000 /dev/urandom > out.bin")
        yield running.start()


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("DRMAATIC_")}
    return {**plain, "PYTHONPATH": str(ROOT), "DRMAATIC_URL": url, "XDG_CONFIG_HOME": str(home), **more}


MODULE = ("-m", "drmaaticd.client.cli")


@pytest.fixture
def drmaatic(service: Daemon, tmp_path: Path) -> Command:
    def run(
        *words: str | Path, program: Sequence[str] = MODULE, url: str = "", typed: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *program, *map(str, words)],
            env=environment(url or service.url, tmp_path / "home", **environ),
            cwd=tmp_path,
            input=typed,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def task_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_run_from_file_to_file(drmaatic: Command, tmp_path: Path) -> None:
    source = tmp_path / "my 'genes' ü.fasta"
    source.write_bytes(b">a\nACGT\n")
    out = tmp_path / "results"
    done = drmaatic("run", "keep", "--input", source, "--note", "it's $HOME", "--output", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "done"
    files = {path.name: path.read_text() for path in out.iterdir()}
    assert files["note.txt"] == "it's $HOME\n"
    assert files["input.fasta"] == ">a\nACGT\n"
    uuid = done.stdout.strip()
    assert files[f"{uuid[:8]}_out.txt"].strip() == "8"

    assert drmaatic("logs", uuid).stdout.strip() == "8"
    listed = json.loads(drmaatic("--json", "files", uuid).stdout)
    assert {file["path"] for file in listed} == set(files)
    assert drmaatic("download", uuid, "--archive", "zip").stdout == f"{uuid}.zip\n"
    with zipfile.ZipFile(tmp_path / f"{uuid}.zip") as archive:
        assert archive.read(f"{uuid}/note.txt") == b"it's $HOME\n"
    assert json.loads(drmaatic("status", uuid, "--json").stdout)["files_name"] == {"input.fasta": source.name}

    again = drmaatic("rerun", uuid, "--note", "other", "--wait", "--json")
    assert again.returncode == 0, again.stderr
    new = json.loads(again.stdout)
    assert (new["uuid"] != uuid, new["files_name"]) == (True, {"input.fasta": source.name})
    assert drmaatic("download", new["uuid"], "note.txt", "-o", "again").returncode == 0
    assert (tmp_path / "again" / "note.txt").read_text() == "other\n"
    rows = drmaatic("tasks", uuid, new["uuid"]).stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [[new["uuid"], "done"], [uuid, "done"]]

    assert drmaatic("rm", uuid, new["uuid"]).returncode == 0
    gone = drmaatic("status", uuid)
    assert gone.returncode == 66
    assert gone.stderr.startswith("drmaatic: Not found")


def test_the_exit_status_is_the_task_s(drmaatic: Command) -> None:
    done = drmaatic("run", "fails", "--wait")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("failed: exit 3")
    uuid = done.stdout.strip()
    logged = drmaatic("logs", uuid)
    assert (logged.stdout, logged.stderr) == ("", "why\n")
    assert drmaatic("run", "killed", "--wait").returncode == 128 + signal.SIGUSR1


def test_wrong_values_are_all_named(drmaatic: Command, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    done = drmaatic("run", "keep", "-p", "nonsense=1", "--how-many", "0")
    assert done.returncode == 2
    for name in ("--input", "--how-many", "nonsense"):
        assert f"drmaatic:   {name}: " in done.stderr
    assert drmaatic("run", "nothing").returncode == 66
    assert "--how-many INT" in drmaatic("run", "keep", "--help").stdout


def test_rights_and_the_net(drmaatic: Command) -> None:
    done = drmaatic("tasks", DRMAATIC_TOKEN="a-secret-that-is-none")
    assert done.returncode == 77
    assert "drmaatic login" in done.stderr
    assert "a-secret" not in done.stderr
    away = drmaatic("tasks", url="http://127.0.0.1:1")
    assert away.returncode == 69
    assert "Traceback" not in away.stderr


def test_stop_and_wait(drmaatic: Command) -> None:
    uuid = task_of(drmaatic("run", "sleeps"))
    wait_until(lambda: "begun" in drmaatic("logs", uuid).stdout, "the job to begin")
    assert drmaatic("wait", uuid, "--timeout", "0.1").returncode == 124
    assert drmaatic("suspend", uuid).returncode == 0
    assert drmaatic("resume", uuid).returncode == 0
    assert drmaatic("stop", uuid).returncode == 0
    assert drmaatic("logs", "--follow", uuid).stdout == "begun\n"
    assert drmaatic("wait", uuid).returncode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert drmaatic("hold", uuid).returncode == 1


def test_ctrl_c_leaves_the_task_running(service: Daemon, drmaatic: Command, tmp_path: Path) -> None:
    words = ("run", "sleeps", "--wait")
    with subprocess.Popen(
        [sys.executable, *MODULE, *words],
        env=environment(service.url, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        while "running" not in said:
            said += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
        assert process.wait(PATIENCE) == 130
    (command,) = re.findall(r"drmaatic (wait .*)", said)
    uuid = command.split()[1]
    assert json.loads(drmaatic("status", uuid, "--json").stdout)["state"] == "running"
    assert drmaatic("rm", uuid).returncode == 0


def test_a_wait_outlives_a_restart(tmp_path: Path) -> None:
    with daemon(
        tmp_path, scripts={"waits": 'while [ ! -e "$1" ]; do sleep 0.1; done'}, start=False
    ) as service:
        definition = service.scripts / "waits.toml"
        definition.write_text(definition.read_text() + '[[param]]\nname = "flag"\ntype = "string"\n')
        service.start()
        with Client(service.url) as client:
            task = client.run("waits", {"flag": str(tmp_path / "flag")})
            service.restart()
            client.url = service.url  # another free port
            (tmp_path / "flag").touch()
            assert client.wait(task["uuid"])["state"] == "done"


def test_following_loses_no_line(service: Daemon, drmaatic: Command) -> None:
    uuid = task_of(drmaatic("run", "talks"))
    with Proxy(service.url) as proxy:
        proxy.cut_answers = [4000, 9000, 1, 20_000]
        followed = drmaatic("logs", "-f", uuid, url=proxy.url)
        assert proxy.cuts == 4
    assert followed.returncode == 0, followed.stderr[-500:]
    assert followed.stdout.splitlines() == [f"line {number}" for number in range(3000)]
    assert followed.stderr.splitlines() == [f"error {number}" for number in range(3000)]


def test_a_broken_upload_makes_one_task(service: Daemon, drmaatic: Command, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"x" * 8_000_000)
    before = len(list(service.tasks.iterdir()))
    with Proxy(service.url) as proxy:
        # In the middle of the body; at its end, when the service has all; then at the answer itself.
        proxy.cut_requests = [3_000_000, 7_999_999]
        done = drmaatic("run", "keep", "--input", tmp_path / "input", "--wait", url=proxy.url)
        assert proxy.cuts == 2
        assert done.returncode == 0, done.stderr
        with Client(proxy.url) as client:
            client.script("keep")
            proxy.cut_requests = [1_000_000]
            key = "a-key-of-twenty-two-characters"
            once = client.run("keep", {}, {"input": tmp_path / "input"}, idempotency_key=key)
            twice = client.run("keep", {}, {"input": tmp_path / "input"}, idempotency_key=key)
    assert once["uuid"] == twice["uuid"]
    assert len(list(service.tasks.iterdir())) == before + 2


def test_an_answer_that_is_lost_makes_one_task(service: Daemon, tmp_path: Path) -> None:
    before = len(list(service.tasks.iterdir()))
    with Proxy(service.url) as proxy, Client(proxy.url) as client:
        client.me()
        client.close()  # the next request has a connection of its own
        proxy.cut_answers = [10]
        task = client.run("fails")
        assert proxy.cuts == 1
        assert client.task(task["uuid"])["uuid"] == task["uuid"]
    assert len(list(service.tasks.iterdir())) == before + 1


def test_a_download_that_breaks_off_is_continued(service: Daemon, drmaatic: Command, tmp_path: Path) -> None:
    uuid = task_of(drmaatic("run", "large"))
    assert drmaatic("wait", uuid).returncode == 0
    stored = service.tasks / uuid / "out.bin"
    with Proxy(service.url) as proxy:
        proxy.cut_answers = [1_000_000, 2_000_000]
        done = drmaatic("download", uuid, "-o", "out", url=proxy.url)
        assert (done.returncode, proxy.cuts) == (0, 2), done.stderr
    assert (tmp_path / "out" / "out.bin").read_bytes() == stored.read_bytes()
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".part"]


def test_the_next_command_continues_a_download(service: Daemon, drmaatic: Command, tmp_path: Path) -> None:
    uuid = task_of(drmaatic("run", "large"))
    assert drmaatic("wait", uuid).returncode == 0
    words = (uuid, "out.bin", "-o", "out")
    with Proxy(service.url) as proxy:
        with Client(proxy.url, patience=0) as client:
            client.me()
            client.close()
            proxy.cut_answers = [3_000_000]
            with pytest.raises(Unreachable, match="broke off"):
                client.download(uuid, tmp_path / "out", ["out.bin"])
        (part,) = (tmp_path / "out").iterdir()
        assert part.stat().st_size > 0
        begin = len(service.log)
        done = drmaatic("download", *words, url=proxy.url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "out.bin").read_bytes() == (service.tasks / uuid / "out.bin").read_bytes()
    assert any("out.bin 206" in line for line in service.log[begin:]), "only the rest was asked for"


def test_a_busy_service_is_waited_for(tmp_path: Path) -> None:
    """More than the rate allows is answered 429 with a time."""
    with daemon(tmp_path, scripts={"ok": "true"}, groups={"anonymous": {"rate": "2/s"}}) as service:
        told: list[str] = []
        with Client(service.url, notice=lambda error, pause: told.append(str(error))) as client:
            for _ in range(100):
                assert client.script("ok")["name"] == "ok"
                if told:
                    break
        assert "Too many requests" in told[0]


def test_names_and_logs_do_not_speak_to_the_terminal(drmaatic: Command, tmp_path: Path) -> None:
    uuid = task_of(drmaatic("run", "odd"))
    assert drmaatic("wait", uuid).returncode == 0
    assert "\x1b" not in drmaatic("files", uuid).stdout
    assert drmaatic("download", uuid, "-o", "out").returncode == 0
    assert "a_[2Jb" in os.listdir(tmp_path / "out")  # noqa: PTH208
    assert drmaatic("logs", uuid).stdout.startswith("\x1b[2J"), "a pipe gets what was written"


def on_a_terminal(
    service: Daemon,
    home: Path,
    *words: str | Path,
    typed: bytes = b"",
    react: Callable[[str], None] = lambda seen: None,
) -> tuple[int, str]:
    """Exit status and everything that a terminal was sent; `react` is handed what there is so far."""
    pid, terminal = pty.fork()
    if pid == 0:
        environ = environment(service.url, home, TERM="xterm", COLUMNS="100")
        os.execve(sys.executable, [sys.executable, *MODULE, *map(str, words)], environ)
    seen = b""
    while True:
        assert select.select([terminal], [], [], PATIENCE)[0], seen
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side has gone
            break
        if not data:
            break
        seen += data
        react(seen.decode("utf-8", "replace"))
        if typed and b": " in seen:
            os.write(terminal, typed)
            typed = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_what_a_terminal_shows(service: Daemon, drmaatic: Command, tmp_path: Path) -> None:
    def let_go(seen: str) -> None:
        if re.search(r"\rrunning  \d\d:\d\d", seen):
            found = re.search(r"^([0-9a-f-]{36})\r\n", seen, re.MULTILINE)
            assert found
            (service.tasks / found[1] / "go").touch()

    status, seen = on_a_terminal(service, tmp_path, "run", "gate", "--wait", react=let_go)
    assert status == 0, seen
    assert re.search(r"done  00:\d\d\s*\r\n$", seen)
    uuid = task_of(drmaatic("run", "odd"))
    drmaatic("wait", uuid)
    for words in (("logs", uuid), ("files", uuid), ("download", uuid, "-o", str(tmp_path / "out"))):
        status, seen = on_a_terminal(service, tmp_path, *words)
        assert status == 0, seen
        assert "\x1b]0" not in seen
        assert "\x1b[2J" not in seen
    status, seen = on_a_terminal(service, tmp_path, "logs", uuid)
    assert "\\x1b[2J\\x1b]0;title\\x07gone" in seen


def test_signing_in(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.people["theirs"] = {"sub": "0000-0002-1825-0097", "name": "Josiah Carberry"}
        orcid = {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}
        folder = tmp_path / "daemon"
        folder.mkdir()
        with daemon(folder, auth={"providers": [orcid]}) as service:
            home = tmp_path / "home"
            words = ("login", "--exchange", "0000-0002-1825-0097")
            status, seen = on_a_terminal(service, home, *words, typed=b"theirs\n")
            assert status == 0, seen
            assert "theirs" not in seen, "what is pasted is not shown"
            assert "Josiah Carberry (0000-0002-1825-0097)" in seen
            kept = home / "drmaatic" / "credentials.json"
            assert kept.stat().st_mode & 0o777 == 0o600
            (token,) = [entry["token"] for entry in json.loads(kept.read_text())["services"].values()]
            assert token not in seen

            def run(*command: str, typed: str = "") -> subprocess.CompletedProcess[str]:
                return subprocess.run(
                    [sys.executable, *MODULE, *command],
                    env=environment(service.url, home),
                    input=typed,
                    capture_output=True,
                    text=True,
                    timeout=100,
                    check=False,
                )

            assert "group: registered" in run("whoami").stdout
            assert run("logout").returncode == 0
            assert run("whoami").stdout.startswith("anonymous")
            refused = run("login", typed=f"{token}\n")
            assert refused.returncode == 77, "it was revoked"
            assert token not in refused.stderr
            assert not service.bad_lines()
            assert token not in service.text()


#: The command, and at its end its peak memory in kilobytes (proc(5), VmHWM: that of this program alone;
#: getrusage may count what its parent had before the exec).
MEASURED = """
import sys
from pathlib import Path
from drmaaticd.client.cli import main
status = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(status)
"""


def test_transfers_are_not_held_in_memory(drmaatic: Command, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    words = ("run", "keep", "--input", tmp_path / "large", "--output", "out")
    done = drmaatic(*words, program=("-c", MEASURED))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "input").stat().st_size == LARGE
    assert int(done.stderr.splitlines()[-1]) * 1024 < BOUND
    (tmp_path / "out" / "input").unlink()
    drmaatic("rm", done.stdout.strip())


def test_waiting_listens_and_does_not_ask(service: Daemon, drmaatic: Command) -> None:
    uuid = task_of(drmaatic("run", "gate"))
    begin = len(service.log)
    with Client(service.url) as client:
        looks = client.looks(uuid)
        state = ""
        while state != "running":
            state = next(looks)["state"]
        (service.tasks / uuid / "go").touch()
        assert [task["state"] for task in looks][-1] == "done"
    service.wait_for_log(rf"GET /task/{uuid}/events 200", begin)
    assert sum(f"GET /task/{uuid} 200" in line for line in service.log[begin:]) < 20


def test_a_link_is_for_those_without_a_token(service: Daemon, drmaatic: Command) -> None:
    uuid = task_of(drmaatic("run", "fails"))
    drmaatic("wait", uuid)
    made = drmaatic("link", uuid, "--lifetime", "60")
    assert made.returncode == 0, made.stderr
    assert "for 60 s" in made.stderr
    answer = requests.get(made.stdout.strip(), timeout=20)
    assert answer.json()["uuid"] == uuid
    page = requests.get(made.stderr.splitlines()[-1], timeout=20)
    assert page.headers["Content-Type"].startswith("text/html")
    assert uuid in page.text
