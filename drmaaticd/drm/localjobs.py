"""The embedded engine's jobs: its records, and the folder that keeps them through a crash.

A job's own file is written once, durably, when it is submitted; what changes lies beside it, since
that is lost without harm: an ended machine has ended its jobs. For `drmaaticd.drm.local` alone.

    <id>.json          the job           <id>.state.json    its run; of an array: how far it is
    <id>.<index>.json  one member of an array, from its start until it was asked about for the last time
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmaaticd.drm.base import Array, Job, JobState, Report, Usage
from drmaaticd.drm.processes import Identity

log = logging.getLogger(__name__)

JSON = dict[str, Any]

#: Job ids are microseconds since 1970, or one more than the last. This many are set aside on disk at
#: a time, so that none comes twice though the clock be set back.
RESERVED_IDS = 60_000_000

_SEQUENCE = "sequence"
_TEMPORARY = ".new-"
_JOB_ID = re.compile(r"([1-9]\d{0,17})(?:\.([1-9]\d{0,17}))?", re.ASCII)
_NAME = re.compile(r"(\d{1,18})(?:\.(\d{1,18}|state))?\.json", re.ASCII)


class Phase(enum.StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    STARTING = "starting"
    """Its process exists; whether that was released is not certain."""
    RUNNING = "running"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Run:
    """One run of a job: of a single job the only one, of an array that of one index."""

    index: int | None = None
    phase: Phase = Phase.QUEUED
    held: bool = False
    suspended: bool = False
    restart: int = 0
    """How often it was started anew because it is not known whether it had begun."""
    identity: Identity | None = None
    cgroup: str | None = None
    killed: bool = False
    """It was, or is being, terminated."""
    reason: str | None = None
    exit_status: int | None = None
    signal: str | None = None
    usage: Usage | None = None

    def report(self, *, held: bool = False) -> Report:
        """What the engine says of it; `held`: its array is on hold."""
        if self.phase is Phase.ENDED:
            return Report(JobState.ENDED, self.exit_status, self.signal, self.killed, self.reason, self.usage)
        if self.identity is None:
            return Report(JobState.USER_HELD if self.held or held else JobState.QUEUED)
        return Report(JobState.USER_SUSPENDED if self.suspended else JobState.RUNNING)

    def document(self) -> JSON:
        """Its JSON; members that have their default are left out."""
        document: JSON = {"phase": self.phase.value}
        for name in _RUN_FIELDS:
            value = getattr(self, name)
            if value:
                document[name] = value
        if self.exit_status is not None:
            document["exit_status"] = self.exit_status
        if self.identity is not None:
            document["identity"] = [self.identity.boot, self.identity.pid, self.identity.start]
        if self.usage is not None:
            document["usage"] = self.usage.as_json()
        return document

    @classmethod
    def from_document(cls, document: JSON, index: int | None) -> Run:
        """The run that `document` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        fields = {name: document[name] for name in (*_RUN_FIELDS, "exit_status") if name in document}
        run = cls(index=index, phase=Phase(document["phase"]), **fields)
        if "identity" in document:
            boot, pid, start = document["identity"]
            run.identity = Identity(str(boot), int(pid), int(start))
        if "usage" in document:
            run.usage = Usage(**document["usage"])
        return run


_RUN_FIELDS = ("held", "suspended", "restart", "cgroup", "killed", "reason", "signal")


