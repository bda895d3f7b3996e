"""Helpers: a DRMAA engine on the real cell, jobs for it that are plain scripts, waiting for things."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmaaticd.drm.base import Action, EngineError, Job, JobState, PassingFault, Report
from drmaaticd.drm.drmaa import DrmaaEngine

#: Seconds in which something that the cell should do has been done. An execution daemon that lost its
#: master for a while tells of jobs that ended meanwhile after a minute or longer.
PATIENCE = 200.0

#: How often in a row a DRM must not know a job until that is believed: it may not know a new one yet.
UNKNOWN_FOR_GOOD = 30

_numbers = itertools.count(1)


@dataclass
class Cell:
    """The cell as a test sees it: a place for jobs, and engines over one state folder."""

    root: Path
    submitted: list[str] = field(default_factory=list)

    def job(self, script: str, **more: Any) -> Job:
        """A job whose run script is this text."""
        number = next(_numbers)
        folder = self.root / f"job-{number}"
        folder.mkdir()
        run_script = folder / "run.sh"
        run_script.write_text(f"{script}\n")
        return Job(
            task=str(uuid.uuid4()), name=f"t-test-{number}", run_script=run_script, folder=folder, **more
        )

    @asynccontextmanager
    async def engine(self, **more: Any) -> AsyncIterator[DrmaaEngine]:
        """A started engine; whoever comes next takes up its session."""
        engine = DrmaaEngine(self.root, **more)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()

    async def submit(self, engine: DrmaaEngine, script: str, **more: Any) -> str:
        """Submit such a job; it is deleted when the test is over."""
        job_id = await engine.submit(self.job(script, **more))
        self.submitted.append(job_id)
        return job_id


async def state(engine: DrmaaEngine, job_id: str) -> JobState | None:
    """What the DRM says of a job now; None if it did not answer."""
    try:
        reports = await engine.states([job_id], 5.0)
    except PassingFault:
        return None
    return reports[job_id].state if job_id in reports else None


async def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a coroutine function to give something true, and return that."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        answer = await condition()
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.1)


async def until_state(engine: DrmaaEngine, job_id: str, wanted: JobState) -> None:
    """Wait until the DRM says this of a job."""

    async def there() -> bool:
        return await state(engine, job_id) is wanted

    await until(there, f"job {job_id} is {wanted}, not {await state(engine, job_id)}")


async def ending(engine: DrmaaEngine, job_id: str) -> Report:
    """How a job ended, once the DRM has noticed; or that the DRM does not know it, and goes on saying so."""
    unknown = 0

    async def ended() -> Report | None:
        nonlocal unknown
        try:
            report = await engine.finished(job_id)
        except EngineError:
            return None
        unknown = unknown + 1 if report.state is JobState.UNKNOWN else 0
        return report if report.state is JobState.ENDED or unknown >= UNKNOWN_FOR_GOOD else None

    found: Report = await until(ended, f"job {job_id} has ended")
    return found


async def until_file(cell: Cell, name: str) -> Path:
    """Wait until a job has made this file in its folder; returns its path."""

    async def there() -> Path | None:
        return next(cell.root.glob(f"job-*/{name}"), None)

    found: Path = await until(there, f"a file {name}")
    return found


async def terminate(engine: DrmaaEngine, *job_ids: str) -> None:
    """End these jobs, and wait for it."""
    for job_id in job_ids:
        await engine.control(job_id, Action.TERMINATE)
        await ending(engine, job_id)
