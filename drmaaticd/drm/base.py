"""What the daemon asks of a resource manager (DRM), whichever it is.

`Engine` is the protocol that every adapter implements and the contract tests check; the rest are
its values. An engine reports what the DRM says and judges nothing: what a report means for a task
is decided in `sync`, together with what the task's launcher left behind.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drmaaticd.states import State


class EngineError(Exception):
    """The DRM did not do what it was asked; the text is the DRM's own."""


class PassingFault(EngineError):
    """The DRM cannot be reached or is busy: the same call may succeed later."""


class Refused(EngineError):
    """The DRM has understood and says no: the same call will never succeed."""


class Action(enum.StrEnum):
    """What can be asked of a job under way (DRMAA's ``control``)."""

    TERMINATE = "terminate"
    HOLD = "hold"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"


class JobState(enum.StrEnum):
    """What a DRM says of a job."""

    QUEUED = "queued"
    SYSTEM_HELD = "system_held"
    USER_HELD = "user_held"
    USER_SYSTEM_HELD = "user_system_held"
    RUNNING = "running"
    SYSTEM_SUSPENDED = "system_suspended"
    USER_SUSPENDED = "user_suspended"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The DRM does not know the job, or cannot tell: a question to ask again, not an ending."""

    @property
    def task_state(self) -> State | None:
        """The task state that this means, None where a job's state alone does not say it."""
        return _TASK_STATES.get(self)


_TASK_STATES = {
    JobState.QUEUED: State.QUEUED_ACTIVE,
    JobState.SYSTEM_HELD: State.SYSTEM_ON_HOLD,
    JobState.USER_HELD: State.USER_ON_HOLD,
    JobState.USER_SYSTEM_HELD: State.USER_SYSTEM_ON_HOLD,
    JobState.RUNNING: State.RUNNING,
    JobState.SYSTEM_SUSPENDED: State.SYSTEM_SUSPENDED,
    JobState.USER_SUSPENDED: State.USER_SUSPENDED,
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job used; None where the DRM does not tell."""

    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    max_rss_bytes: int | None = None

    def as_json(self) -> dict[str, float | int]:
        """The members that are known, named as in the API."""
        pairs = (
            ("cpu_seconds", self.cpu_seconds),
            ("wall_seconds", self.wall_seconds),
            ("max_rss_bytes", self.max_rss_bytes),
        )
        return {name: value for name, value in pairs if value is not None}


@dataclass(frozen=True, slots=True)
class Report:
    """What the DRM says of one job at one moment.

    For an ended job: `exit_status` and `signal` (a name such as ``SIGKILL``) where the DRM knows
    them; `killed` if it was terminated, aborted or timed out rather than ending by itself;
    `reason`, worded for the task's owner (``time limit reached``, ``machine restarted``).
    For a queued one, `reason` may say why it waits.
    """

    state: JobState
    exit_status: int | None = None
    signal: str | None = None
    killed: bool = False
    reason: str | None = None
    usage: Usage | None = None
    task: str | None = None
    """The UUID in the job's name, empty for a job that is no task's; None where the DRM does not tell."""
    reassigned: bool = False
    """The id belongs to another job now: the one that was meant is gone without a record."""

    def about(self, task: str) -> Report:
        """This, if it is about a job of the task; else that the task's job is gone."""
        if self.task is None or self.task == task:
            return self
        return Report(JobState.UNKNOWN, reassigned=True)


@dataclass(frozen=True, slots=True)
class Array:
    """The indices of an array job: `begin`, `begin + step`, … up to and with `end`; begin ≥ 1."""

    begin: int
    end: int
    step: int = 1

    @property
    def indices(self) -> range:
        """All indices, in order."""
        return range(self.begin, self.end + 1, self.step)


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine needs to run a task. Everything else is inside the run script."""

    task: str
    """The task's UUID."""
    name: str
    """The job's name in the DRM: ASCII letters, digits, ``-``, ``_`` and ``.``, a letter first."""
    run_script: Path
    """The launcher, run as ``/bin/sh <run_script>``."""
    folder: Path
    """The job's working folder."""
    cpus: int = 1
    memory: int | None = None
    """Bytes for the whole job."""
    max_clock_time: int | None = None
    """Seconds of wall-clock time after which the DRM ends the job."""
    queue: str | None = None
    account: str | None = None
    qos: str | None = None
    licenses: str | None = None
    gres: str | None = None
    native: str = ""
    """The administrator's own words, appended to the DRM's native specification."""
    rerunnable: bool = False
    array: Array | None = None


class Found(enum.Enum):
    """The answers of `Engine.find` that are no job id."""

    NONE = "there is no such job"
    CANNOT_TELL = "this DRM cannot be trusted to say"


class Engine(Protocol):
    """One resource manager. Every method returns without blocking the loop.

    Calls may raise `PassingFault` or `Refused` where it is said, and nothing else that is
    expected. Job ids are the DRM's own (``12``, ``12.server``); an array has one id, and `element`
    names its members.
    """

    name: str
    """The backend's name in the configuration: ``local``, ``drmaa``, ``slurm``."""

    endings_are_prompt: bool
    """True where a launcher's files are on a disk of this machine: an ending that is not there when
    the job is gone will not come, so no grace is given."""

    tells_tasks: bool
    """True where its reports name each job's task, so that it is known whose an id is."""

    listener: Callable[[str, int | None], None]
    """Called on the loop with (task UUID, array index or None) when the engine learns by itself that
    a job started or ended. Set by its owner before `start`; engines that only answer never call it."""

    async def start(self) -> None:
        """Open the session. A DRM that is down is no error here: it is reported by `fault`."""

    async def close(self) -> None:
        """Close the session; jobs go on."""

    def fault(self) -> str | None:
        """Why the DRM does not work at present (its last answer), None while it does."""

    async def ping(self) -> None:
        """Ask the DRM something that costs it nothing, for `fault` to be true when nothing else is asked.

        Raises `PassingFault`.
        """

    async def submit(self, job: Job) -> str:
        """Submit a job, or an array (``job.array``), and return its id.

        Raises `PassingFault` if it may be tried again, `Refused` if not.
        """

    def element(self, job_id: str, index: int) -> str:
        """The id of an array's member."""

    async def find(self, task: str) -> str | Found:
        """The id of the job that was submitted for a task, if the engine can say for certain.

        Asked after a crash between `submit` and the record of its answer.
        """

    async def states(self, job_ids: Sequence[str], budget: float) -> Mapping[str, Report]:
        """What the DRM says of each job, within about `budget` seconds.

        An id that is left out was not asked (time ran out, the DRM is away): its task stays as it
        is. Array members are asked by their own ids.
        """

    async def finished(self, job_id: str) -> Report:
        """What the DRM says of a job that has ended; asked once a job, it lets the DRM forget it.

        Raises `PassingFault`.
        """

    async def control(self, job_id: str, action: Action, task: str | None = None) -> None:
        """Carry out an action. A job that has ended already is no error.

        With `task`, nothing is done to a job of which the DRM says that it is another task's: ids are
        used again.

        Raises `PassingFault` if it may be tried again, `Refused` if the job's state forbids it.
        """
