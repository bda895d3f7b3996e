"""From an accepted task to a job in the DRM: order, write-ahead, retries, recovery, dependencies.

A task is durable before the DRM hears of it, with its attempt number before each submission. What
comes of the job afterwards is the business of `sync`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterable

from drmaaticd import faults, launcher
from drmaaticd.config import Config
from drmaaticd.drm.base import Array, Engine, Found, Job, PassingFault, Refused
from drmaaticd.errors import StorageFull
from drmaaticd.gate import FileGate
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.sync import Sync
from drmaaticd.tasks import MEMBER_LETTERS, Task
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Submissions that wait for the engine at the same time: enough to share one commit of the journal.
BATCH = 32

#: Seconds of the first and the longest pause after a passing fault; each pause doubles.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

#: Seconds that submissions under way are given when the daemon ends; what they come to is found out
#: at the next start.
CLOSING_SECONDS = 5.0

#: Seconds between two looks whether a DRM that was full has room again.
FULL_PAUSE = 0.25

#: A job's name: Grid Engine wants a letter first and no blanks; PBS cuts at 15 characters by itself.
_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9._-]")


def job_name(script: str, uuid: str) -> str:
    """The job's name in the DRM; it begins with a letter and carries the script and the UUID."""
    return f"t-{_UNSAFE_IN_NAME.sub('_', script)}-{uuid}"


def job_of(task: Task, workspace: Workspace) -> Job:
    """What the engine needs to run a task."""
    resources = task.resources
    return Job(
        task=task.uuid,
        name=job_name(task.script, task.uuid),
        run_script=workspace.control(task.uuid) / launcher.RUN_SCRIPT,
        folder=workspace.folder(task.folder),
        cpus=resources.get("cpus", 1),
        memory=resources.get("memory"),
        max_clock_time=resources.get("max_clock_time"),
        queue=resources.get("queue"),
        account=resources.get("account"),
        qos=resources.get("qos"),
        licenses=resources.get("licenses"),
        gres=resources.get("gres"),
        native=resources.get("native", ""),
        rerunnable=task.rerunnable,
        array=Array(**task.array) if task.array else None,
    )


