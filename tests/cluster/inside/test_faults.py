"""The adapter while a real Grid Engine is disturbed: what it says meanwhile, and that it recovers.

Restarts of the queue master take most of the time: its execution daemon is seen again late.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from drmaaticd.drm.base import Action, JobState, PassingFault
from tests.cluster.inside.cells import Cell, ending, state, until, until_file, until_state
from tests.cluster.warden import ask
from tests.launching import in_loop

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def _whole_again() -> Iterator[None]:
    """Whatever a test did to the cell is undone."""
    yield
    ask("start")
    ask("enable")


async def away() -> None:
    """The queue master is gone, as by a crash."""
    await asyncio.to_thread(ask, "kill-master")


async def back() -> None:
    """It is there again, and knows of its node."""
    await asyncio.to_thread(ask, "start-master")
    await asyncio.to_thread(ask, "rouse")


@in_loop
async def test_the_master_is_killed_while_jobs_queue_run_and_end(cell: Cell) -> None:
    async with cell.engine() as engine:
        queued = await cell.submit(engine, "exit 5", native="-h")
        running = await cell.submit(engine, "while [ ! -e go ]; do sleep 0.1; done; exit 6")
        ends = await cell.submit(engine, "sleep 3; touch ended; exit 7")
        await until_state(engine, running, JobState.RUNNING)
        await until_state(engine, ends, JobState.RUNNING)
        await away()
        with pytest.raises(PassingFault):
            await engine.submit(cell.job("exit 0"))
        assert engine.fault() is not None
        with pytest.raises(PassingFault):
            await engine.states([queued, running, ends], 5.0)
        with pytest.raises(PassingFault):
            await engine.control(queued, Action.RELEASE)
        await until_file(cell, "ended")
        assert engine.fault() is not None
        await back()

        async def well() -> bool:
            return await state(engine, queued) is JobState.USER_HELD and engine.fault() is None

        await until(well, "the engine is well again")
        assert await state(engine, running) is JobState.RUNNING
        report = await ending(engine, ends)
        # With or without a record: the launcher's word counts. Never a wrong status.
        assert report.exit_status in (7, None)
        for go in cell.root.glob("job-*"):
            (go / "go").touch()
        assert (await ending(engine, running)).exit_status in (6, None)
        await engine.control(queued, Action.RELEASE)
        assert (await ending(engine, queued)).exit_status == 5  # begun and ended in the new session
        assert engine.fault() is None


@in_loop
async def test_the_master_is_away_when_the_daemon_starts(cell: Cell) -> None:
    await away()
    async with cell.engine() as engine:
        assert engine.fault() is not None
        with pytest.raises(PassingFault):
            await engine.submit(cell.job("exit 0"))
        await back()

        async def submitted() -> str | None:
            try:
                return await cell.submit(engine, "exit 8")
            except PassingFault:
                return None

        job_id = await until(submitted, "the master takes jobs")
        assert engine.fault() is None
        assert (await ending(engine, job_id)).exit_status == 8


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
async def test_a_session_that_has_gone_deaf_is_opened_anew(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master that was restarted between two calls leaves a session that hears of no ending."""
    monkeypatch.setattr("drmaaticd.drm.drmaa.DEAF_AFTER", 3.0)
    async with cell.engine() as engine:
        job_id = await cell.submit(engine, "while [ ! -e go ]; do sleep 0.1; done; exit 9")
        await until_state(engine, job_id, JobState.RUNNING)
        await away()
        await back()
        next(cell.root.glob("job-*")).joinpath("go").touch()
        report = await ending(engine, job_id)
        assert report.exit_status in (9, None)
        again = await cell.submit(engine, "exit 3")
        assert (await ending(engine, again)).exit_status == 3


@in_loop
async def test_a_job_is_deleted_behind_the_daemons_back(cell: Cell) -> None:
    async with cell.engine() as engine:
        running = await cell.submit(engine, "sleep 600")
        queued = await cell.submit(engine, "sleep 600", native="-h")
        await until_state(engine, running, JobState.RUNNING)
        await asyncio.to_thread(subprocess.run, ["qdel", running, queued], check=True, capture_output=True)
        for job_id in (running, queued):
            await until_state(engine, job_id, JobState.ENDED)
            assert (await engine.finished(job_id)).killed


@in_loop
async def test_a_disabled_queue_keeps_jobs_waiting(cell: Cell) -> None:
    async with cell.engine() as engine:
        ask("disable")
        job_id = await cell.submit(engine, "exit 2")
        assert await state(engine, job_id) is JobState.QUEUED
        assert engine.fault() is None
        ask("enable")
        assert (await ending(engine, job_id)).exit_status == 2


@in_loop
@pytest.mark.parametrize("rerunnable", [True, False])
async def test_a_job_is_requeued(cell: Cell, rerunnable: bool) -> None:
    async with cell.engine() as engine:
        script = "echo run >>runs; [ $(wc -l <runs) = 2 ] && exit 4; sleep 600"
        job_id = await cell.submit(engine, script, rerunnable=rerunnable)
        await until_state(engine, job_id, JobState.RUNNING)
        runs = await until_file(cell, "runs")
        ask("requeue", job_id)
        if rerunnable:
            assert (await ending(engine, job_id)).exit_status == 4
            assert runs.read_text() == "run\nrun\n"
        else:
            assert await state(engine, job_id) is JobState.RUNNING
            await engine.control(job_id, Action.TERMINATE)
            assert (await ending(engine, job_id)).killed
            assert runs.read_text() == "run\n"


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
