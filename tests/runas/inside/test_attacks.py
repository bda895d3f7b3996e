"""What a hostile job tries, and what comes of it: of the daemon it gets nothing, and gives it nothing.

What it can do to other jobs that run at the same time, under the same account, is in docs/run-as.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from drmaaticd.drm.otheraccount import helper_command
from tests.e2e.daemon import Daemon, wait_until
from tests.runas.inside.test_life import WAIT, go, job_processes, started, submit, task, until
from tests.runas.places import with_jobs_apart

#: Each attempt is a function; it prints what it got, or the error. `A` holds the arguments.
TRIES = """
import ctypes, json, os, pathlib, signal, socket, subprocess, sys
A = json.loads(sys.argv[1])
P = pathlib.Path
libc = ctypes.CDLL(None, use_errno=True)

def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def connect(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)

def sudo(*words):
    done = subprocess.run(["sudo", "-n", *words], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr)
    return done.stdout

def read_memory(pid):
    with open(f"/proc/{pid}/mem", "rb") as file:
        return file.read(1)

state, tasks, pid, helper = A["state"], A["tasks"], A["pid"], A["helper"]
own = P.cwd()
attempts = {
    "the key": lambda: P(state, "token.key").read_bytes(),
    "the state folder": lambda: os.listdir(state),
    "the admin socket": lambda: connect(f"{state}/admin.socket"),
    "a secret beside the configuration": lambda: P(A["secret"]).read_bytes(),
    "a hard link to the secret": lambda: os.link(A["secret"], own / "hard"),
    "writing the configuration": lambda: open(A["config"], "a"),
    "a script of its own": lambda: P(A["scripts"], "mine.toml").write_text("inline = 'true'"),
    "the tasks' names": lambda: os.listdir(tasks),
    "the control folders' names": lambda: os.listdir(f"{tasks}/.control"),
    "the doorbells": lambda: os.listdir(f"{tasks}/.spool"),
    "what arrives": lambda: os.listdir(f"{tasks}/.incoming"),
    "the trash": lambda: os.listdir(f"{tasks}/.trash"),
    "a folder among the tasks": lambda: os.mkdir(f"{tasks}/00000000-0000-4000-8000-000000000000"),
    "a control folder": lambda: os.mkdir(f"{tasks}/.control/00000000-0000-4000-8000-000000000000"),
    "another's control folder in place of its own": lambda: os.rename(A["control"], A["control"] + "x"),
    "opening its folder to all": lambda: os.chmod(own, 0o777),
    "changing a script that others run": lambda: open(A["program"], "a"),
    "replacing it": lambda: os.rename(A["program"], A["program"] + "x"),
    "the daemon's environment": lambda: P(f"/proc/{pid}/environ").read_bytes(),
    "the daemon's memory": lambda: read_memory(pid),
    "the daemon's maps": lambda: P(f"/proc/{pid}/maps").read_bytes(),
    "the daemon's files": lambda: os.listdir(f"/proc/{pid}/fd"),
    "the daemon's folder": lambda: os.readlink(f"/proc/{pid}/cwd"),
    "tracing the daemon": lambda: called(libc.ptrace(16, pid, 0, 0)),
    "signalling the daemon": lambda: os.kill(pid, signal.SIGTERM),
    "stopping the daemon": lambda: os.kill(pid, signal.SIGSTOP),
    "slowing the daemon down": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "limiting the daemon": lambda: __import__("resource").prlimit(pid, 7, (8, 8)),
    "tracing the helper": lambda: called(libc.ptrace(16, helper, 0, 0)),
    "the helper's memory": lambda: read_memory(helper),
    "the helper's link": lambda: os.listdir(f"/proc/{helper}/fd"),
    "sudo to the daemon's account": lambda: sudo("-u", A["daemon"], "id"),
    "sudo to root": lambda: sudo("id"),
    "sudo's helper": lambda: sudo("-u", A["daemon"], *A["command"]),
    "sudo with a program of its own": lambda: sudo("-u", A["daemon"], "LD_PRELOAD=/tmp/x.so", *A["command"]),
}
for name, attempt in attempts.items():
    try:
        got = f"GOT {attempt()!r}"
    except OSError as error:
        got = f"refused: {error.__class__.__name__}"
    print(json.dumps([name, got]))
