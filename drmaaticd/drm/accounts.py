"""The account that jobs run under, and how this process reaches their processes.

`OwnAccount` is the daemon's own: everything is done directly. `otheraccount.OtherAccount` is a second
one, for which a helper acts. Blocking calls; each may raise OSError.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from signal import Signals
from types import TracebackType
from typing import IO, Protocol, Self

from drmaaticd.drm import processes
from drmaaticd.drm.processes import Exit, Spawner, Stat, Target


class Piped(Protocol):
    """A command under way whose input and output are pipes; as `subprocess.Popen`, as far as it is used."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises `subprocess.TimeoutExpired`; OSError if the status is lost."""

    def kill(self) -> None:
        """SIGKILL it."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes and wait for the end."""


class Account(Spawner, Protocol):
    """An account's name and places, and what is done to its processes."""

    uid: int
    name: str
    home: str
    direct: bool
    """Whether a call answers at once, as nobody else has to."""

    def reap(self, pid: int) -> Exit:
        """Take the exit status of a started process that has ended; nothing is known of another's."""

    def find(self, targets: Collection[Target]) -> Mapping[Target, Sequence[Stat]]:
        """See `processes.find`."""

    def send(self, found: Iterable[Stat], number: Signals) -> int:
        """See `processes.send`."""

    def piped(self, command: Sequence[str], environment: Mapping[str, str]) -> Piped:
        """Start a command in a session of its own, in ``/``, with pipes to it."""


class OwnAccount:
    """The account that this process runs under."""

    direct = True

    def __init__(self) -> None:
        self.uid = os.geteuid()
        try:
            entry = pwd.getpwuid(self.uid)
            self.name, self.home = entry.pw_name, entry.pw_dir
        except KeyError:  # an account without an entry, as in some containers
            self.name, self.home = str(self.uid), "/"

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> int:
        """Start a process; its pid."""
        return processes.spawn(command, environment, streams)

    def owns(self, pid: int) -> bool:
        """Nobody else starts any."""
        return True

    def abandon(self, pid: int) -> None:
        """Wait for its end."""
        processes.wait_for(pid)

    def reap(self, pid: int) -> Exit:
        """Take the exit status of a child."""
        return processes.reap(pid)

    def find(self, targets: Collection[Target]) -> Mapping[Target, Sequence[Stat]]:
        """See `processes.find`."""
        return processes.find(targets)

    def send(self, found: Iterable[Stat], number: Signals) -> int:
        """See `processes.send`."""
        return processes.send(found, number)

    def piped(self, command: Sequence[str], environment: Mapping[str, str]) -> Piped:
        """Start a command."""
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # a Ctrl-C for the daemon is none for a submission
        )
