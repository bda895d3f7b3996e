"""What goes wrong on real machines: restarts, kills, full disks, odd names, hostile jobs."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import requests

from tests.disks import SmallDisk, fill
from tests.e2e.daemon import Daemon, daemon, wait_until

NAP = """
inline = '''#!/bin/sh
until [ -e "$1" ]; do sleep 0.02; done
exit "${2:-0}"
'''
[[param]]
name = "until"
type = "string"
[[param]]
name = "exit"
type = "int"
default = 0
"""

UPLOAD = """
inline = "wc -c < \\"$1\\""
[[param]]
name = "input"
type = "file"
required = true
"""


def submit(service: Daemon, name: str, files: Any = None, **fields: Any) -> str:
    answer = requests.post(
        f"{service.url}/task/", data={"task_name": name, **fields}, files=files, timeout=60
    )
    assert answer.status_code == 201, answer.text
    uuid: str = answer.json()["uuid"]
    return uuid


def task(service: Daemon, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{service.url}/task/{uuid}", timeout=60).json()
    return found


def state(service: Daemon, uuid: str) -> str:
    return str(task(service, uuid)["state"])


def ended(service: Daemon, uuid: str) -> dict[str, Any]:
    wait_until(lambda: state(service, uuid) in ("done", "failed", "stopped"), f"{uuid} to end")
    return task(service, uuid)


def uploads_left(service: Daemon) -> list[str]:
    return [str(path) for path in (service.tasks / ".incoming").rglob("*")]


# -- restarts and kills


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_jobs_go_on_and_are_adopted(tmp_path: Path, how: str) -> None:
    """One job ends while no daemon is there, one fails then, one runs on, one was still queued."""
    gate = {name: tmp_path / f"gate-{name}" for name in ("ends", "fails", "runs")}
    with daemon(tmp_path, start=False, drm={"slots": 3}) as service:
        service.script("nap", NAP)
        service.start()
        ends = submit(service, "nap", until=str(gate["ends"]))
        fails = submit(service, "nap", until=str(gate["fails"]), exit="7")
        runs = submit(service, "nap", until=str(gate["runs"]))
        queued = submit(service, "nap", until=str(gate["ends"]))
        for uuid in (ends, fails, runs):
            wait_until(lambda uuid=uuid: state(service, uuid) == "running", "the jobs to run")
        wait_until(lambda: state(service, queued) == "queued_active", "the last one to queue")
        assert how == "kill" or service.stop() == 0
        if how == "kill":
            service.kill()
        gate["ends"].touch()
        gate["fails"].touch()
        control = service.tasks / ".control"
        for uuid in (ends, fails):
            wait_until(lambda uuid=uuid: list((control / uuid).glob("ended.*")), "the jobs to end")
        service.start()
        assert ended(service, ends)["exit_status"] == 0
        assert ended(service, queued)["state"] == "done"
        failed = ended(service, fails)
        assert (failed["state"], failed["exit_status"]) == ("failed", 7)
        assert state(service, runs) == "running"
        gate["runs"].touch()
        assert ended(service, runs)["state"] == "done"


def test_a_job_killed_without_a_word_is_failed_and_never_done(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("nap", NAP)
        service.start()
        uuid = submit(service, "nap", until=str(tmp_path / "never"))
        wait_until(lambda: state(service, uuid) == "running", "the job to run")
        for process in service.jobs():
            with suppress(psutil.NoSuchProcess):  # the end of one may be that of the next
                process.kill()
        found = ended(service, uuid)
        assert found["state"] == "failed"
        assert found["detail"]


def test_a_time_limit_is_told(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("nap", NAP + '[resources]\nmax_clock_time = "1 s"\n')
        service.start()
        uuid = submit(service, "nap", until=str(tmp_path / "never"))
        found = ended(service, uuid)
        assert found["state"] == "failed"
        assert "time limit" in found["detail"].lower()


def test_a_stop_takes_children_that_left_the_session_along(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = f"setsid sleep 600 & echo $! > '{pids}'; trap '' TERM; sleep 600"
    with daemon(tmp_path, scripts={"fork": body}) as service:
        uuid = submit(service, "fork")
        wait_until(lambda: pids.exists() and pids.read_text().strip(), "the child")
        assert requests.put(f"{service.url}/task/{uuid}/stop", timeout=60).status_code == 200
        assert ended(service, uuid)["state"] == "stopped"
        wait_until(lambda: not service.jobs(), "all processes of the task to go")


def test_a_daemon_of_the_tests_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    """Jobs that are killed after their daemon has ended leave their temporary folders."""
    with daemon(tmp_path, scripts={"work": 'echo "$TMPDIR"; sleep 600'}) as service:
        uuid = submit(service, "work")
        out = service.tasks / uuid / f"{uuid[:8]}_out.txt"
        wait_until(lambda: out.exists() and out.read_text().endswith("\n"), "the job to begin")
    assert Path(out.read_text().strip()).is_relative_to(tmp_path)


def test_sigterm_lets_a_transfer_finish_and_takes_no_new_one(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    with daemon(tmp_path, scripts={"big": f"head -c {size} /dev/zero > big"}) as service:
        uuid = submit(service, "big")
        ended(service, uuid)
        with requests.get(f"{service.url}/task/{uuid}/file/big", stream=True, timeout=60) as answer:
            first = answer.raw.read(65536)
            service.signal(signal.SIGTERM)
            service.wait_for_log("stopping")
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{service.url}/health", timeout=60)
            rest = answer.raw.read()
        assert len(first) + len(rest) == size
        assert service.wait() == 0


def test_a_second_daemon_on_the_same_state_refuses(tmp_path: Path) -> None:
    with daemon(tmp_path) as service:
        second = Daemon(tmp_path)
        second.launch()
        assert second.wait() == 1
        assert str(service.pid) in second.text()
        assert requests.get(f"{service.url}/health", timeout=60).ok


def test_an_empty_folder_in_the_tasks_place_is_not_taken_for_theirs(tmp_path: Path) -> None:
    with daemon(
        tmp_path, scripts={"nop": "true", "slow": "sleep 600"}, allow=["is its file system"]
    ) as service:
        done, live = submit(service, "nop"), submit(service, "slow")
        ended(service, done)
        wait_until(lambda: state(service, live) == "running", "the job to run")
        service.stop()
        away = tmp_path / "away"
        service.tasks.rename(away)
        for exists in (False, True):  # such as a mount point without its file system
            if exists:
                service.tasks.mkdir()
            with pytest.raises(AssertionError, match="2 that have their files there"):
                service.start()
            assert not exists or not any(service.tasks.iterdir())
        service.tasks.rmdir()
        away.rename(service.tasks)
        service.start()
        assert state(service, live) == "running"
        service.stop()
        service.tasks.rename(away)
        (service.tasks / ".control").mkdir(parents=True)
        service.start()
        assert requests.get(f"{service.url}/task/{done}/file", timeout=60).status_code == 404
        assert requests.delete(f"{service.url}/task/{live}", timeout=60).status_code == 204


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with daemon(tmp_path, start=False, server={"port": port}, allow=["cannot listen"]) as service:
            service.launch()
            assert service.wait() == 1
            assert f"port {port}" in service.text()


def last_segment(service: Daemon) -> Path:
    segments = [path for path in service.state.glob("journal.*") if path.suffix[1:].isdigit()]
    return max(segments, key=lambda path: int(path.suffix[1:]))


def test_a_torn_last_line_of_the_journal_is_dropped_and_told(tmp_path: Path) -> None:
    with daemon(tmp_path, scripts={"nop": "true"}, allow=["torn"]) as service:
        uuid = submit(service, "nop")
        ended(service, uuid)
        service.kill()
        with last_segment(service).open("ab") as journal:
            journal.write(b'{"half a rec')
        service.start()
        service.wait_for_log("torn")
        assert state(service, uuid) == "done"
        assert b"half a rec" in (service.state / "journal.torn").read_bytes()


def test_damage_in_the_journal_is_reported_with_its_place_and_nothing_thrown_away(tmp_path: Path) -> None:
    with daemon(tmp_path, scripts={"nop": "true"}, allow=["ERROR"]) as service:
        uuids = [submit(service, "nop") for _ in range(3)]
        for uuid in uuids:
            ended(service, uuid)
        service.kill()
        segment = last_segment(service)
        content = bytearray(segment.read_bytes())
        content[len(content) // 3] ^= 1
        segment.write_bytes(content)
        service.launch()
        assert service.wait() == 1
        assert str(segment.name) in service.text()
        assert "store repair" in service.text()
        assert segment.read_bytes() == bytes(content)


# -- disks


def test_a_full_disk_under_the_tasks(tmp_path: Path, small_disk: SmallDisk) -> None:
    tasks = small_disk(4096)
    paths = {"tasks_dir": str(tasks)}
    with daemon(tmp_path, start=False, paths=paths, allow=["disk", "No space"]) as service:
        service.tasks = tasks
        service.script("size", UPLOAD)
        service.start()
        answer = requests.post(
            f"{service.url}/task/",
            data={"task_name": "size"},
            files={"input": ("x", bytes(8 * 1024 * 1024))},
            timeout=60,
        )
        assert answer.status_code == 507, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert not uploads_left(service)
        assert not [path for path in tasks.iterdir() if not path.name.startswith(".")]
        assert ended(service, submit(service, "size", {"input": ("x", b"123")}))["state"] == "done"


def test_a_disk_that_a_job_has_filled(tmp_path: Path, small_disk: SmallDisk) -> None:
    tasks = small_disk(4096)
    paths = {"tasks_dir": str(tasks)}
    with daemon(
        tmp_path, start=False, paths=paths, scripts={"nop": "true"}, allow=["disk", "No space"]
    ) as service:
        service.start()
        first = submit(service, "nop")
        ended(service, first)
        fill(tasks / first / "huge")
        answers = [
            requests.post(f"{service.url}/task/", data={"task_name": "nop"}, timeout=60) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [507, 507], answers[0].text
        assert requests.delete(f"{service.url}/task/{first}", timeout=60).status_code == 204
        assert ended(service, submit(service, "nop"))["state"] == "done"
        assert len([path for path in tasks.iterdir() if not path.name.startswith(".")]) == 1


def test_a_full_disk_under_the_store(tmp_path: Path, small_disk: SmallDisk) -> None:
    state_dir = small_disk(512)
    paths = {"state_dir": str(state_dir)}
    with daemon(
        tmp_path, start=False, paths=paths, scripts={"nop": "true"}, allow=["disk", "space"]
    ) as service:
        service.start()
        first = submit(service, "nop")
        ended(service, first)
        filler = state_dir / "filler"
        fill(filler)
        answer = None
        for _ in range(200):  # the journal's last block may have room for some records
            answer = requests.post(f"{service.url}/task/", data={"task_name": "nop"}, timeout=60)
            if answer.status_code != 201:
                break
        assert answer is not None
        assert answer.status_code == 507, answer.text
        assert requests.get(f"{service.url}/task/{first}", timeout=60).json()["state"] == "done"
        filler.unlink()
        wait_until(
            lambda: (
                requests.post(f"{service.url}/task/", data={"task_name": "nop"}, timeout=60).status_code
                == 201
            ),
            "tasks to be taken again",
        )
        service.restart()
        assert state(service, first) == "done"


def test_one_full_disk_under_everything(tmp_path: Path, small_disk: SmallDisk) -> None:
    """Its users make room on it themselves: they stop what fills it, and delete."""
    disk = small_disk(4096)
    paths = {"state_dir": str(disk / "state"), "tasks_dir": str(disk / "tasks")}
    scripts = {"nop": "true", "fill": "cat /dev/zero >big; sleep 600"}
    allow = ["disk", "space", "could not be"]
    with daemon(tmp_path, start=False, paths=paths, scripts=scripts, allow=allow) as service:
        service.start()
        first = submit(service, "nop")
        ended(service, first)
        filling = submit(service, "fill")
        wait_until(lambda: os.statvfs(disk).f_bavail == 0, "the disk to be full")
        answer = requests.post(f"{service.url}/task/", data={"task_name": "nop"}, timeout=60)
        assert answer.status_code == 507, answer.text
        assert requests.put(f"{service.url}/task/{filling}/stop", timeout=60).status_code in (200, 202)
        assert ended(service, filling)["state"] == "stopped"
        assert requests.delete(f"{service.url}/task/{first}", timeout=60).status_code == 204
        assert requests.delete(f"{service.url}/task/{filling}", timeout=60).status_code == 204
        second = submit(service, "nop")
        assert ended(service, second)["state"] == "done"
        service.restart()
        assert state(service, second) == "done"
        assert requests.get(f"{service.url}/task/{filling}", timeout=60).status_code == 404


# -- clients that go away


def test_nothing_remains_of_an_upload_that_breaks_off(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("size", UPLOAD)
        service.start()
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = (
                "POST /task/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
                '--b\r\nContent-Disposition: form-data; name="input"; filename="x"\r\n\r\n'
            )
            client.sendall(head.encode() + bytes(3_000_000))
            wait_until(lambda: uploads_left(service), "the upload to begin")
        wait_until(lambda: not uploads_left(service), "the upload to be removed")
        assert not [path for path in service.tasks.iterdir() if not path.name.startswith(".")]


def test_nothing_remains_of_an_upload_when_the_daemon_is_killed(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("size", UPLOAD)
        service.start()

        def chunks() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="input"; filename="x"\r\n\r\n'
            for _ in range(100_000):
                yield bytes(65536)

        def upload() -> None:
            with pytest.raises(requests.RequestException):
                requests.post(
                    f"{service.url}/task/",
                    data=chunks(),
                    headers={"Content-Type": "multipart/form-data; boundary=b"},
                    timeout=60,
                )

        thread = threading.Thread(target=upload)
        thread.start()
        wait_until(lambda: uploads_left(service), "the upload to begin")
        service.kill()
        thread.join()
        assert uploads_left(service)
        service.start()
        assert not uploads_left(service)


# -- names and what jobs leave behind

ODD_NAMES = [
    b"with space.txt",
    "\u00dcn\u00ef\u2014\u2603.fasta".encode(),
    b"../../../etc/passwd",
    b"-rf",
    b"it's $(id) `id`",
    b"x" * 300 + b".fa",
    b"semi;colon|pipe&.tar.gz",
    b"C:\\dir\\name.fa",
    b"bad\xff\xfeutf8.txt",
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("shared")
    with daemon(folder, start=False) as service:
        service.script("size", UPLOAD)
        service.script("leave", LEAVE)
        service.start()
        yield service


LEAVE = """
inline = \'\'\'#!/usr/bin/env python3
import os, socket
names = [b"with space", b"new\\nline", b"-dash", b"bad\\xff", b"d/..x", b"\\xe2\\x98\\x83"]
names += [b"n" * 255, b"%41"]
for name in names:
    os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
    with open(name, "wb") as stream:
        stream.write(name)