@dataclass(slots=True, eq=False)
class LocalJob:
    """A job in the embedded engine's queue. The members of an array come to be as they are started."""

    number: int
    task: str
    run_script: str
    limit: int | None = None
    """Seconds of wall-clock time."""
    array: Array | None = None
    runs: dict[int | None, Run] = field(default_factory=dict)
    waiting: deque[Run] = field(default_factory=deque)
    """Runs that exist and wait for a slot."""
    listed: bool = False
    """Whether the engine's queue names it."""
    held: bool = False
    """Of an array: the members that have not been started are on hold."""
    cut: bool = False
    """Of an array: the members that have not been started never will be."""
    cursor: int = 0
    """Of an array: how many of its indices have had their turn."""
    reaped: int = 0
    """Of an array: a bit for each member, in order, that was asked about for the last time."""

    @classmethod
    def of(cls, number: int, job: Job) -> LocalJob:
        """A new job, which waits."""
        new = cls(number, job.task, str(job.run_script), job.max_clock_time, job.array)
        if job.array is None:
            run = new.runs[None] = Run()
            new.waiting.append(run)
        return new

    @property
    def id(self) -> str:
        """Its id in the form that others know."""
        return str(self.number)

    @property
    def indices(self) -> range:
        """The indices of an array; none of a single job."""
        return range(0) if self.array is None else self.array.indices

    @property
    def has_more(self) -> bool:
        """Whether it is an array with members that have not been started and may be."""
        return not self.cut and self.cursor < len(self.indices)

    @property
    def ready(self) -> bool:
        """Whether a run of it could be started."""
        return any(not run.held for run in self.waiting) or (self.has_more and not self.held)

    def next_run(self) -> Run | None:
        """Take the run whose turn it is."""
        for run in self.waiting:
            if not run.held:
                self.waiting.remove(run)
                return run
        while self.has_more and not self.held:
            index = self.indices[self.cursor]
            self.cursor += 1
            if index not in self.runs and not self.is_reaped(index):
                run = self.runs[index] = Run(index)
                return run
        return None

    def mark(self, run: Run) -> str:
        """What the processes of a run carry, and those of no other: job, index and restart."""
        name = self.id if run.index is None else f"{self.id}.{run.index}"
        return f"{name}-{run.restart}"

    def position(self, index: int | None) -> int | None:
        """Where an index stands in the array, None if it has no such member."""
        return None if index is None or index not in self.indices else self.indices.index(index)

    def is_reaped(self, index: int) -> bool:
        """Whether this member was asked about for the last time."""
        position = self.position(index)
        return position is not None and bool(self.reaped >> position & 1)

    def reap(self, index: int) -> bool:
        """Note that a member was asked about for the last time; True when all have been."""
        self.reaped |= 1 << self.indices.index(index)
        return self.reaped.bit_count() == len(self.indices)

    def untold(self) -> Iterator[int | None]:
        """The runs that have ended, or never will be, and that were not asked about for the last time."""
        if self.array is None:
            yield from (None for run in self.runs.values() if run.phase is Phase.ENDED)
            return
        for position, index in enumerate(self.indices):
            if position >= self.cursor and not self.cut and index not in self.runs:
                continue
            if self.report(index).state is JobState.ENDED and not self.is_reaped(index):
                yield index

    def select(self, index: int | None) -> list[Run]:
        """The runs that an id means; a member that has none yet gets one, which waits."""
        if index is None:
            return list(self.runs.values())
        if index not in self.runs:
            run = self.runs[index] = Run(index, held=self.held)
            self.waiting.append(run)
        return [self.runs[index]]

    def cut_rest(self) -> list[int]:
        """End the members that have not been started, and name them."""
        rest = [index for index in self.indices[self.cursor :] if index not in self.runs]
        self.cut = True
        return [index for index in rest if not self.is_reaped(index)]

    def report(self, index: int | None) -> Report:
        """What the engine says of a member, or of the job as a whole."""
        run = self.runs.get(index)
        if run is not None:
            return run.report(held=self.held)
        if self.array is None:
            return Report(JobState.UNKNOWN)
        if index is None:
            return self._summary()
        position = self.position(index)
        if position is None:
            return Report(JobState.UNKNOWN)
        if self.is_reaped(index) or position < self.cursor:
            return Report(JobState.ENDED)
        if self.cut:
            return Report(JobState.ENDED, killed=True)
        return Report(JobState.USER_HELD if self.held else JobState.QUEUED)

    def _summary(self) -> Report:
        states = {run.report(held=self.held).state for run in self.runs.values()}
        if self.has_more:
            states.add(JobState.USER_HELD if self.held else JobState.QUEUED)
        for state in (JobState.RUNNING, JobState.USER_SUSPENDED, JobState.QUEUED, JobState.USER_HELD):
            if state in states:
                return Report(state)
        return Report(JobState.ENDED, killed=any(run.killed for run in self.runs.values()) or self.cut)

    # -- as files ------------------------------------------------------------------------------

    def file(self) -> tuple[str, bytes]:
        """Name and content of the file that is written once."""
        document: JSON = {"task": self.task, "run_script": self.run_script}
        if self.limit is not None:
            document["limit"] = self.limit
        if self.array is not None:
            document["array"] = [self.array.begin, self.array.end, self.array.step]
        return f"{self.number}.json", _encode(document)

    def state_file(self) -> tuple[str, bytes]:
        """Name and content of the file that changes with the job."""
        name = f"{self.number}.state.json"
        if self.array is None:
            return name, _encode(self.runs[None].document())
        return name, _encode(
            {"held": self.held, "cut": self.cut, "cursor": self.cursor, "reaped": f"{self.reaped:x}"}
        )

    def run_file(self, run: Run) -> tuple[str, bytes]:
        """Name and content of the file that changes with this run."""
        if self.array is None:
            return f"{self.number}.state.json", _encode(run.document())
        return self.member_name(run.index), _encode(run.document())

    def member_name(self, index: int | None) -> str:
        """Name of the file of an array's member."""
        return f"{self.number}.{index}.json"

    def names(self) -> list[str]:
        """All files that it may have, the one that makes it a job first."""
        members = [self.member_name(index) for index in self.runs if index is not None]
        return [f"{self.number}.json", f"{self.number}.state.json", *members]


