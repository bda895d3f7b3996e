"""The embedded engine: this machine's own processes, behind a durable queue.

At most `slots` jobs run at a time, the rest waits in the order of submission. Jobs outlive the
daemon, which adopts them when it is started again. Its own rules, where DRMs differ:

- A job ends with its script: what that left running in the background is killed then.
- A single job, or a member of an array, takes one slot, whatever `cpus` it asks for.
- `memory` is not enforced: a limit on address space fails programs that merely reserve it, and
  control groups with limits cannot be handed from one daemon to the next.
- The time limit is wall-clock time since the start, suspended or not.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from drmaaticd.drm import processes
from drmaaticd.drm.accounts import Account, OwnAccount
from drmaaticd.drm.base import Action, Found, Job, JobState, PassingFault, Refused, Report, Usage
from drmaaticd.drm.localjobs import JobFolder, LocalJob, Phase, Run, split_id
from drmaaticd.drm.localrecords import Records, TaskSet
from drmaaticd.drm.localstart import Starter
from drmaaticd.drm.localwatch import Watched, remains
from drmaaticd.drm.processes import Exit
from drmaaticd.drm.trees import Tree, Trees

log = logging.getLogger(__name__)

#: Seconds from SIGTERM to SIGKILL.
KILL_AFTER = 10.0

#: Seconds until a job that could not be started is tried again: the first pause and the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

#: Job ids looked up without giving the loop back.
SLICE = 2000


class LocalEngine:
    """Implements `drmaaticd.drm.base.Engine` on this machine. All methods run on the loop."""

    name = "local"
    endings_are_prompt = True
    tells_tasks = True

    def __init__(
        self,
        state_dir: Path,
        slots: int,
        *,
        kill_after: float = KILL_AFTER,
        run_prefix: Sequence[str] = (),
        cgroup: Path | None = None,
        account: Account | None = None,
    ) -> None:
        """`run_prefix` comes before ``/bin/sh <run script>``; `cgroup` is a control group (v2) to make
        others in, instead of the one that this process was given; `account` is whom jobs run under.
        """
        self.listener: Callable[[str, int | None], None] = lambda task, index: None
        self._folder = JobFolder(state_dir / "local")
        self._slots = slots
        self._kill_after = kill_after
        self._run_prefix = run_prefix
        self._cgroup = cgroup
        self._account = OwnAccount() if account is None else account
        self._jobs: dict[int, LocalJob] = {}
        self._by_task: dict[str, int] = {}
        self._queue: list[int] = []
        """A heap of the numbers of jobs that may have a run to start."""
        self._active: set[Run] = set()
        """Those that take a slot."""
        self._watched: dict[Run, Watched] = {}
        self._ending: set[Run] = set()
        self._tasks = TaskSet()
        self._start_fault: str | None = None
        self._pause = FIRST_PAUSE
        self._rest: asyncio.TimerHandle | None = None
        self._open = False

    # -- opening and closing -----------------------------------------------------------------------

    async def start(self) -> None:
        """Read the queue, adopt what runs, and start what may be started. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._records = Records(self._folder, self._added)
        self._trees = Trees(self._kill_after, self._account)
        try:
            self._starter = Starter(self._folder, self._run_prefix, self._cgroup, self._account)
            for job in await self._records.work(self._folder.load):
                self._keep(job)
                for run in tuple(job.runs.values()):
                    await self._take_up(job, run)
                self._enqueue(job)
                for index in job.untold():
                    self.listener(job.task, index)  # nobody may know to ask about it any more
        except BaseException:
            await self._release()
            raise
        self._open = True
        self._schedule()

    async def _take_up(self, job: LocalJob, run: Run) -> None:
        """Decide what became of a run that the engine before this one left."""
        if run.phase is Phase.QUEUED:
            job.waiting.append(run)
        elif run.phase is Phase.ENDED:
            self._trees.sweep_later(remains(job, run))  # that engine may not have come to it
        else:
            self._active.add(run)
            identity, sure = run.identity, run.phase is Phase.RUNNING
            pidfd = None
            if identity is not None:
                pidfd = await self._records.work(lambda: processes.open_process(identity))
            if identity is not None and pidfd is not None:
                watched = Watched(job, run, identity, pidfd, sure)
                self._watch(watched)
                if run.killed:
                    self._end(watched)
            else:
                self._gone(job, run, sure=sure)

    def _gone(self, job: LocalJob, run: Run, *, sure: bool) -> None:
        """A run's process ended while no engine saw it."""
        if sure and run.identity is not None and run.identity.boot != processes.boot_id():
            run.killed, run.reason = True, run.reason or "machine restarted"
        self._ended(job, run, remains(job, run), Exit(), sure=sure)

    async def close(self) -> None:
        """Let go of everything; jobs go on, and the next engine goes on ending those that are to end."""
        if not self._open:
            return
        self._open = False
        if self._rest is not None:
            self._rest.cancel()
        await self._release()

    async def _release(self) -> None:
        self._tasks.cancel("end", "anew")  # starts under way are awaited instead
        await self._tasks.wait()
        for watched in self._watched.values():
            self._unwatch(watched)
        self._watched.clear()
        await self._trees.close()
        await self._records.close()

    def fault(self) -> str | None:
        """Why jobs cannot be taken or started at present."""
        return self._start_fault or self._records.fault

    async def ping(self) -> None:
        """There is nobody to be asked."""

    # -- submitting --------------------------------------------------------------------------------

    async def submit(self, job: Job) -> str:
        """Take a job into the queue; it is on disk when this returns. Raises `PassingFault`."""
        if not self._open:
            raise PassingFault("the embedded engine is closed")
        new = LocalJob.of(self._folder.next_number(), job)
        await self._records.add(new)
        return new.id

    def _added(self, job: LocalJob) -> None:
        self._keep(job)
        self._enqueue(job)
        self._schedule()

    def _keep(self, job: LocalJob) -> None:
        self._jobs[job.number] = job
        self._by_task[job.task] = job.number

    def element(self, job_id: str, index: int) -> str:
        """The id of an array's member."""
        return f"{job_id}.{index}"

    async def find(self, task: str) -> str | Found:
        """The id of the job of a task; this engine is certain."""
        number = self._by_task.get(task)
        return Found.NONE if number is None else str(number)

    # -- starting ----------------------------------------------------------------------------------

    def _enqueue(self, job: LocalJob) -> None:
        if job.ready and not job.listed:
            job.listed = True
            heapq.heappush(self._queue, job.number)

    def _schedule(self) -> None:
        """Fill the free slots."""
        while self._queue and len(self._active) < self._slots and self._rest is None and self._open:
            job = self._jobs.get(self._queue[0])
            run = job.next_run() if job is not None else None
            if job is None or not job.ready:
                heapq.heappop(self._queue)
                if job is not None:
                    job.listed = False
            if job is not None and run is not None:
                self._active.add(run)
                run.phase = Phase.STARTING
                self._tasks.start(self._start(job, run))

    async def _start(self, job: LocalJob, run: Run) -> None:
        copy = replace(run)
        self._records.supersede(job, run)
        try:
            started = await self._records.work(lambda: self._starter.start(job, copy))
        except OSError as error:
            self._not_started(job, run, error)
            return
        self._start_fault, self._pause = None, FIRST_PAUSE
        run.identity, run.cgroup, run.phase = started.identity, started.cgroup, Phase.RUNNING
        self._records.save(job, run)
        if job.array is not None:
            self._records.save(job)  # after the member's own: so none is passed over
        watched = Watched(job, run, started.identity, started.pidfd)
        self._watch(watched)
        self.listener(job.task, run.index)
        if run.killed:  # asked for while it was being started
            self._end(watched)
        elif run.suspended:
            await self._trees.suspend(watched.tree)

    def _not_started(self, job: LocalJob, run: Run, error: OSError) -> None:
        """The machine is short of something: the run waits again, and so do all others for a while."""
        log.warning("job %s could not be started and is tried again: %s", job.id, error)
        self._start_fault = f"a job could not be started: {error.strerror}"
        self._active.discard(run)
        if run.killed:
            self._end_queued(job, run)
            self.listener(job.task, run.index)
        else:
            run.phase = Phase.QUEUED
            job.waiting.appendleft(run)
            self._enqueue(job)
        if self._rest is None and self._open:
            self._rest = self._loop.call_later(self._pause, self._rested)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _rested(self) -> None:
        self._rest = None
        self._schedule()

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self, watched: Watched) -> None:
        self._watched[watched.run] = watched
        self._loop.add_reader(watched.pidfd, self._on_end, watched)
        self._set_timer(watched)

    def _unwatch(self, watched: Watched) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
        self._loop.remove_reader(watched.pidfd)
        os.close(watched.pidfd)

    def _set_timer(self, watched: Watched) -> None:
        if watched.job.limit is not None and not watched.run.killed:
            left = watched.job.limit - processes.seconds_since(watched.identity.start)
            watched.timer = self._loop.call_later(max(left, 0.0), self._on_limit, watched)

    def _on_limit(self, watched: Watched) -> None:
        limit = watched.job.limit or 0
        if processes.seconds_since(watched.identity.start) < limit:
            self._set_timer(watched)  # the loop's clock and the machine's differ a little
        elif not watched.run.killed:
            watched.run.reason = f"time limit reached ({limit} s)"
            self._end(watched)

    def _end(self, watched: Watched) -> None:
        """Terminate a run under way; the next engine goes on with it if this one is closed."""
        if watched.run not in self._ending:
            self._ending.add(watched.run)
            watched.run.killed = True
            self._records.save(watched.job, watched.run)
            self._tasks.start(self._end_tree(watched), "end")

    async def _end_tree(self, watched: Watched) -> None:
        try:
            await self._trees.end(watched.tree)
        finally:
            self._ending.discard(watched.run)

    def _on_end(self, watched: Watched) -> None:
        """The pidfd became readable: the process has ended."""
        self._unwatch(watched)
        del self._watched[watched.run]
        if self._account.direct:
            self._reaped(watched, self._account.reap(watched.identity.pid))
        else:
            self._tasks.start(self._reap(watched))

    async def _reap(self, watched: Watched) -> None:
        self._reaped(watched, await self._records.work(lambda: self._account.reap(watched.identity.pid)))

    def _reaped(self, watched: Watched, how: Exit) -> None:
        if how.cpu_seconds is not None:
            wall = processes.seconds_since(watched.identity.start)
            watched.run.usage = Usage(how.cpu_seconds, round(wall, 2), how.max_rss_bytes)
        self._ended(watched.job, watched.run, watched.tree, how, sure=watched.sure)

    def _ended(self, job: LocalJob, run: Run, tree: Tree, how: Exit, *, sure: bool) -> None:
        if not sure and not run.killed:
            self._tasks.start(self._start_anew(job, run, tree), "anew")
            return
        if run not in self._ending:
            self._trees.sweep_later(tree)
        run.phase, run.suspended = Phase.ENDED, False
        run.exit_status, run.signal = how.status, how.signal_name
        self._active.discard(run)
        self._records.save(job, run)
        self.listener(job.task, run.index)
        self._schedule()

    async def _start_anew(self, job: LocalJob, run: Run, tree: Tree) -> None:
        """Queue a run again of which it is not known whether it had begun: its claim knows."""
        await self._trees.sweep(tree)
        run.identity = run.cgroup = run.usage = None
        run.restart += 1
        self._active.discard(run)
        if run.killed:  # asked for meanwhile
            self._end_queued(job, run)
            self.listener(job.task, run.index)
        else:
            run.phase = Phase.QUEUED
            self._records.save(job, run)
            job.waiting.append(run)
            self._enqueue(job)
        self._schedule()

    # -- asking ------------------------------------------------------------------------------------

    def _lookup(self, job_id: str) -> tuple[LocalJob | None, int | None]:
        number, index = split_id(job_id)
        return self._jobs.get(number), index

    async def states(self, job_ids: Sequence[str], budget: float) -> Mapping[str, Report]:
        """What the engine says of each job; one that it does not know is UNKNOWN."""
        deadline = self._loop.time() + budget
        reports: dict[str, Report] = {}
        for count, job_id in enumerate(job_ids, 1):
            reports[job_id] = _about(*self._lookup(job_id))
            if count % SLICE == 0:
                await asyncio.sleep(0)
                if self._loop.time() > deadline:
                    break
        return reports

    async def finished(self, job_id: str) -> Report:
        """What the engine says of a job, which it forgets if that has ended."""
        job, index = self._lookup(job_id)
        report = _about(job, index)
        if job is not None and report.state is JobState.ENDED:
            self._forget(job, index)
        return report

    def _forget(self, job: LocalJob, index: int | None) -> None:
        if index is not None and not job.reap(index):
            if (run := job.runs.pop(index, None)) is not None:
                self._remove(job, [run], [job.member_name(index)])
            self._records.save(job)
            return
        del self._jobs[job.number]
        if self._by_task.get(job.task) == job.number:
            del self._by_task[job.task]
        self._remove(job, job.runs.values(), job.names())

    def _remove(self, job: LocalJob, runs: Iterable[Run], names: list[str]) -> None:
        """Remove records; not before what the runs left is: were this to die, nobody would look for it."""
        self._trees.when_clear([job.mark(run) for run in runs], lambda: self._records.remove(names))

    # -- controlling -------------------------------------------------------------------------------

    async def control(self, job_id: str, action: Action, task: str | None = None) -> None:
        """Carry out an action; a job that has ended or is unknown is no error. Raises `Refused`."""
        job, index = self._lookup(job_id)
        if task is not None and (job is None or job.task != task):
            # A claim, which a job can forge, named the id. This engine knows the task's job for certain.
            job = self._jobs.get(self._by_task.get(task, 0))
        if job is None or job.report(index).state in (JobState.ENDED, JobState.UNKNOWN):
            return
        if action is Action.TERMINATE:
            self._terminate(job, index)
        elif action in (Action.HOLD, Action.RELEASE):
            self._hold(job, index, held=action is Action.HOLD)
        else:
            await self._suspend(job, index, suspended=action is Action.SUSPEND)

    def _terminate(self, job: LocalJob, index: int | None) -> None:
        ended: list[int | None] = []
        for run in job.select(index):
            watched = self._watched.get(run)
            if watched is not None:
                self._end(watched)
            elif run.phase is Phase.QUEUED:
                job.waiting.remove(run)
                self._end_queued(job, run)
                ended.append(run.index)
            elif run.phase is Phase.STARTING:
                run.killed = True
        if index is None and job.has_more:
            ended.extend(job.cut_rest())
            self._records.save(job, durable=True)
        for member in ended:
            self.listener(job.task, member)

    def _end_queued(self, job: LocalJob, run: Run) -> None:
        run.phase, run.killed = Phase.ENDED, True
        self._records.save(job, run, durable=True)

    def _hold(self, job: LocalJob, index: int | None, *, held: bool) -> None:
        waiting = [run for run in job.select(index) if run.phase is Phase.QUEUED]
        rest = index is None and job.has_more
        if not waiting and not rest:
            raise Refused("the job has been started already")
        for run in waiting:
            run.held = held
            self._records.save(job, run, durable=True)
        if rest:
            job.held = held
            self._records.save(job, durable=True)
        self._enqueue(job)
        self._schedule()

    async def _suspend(self, job: LocalJob, index: int | None, *, suspended: bool) -> None:
        under_way = [run for run in job.select(index) if run in self._active]
        if not under_way:
            raise Refused("the job is not running")
        act = self._trees.suspend if suspended else self._trees.resume
        for run in under_way:
            run.suspended = suspended
            watched = self._watched.get(run)
            if watched is not None:  # else it is just being started, and heeds this when it is
                self._records.save(job, run)
                try:
                    await act(watched.tree)
                except OSError as error:
                    raise PassingFault(f"its processes cannot be reached: {error}") from None


def _about(job: LocalJob | None, index: int | None) -> Report:
    """What is known of a job or a member, and whose it is."""
    return Report(JobState.UNKNOWN) if job is None else replace(job.report(index), task=job.task)
