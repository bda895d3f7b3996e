"""SIGTERM, SIGINT and SIGHUP at every moment of the daemon's life: it ends, or goes on, as it should."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.daemon import Daemon, wait_until

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP

#: A daemon that stands still at a moment of its start until there is a file ``gate``.
_STANDING = """
import asyncio, sys, time
from pathlib import Path

def wait():
    print("it stands", file=sys.stderr, flush=True)
    while not Path("gate").exists():
        time.sleep(0.01)

async def wait_awhile():
    print("it stands", file=sys.stderr, flush=True)
    while not Path("gate").exists():
        await asyncio.sleep(0.01)

{}
from drmaaticd.cli import main
sys.exit(main())
"""

#: Moments of a start, and how the daemon is made to stand there.
MOMENTS = {
    "the command line is read": """
from drmaaticd.commands import init
add = init.add
init.add = lambda commands: (wait(), add(commands))
""",
    "the configuration is read": """
from drmaaticd.commands import lookup
load = lookup.load
lookup.load = lambda path: (wait(), load(path))[1]
""",
    "the store is opened": """
from drmaaticd.store import Store
opening = Store.open
Store.open = lambda folder: (wait(), opening(folder))[1]
""",
    "the engine is started": """
from drmaaticd.drm.local import LocalEngine
starting = LocalEngine.start
async def start(self):
    await wait_awhile()
    await starting(self)
LocalEngine.start = start
""",
    "what is on record is taken up": """
from drmaaticd.submission import Submitter
recovering = Submitter.recover
async def recover(self):
    await wait_awhile()
    await recovering(self)
Submitter.recover = recover
""",
}

#: A daemon that stands still once it has ended, but for the end of its process.
_LEAVING = """
import atexit
atexit.register(wait)
"""


def standing(folder: Path, program: str) -> Daemon:
    """A daemon with this text before its start, standing where that says."""
    folder.mkdir()
    return Daemon(folder, command=(sys.executable, "-c", _STANDING.format(program)))


def launched(service: Daemon) -> Daemon:
    service.launch()
    service.wait_for_log("it stands")
    return service


def ended_well(service: Daemon) -> None:
    assert service.wait() == 0, service.text()
    assert "Traceback" not in service.text()
    assert "Error" not in service.text()
    service.check()


@pytest.mark.parametrize("numbers", [(TERM,), (INT,), (HUP, TERM, TERM), (INT, TERM, HUP)], ids=str)
@pytest.mark.parametrize("moment", MOMENTS)
def test_told_to_stop_while_it_starts(tmp_path: Path, moment: str, numbers: Sequence[signal.Signals]) -> None:
    service = launched(standing(tmp_path / "daemon", MOMENTS[moment]))
    try:
        for number in numbers:
            service.signal(number)
        if moment != "what is on record is taken up":  # that is not waited for: a DRM may be away
            (service.folder / "gate").touch()
        ended_well(service)
        assert "listening on" not in service.text()
        assert service.log[-1].endswith("stopped"), service.text()
    finally:
        service.close()


@pytest.mark.parametrize("moment", MOMENTS)
def test_told_to_reload_while_it_starts(tmp_path: Path, moment: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        service = standing(tmp_path / "daemon", MOMENTS[moment])
        service.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        launched(service)
        try:
            service.inline("new", "true")
            service.signal(HUP)
            service.signal(HUP)
            (service.folder / "gate").touch()
            # Ready first: that it reloads, it may not tell before.
            assert manager.recv(4096).startswith(b"READY=1")
            assert manager.recv(4096).startswith(b"RELOADING=1")
            assert manager.recv(4096).startswith(b"READY=1")
            url = str(service.wait_for_log(r"listening on (http://\S+)")[1])
            assert requests.get(f"{url}/script/new", timeout=60).status_code == 200
            service.signal(TERM)
            ended_well(service)
        finally:
            service.close()


@pytest.mark.parametrize(
    "numbers",
    [(TERM, TERM), (INT, TERM), (TERM, INT, INT), (HUP, TERM), (TERM, HUP), (HUP, HUP, INT)],
    ids=str,
)
def test_signals_that_come_at_once(daemon: Callable[..., Daemon], numbers: Sequence[signal.Signals]) -> None:
    service = daemon(start=False)
    service.start()
    for number in numbers:
        service.signal(number)
    ended_well(service)


def test_signals_while_it_waits_for_a_transfer(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    size = 64 * 1024 * 1024
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        service = daemon(
            scripts={"big": f"head -c {size} /dev/zero > big"},
            environ={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        uuid = requests.post(f"{service.url}/task/", data={"task_name": "big"}, timeout=60).json()["uuid"]
        task = f"{service.url}/task/{uuid}"
        wait_until(lambda: requests.get(task, timeout=60).json()["state"] == "done", "the job")
        with requests.get(f"{task}/file/big", stream=True, timeout=60) as answer:
            read = len(answer.raw.read(65536))
            service.signal(TERM)
            service.wait_for_log("stopping")
            for number in (HUP, TERM, HUP, INT):
                service.signal(number)
                time.sleep(0)
            assert read + len(answer.raw.read()) == size
        ended_well(service)
        told = []
        while True:
            try:
                told.append(manager.recv(4096).partition(b"\n")[0])
            except BlockingIOError:
                break
        assert told == [b"READY=1", b"STOPPING=1"]


@pytest.mark.parametrize("status", [0, 1])
def test_signals_after_the_end_do_not_change_its_status(tmp_path: Path, status: int) -> None:
    service = standing(tmp_path / "daemon", _LEAVING)
    with socket.socket() as taken:
        if status:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            service._write({"server": {"port": taken.getsockname()[1]}})
        service.launch()
        try:
            if not status:
                service.wait_for_log("listening on")
                service.signal(TERM)
            service.wait_for_log("it stands")
            known = psutil.Process(service.pid)
            for number in (TERM, INT, HUP, TERM):
                service.signal(number)
                assert known.is_running()
            (service.folder / "gate").touch()
            assert service.wait() == status
            assert "Traceback" not in service.text()
        finally:
            service.close()
