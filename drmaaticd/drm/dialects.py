"""How each DRM spells queue, cores, memory, time and account: DRMAA's native specification. Pure.

A dialect is a row of a table: templates with named places, which a site may replace in
``[drm.native]``. Which of them were run on the real thing, docs/clusters.md says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from string import Formatter
from types import MappingProxyType
from typing import Protocol

from drmaaticd.drm.base import Array, Job

MIB = 1024 * 1024
KIB = 1024
GIB = 1024 * MIB

#: What a native specification may hold: printable ASCII (others fail in a C locale), no line ends.
_PRINTABLE = re.compile(r"[ -~]*")
_LINES = re.compile(r"[ -~\n]*")

#: Values that stand for themselves in every dialect, without quotes.
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9@._/:+*|&!,-]+")

_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9._-]")

#: The keys of ``[drm.native]``: templates of a dialect that a site may replace.
REPLACEABLE = (
    *("queue", "cpus", "memory", "max_clock_time", "account", "qos", "licenses", "gres", "always"),
)

#: What a DRM is told by name as it is; a script's, but for ``account``, which is the group's.
_NAMED = ("queue", "account", "qos", "licenses", "gres")

#: The places that the templates for a resource may use. ``mib_per_cpu`` is rounded up, as all sizes are.
PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "queue": ("queue",),
        "cpus": ("cpus",),
        "memory": ("bytes", "kib", "mib", "gib", "mib_per_cpu"),
        "max_clock_time": ("seconds", "minutes", "hh_mm", "hh_mm_ss"),
        "account": ("account",),
        "qos": ("qos",),
        "licenses": ("licenses",),
        "gres": ("gres",),
        "always": (),
    }
)

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class Resources(Protocol):
    """What a script asks of the cluster: `scripts.Resources`, or a `base.Job`."""

    @property
    def queue(self) -> str | None:
        """The queue's name."""

    @property
    def cpus(self) -> int:
        """Cores."""

    @property
    def memory(self) -> int | None:
        """Bytes for the whole job."""

    @property
    def max_clock_time(self) -> int | None:
        """Seconds of wall-clock time."""

    @property
    def qos(self) -> str | None:
        """The quality of service's name."""

    @property
    def licenses(self) -> str | None:
        """Licences with their numbers, in the DRM's own form (Slurm: ``matlab:2,ansys``)."""

    @property
    def gres(self) -> str | None:
        """Generic resources, such as GPUs, in the DRM's own form (Slurm: ``gpu:a100:2``)."""

    @property
    def native(self) -> str:
        """The administrator's own words."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One DRM's spelling. Templates are ``str.format`` texts; an empty one says nothing to the DRM."""

    name: str
    title: str
    drms_info: re.Pattern[str]
    """What DRMAA's ``drmsInfo`` looks like there."""
    job_id: re.Pattern[str]
    """The ids that may be given to the library: some end the process on any other."""
    templates: Mapping[str, str]
    """By the key of ``[drm.native]``; ``cpus_memory`` where one text must ask for both."""
    fixed: str = ""
    """What every job needs, whatever the site says."""
    rerunnable: str = ""
    not_rerunnable: str = ""
    element: str = ""
    """The id of an array's member, of ``{job}`` and ``{index}``; empty where there are no arrays."""
    separator: str = " "
    longest_name: int = 100
    """Characters of a job's name."""
    words: str = "words"
    """How the library reads the text: ``words`` (quotes not understood), ``quoted``, or ``lines``."""
    reports_max_rss: bool = False
    forgotten_status: int | None = None
    """The exit status that the library invents for a job that it does not know."""
    reopen: bool = False
    """Whether the library's session is dead after a communication fault, and must be opened anew."""
    oversleeps: bool = False
    """Whether the library's calls may sleep over answers that have come; see `waker`."""
    queued_may_be_undetermined: bool = False
    """Whether members of an array that wait may read ``undetermined``."""

    def native(self, job: Job, settings: Mapping[str, str] = NO_SETTINGS) -> str:
        """The native specification of a job. `settings` is the site's ``[drm.native]``.

        Raises ValueError for what `problems` would have named.
        """
        problems = self.problems(job, settings, account=job.account, array=job.array)
        if problems:
            raise ValueError("; ".join(problems))
        values = _values(job, job.account)
        chosen = ["always", *self._chosen(job, settings, job.account)]
        parts = [self.fixed, *(self._template(name, settings).format_map(values) for name in chosen)]
        parts += [self.rerunnable if job.rerunnable else self.not_rerunnable, job.native]
        return self.separator.join(part.strip() for part in parts if part.strip())

    def job_name(self, job: Job) -> str:
        """The job's name as this DRM takes it: a letter first, ASCII, not too long.

        One that must be cut keeps the beginning of the task's UUID at its end.
        """
        name = _UNSAFE_IN_NAME.sub("_", job.name)
        if not name[:1].isalpha():
            name = f"t{name}"
        if len(name) <= self.longest_name:
            return name
        tail = f"-{_UNSAFE_IN_NAME.sub('_', job.task)[:8]}"
        return name[: self.longest_name - len(tail)] + tail

    def element_id(self, job_id: str, index: int) -> str:
        """The id of an array's member."""
        return self.element.format(job=job_id, index=index)

    def base_id(self, element: str) -> str:
        """The id of the array that this member belongs to (Grid Engine ``12.1``, LSF ``12[1]``)."""
        found = re.match(r"\d+", element)
        return found[0] if found and self.element else element

    def problems(
        self,
        resources: Resources,
        settings: Mapping[str, str] = NO_SETTINGS,
        *,
        account: str | None = None,
        array: Array | None = None,
    ) -> list[str]:
        """What of this cannot be said to the DRM; empty if all can. For `check`, and before each job."""
        found = self.setting_problems(settings)
        if found:
            return found
        for name, value in _named(resources, account).items():
            if value and not self._template(name, settings):
                found.append(f"{name}: {self.title} has none; leave it out, or give native.{name}")
            elif value and not _PLAIN_VALUE.fullmatch(value):
                found.append(f"{name}: {value!r} holds characters that {self.title} would misread")
        for name in self._chosen(resources, settings, account):
            if name not in _NAMED and not self._template(name, settings):
                found.append(f"{name}: {self.title} cannot be told it through DRMAA; see native.{name}")
        if array is not None and not self.element:
            found.append(f"array: {self.title}'s DRMAA library makes unrelated jobs of it")
        elif array is not None and self.queued_may_be_undetermined and len(array.indices) == 1:
            found.append(f"array: with one index, {self.title} cannot tell how its job is; make it no array")
        return found + self._text_problems("native", resources.native)

    def setting_problems(self, settings: Mapping[str, str]) -> list[str]:
        """What is wrong with a site's ``[drm.native]`` for this dialect."""
        found = []
        for name, template in settings.items():
            if name not in PLACES:
                found.append(f"native.{name}: unknown; there are {', '.join(REPLACEABLE)}")
                continue
            places = PLACES["memory"] + PLACES["cpus"] if name == "memory" else PLACES[name]
            try:
                used = [place for _, place, _, _ in Formatter().parse(template) if place is not None]
            except ValueError as error:
                found.append(f"native.{name}: {error}")
                continue
            found += [
                f"native.{name}: no place {{{place}}}; there are {', '.join(places) or 'none'}"
                for place in used
                if place not in places
            ]
            found += self._text_problems(f"native.{name}", template)
        return found

    # -- the parts ------------------------------------------------------------------------------

    def _template(self, name: str, settings: Mapping[str, str]) -> str:
        return settings.get(name, self.templates.get(name, ""))

    def _chosen(self, resources: Resources, settings: Mapping[str, str], account: str | None) -> list[str]:
        """The templates that these resources call for."""
        chosen = ["queue"] if resources.queue else []
        memory, cpus = resources.memory is not None, resources.cpus > 1
        replaced = "cpus" in settings or "memory" in settings
        if memory and cpus and "cpus_memory" in self.templates and not replaced:
            chosen.append("cpus_memory")
        else:
            chosen += ["cpus"] if cpus else []
            chosen += ["memory"] if memory else []
        chosen += ["max_clock_time"] if resources.max_clock_time is not None else []
        named = _named(resources, account).items()
        return chosen + [name for name, value in named if value and name != "queue"]

    def _text_problems(self, what: str, text: str) -> list[str]:
        """What of a text the library would misread."""
        if not (_LINES if self.separator == "\n" else _PRINTABLE).fullmatch(text):
            return [f"{what}: {text!r} holds characters other than printable ASCII"]
        found = []
        if self.words == "words" and re.search(r"[\"'\\]", text):
            found.append(f"{what}: {self.title}'s DRMAA library knows no quotes: values hold no blanks")
        if self.name == "slurm":
            found += [f"{what}: {problem}" for problem in _slurm_problems(text)]
        return found


