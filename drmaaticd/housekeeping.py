"""What is cleared away: files of deleted tasks, tasks past their retention, old keys, old copies of scripts.

A deleted task's job may still be on its way, so its control folder (which holds the claim that keeps
the job from starting) goes only when the job is gone. Descendants work in their first ancestor's
folder, so that it is kept for as long as the last of them.
"""

from __future__ import annotations

import asyncio
import logging

from drmaaticd.config import Config
from drmaaticd.errors import Unavailable
from drmaaticd.gate import FileGate
from drmaaticd.pruning import Pruner
from drmaaticd.store import Store
from drmaaticd.tasks import Task, now_ms
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Seconds between two looks for tasks past their retention and for old keys.
INTERVAL = 600.0

#: Tasks removed before the loop is given back for a moment.
SLICE = 20


class Housekeeping:
    """Clears away. All methods run on the loop."""

    def __init__(
        self, *, store: Store, workspace: Workspace, files: FileGate, pruner: Pruner, config: Config
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._files = files
        self._pruner = pruner
        self._keep = config.retention.finished
        self._remove_files = config.retention.remove_files_on_delete
        self._purging: dict[str, asyncio.Task[None]] = {}

    @property
    def keep_seconds(self) -> float | None:
        """How long an ended task is kept, None for ever."""
        return self._keep

    def settled(self, task: Task) -> None:
        """A task has ended: if it is deleted, its files can go now."""
        if task.deleted is not None and not task.purged:
            self._purge(task.uuid)

    async def purge(self, uuid: str) -> None:
        """Remove the files and the control folder of a deleted task, if its job is gone."""
        await asyncio.shield(self._purge(uuid))

    def _purge(self, uuid: str) -> asyncio.Task[None]:
        """The one removal of this task's files that is under way."""
        running = self._purging.get(uuid)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._purge_now(uuid))
            self._purging[uuid] = running
            running.add_done_callback(lambda _: self._purging.pop(uuid, None))
        return running

    async def _purge_now(self, uuid: str) -> None:
        task = self._store.get(uuid)
        if task is None or not self._may_go(task):
            return
        try:
            await self._files.run(self._remove, task)
        except (OSError, Unavailable):
            log.exception("the files of the deleted task %s could not be removed; tried again later", uuid)
            return
        self._store.update(uuid, lambda known: known.changed(purged=True))

    def _may_go(self, task: Task) -> bool:
        """Whether the files of a task are to be removed now."""
        if task.deleted is None or task.purged or not task.final:
            return False
        return self._remove_files or self._has_expired(task)

    def _has_expired(self, task: Task) -> bool:
        """Whether the task, and whatever works or worked in its folder, is past its retention.

        A deleted descendant holds the folder only until its job is gone, but those below it count.
        """
        limit = now_ms() - int(self._keep * 1000)
        level = [task]
        while level:
            for one in level:
                if one.ended is None or (one.ended > limit and (one is task or one.deleted is None)):
                    return False
            level = [child for one in level for child in self._store.children(one.uuid)]
        return True

    def _joins(self, task: Task) -> bool:
        """Whether this record alone says that those below the task work in an ancestor's folder."""
        return task.folder != task.uuid and bool(self._store.children(task.uuid))

    def _remove(self, task: Task) -> None:
        if task.folder == task.uuid:
            self._workspace.trash(task.uuid)
            self._workspace.empty_trash(task.uuid)
        self._workspace.remove_control(task.uuid)

    async def run_forever(self) -> None:
        """Keep the retention, until cancelled."""
        while True:
            await self._keep_retention()
            await asyncio.sleep(INTERVAL)

    async def _keep_retention(self) -> None:
        now = now_ms()
        if self._keep is not None:
            expired = self._store.finished_before(now - int(self._keep * 1000))
            for count, task in enumerate(expired, 1):
                if task.deleted is None and self._has_expired(task):
                    log.info("task %s is past its retention and is removed", task.uuid)
                    self._store.update(task.uuid, lambda known: known.changed(deleted=now))
                elif task.purged and not self._joins(task):
                    self._store.remove(task.uuid)
                if count % SLICE == 0:
                    await asyncio.sleep(0)
        keys = self._store.side("idempotency")
        for key, known in list(keys.items()):
            if known["expires"] < now:
                keys.delete(key, revocable=False)
        for task in self._store.unpurged():
            if self._may_go(task):
                await self.purge(task.uuid)
        await self._pruner.prune()

    async def close(self) -> None:
        """Wait for the removals under way; what is left is taken up by the next daemon."""
        await asyncio.gather(*self._purging.values(), return_exceptions=True)
