"""What verdicts change in a task's record: its state, times, usage and, of an array, its members.

Pure. What the evidence means is decided in `verdict`; `sync` writes what is said here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from drmaaticd.drm.base import Array
from drmaaticd.states import QUEUED, State
from drmaaticd.tasks import MEMBER_LETTERS, MEMBER_STATES, Task
from drmaaticd.verdict import Verdict, combine

_NOT_BEGUN = QUEUED | {State.RECEIVED, State.CREATED}


def indices(task: Task) -> range:
    """The indices of an array's members, in the order of `Task.members`; none of another task."""
    return range(0) if task.array is None else Array(**task.array).indices


def added(so_far: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    """The usage of an array: times add up, the largest memory counts."""
    total = dict(so_far)
    for name, value in more.items():
        known = total.get(name, 0)
        total[name] = max(known, value) if name == "max_rss_bytes" else known + value
    return total


def members_of(task: Task) -> str:
    """The members' letters, made when the array first reaches the DRM."""
    if task.array is None or task.members:
        return task.members
    return MEMBER_LETTERS[State.QUEUED_ACTIVE] * len(indices(task))


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as records keep times."""
    return None if seconds is None else int(seconds * 1000)


def requeued(before: State, verdict: Verdict) -> bool:
    """Whether a job that had begun waits again: its start, and all of that run, count no more."""
    return verdict.rerun or (verdict.state in QUEUED and before not in _NOT_BEGUN)


def began_at(before: State, verdict: Verdict) -> int | None:
    """When a job's present run began (milliseconds since 1970), where the verdict tells of one."""
    return None if requeued(before, verdict) else milliseconds(verdict.started)


def single_changes(task: Task, verdict: Verdict) -> dict[str, Any]:
    """The fields of a task that a verdict changes."""
    changes: dict[str, Any] = {}
    state = verdict.state
    if state is not None and state is not task.state:
        changes["state"] = state
    if verdict.rerun:
        changes["attempt"] = task.attempt + 1
    started = began_at(task.state, verdict)
    if requeued(task.state, verdict):
        changes.update(started=None, exit_status=None, signal=None)
    elif started is not None and started != task.started:
        changes["started"] = started
    if state is not None and (verdict.detail or task.detail) and verdict.detail != task.detail:
        changes["detail"] = verdict.detail
    if state is not None and state.final:
        ended = milliseconds(verdict.ended) or time.time_ns() // 1_000_000
        started = changes.get("started", task.started)
        changes.update(
            exit_status=verdict.exit_status,
            signal=verdict.signal,
            # The launcher's clock may be behind that of the file server, which dates the start.
            ended=ended if started is None else max(ended, started),
            stop=False,
            wanted="",
        )
        usage = _measured(verdict)
        if usage:
            changes["usage"] = usage
    return changes


def _measured(verdict: Verdict) -> dict[str, float]:
    """The usage that the launcher's evidence gives; what the DRM tells is put over it."""
    usage = {}
    if verdict.cpu_seconds is not None:
        usage["cpu_seconds"] = verdict.cpu_seconds
    if verdict.started is not None and verdict.ended is not None:
        usage["wall_seconds"] = round(max(verdict.ended - verdict.started, 0.0), 3)
    return usage


def array_changes(task: Task, verdicts: Mapping[int | None, Verdict], began: int | None) -> dict[str, Any]:
    """The fields of an array's task that verdicts on its members change.

    `began` is the start of the first of the runs that still count, as far as it was known (`starts`).
    """
    members = list(members_of(task))
    first_started = began
    last_ended = task.ended
    failure: Verdict | None = None
    usage = task.usage
    known = indices(task)
    for index, verdict in verdicts.items():
        if index is None or index not in known:
            continue
        position = known.index(index)
        started = began_at(MEMBER_STATES[members[position]], verdict)
        if started is not None:
            first_started = started if first_started is None else min(first_started, started)
        if verdict.state is None or MEMBER_STATES[members[position]].final:
            continue
        members[position] = MEMBER_LETTERS[verdict.state]
        if verdict.state.final:
            usage = added(usage, _measured(verdict))
            last_ended = max(last_ended or 0, milliseconds(verdict.ended) or time.time_ns() // 1_000_000)
            if verdict.state is State.FAILED and failure is None:
                failure = verdict
                failed_index = index
    letters = "".join(members)
    changes: dict[str, Any] = {}
    if letters != task.members:
        changes["members"] = letters
    if usage != task.usage:
        changes["usage"] = usage
    if first_started != task.started:
        changes["started"] = first_started
    if last_ended != task.ended:
        changes["ended"] = last_ended
    if failure is not None and task.exit_status is None:
        changes.update(exit_status=failure.exit_status, signal=failure.signal)
        if not task.detail:
            changes["detail"] = f"index {failed_index}: {failure.detail or 'failed'}"
    state = combine(MEMBER_STATES[letter] for letter in set(members))
    if state is not task.state:
        changes["state"] = state
        if state.final:
            changes.update(stop=False, wanted="")
            if state is State.DONE:
                changes["exit_status"] = 0
    return changes
