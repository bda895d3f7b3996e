"""A job's whole life under a second account: started, adopted, suspended, stopped; its files."""

from __future__ import annotations

import io
import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from drmaaticd.drm import processes
from drmaaticd.drm.otheraccount import helper_command
from drmaaticd.workspace import Workspace
from tests.e2e.daemon import Daemon, wait_until
from tests.runas.places import as_job, jobs_account, with_jobs_apart

#: Who runs it, then a word, then it waits for a file in its folder.
WAIT = 'id -un; touch started; until [ -e go ]; do sleep 0.05; done; exit "${1:-0}"'

#: What mkstemp(3), private folders and careless programs leave.
PRIVATE = """
umask 077
mkdir -p deep/er closed/inner
echo secret >deep/er/file
echo plain >top
echo hidden >closed/inner/file
head -c 200000 /dev/urandom >closed/inner/counted
ln -s /etc/passwd link
mkfifo fifo
chmod 0 closed/inner
chmod 0500 closed
echo more >deep/big
chmod 0 deep/big
"""

ARRAY = "[array]\nbegin = 1\nend = 3\n"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Daemon]:
    with with_jobs_apart(tmp_path, drm={"slots": 3}, allow=[r"goes on; it is ended"]) as made:
        made.inline("wait", WAIT)
        made.inline("private", PRIVATE)
        made.inline(
            "members", 'echo "$DRMAATICD_TASK_INDEX"; touch up.$DRMAATICD_TASK_INDEX; sleep 600', ARRAY
        )
        made.inline("leave", "sleep 600 & setsid sleep 600 & exit 0")
        yield made.start()


