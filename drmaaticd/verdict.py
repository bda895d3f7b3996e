"""What the evidence means for a task: the launcher's word and the DRM's, weighed. Pure.

`judge` is the table of evidence. It is asked for one job (or one member of an array) with all that
is known of it, and answers what its task is now. `sync` gathers the evidence and acts on the answer.

The launcher is believed before the DRM: DRMs forget jobs, reuse ids and call failed jobs done. What
neither of them says is unknown, and unknown is not finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drmaaticd.drm.base import JobState, Report
from drmaaticd.launcher import Ending, Evidence
from drmaaticd.states import HELD, LIVE, QUEUED, SUSPENDED, State

#: Seconds for which the DRM must go on calling a running job queued before it is believed: its
#: view lags behind the launcher's word by a scheduling interval.
REQUEUE_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long evidence against a task must last before it is acted on, in seconds."""

    ending: float
    """For an ending that a file system may still hide; 0 where it cannot."""
    lost: float
    """Until a job of which nobody knows counts as failed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a task (or member) is now. `state` None: as it was.

    `doubt` names the evidence that is not yet acted on; its clock runs while the same doubt lasts.
    """

    state: State | None = None
    exit_status: int | None = None
    signal: str | None = None
    detail: str = ""
    started: float | None = None
    """When the present run began, in epoch seconds, as is `ended`."""
    ended: float | None = None
    cpu_seconds: float | None = None
    """What the launcher measured of its command."""
    doubt: str | None = None
    rerun: bool = False
    """The job was requeued by the DRM: its attempt number rises and it is live again."""
    resubmit: bool = False
    """The DRM lost the job before it began: the task is to be submitted again."""


def judge(
    state: State,
    evidence: Evidence,
    report: Report | None,
    *,
    stop: bool,
    patience: Patience,
    doubt: str | None = None,
    doubted: float = 0.0,
) -> Verdict:
    """Decide what a job's task is, from what its launcher left and what the DRM says.

    `report` is None where the DRM was not asked or did not answer. `doubted` is for how many
    seconds the doubt named `doubt` has lasted (counted only while the DRM answers).
    """
    if state.final:
        return Verdict()
    live = report is not None and report.state not in (JobState.ENDED, JobState.UNKNOWN)
    ending = evidence.ending
    if ending is not None:
        if not ending.provisional:
            return _by_ending(evidence, ending, report, stop=stop)
        if report is None:
            # Caught a signal: the DRM must be asked first. What is queued again has not started.
            return Verdict(started=None if state in QUEUED else evidence.started)
        if not live:
            return _by_ending(evidence, ending, report, stop=stop)
        if report.state.task_state in QUEUED:
            return Verdict(report.state.task_state, detail=report.reason or "", rerun=True)
    if report is None:
        if evidence.claim is not None and state in QUEUED | {State.RECEIVED, State.CREATED}:
            return Verdict(State.RUNNING, started=evidence.started)
        return Verdict(started=evidence.started)
    if live:
        return _by_live_report(state, evidence, report, doubt, doubted)
    if report.reassigned and not stop and evidence.claim is None and not evidence.cancelled:
        # Should it have begun after all, its claim keeps the second one from running.
        return Verdict(State.RECEIVED, resubmit=True)
    waited = doubted if doubt == _doubt(report) else 0.0
    if report.state is JobState.ENDED:
        return _by_bare_ending(evidence, report, waited, stop=stop, patience=patience)
    return _by_silence(state, evidence, waited, stop=stop, patience=patience)


def _doubt(report: Report) -> str:
    return "ended" if report.state is JobState.ENDED else "unknown"


def _by_ending(evidence: Evidence, ending: Ending, report: Report | None, *, stop: bool) -> Verdict:
    """The launcher saw the script end: that is what happened, whatever the DRM says."""
    common: dict[str, Any] = {
        "exit_status": ending.status,
        "started": evidence.started,
        "ended": ending.time,
        "cpu_seconds": ending.cpu_seconds,
    }
    reason = report.reason if report is not None else None
    if stop and (ending.status != 0 or ending.provisional):
        return Verdict(State.STOPPED, signal=ending.signal, **common)
    if ending.status == 0:
        return Verdict(State.DONE, **common)
    return Verdict(State.FAILED, signal=ending.signal, detail=evidence.reason or reason or "", **common)


def _by_live_report(
    state: State, evidence: Evidence, report: Report, doubt: str | None, doubted: float
) -> Verdict:
    now = report.state.task_state
    claimed = state is State.RUNNING or evidence.claim is not None
    if now in QUEUED and claimed and (doubt != "requeued" or doubted < REQUEUE_GRACE):
        # Either the DRM's view lags behind the launcher's word, or it has queued the job again.
        shown = State.RUNNING if state in QUEUED | {State.CREATED, State.RECEIVED} else None
        return Verdict(shown, started=evidence.started, doubt="requeued")
    return Verdict(now, detail=report.reason or "", started=evidence.started)


def _by_bare_ending(
    evidence: Evidence, report: Report, waited: float, *, stop: bool, patience: Patience
) -> Verdict:
    """The DRM says that the job is gone, and its launcher has said nothing."""
    if stop:
        return Verdict(State.STOPPED, signal=report.signal, started=evidence.started)
    if waited < patience.ending:
        return Verdict(started=evidence.started, doubt="ended")
    if evidence.claim is None:
        why = "did not start"
    elif report.killed or report.signal or report.exit_status:
        why = "was ended by the cluster" if report.reason is None else ""
    else:
        why = "ended without a report"
    detail = ": ".join(part for part in (why, report.reason) if part)
    status = report.exit_status or None  # a 0 without the launcher's word is not to be believed
    return Verdict(
        State.FAILED, exit_status=status, signal=report.signal, detail=detail, started=evidence.started
    )


def _by_silence(
    state: State, evidence: Evidence, waited: float, *, stop: bool, patience: Patience
) -> Verdict:
    """Neither the launcher nor the DRM knows how the job ended, or whether it did."""
    if stop and (evidence.cancelled or waited >= patience.ending):
        return Verdict(State.STOPPED, started=evidence.started, doubt="unknown")
    if waited >= patience.lost:
        return Verdict(
            State.FAILED,
            detail="the cluster does not know the job any more, and it left no report",
            started=evidence.started,
        )
    if waited >= patience.ending and state is not State.UNDETERMINED:
        return Verdict(State.UNDETERMINED, started=evidence.started, doubt="unknown")
    return Verdict(started=evidence.started, doubt="unknown")


def combine(members: Iterable[State]) -> State:
    """The state of an array, from those of its members: live while any is; failed if any failed."""
    counts = Counter(members)
    for group in _PRECEDENCE:
        for state in State:  # in the enum's order, so that the answer does not depend on chance
            if state in group and counts[state]:
                return state
    return State.DONE


_PRECEDENCE: tuple[frozenset[State], ...] = (
    frozenset({State.RUNNING}),
    SUSPENDED,
    frozenset({State.QUEUED_ACTIVE}),
    HELD,
    LIVE,
    frozenset({State.STOPPED}),
    frozenset({State.FAILED}),
    frozenset({State.REJECTED}),
    frozenset({State.DONE}),
)
