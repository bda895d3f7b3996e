"""The adapter itself while a real Grid Engine is disturbed, where the daemon would hide what it says.

What tasks come to is in `test_daemon_faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from drmaaticd.drm.base import Action, JobState, PassingFault
from tests.cluster.inside.cells import Cell, ending, state, until, until_state
from tests.cluster.warden import ask
from tests.launching import in_loop

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def _whole_again() -> Iterator[None]:
    """Whatever a test did to the cell is undone."""
    yield
    ask("mend")
    ask("enable")


async def away() -> None:
    """The queue master is gone, as by a crash."""
    await asyncio.to_thread(ask, "kill-master")


async def back() -> None:
    """It is there again, and knows of its node."""
    await asyncio.to_thread(ask, "start-master")
    await asyncio.to_thread(ask, "rouse")


@in_loop
async def test_the_master_goes_away_amid_submissions(cell: Cell) -> None:
    """Each submission has an answer; a job whose answer was an id exists, once."""
    async with cell.engine() as engine:
        answers: list[str | PassingFault] = []

        async def submit_some() -> None:
            for _ in range(200):
                try:
                    answers.append(await cell.submit(engine, "exit 0", native="-h"))
                except PassingFault as fault:
                    answers.append(fault)
                    await asyncio.sleep(0.02)

        submitting = asyncio.create_task(submit_some())

        async def some() -> bool:
            return len(answers) >= 20

        await until(some, "some were submitted")
        await away()
        await submitting
        ids = [answer for answer in answers if isinstance(answer, str)]
        assert len(ids) < len(answers)
        await back()

        async def well() -> bool:
            return await state(engine, ids[0]) is not None and engine.fault() is None

        await until(well, "the engine is well again")
        reports = await engine.states(ids[:-1], 60.0)
        assert {report.state for report in reports.values()} == {JobState.USER_HELD}
        assert len(set(ids)) == len(ids)
        for job_id in ids:
            await engine.control(job_id, Action.TERMINATE)


@in_loop
async def test_an_engine_that_was_killed_leaves_jobs_that_the_next_can_wait_for(cell: Cell) -> None:
    async with cell.engine() as engine:
        running = await cell.submit(engine, "while [ ! -e go ]; do sleep 0.1; done; exit 6")
        await until_state(engine, running, JobState.RUNNING)
        # As a crash does: the process's session is not closed, and its contact stays.
        await engine._runner.run(engine._session._session.exit)
        engine._session._open = False
    async with cell.engine() as engine:
        assert await state(engine, running) is JobState.RUNNING
        next(cell.root.glob("job-*")).joinpath("go").touch()
        assert (await ending(engine, running)).exit_status == 6
