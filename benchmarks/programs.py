"""The programs that are measured, each a process of its own: the daemon and bare Tornado handlers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.wire import Connection

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a program is given to start, and to end.
PATIENCE = 120.0

#: Seconds between two looks at a starting program's log: what a start time is measured to.
LOOK = 0.005

_LISTENING = re.compile(rb"listening on http://127\.0\.0\.1:(\d+)")
_TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A process that says ``listening on http://127.0.0.1:PORT`` on standard error when it is ready."""

    port = 0
    process: subprocess.Popen[bytes]

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = [sys.executable, *command]
        self._log = log
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> float:
        """Start and wait until it is ready; returns the seconds that this took."""
        stream: IO[bytes] = self._exit.enter_context(self._log.open("wb"))
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, env=environ
        )
        while not (found := _LISTENING.search(self._log.read_bytes())):
            if self.process.poll() is not None or time.perf_counter() - begun > PATIENCE:
                self.stop()
                raise RuntimeError(f"{self._command} did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(LOOK)
        seconds = time.perf_counter() - begun
        self.port = int(found[1])
        return seconds

    def stop(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._exit.close()

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.port)

    # -- what it takes -------------------------------------------------------------------------

    @property
    def memory(self) -> int:
        """Resident bytes now (VmRSS, proc(5))."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """Most resident bytes so far (VmHWM)."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"no {name} of process {self.process.pid}")
        return int(found[1]) * 1024

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, of all threads (utime and stime, proc(5))."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


class Bare(Program):
    """Handlers of plain Tornado; see `bare`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(["-m", "benchmarks.bare", str(folder), *arguments], folder / "bare.log")


class Daemon(Program):
    """The daemon on the embedded engine, in a folder of its own, logging as it does by default.

    `scripts` are shell bodies by name, or pairs of body and further TOML. When it is stopped, its jobs
    are too.
    """

    def __init__(
        self,
        folder: Path,
        scripts: Mapping[str, tuple[str, str]] | None = None,
        *,
        module: Sequence[str] = ("drmaaticd", "serve", "--config"),
        **drm: Any,
    ) -> None:
        self.folder = folder
        self.state, self.tasks = folder / "state", folder / "tasks"
        scripts_dir = folder / "scripts.d"
        scripts_dir.mkdir(parents=True, exist_ok=True)
        for name, (body, more) in (scripts or {}).items():
            text = f"inline = {json.dumps(body)}\n{more}\n"
            (scripts_dir / f"{name}.toml").write_text(text, encoding="utf-8")
        config = folder / "drmaaticd.toml"
        config.write_text(_config(drm), encoding="utf-8")
        super().__init__(["-m", *module, str(config)], folder / "daemon.log")

    def stop(self) -> None:
        """End the daemon, and its jobs, which it leaves running."""
        super().stop()
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and self._is_job(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)

    def _is_job(self, process: Path) -> bool:
        try:
            environ = (process / "environ").read_bytes()
        except OSError:
            return False  # it has gone, or is somebody else's
        found = re.search(rb"(?:^|\0)DRMAATICD_TASK_ID=([0-9a-f-]{36})(?:\0|$)", environ)
        return found is not None and (self.tasks / ".control" / found[1].decode()).exists()


#: What is measured is the daemon, not its limits.
UNBOUND = 'rate = "1000000/s"\ncpu_credit_max = 1_000_000_000'


def _config(drm: Mapping[str, Any]) -> str:
    lines = [
        "[server]",
        "port = 0",
        "max_streams_per_caller = 2000",
        "[paths]",
        'state_dir = "state"',
        'tasks_dir = "tasks"',
        'scripts_dir = "scripts.d"',
        *(f"[groups.{group}]\n{UNBOUND}" for group in ("anonymous", "registered")),
        "[drm]",
        *(f"{name} = {json.dumps(value)}" for name, value in drm.items()),
    ]
    return "\n".join(lines) + "\n"
