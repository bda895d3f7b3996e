"""What the engine and the launchers say → what the store says.

Two ways lead here. The spool pass, several times a second, reads the doorbells that launchers rang:
it costs what the started and ended jobs cost, whatever else is live. The sweep, every few seconds,
asks the DRM about the jobs it holds: that finds holds, suspensions and jobs that died without a
word. What the evidence means is decided in `verdict`; submissions are made in `submission`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from drmaaticd import launcher
from drmaaticd.claims import Claims, Key
from drmaaticd.config import Config
from drmaaticd.doubts import Doubts
from drmaaticd.drm.base import Engine, EngineError, JobState, Report
from drmaaticd.gate import FileGate
from drmaaticd.launcher import Evidence
from drmaaticd.outcome import array_changes, indices, single_changes
from drmaaticd.reaping import Reaper
from drmaaticd.starts import Starts
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.strangers import Strangers
from drmaaticd.tasks import MEMBER_STATES, Task
from drmaaticd.verdict import Patience, Verdict, judge
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Doorbells that one pass answers; the rest waits for the next, so that the loop is never long away.
DOORBELLS_PER_PASS = 500

#: Seconds without a submission after which the DRM is asked about the new jobs, and of how many in one
#: pass; the sweep comes to all of them anyway.
CALM = 0.5
FRESH_PER_PASS = 100

#: Records judged without giving the loop back.
SLICE = 50

#: Members of one array judged without giving the loop back: their record is read anew for each so many.
MEMBERS = 1000

#: Seconds between two refreshes of a network file system's view of the spool.
REFRESH_INTERVAL = 1.0


class Answer(NamedTuple):
    """What the DRM said of a job, and the id of the task's job as it was then: it may be another by now."""

    report: Report
    job_id: str


Ground = tuple[Evidence, Answer | None]
"""What a job is judged by."""
Verdicts = dict[int | None, Verdict]


