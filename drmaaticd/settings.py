"""What the configuration file may say: one frozen model a section, with bounds and descriptions.

Reading the file is `config`'s business; the reference page and the sample file are generated from
these models by `config_docs`.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, ValidationInfo

from drmaaticd.places import AbsolutePath, Address, Networks, Origins, Url
from drmaaticd.provider_settings import ORCID as ORCID
from drmaaticd.provider_settings import ORCID_PATTERN as ORCID_PATTERN
from drmaaticd.provider_settings import Provider as Provider
from drmaaticd.toml_source import KeyPath
from drmaaticd.validation import (
    DrmName,
    Duration,
    Line,
    Model,
    Rate,
    Size,
    matching,
)

#: Placeholders that each key of ``[drm.native]`` may hold; the engine's dialect fills them in.
NATIVE_PLACEHOLDERS: dict[str, tuple[str, ...]] = {
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
#: What begins the key of a caller whom no provider vouches for.
RESERVED_NAMES = {"internal": "service accounts", "address": "anonymous callers"}


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


Account = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", "the name of an account")]


class Server(Model):
    """Where the API is reached, and how much it takes."""

    address: Address = Field(
        default="127.0.0.1",
        description="Address or host name to listen on; `0.0.0.0` or `::` for all of them.",
    )
    port: int = Field(default=8300, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    url: Url | None = Field(
        default=None,
        description="Public base URL, with which links begin; `http://address:port` unless told.",
        examples=["https://jobs.example.org"],
    )
    max_upload: Size = Field(default=2 * 1024**3, ge=1024, description="Largest request, with all its files.")
    max_uploads: int = Field(default=64, ge=1, le=10_000, description="Uploads under way at a time, in all.")
    max_uploads_per_address: int = Field(
        default=8, ge=1, le=10_000, description="Uploads under way at a time from one address."
    )
    max_streams: int = Field(
        default=2000, ge=1, le=100_000, description="Streams of events open at a time, in all."
    )
    max_streams_per_caller: int = Field(
        default=50,
        ge=1,
        le=100_000,
        description="Streams of events open at a time of one user, or of one address without a token.",
    )
    page_size: int = Field(default=10, ge=1, le=1000, description="Entries on a page of a list unless asked.")
    max_page_size: int = Field(default=100, ge=1, le=1000, description="Most entries on a page of a list.")
    trusted_proxies: Networks = Field(
        default=(),
        description="Addresses or networks of reverse proxies whose `X-Forwarded-For` is believed.",
        examples=[["127.0.0.1"]],
    )
    cors_origins: Origins = Field(
        default=(),
        description='Origins whose pages may call the API from a browser; `"*"` for all.',
        examples=[["https://portal.example.org"]],
    )
    metrics_allow: Networks = Field(
        default=(),
        description="Addresses or networks that may read `/metrics` and the reason in `/ready`, "
        "beside administrators.",
        examples=[["127.0.0.1", "10.0.0.0/8"]],
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together."""
        if self.page_size > self.max_page_size:
            yield ("page_size",), f"must be at most max_page_size, which is {self.max_page_size}"
        if self.max_uploads_per_address > self.max_uploads:
            yield (("max_uploads_per_address",), f"must be at most max_uploads, which is {self.max_uploads}")
        if self.max_streams_per_caller > self.max_streams:
            yield (("max_streams_per_caller",), f"must be at most max_streams, which is {self.max_streams}")


