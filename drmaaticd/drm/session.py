"""The one DRMAA session of this process: opening, losing and regaining it, and the calls made in it.

Everything here blocks and belongs to one thread (`runner.Runner`): libdrmaa keeps one session a
process and one error buffer. Errors come out as those of `drm.base` and `drm.answers`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from drmaaticd.drm.answers import CutOff, JobInfo, NoSession, error_of
from drmaaticd.drm.base import Action, Array, EngineError, PassingFault
from drmaaticd.drm.dialects import Dialect
from drmaaticd.drm.waker import Waker

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two attempts to regain a lost session: the first, and the longest. Each try may
#: block the thread for seconds (Slurm: 18), and each pause is time in which calls fail at once.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 10.0

#: Seconds for which a question of the waker's, in another thread, is waited for before the session ends.
QUIET_PATIENCE = 2.0

#: The name in the state folder of the file that keeps the session's contact for the next daemon.
CONTACT_FILE = "drmaa.contact"

#: A job id that is asked about to see whether the DRM answers at all; that there is no such job is
#: as good an answer as any.
PROBE_ID = "1"


@dataclass(frozen=True, slots=True)
class Template:
    """DRMAA's job template: everything as bytes, which drmaa-python passes on as they are."""

    command: bytes
    args: tuple[bytes, ...]
    folder: bytes
    name: bytes
    native: bytes
    output: bytes
    """For ``outputPath`` and ``errorPath``: ``[host]:path``."""


