"""What libdrmaa's answers mean: its errors, its job states, its endings, its resource usage. Pure.

Nothing here calls the library: errors are told apart by their class's name in drmaa-python, so that
this can be imported, and tested, where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from drmaaticd.drm.base import EngineError, JobState, PassingFault, Refused, Report, Usage
from drmaaticd.drm.dialects import Dialect

#: Characters of a DRM's message that are kept.
LONGEST_TEXT = 1000

#: drmaa-python's exceptions after which the same call will never succeed (GFD-R.022, section 3.2.10).
_FINAL = frozenset(
    {
        "AuthorizationException",
        "ConflictingAttributeValuesException",
        "DeniedByDrmException",
        "HoldInconsistentStateException",
        "InvalidArgumentException",
        "InvalidAttributeFormatException",
        "InvalidAttributeValueException",
        "InvalidJobTemplateException",
        "ReleaseInconsistentStateException",
        "ResumeInconsistentStateException",
        "SuspendInconsistentStateException",
        "UnsupportedAttributeException",
    }
)

#: After these the DRM was not reached: the library's session is doubtful.
_CUT_OFF = frozenset({"DrmCommunicationException", "DrmsExitException"})

#: What a DRM also says with "denied", though the same job may be accepted later: limits per user,
#: and (LSF, where every failed submission is "denied") a master that does not answer.
_PASSING_TEXTS = re.compile(
    r"\blimit|\bQOS\b|jobs? (is|are) allowed per user|not responding|try (again )?later|timed? ?out"
    r"|communication (error|fail)|connection (refused|reset)",
    re.IGNORECASE,
)

_CODE = re.compile(r"^code \d+: ")
_SIGNAL = re.compile(r"^SIG[A-Z][A-Z0-9+-]*$")

_STATES = {
    "undetermined": JobState.UNKNOWN,
    "queued_active": JobState.QUEUED,
    "system_on_hold": JobState.SYSTEM_HELD,
    "user_on_hold": JobState.USER_HELD,
    "user_system_on_hold": JobState.USER_SYSTEM_HELD,
    "running": JobState.RUNNING,
    "system_suspended": JobState.SYSTEM_SUSPENDED,
    "user_suspended": JobState.USER_SUSPENDED,
    "user_system_suspended": JobState.USER_SUSPENDED,
    "done": JobState.ENDED,
    "failed": JobState.ENDED,
}
"""drmaa-python's names of DRMAA's states (GFD-R.022, section 2.6)."""


class UnknownJob(EngineError):
    """The DRM does not know the job, or no more (DRMAA's InvalidJobException)."""


class NotEnded(EngineError):
    """The DRM does not say of the job that it has ended (DRMAA's ExitTimeoutException)."""


class NoRecord(EngineError):
    """The job is gone, and the DRM kept no record of how (DRMAA's NO_RUSAGE, code 24)."""


class CutOff(PassingFault):
    """The DRM could not be reached; the library's session is doubtful from now on."""


class JobInfo(Protocol):
    """What drmaa-python's ``Session.wait`` returns."""

    hasExited: bool
    hasSignal: bool
    terminatedSignal: str
    wasAborted: bool
    exitStatus: int
    resourceUsage: Mapping[str, str]


class NoSession(CutOff):
    """The library has no session open (DRMAA's NoActiveSessionException)."""


def text_of(error: BaseException) -> str:
    """The DRM's own words in one printable line, without DRMAA's error number."""
    words = " ".join(_CODE.sub("", str(error)).split())
    return "".join(char if char.isprintable() else "?" for char in words)[:LONGEST_TEXT]


def error_of(error: Exception) -> EngineError:
    """The engine's error for one that a call of libdrmaa raised.

    What is not known to be final is passing: a task is better kept than rejected by mistake.
    """
    if isinstance(error, EngineError):
        return error
    name, text = type(error).__name__, text_of(error)
    if name == "InvalidJobException":
        return UnknownJob(text)
    if name == "ExitTimeoutException":
        return NotEnded(text)
    if type(error) is Exception and str(error).startswith("code 24"):
        return NoRecord(text)
    if name == "NoActiveSessionException":
        return NoSession(text or name)
    if name in _CUT_OFF:
        return CutOff(text or name)
    if name in _FINAL and not (name == "DeniedByDrmException" and _PASSING_TEXTS.search(text)):
        return Refused(text or name)
    return PassingFault(text or name)


def state_of(status: str) -> JobState:
    """The job state for one of drmaa-python's; one that is new to this program is unknown."""
    return _STATES.get(status, JobState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The values of a usage report, whatever the library's locale made of the decimal point."""

    values: Mapping[str, str]

    def get(self, *names: str) -> float | None:
        """The first of these that is a number."""
        for name in names:
            try:
                return float(self.values[name].replace(",", "."))
            except (KeyError, ValueError):
                continue
        return None


def usage_of(values: Mapping[str, str], dialect: Dialect) -> Usage | None:
    """What a job used, from the resource usage of DRMAA's ``wait``; None if that says nothing.

    Grid Engine (accounting(5)): ``cpu`` in seconds, ``ru_maxrss`` in KiB as getrusage(2) has it,
    ``ru_wallclock`` in whole seconds. The others' libraries report ``cpu`` and ``walltime`` in
    seconds, and zeros where they know nothing.
    """
    numbers = _Numbers(values)
    cpu = numbers.get("cpu")
    wall = numbers.get("ru_wallclock", "walltime")
    rss = numbers.get("ru_maxrss") if dialect.reports_max_rss else None
    if not dialect.reports_max_rss:
        cpu, wall = cpu or None, wall or None
    elif rss is None:
        return None  # it never ran
    if cpu is None and wall is None and rss is None:
        return None
    return Usage(cpu_seconds=cpu, wall_seconds=wall, max_rss_bytes=int(rss * 1024) if rss else None)


def ending_of(info: JobInfo, dialect: Dialect, max_clock_time: int | None = None) -> Report:
    """What the DRM says of an ended job (DRMAA's ``wait``). Its exit status is a hint only.

    `max_clock_time` is the job's limit in seconds, where it is known: no DRMAA library tells a job
    that ran out of time from one that was killed.
    """
    usage = usage_of(info.resourceUsage, dialect)
    signal = info.terminatedSignal if _SIGNAL.match(info.terminatedSignal or "") else None
    if info.wasAborted:
        why = _why_aborted(usage, dialect, max_clock_time)
        return Report(JobState.ENDED, signal=signal, killed=True, reason=why, usage=usage)
    if info.hasExited:
        if info.exitStatus == dialect.forgotten_status:
            return Report(JobState.UNKNOWN)
        return Report(JobState.ENDED, info.exitStatus, signal if info.hasSignal else None, usage=usage)
    # The signal killed the launcher itself, which survives every signal that can be caught.
    reason = "time limit reached" if _timed_out(usage, max_clock_time) else None
    return Report(JobState.ENDED, signal=signal, killed=True, reason=reason, usage=usage)


def _timed_out(usage: Usage | None, max_clock_time: int | None) -> bool:
    if usage is None or usage.wall_seconds is None or max_clock_time is None:
        return False
    return usage.wall_seconds >= max_clock_time


def _why_aborted(usage: Usage | None, dialect: Dialect, max_clock_time: int | None) -> str:
    if _timed_out(usage, max_clock_time):
        return "time limit reached"
    if dialect.reports_max_rss and usage is None:
        return "the cluster could not start it"
    return "it was deleted or aborted"


def no_record() -> Report:
    """The report of a job that is gone without a record: deleted while it was queued, or lost."""
    return Report(JobState.ENDED, killed=True, reason="it was deleted, or the cluster lost its record")