os.symlink("/etc/passwd", "link")
os.symlink("/etc", "folder-link")
os.symlink("with space", "inner-link")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.mkdir("closed")
open("closed/inside", "w").close()
os.chmod("closed", 0)
\'\'\'
"""

LEFT = [b"with space", b"new\nline", b"-dash", b"bad\xff", b"d/..x", b"\xe2\x98\x83", b"n" * 255, b"%41"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_uploads(shared: Daemon, name: bytes) -> None:
    quoted = name.replace(b'"', b"%22")
    body = (
        b'--b\r\nContent-Disposition: form-data; name="task_name"\r\n\r\nsize\r\n'
        b'--b\r\nContent-Disposition: form-data; name="input"; filename="' + quoted + b'"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n12345\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = requests.post(f"{shared.url}/task/", data=body, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    found = ended(shared, answer.json()["uuid"])
    assert found["state"] == "done"
    [(stored, shown)] = found["files_name"].items()
    assert stored.startswith("input")
    assert set(stored) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert shown
    content = requests.get(f"{shared.url}/task/{found['uuid']}/file/{stored}", timeout=60)
    assert content.content == b"12345"


def test_what_a_job_leaves_is_listed_and_sent_if_it_is_a_file(shared: Daemon) -> None:
    uuid = submit(shared, "leave")
    found = ended(shared, uuid)
    assert found["state"] == "done", requests.get(
        f"{shared.url}/task/{uuid}/file/{found['stderr']}", timeout=9
    ).text
    base = f"{shared.url}/task/{uuid}/file"
    details = requests.get(f"{base}/?details=1", timeout=60).json()
    outputs = {found["stdout"], found["stderr"]}
    listed = {entry["path"] for entry in details} - outputs
    expected = {quote(name) for name in LEFT}
    assert listed - {"closed/inside"} == expected  # root reads what others cannot
    for name in LEFT:
        answer = requests.get(f"{base}/{quote(name)}", timeout=60)
        assert (answer.status_code, answer.content) == (200, name)
    for name in ("link", "folder-link/passwd", "inner-link", "fifo", "socket", "closed", "../x", "%2e%2e/x"):
        assert requests.get(f"{base}/{name}", timeout=60).status_code == 404, name
    download = requests.get(f"{shared.url}/task/{uuid}/download", timeout=60)
    assert download.status_code == 200
    with zipfile.ZipFile(io.BytesIO(download.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert all(name.startswith(f"{uuid}/") for name in names)
        assert not [name for name in names if "link" in name or "fifo" in name or "socket" in name]
        assert archive.read(f"{uuid}/with space") == b"with space"
    assert requests.delete(f"{shared.url}/task/{uuid}", timeout=60).status_code == 204
    wait_until(lambda: not (shared.tasks / uuid).exists(), "the folder to go")


# -- scripts


def test_scripts_come_and_go_while_the_daemon_runs(tmp_path: Path) -> None:
    def names() -> list[str]:
        page = requests.get(f"{service.url}/script", timeout=60).json()
        return [script["name"] for script in page["results"]]

    with daemon(tmp_path, scripts={"one": "true"}, allow=["two.toml"]) as service:
        assert names() == ["one"]
        service.script("nap", NAP)
        service.signal(signal.SIGHUP)
        wait_until(lambda: names() == ["nap", "one"], "SIGHUP to be obeyed")
        gate = tmp_path / "gate"
        uuid = submit(service, "nap", until=str(gate))
        service.inline("two", "true")
        wait_until(lambda: "two" in names(), "the new script to be seen")
        (service.scripts / "two.toml").write_text('inline = "true"\nnonsense = 1\n')
        service.wait_for_log(r"two\.toml.*nonsense")
        seen = len(service.log)
        time.sleep(5)  # some looks at the folder: it is told once
        assert not [line for line in service.log[seen:] if "two.toml" in line]
        assert "two" in names()  # its last good version
        (service.scripts / "nap.toml").unlink()
        wait_until(lambda: "nap" not in names(), "the removal to be seen")
        gate.touch()
        assert ended(service, uuid)["state"] == "done"


def test_the_daemons_environment_does_not_reach_jobs(tmp_path: Path) -> None:
    secret = {"SECRET_TOKEN": "do-not-tell"}
    with daemon(
        tmp_path, scripts={"env": "env; cat /proc/$PPID/environ | tr '\\0' '\\n'"}, environ=secret
    ) as service:
        uuid = submit(service, "env")
        found = ended(service, uuid)
        text = requests.get(f"{service.url}/task/{uuid}/file/{found['stdout']}", timeout=60).text
        assert "SECRET_TOKEN" not in text
        assert f"DRMAATICD_TASK_ID={uuid}" in text
        assert "PYTHONUNBUFFERED=1" in text


def test_the_daemons_memory_is_closed_to_its_jobs(tmp_path: Path) -> None:
    """PR_SET_DUMPABLE 0: what belongs to the process in /proc is root's, even for the same account."""
    with daemon(tmp_path) as service:
        if os.geteuid() == 0:
            assert (Path("/proc") / str(service.pid) / "environ").stat().st_uid == 0
        else:
            with pytest.raises(PermissionError):
                (Path("/proc") / str(service.pid) / "mem").open("rb")
