"""The engine in memory does what its script says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drmaaticd.drm.base import Action, Array, Engine, Found, Job, JobState, PassingFault, Refused, Report
from drmaaticd.drm.memory import MemoryEngine
from tests.launching import in_loop, until


def job(task: str = "a", **more: Any) -> Job:
    return Job(task=task, name="t", run_script=Path("/x/run.sh"), folder=Path("/x"), **more)


async def state(engine: Engine, job_id: str) -> JobState:
    return (await engine.states([job_id], 1.0))[job_id].state


@in_loop
async def test_a_job_goes_the_way_it_is_sent() -> None:
    engine: Engine = MemoryEngine()
    assert isinstance(engine, MemoryEngine)
    await engine.start()
    job_id = await engine.submit(job())
    assert await state(engine, job_id) is JobState.QUEUED
    engine.begin(job_id)
    assert await state(engine, job_id) is JobState.RUNNING
    assert (await engine.finished(job_id)).state is JobState.RUNNING
    engine.requeue(job_id)
    assert await state(engine, job_id) is JobState.QUEUED
    engine.end(job_id, 3)
    assert await engine.finished(job_id) == Report(JobState.ENDED, 3)
    assert (await engine.finished(job_id)).state is JobState.UNKNOWN
    await engine.close()
    assert engine.calls[:2] == [("start", ""), ("submit", "a")]
    assert engine.submitted == [job()]


@in_loop
async def test_control() -> None:
    engine = MemoryEngine()
    job_id = await engine.submit(job())
    with pytest.raises(Refused):
        await engine.control(job_id, Action.SUSPEND)
    await engine.control(job_id, Action.HOLD)
    assert await state(engine, job_id) is JobState.USER_HELD
    await engine.control(job_id, Action.RELEASE)
    engine.begin(job_id)
    await engine.control(job_id, Action.SUSPEND)
    assert await state(engine, job_id) is JobState.USER_SUSPENDED
    await engine.control(job_id, Action.RESUME)
    await engine.control(job_id, Action.TERMINATE)
    assert (await engine.finished(job_id)).killed
    await engine.control(job_id, Action.TERMINATE)


@in_loop
async def test_an_array_and_its_members() -> None:
    engine = MemoryEngine()
    job_id = await engine.submit(job(array=Array(1, 3)))
    engine.end(engine.element(job_id, 2), 0)
    await engine.control(job_id, Action.TERMINATE)
    reports = await engine.states(engine.ids_of("a"), 1.0)
    assert [report.killed for report in reports.values()] == [True, False, True]
    assert await state(engine, engine.element(job_id, 9)) is JobState.UNKNOWN


@in_loop
async def test_a_drm_that_is_away() -> None:
    engine = MemoryEngine()
    job_id = await engine.submit(job())
    engine.leave("gone fishing")
    assert engine.fault() == "gone fishing"
    for call in (engine.submit(job("b")), engine.states([job_id], 1.0), engine.finished(job_id)):
        with pytest.raises(PassingFault, match="gone fishing"):
            await call
    engine.come_back()
    assert engine.fault() is None
    assert engine.ids_of("b") == []
    assert await state(engine, job_id) is JobState.QUEUED


@in_loop
async def test_refusals_and_lost_answers_befall_the_next_call_alone() -> None:
    engine = MemoryEngine()
    engine.fail_next("submit", Refused("no such queue"))
    engine.fail_next("submit", PassingFault("the answer is lost"), lost=True)
    with pytest.raises(Refused):
        await engine.submit(job())
    assert engine.ids_of("a") == []
    with pytest.raises(PassingFault):
        await engine.submit(job())
    assert engine.ids_of("a") == ["1"]
    assert await engine.submit(job()) == "2"
    engine.fail_next("control hold", PassingFault("x"))
    with pytest.raises(PassingFault):
        await engine.control("2", Action.HOLD)
    await engine.control("2", Action.HOLD)


@in_loop
async def test_a_delayed_call() -> None:
    engine = MemoryEngine()
    gate = engine.delay_next("submit")
    submitting = asyncio.create_task(engine.submit(job()))
    await until(lambda: engine.calls)
    assert not submitting.done()
    gate.set()
    assert await submitting == "1"


@in_loop
async def test_lies_forgetting_and_ids_used_again() -> None:
    engine = MemoryEngine()
    job_id = await engine.submit(job())
    engine.end(job_id, 4)
    engine.lie(job_id, Report(JobState.ENDED, 0))
    assert (await engine.states([job_id], 1.0))[job_id].exit_status == 0
    engine.lie(job_id, None)
    assert (await engine.states([job_id], 1.0))[job_id].exit_status == 4
    engine.move(job_id, JobState.SYSTEM_HELD, "maintenance")
    assert (await engine.states([job_id], 1.0))[job_id].reason == "maintenance"
    engine.forget(job_id)
    assert await state(engine, job_id) is JobState.UNKNOWN
    engine.use_ids_again()
    assert await engine.submit(job("b")) == job_id


@in_loop
async def test_finding() -> None:
    assert await MemoryEngine().find("a") is Found.CANNOT_TELL
    engine = MemoryEngine(can_find=True)
    assert await engine.find("a") is Found.NONE
    job_id = await engine.submit(job(array=Array(1, 2)))
    assert await engine.find("a") == job_id


@in_loop
async def test_only_an_engine_that_learns_of_endings_tells_of_them() -> None:
    for prompt in (True, False):
        engine = MemoryEngine(endings_are_prompt=prompt)
        heard: list[tuple[str, int | None]] = []
        engine.listener = lambda task, index, heard=heard: heard.append((task, index))
        job_id = await engine.submit(job())
        engine.begin(job_id)
        engine.end(job_id)
        assert heard == ([("a", None)] * 2 if prompt else [])