class Submitter:
    """Hands accepted tasks to the engine, in order. All methods run on the loop."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        workspace: Workspace,
        files: FileGate,
        sync: Sync,
        config: Config,
    ) -> None:
        self._store = store
        self._engine = engine
        self._workspace = workspace
        self._files = files
        self._sync = sync
        self._max_live = config.drm.max_live
        self._grace = config.drm.ending_grace
        self._queue: deque[str] = deque()
        self._ended: deque[str] = deque()
        self._announced: set[str] = set()
        self._in_flight: dict[str, asyncio.Event] = {}
        self._wake = asyncio.Event()
        self._recovering: set[asyncio.Task[None]] = set()
        sync.on_final.append(self._advance_dependants)
        sync.on_lost.append(lambda task: self._again(task.uuid))

    def announced(self, task: Task) -> Task:
        """A task that is not recorded yet, with its first attempt noted if that would begin at once.

        Its record is then the announcement too, which spares a commit of the journal. `add` must follow
        when it is durable. (The first attempt of one that has to wait is announced when it begins: after
        a crash, what was announced has to be looked for.)
        """
        if task.depends_on or self._queue or self._room <= 0 or self._engine.fault() is not None:
            return task
        return task.changed(attempt=1)

    def add(self, task: Task) -> None:
        """Submit a durable task as soon as the tasks it depends on and the DRM allow."""
        if task.depends_on and not self._dependencies_allow(task):
            return
        if task.attempt:
            self._announced.add(task.uuid)
        self._queue.append(task.uuid)
        self._wake.set()

    async def answered(self, uuid: str) -> None:
        """Return when the engine holds no unanswered submission of this task."""
        while (answer := self._in_flight.get(uuid)) is not None:
            await answer.wait()

    @property
    def waiting(self) -> int:
        """How many tasks wait to be handed to the engine."""
        return len(self._queue)

    # -- the loop ------------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Submit what is added, until cancelled.

        While the engine submits one batch, the next one's attempts are written to the journal.
        """
        pause = FIRST_PAUSE
        previous: asyncio.Task[bool] | None = None
        try:
            while True:
                await self._wake.wait()
                batch = self._next_batch()
                if batch:
                    await self._announce(batch)
                elif previous is None:
                    await self._idle()
                    continue
                if previous is not None:
                    pause = await self._pause_after(previous, pause)
                previous = asyncio.create_task(self._submit_batch(batch)) if batch else None
        finally:
            if previous is not None:
                await asyncio.wait([previous], timeout=CLOSING_SECONDS)

    async def _idle(self) -> None:
        if self._queue:
            await asyncio.sleep(FULL_PAUSE)
        else:
            self._wake.clear()

    async def _pause_after(self, previous: asyncio.Task[bool], pause: float) -> float:
        """Wait for a batch, and longer each time if the DRM could not be reached; the next pause."""
        if await previous:
            return FIRST_PAUSE
        await asyncio.sleep(pause)
        return min(pause * 2, LONGEST_PAUSE)

    @property
    def _room(self) -> int:
        """How many more jobs the DRM may be given."""
        return self._max_live - self._sync.live_jobs - len(self._in_flight)

    def _next_batch(self) -> list[Task]:
        room = self._room
        batch: list[Task] = []
        while self._queue and len(batch) < min(BATCH, room):
            uuid = self._queue.popleft()
            task = self._store.get(uuid)
            twice = uuid in self._in_flight or any(one.uuid == uuid for one in batch)
            if task is not None and _submittable(task) and not twice:
                batch.append(task)
            elif not twice:
                self._announced.discard(uuid)
        return batch

    async def _announce(self, batch: list[Task]) -> None:
        """Return when it is durable that these are about to be submitted."""
        written = False
        for task in batch:
            self._in_flight[task.uuid] = asyncio.Event()
            if task.uuid in self._announced:
                self._announced.discard(task.uuid)
            else:
                self._store.update(task.uuid, lambda known: known.changed(attempt=known.attempt + 1))
                written = True
        if not written:
            return
        told = False
        while True:
            try:
                await self._store.durable()
            except StorageFull:
                if not told:
                    log.warning("nothing is submitted while the disk of the store is full")
                told = True
                await asyncio.sleep(FIRST_PAUSE)
            else:
                return

    async def _submit_batch(self, batch: list[Task]) -> bool:
        """Submit these, in order; False if the DRM could not be reached for some, which wait again."""
        outcomes = await asyncio.gather(*(self._submit(task.uuid) for task in batch))
        again = [task.uuid for task, outcome in zip(batch, outcomes, strict=True) if not outcome]
        self._queue.extendleft(reversed(again))
        if again:
            self._wake.set()
        return not again

    async def _submit(self, uuid: str) -> bool:
        """Submit one; False if it is to be tried again."""
        try:
            return await self._submit_now(uuid)
        finally:
            self._in_flight.pop(uuid).set()

    async def _submit_now(self, uuid: str) -> bool:
        task = self._store.get(uuid)
        if task is None or not _submittable(task):
            return True  # stopped or deleted while the journal was written
        try:
            job_id = await self._engine.submit(job_of(task, self._workspace))
        except PassingFault as fault:
            log.info("task %s could not be submitted yet: %s", uuid, fault)
            return False
        except Refused as refusal:
            self._refused(uuid, str(refusal))
            return True
        faults.reached(faults.SUBMITTED)
        self._store.update(uuid, lambda known: _submitted(known, job_id))
        self._sync.submitted(uuid)
        return True

    def _refused(self, uuid: str, reason: str) -> None:
        log.info("task %s was refused by the DRM: %s", uuid, reason)
        task = self._store.update(
            uuid,
            lambda known: known if known.final else known.changed(state=State.REJECTED, detail=reason),
        )
        self._sync.settled(task)

    # -- recovery ------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take up what the daemon before this one left: adopt, submit, or wait for certainty."""
        looks: list[tuple[str, int | None]] = []
        unsure: list[Task] = []
        for task in sorted(self._store.live(), key=lambda task: (task.created, task.uuid)):
            if task.job_id is not None:
                self._sync.watch(task.uuid)
                if task.array is None:
                    looks.append((task.uuid, None))
                else:
                    looks.extend((task.uuid, index) for index in Array(**task.array).indices)
            elif task.attempt > 0:
                unsure.append(task)
            elif not task.stop:
                self.add(task)
        await self._sync.examine(looks, ask=looks if self._engine.endings_are_prompt else ())
        for task in unsure:
            await self._resolve(task)

    async def _resolve(self, task: Task) -> None:
        """The daemon died between an attempt and the record of its job id: who knows the job?"""
        found = await self._engine.find(task.uuid)
        if isinstance(found, str):
            self._adopt(task.uuid, found)
        elif found is Found.NONE:
            self._again(task.uuid)
        elif not await self._claimed(task):
            waiting = asyncio.get_running_loop().create_task(self._wait_for_claim(task))
            self._recovering.add(waiting)
            waiting.add_done_callback(self._recovering.discard)

    async def _wait_for_claim(self, task: Task) -> None:
        """Give a job that may exist the grace time, in which the DRM answers, to claim its task."""
        waited = 0.0
        while waited < self._grace:
            await asyncio.sleep(1.0)
            if self._engine.fault() is None:
                waited += 1.0
            if await self._claimed(task):
                return
        self._again(task.uuid)

    async def _claimed(self, task: Task) -> bool:
        """Whether a job has claimed this task; if so, it is adopted."""
        indices: Iterable[int | None] = Array(**task.array).indices if task.array else (None,)
        await self._sync.examine([(task.uuid, index) for index in indices])
        known = self._store.get(task.uuid)
        return known is None or known.final or known.job_id is not None

    def _adopt(self, uuid: str, job_id: str) -> None:
        self._store.update(uuid, lambda known: _submitted(known, job_id))
        self._sync.watch(uuid)
        self._sync.note(uuid)

    def _again(self, uuid: str) -> None:
        task = self._store.get(uuid)
        if task is not None and _submittable(task):
            log.info(
                "task %s never reached the DRM with attempt %d; it is submitted again", uuid, task.attempt
            )
            self._queue.append(uuid)
            self._wake.set()

    async def close(self) -> None:
        """End the waits of the recovery."""
        for waiting in tuple(self._recovering):
            waiting.cancel()
        await asyncio.gather(*self._recovering, return_exceptions=True)

    # -- dependencies --------------------------------------------------------------------------

    def _advance_dependants(self, ended: Task) -> None:
        """Submit or fail what waited for this task.

        A failure ends further tasks, which come here again from within: they are put in line, so
        that a chain of any length needs no deep stack.
        """
        self._ended.append(ended.uuid)
        if len(self._ended) > 1:
            return
        while self._ended:
            for dependant in self._store.dependants(self._ended[0]):
                if not dependant.final and dependant.attempt == 0 and not dependant.stop:
                    self.add(dependant)
            self._ended.popleft()

    def _dependencies_allow(self, task: Task) -> bool:
        """Whether a task may be submitted now; if it never may, it fails here, with the reason."""
        waits, broken = False, ""
        for uuid in task.depends_on:
            needed = self._store.get(uuid)
            if needed is None:
                broken = f"task {uuid}, which it depends on, is gone"
            elif not needed.final:
                waits = True
            elif not _fits(task.dependency_type, needed.state):
                broken = f"task {uuid}, which it depends on ({task.dependency_type}), is {needed.state}"
        if broken:
            failed = self._store.update(
                task.uuid,
                lambda known: known.changed(state=State.FAILED, detail=broken),
            )
            self._sync.settled(failed)
            return False
        state = State.SYSTEM_ON_HOLD if waits else State.RECEIVED
        if task.state is not state:
            self._store.update(task.uuid, lambda known: known.changed(state=state))
        return not waits


def _fits(dependency_type: str, state: State) -> bool:
    """Whether a task that ended like this satisfies a dependency of this type."""
    if dependency_type == "afterok":
        return state is State.DONE
    if dependency_type == "afternotok":
        return state is not State.DONE
    return True


def _submittable(task: Task) -> bool:
    return not task.final and not task.stop and task.deleted is None and task.job_id is None


def _submitted(task: Task, job_id: str) -> Task:
    """The record once the DRM has named the job; a claim may have told more in the meantime."""
    if task.final or task.job_id is not None:
        return task
    members = task.members
    if task.array is not None and not members:
        members = MEMBER_LETTERS[State.QUEUED_ACTIVE] * len(Array(**task.array).indices)
    state = State.CREATED if task.state is State.RECEIVED else task.state
    if state is not task.state:
        return task.changed(state=state, job_id=job_id, members=members)
    return task.changed(job_id=job_id, members=members)
