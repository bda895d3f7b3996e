"""What a launcher left in a task's control folder and in the spool: claim, start, ending, doorbells.

Only reads, and believes nothing: jobs run under the same account and may write there, so links are
not followed, sizes are bounded, and what does not look right counts as not there.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal as signals
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

#: Names in the control folder.
CLAIM = "claim"
CANCELLED = "cancelled"

#: Entries of a control folder that are looked at; a launcher makes fewer than ten.
MAX_ENTRIES = 2000

#: Bytes read of a file that a launcher wrote; it writes fewer than 200.
MAX_CONTENT = 4096

#: Looks at a control folder whose launcher is just renaming its file: a listing may miss both names.
LOOKS = 3

#: Seconds by which the launcher's clock and the file's own time may differ for the file's to be used,
#: which is finer and of the same clock as the start.
CLOCK_TOLERANCE = 2.0

#: Why a launcher itself ended a task: the last word of an ending's name → the text for the owner.
REASONS = {
    "folder": "the task's folder is missing or cannot be entered on the node",
    "output": "the output could not be written",
    "command": "the script's command is missing or cannot be executed on the node",
    "setup": "setup failed",
    "start": "the node could not start a process",
}

#: The last word of an ending written after the launcher had caught a signal.
CAUGHT = "caught"

_CLAIM_TEXT = re.compile(r"([A-Za-z0-9._\[\]-]{1,200})\.(\d{1,9})", re.ASCII)
_FORMER_CLAIM = re.compile(r"claim\.\d{1,9}", re.ASCII)
_RUNNING = re.compile(r"running\.(\d{1,9})", re.ASCII)
_ENDED = re.compile(r"ended\.(\d{1,9})\.(\d{1,3})\.(\d{1,12})(?:\.([a-z]{1,20}))?", re.ASCII)
_TIMES = re.compile(r"(\d{1,9})m(\d{1,2}(?:[.,]\d{1,9})?)s", re.ASCII)
_DOORBELL = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\.([1-9]\d{0,8}))?\.(started|ended)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Which job runs the task: the DRM's id (an array's own id) and how often the DRM restarted it."""

    job_id: str
    restart: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How the launcher saw the command end. `time` is in seconds since 1970.

    `signal` names the signal of a status from 129 to 192 (a shell cannot tell ``exit 137`` from
    SIGKILL). `provisional`: the launcher had caught a signal, so the DRM may have queued the job anew.
    """

    attempt: int
    status: int
    time: float
    signal: str | None = None
    cpu_seconds: float | None = None
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a task's control folder says. `started` is in seconds since 1970.

    It is the newest run's; `formerly` are the starts of those before it, where the DRM ran the job again.
    `cancelled`: the claim was taken for nobody, so no job will ever run the task. `reason` is the
    launcher's own, worded for the task's owner, where it could not run the command.
    """

    claim: Claim | None
    ending: Ending | None
    started: float | None
    cancelled: bool
    reason: str | None = None
    formerly: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A launcher's notice in the spool: something is to be read. `event` is ``started`` or ``ended``."""

    task: str
    index: int | None
    event: str


_NOTHING = Evidence(claim=None, ending=None, started=None, cancelled=False)


def read(control: Path, index: int | None = None) -> Evidence:
    """What is known of a task, or of one member of an array. Never raises for what it finds there.

    A folder that does not exist, or cannot be read just now, says nothing.
    """
    with open_control(control, index) as folder:
        if folder is None:
            return _NOTHING
        for _ in range(LOOKS):
            evidence, complete = _look(folder)
            if complete:
                break
        return evidence


@contextlib.contextmanager
def open_control(control: Path, index: int | None) -> Iterator[int | None]:
    """The descriptor of a control folder, None if it is no folder; links are not followed."""
    descriptors: list[int] = []
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        try:
            descriptors.append(os.open(control, flags))
            if index is not None:
                descriptors.append(os.open(str(index), flags, dir_fd=descriptors[0]))
        except OSError:
            yield None
            return
        yield descriptors[-1]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _look(folder: int) -> tuple[Evidence, bool]:
    """One look, and whether it hangs together: who claims leaves a ``running`` or an ``ended`` file."""
    claim, cancelled, claimed_at = _read_claim(folder)
    running, endings, formerly = _list(folder)
    if claim is None and not endings:
        return Evidence(claim=None, ending=None, started=None, cancelled=cancelled), True
    evidence = Evidence(
        claim=claim, ending=None, started=claimed_at, cancelled=cancelled, formerly=tuple(formerly)
    )
    last = max((int(match[1]) for match in (*running, *endings)), default=None)
    if last is None:
        return evidence, False
    newest = sorted((match for match in endings if int(match[1]) == last), key=lambda match: int(match[3]))
    for match in newest:
        ending = _read_ending(folder, match)
        if ending is not None:
            return replace(evidence, ending=ending, reason=REASONS.get(match[4] or "")), True
    return evidence, True


