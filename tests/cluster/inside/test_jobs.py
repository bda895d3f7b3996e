"""The adapter against a real Grid Engine: submitting, endings, control, arrays, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drmaaticd.drm.base import Action, Array, Found, JobState, PassingFault, Refused
from drmaaticd.drm.library import TUNABLES
from tests.cluster.inside.cells import Cell, ending, state, terminate, until, until_state
from tests.launching import in_loop


@in_loop
async def test_an_exit_status_and_what_was_used(cell: Cell) -> None:
    async with cell.engine() as engine:
        burn = "import time; x = bytearray(150 * 2**20)\nwhile time.process_time() < 1.5: pass"
        (cell.root / "burn.py").write_text(burn)
        job_id = await cell.submit(engine, f"/usr/bin/python3 {cell.root}/burn.py; exit 3")
        report = await ending(engine, job_id)
        assert (report.state, report.exit_status, report.signal) == (JobState.ENDED, 3, None)
        assert not report.killed
        used = report.usage
        assert used is not None
        assert used.cpu_seconds is not None
        assert 1.4 < used.cpu_seconds < 60
        assert used.max_rss_bytes is not None
        assert 150 * 2**20 < used.max_rss_bytes < 300 * 2**20
        assert used.wall_seconds is not None
        assert used.wall_seconds >= 1


@in_loop
async def test_an_ending_is_told_again_after_it_was_reaped(cell: Cell) -> None:
    async with cell.engine() as engine:
        job_id = await cell.submit(engine, "exit 4")
        await until_state(engine, job_id, JobState.ENDED)
        first = await engine.states([job_id], 5.0)
        assert first[job_id].exit_status == 4
        assert await engine.states([job_id], 5.0) == first
        assert await engine.finished(job_id) == first[job_id]


@in_loop
async def test_a_launcher_that_is_killed(cell: Cell) -> None:
    async with cell.engine() as engine:
        report = await ending(engine, await cell.submit(engine, "kill -9 $$"))
        assert (report.exit_status, report.signal, report.killed) == (None, "SIGKILL", True)
        assert report.reason is None


@in_loop
async def test_the_time_limit_is_told_from_a_killing(cell: Cell) -> None:
    async with cell.engine() as engine:
        report = await ending(engine, await cell.submit(engine, "sleep 600", max_clock_time=2))
        assert (report.signal, report.killed, report.reason) == ("SIGKILL", True, "time limit reached")


@in_loop
async def test_the_working_folder_is_missing(cell: Cell) -> None:
    async with cell.engine() as engine:
        job = cell.job("exit 0")
        hidden = cell.root / "hidden"
        job.folder.rename(hidden)
        job_id = await engine.submit(job)
        report = await ending(engine, job_id)
        assert report.killed
        assert report.reason == "the cluster could not start it"


@in_loop
async def test_terminating_a_running_and_a_queued_job(cell: Cell) -> None:
    async with cell.engine() as engine:
        running = await cell.submit(engine, "sleep 600")
        queued = await cell.submit(engine, "sleep 600", native="-h")
        await until_state(engine, running, JobState.RUNNING)
        for job_id in (running, queued):
            await engine.control(job_id, Action.TERMINATE)
            report = await ending(engine, job_id)
            assert report.killed
            assert report.exit_status is None
            await engine.control(job_id, Action.TERMINATE)  # it is gone: no error


@in_loop
async def test_hold_release_suspend_resume(cell: Cell) -> None:
    async with cell.engine() as engine:
        job_id = await cell.submit(engine, "while [ ! -e go ]; do sleep 0.1; done", native="-h")
        assert await state(engine, job_id) is JobState.USER_HELD
        with pytest.raises(Refused, match="takes no suspend"):
            await engine.control(job_id, Action.SUSPEND)
        await engine.control(job_id, Action.RELEASE)
        await until_state(engine, job_id, JobState.RUNNING)
        with pytest.raises(Refused, match="takes no hold"):
            await engine.control(job_id, Action.HOLD)
        await engine.control(job_id, Action.SUSPEND)
        assert await state(engine, job_id) is JobState.USER_SUSPENDED
        await engine.control(job_id, Action.RESUME)
        await until_state(engine, job_id, JobState.RUNNING)
        with pytest.raises(Refused, match="already unsuspended"):
            await engine.control(job_id, Action.RESUME)
        await terminate(engine, job_id)


@in_loop
async def test_the_members_of_an_array(cell: Cell) -> None:
    async with cell.engine() as engine:
        array = Array(2, 8, 3)
        job_id = await cell.submit(engine, "exit $SGE_TASK_ID", array=array)
        assert job_id.isdigit()
        for index in array.indices:
            assert (await ending(engine, engine.element(job_id, index))).exit_status == index
        held = await cell.submit(engine, "exit 0", array=Array(1, 3), native="-h")
        members = [engine.element(held, index) for index in (1, 2, 3)]
        reports = await engine.states(members, 5.0)
        assert {reports[member].state for member in members} == {JobState.USER_HELD}
        await engine.control(held, Action.TERMINATE)
        for member in members:
            assert (await ending(engine, member)).killed


@in_loop
async def test_what_the_cluster_refuses_it_refuses_in_its_own_words(cell: Cell) -> None:
    async with cell.engine() as engine:
        for more, words in (
            ({"queue": "nosuch.q"}, 'unknown queue "nosuch.q"'),
            ({"native": "-l nosuch=1"}, 'unknown resource "nosuch"'),
            ({"native": "-P nosuch"}, 'project "nosuch" does not exist'),
            ({"native": "-zzz"}, "invalid option"),
            ({"cpus": 900}, "no suitable queues"),
        ):
            with pytest.raises(Refused, match=words):
                await engine.submit(cell.job("exit 0", **more))
        assert engine.fault() is None


@in_loop
async def test_everything_that_can_be_asked_for_is_taken(cell: Cell) -> None:
    async with cell.engine() as engine:
        job = cell.job(
            'echo "$NSLOTS $QUEUE $(ulimit -v)" >asked',
            queue="all.q",
            cpus=2,
            memory=3 * 2**30 + 1,
            max_clock_time=100,
            account="someone",
            rerunnable=True,
            native="-p -5",
        )
        assert (await ending(engine, await engine.submit(job))).exit_status == 0
        kib = 2 * 1537 * 1024  # two slots of 1.5 GiB, rounded up to whole MiB
        assert (job.folder / "asked").read_text() == f"2 all.q {kib}\n"


@in_loop
async def test_nothing_of_the_daemons_environment_reaches_a_job(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "xyz")
    async with cell.engine() as engine:
        job = cell.job("env >environment; id -un >account")
        await ending(engine, await engine.submit(job))
        assert "SECRET" not in (job.folder / "environment").read_text()
        assert (job.folder / "account").read_text().strip() == os.environ["USER"]


@in_loop
async def test_ids_that_are_none_reach_no_library(cell: Cell) -> None:
    async with cell.engine() as engine:
        strange = ["999999999", "1.5", "0", "-5", " 3", "3_x", "", "$(id)", "9" * 40]
        reports = await engine.states(strange, 5.0)
        assert {reports[job_id].state for job_id in strange} == {JobState.UNKNOWN}
        for job_id in strange:
            assert (await engine.finished(job_id)).state is JobState.UNKNOWN
            await engine.control(job_id, Action.TERMINATE)
        assert await engine.find("anything") is Found.CANNOT_TELL


@in_loop
async def test_a_sweep_keeps_its_budget_and_comes_to_everyone(cell: Cell) -> None:
    async with cell.engine() as engine:
        job_id = await cell.submit(engine, "exit 0", array=Array(1, 2000), native="-h")
        members = [engine.element(job_id, index) for index in range(1, 2001)]
        seen: set[str] = set()

        async def all_seen() -> bool:
            reports = await engine.states(members, 0.05)
            assert len(reports) < len(members)
            seen.update(reports)
            return len(seen) == len(members)

        await until(all_seen, "every member was asked about")
        await engine.control(job_id, Action.TERMINATE)


@in_loop
async def test_jobs_that_exit_with_what_grid_engine_takes_for_orders(cell: Cell) -> None:
    """99 is queued again and 100 is an abortion, even with ``-r n``: why no launcher exits with them."""
    async with cell.engine() as engine:
        again = await cell.submit(engine, "[ -e twice ] && exit 5; touch twice; exit 99")
        assert (await ending(engine, again)).exit_status == 5
        report = await ending(engine, await cell.submit(engine, "exit 100"))
        assert (report.killed, report.exit_status) == (True, None)


@in_loop
async def test_one_session_a_process_and_its_close(cell: Cell) -> None:
    async with cell.engine() as engine:
        job_id = await cell.submit(engine, "sleep 3; exit 7")
        contact = (cell.root / "drmaa.contact").read_text()
    with pytest.raises(PassingFault):
        await engine.submit(cell.job("exit 0"))
    async with cell.engine() as engine:
        assert (cell.root / "drmaa.contact").read_text() == contact
        report = await ending(engine, job_id)  # of the former session, and still running when it ended
        assert report.exit_status == 7


def test_the_library_is_loaded_by_a_process_that_was_not_told_of_its_needs() -> None:
    """Debian's library needs room for thread-local storage: the process is started anew, once."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from drmaaticd.drm.library import load, needs_reexec\n"
        "environ = needs_reexec(os.environ)\n"
        "if environ: print('anew', flush=True); os.execve(sys.executable, sys.orig_argv, environ)\n"
        "print(load(Path('x.toml'), None, os.environ).Session().drmsInfo)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != TUNABLES}
    environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["anew", "SGE 8.1.9"], done.stderr