class Paths(Model):
    """The folders. A relative path is relative to the configuration file."""

    state_dir: AbsolutePath = Field(
        description="The store and the signing key: on a local disk, readable for the daemon alone.",
    )
    tasks_dir: AbsolutePath = Field(
        description="The tasks' folders: on a cluster, on a file system that all compute nodes share "
        "under the same path.",
    )
    scripts_dir: AbsolutePath = Field(
        description="The script definitions, `*.toml`. Only administrators may write there.",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """No folder inside another: jobs write to the tasks, and may not reach state and scripts."""
        names = ("state_dir", "tasks_dir", "scripts_dir")
        real = {name: Path(os.path.realpath(getattr(self, name))) for name in names}
        for inner in names:
            for outer in names:
                same = real[inner] == real[outer] and names.index(inner) > names.index(outer)
                if inner != outer and (same or real[outer] in real[inner].parents):
                    yield (inner,), f"must not be the folder of {outer} or lie inside it ({real[outer]})"


def _template(value: str, info: ValidationInfo) -> str:
    """Check a native specification's template: only the placeholders of its key."""
    known = NATIVE_PLACEHOLDERS[info.field_name or "always"]
    words = f"the placeholders {', '.join(f'{{{name}}}' for name in known)}" if known else "no placeholders"
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        raise ValueError(f"must be a template with {words}; a brace itself is written twice") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in known or spec or conversion):
            raise ValueError(f"must be a template with {words}, and nothing else in braces")
    return value


Template = Annotated[Line, AfterValidator(_template)]


def _native(what: str, example: str, key: str) -> Any:
    names = ", ".join(f"`{{{name}}}`" for name in NATIVE_PLACEHOLDERS[key])
    allowed = f" Placeholders: {names}." if names else ""
    return Field(
        default=None, description=f"How {what}.{allowed} Unset: as the dialect knows it.", examples=[example]
    )


class Native(Model):
    """How this site's DRM spells what a job asks for; each replaces the dialect's own spelling."""

    queue: Template | None = _native("a queue is asked for", "-q {queue}", "queue")
    cpus: Template | None = _native("cores are asked for", "-pe smp {cpus}", "cpus")
    memory: Template | None = _native("memory is asked for", "-l h_vmem={mib_per_cpu}M", "memory")
    max_clock_time: Template | None = _native("the time limit is told", "-l h_rt={seconds}", "max_clock_time")
    account: Template | None = _native("the account is told", "-A {account}", "account")
    qos: Template | None = _native("a quality of service is asked for", "-q {qos}", "qos")
    licenses: Template | None = _native("licences are asked for", "-l {licenses}", "licenses")
    gres: Template | None = _native("generic resources are asked for", "-l {gres}", "gres")
    always: Template | None = _native("every job's specification begins", "-b y -shell n", "always")


class Drm(Model):
    """The resource manager that runs the jobs, and how it is watched."""

    backend: Literal["local", "drmaa", "slurm"] = Field(
        default="local",
        description="`local`: this machine; `drmaa`: a cluster, by libdrmaa; `slurm`: by Slurm's commands.",
    )
    slots: int = Field(
        default_factory=processors,
        ge=1,
        le=100_000,
        description="`local` only: processors that jobs may use at a time. Unset: all of this machine.",
        examples=[4],
    )
    library: Line | None = Field(
        default=None,
        min_length=1,
        description="`drmaa` only: path of libdrmaa. Unset: `$DRMAA_LIBRARY_PATH`, or the system's.",
        examples=["/usr/lib/slurm-drmaa/lib/libdrmaa.so.1"],
    )
    dialect: Literal["auto", "gridengine", "slurm", "pbs", "lsf", "htcondor"] = Field(
        default="auto",
        description="`drmaa` only: how the DRM spells resources. `auto` goes by what libdrmaa says it is.",
    )
    run_as: Account | None = Field(
        default=None,
        description="`local` and `slurm` only: the account that jobs run under (by sudo). "
        "Unset: the daemon's own, so that every script is trusted with what the daemon can read.",
        examples=["jobs"],
    )
    sync_interval: Duration = Field(
        default=0.25, ge=0.01, le=60, description="How often the endings of jobs are looked for."
    )
    sweep_interval: Duration = Field(
        default=10.0, ge=0.05, le=3600, description="How often the DRM is asked about all live jobs."
    )
    ending_grace: Duration = Field(
        default=90.0,
        ge=0,
        le=86_400,
        description="How long a job that is gone may still leave its ending: NFS may hide a file for 60 s.",
    )
    lost_after: Duration = Field(
        default=3600.0,
        gt=0,
        description="How long a job may be unknown to its DRM until its task has failed.",
    )
    max_live: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Jobs that the DRM is given at a time; further tasks wait.",
    )
    native: Native = Field(default=Native(), description="")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together."""
        if self.lost_after < self.ending_grace:
            yield ("lost_after",), "must be at least as long as ending_grace"
        if self.run_as is not None and self.backend == "drmaa":
            yield (
                ("run_as",),
                'must be left out with backend "drmaa": libdrmaa submits as the daemon\'s own account',
            )
        if self.library is not None and self.backend != "drmaa":
            yield ("library",), f'must be left out with backend "{self.backend}": it is for "drmaa"'


class Auth(Model):
    """Who may call."""

    anonymous: bool = Field(default=True, description="Whether callers without a token may use the API.")
    token_lifetime: Duration = Field(
        default=5 * 86_400.0,
        ge=60,
        le=366 * 86_400,
        description="How long the daemon's own tokens are valid.",
    )
    token_rate: Rate = Field(
        default=0.5,
        gt=0,
        description="Exchanges of a provider's token, tried from one address, on the average.",
    )
    max_link_lifetime: Duration = Field(
        default=7 * 86_400.0,
        ge=60,
        le=366 * 86_400,
        description="How long a read-only link to a task may be valid.",
    )
    providers: Annotated[tuple[Provider, ...], Strict(False)] = Field(
        default=(ORCID,), max_length=20, description=""
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Names are part of a user's key, so they must differ."""
        seen: dict[str, int] = {}
        for index, provider in enumerate(self.providers):
            if provider.name.lower() in RESERVED_NAMES:
                yield (
                    ("providers", index, "name"),
                    f"must be another: {provider.name} is for {RESERVED_NAMES[provider.name.lower()]}",
                )
        for index, provider in enumerate(self.providers):
            first = seen.setdefault(provider.name.lower(), index)
            if first != index:
                yield (
                    ("providers", index, "name"),
                    f"is the name of providers[{first}] already (got {provider.name!r})",
                )


