"""What Slurm's commands answer: job ids, states, endings, usage, and which faults pass. Pure.

The formats are those that releases from 20.11 on share: squeue's ``--format`` and sacct's
``--parsable2``. States and reasons: squeue(1), "JOB STATE CODES" and "JOB REASON CODES".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from drmaaticd.drm.base import EngineError, JobState, PassingFault, Refused, Report, Usage
from drmaaticd.evidence import signal_name

#: Characters of Slurm's message that are kept.
LONGEST_TEXT = 1000

#: Indices that one row may stand for; Slurm's MaxArraySize is at most 4,000,001.
MOST_INDICES = 4_000_001

#: squeue's ``--format``: the id with its index, the state, the reason, and the name, which may hold a ``|``.
SQUEUE_FORMAT = "%i|%T|%r|%j"

#: Every state that squeue of 20.11 knows. Its ``--states=all`` is without some, stopped jobs among them.
_STATES_OF_20_11 = (
    "pending,running,suspended,completed,cancelled,failed,timeout,node_fail,preempted,boot_fail,deadline,"
    "out_of_memory,completing,configuring,resizing,requeued,requeue_fed,requeue_hold,revoked,signaling,"
    "special_exit,stage_out,stopped"
)

#: sacct's ``--format``. The name comes last here too.
SACCT_FORMAT = "JobID,State,ExitCode,ElapsedRaw,TotalCPU,MaxRSS,JobName"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_ID = re.compile(r"([1-9]\d*)(?:_(\d+)|_\[([^\]]*)\]|\+(\d+))?", re.ASCII)
_SUBMITTED = re.compile(r"([1-9]\d{0,9})(?:;\S*)?", re.ASCII)

#: Faults of the way to the controller, of the controller's own means, and limits that others' jobs make:
#: the same call may succeed later. From slurm_errno.c and the commands' sources.
_PASSING = re.compile(
    r"unable to contact|unable to connect|connect failure|communication|connection|message (send|receive)"
    r"|unexpected message|timed? ?out|zero bytes|header lengths|transport endpoint|standby mode|temporarily"
    r"|munge|authentication|credential|rate.?limit|rpc limit|back(ing)? ?off|too many requests|busy"
    r"|no space left|disk quota|i/o error|cannot allocate memory|too many open files"
    r"|configuration source|fetch_config|configuration file|slurm\.conf|shared librar|incompatible version"
    r"|partition not available|partition is down|drained or reserved|database|slurmdbd"
    r"|submit limit|job count|max\w*(jobs|submit)|pending jobs|shutdown|shutting down|in progress",
    re.IGNORECASE,
)

#: Slurm, or sbatch itself, has understood and says no.
_FINAL = re.compile(
    r"submission failed|allocation failure|unrecognized option|invalid|requires an argument|ambiguous"
    r"|permission denied|not (permitted|allowed|supported|valid)|unable to (open|read) file|disabled",
    re.IGNORECASE,
)

#: What is said of a job that is gone or going.
_OVER = re.compile(
    r"invalid job id|already (completing|completed|finished|ended|terminated)|no such job", re.IGNORECASE
)

_PREFIX = re.compile(
    r"^(sbatch|squeue|scancel|scontrol|sacct): (error: |fatal: )?(Batch job submission failed: )?"
)

_PLAIN_STATES: Mapping[str, JobState] = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.SYSTEM_HELD,
    "REQUEUE_HOLD": JobState.SYSTEM_HELD,
    "SPECIAL_EXIT": JobState.SYSTEM_HELD,
    "RUNNING": JobState.RUNNING,
    # Its processes are being ended: how it ended is said when they are gone.
    "COMPLETING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "POWER_UP_NODE": JobState.QUEUED,
    "SUSPENDED": JobState.SYSTEM_SUSPENDED,
    # By SIGSTOP, which its owner may send.
    "STOPPED": JobState.USER_SUSPENDED,
}

#: How a job ended that did not end by itself, worded for the task's owner.
_KILLED: Mapping[str, str] = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "time limit reached",
    "DEADLINE": "its deadline was reached",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "PREEMPTED": "it was preempted by another job",
    "OUT_OF_MEMORY": "out of memory",
    "REVOKED": "another cluster took it",
    "LAUNCH_FAILED": "the cluster could not start it",
    "RECONFIG_FAIL": "its node could not be reconfigured",
}

#: Why a job waits, if that is nothing worth telling.
_ORDINARY = frozenset(
    {"None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "Cleaning", "Prolog"}
)

_CANCELLED_BY = re.compile(r"CANCELLED by (\d+)")


# -- faults ----------------------------------------------------------------------------------------


def text_of(output: str) -> str:
    """Slurm's own words in one printable line, without the commands' names."""
    lines = [_PREFIX.sub("", line.strip()) for line in output.splitlines() if line.strip()]
    words = "; ".join(dict.fromkeys(lines))
    return "".join(char if char.isprintable() else "?" for char in words)[:LONGEST_TEXT]


def error_of(command: str, status: int, output: str, *, final: bool = False) -> EngineError:
    """The engine's error for a command that failed. `status` is negative for a signal's number.

    What is not known to be final is passing, unless `final` says otherwise: a task is better kept than
    rejected by mistake, but nobody waits for a control that Slurm will not carry out.
    """
    text = text_of(output) or f"{command} ended with status {status}"
    if status >= 0 and (final or _FINAL.search(output)) and not _PASSING.search(text):
        return Refused(text)
    return PassingFault(text)


def is_over(error: EngineError) -> bool:
    """Whether this says of a job that it has ended, or is not known any more."""
    return _OVER.search(str(error)) is not None


def submitted_id(output: str) -> str | None:
    """The job id that ``sbatch --parsable`` printed (``12`` or ``12;cluster``), None if it did not."""
    for line in reversed(output.splitlines()):
        if match := _SUBMITTED.fullmatch(line.strip()):
            return match[1]
    return None


# -- ids -------------------------------------------------------------------------------------------


def ids_of(text: str) -> Iterator[str]:
    """Every job that an id stands for, each as ``12`` or ``12_3``.

    ``12``, ``12_3``; a range of an array, ``12_[4-9%2]`` or ``12_[1,3-9:2]``; and the components of a
    heterogeneous job, ``12+0`` (the job itself) and ``12+1``. Nothing for what is none of these.
    """
    match = _ID.fullmatch(text)
    if match is None:
        return
    job, index, ranges, component = match.groups()
    if ranges is not None:
        yield from (f"{job}_{number}" for number in indices_of(ranges))
    elif index is not None:
        yield f"{job}_{int(index)}"
    elif component is not None and int(component) > 0:
        yield f"{job}+{int(component)}"
    else:
        yield job


def indices_of(text: str) -> Iterator[int]:
    """The indices of an array expression such as ``1,4-9,11-21:5%2``; what was cut off is left out."""
    budget = MOST_INDICES
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10})(?::(\d{1,10}))?)?", part, re.ASCII)
        if match is None:
            continue
        begin, end, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1) or 1
        numbers = range(begin, end + 1, step)[:budget]
        budget -= len(numbers)
        yield from numbers


def base_of(job_id: str) -> str:
    """The id of the array that a member belongs to; other ids are their own."""
    return job_id.partition("_")[0]


# -- squeue ----------------------------------------------------------------------------------------


def all_states(version: str) -> str:
    """squeue's ``--states`` for jobs in every state; `version` is what a command says to ``--version``."""
    match = re.search(r"\b(\d{2})\.(\d{2})\b", version, re.ASCII)
    return _STATES_OF_20_11 if match and (int(match[1]), int(match[2])) < (21, 8) else "all"