def _named(resources: Resources, account: str | None) -> dict[str, str | None]:
    """The values that the DRM is told as they are."""
    return {name: account if name == "account" else getattr(resources, name) for name in _NAMED}


def _values(resources: Resources, account: str | None) -> dict[str, str | int]:
    """The values of all places that have one."""
    values: dict[str, str | int] = {name: value or "" for name, value in _named(resources, account).items()}
    values["cpus"] = resources.cpus
    if resources.memory is not None:
        size = resources.memory
        values |= {"bytes": size, "kib": -(-size // KIB), "mib": -(-size // MIB), "gib": -(-size // GIB)}
        values["mib_per_cpu"] = -(-size // (MIB * resources.cpus))
    if resources.max_clock_time is not None:
        seconds = resources.max_clock_time
        minutes = -(-seconds // 60)
        values |= {"seconds": seconds, "minutes": minutes}
        values["hh_mm"] = f"{minutes // 60:02}:{minutes % 60:02}"
        values["hh_mm_ss"] = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return values


def _slurm_problems(text: str) -> list[str]:
    """What slurm-drmaa, which reads a subset of sbatch's options, would cut or misread."""
    found = []
    words = text.split()
    for option, value in pairwise([*words, ""]):
        if option.startswith("--") and option.count("=") > 1:
            found.append(f"{option!r}: slurm-drmaa cuts a value at a second '='")
        if option == "-t" or option.startswith(("--time=", "--time_limit=")):
            time = value if option == "-t" else option.partition("=")[2]
            if not re.fullmatch(r"(\d+:\d\d)|\{hh_mm\}", time):
                found.append(f"{time!r}: slurm-drmaa reads a time as HOURS:MINUTES only")
        if option.startswith(("--mem=", "--mem-per-cpu=")):
            size = option.partition("=")[2]
            if not re.fullmatch(r"\d+|\{mib(_per_cpu)?\}", size):
                found.append(f"{size!r}: slurm-drmaa reads memory as whole MB without a unit")
    return found


GRID_ENGINE = Dialect(
    name="gridengine",
    title="Grid Engine",
    # "SGE 8.1.9"; but " 8.1.9" in any thread of a process other than the first that asked.
    drms_info=re.compile(r"\b(SGE|OGS|GE|UGE|AGE|OGE|OCS|Grid Engine|Univa|Altair)\b|^ \d", re.IGNORECASE),
    job_id=re.compile(r"[1-9]\d*(\.[1-9]\d*)?"),
    templates={
        "queue": "-q {queue}",
        "cpus": "-pe smp {cpus}",
        "memory": "-l h_vmem={mib_per_cpu}M",  # h_vmem and its like count for each slot
        "max_clock_time": "-l h_rt={seconds}",
        "account": "-A {account}",
    },
    rerunnable="-r y",
    not_rerunnable="-r n",
    # -b y -shell n: the command is run as it is, not copied and not through the queue's shell.
    fixed="-b y -shell n",
    element="{job}.{index}",
    words="quoted",
    reports_max_rss=True,
    reopen=True,
    oversleeps=True,
)

SLURM = Dialect(
    name="slurm",
    title="Slurm",
    drms_info=re.compile(r"slurm", re.IGNORECASE),
    job_id=re.compile(r"[1-9]\d*(_[1-9]\d*)?"),
    templates={
        "queue": "-p {queue}",
        "cpus": "-c {cpus}",
        "memory": "--mem={mib}",
        "max_clock_time": "-t {hh_mm}",
        "account": "-A {account}",
        "qos": "--qos={qos}",
        "licenses": "--licenses={licenses}",
        "gres": "--gres={gres}",
    },
    rerunnable="--requeue",
    not_rerunnable="--no-requeue",
    element="{job}_{index}",
    forgotten_status=255,
    queued_may_be_undetermined=True,
)

_PBS_ID = re.compile(r"[1-9]\d*(\[\d*\])?(\.[A-Za-z0-9][A-Za-z0-9.-]*)?")

PBS = Dialect(
    name="pbs",
    title="PBS Professional",
    drms_info=re.compile(r"\bPBS|OpenPBS", re.IGNORECASE),
    job_id=_PBS_ID,
    templates={
        "queue": "-q {queue}",
        "cpus": "-l ncpus={cpus}",
        "memory": "-l mem={mib}mb",
        "max_clock_time": "-l walltime={hh_mm_ss}",
        "account": "-A {account}",
    },
    rerunnable="-r y",
    not_rerunnable="-r n",
    longest_name=15,
)

TORQUE = Dialect(
    name="torque",
    title="Torque",
    drms_info=re.compile(r"torque", re.IGNORECASE),
    job_id=_PBS_ID,
    templates={**PBS.templates, "cpus": "-l nodes=1:ppn={cpus}"},
    rerunnable=PBS.rerunnable,
    not_rerunnable=PBS.not_rerunnable,
    longest_name=15,
)

LSF = Dialect(
    name="lsf",
    title="LSF",
    drms_info=re.compile(r"\bLSF\b", re.IGNORECASE),
    job_id=re.compile(r"[1-9]\d*(\[[1-9]\d*\])?"),
    templates={
        "queue": "-q {queue}",
        "cpus": '-n {cpus} -R "span[hosts=1]"',
        "memory": '-M {kib} -R "rusage[mem={mib}]"',
        # A second -R replaces the first, so both must be in one.
        "cpus_memory": '-n {cpus} -M {kib} -R "span[hosts=1] rusage[mem={mib}]"',
        "max_clock_time": "-W {hh_mm}",
        "account": "-P {account}",
    },
    rerunnable="-r",
    not_rerunnable="-rn",
    element="{job}[{index}]",
    words="quoted",
)

HTCONDOR = Dialect(
    name="htcondor",
    title="HTCondor",
    drms_info=re.compile(r"condor", re.IGNORECASE),
    job_id=re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]*\.\d+\.\d+"),
    templates={
        "queue": "",
        "cpus": "request_cpus={cpus}",
        "memory": "request_memory={mib}",
        "max_clock_time": "periodic_remove=(JobStatus == 2) && (time() - EnteredCurrentStatus > {seconds})",
        "account": "accounting_group={account}",
    },
    separator="\n",
    words="lines",
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (GRID_ENGINE, SLURM, TORQUE, PBS, LSF, HTCONDOR)}
)
"""By the name that the configuration gives, in the order in which `detect` tries them."""


def detect(drms_info: str) -> Dialect | None:
    """The dialect for what DRMAA's ``drmsInfo`` says; None for a DRM that is none of these."""
    return next((dialect for dialect in DIALECTS.values() if dialect.drms_info.search(drms_info)), None)


def resolve(configured: str, drms_info: str) -> Dialect | None:
    """The dialect for the configuration's ``dialect`` and what DRMAA's ``drmsInfo`` says.

    ``pbs`` stands for both of its kin: the library says which one it speaks to.
    """
    seen = detect(drms_info)
    if configured == "auto" or (configured == PBS.name and seen is TORQUE):
        return seen
    return DIALECTS.get(configured)
