"""The administrator's commands against a running daemon, and the socket against those who may not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.e2e.daemon import ROOT, Daemon, daemon, wait_until


def command(service: Daemon, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drmaaticd", *words, "--config", str(service.config)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def good(service: Daemon, *words: str, stdin: str = "") -> str:
    done = command(service, *words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def me(service: Daemon, token: str) -> requests.Response:
    return requests.get(f"{service.url}/me", headers={"Authorization": f"Bearer {token}"}, timeout=10)


def connect(service: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    folder = os.open(service.state, os.O_PATH)
    try:
        connection.connect(f"/proc/self/fd/{folder}/admin.socket")
    finally:
        os.close(folder)
    return connection


def say(service: Daemon, line: bytes) -> bytes:
    with connect(service) as connection:
        connection.sendall(line)
        return connection.makefile("rb").readline()


def test_a_service_account(tmp_path: Path) -> None:
    with daemon(tmp_path) as service:
        token = good(service, "token", "issue", "portal", "--group", "registered").strip()
        assert me(service, token).json()["user_name"] == "portal"
        assert "internal:portal" in good(service, "user", "list")
        assert len(json.loads(good(service, "user", "show", "portal", "--json"))["tokens"]) == 1
        good(service, "user", "set", "portal", "--disable")
        assert me(service, token).status_code == 403
        good(service, "user", "set", "portal", "--enable")
        good(service, "token", "rotate-key")
        assert me(service, token).status_code == 200
        assert good(service, "token", "revoke", "-", stdin=token + "\n") == "1 token revoked\n"
        assert me(service, token).status_code == 401
        assert token not in service.text()
        assert token not in good(service, "token", "list", "--json")


def test_wrong_arguments(tmp_path: Path) -> None:
    with daemon(tmp_path) as service:
        unknown = command(service, "token", "issue", "portal", "--group", "registred")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert f"no group 'registred' in {service.config}; did you mean 'registered'?" in unknown.stderr
        assert command(service, "user", "show", "nobody").returncode == 1
        assert command(service, "user", "set", "nobody").returncode == 2
        assert command(service, "token", "issue", "x", "--lifetime", "soon").returncode == 2


def test_no_daemon_and_a_killed_one(tmp_path: Path) -> None:
    with daemon(tmp_path) as service:
        service.kill()
        assert (service.state / "admin.socket").exists()
        done = command(service, "user", "list")
        assert done.returncode == 1
        assert "no daemon runs" in done.stderr
        service.start()
        good(service, "user", "list")
        assert service.stop() == 0
        assert not (service.state / "admin.socket").exists()
        assert "no daemon runs" in command(service, "user", "list").stderr


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with daemon(deep) as service:
        good(service, "user", "list")


def test_broken_peers(tmp_path: Path) -> None:
    with daemon(tmp_path) as service, connect(service), connect(service) as half:
        half.sendall(b'{"do": ')
        for line in (b"nonsense\n", b"[]\n", b'{"do": "x"}\n', b'{"do": 1}\n', b"\xff\n", b"\n"):
            assert b'"error"' in say(service, line)
        assert b'"error"' in say(service, b'{"do": "user.show"}\n')
        assert b'"error"' in say(service, b'{"do": "user.list", "by": "me"}\n')
        assert b'"error"' in say(service, b'{"do": "user.set", "name": "x", "disabled": 1}\n')
        with connect(service) as endless, pytest.raises((BrokenPipeError, ConnectionResetError)):
            endless.sendall(b"x" * 64 * 1024 * 1024)
        assert json.loads(say(service, b'{"do": "user.list"}\n')) == {"result": []}


def test_modes(tmp_path: Path) -> None:
    with daemon(tmp_path) as service:
        assert stat.S_IMODE((service.state / "admin.socket").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_account_is_refused() -> None:
    """Even where the modes of folder and socket let it in."""
    folder = Path("/tmp") / f"drmaaticd-admin-{os.getpid()}"  # others must reach it
    folder.mkdir()
    try:
        with daemon(folder, allow=[r"uid 65534 was refused"]) as service:
            service.state.chmod(0o755)
            (service.state / "admin.socket").chmod(0o666)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    os.setuid(65534)
                    status = 0 if b"only root" in say(service, b'{"do": "user.list"}\n') else 2
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            wait_until(lambda: "uid 65534 was refused" in service.text(), "the refusal in the log")
    finally:
        shutil.rmtree(folder)
