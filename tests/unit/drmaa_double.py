"""A double of the module drmaa-python, with the traits of Grid Engine's library that were seen.

`DrmaaModule.Session` hands out sessions over one `Drm`, whose jobs and troubles a test arranges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class DrmaaException(Exception):
    """As drmaa-python has it; the others are made from it by name."""


def exception(name: str) -> type[DrmaaException]:
    """drmaa-python's exception of this name."""
    return type(name, (DrmaaException,), {})


@dataclass
class Info:
    """What ``wait`` returns."""

    hasExited: bool = True
    hasSignal: bool = False
    terminatedSignal: str = ""
    wasAborted: bool = False
    exitStatus: int = 0
    resourceUsage: dict[str, str] = field(default_factory=dict)


class Template:
    """A job template; its attributes are whatever is set."""

    deleted = False

    def delete(self) -> None:
        self.deleted = True


@dataclass
class Drm:
    """The library's other side."""

    info: str = "SGE 8.1.9"
    contact: str = "session=host.1.2"
    states: dict[str, str] = field(default_factory=dict)
    endings: dict[str, Info | Exception] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    troubles: dict[str, list[Exception]] = field(default_factory=dict)
    """Call → what its next calls raise."""
    asked: list[str] = field(default_factory=list)
    """The jobs that the waker asked about."""
    down: bool = False
    active: bool = False
    next_id: int = 1
    templates: list[dict[str, Any]] = field(default_factory=list)
    made: list[Template] = field(default_factory=list)

    def called(self, name: str, *args: Any, remote: bool = True) -> None:
        self.calls.append((name, *args))
        if name != "initialize" and not self.active:
            raise exception("NoActiveSessionException")("code 5: No active session")
        if self.down and remote:
            raise exception("DrmCommunicationException")("code 2: unable to send message to qmaster")
        if self.troubles.get(name):
            raise self.troubles[name].pop(0)

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class Session:
    """drmaa-python's session."""

    TIMEOUT_NO_WAIT = 0

    def __init__(self, drm: Drm) -> None:
        self._drm = drm

    @property
    def drmsInfo(self) -> str:
        if self._drm.troubles.get("drmsInfo"):
            raise self._drm.troubles["drmsInfo"].pop(0)
        return self._drm.info

    @property
    def contact(self) -> str:
        return self._drm.contact if self._drm.active else ""

    def initialize(self, contact: str | None = None) -> None:
        self._drm.called("initialize", contact)
        assert not self._drm.active
        self._drm.active = True

    def exit(self) -> None:
        self._drm.called("exit", remote=False)
        self._drm.active = False

    def createJobTemplate(self) -> Template:
        self._drm.made.append(Template())
        return self._drm.made[-1]

    def _submit(self, name: str, template: Template) -> str:
        self._drm.called(name)
        self._drm.templates.append(dict(vars(template)))
        job_id, self._drm.next_id = str(self._drm.next_id), self._drm.next_id + 1
        return job_id

    def runJob(self, template: Template) -> str:
        job_id = self._submit("runJob", template)
        self._drm.states[job_id] = "queued_active"
        return job_id

    def runBulkJobs(self, template: Template, begin: int, end: int, step: int) -> Iterable[str]:
        job_id = self._submit("runBulkJobs", template)
        members = [f"{job_id}.{index}" for index in range(begin, end + 1, step)]
        self._drm.states.update(dict.fromkeys(members, "queued_active"))
        return members

    def jobStatus(self, job_id: str) -> str:
        self._drm.called("jobStatus", job_id)
        if job_id not in self._drm.states:
            raise exception("InvalidJobException")(
                "code 18: The job specified by the 'jobid' does not exist."
            )
        return self._drm.states[job_id]

    def wait(self, job_id: str, timeout: int) -> Info:
        self._drm.called("wait", job_id, remote=False)
        if job_id not in self._drm.states:
            raise exception("InvalidJobException")(
                "code 18: The job specified by the 'jobid' does not exist."
            )
        if job_id not in self._drm.endings:
            raise exception("ExitTimeoutException")("code 23: time-out condition")
        del self._drm.states[job_id]
        ending = self._drm.endings.pop(job_id)
        if isinstance(ending, Exception):
            raise ending
        return ending

    def control(self, job_id: str, operation: str) -> None:
        self._drm.called("control", job_id, operation)
        if job_id not in self._drm.states:
            raise exception("InvalidJobException")("code 18: There are no jobs registered")


class DrmaaModule:
    """Stands for ``import drmaa``."""

    def __init__(self, drm: Drm) -> None:
        self._drm = drm

    def Session(self) -> Session:
        return Session(self._drm)
