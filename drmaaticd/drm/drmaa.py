"""The engine for clusters: jobs through libdrmaa, whichever DRM is behind it.

One thread (`runner`) owns the one session (`session`); the loop awaits it. Stop and hold come first,
then submissions; a fifth of the time is kept for reaping and the sweep. How a DRM spells things is
in `dialects`, what its answers mean in `answers`, what a task makes of them in the daemon's sync.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from drmaaticd.drm import library as drmaa_library
from drmaaticd.drm.answers import NoRecord, NotEnded, UnknownJob, ending_of, no_record, state_of
from drmaaticd.drm.base import (
    Action,
    EngineError,
    Found,
    Job,
    JobState,
    PassingFault,
    Refused,
    Report,
)
from drmaaticd.drm.dialects import NO_SETTINGS, Dialect
from drmaaticd.drm.runner import Priority, Runner, RunnerClosed
from drmaaticd.drm.session import PROBE_ID, Session, Template
from drmaaticd.drm.waker import Waker
from drmaaticd.errors import ConfigurationError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds after which a call that has not returned counts as a fault of the DRM.
STUCK_AFTER = 10.0

#: Seconds of the thread's time that one slice of a sweep takes, so that submissions wait no longer.
SLICE = 0.02

#: Seconds for which ended jobs may go unnoticed by the DRM before the session is taken for deaf. Each
#: time that a new session changes nothing, the next is opened after twice as long.
DEAF_AFTER = 60.0

#: Endings that are remembered: the library tells each only once, and a sweep may ask again.
ENDINGS_KEPT = 10_000

#: Jobs whose limits, and whose turn in the sweep, are remembered.
JOBS_KEPT = 100_000

#: Ended jobs that the DRM had not noticed when it was asked, to be asked about again.
UNNOTICED_KEPT = 10_000

#: Seconds that closing the session may take: Grid Engine's library waits long for a dead master.
CLOSE_TIMEOUT = 15.0

#: Paths that no DRM misreads: some write them into a shell script, unquoted or in single quotes.
_HARMLESS_PATH = re.compile(r"/[A-Za-z0-9@%+=._/,-]*")

#: What a DRM says of a job that it was to control, but that has ended.
_OVER = re.compile(r"already (completing|completed|finished|ended)|already in deletion", re.IGNORECASE)


#: The states in which a job can be held or suspended; for the other actions the DRM is asked.
_ALLOWED_IN: Mapping[Action, frozenset[JobState]] = MappingProxyType(
    {
        Action.HOLD: frozenset({JobState.QUEUED, JobState.SYSTEM_HELD, JobState.USER_HELD}),
        Action.SUSPEND: frozenset({JobState.RUNNING, JobState.SYSTEM_SUSPENDED, JobState.USER_SUSPENDED}),
    }
)


class DrmaaEngine:
    """Implements `base.Engine`.

    `native` is the site's ``[drm.native]``; `config_file` is named in findings. Raises
    `ConfigurationError` from `start` if the library or its cluster's settings are missing.
    """

    name = "drmaa"
    endings_are_prompt = False
    tells_tasks = False

    def __init__(
        self,
        state_dir: Path,
        *,
        library: str | None = None,
        dialect: str = "auto",
        native: Mapping[str, str] = NO_SETTINGS,
        config_file: Path = Path("drmaaticd.toml"),
        load: Callable[[Path, str | None, Mapping[str, str]], Any] = drmaa_library.load,
        question: Callable[[Any], Callable[[str], None]] = drmaa_library.question,
    ) -> None:
        self._state_dir = state_dir
        self._library = library
        self._configured_dialect = dialect
        self._native = native
        self._config_file = config_file
        self._load = load
        self._question = question
        self._runner = Runner("drmaa")
        self._opened: Session | None = None
        self._dialect: Dialect | None = None
        self.listener: Callable[[str, int | None], None] = lambda task, index: None
        # The rest is the runner's thread's alone.
        self._ended: dict[str, Report] = {}
        self._limits: dict[str, int] = {}
        self._unnoticed: dict[str, None] = {}
        self._unnoticed_since: float | None = None
        self._deaf_after = DEAF_AFTER
        self._turns: dict[str, int] = {}  # the loop's
        self._turn = 0

    # -- opening and closing ----------------------------------------------------------------------

    async def start(self) -> None:
        """Load the library and open the session; a DRM that is away is reported by `fault`."""
        self._runner.start()
        try:
            await self._runner.run(self._open, priority=Priority.CONTROL, name="initialize")
        except PassingFault as fault:
            log.info("the DRM cannot be reached yet: %s", fault)
        except BaseException:
            await self._runner.close(CLOSE_TIMEOUT)
            raise

    def _open(self) -> None:
        module = self._load(self._config_file, self._library, os.environ)
        session = Session(module, self._state_dir)
        info = drmaa_library.told(lambda: session.drms_info, self._config_file)
        dialect, findings = drmaa_library.identify(
            info, self._configured_dialect, self._native, os.environ, self._config_file
        )
        if any(not finding.warning for finding in findings):
            raise ConfigurationError(findings)
        for finding in findings:
            log.warning("%s", finding)
        session.dialect = self._dialect = dialect
        if dialect.oversleeps:
            ask = self._question(module)
            session.waker = Waker(lambda: ask(PROBE_ID))
        self._opened = session
        log.info("DRMAA: %s, spoken to as %s", info, dialect.title)
        session.open()

    async def close(self) -> None:
        """Close the session; jobs go on. A call that is stuck is left behind."""
        if self._opened is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._runner.run(self._session.close, priority=Priority.CONTROL, name="exit")
            except TimeoutError:
                log.info("the DRMAA session is left open: the DRM does not answer")
            except RunnerClosed:
                log.debug("the DRMAA session was closed before")
        await self._runner.close(0.0 if self._runner.busy() else CLOSE_TIMEOUT)

    @property
    def _session(self) -> Session:
        if self._opened is None:
            raise PassingFault("the DRMAA session is not open")
        return self._opened

    @property
    def dialect(self) -> Dialect:
        """The dialect in use. Raises `PassingFault` before `start`."""
        if self._dialect is None:
            raise PassingFault("the DRMAA session is not open")
        return self._dialect

    def fault(self) -> str | None:
        """Why the DRM does not work at present, None while it does."""
        busy = self._runner.busy()
        if busy is not None and busy[1] > STUCK_AFTER:
            return f"the DRM has not answered {busy[0]} for {busy[1]:.0f} s"
        return self._opened.fault if self._opened is not None else "the DRMAA session is not open"

    async def ping(self) -> None:
        """Ask about some job, known or not; a lost session is regained thereby."""
        await self._do(self._ask_anything, priority=Priority.BACKGROUND, name="jobStatus")

    def _ask_anything(self) -> None:
        """In the thread."""
        try:
            self._session.status(PROBE_ID)
        except PassingFault:
            raise
        except EngineError as error:
            log.debug("the DRM answers: %s", error)

    async def _do(self, function: Callable[..., T], *args: Any, priority: Priority, name: str) -> T:
        try:
            return await self._runner.run(function, *args, priority=priority, name=name)
        except RunnerClosed:
            raise PassingFault("the daemon is stopping") from None

    # -- submitting -------------------------------------------------------------------------------

    async def submit(self, job: Job) -> str:
        """Submit a job, or an array, and return its id."""
        template = self._template(job)
        name = "runJob" if job.array is None else "runBulkJobs"
        return await self._do(self._submit, job, template, priority=Priority.SUBMIT, name=name)

    def _template(self, job: Job) -> Template:
        """The job template. Raises `Refused` for what the DRM would misread."""
        for path in (job.run_script, job.folder):
            if not _HARMLESS_PATH.fullmatch(str(path)):
                raise Refused("the path of the task's folder holds characters that a DRM may misread")
        try:
            native = self.dialect.native(job, self._native)
        except ValueError as error:
            raise Refused(str(error)) from None
        return Template(
            command=b"/bin/sh",
            args=(os.fsencode(job.run_script),),
            folder=os.fsencode(job.folder),
            name=self.dialect.job_name(job).encode("ascii"),
            native=native.encode("ascii"),
            # What the launcher says is in the task's own files. A folder that a node cannot see would
            # make Grid Engine park the job for want of a place for its output.
            output=b":/dev/null",
        )

    def _submit(self, job: Job, template: Template) -> str:
        """In the thread."""
        if job.array is None:
            members = [self._session.run_job(template)]
            job_id = members[0]
        else:
            members = self._session.run_array(template, job.array)
            job_id = self.dialect.base_id(members[0])
            if members != [self.dialect.element_id(job_id, index) for index in job.array.indices]:
                job_id = ""
        if not self.dialect.job_id.fullmatch(job_id):
            self._abandon(members)
            raise Refused(f"the DRM gave ids that are not {self.dialect.title}'s: {members[:3]}")
        self._forget(job_id, members)
        if job.max_clock_time is not None:
            _keep(self._limits, job_id, job.max_clock_time, JOBS_KEPT)
        return job_id

    def _abandon(self, members: Sequence[str]) -> None:
        for member in members:
            try:
                self._session.control(member, Action.TERMINATE)
            except EngineError as error:
                log.error("job %r, whose id is not usable, was not terminated: %s", member, error)

    def _forget(self, job_id: str, members: Sequence[str]) -> None:
        """A new job: what was remembered under its id was of another, as DRMs use ids again."""
        self._limits.pop(job_id, None)
        for member in (job_id, *members):
            self._ended.pop(member, None)
            self._unnoticed.pop(member, None)

    def element(self, job_id: str, index: int) -> str:
        """The id of an array's member."""
        return self.dialect.element_id(job_id, index)

    async def find(self, task: str) -> str | Found:
        """DRMAA can only be asked about ids."""
        return Found.CANNOT_TELL

    # -- asking -----------------------------------------------------------------------------------

    async def states(self, job_ids: Sequence[str], budget: float) -> Mapping[str, Report]:
        """What the DRM says of each job, within about `budget` seconds; those asked longest ago first."""
        deadline = time.monotonic() + budget
        turns = self._turns
        line = sorted(job_ids, key=lambda job_id: turns.get(job_id, 0))
        self._turn += 1
        reports: dict[str, Report] = {}
        start = 0
        try:
            while start < len(line) and (start == 0 or time.monotonic() < deadline):
                asked, found = await self._do(
                    self._ask, line[start:], priority=Priority.BACKGROUND, name="jobStatus"
                )
                for job_id in line[start : start + asked]:
                    _keep(turns, job_id, self._turn, JOBS_KEPT)
                start += asked
                reports.update(found)
        except PassingFault:
            if not reports:
                raise
        else:
            await self._ask_again(deadline)
        return reports

    def _ask(self, line: Sequence[str]) -> tuple[int, dict[str, Report]]:
        """In the thread: ask about the first of these, for one slice of time; how many were asked."""
        end = time.monotonic() + SLICE
        found: dict[str, Report] = {}
        for asked, job_id in enumerate(line, 1):
            try:
                report = self._report(job_id)
            except PassingFault:
                if not found:
                    raise
                return asked - 1 or 1, found
            if report is not None:
                found[job_id] = report
            if time.monotonic() >= end:
                return asked, found
        return len(line), found

    def _report(self, job_id: str) -> Report | None:
        """What the DRM says of one job; None if that would only mislead."""
        if job_id in self._ended:
            return self._ended[job_id]
        if not self.dialect.job_id.fullmatch(job_id):
            return Report(JobState.UNKNOWN)
        try:
            status = self._session.status(job_id)
        except UnknownJob:
            return Report(JobState.UNKNOWN)
        except Refused as refusal:
            log.debug("jobStatus %s: %s", job_id, refusal)
            return Report(JobState.UNKNOWN)
        state = state_of(status)
        if state not in (JobState.ENDED, JobState.UNKNOWN):
            return Report(state)
        try:
            return self._reap(job_id)
        except (NotEnded, UnknownJob):
            if state is JobState.UNKNOWN and self._may_wait(job_id):
                return None
            return Report(state)

    def _may_wait(self, job_id: str) -> bool:
        return self.dialect.queued_may_be_undetermined and self.dialect.base_id(job_id) != job_id

    def _reap(self, job_id: str) -> Report:
        """Ask once how a job ended, and remember it. Raises `NotEnded`, `UnknownJob`, `PassingFault`."""
        try:
            info = self._session.wait(job_id)
        except NoRecord:
            report = no_record()
        else:
            limit = self._limits.get(self.dialect.base_id(job_id))
            report = ending_of(info, self.dialect, limit)
        if report.state is JobState.ENDED:
            _keep(self._ended, job_id, report, ENDINGS_KEPT)
            self._unnoticed.pop(job_id, None)
            self._unnoticed_since = None
            self._deaf_after = DEAF_AFTER
        return report

    async def finished(self, job_id: str) -> Report:
        """What the DRM says of a job that has ended: that it lives, while it has not noticed that yet.

        Then it is asked again with the next sweeps, so that the library gets rid of the job.
        """
        return await self._do(self._finish, job_id, priority=Priority.BACKGROUND, name="wait")

    def _finish(self, job_id: str) -> Report:
        """In the thread."""
        if job_id in self._ended:
            return self._ended[job_id]
        if not self.dialect.job_id.fullmatch(job_id):
            return Report(JobState.UNKNOWN)
        try:
            return self._reap(job_id)
        except (NotEnded, UnknownJob):
            # A session that was opened while the DRM was coming up knows no jobs, live ones neither.
            report = self._report(job_id) or Report(JobState.UNKNOWN)
        if report.state is not JobState.ENDED and report.state is not JobState.UNKNOWN:
            self._not_noticed(job_id)
        return report

    def _not_noticed(self, job_id: str) -> None:
        _keep(self._unnoticed, job_id, None, UNNOTICED_KEPT)
        now = time.monotonic()
        if self._unnoticed_since is None:
            self._unnoticed_since = now
        elif now - self._unnoticed_since > self._deaf_after:
            self._unnoticed_since = None
            self._deaf_after *= 2
            self._session.suspect()

    async def _ask_again(self, deadline: float) -> None:
        """Ask once more about ended jobs that the DRM had not noticed: unreaped, they slow the library."""
        waiting: list[str] = await self._do(
            lambda: list(self._unnoticed), priority=Priority.BACKGROUND, name="the unnoticed"
        )
        try:
            for job_id in waiting:
                if time.monotonic() >= deadline:
                    return
                await self.finished(job_id)
        except PassingFault as fault:
            log.debug("ended jobs are asked about later: %s", fault)

    # -- controlling ------------------------------------------------------------------------------

    async def control(self, job_id: str, action: Action, task: str | None = None) -> None:
        """Carry out an action. A job that has ended already is no error."""
        if not self.dialect.job_id.fullmatch(job_id):
            log.info("%s of %r, which is no job id of %s", action, job_id, self.dialect.title)
            return
        urgent = action in (Action.TERMINATE, Action.HOLD)
        priority = Priority.CONTROL if urgent else Priority.SUBMIT
        try:
            await self._do(self._control, job_id, action, priority=priority, name=f"control {action}")
        except UnknownJob:
            log.debug("%s of job %s, which the DRM does not know", action, job_id)

    def _control(self, job_id: str, action: Action) -> None:
        """In the thread."""
        allowed = _ALLOWED_IN.get(action)
        if allowed is not None:
            # Grid Engine takes a hold of a running job, and then calls that job held.
            state = state_of(self._session.status(job_id))
            if state not in allowed and state not in (JobState.ENDED, JobState.UNKNOWN):
                raise Refused(f"a job that is {state} takes no {action}")
        try:
            self._session.control(job_id, action)
        except EngineError as error:
            if not _OVER.search(str(error)):
                raise


def _keep(memory: dict[str, T], key: str, value: T, most: int) -> None:
    """Remember the latest; what was remembered first is forgotten first."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > most:
        del memory[next(iter(memory))]
