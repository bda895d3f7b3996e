"""An engine without a cluster: jobs are records in memory, and whoever holds it says what befalls them.

For tests of what stands above the engines: faults that pass, refusals, delays, lost answers and lies
about endings can be scripted. It runs nothing; that is `local`'s business.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from drmaaticd.drm.base import (
    Action,
    EngineError,
    Found,
    Job,
    JobState,
    PassingFault,
    Refused,
    Report,
    Usage,
)

T = TypeVar("T")

LIVE = frozenset(JobState) - {JobState.ENDED, JobState.UNKNOWN}
QUEUED = frozenset({JobState.QUEUED, JobState.SYSTEM_HELD, JobState.USER_HELD, JobState.USER_SYSTEM_HELD})

_MOVES: dict[Action, tuple[frozenset[JobState], JobState]] = {
    Action.HOLD: (QUEUED, JobState.USER_HELD),
    Action.RELEASE: (frozenset({JobState.USER_HELD}), JobState.QUEUED),
    Action.SUSPEND: (frozenset({JobState.RUNNING}), JobState.USER_SUSPENDED),
    Action.RESUME: (frozenset({JobState.USER_SUSPENDED}), JobState.RUNNING),
}
"""For each action but terminate: the states that allow it, and the one that it leads to."""


@dataclass(slots=True)
class Twist:
    """What happens to the next call of a kind instead of, or around, what should happen."""

    error: EngineError | None = None
    """Raised: before anything is done, or instead of the answer if `lost`."""
    lost: bool = False
    """The DRM does what it is asked, and the answer is lost."""
    gate: asyncio.Event | None = None
    """The call waits until this is set."""


@dataclass(slots=True)
class MemoryJob:
    """A job (or member of an array) as this DRM knows it."""

    id: str
    job: Job
    index: int | None = None
    report: Report = field(default_factory=lambda: Report(JobState.QUEUED))
    lie: Report | None = None
    """What the DRM says instead of `report`."""


class MemoryEngine:
    """Implements `base.Engine`; the second half of its methods are the script's.

    `calls` lists every call that reached it: its name and the task or job id.
    """

    name = "memory"

    def __init__(
        self, *, endings_are_prompt: bool = False, can_find: bool = False, tells_tasks: bool = False
    ) -> None:
        self.endings_are_prompt = endings_are_prompt
        self.can_find = can_find
        self.tells_tasks = tells_tasks
        self.listener: Callable[[str, int | None], None] = lambda task, index: None
        self.calls: list[tuple[str, str]] = []
        self.submitted: list[Job] = []
        self.jobs: dict[str, MemoryJob] = {}
        self._arrays: dict[str, list[str]] = {}
        self._twists: dict[str, deque[Twist]] = defaultdict(deque)
        self._away: str | None = None
        self._next_id = 1

    # -- the engine -------------------------------------------------------------------------------

    async def start(self) -> None:
        """There is nothing to open."""
        self.calls.append(("start", ""))

    async def close(self) -> None:
        """There is nothing to close; jobs stay as they are."""
        self.calls.append(("close", ""))

    def fault(self) -> str | None:
        """What `leave` was told."""
        return self._away

    async def ping(self) -> None:
        """An answer, unless it is away."""
        await self._called("ping", "")

    async def submit(self, job: Job) -> str:
        """Make a record of the job."""
        twist = await self._called("submit", job.task)
        job_id = self._record(job)
        return self._answer(twist, job_id)

    def element(self, job_id: str, index: int) -> str:
        """The id of an array's member."""
        return f"{job_id}.{index}"

    async def find(self, task: str) -> str | Found:
        """The id of the task's last job, if this engine was made to tell."""
        await self._called("find", task)
        if not self.can_find:
            return Found.CANNOT_TELL
        ids = [known.id.partition(".")[0] for known in self.jobs.values() if known.job.task == task]
        return ids[-1] if ids else Found.NONE

    async def states(self, job_ids: Sequence[str], budget: float) -> Mapping[str, Report]:
        """What is recorded of each job, or the lie told about it."""
        twist = await self._called("states", " ".join(job_ids))
        return self._answer(twist, {job_id: self._report(job_id) for job_id in job_ids})

    async def finished(self, job_id: str) -> Report:
        """How a job ended, once: then it is forgotten, as DRMs do. A live one is reported as it is."""
        twist = await self._called("finished", job_id)
        report = self._report(job_id)
        if report.state not in LIVE:
            self.jobs.pop(job_id, None)
        return self._answer(twist, report)

    async def control(self, job_id: str, action: Action, task: str | None = None) -> None:
        """Carry out an action on a job, or on all members of an array that have not ended."""
        twist = await self._called(f"control {action}", job_id)
        for member in self._arrays.get(job_id, [job_id]):
            known = self.jobs.get(member)
            if known is not None and self.tells_tasks and task not in (None, known.job.task):
                continue
            if known is not None and known.report.state in LIVE:
                self._act(known, action)
        self._answer(twist, None)

    # -- the script: faults ----------------------------------------------------------------------

    def leave(self, reason: str = "the DRM cannot be reached") -> None:
        """From now on every call is a passing fault."""
        self._away = reason

    def come_back(self) -> None:
        """The DRM can be reached again."""
        self._away = None

    def fail_next(self, call: str, error: EngineError, *, lost: bool = False) -> None:
        """Let the next call of this name (``submit``, ``control hold``, …) fail.

        `lost`: what was asked is done all the same, and only the answer does not come.
        """
        self._twists[call].append(Twist(error, lost))

    def delay_next(self, call: str) -> asyncio.Event:
        """Let the next call of this name wait until the event that is returned is set."""
        gate = asyncio.Event()
        self._twists[call].append(Twist(gate=gate))
        return gate

    # -- the script: what befalls jobs -----------------------------------------------------------

    def begin(self, job_id: str) -> None:
        """The job runs."""
        self._set(job_id, Report(JobState.RUNNING))

    def requeue(self, job_id: str) -> None:
        """The DRM has taken the job back and queued it again, under the same id."""
        self._set(job_id, Report(JobState.QUEUED))

    def move(self, job_id: str, state: JobState, reason: str | None = None) -> None:
        """The job is in another state, by no doing of the daemon's."""
        self._set(job_id, Report(state, reason=reason))

    def end(
        self,
        job_id: str,
        exit_status: int | None = 0,
        *,
        signal: str | None = None,
        killed: bool = False,
        reason: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """The job has ended."""
        self._set(job_id, Report(JobState.ENDED, exit_status, signal, killed, reason, usage))

    def lie(self, job_id: str, report: Report | None) -> None:
        """From now on the DRM says this of the job, whatever is true; None: the truth again."""
        self.jobs[job_id].lie = report

    def forget(self, job_id: str) -> None:
        """The DRM does not know the job any more."""
        del self.jobs[job_id]

    def use_ids_again(self) -> None:
        """The DRM has lost its database: its ids begin at 1 again, and it knows no job."""
        self.jobs.clear()
        self._arrays.clear()
        self._next_id = 1

    def ids_of(self, task: str) -> list[str]:
        """The ids under which jobs of this task are known, in the order of their submission."""
        return [known.id for known in self.jobs.values() if known.job.task == task]

    # -- within ----------------------------------------------------------------------------------

    async def _called(self, call: str, what: str) -> Twist:
        self.calls.append((call, what))
        line = self._twists[call]
        twist = line.popleft() if line else Twist()
        if twist.gate is not None:
            await twist.gate.wait()
        if self._away is not None:
            raise PassingFault(self._away)
        if twist.error is not None and not twist.lost:
            raise twist.error
        return twist

    def _answer(self, twist: Twist, answer: T) -> T:
        if twist.error is not None:
            raise twist.error
        return answer

    def _record(self, job: Job) -> str:
        job_id, self._next_id = str(self._next_id), self._next_id + 1
        self.submitted.append(job)
        if job.array is None:
            self.jobs[job_id] = MemoryJob(job_id, job)
            return job_id
        members = [self.element(job_id, index) for index in job.array.indices]
        self._arrays[job_id] = members
        for member, index in zip(members, job.array.indices, strict=True):
            self.jobs[member] = MemoryJob(member, job, index)
        return job_id

    def _report(self, job_id: str) -> Report:
        known = self.jobs.get(job_id)
        if known is None:
            return Report(JobState.UNKNOWN)
        report = known.lie or known.report
        return replace(report, task=known.job.task) if self.tells_tasks else report

    def _act(self, known: MemoryJob, action: Action) -> None:
        if action is Action.TERMINATE:
            self.end(known.id, None, killed=True)
            return
        allowed, state = _MOVES[action]
        if known.report.state not in allowed:
            raise Refused(f"a job that is {known.report.state} takes no {action}")
        self._set(known.id, Report(state))

    def _set(self, job_id: str, report: Report) -> None:
        known = self.jobs[job_id]
        began = report.state is JobState.RUNNING and known.report.state in QUEUED
        known.report = report
        if self.endings_are_prompt and (began or report.state is JobState.ENDED):
            self.listener(known.job.task, known.index)
