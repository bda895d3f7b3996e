"""The engine for Slurm, by its own commands: ``sbatch``, ``squeue``, ``scancel``, ``scontrol``, ``sacct``.

How they are run is in `slurmcommands`, how a job is put into their words in `slurmwords`, what their
answers mean in `slurmanswers`. All live jobs are asked about with one ``squeue``, whatever their
number. Every answer about a job names the task in the job's name: Slurm may give an id to another job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drmaaticd.drm import slurmanswers as answers
from drmaaticd.drm import slurmwords
from drmaaticd.drm.base import (
    Action,
    Array,
    EngineError,
    Found,
    Job,
    JobState,
    PassingFault,
    Refused,
    Report,
)
from drmaaticd.drm.dialects import NO_SETTINGS
from drmaaticd.drm.slurmaccounting import Accounting, keep, settle
from drmaaticd.drm.slurmanswers import Listing
from drmaaticd.drm.slurmcommands import ALL_INDICES, Commands, Kind, Output
from drmaaticd.errors import ConfigurationError, Finding

log = logging.getLogger(__name__)

#: Endings that are remembered: Slurm forgets them (MinJobAge), and sync asks again.
ENDINGS_KEPT = 10_000

#: Arrays whose indices are remembered.
ARRAYS_KEPT = 10_000

#: Tasks that may have been submitted though the answer was lost.
DOUBTS_KEPT = 100_000

#: Seconds in which questions about ended jobs are gathered, for one command to answer them all.
GATHERING = 0.5

#: How often a job is told to stop until Slurm shows it as stopped, and the seconds between.
STOPS, STOP_PAUSE = 10, 0.2

#: Seconds after which a node has resumed a job (0.2 were too few, 1 was enough), and the least since its
#: suspension, with which the nodes of 26.05 are busy for 2.
RESUMING, SUSPENDING = 1.5, 3.0

#: Characters of squeue's answer from which on it is read in a thread, not on the loop.
PARSED_ON_THE_LOOP = 100_000


class SlurmEngine:
    """Implements `base.Engine`.

    `native` is the site's ``[drm.native]``; `config_file` is named in findings. Raises
    `ConfigurationError` from `start` if the commands are missing.
    """

    name = "slurm"
    endings_are_prompt = False
    tells_tasks = True

    def __init__(
        self,
        *,
        native: Mapping[str, str] = NO_SETTINGS,
        config_file: Path = Path("drmaaticd.toml"),
        commands: Commands | None = None,
    ) -> None:
        self._native = native
        self._config_file = config_file
        self._commands = Commands() if commands is None else commands
        self._fault: str | None = "Slurm has not been asked yet"
        self._accounting = Accounting(self._commands)
        self._states = answers.all_states("")
        self._probe: asyncio.Task[None] | None = None
        self._doubtful: dict[str, None] = {}
        self._arrays: dict[str, Array] = {}
        self._suspended: dict[str, float] = {}  # and when, by the loop's clock
        self._ended: dict[str, Report] = {}
        self._asked: dict[str, asyncio.Future[Report]] = {}
        self._gathering: asyncio.Task[None] | None = None
        self.listener: Callable[[str, int | None], None] = lambda task, index: None

    # -- opening and closing ----------------------------------------------------------------------

    async def start(self) -> None:
        """Find the commands and ask the controller who it is; one that is away is reported by `fault`."""
        problems = slurmwords.setting_problems(self._native)
        if problems:
            raise ConfigurationError([Finding(self._config_file, text, "drm.native") for text in problems])
        self._commands.find(self._config_file)
        try:
            version = await self._commands.run(Kind.QUESTION, "scontrol", ["--version"])
            self._states = answers.all_states(version.out)
            await self._ready()
            await self._learn()
        except EngineError as error:
            log.info("Slurm cannot be reached yet: %s", error)

    async def close(self) -> None:
        """Make no more calls; jobs go on."""
        for task in (self._gathering, self._probe):
            if task is not None:
                task.cancel()
        for future in self._asked.values():
            future.cancel()
        await self._commands.close()

    def fault(self) -> str | None:
        """Why Slurm's last answer was none, None if it was one."""
        return self._fault

    async def _learn(self) -> None:
        """Ask whether there is accounting, once."""
        if self._accounting.running is None:
            config = await self._say(Kind.QUESTION, "scontrol", ["show", "config"])
            self._accounting.learn(config.out)

    # -- calls -----------------------------------------------------------------------------------

    async def _ready(self) -> None:
        """While Slurm is known to be away, ask briefly whether it is back. Raises `PassingFault`.

        The other commands wait long for a controller that is away; all calls share one such question.
        """
        if self._fault is None:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self.ping())
            self._probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._probe)

    async def ping(self) -> None:
        """Ask the controller whether it is up."""
        output = await self._noting(Kind.QUESTION, "scontrol", ["ping"])
        if not answers.a_controller_is_up(output.out):
            self._fault = answers.text_of(output.out + output.err) or "the controller does not answer"
            raise PassingFault(self._fault)
        self._fault = None

    async def _noting(
        self,
        kind: Kind,
        name: str,
        arguments: Sequence[str],
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
    ) -> Output:
        try:
            return await self._commands.run(kind, name, arguments, stdin=stdin, variables=variables)
        except PassingFault as fault:
            self._fault = str(fault)
            raise

    async def _say(
        self,
        kind: Kind,
        name: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        variables: Mapping[str, str] | None = None,
        final: bool = False,
    ) -> Output:
        """Run a command that the controller answers; any answer, even a no, ends a fault.

        Raises `PassingFault` or `Refused`.
        """
        await self._ready()
        output = await self._noting(kind, name, arguments, stdin, variables)
        if output.status == 0:
            self._fault = None
            return output
        error = answers.error_of(name, output.status, output.err or output.out, final=final)
        passing = isinstance(error, PassingFault)
        if passing and str(error) != self._fault:
            log.info("Slurm does not do what it is asked: %s", error)
        self._fault = str(error) if passing else None
        raise error

    # -- submitting -------------------------------------------------------------------------------

    async def submit(self, job: Job) -> str:
        """Submit a job, or an array, and return its id."""
        try:
            options = slurmwords.submission(job, self._native)
        except ValueError as error:
            raise Refused(str(error)) from None
        if job.task in self._doubtful:
            # The answer of an earlier try was lost: perhaps the job was not.
            found = await self._look_for(job.task)
            if found is not None:
                return self._submitted(job, found)
        try:
            output = await self._say(Kind.SUBMIT, "sbatch", options, stdin=slurmwords.batch_script(job))
            job_id = answers.submitted_id(output.out)
            if job_id is None:
                raise PassingFault(f"sbatch named no job: {answers.text_of(output.out + output.err)}")
        except PassingFault:
            keep(self._doubtful, job.task, None, DOUBTS_KEPT)
            raise
        return self._submitted(job, job_id)

    def _submitted(self, job: Job, job_id: str) -> str:
        """Forget what was remembered under this id: it was of another job."""
        self._doubtful.pop(job.task, None)
        self._arrays.pop(job_id, None)
        if self._ended:
            for known in [known for known in self._ended if answers.base_of(known) == job_id]:
                del self._ended[known]
        if job.array is not None:
            keep(self._arrays, job_id, job.array, ARRAYS_KEPT)
        return job_id

    def element(self, job_id: str, index: int) -> str:
        """The id of an array's member."""
        return slurmwords.SBATCH.element_id(job_id, index)

    async def find(self, task: str) -> str | Found:
        """The id of a task's job among all that Slurm still knows, live ones first."""
        try:
            return await self._look_for(task) or Found.NONE
        except EngineError as error:
            log.info("Slurm cannot say whether there is a job of task %s: %s", task, error)
            return Found.CANNOT_TELL

    async def _look_for(self, task: str) -> str | None:
        listed = await self._list()
        return answers.newest([item for item in listed.reports.items() if item[1].task == task])

    # -- asking -----------------------------------------------------------------------------------

    async def states(self, job_ids: Sequence[str], budget: float) -> Mapping[str, Report]:
        """What Slurm says of each job: by one command, and one more for those it has forgotten.

        `budget` is not needed: the commands have their own time-outs.
        """
        asked = [job_id for job_id in job_ids if slurmwords.SBATCH.job_id.fullmatch(job_id)]
        found = {job_id: Report(JobState.UNKNOWN) for job_id in job_ids}
        if asked:
            await self._learn()
            listed = await self._list(asked[0] if len(asked) == 1 else None)
            for job_id in asked:
                del found[job_id]
                report = self._in_list(job_id, listed)
                if report is not None:
                    found[job_id] = self._remembered(job_id, report)
            found |= await self._forgotten([job_id for job_id in asked if job_id not in found])
            killed = [job_id for job_id in asked if job_id in found and found[job_id].killed]
            found |= await self._detailed({job_id: found[job_id] for job_id in killed})
        return found

    async def _list(self, job_id: str | None = None) -> Listing:
        """Every job of this account that the controller knows, or one job (or array) alone."""
        arguments = answers.listing_arguments(self._states, self._commands.user, job_id)
        try:
            output = await self._say(Kind.QUESTION, "squeue", arguments, variables=ALL_INDICES)
        except EngineError as error:
            if not answers.is_over(error):
                raise
            self._fault = None
            return answers.NOTHING
        if len(output.out) < PARSED_ON_THE_LOOP:
            return answers.listing_of(output.out)
        return await asyncio.to_thread(answers.listing_of, output.out)

    def _in_list(self, job_id: str, listed: Listing) -> Report | None:
        """What a listing says of a job; None if it says nothing.

        A member of an array that was cancelled while it waited vanishes at once: it is missing in an
        array that the controller still knows.
        """
        report = listed.reports.get(job_id)
        kept = self._ended.get(job_id)
        if report is not None and kept is not None and report.state is JobState.ENDED:
            return kept if kept.task == report.task else report  # it may say more
        if report is not None:
            own = report.state is JobState.SYSTEM_SUSPENDED and job_id in self._suspended
            return Report(JobState.USER_SUSPENDED, task=report.task) if own else report
        base, _, index = job_id.partition("_")
        others = listed.members.get(base, ())
        if not others or job_id in self._ended or not self._may_be_missing(base, index):
            return None
        if not index:  # an array as a whole
            live = [report for report in others if report.state is not JobState.ENDED]
            return (live or others)[0]
        return Report(JobState.ENDED, killed=True, reason="it was cancelled", task=others[0].task)

    def _may_be_missing(self, base: str, index: str) -> bool:
        array = self._arrays.get(base)
        return not index or array is None or int(index) in array.indices

    def _remembered(self, job_id: str, report: Report) -> Report:
        if report.state is JobState.ENDED:
            keep(self._ended, job_id, report, ENDINGS_KEPT)
            self._suspended.pop(job_id, None)
        return report

    async def _forgotten(self, job_ids: Sequence[str]) -> dict[str, Report]:
        """What is known of jobs that the controller has forgotten: by this engine, or by accounting."""
        found = {job_id: self._ended[job_id] for job_id in job_ids if job_id in self._ended}
        rest = [job_id for job_id in job_ids if job_id not in found]
        if not rest:
            return found
        accounted = await self._accounted(rest)
        if accounted is None:
            return found  # unasked, which is no answer
        for job_id in rest:
            report = accounted.get(job_id, Report(JobState.UNKNOWN))
            # What accounting calls live and the controller does not know is a record without an end.
            if report.state not in (JobState.ENDED, JobState.UNKNOWN):
                report = Report(JobState.UNKNOWN, task=report.task)
            found[job_id] = self._remembered(job_id, report)
        return found

    async def _accounted(self, job_ids: Sequence[str]) -> dict[str, Report] | None:
        """What accounting says; nothing where there is none, None if it does not answer."""
        try:
            return await self._accounting.ask(job_ids)
        except EngineError as error:
            log.info("Slurm's accounting does not answer: %s", error)
            return None

    async def finished(self, job_id: str) -> Report:
        """What Slurm says of a job that has ended. Questions that come close together are asked as one."""
        if not slurmwords.SBATCH.job_id.fullmatch(job_id):
            return Report(JobState.UNKNOWN)
        loop = asyncio.get_running_loop()
        future = self._asked.get(job_id)
        if future is None:
            future = self._asked[job_id] = loop.create_future()
        if self._gathering is None or self._gathering.done():
            self._gathering = loop.create_task(self._answer())
        return await asyncio.shield(future)

    async def _answer(self) -> None:
        """Answer all that was asked about ended jobs, until nothing is."""
        while self._asked:
            await asyncio.sleep(GATHERING)
            asked, self._asked = self._asked, {}
            try:
                reports = await self._endings(list(asked))
            except EngineError as error:
                for future in asked.values():
                    settle(future, PassingFault(str(error)))
            else:
                for job_id, future in asked.items():
                    answer = reports.get(job_id, PassingFault("Slurm's accounting does not answer"))
                    settle(future, answer)

    async def _endings(self, job_ids: Sequence[str]) -> dict[str, Report]:
        reports = dict(await self.states(job_ids, 0.0))
        return reports | await self._detailed(reports)

    async def _detailed(self, reports: Mapping[str, Report]) -> dict[str, Report]:
        """What accounting knows better of these: what ended jobs used, and who cancelled one."""
        bare = [
            job_id
            for job_id, report in reports.items()
            if report.state is JobState.ENDED and report.usage is None and self._accounting.running
        ]
        accounted = await self._accounted(bare) if bare else None
        return {
            job_id: self._remembered(job_id, report)
            for job_id, report in (accounted or {}).items()
            if job_id in reports and report.about(reports[job_id].task or "").state is JobState.ENDED
        }

    # -- controlling ------------------------------------------------------------------------------

    async def control(self, job_id: str, action: Action, task: str | None = None) -> None:
        """Carry out an action, if the job is the task's. One that has ended already is no error."""
        if not slurmwords.SBATCH.job_id.fullmatch(job_id):
            log.info("%s of %r, which is no job id of Slurm's", action, job_id)
            return
        report = self._in_list(job_id, await self._list(job_id))
        if report is None or report.state is JobState.ENDED:
            return
        if task is not None and report.task != task:
            log.info("%s of job %s is left undone: the id belongs to another job now", action, job_id)
            return
        if not slurmwords.means_something(action, report.state):
            raise Refused(f"a job that is {report.state} takes no {action}")
        try:
            await self._carry_out(job_id, action, report.state)
        except EngineError as error:
            if not answers.is_over(error):
                raise
            self._fault = None

    async def _carry_out(self, job_id: str, action: Action, state: JobState) -> None:
        if action is Action.TERMINATE:
            await self._terminate(job_id)
        elif action is Action.HOLD:
            await self._order("scontrol", "uhold", job_id)  # one that its owner may release
        elif action is Action.RELEASE:
            await self._order("scontrol", "release", job_id)
        elif action is Action.SUSPEND:
            await self._suspend(job_id)
        elif job_id in self._suspended or state is JobState.SYSTEM_SUSPENDED:
            await self._order("scontrol", "resume", job_id)
            self._suspended.pop(job_id, None)
        else:
            await self._order("scancel", "--signal=CONT", "--full", job_id)

    async def _terminate(self, job_id: str) -> None:
        """End a job. Slurm kills a suspended one outright: it is resumed, to hear the signal before that."""
        clock, ready = asyncio.get_running_loop().time, 0.0
        for suspended in [known for known in self._suspended if job_id in (known, answers.base_of(known))]:
            since = self._suspended.pop(suspended)
            try:
                await self._order("scontrol", "resume", suspended)
                ready = max(ready, clock() + RESUMING, since + SUSPENDING)
            except Refused as refusal:
                log.debug("job %s is ended without being resumed: %s", suspended, refusal)
        await asyncio.sleep(max(ready - clock(), 0))  # before that its node takes it for suspended
        await self._order("scancel", job_id)

    async def _suspend(self, job_id: str) -> None:
        """Suspend a job; where only Slurm's operators may, stop its processes, which its owner may."""
        try:
            await self._order("scontrol", "suspend", job_id)
        except Refused as refusal:
            if answers.is_over(refusal):
                raise
            log.debug("job %s is stopped by a signal instead: %s", job_id, refusal)
            for _ in range(STOPS):
                await self._order("scancel", "--signal=STOP", "--full", job_id)
                report = (await self._list(job_id)).reports.get(job_id)
                if report is None or report.state is not JobState.RUNNING:
                    return
                await asyncio.sleep(STOP_PAUSE)  # a job that is just starting does not show it at once
        else:
            self._suspended[job_id] = asyncio.get_running_loop().time()

    async def _order(self, name: str, *arguments: str) -> None:
        await self._say(Kind.CONTROL, name, arguments, final=True)