print(json.dumps(["environment", sorted(os.environ)]))
"""

SECRET = "what-the-daemon-alone-may-know"

RUN = '[[param]]\nname = "what"\ntype = "string"\n'


@dataclass
class House:
    """A daemon with a hostile script, and the folder that it is in."""

    service: Daemon
    folder: Path

    def attack(self, code: str, **arguments: Any) -> str:
        """Start a task that runs this Python, which finds `arguments` in ``A``; its UUID."""
        return submit(self.service, "attack", what=json.dumps({"code": code, **self.known(), **arguments}))

    def known(self) -> dict[str, Any]:
        """What an attacker may know."""
        return {
            "state": str(self.service.state),
            "tasks": str(self.service.tasks),
            "config": str(self.service.config),
            "scripts": str(self.service.scripts),
            "secret": str(self.folder / "provider.secret"),
            "pid": self.service.pid,
        }

    def output(self, uuid: str) -> str:
        """What an ended task printed."""
        ended = until(self.service, uuid, "done", "failed", "stopped")
        text = requests.get(f"{self.service.url}/task/{uuid}/file/{ended['stdout']}", timeout=30).text
        assert ended["state"] == "done", text
        return text


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    allow = [r"in the spool|the spool holds", r"of the deleted task"]
    with with_jobs_apart(tmp_path, drm={"slots": 3, "sweep_interval": "0.5 s"}, allow=allow) as service:
        secret = tmp_path / "provider.secret"
        secret.write_text(SECRET)
        secret.chmod(0o640)
        service.environ = {"PROVIDER_SECRET": SECRET, "LD_LIBRARY_PATH": "/nowhere"}
        starter = f"#!{sys.executable}\nimport json, sys\nexec(json.loads(sys.argv[1])['code'])\n"
        service.script("attack", f"inline = {json.dumps(starter)}\n{RUN}max_length = 100000\n")
        service.inline("wait", WAIT)
        yield House(service.start(), tmp_path)


def helper_pid() -> int:
    """The helper's number, as anybody sees it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if line[:3] == [word.encode() for word in helper_command()]:
            return int(place.name)
    raise AssertionError("there is no helper")


def test_what_it_may_not_see_or_touch(house: House) -> None:
    control = house.service.tasks / ".control"
    first = house.attack("print('first')")
    assert house.output(first) == "first\n"
    scripts = list((house.service.tasks / ".scripts").glob("*/attack"))
    assert scripts
    uuid = house.attack(
        TRIES,
        helper=helper_pid(),
        daemon=os.environ["USER"],
        command=helper_command(),
        control=str(control / first),
        program=str(scripts[0]),
    )
    rows = [json.loads(line) for line in house.output(uuid).splitlines()]
    environment = rows.pop()[1]
    print("\n".join(f"{name}: {got}" for name, got in rows))
    got = [row for row in rows if not row[1].startswith("refused: PermissionError")]
    assert len(rows) >= 30
    assert not got
    assert not {name for name in environment if name.startswith(("SUDO_", "LD_", "PYTHONPATH", "PROVIDER"))}
    assert SECRET not in house.service.text()
    assert task(house.service, uuid)["state"] == "done"


def test_links_fifos_and_sockets_are_not_followed(house: House) -> None:
    code = """
import os, socket
os.symlink(f"{A['state']}/token.key", "key")
os.symlink(A["state"], "state")
os.symlink(A["secret"], "secret")
os.symlink("/", "root")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.mkdir("folder")
os.symlink(A["secret"], "folder/secret")
"""
    uuid = house.attack("A = json.loads(sys.argv[1])\n" + code)
    house.output(uuid)
    url = f"{house.service.url}/task/{uuid}"
    for name in ("key", "secret", "fifo", "socket", "state/token.key", "root/etc/passwd", "folder/secret"):
        assert requests.get(f"{url}/file/{name}", timeout=30).status_code == 404, name
    packed = requests.get(f"{url}/download/?format=zip", timeout=30).content
    assert SECRET.encode() not in packed
    requests.delete(url, timeout=30).raise_for_status()
    wait_until(lambda: not (house.service.tasks / uuid).exists(), "its folder to be gone")
    assert (house.folder / "provider.secret").read_text() == SECRET
    assert (house.service.state / "token.key").exists()


