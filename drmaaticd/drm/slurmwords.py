"""What a job is called in the words of Slurm's ``sbatch``: the dialect, and what it may not say. Pure.

Options and their meaning: sbatch(1), of releases 20.11 and later.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping, Sequence

from drmaaticd.drm.base import Action, Array, Job, JobState
from drmaaticd.drm.dialects import NO_SETTINGS, Dialect, Resources

#: Texts whose words are remembered: a few for each script.
TEXTS_KEPT = 4096

#: Options that the daemon decides on, or that would take the submission out of its hands, and why.
RESERVED: Mapping[str, str] = {
    "--array": "a script's [array] says which indices there are",
    "--chdir": "a job runs in its task's folder",
    "--clusters": "job ids of other clusters would be mistaken for this one's",
    "--error": "a job's output belongs in its task's folder",
    "--export": "a job's environment is the script's [environment]",
    "--export-file": "a job's environment is the script's [environment]",
    "--get-user-env": "a job's environment is the script's [environment]",
    "--help": "it submits nothing",
    "--input": "a job reads no standard input",
    "--job-name": "a job's name carries its task's UUID",
    "--no-requeue": "a script's rerunnable says so",
    "--output": "a job's output belongs in its task's folder",
    "--parsable": "it is given already",
    "--requeue": "a script's rerunnable says so",
    "--test-only": "it submits nothing",
    "--uid": "[drm] run_as says under which account jobs run",
    "--usage": "it submits nothing",
    "--version": "it submits nothing",
    "--wait": "a submission would last as long as the job",
    "--wrap": "the job is the script's command",
}

#: Their one-letter forms.
_SHORT = {
    "-a": "--array",
    "-D": "--chdir",
    "-M": "--clusters",
    "-e": "--error",
    "-h": "--help",
    "-i": "--input",
    "-J": "--job-name",
    "-o": "--output",
    "-V": "--version",
    "-W": "--wait",
}

#: One-letter options that stand by themselves, so that a further letter is no value of theirs.
_WITHOUT_VALUE = "HIkOQsvhVW"

SBATCH = Dialect(
    name="sbatch",
    title="Slurm",
    drms_info=re.compile(r"(?!)"),  # no libdrmaa speaks it
    job_id=re.compile(r"[1-9]\d{0,9}(_(0|[1-9]\d{0,9}))?"),
    templates={
        "queue": "--partition={queue}",
        "cpus": "--cpus-per-task={cpus}",
        "memory": "--mem={mib}M",
        "max_clock_time": "--time={minutes}",
        "account": "--account={account}",
        "qos": "--qos={qos}",
        "licenses": "--licenses={licenses}",
        "gres": "--gres={gres}",
    },
    # One process on one node, which starts what it likes on its cores.
    fixed="--nodes=1 --ntasks=1",
    rerunnable="--requeue",
    not_rerunnable="--no-requeue",
    element="{job}_{index}",
    longest_name=200,
    words="quoted",
)


_QUEUED = frozenset({JobState.QUEUED, JobState.USER_HELD, JobState.SYSTEM_HELD, JobState.USER_SYSTEM_HELD})
_STARTED = frozenset({JobState.RUNNING, JobState.USER_SUSPENDED, JobState.SYSTEM_SUSPENDED})

#: The states in which an action means something; Slurm itself would hold a job that runs.
_ALLOWED_IN: Mapping[Action, frozenset[JobState]] = {
    Action.HOLD: _QUEUED,
    Action.RELEASE: _QUEUED,
    Action.SUSPEND: _STARTED,
    Action.RESUME: _STARTED,
}


def means_something(action: Action, state: JobState) -> bool:
    """Whether a job that has not ended can be told this."""
    return action not in _ALLOWED_IN or state in _ALLOWED_IN[action]


@functools.lru_cache(TEXTS_KEPT)
def split(text: str) -> tuple[str, ...]:
    """The words of a native specification, as a shell would split it. Raises ValueError.

    Each text is split once, when it is checked as its script is loaded or with the first job.
    """
    return tuple(shlex.split(text))


def words(job: Job, settings: Mapping[str, str] = NO_SETTINGS) -> list[str]:
    """The options that a job's resources make, the administrator's own last.

    `settings` is the site's ``[drm.native]``. Raises ValueError for what `problems` would have named.
    """
    found = problems(job, settings, account=job.account, array=job.array)
    if found:
        raise ValueError("; ".join(found))
    return list(split(SBATCH.native(job, settings)))


def submission(job: Job, settings: Mapping[str, str] = NO_SETTINGS) -> list[str]:
    """All of sbatch's options for a job. Raises ValueError."""
    own = [
        "--parsable",
        f"--job-name={SBATCH.job_name(job)}",
        f"--chdir={job.folder}",
        # What the launcher says is in the task's own files.
        "--output=/dev/null",
        "--error=/dev/null",
        "--input=/dev/null",
        # All of the commands' fixed environment. With NONE, nodes would run the account's login shell.
        "--export=ALL",
    ]
    if job.array is not None:
        own.append(f"--array={job.array.begin}-{job.array.end}:{job.array.step}")
    return own + words(job, settings)


def batch_script(job: Job) -> bytes:
    """What sbatch reads: a script that becomes the launcher, wherever Slurm copied it to."""
    return b"#!/bin/sh\nexec /bin/sh " + shlex.quote(str(job.run_script)).encode("utf-8", "surrogateescape")


def problems(
    resources: Resources,
    settings: Mapping[str, str] = NO_SETTINGS,
    *,
    account: str | None = None,
    array: Array | None = None,
) -> list[str]:
    """What of this cannot be said to Slurm; empty if all can. For `check`, and before each job."""
    found = SBATCH.problems(resources, settings, account=account, array=array)
    texts = {f"native.{name}": text for name, text in settings.items()} | {"native": resources.native}
    return found + [f"{what}: {problem}" for what, text in texts.items() for problem in _text_problems(text)]


def setting_problems(settings: Mapping[str, str]) -> list[str]:
    """What is wrong with a site's ``[drm.native]``."""
    found = SBATCH.setting_problems(settings)
    return found + [
        f"native.{name}: {problem}" for name, text in settings.items() for problem in _text_problems(text)
    ]


def _text_problems(text: str) -> list[str]:
    try:
        parts = split(text)
    except ValueError as error:
        return [f"{text!r} is no list of words: {error}"]
    return list(_word_problems(parts))


def _word_problems(parts: Sequence[str]) -> list[str]:
    found = []
    after_option = False
    for part in parts:
        if part == ":":
            found.append("':' would make several jobs of one")
        elif not part.startswith("-") or part == "-":
            if not after_option:  # sbatch would take it for the script to run
                found.append(f"{part!r} is no option: each begins with '-'")
            after_option = False
            continue
        elif (reserved := _reserved(part)) is not None:
            found.append(f"{part!r} may not be given: {RESERVED[reserved]}")
        after_option = "=" not in part and (part.startswith("--") or len(part) == 2)
    return found


def _reserved(part: str) -> str | None:
    """The reserved option that this word is; getopt takes the beginning of a long one for it, too."""
    if part.startswith("--"):
        name = part.partition("=")[0]
        if name in RESERVED:
            return name
        return next((option for option in RESERVED if len(name) > 3 and option.startswith(name)), None)
    for position, letter in enumerate(part[1:], 1):
        if f"-{letter}" in _SHORT:
            return _SHORT[f"-{letter}"]
        if letter not in _WITHOUT_VALUE or position == len(part):
            return None
    return None
