"""What a test under an ordinary account may ask root to do to the cluster that it runs on.

`Warden` is root's side: it answers on a socket in a folder of the account. `ask` is the test's.
Nothing but the listed requests is carried out.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

#: By the name of the cluster: the script that makes it and does what is asked.
SCRIPTS = {name: TESTS / f"{name}.sh" for name in ("gridengine", "slurm")}

#: Names the socket to the tests.
VARIABLE = "DRM_CONTROL"

#: Seconds that a request may take: starting a master waits for it.
PATIENCE = 100

_JOB = re.compile(r"[1-9]\d*([._][1-9]\d*)?")
_ACCOUNT = os.environ.get("DRM_ACCOUNT", "drmtest")

#: By cluster: request → the script's arguments; a request for a job is followed by its id.
_REQUESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "gridengine": {
        "kill-master": ("kill-master",),
        "start-master": ("start-master",),
        "freeze-master": ("freeze-master",),
        "thaw-master": ("thaw-master",),
        "rouse": ("rouse",),
        "mend": ("mend",),
        "disable": ("manage", "qmod", "-d", "all.q"),
        "enable": ("manage", "qmod", "-e", "all.q"),
        "requeue": ("manage", "qmod", "-rj"),
        "delete": ("manage", "qdel"),
        "delete-all": ("manage", "qdel", "-u", _ACCOUNT),
        "clear": ("manage", "qmod", "-cj"),
    },
    "slurm": {
        "kill-master": ("stop-controller",),
        "crash-master": ("kill-controller",),
        "start-master": ("start-controller",),
        "freeze-master": ("freeze-controller",),
        "thaw-master": ("thaw-controller",),
        "keep-state": ("keep-state",),
        "lose-state": ("lose-state",),
        "rouse": ("start",),
        "mend": ("start",),
        "disable": ("partitions", "down"),
        "enable": ("partitions", "up"),
        "requeue": ("manage", "scontrol", "requeue"),
        "delete": ("manage", "scancel"),
        "delete-all": ("manage", "scancel", f"--user={_ACCOUNT}"),
        "drain-node": ("node", "drain"),
        "fail-node": ("node", "down"),
        "resume-node": ("node", "resume"),
    },
}


def ask(request: str, job: str = "") -> str:
    """Have root do it; returns what the commands printed. An AssertionError says why it was not done."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE + 10)
        connection.connect(os.environ[VARIABLE])
        connection.sendall(f"{request} {job}".strip().encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("done\n"), f"{request} {job}: {answer}"
    return answer.removeprefix("done\n")


class Warden:
    """Answers requests, one at a time, in a thread of its own."""

    def __init__(self, path: Path, uid: int, cluster: str = "gridengine") -> None:
        self._script = SCRIPTS[cluster]
        self._requests = _REQUESTS[cluster]
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        shutil.chown(path, uid)
        path.chmod(0o600)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="warden", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        for connection in self._connections():
            with connection:
                request = b"".join(iter(lambda: connection.recv(1000), b"")).decode()  # noqa: B023
                connection.sendall(self._carry_out(request).encode())

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._socket.accept()[0]
            except OSError:
                return

    def _carry_out(self, request: str) -> str:
        name, _, job = request.partition(" ")
        if name not in self._requests or (job and not _JOB.fullmatch(job)):
            return f"no such request: {request!r}"
        arguments = [*self._requests[name], *([job] if job else [])]
        done = subprocess.run(
            ["/bin/sh", str(self._script), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        # qmod and qdel answer 1 too where they did what they were asked, and say so.
        return ("done\n" if done.returncode in (0, 1) else "failed\n") + done.stdout + done.stderr