def test_a_forged_claim_stops_nobody_else(house: House) -> None:
    victim = submit(house.service, "wait")
    folder = started(house.service, victim)
    job_id = str((house.service.tasks / ".control" / victim / "claim").readlink())
    code = """
A = json.loads(sys.argv[1])
import os, pathlib, time
control = pathlib.Path(A["tasks"], ".control", os.environ["DRMAATICD_TASK_ID"])
os.unlink(control / "claim")
os.symlink(A["claim"], control / "claim")
pathlib.Path(A["tasks"], ".spool", os.environ["DRMAATICD_TASK_ID"] + ".started").touch()
pathlib.Path("started").touch()
time.sleep(600)
"""
    forger = house.attack(code, claim=job_id)
    # Whether the daemon has seen it run before its claim was another's is a race that it may lose.
    wait_until((house.service.tasks / forger / "started").exists, "the forger")
    requests.put(f"{house.service.url}/task/{forger}/stop", timeout=30).raise_for_status()
    wait_until(lambda: not job_processes(forger), "the forger's own job to be ended")
    assert job_processes(victim)
    assert task(house.service, victim)["state"] == "running"
    go(folder)
    assert until(house.service, victim, "done", "failed", "stopped")["state"] == "done"


def test_a_forged_ending_is_its_own_alone(house: House) -> None:
    code = """
A = json.loads(sys.argv[1])
import os, pathlib, time
uuid = os.environ["DRMAATICD_TASK_ID"]
control = pathlib.Path(A["tasks"], ".control", uuid)
(control / f"ended.1.0.{int(time.time())}").write_text("0m0.0s 0m0.0s\\n" * 4)
os.mkfifo(control / "ended.1.0.1")
os.symlink(f"{A['state']}/token.key", control / "ended.1.0.2")
for number in range(3000):
    (control / f"ended.{number}.1.3").touch()
os.unlink(control / "run.sh")
os.symlink(f"{A['state']}/token.key", control / "run.sh")
pathlib.Path(A["tasks"], ".spool", uuid + ".ended").touch()
pathlib.Path("started").touch()
time.sleep(600)
"""
    victim = submit(house.service, "wait")
    folder = started(house.service, victim)
    forger = house.attack(code)
    wait_until(lambda: task(house.service, forger)["state"] in ("done", "failed"), "the forged ending")
    assert task(house.service, victim)["state"] == "running"
    requests.delete(f"{house.service.url}/task/{forger}", timeout=30).raise_for_status()
    go(folder)
    assert until(house.service, victim, "done", "failed", "stopped")["state"] == "done"
    assert (house.service.state / "token.key").stat().st_size > 0


def test_a_cluttered_spool_holds_up_nobody(house: House) -> None:
    code = """
A = json.loads(sys.argv[1])
import os, pathlib, uuid
spool = pathlib.Path(A["tasks"], ".spool")
own = os.environ["DRMAATICD_TASK_ID"]
os.symlink(f"{A['state']}/made", spool / f".refresh-{A['pid']}")
os.makedirs(spool / f"{own}.started.x" / "deep")
os.makedirs(spool / f"{own}.ended" / "deep")
os.chmod(spool / f"{own}.ended" / "deep", 0)
os.mkfifo(spool / f"{uuid.uuid4()}.ended")
os.symlink(A["secret"], spool / f"{uuid.uuid4()}.started")
for number in range(2500):
    (spool / f"{uuid.uuid4()}.ended").touch()
    (spool / ("n" * 200 + str(number))).touch()
"""
    uuid = house.attack(code)
    assert until(house.service, uuid, "done", "failed")["state"] == "done"
    others = [submit(house.service, "wait") for _ in range(3)]
    for other in others:
        go(started(house.service, other))
        assert until(house.service, other, "done", "failed")["state"] == "done"
    spool = house.service.tasks / ".spool"
    wait_until(lambda: len(list(spool.iterdir())) < 1100, "the clutter to go")
    wait_until(lambda: not (spool / f"{uuid}.ended").exists(), "its folder in the spool to go")
    assert not (house.service.state / "made").exists()
    assert (house.folder / "provider.secret").read_text() == SECRET
    assert requests.get(f"{house.service.url}/health", timeout=30).status_code == 200
