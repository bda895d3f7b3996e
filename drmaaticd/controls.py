"""Stop, hold, release, suspend, resume: intentions that are durable until they are carried out.

A caller waits a moment for the DRM and is then told that the request stands. A stop also sees to
it that a job which is on its way never starts: it claims the task first, as ``cancelled``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from drmaaticd import launcher
from drmaaticd.drm.base import Action, Array, Engine, Found, PassingFault, Refused
from drmaaticd.errors import Conflict
from drmaaticd.gate import FileGate
from drmaaticd.states import HELD, QUEUED, SUSPENDED, State
from drmaaticd.store import Store
from drmaaticd.submission import Submitter
from drmaaticd.sync import Sync
from drmaaticd.tasks import MEMBER_STATES, Task
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Seconds between two tries of an intention while the DRM is away, and the longest such pause.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

#: Seconds between the looks at a job that has been told to do something; the sweep follows after.
LOOKS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 1.0, 2.0, 3.0, 5.0)

_ALLOWED = {
    Action.HOLD: (QUEUED - {State.USER_ON_HOLD, State.USER_SYSTEM_ON_HOLD}) | {State.CREATED},
    Action.RELEASE: HELD,
    Action.SUSPEND: frozenset({State.RUNNING}),
    Action.RESUME: SUSPENDED,
}

#: The API's names of what can be asked for.
ACTIONS = {
    "stop": Action.TERMINATE,
    "hold": Action.HOLD,
    "release": Action.RELEASE,
    "suspend": Action.SUSPEND,
    "resume": Action.RESUME,
}

#: What the audit trail calls them.
PAST = {
    "stop": "stopped",
    "hold": "held",
    "release": "released",
    "suspend": "suspended",
    "resume": "resumed",
}

#: What the caller is told when it is done.
DONE_DETAILS = {
    Action.TERMINATE: "The task is stopped.",
    Action.HOLD: "The task is held.",
    Action.RELEASE: "The task is released.",
    Action.SUSPEND: "The task is suspended.",
    Action.RESUME: "The task is resumed.",
}


class Controls:
    """Carries out what users ask of tasks under way. All methods run on the loop."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        workspace: Workspace,
        files: FileGate,
        sync: Sync,
        submitter: Submitter,
    ) -> None:
        self._store = store
        self._engine = engine
        self._workspace = workspace
        self._files = files
        self._sync = sync
        self._submitter = submitter
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        """What watches for the effect of the last action on a task; the next one does not wait for it."""
        self._refusals: dict[str, str] = {}

    def check(self, task: Task, action: Action) -> None:
        """Raise `Conflict` unless the task's state allows the action."""
        if task.final:
            raise Conflict(f"The task has ended: {task.state.text}.")
        if task.stop:
            raise Conflict("The task is being stopped.")
        if action is Action.TERMINATE:
            return
        if task.job_id is None or task.state not in _ALLOWED[action]:
            raise Conflict(f"The task cannot be {PAST[action.value]} in this state: {task.state.text}.")

    def allowed(self, task: Task) -> list[Action]:
        """What the task's state allows now."""
        found = []
        for action in Action:
            with contextlib.suppress(Conflict):
                self.check(task, action)
                found.append(action)
        return found

    def request(self, uuid: str) -> None:
        """Carry out what the record of this task asks for (`stop` or `wanted`), in the background."""
        running = self._under_way.get(uuid)
        if running is not None and not running.done():
            return
        self._refusals.pop(uuid, None)
        task = asyncio.get_running_loop().create_task(self._carry_out(uuid))
        self._under_way[uuid] = task
        task.add_done_callback(lambda done: self._done(uuid, done))

    def refusal(self, uuid: str) -> str | None:
        """Why the DRM refused the last request for this task; asked once, forgotten then."""
        return self._refusals.pop(uuid, None)

    def forget(self, task: Task) -> None:
        """The task has ended."""
        self._refusals.pop(task.uuid, None)

    def _done(self, uuid: str, done: asyncio.Task[None]) -> None:
        if self._under_way.get(uuid) is done:
            del self._under_way[uuid]
        if not done.cancelled() and done.exception() is not None:
            log.error("controlling task %s failed", uuid, exc_info=done.exception())
            return
        task = self._store.get(uuid)
        if task is not None and not task.final and _action(task) is not None and not done.cancelled():
            self.request(uuid)  # a second wish came while the first was carried out

    def recover(self) -> None:
        """Take up the intentions that the daemon before this one left."""
        for task in self._store.live():
            if _action(task) is not None:
                self.request(task.uuid)

    async def close(self) -> None:
        """Leave what is under way: it is durable, and the next daemon takes it up."""
        running = (*self._under_way.values(), *self._looks.values())
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # -- carrying out --------------------------------------------------------------------------

    async def _carry_out(self, uuid: str) -> None:
        pause = FIRST_PAUSE
        while True:
            task = self._store.get(uuid)
            action = _action(task) if task is not None and not task.final else None
            if task is None or action is None:
                return
            try:
                if action is Action.TERMINATE:
                    await self._terminate(task)
                    await self._look(uuid, None, LOOKS)
                else:
                    await self._engine.control(task.job_id or "", action, uuid)
                    self._store.update(uuid, lambda known: known.changed(wanted=""))
                    await self._look(uuid, task.state, LOOKS[:1])
                    self._watch(uuid, task.state)
                return
            except PassingFault as fault:
                log.info("task %s: %s waits for the DRM: %s", uuid, action, fault)
            except Refused as refusal:
                log.info("task %s: the DRM refused to %s: %s", uuid, action, refusal)
                if action is not Action.TERMINATE:
                    self._refusals[uuid] = str(refusal)
                    self._store.update(uuid, lambda known: known.changed(wanted=""))
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _terminate(self, task: Task) -> None:
        indices = _live_indices(task)
        control = self._workspace.control(task.uuid)
        won = await self._files.run(launcher.cancel, control, indices)
        await self._submitter.answered(task.uuid)  # it tells the id of what is to be terminated
        known = self._store.get(task.uuid)
        if known is None or known.final:
            return
        if known.job_id is not None:
            await self._engine.control(known.job_id, Action.TERMINATE, task.uuid)
        elif len(won) == len(indices) or known.attempt == 0:
            self._stopped(known)
        else:
            await self._sync.examine([(task.uuid, index) for index in indices])  # adopts the claim
            found = await self._engine.find(task.uuid)
            known = self._store.get(task.uuid)
            if known is None or known.final or known.job_id is not None:
                return
            if found is Found.NONE:
                self._stopped(known)  # whoever claimed it was no job of its

    def _stopped(self, task: Task) -> None:
        """No job ever ran or will run for this task."""
        stopped = self._store.update(
            task.uuid, lambda known: known.changed(state=State.STOPPED, stop=False, wanted="")
        )
        self._sync.settled(stopped)

    def _watch(self, uuid: str, before: State) -> None:
        """Look at the job in the background, in place of a look that is under way."""
        former = self._looks.pop(uuid, None)
        if former is not None:
            former.cancel()
        look = asyncio.get_running_loop().create_task(self._look(uuid, before, LOOKS[1:]))
        self._looks[uuid] = look
        look.add_done_callback(lambda done: self._looked(uuid, done))

    def _looked(self, uuid: str, done: asyncio.Task[None]) -> None:
        if self._looks.get(uuid) is done:
            del self._looks[uuid]
        if not done.cancelled() and done.exception() is not None:
            log.error("looking at task %s failed", uuid, exc_info=done.exception())

    async def _look(self, uuid: str, before: State | None, pauses: Sequence[float]) -> None:
        """Look at the job a few times, so that its new state is seen before the next sweep.

        `before` was its state before the action; None where only the end is waited for.
        """
        for pause in pauses:
            await asyncio.sleep(pause)
            task = self._store.get(uuid)
            if task is None or task.final or (before is not None and task.state is not before):
                return
            keys = [(uuid, index) for index in _live_indices(task)]
            await self._sync.examine(keys, ask=keys)


def _action(task: Task) -> Action | None:
    """What the record asks to be done."""
    if task.stop:
        return Action.TERMINATE
    return Action(task.wanted) if task.wanted else None


def _live_indices(task: Task) -> list[int | None]:
    """The members that have not ended; ``[None]`` for a task that is no array."""
    if task.array is None:
        return [None]
    indices = Array(**task.array).indices
    if not task.members:
        return list(indices)
    return [
        index for index, letter in zip(indices, task.members, strict=True) if not MEMBER_STATES[letter].final
    ]