def listing_arguments(states: str, user: str, job_id: str | None = None) -> list[str]:
    """squeue's arguments for all jobs of an account, or for one job with what else there is of its array."""
    which = ["--user", user] if job_id is None else ["--jobs", base_of(job_id)]
    return ["--noheader", "--array", f"--states={states}", f"--format={SQUEUE_FORMAT}", *which]


@dataclass(frozen=True, slots=True)
class Listing:
    """What one squeue said: of each job by its id, and of the jobs that each array is known to have."""

    reports: Mapping[str, Report]
    members: Mapping[str, Sequence[Report]]


NOTHING = Listing({}, {})


def listing_of(output: str) -> Listing:
    """What ``squeue --format=SQUEUE_FORMAT`` says."""
    found: dict[str, Report] = {}
    members: dict[str, list[Report]] = {}
    for line in output.splitlines():
        parts = line.strip().split("|", 3)
        if len(parts) != 4:
            continue
        report = report_of(parts[1].strip(), parts[2].strip(), task_of(parts[3]))
        for job_id in ids_of(parts[0].strip()):
            found[job_id] = report
            base, is_member, _ = job_id.partition("_")
            if is_member:
                members.setdefault(base, []).append(report)
    return Listing(found, members)


def task_of(name: str) -> str:
    """The UUID at the end of a job's name; empty for a job that is no task's."""
    match = _UUID.search(name.strip())
    return match[0] if match else ""


def report_of(state: str, reason: str, task: str | None = None) -> Report:
    """The report for a state and a reason as squeue spells them."""
    plain = _PLAIN_STATES.get(state)
    if plain is JobState.QUEUED:
        return _queued(reason, task)
    if plain is not None:
        return Report(plain, task=task)
    if state in _KILLED:
        return Report(JobState.ENDED, killed=True, reason=_KILLED[state], task=task)
    if state == "COMPLETED":
        return Report(JobState.ENDED, exit_status=0, task=task)
    if state == "FAILED":
        # A signal that killed the launcher; the command's own endings the launcher tells itself.
        return Report(JobState.ENDED, reason=_FAILED_FOR.get(reason), task=task)
    return Report(JobState.UNKNOWN, task=task)