class Session:
    """The DRMAA session. `drmaa` is the module drmaa-python."""

    def __init__(self, drmaa: Any, state_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._drmaa = drmaa
        self._session = drmaa.Session()
        self._contact_file = state_dir / CONTACT_FILE
        self._clock = clock
        self._open = False
        self._doubtful = False
        self._next_try = 0.0
        self._template: Any = None
        self._values: dict[str, Any] = {}
        self._pause = FIRST_PAUSE
        self.dialect: Dialect | None = None
        self.waker: Waker | None = None
        """Accompanies the calls that the DRM itself answers, where the library needs that."""
        self.fault: str | None = None
        """Why the DRM could not be reached the last time, None if it could."""

    @property
    def drms_info(self) -> str:
        """What the library says it speaks to (DRMAA's ``drmsInfo``), before a session is open too."""
        return str(self._session.drmsInfo)

    # -- opening and regaining ------------------------------------------------------------------

    def open(self) -> None:
        """Open the session. Raises `PassingFault` if the DRM is away: each later call tries again."""
        self._ready()

    def close(self) -> None:
        """Close the session; its jobs go on, and its contact lets the next one wait for them."""
        if self.waker is not None:
            self.waker.close()
        if self._open:
            self._exit()

    def suspect(self) -> None:
        """The session seems to have gone deaf: before the next call it is opened anew."""
        if self._open and self.dialect is not None and self.dialect.reopen and not self._doubtful:
            log.info("the DRMAA session has gone deaf and is opened anew")
            self._doubtful = True

    def _ready(self) -> None:
        """See to it that a session is open. Raises `PassingFault` at once while it is too early to try."""
        if self._open and not self._doubtful:
            return
        if self._clock() < self._next_try:
            raise PassingFault(self.fault or "the DRM cannot be reached")
        try:
            self._regain()
        except EngineError as error:
            self._lost(error)
            self._next_try = self._clock() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            raise PassingFault(str(error)) from None
        self._doubtful = False
        self._pause = FIRST_PAUSE

    def _regain(self) -> None:
        if self._open:
            if self.dialect is None or not self.dialect.reopen:
                return
            # Closing waits long for a DRM that is away, so it is asked first whether it is back.
            self._open = self._answers()
        if self._open:
            self._exit()
        self._initialize()

    def _answers(self) -> bool:
        """Whether there is still a session to close. Raises if the DRM cannot be reached."""
        try:
            self._ask(self._session.jobStatus, PROBE_ID)
        except NoSession:
            return False
        except PassingFault:
            raise
        except EngineError:
            pass  # it does not know the job, which is an answer
        return True

    def _exit(self) -> None:
        self._open = False
        self._drop_template()
        if self.waker is not None and not self.waker.quiet(QUIET_PATIENCE):
            log.info("the DRMAA session is closed though a question has no answer yet")
        try:
            self._ask(self._session.exit)
        except EngineError as error:
            log.info("closing the DRMAA session: %s", error)

    def _initialize(self) -> None:
        """Open a session, the former one if the library knows how (DRMAA's ``contact``)."""
        contact = self._kept_contact()
        try:
            self._ask(self._session.initialize, contact)
        except CutOff:
            raise
        except EngineError as error:
            if contact is None:
                raise
            log.info("the former DRMAA session %s cannot be taken up: %s", contact, error)
            self._ask(self._session.initialize, None)
        self._open = True
        self.fault = None
        self._keep_contact()

    def _kept_contact(self) -> str | None:
        try:
            text = self._contact_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text or None

    def _keep_contact(self) -> None:
        """Keep the contact for the next daemon; without it that one only cannot wait for old jobs."""
        try:
            contact = self._ask(lambda: str(self._session.contact))
            if contact and contact != self._kept_contact():
                new = self._contact_file.with_suffix(".new")
                new.write_text(f"{contact}\n", encoding="ascii")
                new.replace(self._contact_file)
        except (EngineError, OSError, UnicodeEncodeError) as error:
            log.warning("the DRMAA session's contact was not kept: %s", error)

    def _lost(self, fault: EngineError) -> None:
        text = str(fault)
        if text != self.fault:
            log.info("the DRM does not answer: %s", text)
        self.fault = text

    # -- calls -----------------------------------------------------------------------------------

    def run_job(self, template: Template) -> str:
        """Submit a job (DRMAA's ``runJob``); returns its id."""
        return self._call(self._run, template, None)[0]

    def run_array(self, template: Template, array: Array) -> list[str]:
        """Submit an array (DRMAA's ``runBulkJobs``); returns the ids of its members."""
        return self._call(self._run, template, array)

    def _run(self, template: Template, array: Array | None) -> list[str]:
        try:
            job = self._told(template)
            if array is None:
                return [str(self._session.runJob(job))]
            return list(self._session.runBulkJobs(job, array.begin, array.end, array.step))
        except BaseException:
            self._drop_template()  # nobody knows what it holds
            raise

    def _told(self, template: Template) -> Any:
        """The library's job template with these values. One is kept: only what differs is told anew."""
        values = {
            "remoteCommand": template.command,
            "args": list(template.args),
            "workingDirectory": template.folder,
            "jobName": template.name,
            "nativeSpecification": template.native,
            "outputPath": template.output,
            "errorPath": template.output,
        }
        if self._template is None:
            self._template, self._values = self._session.createJobTemplate(), {}
        for name, value in values.items():
            if self._values.get(name) != value:
                setattr(self._template, name, value)
                self._values[name] = value
        return self._template

    def _drop_template(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            try:
                template.delete()
            except Exception as error:  # noqa: BLE001 - drmaa-python raises whatever it likes
                log.debug("a job template was not deleted: %s", error)

    def status(self, job_id: str) -> str:
        """What the DRM says of a job (DRMAA's ``jobStatus``), by drmaa-python's name."""
        return str(self._call(self._session.jobStatus, job_id))

    def control(self, job_id: str, action: Action) -> None:
        """Carry out an action (DRMAA's ``control``)."""
        self._call(self._session.control, job_id, action.value)

    def wait(self, job_id: str) -> JobInfo:
        """How a job ended (DRMAA's ``wait`` without waiting); the library forgets it thereby.

        Raises `NotEnded`, `NoRecord`, `UnknownJob`, or `PassingFault`. Answered by some libraries
        from memory, so that it says nothing about whether the DRM can be reached.
        """
        self._ready()
        info: JobInfo = self._noting(lambda: self._session.wait(job_id, self._session.TIMEOUT_NO_WAIT))
        return info

    def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Make a call that the DRM itself answers: any answer, even a no, ends a fault."""
        self._ready()
        try:
            with self.waker.watching() if self.waker is not None else contextlib.nullcontext():
                answer = self._noting(function, *args)
        except PassingFault:
            raise
        except EngineError:
            self.fault = None
            raise
        self.fault = None
        return answer

    def _noting(self, function: Callable[..., T], *args: Any) -> T:
        """Make a call, and note a fault of the DRM."""
        try:
            return self._ask(function, *args)
        except PassingFault as fault:
            if isinstance(fault, CutOff):
                self._doubtful = True
                self._next_try = self._clock() + self._pause
            self._lost(fault)
            raise

    def _ask(self, function: Callable[..., T], *args: Any) -> T:
        """Make a call of the library; its exceptions, of many kinds (one a bare one), become the engine's."""
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001 - drmaa-python raises whatever it likes, Exception itself too
            raise error_of(error) from None
