"""Processes of this machine: starting one that waits for a word, knowing it again, signalling its tree.

A process is known by boot id, pid and start time, and is signalled through a pidfd alone: a pid by
itself may by now be somebody else's. Blocking calls; what they are for is the engine's business, and
under which account they are made that of `accounts`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_PROC = Path("/proc")

#: Bytes read of a process's environment. The launcher's own variables come within the first few
#: kilobytes, but a job may be given a large environment before them.
MAX_ENVIRONMENT = 1 << 20

#: The environment variable by which the processes of one run are known; nothing else reads it.
RUN_VARIABLE = "DRMAATICD_RUN"

#: Rounds of looking for processes that were forked while others were being stopped.
STOP_ROUNDS = 20

#: The job waits for a line before it becomes what it is for; if its parent dies first, it ends.
_WAIT_FOR_WORD = 'read -r word || exit 0; cd / && exec "$@" </dev/null'

#: Signals that Python ignores or that a daemon may; a job gets them with their default meaning.
_DEFAULT_SIGNALS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGCHLD, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGALRM),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told from every other of all time: boot id, pid, start time (clock ticks since boot)."""

    boot: str
    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``/proc/<pid>/stat`` says (proc(5)): `start` is its field 22."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start: int


@dataclass(frozen=True, slots=True)
class Target:
    """Whose processes are meant: those of one run of a task.

    `run` is what the run's processes carry as `RUN_VARIABLE`: a task may by mischance have two jobs,
    of which one ends at once, and this must not harm the other. `root` is the first process, the
    leader of its session; None if that is long gone.
    """

    task: str
    run: str
    root: Identity | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended; `status` and `signal_name` as far as known (not for other parents' children)."""

    status: int | None = None
    signal_name: str | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None


def boot_id() -> str:
    """The id of the machine's present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def read_stat(pid: int) -> Stat | None:
    """What is known of a process, None if there is none of this pid."""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may itself hold blanks and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start=int(fields[19]),
    )


def seconds_since(start: int) -> float:
    """For how long a process runs that was started at `start`, whatever was done to the clock."""
    return time_since_boot() - start / os.sysconf("SC_CLK_TCK")


def time_since_boot() -> float:
    """Seconds since the machine's start, the time it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Held:
    """A process that was started and waits for `release`; if this object is closed first, it ends.

    `pidfd` is the caller's to close.
    """

    def __init__(self, identity: Identity, pidfd: int, word: int) -> None:
        self.identity = identity
        self.pidfd = pidfd
        self._word = word

    def release(self) -> None:
        """Let it become what it was started for."""
        with contextlib.suppress(BrokenPipeError):  # it was killed while it waited: its end is seen
            os.write(self._word, b"go\n")
        self.close()

    def close(self) -> None:
        """Give up the hold; what was not released ends by itself."""
        if self._word >= 0:
            os.close(self._word)
            self._word = -1


def spawn(command: Sequence[str], environment: Mapping[str, str], streams: tuple[int, int, int]) -> int:
    """Start a process in a session of its own with these as its first three descriptors; its pid.

    Raises OSError where the machine cannot (EAGAIN, ENOMEM, EMFILE), or there is no such program.
    """
    return os.posix_spawn(
        command[0],
        list(command),
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, given, number) for number, given in enumerate(streams)],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


class Spawner(Protocol):
    """Whose processes are started; see `accounts`."""

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> int:
        """`spawn`, under that account."""

    def owns(self, pid: int) -> bool:
        """Whether this process is one of that account's."""

    def abandon(self, pid: int) -> None:
        """See to it that a started process that is about to end leaves nothing behind."""


def start_held(command: Sequence[str], environment: Mapping[str, str], spawner: Spawner) -> Held:
    """Start a process in a session of its own, without input or output, that waits to be released.

    Raises OSError where the machine cannot (EAGAIN, ENOMEM, EMFILE).
    """
    reading, writing = os.pipe()
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            waiting = ["/bin/sh", "-c", _WAIT_FOR_WORD, "sh", *command]
            pid = spawner.spawn(waiting, environment, (reading, null, null))
        finally:
            os.close(null)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        # Nobody but this thread reaps it before its pidfd is known, so the pid is still its own.
        identity, pidfd = _identified(pid, boot_id(), spawner.owns)
    except BaseException:
        os.close(writing)
        spawner.abandon(pid)
        raise
    return Held(identity, pidfd, writing)


def _identified(pid: int, boot: str, is_meant: Callable[[int], bool]) -> tuple[Identity, int]:
    """A process and its pidfd, which is closed again if this raises OSError (ESRCH: it is not there)."""
    pidfd = os.pidfd_open(pid)
    try:
        known = read_stat(pid)
        if known is None or not is_meant(pid):
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone")
    except BaseException:
        os.close(pidfd)
        raise
    return Identity(boot, pid, known.start), pidfd