class Group(Model):
    """What the members of one group may."""

    admin: bool = Field(default=False, description="Whether its members are administrators.")
    rate: Rate = Field(
        default=30.0,
        gt=0,
        description="Requests of one caller, on the average; those of 2 seconds, or 10, may come at once. "
        "The anonymous are told apart by address.",
    )
    cpu_credit_max: int = Field(default=200, ge=0, le=10**9, description="Most CPU credit of one caller.")
    cpu_credit_regen: Rate = Field(default=1 / 30, ge=0, description="How fast CPU credit comes back.")
    token_lifetime: Duration | None = Field(
        default=None,
        ge=60,
        le=366 * 86_400,
        description="How long its members' tokens are valid. Unset: as `[auth]` says.",
        examples=["1 day"],
    )
    queue: DrmName | None = Field(
        default=None,
        description="Queue of its members' jobs, where the script names none.",
        examples=["guests.q"],
    )
    account: DrmName | None = Field(
        default=None,
        description="Account (project) that the DRM charges its members' jobs to.",
        examples=["web"],
    )
    max_live: int | None = Field(
        default=None,
        ge=1,
        description="Most live tasks of one caller. Unset: no bound of its own.",
        examples=[50],
    )
    max_disk: Size | None = Field(
        default=None,
        ge=1024,
        description="Most bytes in one caller's task folders. Unset: no bound.",
        examples=["20 GiB"],
    )


def default_groups() -> dict[str, Group]:
    """The groups that are always there."""
    return {"anonymous": Group(), "registered": Group()}


class Retention(Model):
    """How long tasks are kept."""

    finished: Duration = Field(
        default=90 * 86_400.0, ge=60, description="How long an ended task, with its files, is kept."
    )
    remove_files_on_delete: bool = Field(
        default=True,
        description="Whether a task's files go at once when it is deleted; else when it would have expired.",
    )


class Compat(Model):
    """Habits of the old service."""

    ignore_unknown: bool = Field(
        default=False,
        description="Whether fields that a script does not know are ignored instead of refused.",
    )


#: Sections of the file in the order of the reference page; ``groups`` holds one table a group.
SECTIONS: dict[str, type[Model]] = {
    "server": Server,
    "paths": Paths,
    "drm": Drm,
    "auth": Auth,
    "groups": Group,
    "retention": Retention,
    "compat": Compat,
}