class Sync:
    """Keeps the store true. One instance; all methods run on the loop.

    `on_final` is called with each task that has just ended, `on_lost` with each whose job the DRM has
    lost before it began.
    """

    def __init__(
        self, *, store: Store, engine: Engine, workspace: Workspace, files: FileGate, config: Config
    ) -> None:
        self._store = store
        self._engine = engine
        self._workspace = workspace
        self._files = files
        self._sweep_budget = max(config.drm.sweep_interval / 2, 0.1)
        grace = 0.0 if engine.endings_are_prompt else config.drm.ending_grace
        self._patience = Patience(ending=grace, lost=config.drm.lost_after)
        self._with_drm: set[str] = set()
        self._looks: set[Key] = set()
        self._fresh: dict[str, None] = {}
        self._fresh_at = 0.0
        self._calm = 0.0 if engine.endings_are_prompt else CALM
        self._doubts = Doubts(2 * config.drm.sweep_interval)
        self._strangers = Strangers()
        self._refreshed = 0.0
        self._applying = asyncio.Lock()
        self._claims = Claims(store, engine, self._sweep_budget)
        self._starts = Starts(self._read)
        self.reaper = Reaper(store, engine)
        self.on_final: list[Callable[[Task], None]] = []
        self.on_lost: list[Callable[[Task], None]] = []

    # -- what others tell it ------------------------------------------------------------------

    def note(self, uuid: str, index: int | None = None) -> None:
        """The engine has seen this job start or end: look at it in the next pass."""
        self._looks.add((uuid, index))

    def submitted(self, uuid: str) -> None:
        """The DRM has taken a job of this task: see what became of it, once submissions pause.

        Not amid them: Grid Engine lets a question that follows a submission wait for up to a second.
        """
        self.watch(uuid)
        self._fresh[uuid] = None
        self._fresh_at = time.monotonic()

    def watch(self, uuid: str) -> None:
        """From now on the DRM holds a job of this task."""
        self._with_drm.add(uuid)

    @property
    def live_jobs(self) -> int:
        """How many tasks the DRM holds a job of."""
        return len(self._with_drm)

    # -- the spool pass ---------------------------------------------------------------------

    async def spool_pass(self) -> int:
        """Answer the doorbells and the engine's own notices; returns how many there were."""
        names = await self._files.run(self._list_doorbells)
        rung: dict[str, Key] = {}
        dead: list[str] = []
        for name in names:
            bell = launcher.parse_doorbell(name)
            task = self._store.get(bell.task) if bell is not None else None
            if bell is None or task is None:
                if self._strangers.leave(name):
                    continue
                dead.append(name)
            elif task.final:
                dead.append(name)
            else:
                rung[name] = (bell.task, bell.index)
        self._look_at_fresh()
        looks, self._looks = self._looks, set()
        looks -= self._reap_again(looks)
        keys = looks | set(rung.values())
        if keys:
            try:
                await self.examine(keys, ask=looks)
            except BaseException:
                self._looks |= looks  # the engine tells each only once
                raise
        if rung or dead:
            await self._store.durable()
            self._strangers.names.update(await self._files.run(self._workspace.clear_spool, [*rung, *dead]))
        return len(keys)

    def _reap_again(self, looks: Iterable[Key]) -> set[Key]:
        """Of these jobs, those of ended tasks: the engine keeps them until it is asked, if it was not."""
        ended = set()
        for uuid, index in looks:
            task = self._store.get(uuid)
            if task is not None and task.final:
                ended.add((uuid, index))
                if task.job_id is not None:
                    self._reap(task.job_id, uuid, index)
        return ended

    def _look_at_fresh(self) -> None:
        if self._fresh and time.monotonic() - self._fresh_at >= self._calm:
            for uuid in list(itertools.islice(self._fresh, FRESH_PER_PASS)):
                del self._fresh[uuid]
                self.note(uuid)

    def _list_doorbells(self) -> Sequence[str]:
        spool = self._workspace.spool
        if time.monotonic() - self._refreshed >= REFRESH_INTERVAL:
            launcher.refresh(spool)
            self._refreshed = time.monotonic()
        return [
            name
            for name in launcher.doorbells(spool, DOORBELLS_PER_PASS + len(self._strangers.names))
            if name not in self._strangers.names
        ][:DOORBELLS_PER_PASS]

    # -- the sweep --------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Ask the DRM about every job that it holds, as far as the time budget allows."""
        ids: dict[str, list[Key]] = {}
        for count, uuid in enumerate(tuple(self._with_drm), 1):
            if count % SLICE == 0:
                await asyncio.sleep(0)
            task = self._store.get(uuid)
            if task is None or task.final or task.job_id is None:
                self._with_drm.discard(uuid)
                continue
            for job_id, key in self._job_ids(task).items():
                ids.setdefault(job_id, []).append(key)
        if not ids:
            await self._see_whether_it_answers()
            return
        try:
            reports = await self._engine.states(list(ids), self._sweep_budget)
        except EngineError as error:
            log.info("the sweep got no answer: %s", error)
            return
        await self._weigh(await self._told(ids, reports))

    async def _see_whether_it_answers(self) -> None:
        """With no job to ask about, nobody else would learn that the DRM has gone, or has come back."""
        try:
            await self._engine.ping()
        except EngineError as error:
            log.debug("the DRM does not answer: %s", error)

    def _job_ids(self, task: Task) -> dict[str, Key]:
        """The DRM's ids of a task's jobs that have not ended."""
        if task.job_id is None:
            return {}
        if task.array is None:
            return {task.job_id: (task.uuid, None)}
        return {
            self._engine.element(task.job_id, index): (task.uuid, index)
            for index, letter in zip(indices(task), task.members, strict=True)
            if not MEMBER_STATES[letter].final
        }

    async def _weigh(self, answers: Mapping[Key, Answer]) -> None:
        """Judge what the DRM said; the launcher is heard wherever the DRM speaks of no live job."""
        silent = [
            key for key, (report, _) in answers.items() if report.state in (JobState.ENDED, JobState.UNKNOWN)
        ]
        evidence = await self._read(silent)  # after the DRM's answer: an ending comes before it
        await self._adopt(evidence)
        await self._judge_all({key: (evidence.get(key, NOTHING), answers[key]) for key in answers})

    # -- looking at single jobs ---------------------------------------------------------------

    async def examine(self, keys: Iterable[Key], ask: Iterable[Key] = ()) -> None:
        """Read what the launchers of these jobs left, and judge them.

        The DRM is asked too where the launcher's word does not suffice: for `ask` without an
        ending, for an ending after a caught signal, and for a failure whose reason it may know.
        """
        evidence = await self._read(keys)
        await self._adopt(evidence)
        asked = set(ask)
        questions: dict[str, list[Key]] = {}
        jobs: dict[str, str | None] = {}
        for key, found in evidence.items():
            if self._needs_the_drm(key, found, asked):
                whole = self._whole(jobs, key[0])
                if whole is not None:
                    questions.setdefault(self._job_id(whole, key[1]), []).append(key)
        answers: dict[Key, Answer] = {}
        if questions:
            answers = await self._ask(questions)
            gone = [key for key, (report, _) in answers.items() if report.state is JobState.ENDED]
            evidence.update(await self._read(gone))
        await self._judge_all({key: (found, answers.get(key)) for key, found in evidence.items()})

    def _needs_the_drm(self, key: Key, found: Evidence, asked: set[Key]) -> bool:
        if found.ending is None:
            return key in asked
        return found.ending.provisional or (self._engine.endings_are_prompt and found.ending.status != 0)

    async def _ask(self, questions: Mapping[str, Sequence[Key]]) -> dict[Key, Answer]:
        try:
            answers = await self._engine.states(list(questions), self._sweep_budget)
        except EngineError as error:
            log.info("the DRM did not answer: %s", error)
            return {}
        return await self._told(questions, answers)

    async def _told(
        self, asked: Mapping[str, Sequence[Key]], reports: Mapping[str, Report]
    ) -> dict[Key, Answer]:
        """What the DRM said, by job: of an id that it gave twice, each job is told what is true of it.

        An answer about a job that is its task's no more (it was submitted again meanwhile) is none.
        """
        told: dict[Key, Answer] = {}
        jobs: dict[str, str | None] = {}  # a record is read once for many of its members
        for count, (job_id, report) in enumerate(reports.items(), 1):
            if count % MEMBERS == 0:
                await asyncio.sleep(0)
                jobs.clear()
            for key in asked.get(job_id, ()):
                whole = self._whole(jobs, key[0])
                if whole is not None and job_id == self._job_id(whole, key[1]):
                    told[key] = Answer(report.about(key[0]), whole)
        return told

    def _whole(self, jobs: dict[str, str | None], uuid: str) -> str | None:
        """The DRM's id of a task's job, through what `jobs` has of such."""
        if uuid not in jobs:
            task = self._store.get(uuid)
            jobs[uuid] = None if task is None else task.job_id
        return jobs[uuid]

    def _job_id(self, whole: str, index: int | None) -> str:
        return whole if index is None else self._engine.element(whole, index)

    async def _read(self, keys: Iterable[Key]) -> dict[Key, Evidence]:
        """What the launchers of these jobs left, read in a thread."""
        listed = list(keys)
        if not listed:
            return {}

        def read() -> dict[Key, Evidence]:
            return {key: launcher.read(self._workspace.control(key[0]), key[1]) for key in listed}

        return await self._files.run(read)

    async def _adopt(self, evidence: Mapping[Key, Evidence]) -> None:
        """Take the jobs' claims into the records."""
        for uuid in await self._claims.adopt(evidence):
            self.watch(uuid)

    # -- judging and writing ----------------------------------------------------------------

    async def _judge_all(self, grounds: Mapping[Key, Ground]) -> None:
        by_task: dict[str, dict[int | None, Ground]] = {}
        for (uuid, index), ground in grounds.items():
            by_task.setdefault(uuid, {})[index] = ground
        judged = 0
        async with self._applying:
            for uuid, members in by_task.items():
                await self._judge_task(uuid, members)
                judged += len(members)
                if judged >= SLICE:
                    judged = 0
                    await asyncio.sleep(0)

    async def _judge_task(self, uuid: str, members: Mapping[int | None, Ground]) -> None:
        """Judge jobs of one task, whose record is read once for many of them, and write it once."""
        task: Task | None = None
        verdicts: Verdicts = {}
        grounds = iter(members.items())
        while some := list(itertools.islice(grounds, MEMBERS)):
            if verdicts:
                await asyncio.sleep(0)
            task = self._store.get(uuid)
            if task is None or task.final:
                return
            known = indices(task)
            for index, (evidence, answer) in some:
                # The task may have been submitted again, or a claim been heard, since the DRM was asked.
                now = answer is not None and answer.job_id == task.job_id
                verdict = self._judge(
                    task, known, index, evidence, answer.report if answer is not None and now else None
                )
                if verdict is not None:
                    verdicts[index] = verdict
        if task is None or not verdicts:
            return
        began = None
        if task.array is not None:
            began = await self._starts.began(task, verdicts, members)
            task = self._store.get(uuid)
        if task is not None and not task.final:
            self._act_on(task, members, verdicts, began)

    def _act_on(
        self, task: Task, members: Mapping[int | None, Ground], verdicts: Verdicts, began: int | None
    ) -> None:
        """Write what the verdicts on a task's jobs change, or that all of them are lost."""
        if any(verdict.resubmit for verdict in verdicts.values()):
            known = indices(task)
            whole = 1 if task.array is None else len(known)
            if len(verdicts) == whole and all(verdict.resubmit for verdict in verdicts.values()):
                self._lose(task)
                return
            # Some of its members have begun: the others are as good as unknown.
            again = {index: ground for index, ground in members.items() if verdicts[index].resubmit}
            for index, (evidence, _) in again.items():
                verdict = self._judge(task, known, index, evidence, Report(JobState.UNKNOWN))
                verdicts[index] = verdict if verdict is not None else Verdict()
        self._apply(task, verdicts, began)

    def _lose(self, task: Task) -> None:
        """The DRM lost a task's job before it began: the task is as it was before its submission."""
        log.warning("task %s: the cluster lost job %s and gave its id to another", task.uuid, task.job_id)
        lost = self._store.update(
            task.uuid,
            lambda known: known.changed(state=State.RECEIVED, job_id=None, members="", detail=""),
        )
        self._forget(lost)
        for listener in self.on_lost:
            listener(lost)

    def _judge(
        self, task: Task, known: range, index: int | None, evidence: Evidence, report: Report | None
    ) -> Verdict | None:
        """The verdict on a job of the task, whose members have the `known` indices; None if it is none."""
        key = (task.uuid, index)
        state = task.state
        if index is not None:
            if index not in known:
                return None
            state = MEMBER_STATES[task.members[known.index(index)]] if task.members else State.RECEIVED
        doubt, doubted = self._doubts.upheld(key, answered=report is not None)
        verdict = judge(
            state,
            evidence,
            report,
            stop=task.stop,
            patience=self._patience,
            doubt=doubt,
            doubted=doubted,
        )
        if report is not None or (verdict.state is not None and verdict.state.final):
            self._doubts.keep(key, verdict.doubt)
        return verdict

    def _apply(self, before: Task, verdicts: Verdicts, began: int | None) -> None:
        if before.array is None:
            changes = single_changes(before, verdicts[None]) if None in verdicts else {}
        else:
            changes = array_changes(before, verdicts, began)
        if not changes:
            return
        after = self._store.update(before.uuid, lambda task: task.changed(**changes))
        self._queue_reaping(after, verdicts)
        if after.final:
            self.settled(after)

    def settled(self, task: Task) -> None:
        """A task has ended, here or elsewhere: forget what was kept for it and tell the others."""
        self._forget(task)
        for listener in self.on_final:
            listener(task)

    def _forget(self, task: Task) -> None:
        self._with_drm.discard(task.uuid)
        self._doubts.forget(task.uuid)

    def _queue_reaping(self, after: Task, verdicts: Verdicts) -> None:
        if after.job_id is None:
            return
        for index, verdict in verdicts.items():
            if verdict.state is not None and verdict.state.final:
                self._reap(after.job_id, after.uuid, index)

    def _reap(self, job_id: str, uuid: str, index: int | None) -> None:
        self.reaper.add(uuid, self._job_id(job_id, index))


NOTHING = Evidence(claim=None, ending=None, started=None, cancelled=False)
