"""The daemon as systemd has it: notifications, reload, the watchdog, the journal's lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.daemon import ROOT, daemon, wait_until


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def until(manager: socket.socket, first: bytes) -> bytes:
    """The next message that begins so."""
    while True:
        message = manager.recv(4096)
        if message.startswith(first):
            return message


def test_what_systemd_is_told(manager: socket.socket, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with daemon(tmp_path, scripts={"env": "env"}, environ=environ) as service:
        assert until(manager, b"READY=1") == f"READY=1\nSTATUS=listening on {service.url}".encode()
        until(manager, b"WATCHDOG=1")
        until(manager, b"WATCHDOG=1")
        service.inline("later", "true")
        service.signal(signal.SIGHUP)
        assert b"MONOTONIC_USEC=" in until(manager, b"RELOADING=1")
        until(manager, b"READY=1")
        assert requests.get(f"{service.url}/script/later", timeout=60).status_code == 200

        uuid = requests.post(f"{service.url}/task/", data={"task_name": "env"}, timeout=60).json()["uuid"]
        wait_until(
            lambda: requests.get(f"{service.url}/task/{uuid}", timeout=60).json()["state"] == "done",
            "the job",
        )
        out = requests.get(f"{service.url}/task/{uuid}/file/{uuid[:8]}_out.txt", timeout=60).text
        assert "DRMAATICD_TASK_ID" in out
        assert "NOTIFY_SOCKET" not in out
        assert "WATCHDOG" not in out

        service.signal(signal.SIGTERM)
        until(manager, b"STOPPING=1")
        assert service.wait() == 0


def test_the_journal_gets_priorities_and_no_times(tmp_path: Path) -> None:
    """Standard error is a file here that passes for the journal's socket by its device and inode."""
    (tmp_path / "scripts.d").mkdir()
    (tmp_path / "scripts.d" / "broken.toml").write_text("inline = 3\n")
    (tmp_path / "drmaaticd.toml").write_text(
        '[server]\nport = 0\n[paths]\nstate_dir = "s"\ntasks_dir = "t"\n'
    )
    with (tmp_path / "journal").open("wb") as stream:
        status = os.fstat(stream.fileno())
        process = subprocess.Popen(
            [sys.executable, "-m", "drmaaticd", "serve", "--config", "drmaaticd.toml"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}",
            },
            stderr=stream,
        )
    try:
        journal = tmp_path / "journal"
        wait_until(
            lambda: "listening on" in journal.read_text() or process.poll() is not None,
            "the daemon to listen",
        )
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    lines = journal.read_text().splitlines()
    assert lines[0].startswith("<6>drmaaticd.commands.serve: drmaaticd ")
    assert any(line.startswith("<4>") and "broken.toml" in line for line in lines)
    assert not [line for line in lines if not line.startswith(("<6>", "<4>", "listening on "))]