def open_process(identity: Identity) -> int | None:
    """A pidfd of this very process, None if it has gone. Raises OSError (EMFILE)."""
    if identity.boot != boot_id():
        return None
    try:
        # Its start is read after the pidfd was opened: if it is right now, the descriptor is the right one.
        found, pidfd = _identified(identity.pid, identity.boot, lambda _: True)
    except (ProcessLookupError, ValueError):
        return None
    if found.start != identity.start or has_ended(pidfd):
        os.close(pidfd)
        return None
    return pidfd


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended (a pidfd is then readable)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def wait_for(pid: int) -> None:
    """Wait until a child has ended, and reap it."""
    with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored: the kernel has reaped it
        os.waitpid(pid, 0)


def reap(pid: int) -> Exit:
    """Take the exit status of a child that has ended; nothing is known of one that is not a child."""
    try:
        found, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Exit()
    if found != pid:
        return Exit()
    code = os.waitstatus_to_exitcode(status)
    return Exit(
        status=code if code >= 0 else None,
        signal_name=None if code >= 0 else _signal_name(-code),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6),
        max_rss_bytes=_own_peak(usage.ru_maxrss),
    )


def _own_peak(kib: int) -> int | None:
    """A child's largest resident set in bytes, from its ``ru_maxrss``, None where it cannot be told.

    The kernel counts in what a process held before its exec, which was this process's own memory: a
    figure that is no larger says nothing of the child.
    """
    return kib * 1024 if kib > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


# -- trees -----------------------------------------------------------------------------------------


def find(targets: Collection[Target]) -> dict[Target, list[Stat]]:
    """The living processes of each target, found in one pass over all processes.

    A process belongs to a target if its environment carries the task's id and the run's mark, if it
    is in the root's session or group, or if it descends from one that belongs. This process and
    its ancestors never do.
    """
    table = {known.pid: known for known in map(read_stat, _pids()) if known is not None}
    own = _ancestry(os.getpid(), table)
    living = [known for known in table.values() if known.state not in "ZX" and known.pid not in own]
    found: dict[Target, list[Stat]] = {target: [] for target in targets}
    marks = {target: _marks(target) for target in targets}
    sessions = {target: _session(target, table) for target in targets}
    owner: dict[int, Target] = {}
    for known in living:
        variables: frozenset[bytes] | None = None
        for target in targets:
            session = sessions[target]
            if session is None or session not in (known.session, known.group, known.pid):
                if variables is None:
                    variables = _environment(known.pid)
                if not marks[target] <= variables:
                    continue
            owner[known.pid] = target
            break
    for known in living:
        belongs_to = _inherited(known.pid, table, owner)
        if belongs_to is not None:
            found[belongs_to].append(known)
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdecimal()]


def _ancestry(pid: int, table: Mapping[int, Stat]) -> set[int]:
    line: set[int] = set()
    while pid in table and pid not in line:
        line.add(pid)
        pid = table[pid].parent
    return line


def _marks(target: Target) -> frozenset[bytes]:
    pairs = (("DRMAATICD_TASK_ID", target.task), (RUN_VARIABLE, target.run))
    return frozenset(f"{name}={value}".encode("ascii") for name, value in pairs)


def _environment(pid: int) -> frozenset[bytes]:
    """The variables a process was started with; empty where that cannot be read."""
    try:
        with (_PROC / str(pid) / "environ").open("rb", buffering=0) as file:
            return frozenset(file.read(MAX_ENVIRONMENT).split(b"\0"))
    except OSError:
        return frozenset()


def _session(target: Target, table: Mapping[int, Stat]) -> int | None:
    """The number of the target's session, if that is certainly still its own.

    While members live the kernel gives the number to no new process: either the leader is the root,
    or there is no process of this pid.
    """
    if target.root is None:
        return None
    leader = table.get(target.root.pid)
    return target.root.pid if leader is None or leader.start == target.root.start else None


def _inherited(pid: int, table: Mapping[int, Stat], owner: Mapping[int, Target]) -> Target | None:
    seen: set[int] = set()
    while pid in table and pid not in seen:
        if pid in owner:
            return owner[pid]
        seen.add(pid)
        pid = table[pid].parent
    return None


def send(processes: Iterable[Stat], number: signal.Signals) -> int:
    """Send a signal to these processes, as far as they still are the same; returns to how many."""
    sent = 0
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            now = read_stat(process.pid)
            if now is not None and now.start == process.start:
                signal.pidfd_send_signal(pidfd, number)
                sent += 1
        except (ProcessLookupError, PermissionError):
            continue  # it has just ended, or has become another user's (a setuid program)
        finally:
            os.close(pidfd)
    return sent


def stop_all(
    look: Callable[[], Sequence[Stat]], signal_them: Callable[[Iterable[Stat], signal.Signals], int]
) -> None:
    """SIGSTOP the processes that `look` finds, until it finds none that is not stopped."""
    stopped: set[tuple[int, int]] = set()
    for _ in range(STOP_ROUNDS):
        fresh = [known for known in look() if (known.pid, known.start) not in stopped]
        if not fresh:
            return
        signal_them(fresh, signal.SIGSTOP)
        stopped.update((known.pid, known.start) for known in fresh)
