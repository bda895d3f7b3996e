"""The embedded engine beyond the contract: crashes, restarts, trees of processes, shortages, numbers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.drm import local, localrecords, processes
from drmaaticd.drm.accounts import OwnAccount
from drmaaticd.drm.base import Action, Array, Found, JobState, PassingFault, Report, Usage
from drmaaticd.drm.local import LocalEngine
from drmaaticd.drm.localjobs import JobFolder, LocalJob, Phase, Run
from drmaaticd.drm.processes import Identity
from tests.launching import Place, end_all, in_loop, until

WAITING = "while [ ! -e go ]; do sleep 0.02; done"

#: Hosts an engine in a process of its own, submits the jobs it is told of, and waits to be killed.
HOST = """
import asyncio, json, sys
from pathlib import Path
from drmaaticd.drm.base import Array, Job
from drmaaticd.drm.local import LocalEngine

async def main():
    state, slots, jobs = json.loads(sys.argv[1])
    engine = LocalEngine(Path(state), slots)
    await engine.start()
    for task, script, folder, array in jobs:
        job = Job(task=task, name="t", run_script=Path(script), folder=Path(folder),
                  array=Array(*array) if array else None)
        print(await engine.submit(job), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tasks")


@pytest.fixture
def state(tmp_path: Path, place: Place) -> Iterator[Path]:
    """The engine's state folder; what a test leaves running is ended after it."""
    folder = tmp_path / "state"
    yield folder

    async def end() -> None:
        async with running(folder) as engine:
            await end_all(engine, place)

    if (folder / "local").is_dir():
        asyncio.run(end())


@contextlib.asynccontextmanager
async def running(state: Path, slots: int = 2, **more: Any) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(state, slots, **{"kill_after": 0.3, **more})
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def report(engine: LocalEngine, job_id: str) -> Report:
    return (await engine.states([job_id], 5.0))[job_id]


async def until_state(engine: LocalEngine, job_id: str, wanted: JobState) -> Report:
    async def there() -> Report | None:
        said = await report(engine, job_id)
        return said if said.state is wanted else None

    said: Report = await until(there, f"{job_id} is {wanted}")
    return said


def alive(pid: int) -> bool:
    stat = processes.read_stat(pid)
    return stat is not None and stat.state not in "ZX"


def pid_in(file: Path) -> int:
    """The pid that a job wrote; 0 until it is there."""
    text = file.read_text() if file.exists() else ""
    return int(text) if text.endswith("\n") else 0


def state_of(state: Path, job_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((state / "local" / f"{job_id}.state.json").read_bytes())
    return document


def identity_of(state: Path, job_id: str) -> Identity:
    boot, pid, start = state_of(state, job_id)["identity"]
    return Identity(boot, pid, start)


def change_state(state: Path, job_id: str, **members: Any) -> None:
    """What another history would have left on disk."""
    path = state / "local" / f"{job_id}.state.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **members}))


# -- crash and restart ----------------------------------------------------------------------------


@in_loop
async def test_jobs_go_on_when_their_daemon_is_killed(place: Place, state: Path) -> None:
    jobs = [place.job(WAITING + "; exit 3"), place.job(WAITING + "; exit 4"), place.job("exit 5")]
    array = place.job("exit $DRMAATICD_TASK_INDEX", array=Array(1, 3))
    orders = [
        (job.task, str(job.run_script), str(job.folder), [1, 3, 1] if job.array else None)
        for job in (*jobs, array)
    ]
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", HOST, json.dumps([str(state), 2, orders])],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(local.__file__).parents[2],
    ) as host:
        assert host.stdout is not None
        ids = [(await asyncio.to_thread(host.stdout.readline)).strip() for _ in orders]
        await until(lambda: all(place.evidence(job.task).claim for job in jobs[:2]))
        host.kill()
    (jobs[0].folder / "go").touch()
    await until(lambda: place.evidence(jobs[0].task).ending)
    assert place.evidence(jobs[1].task).ending is None
    async with running(state) as engine:
        assert await engine.find(jobs[0].task) == ids[0]
        await until_state(engine, ids[0], JobState.ENDED)
        assert (await report(engine, ids[1])).state is JobState.RUNNING
        await until_state(engine, ids[2], JobState.ENDED)
        for index in (1, 2, 3):
            await until_state(engine, f"{ids[3]}.{index}", JobState.ENDED)
        (jobs[1].folder / "go").touch()
        await until_state(engine, ids[1], JobState.ENDED)
    endings = [place.evidence(job.task).ending for job in jobs]
    endings += [place.evidence(array.task, index).ending for index in (1, 2, 3)]
    assert [(ending and ending.status, ending and ending.attempt) for ending in endings] == [
        (status, 1) for status in (3, 4, 5, 1, 2, 3)
    ]


@in_loop
async def test_after_a_reboot_running_jobs_have_ended_and_queued_ones_start(
    place: Place, state: Path
) -> None:
    async with running(state, slots=1) as engine:
        job, queued = place.job("exec sleep 600"), place.job("exit 0")
        job_id, queued_id = await engine.submit(job), await engine.submit(queued)
        await until_state(engine, job_id, JobState.RUNNING)
        await until(lambda: place.evidence(job.task).claim)
    identity = identity_of(state, job_id)
    change_state(state, job_id, identity=["another-boot", identity.pid, identity.start])
    async with running(state, slots=1) as engine:
        said = await report(engine, job_id)
        assert (said.state, said.killed, said.reason) == (JobState.ENDED, True, "machine restarted")
        await until_state(engine, queued_id, JobState.ENDED)
    ending = place.evidence(queued.task).ending
    assert ending is not None
    assert ending.status == 0


@in_loop
async def test_another_process_with_the_pid_is_neither_adopted_nor_signalled(
    place: Place, state: Path
) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)  # noqa: ASYNC220
    try:
        known = processes.read_stat(stranger.pid)
        assert known is not None
        async with running(state) as engine:
            job = place.job(WAITING)
            job_id = await engine.submit(job)
            await until_state(engine, job_id, JobState.RUNNING)
        (job.folder / "go").touch()
        await until(lambda: place.evidence(job.task).ending)
        identity = [identity_of(state, job_id).boot, stranger.pid, known.start - 1]
        change_state(state, job_id, identity=identity, killed=True)
        async with running(state, kill_after=0.0) as engine:
            assert (await report(engine, job_id)).state is JobState.ENDED
            await engine.control(job_id, Action.TERMINATE)
            done = await engine.submit(place.job("exit 0"))
            await until_state(engine, done, JobState.ENDED)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("had_begun", [False, True])
