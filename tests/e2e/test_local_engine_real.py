"""The embedded engine with control groups, and under kills at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drmaaticd.drm import cgroups, local, processes
from drmaaticd.drm.base import Action, JobState
from drmaaticd.drm.local import LocalEngine
from tests.launching import Place, end_all, in_loop, until

#: Submits jobs one by one, telling of each that was taken, while it is killed at any moment.
HOST = """
import asyncio, json, sys
from pathlib import Path
from drmaaticd.drm.base import Job
from drmaaticd.drm.local import LocalEngine

async def main():
    state, jobs = json.loads(sys.argv[1])
    engine = LocalEngine(Path(state), 3)
    await engine.start()
    print("ready", flush=True)
    for task, script in jobs:
        job = Job(task=task, name="t", run_script=Path(script), folder=Path("/"))
        print(task, await engine.submit(job), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def ended(engine: LocalEngine, job_id: str) -> None:
    async def gone() -> bool:
        return (await engine.states([job_id], 5.0))[job_id].state is JobState.ENDED

    await until(gone, f"{job_id} has ended", patience=60)


@pytest.mark.timeout(300)
@in_loop
async def test_kills_at_any_moment_lose_no_job_and_double_none(tmp_path: Path) -> None:
    place, state = Place(tmp_path / "tasks"), tmp_path / "state"
    chance = random.Random(20261124)  # the moments are arbitrary; a failure shows them again roughly
    jobs = {job.task: job for job in (place.job("echo x >>count; sleep 0.02; exit 3") for _ in range(120))}
    taken: dict[str, str] = {}
    rounds = 0
    while len(taken) < len(jobs):
        rounds += 1
        todo = [(task, str(job.run_script)) for task, job in jobs.items() if task not in taken][:25]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOST, json.dumps([str(state), todo])),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(local.__file__).parents[2],
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(chance.uniform(0, 0.15))  # not waiting for anything: the moment is to vary
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        await process.wait()
        for line in rest.decode().splitlines():
            if len(parts := line.split()) == 2:
                taken[parts[0]] = parts[1]
    assert rounds >= 5
    engine = LocalEngine(state, 3)
    await engine.start()
    for job_id in taken.values():
        await ended(engine, job_id)
    # A job that was taken though its submitter did not live to say so may be the one that runs.
    await until(lambda: all(place.evidence(task).ending for task in taken), patience=60)
    await engine.close()
    for task in taken:
        assert (jobs[task].folder / "count").read_text() == "x\n", task
        ending = place.evidence(task).ending
        assert ending is not None
        assert ending.status == 3


def _cgroup_mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    return None


def _made_cgroup() -> Path:
    """A control group in which others may be made; without one the test is skipped."""
    mount = cgroups.delegated() or _cgroup_mount()
    parent = None if mount is None else mount / f"drmaaticd-test-{os.getpid()}"
    try:
        if parent is not None:
            parent.mkdir()
    except OSError:
        parent = None
    if parent is None:
        pytest.skip("CONTROL GROUPS ARE NOT TESTED: this account may not make one here")
    return parent


@pytest.mark.parametrize("by", ["termination", "its own end"])
@in_loop
async def test_nothing_escapes_from_a_control_group(tmp_path: Path, by: str) -> None:
    parent = _made_cgroup()
    place = Place(tmp_path / "tasks")
    engine = LocalEngine(tmp_path / "state", 2, kill_after=0.0, cgroup=parent)
    await engine.start()
    try:
        # Twice away: no common session, ancestor or environment is left.
        away = "(env -i /usr/bin/setsid /bin/sh -c 'sleep 600 & echo $! >away.pid' &)"
        job = place.job(
            f"{away}; while [ ! -s away.pid ]; do sleep 0.01; done; touch here; {{}}".format(
                "sleep 600" if by == "termination" else "exit 3"
            )
        )
        job_id = await engine.submit(job)
        await until((job.folder / "here").exists)
        pid = int((job.folder / "away.pid").read_text())
        if by == "termination":
            assert processes.read_stat(pid) is not None
            await engine.control(job_id, Action.SUSPEND)
            await until(lambda: (stat := processes.read_stat(pid)) is not None and stat.state == "T")
            await engine.control(job_id, Action.TERMINATE)
        await ended(engine, job_id)
        await until(lambda: (stat := processes.read_stat(pid)) is None or stat.state in "ZX")
        await until(lambda: not (parent / "drmaaticd-jobs" / job_id).exists())
        ending = place.evidence(job.task).ending
        assert ending is not None
        assert ending.status == (137 if by == "termination" else 3) or ending.signal == "SIGTERM"
    finally:
        await end_all(engine, place)
        await engine.close()
        await until(lambda: not cgroups.pids(parent))
        assert cgroups.remove(parent)


@pytest.mark.logs("no control groups at present.*Resource temporarily unavailable")
@in_loop
async def test_jobs_get_control_groups_again_once_there_may_be_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses further groups (cgroup.max.descendants), and later does not."""
    parent = _made_cgroup()
    place = Place(tmp_path / "tasks")
    engine = LocalEngine(tmp_path / "state", 4, kill_after=0.0, cgroup=parent)
    await engine.start()
    try:
        monkeypatch.setattr(cgroups, "FIRST_PAUSE", 0.0)
        limit = parent / "cgroup.max.descendants"

        async def started() -> str:
            job = place.job("touch here; sleep 600")
            job_id = await engine.submit(job)
            await until((job.folder / "here").exists)
            return job_id

        groups = parent / "drmaaticd-jobs"
        with_one = await started()
        assert (groups / with_one).is_dir()
        limit.write_text("2")
        without = [await started() for _ in range(2)]
        limit.write_text("max")
        monkeypatch.setattr(cgroups, "monotonic", lambda: float("inf"))
        again = await started()
        assert sorted(path.name for path in groups.iterdir() if path.is_dir()) == sorted([with_one, again])
        for job_id in (with_one, *without, again):  # each is within reach
            await engine.control(job_id, Action.TERMINATE)
            await ended(engine, job_id)
    finally:
        await end_all(engine, place)
        await engine.close()
        await until(lambda: not cgroups.pids(parent))
        assert cgroups.remove(parent)


def test_of_a_process_without_control_group_none_is_made_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from drmaaticd.drm import cgroups; print(cgroups.delegated())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(local.__file__).parents[2],
    )
    answer = done.stdout.strip()
    assert answer == "None" or (Path(answer) / "cgroup.procs").exists()
