"""The helper that acts under the jobs' account (``[drm] run_as``), started by sudo, one for each daemon.

It is told what to do through the socket that is its standard input, does no more than what is listed
in `VERBS`, and ends when the daemon does; the jobs that it started go on. It has no power that a job
has not. Nothing it says is believed without a check: a job may have got hold of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # it is started by its path, isolated from the environment (``python -I``)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drmaaticd import sharing
from drmaaticd.drm import processes
from drmaaticd.drm.helperlink import close, next_question
from drmaaticd.drm.processes import Exit, Identity, Stat, Target
from drmaaticd.removal import FilesRemain, empty

#: prctl(2): whether the process's memory and /proc entries are open to its own account.
PR_SET_DUMPABLE = 4

#: Bytes that a piece of work reports at most, so that it fits into the pipe and nobody waits.
MAX_REPORT = 4000


class Helper:
    """What can be asked for. Each method takes the question and its descriptors, and may raise OSError."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._abandoned: set[int] = set()

    def serve(self) -> None:
        """Answer until the daemon is gone."""
        while (asked := next_question(self._link)) is not None:
            question, descriptors = asked
            try:
                answer = VERBS[question["do"]](self, question, descriptors)
            except OSError as error:
                answer = {"errno": error.errno or 0, "error": error.strerror or str(error)}
            finally:
                close(descriptors)
            self._link.sendall(json.dumps(answer).encode("ascii") + b"\n")
            self._bury()

    def _bury(self) -> None:
        for pid in tuple(self._abandoned):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._abandoned.discard(pid)

    def hello(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Who this is."""
        return {"pid": os.getpid(), "uid": os.geteuid(), "gid": os.getegid(), "groups": os.getgroups()}

    def spawn(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Start a program with the three descriptors as its first."""
        standard_in, standard_out, standard_error = descriptors
        streams = (standard_in, standard_out, standard_error)
        return {"pid": processes.spawn(question["command"], question["environment"], streams)}

    def work(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Do something to a folder (the first descriptor) in a process of its own; the second hears of it."""
        folder, report = descriptors
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._link.close()
                said = _work(question["work"], folder)
                os.write(report, said.encode("utf-8", "replace")[:MAX_REPORT] + b"\n")
                status = 0
            finally:
                os._exit(status)
        self._abandoned.add(pid)
        return {"pid": pid}

    def abandon(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Reap this one whenever it ends; nobody asks for its status."""
        self._abandoned.add(question["pid"])
        return {}

    def reap(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """How a program that was started here has ended."""
        known: Exit = processes.reap(question["pid"])
        return {"exit": [known.status, known.signal_name, known.cpu_seconds, known.max_rss_bytes]}

    def find(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """The processes of each target."""
        targets = [
            Target(task, run, None if root is None else Identity(*root))
            for task, run, root in question["targets"]
        ]
        found = processes.find(targets)
        return {"found": [[_row(stat) for stat in found[target]] for target in targets]}

    def send(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Signal these processes."""
        stats = [Stat(pid, "", 0, 0, 0, start) for pid, start in question["processes"]]
        return {"sent": processes.send(stats, signal.Signals(question["number"]))}

    def access(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Whether this account may do that with each path (access(2))."""
        return {"allowed": [os.access(path, mode) for path, mode in question["paths"]]}


def _row(stat: Stat) -> list[Any]:
    return [stat.pid, stat.state, stat.parent, stat.group, stat.session, stat.start]


def _work(name: str, folder: int) -> str:
    """Do it; what went wrong, empty if nothing."""
    try:
        here = sharing.enter(folder)
        try:
            if name == "empty":
                empty(here)
            else:
                sharing.share(here, os.getegid())
        finally:
            os.close(here)
    except FilesRemain as remain:
        return "; ".join(str(problem.strerror) for problem in remain.problems)
    except OSError as error:
        return error.strerror or str(error)
    return ""


VERBS: dict[str, Callable[[Helper, dict[str, Any], list[int]], dict[str, Any]]] = {
    "hello": Helper.hello,
    "spawn": Helper.spawn,
    "work": Helper.work,
    "abandon": Helper.abandon,
    "reap": Helper.reap,
    "find": Helper.find,
    "send": Helper.send,
    "access": Helper.access,
}


def main() -> int:
    """Serve the daemon at standard input."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        link = socket.socket(fileno=os.dup(0))
    except OSError:
        print("drmaaticd's helper is started by drmaaticd alone", file=sys.stderr)
        return 2
    with link:
        if link.family != socket.AF_UNIX:
            return 2
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # the socket, too: what is started must not inherit it
            os.dup2(null, number)
        os.chdir("/")
        os.umask(0o027)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            link.setblocking(True)
            helper = Helper(link)
            helper.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
