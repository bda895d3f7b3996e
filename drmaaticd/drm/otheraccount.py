"""A second account that jobs run under: a helper there, started once by sudo, acts for this process.

The helper has the jobs' power and no more, and any job may get hold of it (kill it, halt it, lie for
it). So a process that it names is believed to be a job's only if the kernel says so; it is given no
answer that opens anything; and one that does not answer is left for a new one. See `drmaaticd.jobhelper`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from drmaaticd.drm import helperlink, processes
from drmaaticd.drm.helperlink import BrokenLink
from drmaaticd.drm.processes import Exit, Stat, Target

#: Seconds for one answer, and for the first, which waits for sudo (and the site's directory service).
ANSWER_SECONDS = 10.0
HELLO_SECONDS = 30.0

#: Seconds for work on a task's folder.
WORK_SECONDS = 600.0

#: Seconds that a helper is given to end when its socket is closed.
CLOSING_SECONDS = 5.0

#: Bytes read of what sudo says, and of what work reports.
MOST_SAID = 4096

#: Where sudo is looked for. The daemon's own search path does not reach it.
SUDO_PLACES = ("/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo")

#: sudo halts itself along with a helper that a job has halted. Only a process of its session may have
#: it go on (kill(2), SIGCONT), and the session must have no terminal: this one stays before it.
_KEEPER = """
exec 3<&0 </dev/null
"$@" <&3 3<&- &
exec 3<&-
trap 'kill -s CONT $! 2>/dev/null' TERM
wait $!
while [ $? -eq 143 ]; do wait $!; done
"""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class NoHelper(OSError):
    """The helper cannot be started; worded for the administrator."""


def helper_command() -> list[str]:
    """The one command that sudo must allow, word for word."""
    return [sys.executable, "-I", str(Path(__file__).resolve().parents[1] / "jobhelper.py")]


def find_sudo() -> str | None:
    """The path of sudo."""
    return next((place for place in SUDO_PLACES if os.access(place, os.X_OK)), None)


class OtherAccount:
    """Implements `accounts.Account` for a second account. Calls may come from any thread.

    Raises KeyError if there is no such account.
    """

    direct = False

    def __init__(self, name: str) -> None:
        entry = pwd.getpwnam(name)
        self.name, self.home, self.uid, self.gid = name, entry.pw_dir, entry.pw_uid, entry.pw_gid
        self._lock = threading.Lock()
        self._link: socket.socket | None = None
        self._sudo: subprocess.Popen[bytes] | None = None
        self._helper: Stat | None = None
        self._left: list[subprocess.Popen[bytes]] = []
        self._halted: list[Stat] = []

    # -- the helper --------------------------------------------------------------------------------

    def open(self) -> None:
        """Have a helper. Raises `NoHelper`."""
        with self._lock:
            self._connected()

    def close(self) -> None:
        """End the helper; jobs go on. May be opened again."""
        with self._lock:
            self._drop()
            deadline = time.monotonic() + CLOSING_SECONDS
            for left in self._left:
                try:
                    left.wait(max(deadline - time.monotonic(), 0.01))
                except subprocess.TimeoutExpired:  # a job has halted the helper
                    left.kill()
                    left.wait()
            self._left.clear()

    def ask(self, do: str, descriptors: Sequence[int] = (), **arguments: Any) -> dict[str, Any]:
        """Put a question to the helper. Raises OSError: the helper's own, `BrokenLink`, `NoHelper`."""
        with self._lock:
            answer = self._exchange(self._connected(), {"do": do, **arguments}, descriptors, ANSWER_SECONDS)
        if "errno" in answer:
            raise OSError(_whole(answer["errno"]), str(answer.get("error", ""))[:MOST_SAID])
        return answer

    def _exchange(
        self, link: socket.socket, question: dict[str, Any], descriptors: Sequence[int], seconds: float
    ) -> dict[str, Any]:
        try:
            answer = helperlink.ask(link, question, descriptors, seconds)
            if not isinstance(answer, dict):
                raise BrokenLink("the helper under the jobs' account talks nonsense")
        except BaseException:
            self._drop()
            raise
        return answer

    def _connected(self) -> socket.socket:
        """The link to a helper that lives: one that is gone is noticed before it is asked anything."""
        self._left = [left for left in self._left if left.poll() is None]
        if self._link is not None and _readable(self._link.fileno(), 0.0):  # unasked, it says nothing
            self._drop()
        if self._link is None:
            self._link = self._start()
        return self._link

    def _start(self) -> socket.socket:
        sudo = find_sudo()
        if sudo is None:
            raise NoHelper(f"sudo is not installed ({', '.join(SUDO_PLACES)})")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        said = os.memfd_create("said")  # a pipe that nobody reads would stop sudo
        try:
            with theirs:
                self._sudo = subprocess.Popen(
                    ["/bin/sh", "-c", _KEEPER, "sh", sudo, "-n", "-u", self.name, "--", *helper_command()],
                    stdin=theirs.fileno(),
                    stdout=said,
                    stderr=said,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            self._greet(ours, said)
        except BaseException:
            ours.close()
            self._drop()
            raise
        finally:
            os.close(said)
        return ours

    def _greet(self, link: socket.socket, said: int) -> None:
        """Know the helper; one that halted ones were replaced by ends these."""
        try:
            hello = self._exchange(link, {"do": "hello"}, (), HELLO_SECONDS)
        except BrokenLink as broken:
            text = os.pread(said, MOST_SAID, 0).decode("utf-8", "replace").strip()
            raise NoHelper(text or str(broken)) from None
        pid = _whole(hello.get("pid"))
        if not self.owns(pid):
            raise NoHelper(
                f"the helper does not run under the account {self.name}, or /proc does not show it "
                "(is it mounted with hidepid?)"
            )
        self._helper = processes.read_stat(pid)
        if self._halted:
            halted, self._halted = self._halted, []
            rows = [[known.pid, known.start] for known in halted]
            self._exchange(
                link, {"do": "send", "processes": rows, "number": signal.SIGKILL}, (), ANSWER_SECONDS
            )

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._sudo is not None:
            self._sudo.terminate()
            self._left.append(self._sudo)
            if self._helper is not None:
                self._halted.append(self._helper)
        self._link = self._sudo = self._helper = None

    # -- its processes -----------------------------------------------------------------------------

    def owns(self, pid: int) -> bool:
        """Whether the process runs under this account, by its real, effective and saved number (proc(5))."""
        try:
            status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
        except OSError:
            return False
        uids = next((line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")), [])
        return bool(uids) and set(uids) == {str(self.uid)}

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> int:
        """Start a process; its pid."""
        answer = self.ask("spawn", streams, command=list(command), environment=dict(environment))
        return _whole(answer.get("pid"))

    def abandon(self, pid: int) -> None:
        """Have the helper reap it when it ends."""
        with contextlib.suppress(OSError):  # a helper that has gone has no children any more
            self.ask("abandon", pid=pid)

    def reap(self, pid: int) -> Exit:
        """How it ended, as far as the helper says: its word is that of a job."""
        try:
            status, name, cpu_seconds, max_rss_bytes = self.ask("reap", pid=pid)["exit"]
            return Exit(
                None if status is None else _whole(status) & 0xFF,
                None if name is None else signal.Signals[name].name,
                None if cpu_seconds is None else _amount(cpu_seconds),
                None if max_rss_bytes is None else _whole(max_rss_bytes),
            )
        except (OSError, KeyError, TypeError, ValueError):
            return Exit()

    def find(self, targets: Collection[Target]) -> Mapping[Target, Sequence[Stat]]:
        """See `processes.find`: the helper can read what its processes were started with."""
        listed = list(targets)
        rows = [
            [one.task, one.run, None if one.root is None else [one.root.boot, one.root.pid, one.root.start]]
            for one in listed
        ]
        found = self.ask("find", targets=rows).get("found")
        if not isinstance(found, list) or len(found) != len(listed):
            raise BrokenLink("the helper under the jobs' account talks nonsense")
        return {target: [_stat(row) for row in some] for target, some in zip(listed, found, strict=True)}

    def send(self, found: Iterable[Stat], number: signal.Signals) -> int:
        """See `processes.send`: the kernel lets the helper signal its own account's processes alone."""
        rows = [[known.pid, known.start] for known in found]
        return _whole(self.ask("send", processes=rows, number=number).get("sent")) if rows else 0

    def allowed(self, paths: Sequence[tuple[str, int]]) -> list[bool]:
        """Whether the account may do that (``os.R_OK`` and the like) with each path."""
        answer = self.ask("access", paths=[list(pair) for pair in paths]).get("allowed")
        if not isinstance(answer, list) or len(answer) != len(paths):
            raise BrokenLink("the helper under the jobs' account talks nonsense")
        return [one is True for one in answer]

    def piped(self, command: Sequence[str], environment: Mapping[str, str]) -> HelpedCommand:
        """Start a command."""
        return HelpedCommand(self, command, environment)

    # -- its files -----------------------------------------------------------------------------------

    def empty(self, folder: int) -> str:
        """Remove what this account may from a directory (a descriptor); what went wrong, if anything."""
        return self._work("empty", folder)

    def share(self, folder: int) -> str:
        """Let the account's group read all of this account's in a directory; what went wrong, if any."""
        return self._work("share", folder)

    def _work(self, name: str, folder: int) -> str:
        reading, writing = os.pipe()
        try:
            try:
                pid = _whole(self.ask("work", [folder, writing], work=name).get("pid"))
            finally:
                os.close(writing)
            said = bytearray()
            deadline = time.monotonic() + WORK_SECONDS
            while not said.endswith(b"\n"):
                if not _readable(reading, max(deadline - time.monotonic(), 0.0)):
                    self._kill(pid)
                    raise BrokenLink("the work under the jobs' account takes too long")
                chunk = os.read(reading, MOST_SAID)
                if not chunk or len(said) > MOST_SAID:
                    raise BrokenLink("the work under the jobs' account broke off")
                said += chunk
        finally:
            os.close(reading)
        return said.decode("utf-8", "replace").strip()

    def _kill(self, pid: int) -> None:
        known = processes.read_stat(pid)
        if known is not None:
            self.send([known], signal.SIGKILL)


class HelpedCommand:
    """A command under the second account, with pipes to it. Raises OSError if it cannot be started."""

    def __init__(self, account: OtherAccount, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._account = account
        ends = [os.pipe() for _ in range(3)]
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = ends
        ours = (ours_in, ours_out, ours_err)
        try:
            try:
                self._pid = account.spawn(command, environment, (theirs_in, theirs_out, theirs_err))
            finally:
                helperlink.close((theirs_in, theirs_out, theirs_err))
            try:
                self._pidfd = os.pidfd_open(self._pid)
            except BaseException:
                account.abandon(self._pid)
                raise
            self._known = processes.read_stat(self._pid)
        except BaseException:
            helperlink.close(ours)
            raise
        self._status: int | None = None
        self.stdin: IO[bytes] | None = os.fdopen(ours_in, "wb", buffering=0)
        self.stdout: IO[bytes] | None = os.fdopen(ours_out, "rb", buffering=0)
        self.stderr: IO[bytes] | None = os.fdopen(ours_err, "rb", buffering=0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal. Raises `subprocess.TimeoutExpired`, ProcessLookupError."""
        if self._status is None:
            if not _readable(self._pidfd, timeout):
                raise subprocess.TimeoutExpired("a command under the jobs' account", timeout or 0.0)
            how = self._account.reap(self._pid)
            if how.status is None and how.signal_name is None:
                raise ProcessLookupError("what became of it is not known")
            self._status = -signal.Signals[how.signal_name] if how.signal_name else how.status
        return self._status or 0

    def kill(self) -> None:
        """SIGKILL it."""
        if self._known is not None:
            with contextlib.suppress(OSError):
                self._account.send([self._known], signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._status is None:
            self._account.abandon(self._pid)
        os.close(self._pidfd)


def _readable(descriptor: int, seconds: float | None) -> bool:
    """Whether there is something to be read, or the other side has gone, within this time."""
    poll = select.poll()  # select(2) takes no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise BrokenLink("the helper under the jobs' account talks nonsense")
    return value


def _amount(value: Any) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not 0 <= value < 1e15:
        raise ValueError("no amount")
    return float(value)


def _stat(row: Any) -> Stat:
    if not isinstance(row, list) or len(row) != 6 or not isinstance(row[1], str):
        raise BrokenLink("the helper under the jobs' account talks nonsense")
    pid, state, parent, group, session, start = row
    return Stat(_whole(pid), state[:1], _whole(parent), _whole(group), _whole(session), _whole(start))
