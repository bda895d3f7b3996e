"""The embedded engine's way to disk: one thread, in order; what fails is tried again.

Between the engine, which lives on the loop, and `localjobs.JobFolder`, which blocks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from drmaaticd.drm.base import PassingFault
from drmaaticd.drm.localjobs import JobFolder, LocalJob, Run

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds until a file that could not be written is tried again.
REWRITE_PAUSE = 2.0


class TaskSet:
    """The asyncio tasks of one owner, who awaits or cancels them all in the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str = "") -> None:
        """Run it; an exception is logged as the bug that it is."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unexpected error of the embedded engine", exc_info=error)

    def cancel(self, *names: str) -> None:
        """Cancel the tasks of these names."""
        for task in self._tasks:
            if task.get_name() in names:
                task.cancel()

    async def wait(self) -> None:
        """Return when all have ended, those too that they start meanwhile."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


class Records:
    """Writes the engine's records. All methods run on the loop."""

    def __init__(self, folder: JobFolder, on_added: Callable[[LocalJob], None]) -> None:
        """`on_added` is told of each new job as soon as it is on disk."""
        self.fault: str | None = None
        """Why the last write failed; None since one succeeded."""
        self._folder = folder
        self._on_added = on_added
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-jobs")
        self._tasks = TaskSet()
        self._to_add: list[tuple[LocalJob, asyncio.Future[None]]] = []
        self._to_write: dict[str, tuple[bytes, bool]] = {}
        self._to_remove: list[str] = []
        self._adding = self._writing = self._closing = False

    async def work(self, function: Callable[[], T]) -> T:
        """Run a blocking function in the thread, after all that was given to it before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def add(self, job: LocalJob) -> None:
        """Put a new job on disk. Raises `PassingFault`, and then it is not there."""
        added: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_add.append((job, added))
        if not self._adding:
            self._adding = True
            self._tasks.start(self._add())
        await added

    async def _add(self) -> None:
        """Write the jobs that wait for it; those that come meanwhile share the next turn."""
        while self._to_add:
            batch, self._to_add = self._to_add, []
            failed = await self._try(self._folder.add, [job for job, _ in batch])
            for job, added in batch:
                if not failed:
                    self._on_added(job)
                if added.cancelled():
                    continue  # who submitted it has given up; the job is there nevertheless
                if failed:
                    added.set_exception(PassingFault(f"the job could not be recorded: {failed}"))
                else:
                    added.set_result(None)
        self._adding = False

    async def _try(self, write: Callable[..., None], *args: Any) -> str:
        """Why a write failed, empty if it did not."""
        try:
            await self.work(lambda: write(*args))
        except OSError as error:
            failed = error.strerror or str(error)
            self.fault = f"the state of a job could not be recorded: {failed}"
            return failed
        self.fault = None
        return ""

    def save(self, job: LocalJob, run: Run | None = None, *, durable: bool = False) -> None:
        """Have the state of a run (or of an array as a whole) written soon, and again until it is."""
        name, content = job.state_file() if run is None else job.run_file(run)
        _, before = self._to_write.pop(name, (b"", False))
        self._to_write[name] = (content, durable or before)
        self._write_soon()

    def supersede(self, job: LocalJob, run: Run) -> None:
        """Do not write any more what waits to be written of a run: newer content is on its way."""
        self._to_write.pop(job.run_file(run)[0], None)

    def remove(self, names: list[str]) -> None:
        """Have files removed soon."""
        for name in names:
            self._to_write.pop(name, None)
        self._to_remove.extend(names)
        self._write_soon()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._tasks.start(self._write())

    async def _write(self) -> None:
        """Write and remove what waits for it; of a file that changed twice meanwhile, the last content."""
        told = False
        while self._to_write or self._to_remove:
            files, self._to_write = self._to_write, {}
            names, self._to_remove = self._to_remove, []
            failed = await self._try(self._folder.change, files, names)
            if failed:
                self._to_write = {**files, **self._to_write}
                self._to_remove = [*names, *self._to_remove]
                if self._closing:
                    break
                if not told:
                    log.warning("records of jobs could not be written and are tried again: %s", failed)
                told = True
                await asyncio.sleep(REWRITE_PAUSE)
        self._writing = False

    async def close(self) -> None:
        """Write what is still to be written, if that is possible, and end the thread."""
        self._closing = True
        await self._tasks.wait()
        if self._to_write:
            log.warning("records of %d jobs could not be written", len(self._to_write))
        self._thread.shutdown(wait=True)