def split_id(job_id: str) -> tuple[int, int | None]:
    """The number and index that an id means; number 0, which no job has, if it is no id."""
    match = _JOB_ID.fullmatch(job_id)
    if match is None:
        return 0, None
    return int(match[1]), None if match[2] is None else int(match[2])


def _encode(document: JSON) -> bytes:
    # ensure_ascii: a path that is no UTF-8 holds surrogates, which JSON's escapes can carry.
    return json.dumps(document, separators=(",", ":")).encode("ascii")


class JobFolder:
    """The folder of the jobs' files. Blocking; all calls come from one thread. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = 0
        self._reserved = 0

    def load(self) -> list[LocalJob]:
        """All jobs that were kept, in the order of their submission."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names: dict[int, list[tuple[str, str | None]]] = {}
        for name in [path.name for path in self._folder.iterdir()]:
            if name.startswith(_TEMPORARY):
                self.remove([name])
            elif match := _NAME.fullmatch(name):
                names.setdefault(int(match[1]), []).append((name, match[2]))
        with contextlib.suppress(FileNotFoundError, ValueError):  # only a convenience is lost
            self._reserved = int((self._folder / _SEQUENCE).read_text("ascii"))
        self._last = max(self._reserved, *names, 0)
        jobs = (self._load(number, files) for number, files in sorted(names.items()))
        return [job for job in jobs if job is not None]

    def _load(self, number: int, files: list[tuple[str, str | None]]) -> LocalJob | None:
        base = f"{number}.json"
        if (base, None) not in files:  # it was removed, and the rest of its files was not reached
            self.remove([name for name, _ in files])
            return None
        try:
            document = json.loads((self._folder / base).read_bytes())
            array = Array(*document["array"]) if "array" in document else None
            job = LocalJob(number, document["task"], document["run_script"], document.get("limit"), array)
        except (ValueError, KeyError, TypeError):
            log.exception("the record of job %d is damaged and is put aside: %s.damaged", number, base)
            (self._folder / base).rename(self._folder / f"{base}.damaged")
            return None
        if array is None:
            job.runs[None] = Run()
        for name, part in files:
            if part is not None:
                self._load_part(job, name, part)
        return job

    def _load_part(self, job: LocalJob, name: str, part: str) -> None:
        try:
            document = json.loads((self._folder / name).read_bytes())
            if part != "state":
                index = int(part)
                job.runs[index] = Run.from_document(document, index)
            elif job.array is None:
                job.runs[None] = Run.from_document(document, None)
            else:
                job.held, job.cut = bool(document["held"]), bool(document["cut"])
                job.cursor, job.reaped = int(document["cursor"]), int(document["reaped"], 16)
        except (ValueError, KeyError, TypeError):
            # A crash of the machine may leave this file empty. The job had then been started: its
            # claim keeps it from running twice, and a restart of a restart is harmless.
            log.warning("the state of job %d is damaged and is begun anew: %s", job.number, name)
            if part != "state":
                job.runs[int(part)] = Run(int(part), restart=1)
            elif job.array is None:
                job.runs[None] = Run(restart=1)

    def next_number(self) -> int:
        """A number that no job ever had."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def add(self, jobs: Iterable[LocalJob]) -> None:
        """Write new jobs; when this returns they are on disk. None of them is if it raises."""
        written: list[str] = []
        try:
            if self._last > self._reserved:
                reserved = self._last + RESERVED_IDS
                self._replace(_SEQUENCE, str(reserved).encode("ascii"), durable=True)
                self._sync()
                self._reserved = reserved
            for job in jobs:
                name, content = job.file()
                written.append(name)
                self._replace(name, content, durable=True)
            self._sync()
        except OSError:
            self.remove(written)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Replace a file; a crash of the machine may take it back, or leave it empty."""
        self._replace(name, content, durable=False)

    def change(self, files: Mapping[str, tuple[bytes, bool]], names: Iterable[str]) -> None:
        """Replace files by name (content, and whether durably), and remove others."""
        for name, (content, durable) in files.items():
            self._replace(name, content, durable=durable)
        self.remove(names)
        if any(durable for _, durable in files.values()):
            self._sync()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes, *, durable: bool) -> None:
        temporary = self._folder / f"{_TEMPORARY}{name}"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fdatasync(file.fileno())
            temporary.replace(self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
            raise

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
