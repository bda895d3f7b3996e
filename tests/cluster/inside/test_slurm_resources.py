"""What jobs ask a real Slurm for beyond cores and time: licences, generic resources."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from drmaaticd.drm.base import Action, Job, JobState, Refused
from drmaaticd.drm.slurm import SlurmEngine
from tests.launching import Place, end_all, in_loop, until

PARTITION = os.environ.get("DRM_PARTITION", "main")

WAITING = "until [ -e go ]; do sleep 0.02; done"


@asynccontextmanager
async def engine() -> AsyncIterator[SlurmEngine]:
    made = SlurmEngine(native={"always": f"--partition={PARTITION}"})
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "tasks")

    async def clean_up() -> None:
        async with engine() as slurm:
            await end_all(slurm, made)

    yield made
    asyncio.run(clean_up())


def shown(job_id: str) -> str:
    """What Slurm itself says of a job."""
    return subprocess.run(
        ["scontrol", "show", "job", job_id], capture_output=True, text=True, check=True
    ).stdout


async def is_in(slurm: SlurmEngine, job_id: str, state: JobState) -> None:
    async def there() -> bool:
        return (await slurm.states([job_id], 60.0))[job_id].state is state

    await until(there, f"job {job_id} to be {state}", patience=60.0)


async def one_after_the_other(slurm: SlurmEngine, first: Job, second: Job, reason: str | None) -> list[str]:
    """The second waits for what the first has; their ids. Both end."""
    ids = [await slurm.submit(first)]
    await is_in(slurm, ids[0], JobState.RUNNING)
    ids.append(await slurm.submit(second))

    async def told() -> bool:
        report = (await slurm.states([ids[1]], 60.0))[ids[1]]
        return report.state is JobState.QUEUED and report.reason == reason

    await until(told, f"that it waits: {reason}", patience=60.0)
    assert (await slurm.states(ids, 60.0))[ids[0]].state is JobState.RUNNING
    (first.folder / "go").touch()
    for job_id in ids:
        await is_in(slurm, job_id, JobState.ENDED)
    return ids


@in_loop
async def test_licences(place: Place) -> None:
    """The cluster has two of them."""
    async with engine() as slurm:
        first = replace(place.job(WAITING), licenses="matlab:2")
        second = replace(place.job("exit 0"), licenses="matlab:1")
        ids = await one_after_the_other(slurm, first, second, "waits: Licenses")
        assert "Licenses=matlab:2" in shown(ids[0])
        with pytest.raises(Refused, match=r"(?i)license"):
            await slurm.submit(replace(place.job("exit 0"), licenses="mathematica:1"))


@in_loop
async def test_generic_resources(place: Place) -> None:
    """The node has two of them, and the job is told which are its own."""
    async with engine() as slurm:
        first = replace(place.job(f'echo "$CUDA_VISIBLE_DEVICES"; {WAITING}'), gres="gpu:2")
        second = replace(place.job('echo "$CUDA_VISIBLE_DEVICES"'), gres="gpu:1")
        ids = await one_after_the_other(slurm, first, second, None)
        assert re.search(r"TresPerNode=(gres[:/])?gpu:2", shown(ids[0]))  # releases differ
        assert place.output(first.task) == "0,1\n"
        assert re.fullmatch(r"[01]\n", place.output(second.task))
        with pytest.raises(Refused):
            await slurm.submit(replace(place.job("exit 0"), gres="gpu:3"))


@in_loop
async def test_many_jobs_at_once_are_submitted_once_each(place: Place) -> None:
    async with engine() as slurm:
        jobs = [replace(place.job("exit 0"), native="--hold") for _ in range(60)]
        ids = await asyncio.gather(*(slurm.submit(job) for job in jobs))
        reports = await slurm.states(ids, 60.0)
        assert [reports[job_id].task for job_id in ids] == [job.task for job in jobs]
        listed = (await slurm._list()).reports
        mine = {job.task for job in jobs}
        assert sum(report.task in mine for report in listed.values()) == len(jobs)
        for job_id in ids:
            await slurm.control(job_id, Action.TERMINATE)