def _read_claim(folder: int) -> tuple[Claim | None, bool, float | None]:
    """The claim, whether it is nobody's, and when it was made (by the file server's clock)."""
    try:
        text = os.readlink(CLAIM, dir_fd=folder)
        when = os.stat(CLAIM, dir_fd=folder, follow_symlinks=False).st_mtime
    except OSError:
        return None, False, None
    if text == CANCELLED:
        return None, True, None
    match = _CLAIM_TEXT.fullmatch(text)
    if match is None:
        return None, False, None
    return Claim(match[1], int(match[2])), False, when


def _list(folder: int) -> tuple[list[re.Match[str]], list[re.Match[str]], list[float]]:
    """The names of ``running`` files and of endings, and when former claims were made."""
    running, endings, formerly = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, MAX_ENTRIES):
                if match := _RUNNING.fullmatch(entry.name):
                    running.append(match)
                elif match := _ENDED.fullmatch(entry.name):
                    endings.append(match)
                elif _FORMER_CLAIM.fullmatch(entry.name):
                    formerly.append(entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return [], [], []
    return running, endings, formerly


def _read_ending(folder: int, match: re.Match[str]) -> Ending | None:
    status, epoch = int(match[2]), int(match[3])
    if status > 255:
        return None
    try:
        # O_NONBLOCK: a FIFO of this name must not stop the reader.
        descriptor = os.open(match[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    try:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode):
            return None
        content = os.read(descriptor, MAX_CONTENT)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    precise = epoch == 0 or abs(known.st_mtime - epoch) <= CLOCK_TOLERANCE
    return Ending(
        attempt=int(match[1]),
        status=status,
        time=known.st_mtime if precise else float(epoch),
        signal=signal_name(status),
        cpu_seconds=_cpu_seconds(content),
        provisional=match[4] == CAUGHT,
    )


def signal_name(status: int) -> str | None:
    """The signal that a shell means by an exit status (128 + its number), such as ``SIGKILL``."""
    number = status - 128
    if not 1 <= number <= 64:
        return None
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if number >= 34 else f"SIG{number}"


def _cpu_seconds(content: bytes) -> float | None:
    """What the command used, from sh's ``times`` before and after it (each: the shell's, the children's)."""
    lines = content.decode("ascii", "replace").splitlines()
    if len(lines) != 4:
        return None
    before, after = _seconds(lines[1]), _seconds(lines[3])
    return None if before is None or after is None else max(round(after - before, 6), 0.0)


def _seconds(line: str) -> float | None:
    """The sum of user and system time in a line such as ``0m1.200000s 0m0.300000s``."""
    parts = [_TIMES.fullmatch(part) for part in line.split(" ")]
    if len(parts) != 2:
        return None
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += int(part[1]) * 60 + float(part[2].replace(",", "."))
    return total


def parse_doorbell(name: str) -> Doorbell | None:
    """What a file name in the spool means; None if it is no doorbell."""
    match = _DOORBELL.fullmatch(name)
    if match is None:
        return None
    return Doorbell(match[1], None if match[2] is None else int(match[2]), match[3])


def doorbells(spool: Path, limit: int) -> list[str]:
    """Up to `limit` names in the spool, in no order; names that begin with a dot are the daemon's own."""
    with os.scandir(spool) as entries:
        return list(islice((entry.name for entry in entries if not entry.name.startswith(".")), limit))


def refresh(spool: Path) -> None:
    """Make and remove a file in the spool: an NFS client then fetches the folder's listing anew.

    What stands in the way (a full disk, say) is not told: it is reported where it matters.
    """
    name = spool / f".refresh-{os.getpid()}"
    with contextlib.suppress(OSError):
        # Never through a link, which a job may have put there.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with contextlib.suppress(OSError):
        name.unlink()