@in_loop
async def test_a_crash_while_a_job_is_being_started_neither_loses_nor_doubles_it(
    place: Place, state: Path, had_begun: bool
) -> None:
    async with running(state) as engine:
        job = place.job("echo x >>count")
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.ENDED)
    identity = identity_of(state, job_id)
    members = [identity.boot, identity.pid, identity.start]
    (state / "local" / f"{job_id}.state.json").write_text(
        json.dumps({"phase": "starting", "identity": members})
    )
    if not had_begun:
        for file in (*job.run_script.parent.glob("ended.*"), job.run_script.parent / "claim"):
            file.unlink()
        (job.folder / "count").unlink()
    async with running(state) as engine:
        await until_state(engine, job_id, JobState.ENDED)
        await until(lambda: state_of(state, job_id)["phase"] == "ended")
    assert (job.folder / "count").read_text() == "x\n"
    assert state_of(state, job_id)["restart"] == 1
    claim = place.evidence(job.task).claim
    assert claim is not None
    assert (claim.job_id, claim.restart) == (job_id, 0 if had_begun else 1)


@in_loop
async def test_a_process_that_was_not_released_ends_with_its_parent(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    held = processes.start_held(["/bin/sh", "-c", f"touch {ran}"], {"PATH": "/usr/bin:/bin"}, OwnAccount())
    held.close()
    await until(lambda: processes.has_ended(held.pidfd))
    os.close(held.pidfd)
    assert processes.reap(held.identity.pid).status == 0
    assert not ran.exists()
    assert processes.open_process(held.identity) is None


@in_loop
async def test_a_time_limit_holds_through_a_restart(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job = place.job("sleep 600", limit=1)
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.RUNNING)
    async with running(state) as engine:
        said = await until_state(engine, job_id, JobState.ENDED)
        assert (said.killed, said.reason) == (True, "time limit reached (1 s)")
    async with running(state) as engine:  # the reason is kept until it was asked for
        assert (await engine.finished(job_id)).reason == "time limit reached (1 s)"
        assert await engine.find(job.task) is Found.NONE
    assert [path.name for path in (state / "local").iterdir()] == ["sequence"]


@in_loop
async def test_a_termination_is_continued_by_the_next_engine(place: Place, state: Path) -> None:
    async with running(state, kill_after=600.0) as engine:
        job = place.job("trap '' TERM; touch here; while :; do sleep 0.05; done")
        job_id = await engine.submit(job)
        await until((job.folder / "here").exists)
        await engine.control(job_id, Action.TERMINATE)
    assert state_of(state, job_id)["killed"]
    async with running(state, kill_after=0.0) as engine:
        said = await until_state(engine, job_id, JobState.ENDED)
        assert said.killed
    ending = place.evidence(job.task).ending
    assert ending is not None  # its launcher was spared for as long as it needed to say this
    assert ending.signal == "SIGKILL"


@in_loop
async def test_holds_suspensions_and_cuts_are_kept(place: Place, state: Path) -> None:
    async with running(state, slots=1) as engine:
        job = place.job("touch here; " + WAITING)
        suspended = await engine.submit(job)
        await until((job.folder / "here").exists)
        await engine.control(suspended, Action.SUSPEND)
        held = await engine.submit(place.job("exit 0", array=Array(1, 3)))
        await engine.control(held, Action.HOLD)
        member = await engine.submit(place.job("exit 0", array=Array(1, 3)))
        await engine.control(f"{member}.2", Action.HOLD)
        cut = await engine.submit(place.job("exit 0", array=Array(1, 3)))
        await engine.control(cut, Action.TERMINATE)
    async with running(state, slots=1) as engine:
        ids = (suspended, f"{held}.1", f"{member}.1", f"{member}.2", f"{cut}.3")
        said = await engine.states(ids, 5.0)
        assert [said[job_id].state for job_id in ids] == [
            JobState.USER_SUSPENDED,
            JobState.USER_HELD,
            JobState.QUEUED,
            JobState.USER_HELD,
            JobState.ENDED,
        ]
        (job.folder / "go").touch()
        await engine.control(suspended, Action.RESUME)
        await until_state(engine, f"{member}.3", JobState.ENDED)
        await engine.control(held, Action.RELEASE)
        await until_state(engine, f"{held}.3", JobState.ENDED)


# -- trees of processes -----------------------------------------------------------------------------


@in_loop
async def test_termination_reaches_those_who_left_the_session_and_ignore_it(
    place: Place, state: Path
) -> None:
    async with running(state, kill_after=0.0) as engine:
        job = place.job(
            "trap '' TERM\n"
            "setsid sh -c 'trap \"\" TERM; setsid sleep 600 & echo $! >deep.pid; sleep 600' &\n"
            "echo $! >child.pid; (sleep 600 & echo $! >orphan.pid)\n"
            "env -i setsid sleep 600 & echo $! >bare.pid\n"
            "while :; do sleep 0.05; done"
        )
        job_id = await engine.submit(job)
        files = [job.folder / f"{name}.pid" for name in ("child", "deep", "orphan", "bare")]
        await until(lambda: all(map(pid_in, files)))
        pids = [pid_in(file) for file in files]
        assert all(map(alive, pids))
        await engine.control(job_id, Action.TERMINATE)
        await until_state(engine, job_id, JobState.ENDED)
        await until(lambda: not any(map(alive, pids)))


@in_loop
async def test_what_a_job_leaves_running_ends_with_it(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job = place.job("setsid sleep 600 & echo $! >away.pid; sleep 600 & echo $! >near.pid; exit 7")
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.ENDED)
        pids = [pid_in(job.folder / f"{name}.pid") for name in ("away", "near")]
        await until(lambda: not any(map(alive, pids)))
        ending = place.evidence(job.task).ending
        assert ending is not None
        assert ending.status == 7


@in_loop
async def test_suspending_stops_the_whole_tree(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job = place.job("setsid sleep 600 & echo $! >away.pid; sleep 600 & echo $! >near.pid; sleep 600")
        job_id = await engine.submit(job)
        files = [job.folder / f"{name}.pid" for name in ("away", "near")]
        await until(lambda: all(map(pid_in, files)))
        await engine.control(job_id, Action.SUSPEND)
        for file in files:
            pid = pid_in(file)
            await until(lambda: (now := processes.read_stat(pid)) is not None and now.state == "T")  # noqa: B023
        await engine.control(job_id, Action.TERMINATE)
        await until_state(engine, job_id, JobState.ENDED)


@in_loop
async def test_only_the_jobs_own_processes_are_touched(place: Place, state: Path) -> None:
    async with running(state) as engine:
        array = place.job("touch here.$DRMAATICD_TASK_INDEX; " + WAITING, array=Array(1, 2))
        job_id = await engine.submit(array)
        await until(lambda: (array.folder / "here.1").exists() and (array.folder / "here.2").exists())
        await engine.control(f"{job_id}.1", Action.TERMINATE)
        await until_state(engine, f"{job_id}.1", JobState.ENDED)
        assert (await report(engine, f"{job_id}.2")).state is JobState.RUNNING
        (array.folder / "go").touch()
        await until_state(engine, f"{job_id}.2", JobState.ENDED)
        ending = place.evidence(array.task, 2).ending
        assert ending is not None
        assert (ending.status, ending.provisional) == (0, False)


@in_loop
async def test_a_second_job_of_a_task_does_not_harm_the_first(place: Place, state: Path) -> None:
    async with running(state, slots=3) as engine:
        job = place.job("touch here; " + WAITING)
        first = await engine.submit(job)
        await until((job.folder / "here").exists)
        second, third = await engine.submit(job), await engine.submit(job)
        await engine.control(third, Action.TERMINATE)
        await until_state(engine, second, JobState.ENDED)
        await until_state(engine, third, JobState.ENDED)
    async with running(state, slots=3) as engine:  # it has swept what the ended ones left
        assert (await report(engine, first)).state is JobState.RUNNING
        (job.folder / "go").touch()
        await until_state(engine, first, JobState.ENDED)
    found = place.evidence(job.task)
    assert found.claim is not None
    assert found.claim.job_id == first
    assert found.ending is not None
    assert (found.ending.status, found.ending.provisional) == (0, False)


@in_loop
async def test_a_killed_launcher_is_an_ending_with_its_signal(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job = place.job("touch here; sleep 600")
        job_id = await engine.submit(job)
        await until((job.folder / "here").exists)
        os.kill(identity_of(state, job_id).pid, signal.SIGKILL)
        said = await until_state(engine, job_id, JobState.ENDED)
        assert (said.signal, said.killed, said.exit_status) == ("SIGKILL", False, None)
        assert place.evidence(job.task).ending is None


# -- order, numbers, limits ---------------------------------------------------------------------------


@in_loop
async def test_the_temporary_folder_of_a_killed_launcher_goes(place: Place, state: Path) -> None:
    body = (
        'mkdir "$TMPDIR/a" && echo x >"$TMPDIR/a/b" && chmod a-w "$TMPDIR/a"; '
        'stat -c %a "$TMPDIR"; echo "$TMPDIR"; ' + WAITING
    )
    left = []
    async with running(state) as engine:
        for _ in range(2):
            job = place.job(body)
            job_id = await engine.submit(job)
            mode, name = await until(
                lambda job=job: said if len(said := place.output(job.task).split()) > 1 else []
            )
            folder = Path(name)
            assert mode == "700"
            assert folder.parent == Path(tempfile.gettempdir())
            left.append((job_id, folder))
        job_id, folder = left[0]
        os.kill(identity_of(state, job_id).pid, signal.SIGKILL)
        await until_state(engine, job_id, JobState.ENDED)
        await until(lambda: not folder.exists())
        assert left[1][1].exists()
    job_id, folder = left[1]
    os.kill(identity_of(state, job_id).pid, signal.SIGKILL)  # while there is no engine
    async with running(state) as engine:
        await until_state(engine, job_id, JobState.ENDED)
        await until(lambda: not folder.exists())


@in_loop
async def test_a_job_is_on_record_until_what_it_left_is_swept(
    place: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_look = threading.Event()
    find = OwnAccount.find

    def find_later(account: OwnAccount, targets: Any) -> Any:
        may_look.wait()
        return find(account, targets)

    monkeypatch.setattr(OwnAccount, "find", find_later)
    async with running(state) as engine:
        try:
            job = place.job("echo $$ >pid; kill -9 $PPID; sleep 600")
            job_id = await engine.submit(job)
            await until_state(engine, job_id, JobState.ENDED)
            assert (await engine.finished(job_id)).state is JobState.ENDED
            assert (await engine.finished(job_id)).state is JobState.UNKNOWN
            await until(lambda: state_of(state, job_id)["phase"] == "ended")
            assert alive(pid_in(job.folder / "pid"))
        finally:
            may_look.set()
        await until(lambda: not list((state / "local").glob("*.json")))
        assert not alive(pid_in(job.folder / "pid"))


@in_loop
async def test_what_lies_in_the_place_of_a_temporary_folder_is_let_alone(
    place: Place, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "kept"
    kept.mkdir()
    async with running(state, slots=0) as engine:
        job = place.job('echo "$TMPDIR"; echo x >"$TMPDIR/file"; exit 4')
        job_id = await engine.submit(job)
    link = tmp_path / f"drmaaticd-{job_id}-0"
    link.symlink_to(kept)
    async with running(state) as engine:
        await until_state(engine, job_id, JobState.ENDED)
        ending = place.evidence(job.task).ending
        assert ending is not None
        assert ending.status == 4
        assert Path(place.output(job.task).strip()).name.startswith("drmaaticd-")
    assert link.is_symlink()
    assert kept.exists()
    assert not list(kept.iterdir())


@in_loop
async def test_no_more_jobs_than_slots_run_at_once(place: Place, state: Path) -> None:
    here, seen = place.root / "here", place.root / "seen"
    here.mkdir()
    body = f"touch {here}/$$; ls {here} | wc -l >>{seen}; sleep 0.03; rm {here}/$$"
    async with running(state, slots=2) as engine:
        ids = [await engine.submit(place.job(body)) for _ in range(4)]
        array = await engine.submit(place.job(body, array=Array(1, 4)))
        ids += [engine.element(array, index) for index in range(1, 5)]
        for job_id in ids:
            await until_state(engine, job_id, JobState.ENDED)
    counts = [int(line) for line in seen.read_text().split()]
    assert len(counts) == 8
    assert max(counts) == 2


@in_loop
async def test_thousands_of_jobs_wait_without_cost(place: Place, state: Path) -> None:
    template = place.job("exit 0")
    async with running(state, slots=1) as engine:
        blocker = place.job(WAITING)
        first = await engine.submit(blocker)
        await until_state(engine, first, JobState.RUNNING)
        ids = await asyncio.gather(*(engine.submit(template) for _ in range(2000)))
        assert len(set(ids)) == 2000
        assert sorted(ids, key=int) == list(ids)
        said = await engine.states(ids, 5.0)
        assert {one.state for one in said.values()} == {JobState.QUEUED}
        await engine.control(ids[0], Action.HOLD)
        for job_id in ids[2:100]:
            await engine.control(job_id, Action.TERMINATE)
    async with running(state, slots=1) as engine:
        assert (await report(engine, ids[0])).state is JobState.USER_HELD
        assert (await report(engine, ids[1])).state is JobState.QUEUED
        for job_id in ids[2:100]:
            assert (await engine.finished(job_id)).killed
        (blocker.folder / "go").touch()
        await until_state(engine, ids[1], JobState.ENDED)
        await until_state(engine, ids[101], JobState.ENDED)
        assert await engine.find(blocker.task) == first


@in_loop
async def test_a_large_array_makes_files_only_for_what_runs(place: Place, state: Path) -> None:
    async with running(state, slots=2) as engine:
        job = place.job(WAITING, array=Array(1, 10_000))
        job_id = await engine.submit(job)
        await until_state(engine, f"{job_id}.2", JobState.RUNNING)
        assert (await report(engine, f"{job_id}.10000")).state is JobState.QUEUED
        await engine.control(job_id, Action.TERMINATE)
        for index in (1, 2, 3, 10_000):
            await until_state(engine, f"{job_id}.{index}", JobState.ENDED)
        await until(lambda: len(list((state / "local").iterdir())) == 5)
    async with running(state, slots=2) as engine:
        for index in range(1, 10_000):
            assert (await engine.finished(f"{job_id}.{index}")).state is JobState.ENDED
        assert await engine.find(job.task) == job_id
        assert (await engine.finished(f"{job_id}.10000")).killed
        assert await engine.find(job.task) is Found.NONE
    assert [path.name for path in (state / "local").iterdir()] == ["sequence"]


@in_loop
async def test_usage_is_reported_once_the_job_has_ended(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job_id = await engine.submit(
            place.job("n=0; while [ $n -lt 30000 ]; do n=$((n+1)); done; sleep 0.05")
        )
        await until_state(engine, job_id, JobState.ENDED)
        usage = (await engine.finished(job_id)).usage
        assert usage is not None
        assert usage.cpu_seconds is not None
        assert usage.cpu_seconds > 0
        assert usage.wall_seconds is not None
        assert usage.wall_seconds >= 0.05


@in_loop
async def test_a_peak_of_memory_is_the_jobs_own_or_is_not_told(place: Place, state: Path) -> None:
    """A child's ``ru_maxrss`` counts in its parent's memory, as it was when the child was made."""
    large = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (64 << 20)
    async with running(state) as engine:
        small_id = await engine.submit(place.job("true"))
        large_id = await engine.submit(place.job(f"python3 -c 'bytes(1) * {large}'"))
        for job_id in (small_id, large_id):
            await until_state(engine, job_id, JobState.ENDED)
        small, big = [(await engine.finished(job_id)).usage for job_id in (small_id, large_id)]
        assert small is not None
        assert small.max_rss_bytes is None
        assert big is not None
        assert big.max_rss_bytes is not None
        assert large < big.max_rss_bytes < large + (64 << 20)


@in_loop
async def test_the_prefix_comes_before_the_launcher(place: Place, state: Path, tmp_path: Path) -> None:
    prefix = ("/bin/sh", "-c", f'echo "$@" >{tmp_path}/said; exec "$@"', "sh")
    async with running(state, run_prefix=prefix) as engine:
        job = place.job("exit 0")
        await until_state(engine, await engine.submit(job), JobState.ENDED)
        assert (tmp_path / "said").read_text() == f"/bin/sh {job.run_script}\n"


@in_loop
async def test_the_daemons_environment_does_not_reach_the_job(
    place: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET", "SLURM_JOB_ID", "JOB_ID", "SGE_TASK_ID", "PBS_JOBID", "LC_ALL", "BASH_ENV"):
        monkeypatch.setenv(name, "no-uuid")
    async with running(state) as engine:
        job = place.job("env")
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.ENDED)
        assert "no-uuid" not in place.output(job.task)
        claim = place.evidence(job.task).claim
        assert claim is not None
        assert claim.job_id == job_id


@in_loop
async def test_closing_leaves_no_thread_and_no_descriptor(place: Place, state: Path) -> None:
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with running(state) as engine:
        job = place.job("touch here; " + WAITING)
        await engine.submit(job)
        await engine.submit(place.job("exit 0"))
        await until((job.folder / "here").exists)
        during = set(threading.enumerate())
    assert during > threads
    assert set(threading.enumerate()) == threads
    assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    with pytest.raises(PassingFault):
        await engine.submit(job)
    await engine.close()
    (job.folder / "go").touch()
    await until(lambda: place.evidence(job.task).ending)


# -- shortages and damage -----------------------------------------------------------------------------


@in_loop
async def test_a_job_that_cannot_be_recorded_is_a_passing_fault(place: Place, state: Path) -> None:
    async with running(state) as engine:
        folder, aside = state / "local", state / "aside"
        folder.rename(aside)
        folder.touch()
        job = place.job("exit 0")
        with pytest.raises(PassingFault, match="could not be recorded"):
            await engine.submit(job)
        assert "could not be recorded" in (engine.fault() or "")
        assert await engine.find(job.task) is Found.NONE
        folder.unlink()
        aside.rename(folder)
        await until_state(engine, await engine.submit(job), JobState.ENDED)
        await until(lambda: engine.fault() is None)


@pytest.mark.logs("could not be started and is tried again")
@in_loop
async def test_a_job_that_cannot_be_started_waits_for_better_times(
    place: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "FIRST_PAUSE", 0.05)
    started = processes.start_held

    def short_of_processes(*args: Any) -> processes.Held:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async with running(state, slots=1) as engine:
        monkeypatch.setattr(processes, "start_held", short_of_processes)
        jobs = [place.job("exit 0"), place.job("exit 0")]
        ids = [await engine.submit(job) for job in jobs]
        await until(lambda: "Resource temporarily unavailable" in (engine.fault() or ""))
        assert (await report(engine, ids[0])).state is JobState.QUEUED
        await engine.control(ids[1], Action.TERMINATE)
        monkeypatch.setattr(processes, "start_held", started)
        await until_state(engine, ids[0], JobState.ENDED)
        assert engine.fault() is None
        assert (await report(engine, ids[1])).killed


@pytest.mark.logs("tried again")
@in_loop
async def test_a_lack_of_descriptors_loses_nothing(
    place: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(localrecords, "REWRITE_PAUSE", 0.05)
    async with running(state, slots=1) as engine:
        blocker, queued = place.job(WAITING), place.job("exit 6")
        first, second = await engine.submit(blocker), await engine.submit(queued)
        await until_state(engine, first, JobState.RUNNING)
        (blocker.folder / "go").touch()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # what is open stays open
        try:
            await until_state(engine, first, JobState.ENDED)
            await until(engine.fault)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until_state(engine, second, JobState.ENDED)
        await until(lambda: engine.fault() is None)
        await until(lambda: state_of(state, first)["phase"] == "ended")
    ending = place.evidence(queued.task).ending
    assert ending is not None
    assert ending.status == 6


def held_descriptors() -> dict[int, str]:
    """This process's descriptors and what they are of."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found[int(path.name)] = str(path.readlink())
    return found


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Let this process open so many descriptors more."""
    fillers: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(held_descriptors()) + 1
    try:
        while (filler := os.open(os.devnull, os.O_RDONLY)) < top:
            fillers.append(filler)
        fillers.append(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (filler + 1 + count, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


class Recording(OwnAccount):
    """Remembers whom it started."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[int] = []

    def spawn(self, *args: Any) -> int:
        self.started.append(super().spawn(*args))
        return self.started[-1]

    def reaped(self) -> bool:
        """Whether all that were started have ended and been waited for."""
        for pid in self.started:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
                return False
        return True


def test_a_start_that_lacks_a_descriptor_keeps_none_and_leaves_no_process() -> None:
    account = Recording()
    before = held_descriptors()
    errors = 0
    for room in range(20):
        held = None
        with room_for(room), contextlib.suppress(OSError):
            held = processes.start_held(["/bin/true"], {}, account)
        if held is not None:
            break
        errors += 1
        assert held_descriptors() == before, f"with room for {room}"
        assert account.reaped()
    assert held is not None
    assert errors >= 3
    identity = held.identity
    for room in range(3):
        with room_for(room):
            try:
                pidfd = processes.open_process(identity)
            except OSError:
                pidfd = None
        if pidfd is not None:
            os.close(pidfd)
    held.release()
    os.close(held.pidfd)
    processes.wait_for(identity.pid)
    assert held_descriptors() == before


@pytest.mark.parametrize("shortage", ["read_stat", "boot_id"])
def test_a_process_that_cannot_be_looked_at_is_let_go_of(
    monkeypatch: pytest.MonkeyPatch, shortage: str
) -> None:
    def short_of_descriptors(*args: Any) -> Any:
        raise OSError(24, "Too many open files")

    account = Recording()
    before = held_descriptors()
    monkeypatch.setattr(processes, shortage, short_of_descriptors)
    with pytest.raises(OSError, match="Too many"):
        processes.start_held(["/bin/true"], {}, account)
    assert account.started
    assert account.reaped()
    assert held_descriptors() == before


@pytest.mark.logs("is damaged and is put aside")
@pytest.mark.logs("is damaged and is begun anew")
@in_loop
async def test_damaged_records_are_reported_and_harm_no_other_job(place: Place, state: Path) -> None:
    async with running(state, slots=1) as engine:
        jobs = [place.job("echo x >>count") for _ in range(4)]
        blocker = place.job(WAITING)
        first = await engine.submit(blocker)
        ids = [await engine.submit(job) for job in jobs]
    (state / "local" / f"{ids[0]}.json").write_text('{"task": ')
    (state / "local" / f"{ids[1]}.state.json").touch()
    (state / "local" / ".new-1.json").touch()
    (state / "local" / "12.state.json").write_text("{}")
    async with running(state, slots=1) as engine:
        (blocker.folder / "go").touch()
        await until_state(engine, first, JobState.ENDED)
        for job_id in ids[1:]:
            await until_state(engine, job_id, JobState.ENDED)
        assert (await report(engine, ids[0])).state is JobState.UNKNOWN
    assert [(job.folder / "count").exists() for job in jobs] == [False, True, True, True]
    names = {path.name for path in (state / "local").iterdir()}
    assert f"{ids[0]}.json.damaged" in names
    assert not names & {".new-1.json", "12.state.json"}


def test_numbers_never_come_twice_though_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = []
    for clock in (10**18, 10**18 - 10**15, 5, 10**18 + 5):
        monkeypatch.setattr(time, "time_ns", lambda now=clock: now)
        folder = JobFolder(tmp_path)
        folder.load()
        for _ in range(3):
            number = folder.next_number()
            numbers.append(number)
            job = LocalJob(number, "task", "/run.sh")
            job.runs[None] = Run()
            folder.add([job])
            folder.remove(job.names())
    assert numbers == sorted(set(numbers))


_RUNS = st.builds(
    Run,
    index=st.one_of(st.none(), st.integers(1, 10**9)),
    phase=st.sampled_from(Phase),
    held=st.booleans(),
    suspended=st.booleans(),
    restart=st.integers(0, 9),
    identity=st.one_of(st.none(), st.builds(Identity, st.text(max_size=9), st.integers(1), st.integers(0))),
    cgroup=st.one_of(st.none(), st.text(min_size=1, max_size=9)),
    killed=st.booleans(),
    reason=st.one_of(st.none(), st.text(min_size=1, max_size=9)),
    exit_status=st.one_of(st.none(), st.integers(0, 255)),
    signal=st.one_of(st.none(), st.just("SIGKILL")),
    usage=st.one_of(st.none(), st.builds(Usage, st.floats(0, 9), st.floats(0, 9), st.integers(0, 9))),
)


@given(run=_RUNS)
def test_a_run_is_read_back_as_it_was_written(run: Run) -> None:
    document = json.loads(json.dumps(run.document()))
    read = Run.from_document(document, run.index)
    assert all(getattr(read, name) == getattr(run, name) for name in Run.__slots__)


@in_loop
async def test_what_an_ended_job_left_is_swept_by_the_next_engine_too(place: Place, state: Path) -> None:
    async with running(state) as engine:
        job = place.job("exit 0")
        job_id = await engine.submit(job)
        await until_state(engine, job_id, JobState.ENDED)
    marks = {
        "DRMAATICD_TASK_ID": job.task,
        processes.RUN_VARIABLE: f"{job_id}-0",
        "PATH": os.environ["PATH"],
    }
    with subprocess.Popen(["sleep", "600"], env=marks, start_new_session=True) as left:  # noqa: ASYNC220
        async with running(state):
            await until(lambda: left.poll() == -signal.SIGKILL)


@in_loop
async def test_a_claim_that_names_anothers_job_gives_no_power_over_it(place: Place, state: Path) -> None:
    """A job can forge its claim, and the id in it is what the task is controlled by from then on."""
    async with running(state, slots=2) as engine:
        victim, forger = place.job("sleep 600"), place.job("sleep 600")
        stolen, own = await engine.submit(victim), await engine.submit(forger)
        await until_state(engine, stolen, JobState.RUNNING)
        await until_state(engine, own, JobState.RUNNING)
        assert (await report(engine, stolen)).about(forger.task).state is JobState.UNKNOWN
        await engine.control(stolen, Action.TERMINATE, forger.task)
        await until_state(engine, own, JobState.ENDED)
        assert (await report(engine, stolen)).state is JobState.RUNNING
        await engine.control(stolen, Action.TERMINATE, victim.task)
        await until_state(engine, stolen, JobState.ENDED)
