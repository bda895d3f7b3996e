"""Slurm's commands as subprocesses: no shell, a fixed environment, time-outs, bounded output.

Threads run them, a few for each kind of call, so that a slow kind holds up no other. What they say
is read in `slurmanswers`; what is done about it, in `slurm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from drmaaticd.drm.accounts import Account, OwnAccount, Piped
from drmaaticd.drm.base import PassingFault
from drmaaticd.errors import ConfigurationError, Finding

log = logging.getLogger(__name__)

#: What every head node has; ``sacct`` is used where accounting runs.
NEEDED = ("sbatch", "squeue", "scancel", "scontrol")

#: Where the commands are looked for after ``$PATH``.
MORE_PLACES = "/usr/local/bin:/usr/bin:/bin:/opt/slurm/bin:/usr/local/slurm/bin"

#: Variables of the daemon that lead the commands to their cluster.
KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER")

#: No limit to what is written for the indices of an array (squeue(1), "SLURM_BITSTR_LEN").
ALL_INDICES = {"SLURM_BITSTR_LEN": "0"}

#: Seconds that a command may take. sbatch waits by itself for a controller that is full.
TIMEOUT = 30.0

#: Bytes of a command's output that are read: a row takes about a hundred.
MOST_OUTPUT = 256 * 1024 * 1024
MOST_ERRORS = 64 * 1024

#: Seconds for commands under way when the daemon ends; what became of them is found out at the next start.
CLOSING_SECONDS = 3.0

#: A command that takes longer than this many seconds is logged as information, not for debugging only.
SLOW = 5.0


class Kind(enum.Enum):
    """The kinds of calls, and how many of each run at a time."""

    CONTROL = 2
    SUBMIT = 4
    QUESTION = 3


@dataclass(frozen=True, slots=True)
class Output:
    """What a command said. `status` is negative for a signal's number."""

    status: int
    out: str
    err: str


class Commands:
    """Runs Slurm's commands, under the account that jobs are to run under.

    Raises `ConfigurationError` from `find` where they are missing.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        timeout: float = TIMEOUT,
        account: Account | None = None,
    ) -> None:
        self._account = OwnAccount() if account is None else account
        self._path = f"{environ.get('PATH') or os.defpath}:{MORE_PLACES}"
        self._programs: dict[str, str] = {}
        self._environment = self._fixed(environ)
        self._timeout = timeout
        self._pools = {
            kind: ThreadPoolExecutor(kind.value, thread_name_prefix=f"slurm-{kind.name.lower()}")
            for kind in Kind
        }
        self._lock = threading.Lock()
        self._running: set[Piped] = set()
        self._closed = False

    @property
    def user(self) -> str:
        """The number of the account whose jobs these commands submit and see."""
        return str(self._account.uid)

    def _fixed(self, environ: Mapping[str, str]) -> dict[str, str]:
        """All that a command, and thereby a job, is given of the daemon's environment."""
        fixed = {
            "PATH": self._path,
            "HOME": self._account.home,
            "USER": self._account.name,
            "LOGNAME": self._account.name,
            "LC_ALL": "C.UTF-8",
        }
        return fixed | {name: environ[name] for name in KEPT_VARIABLES if environ.get(name)}

    def find(self, config_file: Path) -> None:
        """Look the programs up. Raises `ConfigurationError` naming what is missing."""
        for name in (*NEEDED, "sacct"):
            program = shutil.which(name, path=self._path)
            if program is not None:
                self._programs[name] = program
        missing = [name for name in NEEDED if name not in self._programs]
        if missing:
            message = f"{', '.join(missing)}: not found on $PATH; Slurm's commands must be on this machine"
            raise ConfigurationError([Finding(config_file, message, "drm.backend")])

    def has(self, name: str) -> bool:
        """Whether this command is on this machine."""
        return name in self._programs

    async def run(
        self,
        kind: Kind,
        name: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
    ) -> Output:
        """Run a command and return what it said. Raises `PassingFault` if it hangs or cannot be started."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._pools[kind], self.call, name, arguments, stdin, variables or {}
            )
        except RuntimeError:
            if self._closed:
                raise PassingFault("the daemon is stopping") from None
            raise

    def call(
        self,
        name: str,
        arguments: Sequence[str],
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
    ) -> Output:
        """The same, blocking; for a thread, or a program without a loop."""
        start = time.monotonic()
        try:
            command = [self._programs[name], *arguments]
            process = self._account.piped(command, {**self._environment, **(variables or {})})
        except OSError as error:
            raise PassingFault(f"{name} cannot be started: {error.strerror or error}") from None
        with process, self._noted(process):
            try:
                out, err = _communicate(process, stdin, start + self._timeout)
                status = process.wait(max(start + self._timeout - time.monotonic(), 0.1))
            except (TimeoutError, subprocess.TimeoutExpired):
                process.kill()
                raise PassingFault(f"{name} did not answer within {self._timeout:g} s") from None
            except ProcessLookupError:
                raise PassingFault(f"what became of {name} is not known: its helper is gone") from None
            except BaseException:
                process.kill()
                raise
        seconds = time.monotonic() - start
        log.log(
            logging.INFO if seconds >= SLOW else logging.DEBUG,
            "slurm: %s took %.1f ms, status %d",
            name,
            seconds * 1000,
            status,
        )
        return Output(status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    @contextlib.contextmanager
    def _noted(self, process: Piped) -> Iterator[None]:
        with self._lock:
            self._running.add(process)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(process)

    async def close(self) -> None:
        """Take no more commands; await those under way for a moment, then end them."""
        self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        deadline = time.monotonic() + CLOSING_SECONDS
        while self._left() and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in self._left():
            process.kill()
        for pool in self._pools.values():
            pool.shutdown()

    def _left(self) -> Iterable[Piped]:
        with self._lock:
            return tuple(self._running)


def _communicate(process: Piped, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Give a command its input and read all it says, within bounds. Raises `TimeoutError`, `PassingFault`.

    `Popen.communicate` would read without a bound.
    """
    out, err = bytearray(), bytearray()
    bounds: dict[IO[bytes], tuple[bytearray, int]] = {}
    if process.stdout is not None and process.stderr is not None:
        bounds = {process.stdout: (out, MOST_OUTPUT), process.stderr: (err, MOST_ERRORS)}
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
            process.stdin.write(stdin)  # less than a pipe holds
            process.stdin.close()
    with selectors.DefaultSelector() as selector:
        for stream, data in bounds.items():
            selector.register(stream, selectors.EVENT_READ, data)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 20)
                kept, most = key.data
                kept += chunk[: most - len(kept)]
                if not chunk:
                    selector.unregister(key.fileobj)
                elif len(kept) >= most and kept is out:
                    raise PassingFault("a command of Slurm says more than anybody could read")
    return bytes(out), bytes(err)