_FAILED_FOR = {
    "JobLaunchFailure": "the cluster could not start it, or its launcher was killed",
    "TimeLimit": "time limit reached",
    "OutOfMemory": "out of memory",
    "NodeDown": "its node failed",
}


def _queued(reason: str, task: str | None) -> Report:
    # A row that stands for several members may give several reasons.
    reasons = [part.strip() for part in reason.split(",")]
    if "JobHeldUser" in reasons:
        return Report(JobState.USER_HELD, task=task)
    if "JobHeldAdmin" in reasons or "JobHoldMaxRequeue" in reasons:
        return Report(JobState.SYSTEM_HELD, task=task)
    told = None if reasons[0] in _ORDINARY or not reason else f"waits: {reason}"[:LONGEST_TEXT]
    return Report(JobState.QUEUED, reason=told, task=task)


# -- sacct -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of sacct: a job, or a step of one (``12.batch``)."""

    job_id: str
    step: str
    state: str
    exit_code: str
    elapsed: str
    cpu: str
    rss: str
    name: str


def sacct_reports(output: str, account: Callable[[int], str] = str) -> dict[str, Report]:
    """What ``sacct --parsable2 --noheader --format=SACCT_FORMAT`` says of jobs, by job id.

    `account` names the account of a user number. What lives is reported as such.
    """
    rows = list(_rows(output))
    steps: dict[str, list[_Row]] = {}
    for row in rows:
        if row.step:
            steps.setdefault(row.job_id, []).append(row)
    found: dict[str, Report] = {}
    for row in rows:
        if not row.step:
            for job_id in ids_of(row.job_id):
                found[job_id] = _accounted(row, steps.get(job_id, ()), account)
    return found


def _rows(output: str) -> Iterator[_Row]:
    for line in output.splitlines():
        parts = line.strip().split("|", 6)
        if len(parts) == 7:
            job_id, _, step = parts[0].partition(".")
            yield _Row(job_id, step, *parts[1:])


def _accounted(row: _Row, steps: Iterable[_Row], account: Callable[[int], str]) -> Report:
    words = row.state.split()
    report = report_of(words[0].rstrip("+") if words else "", "", task_of(row.name))
    if report.state is not JobState.ENDED:
        return report
    status, signal = _exit_code(row.exit_code)
    if match := _CANCELLED_BY.match(row.state):
        report = replace(report, reason=f"it was cancelled by {account(int(match[1]))}")
    return replace(
        report,
        exit_status=status if not report.killed else None,
        signal=signal_name(128 + signal) if signal else None,
        usage=_usage(row, steps),
    )


def _exit_code(text: str) -> tuple[int | None, int]:
    """Exit status and signal of sacct's ``3:0`` or ``0:9``."""
    match = re.fullmatch(r"(\d{1,5}):(\d{1,3})", text, re.ASCII)
    if match is None:
        return None, 0
    status, signal = int(match[1]), int(match[2])
    return (None if signal else status), signal


def _usage(row: _Row, steps: Iterable[_Row]) -> Usage | None:
    wall = float(row.elapsed) if row.elapsed.isdecimal() else None
    cpu = seconds_of(row.cpu)
    sizes = [size for step in steps if (size := bytes_of(step.rss)) is not None]
    wall, cpu = wall or None, cpu or None
    if wall is None and cpu is None and not sizes:
        return None  # it never ran, or nothing is measured
    return Usage(cpu_seconds=cpu, wall_seconds=wall, max_rss_bytes=max(sizes, default=None))


def seconds_of(text: str) -> float | None:
    """sacct's ``[DAYS-][HOURS:]MINUTES:SECONDS[.FRACTION]`` in seconds."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text, re.ASCII)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def bytes_of(text: str) -> int | None:
    """sacct's size, such as ``1268K`` or ``1.50M``, in bytes; None for none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", text, re.ASCII)
    if match is None or not float(match[1]):
        return None
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " "))


# -- scontrol --------------------------------------------------------------------------------------


def setting(output: str, name: str) -> str | None:
    """A value of ``scontrol show config``; None if it is not there or empty."""
    match = re.search(rf"^{re.escape(name)}\s*=\s*(\S+)", output, re.MULTILINE | re.IGNORECASE)
    return None if match is None or match[1] in ("(null)", "N/A") else match[1]


def a_controller_is_up(output: str) -> bool:
    """Whether ``scontrol ping`` says that some controller answers."""
    return re.search(r"\bUP\b", output) is not None


def newest(reports: Sequence[tuple[str, Report]]) -> str | None:
    """Of the jobs of one task, the id to go by: one that lives before one that ended, the latest last."""
    live = [job_id for job_id, report in reports if report.state is not JobState.ENDED]
    ids = {base_of(job_id) for job_id in live or [job_id for job_id, _ in reports]}
    return max(ids, key=lambda job_id: int(job_id.partition("+")[0]), default=None)