def submit(service: Daemon, script: str, **fields: Any) -> str:
    answer = requests.post(f"{service.url}/task/", data={"task_name": script, **fields}, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


def task(service: Daemon, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{service.url}/task/{uuid}", timeout=30).json()
    return found


def until(service: Daemon, uuid: str, *states: str) -> dict[str, Any]:
    wait_until(lambda: task(service, uuid)["state"] in states, f"{uuid} to be {states}")
    return task(service, uuid)


def started(service: Daemon, uuid: str) -> Path:
    folder = service.tasks / uuid
    wait_until((folder / "started").exists, "the job to be there")
    until(service, uuid, "running")
    return folder


def go(folder: Path) -> None:
    (folder / "go").touch()


#: Run under the jobs' account, which alone may look: the processes whose environment holds a word.
FIND = """
import pathlib, sys
for place in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if sys.argv[1].encode() in (place / "environ").read_bytes().split(b"\\0"):
            print(place.name)
    except OSError:
        continue
"""


def job_processes(uuid: str) -> list[processes.Stat]:
    """The living processes of a task."""
    status, said = as_job(sys.executable, "-c", FIND, f"DRMAATICD_TASK_ID={uuid}")
    assert status == 0, said
    found = [processes.read_stat(int(word)) for word in said.split()]
    return [stat for stat in found if stat is not None and stat.state not in "ZX"]


def test_it_runs_as_the_other_account(service: Daemon) -> None:
    uuid = submit(service, "wait")
    folder = started(service, uuid)
    assert (folder / "started").stat().st_uid == jobs_account().uid != os.geteuid()
    go(folder)
    ended = until(service, uuid, "done", "failed")
    assert ended["state"] == "done"
    out = requests.get(f"{service.url}/task/{uuid}/file/{ended['stdout']}", timeout=30)
    assert out.text == f"{os.environ['RUNAS_JOBS']}\n"


@pytest.mark.parametrize("ends", ["by itself", "stopped", "meanwhile"])
def test_a_killed_daemons_jobs_are_adopted(service: Daemon, ends: str) -> None:
    uuid = submit(service, "wait")
    folder = started(service, uuid)
    service.kill()
    if ends == "meanwhile":
        go(folder)
        wait_until(lambda: not job_processes(uuid), "the job to end without a daemon")
    service.start()
    if ends == "meanwhile":
        assert until(service, uuid, "done", "failed")["state"] == "done"
        return
    assert task(service, uuid)["state"] == "running"
    if ends == "by itself":
        go(folder)
        assert until(service, uuid, "done", "failed")["state"] == "done"
    else:
        assert requests.put(f"{service.url}/task/{uuid}/stop", timeout=30).status_code in (200, 202, 204)
        assert until(service, uuid, "stopped", "failed", "done")["state"] == "stopped"
    wait_until(lambda: not job_processes(uuid), "nothing of it to be left")


def test_a_stop_reaches_it(service: Daemon) -> None:
    uuid = submit(service, "wait")
    started(service, uuid)
    requests.put(f"{service.url}/task/{uuid}/stop", timeout=30).raise_for_status()
    assert until(service, uuid, "stopped", "failed", "done")["state"] == "stopped"
    wait_until(lambda: not job_processes(uuid), "nothing of it to be left")


def test_it_is_suspended_and_resumed(service: Daemon) -> None:
    uuid = submit(service, "wait")
    folder = started(service, uuid)
    requests.put(f"{service.url}/task/{uuid}/suspend", timeout=30).raise_for_status()
    wait_until(lambda: {stat.state for stat in job_processes(uuid)} == {"T"}, "all of it to be stopped")
    until(service, uuid, "user_suspended")
    requests.put(f"{service.url}/task/{uuid}/resume", timeout=30).raise_for_status()
    go(folder)
    assert until(service, uuid, "done", "failed")["state"] == "done"


def test_what_it_leaves_running_is_ended(service: Daemon) -> None:
    uuid = submit(service, "leave")
    assert until(service, uuid, "done", "failed")["state"] == "done"
    wait_until(lambda: not job_processes(uuid), "nothing of it to be left")


def test_an_array_is_stopped(service: Daemon) -> None:
    uuid = submit(service, "members")
    folder = service.tasks / uuid
    wait_until(lambda: all((folder / f"up.{index}").exists() for index in (1, 2, 3)), "all members")
    control = service.tasks / ".control" / uuid
    assert all((control / str(index)).stat().st_mode & 0o020 for index in (1, 2, 3))
    requests.put(f"{service.url}/task/{uuid}/stop", timeout=30).raise_for_status()
    until(service, uuid, "stopped", "failed")
    wait_until(lambda: not job_processes(uuid), "nothing of it to be left")
    requests.delete(f"{service.url}/task/{uuid}", timeout=30).raise_for_status()
    wait_until(lambda: not control.exists() and not folder.exists(), "its folders to be gone")


def test_private_files_are_served_counted_and_removed(service: Daemon) -> None:
    uuid = submit(service, "private")
    assert until(service, uuid, "done", "failed")["state"] == "done"
    account = jobs_account()
    try:
        assert (
            Workspace(service.tasks).usage(uuid)
            < 200_000
            <= Workspace(service.tasks, jobs=account).usage(uuid)
        )
    finally:
        account.close()
    url = f"{service.url}/task/{uuid}"
    assert requests.get(f"{url}/file/top", timeout=30).text == "plain\n"
    assert requests.get(f"{url}/file/deep/er/file", timeout=30).text == "secret\n"
    assert requests.get(f"{url}/file/closed/inner/file", timeout=30).text == "hidden\n"
    assert requests.get(f"{url}/file/link", timeout=30).status_code == 404
    assert requests.get(f"{url}/file/fifo", timeout=30).status_code == 404
    names = requests.get(f"{url}/file/", timeout=30).json()
    assert {"top", "deep/er/file", "closed/inner/file", "deep/big"} <= set(names)
    packed = requests.get(f"{url}/download/?format=zip", timeout=30)
    inside = zipfile.ZipFile(io.BytesIO(packed.content)).namelist()
    assert any(name.endswith("closed/inner/file") for name in inside)
    requests.delete(url, timeout=30).raise_for_status()
    wait_until(lambda: not (service.tasks / uuid).exists(), "its folder to be gone")
    wait_until(lambda: not any((service.tasks / ".trash").iterdir()), "the trash to be empty")


def test_leftovers_in_the_trash_go_at_the_next_start(service: Daemon) -> None:
    uuid = submit(service, "private")
    assert until(service, uuid, "done", "failed")["state"] == "done"
    service.kill()
    (service.tasks / uuid).rename(service.tasks / ".trash" / f"{uuid}.0123456789abcdef")
    service.start()
    wait_until(lambda: not any((service.tasks / ".trash").iterdir()), "the trash to be empty")


def test_uploads_and_a_childs_files(service: Daemon) -> None:
    service.stop()
    text = 'inline = "#!/bin/sh\\ncat \\"$1\\"; mkdir -p sub; cp \\"$1\\" sub/copy; rm \\"$1\\""\n'
    service.script("take", f'{text}[[param]]\nname = "input"\ntype = "file"\nrequired = true\n')
    service.start()

    def send(**fields: Any) -> str:
        answer = requests.post(
            f"{service.url}/task/",
            data={"task_name": "take", **fields},
            files={"input": ("a.txt", b"uploaded")},
            timeout=30,
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uuid"])

    first = send()
    assert until(service, first, "done", "failed")["state"] == "done"
    second = send(parent_task=first)
    assert until(service, second, "done", "failed")["state"] == "done"
    assert requests.get(f"{service.url}/task/{first}/file/sub/copy", timeout=30).text == "uploaded"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "halted"])
def test_a_helper_that_a_job_got_hold_of_is_replaced(tmp_path: Path, number: signal.Signals) -> None:
    attack = f"pkill -{int(number)} -f {helper_command()[-1]}; {WAIT}"
    with with_jobs_apart(tmp_path, allow=[r"tried again"]) as service:
        service.inline("attack", attack)
        service.inline("wait", WAIT)
        service.start()
        first = submit(service, "attack")
        folder = started(service, first)
        second = submit(service, "wait")
        go(started(service, second))
        assert until(service, second, "done", "failed")["state"] == "done"
        go(folder)
        assert until(service, first, "done", "failed")["state"] == "done"
        requests.delete(f"{service.url}/task/{first}", timeout=30).raise_for_status()


def test_nothing_else_runs_under_the_account_once_the_daemon_is_gone(service: Daemon) -> None:
    wait_until(lambda: _helpers(), "a helper")
    assert service.stop() == 0
    wait_until(lambda: not _helpers(), "the helper to end")


def _helpers() -> list[str]:
    uid = jobs_account().uid
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (
                place.stat().st_uid in (uid, 0)
                and helper_command()[-1].encode() in (place / "cmdline").read_bytes()
            ):
                status = (place / "status").read_text()
                found += [place.name] if f"Uid:\t{uid}\t" in status else []
        except OSError:
            continue
    return found
