"""The daemon's side of the helper, with a sudo that changes no account, and helpers that lie."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drmaaticd import jobhelper
from drmaaticd.drm import otheraccount, processes
from drmaaticd.drm.helperlink import BrokenLink
from drmaaticd.drm.otheraccount import NoHelper, OtherAccount
from drmaaticd.drm.processes import Target

PLAIN = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'

#: Answers each question with the next of these lines, and then no more.
LIAR = """
import json, os, socket, sys
link = socket.socket(fileno=0)
for answer in json.loads(sys.argv[1]):
    if not link.recv(65536):
        break
    link.sendall(answer.replace("PID", str(os.getpid())).encode())
"""

HELLO = '{"pid": PID}\n'


@pytest.fixture
def plain_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(text: str) -> None:
        sudo = tmp_path / "sudo"
        sudo.write_text(text)
        sudo.chmod(0o755)
        monkeypatch.setattr(otheraccount, "SUDO_PLACES", (str(sudo),))

    install(PLAIN)
    return install


@pytest.fixture
def account(plain_sudo: Callable[[str], None]) -> Iterator[OtherAccount]:
    made = OtherAccount(pwd.getpwuid(os.geteuid()).pw_name)
    yield made
    made.close()


@pytest.fixture
def liar(account: OtherAccount, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OtherAccount]:
    def lying(*answers: str) -> OtherAccount:
        words = [sys.executable, "-c", LIAR, json.dumps(answers)]
        monkeypatch.setattr(otheraccount, "helper_command", lambda: words)
        return account

    return lying


def test_a_command_with_pipes(account: OtherAccount) -> None:
    with account.piped(["/bin/sh", "-c", 'cat; echo "$X" >&2; exit 3'], {"X": "y"}) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdin.write(b"in")
        command.stdin.close()
        assert (command.stdout.read(), command.stderr.read(), command.wait(30)) == (b"in", b"y\n", 3)
    with account.piped(["/bin/sleep", "600"], {}) as command:
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(0.01)
        command.kill()
        assert command.wait(30) == -signal.SIGKILL
    with pytest.raises(FileNotFoundError):
        account.piped(["/no/such/program"], {})


def test_a_job_is_found_signalled_and_reaped(account: OtherAccount) -> None:
    variables = {"DRMAATICD_TASK_ID": "some-task", processes.RUN_VARIABLE: "1-0"}
    held = processes.start_held(["/bin/sleep", "600"], variables, account)
    try:
        held.release()
        target = Target("some-task", "1-0", held.identity)
        found = account.find([target])[target]
        assert [stat.pid for stat in found] == [held.identity.pid]
        assert account.send(found, signal.SIGTERM) == 1
        while not processes.has_ended(held.pidfd):
            pass
        assert account.reap(held.identity.pid).signal_name == "SIGTERM"
        assert account.reap(1).status is None
    finally:
        os.close(held.pidfd)


def test_folders_are_shared_and_emptied(account: OtherAccount, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (folder / "deep" / "file").chmod(0o600)
    (tmp_path / "beside").write_text("x")
    (tmp_path / "beside").chmod(0o600)
    (folder / "link").symlink_to(tmp_path / "beside")
    (folder / "deep" / "er").chmod(0)
    descriptor = os.open(folder, os.O_PATH)
    try:
        assert account.share(descriptor) == ""
        assert stat.S_IMODE((folder / "deep" / "file").stat().st_mode) == 0o640
        assert stat.S_IMODE((folder / "deep" / "er").stat().st_mode) & 0o750 == 0o750
        assert stat.S_IMODE((tmp_path / "beside").stat().st_mode) == 0o600
        assert account.empty(descriptor) == ""
    finally:
        os.close(descriptor)
    assert not list(folder.iterdir())
    assert (tmp_path / "beside").read_text() == "x"


def test_a_helper_that_was_killed_is_replaced(account: OtherAccount) -> None:
    first = account.ask("hello")["pid"]
    os.kill(first, signal.SIGKILL)
    account.reap(0)  # whether this one is answered or not, the next is
    second = account.ask("hello")["pid"]
    assert first != second


@pytest.mark.parametrize(
    "answer", ["nonsense\n", "[]\n", '{"found": 1}\n', '{"found": [[[1]]]}\n', "", "null\n"]
)
def test_nonsense_is_not_believed(liar: Callable[..., OtherAccount], answer: str) -> None:
    lying = liar(HELLO, answer)
    with pytest.raises(BrokenLink):
        lying.find([Target("t", "r")])


@pytest.mark.parametrize("pid", [-1, 0, True, "x", None, 1 << 70])
def test_a_pid_that_is_none_is_not_believed(liar: Callable[..., OtherAccount], pid: object) -> None:
    with pytest.raises(OSError, match=r"account|nonsense"):
        liar(f"{json.dumps({'pid': pid})}\n").open()


def test_a_process_of_another_account_is_not_believed(
    liar: Callable[..., OtherAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = liar(HELLO, HELLO)
    monkeypatch.setattr(lying, "uid", 54321)
    with pytest.raises(NoHelper, match="does not run under the account"):
        lying.open()


def test_an_exit_status_is_bounded(liar: Callable[..., OtherAccount]) -> None:
    lying = liar(HELLO, '{"exit": [70000, "NOSUCH", -1, "x"]}\n')
    assert lying.reap(5).status is None


def test_sudos_own_words_are_told(plain_sudo: Callable[[str], None], account: OtherAccount) -> None:
    plain_sudo("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    with pytest.raises(NoHelper, match="a password is required"):
        account.open()
    with pytest.raises(NoHelper, match="a password is required"):
        account.ask("hello")


def test_without_sudo(account: OtherAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otheraccount, "SUDO_PLACES", ("/no/sudo",))
    with pytest.raises(NoHelper, match="sudo is not installed"):
        account.open()


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"{}\n", b'{"do": "x"}\n', b'{"do": "spawn"}\n', b"[]\n", b""]
)
def test_a_helper_ends_at_the_first_nonsense(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = subprocess.Popen([sys.executable, "-I", str(jobhelper.__file__)], stdin=theirs.fileno())
        theirs.close()
        ours.sendall(line)
        ours.shutdown(socket.SHUT_WR)
        assert helper.wait(30) == 0


def test_it_is_no_program_for_people() -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(jobhelper.__file__)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "drmaaticd's helper is started by drmaaticd alone\n")
