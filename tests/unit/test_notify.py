"""sd_notify: what a listening socket gets."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd's, and its NOTIFY_SOCKET."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@drmaaticd-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(10)
        yield sock, address


def test_messages(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready("listening\non 8300")
    assert sock.recv(4096) == b"READY=1\nSTATUS=listening on 8300"
    notifier.watchdog()
    assert sock.recv(4096) == b"WATCHDOG=1"
    notifier.reloading()
    assert sock.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert sock.recv(4096) == b"STOPPING=1"
    notifier.status("3 jobs")
    assert sock.recv(4096) == b"STATUS=3 jobs"


def test_environment_is_taken() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier.from_environment(environ)
    assert notifier.address == "/run/systemd/notify"
    assert notifier.watchdog_interval == 30
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
)
def test_no_watchdog(variables: dict[str, str]) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog_interval is None


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready()
    notifier.watchdog()
    assert (notifier.address, notifier.watchdog_interval) == (None, None)


@pytest.mark.logs(r"^systemd cannot be told WATCHDOG: ")
def test_a_failure_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.watchdog()
    notifier.watchdog()
    assert len(caplog.records) == 1


@pytest.mark.logs(r"^NOTIFY_SOCKET is neither a path nor an abstract name: vsock:2:1$")
def test_other_addresses_are_refused() -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1"}).address is None
