"""What every engine must do, asked of a real one with real jobs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from drmaaticd.drm.base import Action, Array, Engine, Found, JobState, Refused, Report
from tests.launching import PATIENCE, Cluster, in_loop, until

WAITING = "while [ ! -e go ]; do sleep 0.02; done"


async def state(engine: Engine, job_id: str) -> JobState:
    return (await report(engine, job_id)).state


async def report(engine: Engine, job_id: str) -> Report:
    return (await engine.states([job_id], 5.0))[job_id]


async def until_state(engine: Engine, job_id: str, wanted: JobState, patience: float = PATIENCE) -> None:
    async def there() -> bool:
        return await state(engine, job_id) is wanted

    await until(there, f"{job_id} is {wanted}", patience)


async def until_gone(engine: Engine, job_id: str) -> None:
    async def gone() -> bool:
        return await state(engine, job_id) in (JobState.ENDED, JobState.UNKNOWN)

    await until(gone, f"{job_id} is gone")


async def filled(engine: Engine, cluster: Cluster) -> list[Any]:
    """Jobs that take every slot until their folders hold a file `go`."""
    jobs = [cluster.place.job(WAITING) for _ in range(cluster.slots)]
    for job in jobs:
        cluster.ids[job.task] = await engine.submit(job)
        await until_state(engine, cluster.ids[job.task], JobState.RUNNING)
    return jobs


@in_loop
async def test_a_job_runs_and_its_launcher_tells_the_exit_status(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("echo hello; exit 3")
        job_id = await engine.submit(job)
        assert re.fullmatch(r"[1-9]\d*([._]\d+)?", job_id)
        await until_state(engine, job_id, JobState.ENDED)
        evidence = cluster.place.evidence(job.task)
        assert evidence.ending is not None
        assert evidence.ending.status == 3
        assert not evidence.ending.provisional
        assert evidence.claim is not None
        assert evidence.claim.job_id == job_id
        assert cluster.place.output(job.task) == "hello\n"
        assert engine.fault() is None


@in_loop
async def test_an_engine_with_no_jobs_says_that_it_works(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        await engine.ping()
        assert engine.fault() is None


@in_loop
async def test_a_report_names_the_task_where_the_engine_says_so(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        jobs = await filled(engine, cluster)
        reports = await engine.states([cluster.ids[job.task] for job in jobs], 60.0)
        told = {reports[cluster.ids[job.task]].task for job in jobs}
        assert told == ({job.task for job in jobs} if engine.tells_tasks else {None})
        for job in jobs:
            (job.folder / "go").touch()
        for job in jobs:
            await until_state(engine, cluster.ids[job.task], JobState.ENDED)


@in_loop
async def test_finished_is_asked_once_and_lets_the_job_be_forgotten(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job_id = await engine.submit(cluster.place.job("exit 0"))
        await until_state(engine, job_id, JobState.ENDED)
        assert (await engine.finished(job_id)).state is JobState.ENDED
        assert (await engine.finished(job_id)).state in (JobState.ENDED, JobState.UNKNOWN)


@in_loop
async def test_finished_does_not_forget_a_job_that_runs(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        jobs = await filled(engine, cluster)
        found = cluster.ids[jobs[0].task]
        assert (await engine.finished(found)).state is JobState.RUNNING
        assert await state(engine, found) is JobState.RUNNING
        await engine.control(found, Action.TERMINATE)
        await until_state(engine, found, JobState.ENDED)


@in_loop
async def test_an_unknown_id_is_no_ending(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        for strange in ("123456789", "1.5", "0", "-5", " 3", "3_x", "", "9" * 40, "12.999999999999999999999"):
            assert await state(engine, strange) is JobState.UNKNOWN
            assert (await engine.finished(strange)).state is JobState.UNKNOWN
            await engine.control(strange, Action.TERMINATE)


@in_loop
async def test_more_jobs_than_slots_wait_and_run_in_order(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        held = await filled(engine, cluster)
        order = cluster.place.common / "order"
        jobs = [cluster.place.job(f"echo {number} >>{order}") for number in range(5)]
        ids = [await engine.submit(job) for job in jobs]
        assert [await state(engine, job_id) for job_id in ids] == [JobState.QUEUED] * 5
        (held[0].folder / "go").touch()  # one slot: they can only come one after the other
        for job_id in ids:
            await until_state(engine, job_id, JobState.ENDED)
        assert order.read_text().split() == ["0", "1", "2", "3", "4"]
        (held[1].folder / "go").touch()


@in_loop
async def test_a_queued_job_is_held_and_released(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        held = await filled(engine, cluster)
        job_id = await engine.submit(cluster.place.job("exit 0"))
        await engine.control(job_id, Action.HOLD)
        assert await state(engine, job_id) is JobState.USER_HELD
        (held[0].folder / "go").touch()
        later = await engine.submit(cluster.place.job("exit 0"))
        await until_state(engine, later, JobState.ENDED)
        assert await state(engine, job_id) is JobState.USER_HELD
        await engine.control(job_id, Action.RELEASE)
        await until_state(engine, job_id, JobState.ENDED)
        (held[1].folder / "go").touch()


@in_loop
async def test_what_the_state_forbids_is_refused(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        running = await filled(engine, cluster)
        queued = await engine.submit(cluster.place.job("exit 0"))
        found = cluster.ids[running[0].task]
        with pytest.raises(Refused):
            await engine.control(found, Action.HOLD)
        with pytest.raises(Refused):
            await engine.control(queued, Action.SUSPEND)
        for job in running:
            (job.folder / "go").touch()
        await until_state(engine, queued, JobState.ENDED)
        for action in Action:
            await engine.control(queued, action)  # it has ended: no error


@in_loop
async def test_a_running_job_is_suspended_and_resumed(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("n=0; while [ ! -e go ]; do n=$((n+1)); echo $n >count; sleep 0.01; done")
        job_id = await engine.submit(job)
        count = job.folder / "count"
        await until(count.exists)
        await engine.control(job_id, Action.SUSPEND)
        assert await state(engine, job_id) is JobState.USER_SUSPENDED
        # A DRM may say so before its node has stopped the job: by the end of another one it has.
        await until_state(engine, await engine.submit(cluster.place.job("sleep 0.1")), JobState.ENDED)
        before = count.read_text()
        (job.folder / "go").touch()
        await until_state(engine, await engine.submit(cluster.place.job("sleep 0.1")), JobState.ENDED)
        assert count.read_text() == before
        assert await state(engine, job_id) is JobState.USER_SUSPENDED
        await engine.control(job_id, Action.RESUME)
        await until_state(engine, job_id, JobState.ENDED)
        ending = cluster.place.evidence(job.task).ending
        assert ending is not None
        assert ending.status == 0


@in_loop
async def test_a_queued_job_is_terminated_and_never_runs(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        held = await filled(engine, cluster)
        job = cluster.place.job("touch ran")
        job_id = await engine.submit(job)
        await engine.control(job_id, Action.TERMINATE)
        await until_state(engine, job_id, JobState.ENDED)
        assert (await report(engine, job_id)).killed
        for other in held:
            (other.folder / "go").touch()
        after = await engine.submit(cluster.place.job("exit 0"))
        await until_state(engine, after, JobState.ENDED)
        assert not (job.folder / "ran").exists()
        assert cluster.place.evidence(job.task).claim is None


@in_loop
async def test_a_running_job_is_terminated_and_says_so(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("touch here; sleep 600")
        job_id = await engine.submit(job)
        await until((job.folder / "here").exists)
        await engine.control(job_id, Action.TERMINATE)
        await engine.control(job_id, Action.TERMINATE)
        await until_state(engine, job_id, JobState.ENDED)
        assert (await report(engine, job_id)).killed
        ending = cluster.place.evidence(job.task).ending
        if cluster.gives_notice:
            assert ending is not None
            assert ending.signal == "SIGTERM"
            assert ending.provisional
        else:
            assert ending is None


@in_loop
async def test_a_suspended_job_is_terminated(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("touch here; sleep 600")
        job_id = await engine.submit(job)
        await until((job.folder / "here").exists)
        await engine.control(job_id, Action.SUSPEND)
        await engine.control(job_id, Action.TERMINATE)
        await until_state(engine, job_id, JobState.ENDED)
        ending = cluster.place.evidence(job.task).ending
        if cluster.gives_notice:
            assert ending is not None
            assert ending.signal == "SIGTERM"
        else:
            assert ending is None


@in_loop
async def test_the_time_limit_ends_a_job_with_a_reason(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job_id = await engine.submit(cluster.place.job("sleep 600", limit=1))
        await until_state(engine, job_id, JobState.ENDED, cluster.limit_patience)
        said = await report(engine, job_id)
        assert said.killed
        assert said.reason is not None
        assert "time limit" in said.reason
        assert (await engine.finished(job_id)).reason == said.reason


@in_loop
async def test_the_members_of_an_array_each_run_with_their_index(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        array = Array(2, 9, 3)
        job = cluster.place.job("echo $DRMAATICD_TASK_INDEX; exit $DRMAATICD_TASK_INDEX", array=array)
        job_id = await engine.submit(job)
        ids = [engine.element(job_id, index) for index in array.indices]
        for member in ids:
            await until_state(engine, member, JobState.ENDED)
        for index in array.indices:
            evidence = cluster.place.evidence(job.task, index)
            assert evidence.claim is not None
            assert evidence.claim.job_id == job_id
            assert evidence.ending is not None
            assert evidence.ending.status == index
            assert cluster.place.output(job.task, index) == f"{index}\n"
        assert await state(engine, job_id) in (JobState.ENDED, JobState.UNKNOWN)  # members are asked about
        assert await state(engine, engine.element(job_id, 3)) is JobState.UNKNOWN
        for member in ids:
            assert (await engine.finished(member)).state is JobState.ENDED


@in_loop
async def test_a_whole_array_is_terminated(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("touch ran.$DRMAATICD_TASK_INDEX; sleep 600", array=Array(1, 20))
        job_id = await engine.submit(job)
        await until((job.folder / "ran.1").exists)
        await engine.control(job_id, Action.TERMINATE)
        for index in Array(1, 20).indices:
            await until_state(engine, engine.element(job_id, index), JobState.ENDED)
        assert len(list(job.folder.glob("ran.*"))) <= cluster.slots


@in_loop
async def test_a_single_member_is_terminated_held_and_released(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        held = await filled(engine, cluster)
        job = cluster.place.job("touch ran.$DRMAATICD_TASK_INDEX", array=Array(1, 4))
        job_id = await engine.submit(job)
        ids = [engine.element(job_id, index) for index in (1, 2, 3, 4)]
        await engine.control(ids[1], Action.TERMINATE)
        await engine.control(ids[2], Action.HOLD)
        await until_state(engine, ids[1], JobState.ENDED)
        assert await state(engine, ids[2]) is JobState.USER_HELD
        for other in held:
            (other.folder / "go").touch()
        await until_state(engine, ids[0], JobState.ENDED)
        await until_state(engine, ids[3], JobState.ENDED)
        assert await state(engine, ids[2]) is JobState.USER_HELD
        await engine.control(ids[2], Action.RELEASE)
        await until_state(engine, ids[2], JobState.ENDED)
        assert sorted(path.name for path in job.folder.glob("ran.*")) == ["ran.1", "ran.3", "ran.4"]


@in_loop
async def test_many_are_asked_about_at_once(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        held = await filled(engine, cluster)
        ids = [await engine.submit(cluster.place.job("exit 0")) for _ in range(20)]
        answers = await engine.states([*ids, "987654321"], 5.0)
        assert {answers[job_id].state for job_id in ids} == {JobState.QUEUED}
        assert answers["987654321"].state is JobState.UNKNOWN
        assert await engine.states([], 5.0) == {}
        for job in held:
            (job.folder / "go").touch()
        for job_id in ids:
            await until_state(engine, job_id, JobState.ENDED)


@in_loop
async def test_a_new_engine_continues_where_the_old_one_stopped(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        running, ending = await filled(engine, cluster)
        queued = cluster.place.job("exit 4")
        queued_id = await engine.submit(queued)
        held_id = await engine.submit(cluster.place.job("exit 0"))
        await engine.control(held_id, Action.HOLD)
        ids = [cluster.ids[job.task] for job in (running, ending)]
    (ending.folder / "go").touch()
    await until(lambda: cluster.place.evidence(ending.task).ending)
    async with cluster.engine() as engine:
        for job, job_id in zip((running, ending), ids, strict=True):
            assert await engine.find(job.task) in (job_id, Found.CANNOT_TELL)
        assert await state(engine, ids[0]) is JobState.RUNNING
        await until_gone(engine, ids[1])  # a DRM may have forgotten what ended without a session
        await until_state(engine, queued_id, JobState.ENDED)
        assert await state(engine, held_id) is JobState.USER_HELD
        (running.folder / "go").touch()
        await until_state(engine, ids[0], JobState.ENDED)
        new_id = await engine.submit(cluster.place.job("exit 0"))
        assert new_id not in {*ids, queued_id, held_id}
        await until_state(engine, new_id, JobState.ENDED)
    for job, status in ((running, 0), (ending, 0), (queued, 4)):
        evidence = cluster.place.evidence(job.task)
        assert evidence.ending is not None
        assert evidence.ending.status == status
        assert evidence.ending.attempt == 1


@in_loop
async def test_a_task_is_found_by_its_uuid_or_certainly_not_there(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job(WAITING)
        assert await engine.find(job.task) in (Found.NONE, Found.CANNOT_TELL)
        job_id = await engine.submit(job)
        assert await engine.find(job.task) in (job_id, Found.CANNOT_TELL)
        (job.folder / "go").touch()
        await until_state(engine, job_id, JobState.ENDED)


@in_loop
async def test_an_engine_that_learns_of_endings_itself_tells_its_listener(cluster: Cluster) -> None:
    async with cluster.engine() as engine:
        job = cluster.place.job("exit 0")
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.ENDED)
        if engine.endings_are_prompt:
            assert cluster.heard.count((job.task, None)) == 2  # it started, and it ended
