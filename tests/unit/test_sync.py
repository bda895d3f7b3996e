"""Sync, submission and controls together, over an engine whose faults are scripted.

Store, workspace and launchers are real; a job is run by running its ``run.sh`` as a DRM would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drmaaticd import config, launcher, reaping, strangers, submission, sync, verdict
from drmaaticd.changes import Changes
from drmaaticd.controls import Controls
from drmaaticd.drm.base import Array, JobState, PassingFault, Refused, Report, Usage
from drmaaticd.drm.memory import MemoryEngine
from drmaaticd.gate import FileGate
from drmaaticd.launcher import LaunchSpec
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.submission import Submitter
from drmaaticd.sync import Sync
from drmaaticd.tasks import Task, now_ms
from drmaaticd.workspace import Workspace
from tests.launching import until


class House:
    """Everything between the store and the engine, as the daemon puts it together."""

    def __init__(self, folder: Path, engine: MemoryEngine, **drm: Any) -> None:
        self.engine = engine
        self.settings = config.defaults().model_copy(
            update={"drm": config.defaults().drm.model_copy(update={"ending_grace": 0.2, **drm})}
        )
        self.folder = folder
        self.files = FileGate(2)
        self.workspace = Workspace(folder / "tasks")
        self.workspace.prepare()
        self.pids: list[int] = []
        """The launchers that were started."""

    async def __aenter__(self) -> House:
        self.store = Store.open(self.folder / "state")
        changes = Changes()
        self.store.on_change = changes.publish
        self.sync = Sync(
            store=self.store,
            engine=self.engine,
            workspace=self.workspace,
            files=self.files,
            config=self.settings,
        )
        self.engine.listener = self.sync.note
        rooms: dict[str, Any] = {
            "store": self.store,
            "engine": self.engine,
            "workspace": self.workspace,
            "files": self.files,
            "sync": self.sync,
        }
        self.submitter = Submitter(**rooms, config=self.settings)
        self.controls = Controls(**rooms, submitter=self.submitter)
        self.running = asyncio.create_task(self.submitter.run_forever())
        self.reaping = asyncio.create_task(self.sync.reaper.run_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.submitter.close()
        await self.controls.close()
        for task in (self.running, self.reaping):
            task.cancel()
        await asyncio.gather(self.running, self.reaping, return_exceptions=True)
        await self.store.close()

    def get(self, uuid: str) -> Task:
        task = self.store.get(uuid)
        assert task is not None
        return task

    def state(self, uuid: str) -> State:
        return self.get(uuid).state

    async def add(self, body: str = "exit 0", *, submit: bool = True, **fields: Any) -> str:
        """A task as the intake writes it down; handed to the submitter unless told otherwise."""
        number = len(self.store) + 1
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        folder = self.workspace.folder(uuid)
        folder.mkdir()
        array = fields.get("array")
        spec = LaunchSpec(
            task=uuid,
            folder=folder,
            control=self.workspace.control(uuid),
            spool=self.workspace.spool,
            command=self.workspace.store_script(f"#!/bin/sh\n{body}\n".encode(), "test"),
            array=array is not None,
            rerunnable=fields.get("rerunnable", False),
        )
        launcher.write(spec.control, spec)
        now = now_ms() + number
        task = Task(
            uuid=uuid,
            script="test",
            folder=uuid,
            created=now,
            updated=now,
            state=fields.pop("state", State.RECEIVED),
            **fields,
        )
        if submit:
            task = self.submitter.announced(task)
        self.store.insert(task)
        await self.store.durable()
        if submit:
            self.submitter.add(task)
        return uuid

    async def submitted(self, uuid: str) -> str:
        """The id of the task's job, once it is known."""
        await until(lambda: self.get(uuid).job_id, "the job id")
        return str(self.get(uuid).job_id)

    async def run(self, uuid: str, job_id: str, **environ: str) -> int:
        """Run the task's launcher as job `job_id` would; its exit status."""
        script = self.workspace.control(uuid) / launcher.RUN_SCRIPT
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            script,
            cwd=self.workspace.folder(uuid),
            env={"PATH": os.environ["PATH"], "JOB_ID": job_id, "TMPDIR": str(self.folder), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pids.append(process.pid)
        return await process.wait()

    def claimed(self, uuid: str, index: int | None = None, at: float | None = None) -> int:
        """When the claim of a job was made, in milliseconds; as if it had been made `at` these seconds."""
        control = self.workspace.control(uuid)
        claim = (control if index is None else control / str(index)) / "claim"
        if at is not None:
            os.utime(claim, (at, at), follow_symlinks=False)
        return int(claim.lstat().st_mtime * 1000)

    def begins(self, uuid: str, index: int | None, *, at: float, restart: int = 0) -> None:
        """Do as the launcher of this job does when it begins, at this time (seconds since 1970)."""
        control = self.workspace.control(uuid)
        here = control if index is None else control / str(index)
        here.mkdir(exist_ok=True)
        if restart:
            (here / "claim").rename(here / f"claim.{restart - 1}")
        (here / "claim").symlink_to(f"{self.get(uuid).job_id}.{restart}")
        (here / f"running.{restart + 1}").touch()
        self.claimed(uuid, index, at)
        (self.workspace.spool / (f"{uuid}.started" if index is None else f"{uuid}.{index}.started")).touch()

    async def passes(self, uuid: str, state: State) -> Task:
        """Run spool passes until the task is in this state."""

        async def look() -> bool:
            await self.sync.spool_pass()
            return self.state(uuid) is state

        await until(look, f"{uuid} to be {state}")
        return self.get(uuid)

    async def sweeps(self, uuid: str, state: State) -> Task:
        """Run sweeps until the task is in this state."""

        async def look() -> bool:
            await self.sync.sweep()
            return self.state(uuid) is state

        await until(look, f"{uuid} to be {state}")
        return self.get(uuid)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``async with house(engine) as h``: may be entered again, over the same folders."""
    monkeypatch.setattr(submission, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr("drmaaticd.controls.FIRST_PAUSE", 0.02)

    @asynccontextmanager
    async def build(engine: MemoryEngine | None = None, **drm: Any) -> AsyncIterator[House]:
        async with House(tmp_path, engine or MemoryEngine(), **drm) as built:
            yield built

    return build


def over(test: Callable[..., Any]) -> Callable[..., None]:
    """A test that is given the `house` fixture and runs on a loop of its own."""

    def run(house: Callable[..., Any]) -> None:
        asyncio.run(test(house))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# -- the way of a task


@over
async def test_a_task_is_submitted_runs_and_is_done(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        assert h.state(uuid) is State.CREATED
        assert h.engine.submitted[0].name == f"t-test-{uuid}"
        await h.sweeps(uuid, State.QUEUED_ACTIVE)
        assert await h.run(uuid, job_id) == 0
        h.engine.end(job_id, usage=Usage(cpu_seconds=5.0, max_rss_bytes=7))
        task = await h.passes(uuid, State.DONE)
        assert task.exit_status == 0
        assert task.started is not None
        assert task.ended is not None
        assert task.started <= task.ended
        await until(lambda: h.get(uuid).usage.get("max_rss_bytes") == 7, "the DRM's usage")
        assert not list(h.workspace.spool.iterdir())
        assert job_id not in h.engine.jobs  # it was reaped


@over
async def test_the_attempt_is_durable_before_the_drm_hears_of_it(house: Callable[..., Any]) -> None:
    async with house() as h:
        gate = h.engine.delay_next("submit")
        uuid = await h.add()
        await until(lambda: h.engine.calls, "the submission")
        assert h.get(uuid).attempt == 1
        assert uuid in (h.folder / "state" / "journal.1").read_text()
        assert '"attempt":1' in (h.folder / "state" / "journal.1").read_text()
        gate.set()
        await h.submitted(uuid)


@over
async def test_tasks_are_submitted_in_order_and_no_more_than_the_drm_may_hold(
    house: Callable[..., Any],
) -> None:
    async with house(max_live=3) as h:
        uuids = [await h.add() for _ in range(5)]
        await until(lambda: len(h.engine.submitted) == 3, "three submissions")
        await asyncio.sleep(0.05)
        assert [job.task for job in h.engine.submitted] == uuids[:3]
        job_id = await h.submitted(uuids[0])
        await h.run(uuids[0], job_id)
        await h.passes(uuids[0], State.DONE)
        await until(lambda: len(h.engine.submitted) == 4, "the fourth")
        assert h.engine.submitted[3].task == uuids[3]


@over
async def test_what_goes_at_once_is_announced_by_its_record_and_nothing_else(
    house: Callable[..., Any],
) -> None:
    async with house(max_live=1) as h:
        journal = h.folder / "state" / "journal.1"
        first = await h.add()
        assert '"attempt":1' in journal.read_text()
        await h.submitted(first)
        second = await h.add()
        assert h.get(second).attempt == 0
        assert h.submitter.waiting == 1
        assert h.get(first).attempt == 1


@over
async def test_what_was_announced_and_not_submitted_counts_its_attempts_on(house: Callable[..., Any]) -> None:
    async with house() as h:
        h.engine.fail_next("submit", PassingFault("busy"))
        uuid = await h.add()
        assert h.get(uuid).attempt == 1
        await h.submitted(uuid)
        assert h.get(uuid).attempt == 2


@over
async def test_what_was_stopped_before_its_turn_is_announced_no_more(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(submit=False, attempt=1, stop=True)
        h.submitter.add(h.get(uuid))
        await until(lambda: h.submitter.waiting == 0, "its turn")
        assert not h.engine.calls
        assert not h.submitter._announced


# -- the DRM's faults


@over
async def test_a_passing_fault_is_waited_out(house: Callable[..., Any]) -> None:
    async with house() as h:
        h.engine.leave()
        uuid = await h.add()
        await until(lambda: len(h.engine.calls) > 2, "some tries")
        assert h.state(uuid) is State.RECEIVED
        h.engine.come_back()
        await h.submitted(uuid)
        assert len(h.engine.submitted) == 1


@over
async def test_a_sweep_with_no_job_to_ask_about_asks_whether_there_is_a_drm(
    house: Callable[..., Any],
) -> None:
    async with house() as h:
        await h.sync.sweep()
        h.engine.leave()
        await h.sync.sweep()
        assert h.engine.calls == [("ping", ""), ("ping", "")]
        h.engine.come_back()
        uuid = await h.add()
        await h.submitted(uuid)
        await h.sync.sweep()
        assert [name for name, _ in h.engine.calls].count("ping") == 2


@over
async def test_a_refusal_rejects_the_task_with_the_drms_words(house: Callable[..., Any]) -> None:
    async with house() as h:
        h.engine.fail_next("submit", Refused("unknown queue"))
        uuid = await h.add()
        other = await h.add()
        await until(lambda: h.get(uuid).final, "the refusal")
        assert (h.state(uuid), h.get(uuid).detail) == (State.REJECTED, "unknown queue")
        await h.submitted(other)


@over
async def test_a_job_whose_submission_seemed_to_fail_runs_once(house: Callable[..., Any]) -> None:
    """The DRM took the job and its answer was lost: the second job finds the task claimed."""
    async with house() as h:
        h.engine.fail_next("submit", PassingFault("connection lost"), lost=True)
        uuid = await h.add(body='echo "$JOB_ID" >> ran')
        second = await h.submitted(uuid)
        first = h.engine.ids_of(uuid)[0]
        assert first != second
        assert h.get(uuid).attempt == 2
        assert await h.run(uuid, first) == 0
        assert await h.run(uuid, second) == 0
        task = await h.passes(uuid, State.DONE)
        assert task.job_id == first
        assert (h.workspace.folder(uuid) / "ran").read_text() == f"{first}\n"


@over
async def test_a_drm_that_forgets_is_not_believed(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.begin(job_id)
        await h.sweeps(uuid, State.RUNNING)
        h.engine.forget(job_id)
        await h.sweeps(uuid, State.UNDETERMINED)
        await h.run(uuid, job_id)
        assert (await h.passes(uuid, State.DONE)).exit_status == 0


@over
async def test_a_job_nobody_knows_fails_after_the_configured_time(house: Callable[..., Any]) -> None:
    async with house(lost_after=0.4, sweep_interval=1.0) as h:
        uuid = await h.add()
        h.engine.forget(await h.submitted(uuid))
        await h.sweeps(uuid, State.UNDETERMINED)
        task = await h.sweeps(uuid, State.FAILED)
        assert "does not know the job" in task.detail


@over
async def test_the_time_in_which_the_drm_is_away_does_not_count(house: Callable[..., Any]) -> None:
    async with house(lost_after=0.3, sweep_interval=0.01) as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.forget(job_id)
        await h.sync.sweep()
        h.engine.leave()
        await asyncio.sleep(0.4)
        for _ in range(3):
            await h.sync.sweep()
        h.engine.come_back()
        await h.sync.sweep()
        assert not h.get(uuid).final


@over
async def test_done_without_a_word_is_failed(house: Callable[..., Any]) -> None:
    async with house(sweep_interval=1.0) as h:
        uuid = await h.add()
        h.engine.end(await h.submitted(uuid), 0)
        assert (await h.sweeps(uuid, State.FAILED)).detail == "did not start"


@over
async def test_a_final_state_never_changes(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(body="exit 3")
        job_id = await h.submitted(uuid)
        await h.run(uuid, job_id)
        before = await h.passes(uuid, State.FAILED)
        h.engine.calls.clear()
        h.sync.note(uuid)
        await h.sync.spool_pass()
        await h.sync.sweep()
        after = h.get(uuid)
        assert (after.state, after.exit_status, after.ended) == (State.FAILED, 3, before.ended)
        assert ("states", job_id) not in h.engine.calls


@over
async def test_a_requeued_job_is_live_again(house: Callable[..., Any]) -> None:
    async with house() as h:
        gate = h.folder / "gate"
        uuid = await h.add(body=f"touch started; until [ -e '{gate}' ]; do sleep 0.01; done", rerunnable=True)
        job_id = await h.submitted(uuid)
        h.engine.begin(job_id)
        first = asyncio.create_task(h.run(uuid, "", SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="0"))
        started = h.workspace.folder(uuid) / "started"
        await until(started.exists, "the command to run")
        await h.passes(uuid, State.RUNNING)
        h.engine.requeue(job_id)
        os.killpg(h.pids[-1], signal.SIGTERM)
        await first
        task = await h.passes(uuid, State.QUEUED_ACTIVE)
        assert task.attempt == 2
        assert task.started is None
        h.sync.note(uuid)
        h.engine.leave()  # what its launcher left is of a run that counts no more, whoever looks
        await h.sync.spool_pass()
        assert h.get(uuid).started is None
        h.engine.come_back()
        gate.touch()
        h.engine.begin(job_id)
        await h.run(uuid, "", SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="1")
        task = await h.passes(uuid, State.DONE)
        assert task.exit_status == 0
        assert task.started == h.claimed(uuid)


@over
async def test_a_job_that_ran_again_after_its_node_died_began_when_it_ran_again(
    house: Callable[..., Any],
) -> None:
    async with house() as h:
        gate = h.folder / "gate"
        uuid = await h.add(body=f"touch started; until [ -e '{gate}' ]; do sleep 0.01; done", rerunnable=True)
        job_id = await h.submitted(uuid)
        h.engine.begin(job_id)
        first = asyncio.create_task(h.run(uuid, "", SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="0"))
        await until((h.workspace.folder(uuid) / "started").exists, "the command to run")
        h.claimed(uuid, at=1000)
        assert (await h.passes(uuid, State.RUNNING)).started == 1_000_000
        os.killpg(h.pids[-1], signal.SIGKILL)
        await first
        gate.touch()
        await h.run(uuid, "", SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="1")
        task = await h.passes(uuid, State.DONE)
        assert task.started == h.claimed(uuid)
        assert task.usage["wall_seconds"] < 1000


@over
async def test_a_job_that_the_drm_has_queued_again_has_not_started(house: Callable[..., Any]) -> None:
    async with house() as h:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verdict, "REQUEUE_GRACE", 0.0)
            uuid, array = await h.add(), await h.add(array={"begin": 1, "end": 2, "step": 1})
            job_ids = [await h.submitted(uuid), h.engine.element(await h.submitted(array), 1)]
            for job_id in job_ids:
                h.engine.begin(job_id)
            h.begins(uuid, None, at=1000)
            h.begins(array, 1, at=1000)
            await h.sync.spool_pass()
            assert h.get(uuid).started == h.get(array).started == 1_000_000
            for job_id in job_ids:
                h.engine.requeue(job_id)
            await h.sweeps(uuid, State.QUEUED_ACTIVE)
            await h.sweeps(array, State.QUEUED_ACTIVE)
            assert h.get(uuid).started is h.get(array).started is None


# -- recovery


@over
async def test_a_claimed_task_is_adopted_by_the_next_daemon(house: Callable[..., Any]) -> None:
    engine = MemoryEngine()
    async with house(engine) as h:
        uuid = await h.add(submit=False, attempt=1)
        await h.run(uuid, "77")
    async with house(engine) as h:
        await h.submitter.recover()
        await until(lambda: h.state(uuid) is State.DONE, "the ending to be read")
        assert h.get(uuid).job_id == "77"
        assert not engine.submitted


@over
async def test_a_task_nobody_claimed_is_submitted_again_after_the_grace(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(submit=False, attempt=1)
        await h.submitter.recover()
        assert h.get(uuid).attempt == 1
        await h.submitted(uuid)
        assert h.get(uuid).attempt == 2


@over
async def test_an_engine_that_can_tell_is_asked(house: Callable[..., Any]) -> None:
    engine = MemoryEngine(can_find=True)
    async with house(engine, ending_grace=1e6) as h:
        engine.fail_next("submit", PassingFault("x"), lost=True)
        known = await h.add(submit=False, attempt=1)
        unknown = await h.add(submit=False, attempt=1)
        with pytest.raises(PassingFault):
            await engine.submit(submission.job_of(h.get(known), h.workspace))
        await h.submitter.recover()
        await h.submitted(unknown)
        assert h.get(known).job_id == engine.ids_of(known)[0]
        assert (h.get(known).attempt, h.get(unknown).attempt) == (1, 2)


# -- the spool


@pytest.mark.logs("doorbell of an unknown task")
@over
async def test_a_strange_doorbell_is_left_alone_and_told_once(house: Callable[..., Any]) -> None:
    async with house() as h:
        strange = h.workspace.spool / "ffffffff-0000-4000-8000-000000000000.ended"
        strange.touch()
        (h.workspace.spool / "nonsense").touch()
        for _ in range(3):
            await h.sync.spool_pass()
        assert strange.exists()
        uuid = await h.add()
        await h.run(uuid, await h.submitted(uuid))
        await h.passes(uuid, State.DONE)


@pytest.mark.logs("doorbell of an unknown task")
@pytest.mark.logs("names of no task; others go")
@over
async def test_a_spool_full_of_names_is_cleared(house: Callable[..., Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strangers, "KEPT", 5)
        await _clear_names(house)


async def _clear_names(house: Callable[..., Any]) -> None:
    async with house() as h:
        for number in range(30):
            (h.workspace.spool / f"name-{number}").touch()
        (h.workspace.spool / "ffffffff-0000-4000-8000-000000000000.ended" / "deep").mkdir(parents=True)
        uuid = await h.add()
        await h.run(uuid, await h.submitted(uuid))
        await h.passes(uuid, State.DONE)
        await h.sync.spool_pass()
        assert len(list(h.workspace.spool.iterdir())) == 5


@over
async def test_a_doorbell_that_is_a_folder_is_answered_and_goes(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add()
        (h.workspace.spool / f"{uuid}.ended" / "deep").mkdir(parents=True)
        await h.run(uuid, await h.submitted(uuid))
        await h.passes(uuid, State.DONE)
        await h.sync.spool_pass()
        assert not list(h.workspace.spool.iterdir())


# -- controls


@over
async def test_a_stop_outlives_a_drm_that_is_away(house: Callable[..., Any]) -> None:
    engine = MemoryEngine()
    async with house(engine) as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        engine.leave()
        h.store.update(uuid, lambda task: task.changed(stop=True))
        h.controls.request(uuid)
        await until(lambda: ("control terminate", job_id) in engine.calls, "the try")
        assert not h.get(uuid).final
    async with house(engine) as h:
        await h.submitter.recover()
        engine.come_back()
        h.controls.recover()
        await until(lambda: h.get(uuid).final, "the stop")
        assert h.state(uuid) is State.STOPPED
        assert await h.run(uuid, job_id) == 0
        assert not list(h.workspace.folder(uuid).iterdir())  # it exited without a trace


@over
async def test_a_task_on_its_way_is_stopped_before_it_starts(house: Callable[..., Any]) -> None:
    async with house() as h:
        gate = h.engine.delay_next("submit")
        uuid = await h.add()
        await until(lambda: h.engine.calls, "the submission")
        h.store.update(uuid, lambda task: task.changed(stop=True))
        h.controls.request(uuid)
        control = h.workspace.control(uuid)
        await until(lambda: launcher.read(control).cancelled, "the claim to be taken")
        gate.set()
        await until(lambda: h.get(uuid).final, "the stop")
        assert h.state(uuid) is State.STOPPED
        assert ("control terminate", str(h.get(uuid).job_id)) in h.engine.calls


@over
async def test_a_task_that_waits_for_room_is_stopped_without_the_drm(house: Callable[..., Any]) -> None:
    async with house(max_live=1) as h:
        await h.submitted(await h.add())
        waiting = await h.add()
        h.store.update(waiting, lambda task: task.changed(stop=True))
        h.controls.request(waiting)
        await until(lambda: h.get(waiting).final, "the stop")
        assert h.state(waiting) is State.STOPPED
        assert len(h.engine.submitted) == 1


@over
async def test_a_refused_hold_is_forgotten_and_told(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.fail_next("control hold", Refused("no holds here"))
        h.store.update(uuid, lambda task: task.changed(wanted="hold"))
        h.controls.request(uuid)
        await until(lambda: not h.get(uuid).wanted, "the refusal")
        assert h.controls.refusal(uuid) == "no holds here"
        assert h.engine.jobs[job_id].report.state is JobState.QUEUED


def test_a_second_wish_does_not_wait_for_the_effect_of_the_first(
    house: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.controls.LOOKS", (0.0, 3600.0))

    @over
    async def test(house: Callable[..., Any]) -> None:
        async with house() as h:
            uuid = await h.add()
            job_id = await h.submitted(uuid)
            h.store.update(uuid, lambda task: task.changed(state=State.USER_ON_HOLD, wanted="hold"))
            h.controls.request(uuid)  # its state is that already, so that nothing changes
            await until(lambda: not h.get(uuid).wanted, "the hold")
            h.store.update(uuid, lambda task: task.changed(stop=True))
            h.controls.request(uuid)
            await until(lambda: job_id not in h.engine.jobs, "the stopped job to be reaped")

    test(house)


# -- arrays and dependencies


@over
async def test_an_array_is_one_task_with_a_state_for_each_member(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(body='[ "$DRMAATICD_TASK_INDEX" != 3 ]', array={"begin": 1, "end": 5, "step": 2})
        job_id = await h.submitted(uuid)
        assert h.engine.submitted[0].array == Array(1, 5, 2)
        assert h.get(uuid).members == "qqq"
        await h.run(uuid, job_id, SGE_TASK_ID="1")
        await h.passes(uuid, State.QUEUED_ACTIVE)
        await until(lambda: h.get(uuid).members == "qqq" or h.get(uuid).members == "dqq", "the first")
        await h.sync.spool_pass()
        assert h.get(uuid).members == "dqq"
        h.engine.begin(f"{job_id}.5")
        await h.sweeps(uuid, State.RUNNING)
        await h.run(uuid, job_id, SGE_TASK_ID="3")
        await h.run(uuid, job_id, SGE_TASK_ID="5")
        task = await h.passes(uuid, State.FAILED)
        assert task.members == "dfd"
        assert task.exit_status == 1
        assert "index 3" in task.detail


@over
async def test_a_large_array_leaves_the_loop_to_others(house: Callable[..., Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync, "MEMBERS", 20)
        await _sweep_a_large_array(house, patch)


async def _sweep_a_large_array(house: Callable[..., Any], patch: pytest.MonkeyPatch) -> None:
    async with house() as h:
        uuid = await h.add(array={"begin": 1, "end": 1000, "step": 1})
        job_id = await h.submitted(uuid)
        for index in range(1, 1001):
            h.engine.begin(h.engine.element(job_id, index))
        reads, turns = 0, 0
        get = h.store.get

        def counted(uuid: str) -> Task | None:
            nonlocal reads
            reads += 1
            return get(uuid)

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        patch.setattr(h.store, "get", counted)
        beside = asyncio.create_task(others())
        await h.sync.sweep()
        beside.cancel()
        assert get(uuid).members == "r" * 1000
        assert reads < 200  # and not one for each member
        assert turns > 90  # to look at the answers, and to judge them


@over
async def test_an_array_began_with_the_first_of_its_runs_that_count(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(array={"begin": 1, "end": 4, "step": 1}, rerunnable=True)
        whole = await h.submitted(uuid)
        for index in (1, 2, 3):
            h.engine.begin(h.engine.element(whole, index))
            h.begins(uuid, index, at=1000 * index)
        assert (await h.passes(uuid, State.RUNNING)).started == 1_000_000

        def ends_by_a_signal(index: int) -> None:
            h.engine.requeue(h.engine.element(whole, index))
            folder = h.workspace.control(uuid) / str(index)
            (folder / "running.1").rename(folder / "ended.1.143.5000.caught")
            (h.workspace.spool / f"{uuid}.{index}.ended").touch()

        ends_by_a_signal(3)
        await h.sync.spool_pass()
        assert h.get(uuid).started == 1_000_000
        ends_by_a_signal(1)
        await h.sync.spool_pass()
        assert (h.get(uuid).members, h.get(uuid).started) == ("qrqq", 2_000_000)
        ends_by_a_signal(2)
        await h.sync.spool_pass()
        assert (h.get(uuid).members, h.get(uuid).started) == ("qqqq", None)

        h.begins(uuid, 1, at=6000, restart=1)
        await h.sync.spool_pass()
        assert (h.get(uuid).members, h.get(uuid).started) == ("rqqq", 6_000_000)


@over
async def test_a_member_that_ran_again_before_anyone_looked_began_anew(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(array={"begin": 1, "end": 2, "step": 1}, rerunnable=True)
        await h.submitted(uuid)
        h.begins(uuid, 1, at=1000)
        h.begins(uuid, 2, at=2000)
        assert (await h.passes(uuid, State.RUNNING)).started == 1_000_000
        h.begins(uuid, 1, at=3000, restart=1)
        await h.sync.spool_pass()
        assert h.get(uuid).started == 2_000_000


@over
async def test_a_stopped_array_keeps_what_was_done(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(array={"begin": 1, "end": 3, "step": 1})
        job_id = await h.submitted(uuid)
        await h.run(uuid, job_id, SGE_TASK_ID="2")
        await until(lambda: True)
        await h.sync.spool_pass()
        h.store.update(uuid, lambda task: task.changed(stop=True))
        h.controls.request(uuid)
        await until(lambda: h.get(uuid).final, "the stop")
        assert (h.state(uuid), h.get(uuid).members) == (State.STOPPED, "tdt")


@over
async def test_a_long_chain_of_dependants_fails_without_a_deep_stack(house: Callable[..., Any]) -> None:
    async with house() as h:
        first = await h.add(body="exit 1")
        chain = [first]
        for number in range(1500):
            uuid = f"10000000-0000-4000-8000-{number:012d}"
            now = now_ms()
            h.store.insert(
                Task(
                    uuid=uuid,
                    script="test",
                    folder=uuid,
                    created=now,
                    updated=now,
                    state=State.RECEIVED,
                    depends_on=(chain[-1],),
                    dependency_type="afterok",
                )
            )
            h.submitter.add(h.get(uuid))
            chain.append(uuid)
        assert h.state(chain[-1]) is State.SYSTEM_ON_HOLD
        await h.run(first, await h.submitted(first))
        await h.passes(first, State.FAILED)
        assert {h.state(uuid) for uuid in chain[1:]} == {State.FAILED}
        assert chain[-2] in h.get(chain[-1]).detail
        assert len(h.engine.submitted) == 1


@over
async def test_a_lie_about_a_running_job_is_a_doubt_not_an_ending(house: Callable[..., Any]) -> None:
    async with house(ending_grace=1e6) as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.begin(job_id)
        await h.sweeps(uuid, State.RUNNING)
        for lie in (Report(JobState.ENDED, exit_status=0), Report(JobState.UNKNOWN), Report(JobState.QUEUED)):
            h.engine.lie(job_id, lie)
            for _ in range(3):
                await h.sync.sweep()
            assert h.state(uuid) is State.RUNNING


# -- ids that a DRM gives twice


async def lost_to_another(h: House) -> tuple[str, str]:
    """A queued task whose job is lost, and the task whose job has its id now."""
    lost = await h.add()
    assert await h.submitted(lost) == "1"
    await h.sweeps(lost, State.QUEUED_ACTIVE)
    h.engine.use_ids_again()
    other = await h.add()
    assert await h.submitted(other) == "1"
    return lost, other


@pytest.mark.logs("the cluster lost job 1 and gave its id to another")
@over
async def test_a_lost_job_whose_id_another_got_is_submitted_again(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        lost, other = await lost_to_another(h)
        await h.sync.sweep()
        assert await h.submitted(lost) == "2"
        await h.sweeps(other, State.QUEUED_ACTIVE)
        for uuid, job_id in ((other, "1"), (lost, "2")):
            assert await h.run(uuid, job_id) == 0
            assert (await h.passes(uuid, State.DONE)).exit_status == 0


@pytest.mark.logs("the cluster lost job 1 and gave its id to another")
@over
async def test_a_loss_that_two_have_seen_is_one(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        lost, _ = await lost_to_another(h)
        await asyncio.gather(
            h.sync.sweep(), h.sync.examine([(lost, None)], ask=[(lost, None)]), h.sync.sweep()
        )
        assert await h.submitted(lost) == "2"
        assert h.get(lost).attempt == 2
        assert len(h.engine.submitted) == 3


@pytest.mark.logs("the cluster lost job 1 and gave its id to another")
@over
async def test_an_answer_about_the_lost_job_says_nothing_of_the_next(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        lost, _ = await lost_to_another(h)
        read, again, late = h.sync._read, asyncio.Event(), asyncio.Event()

        async def read_late(keys: Any) -> Any:
            if not late.is_set():
                late.set()
                await again.wait()
            return await read(keys)

        h.sync._read = read_late
        slow = asyncio.create_task(h.sync.sweep())
        await late.wait()
        await h.sync.sweep()
        assert await h.submitted(lost) == "2"
        again.set()
        await slow
        assert (h.get(lost).job_id, h.get(lost).attempt) == ("2", 2)
        assert len(h.engine.submitted) == 3


@over
async def test_a_task_in_line_twice_is_submitted_once(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add(submit=False)
        h.submitter._again(uuid)
        h.submitter._again(uuid)
        assert await h.submitted(uuid) == "1"
        assert h.get(uuid).attempt == 1
        assert await h.submitted(await h.add()) == "2"
        assert len(h.engine.submitted) == 2


@over
async def test_what_had_begun_is_not_submitted_again(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True), ending_grace=1e6) as h:
        begun = await h.add("until [ -e go ]; do sleep 0.02; done")
        running = asyncio.create_task(h.run(begun, await h.submitted(begun)))
        await h.passes(begun, State.RUNNING)
        h.engine.use_ids_again()
        other = await h.add()
        assert await h.submitted(other) == "1"
        for _ in range(3):
            await h.sync.sweep()
        assert h.state(begun) is State.RUNNING
        assert h.state(other) is State.QUEUED_ACTIVE
        (h.workspace.folder(begun) / "go").touch()
        assert await running == 0
        await h.passes(begun, State.DONE)
        assert len(h.engine.submitted) == 2


@over
async def test_a_stop_does_not_meet_the_job_that_has_the_id_now(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        lost = await h.add()
        await h.submitted(lost)
        h.engine.use_ids_again()
        other = await h.add()
        assert await h.submitted(other) == "1"
        h.store.update(lost, lambda task: task.changed(stop=True))
        h.controls.request(lost)
        await h.sweeps(lost, State.STOPPED)
        assert h.engine.jobs["1"].report.state is JobState.QUEUED
        assert h.state(other) is not State.STOPPED


def forge_claim(h: House, uuid: str, job_id: str) -> None:
    """What a job can do that runs under the account of all jobs."""
    claim = h.workspace.control(uuid) / "claim"
    claim.unlink(missing_ok=True)
    claim.symlink_to(f"{job_id}.0")


@over
async def test_a_claim_in_anothers_name_does_not_put_the_job_out_of_reach(house: Callable[..., Any]) -> None:
    await _stop_after_a_forged_claim(house, None)


@over
async def test_a_claim_in_nobodys_name_does_not_put_the_job_out_of_reach(house: Callable[..., Any]) -> None:
    await _stop_after_a_forged_claim(house, "77")


async def _stop_after_a_forged_claim(house: Callable[..., Any], claimed: str | None) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        victim = await h.add()
        victims = await h.submitted(victim)
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        for each in (victims, job_id):
            h.engine.begin(each)
        await h.sweeps(victim, State.RUNNING)
        forge_claim(h, uuid, claimed or victims)
        for _ in range(3):
            await h.sync.examine([(uuid, None)], ask=[(uuid, None)])
            await h.sync.sweep()
        assert (h.get(uuid).job_id, h.state(uuid)) == (job_id, State.RUNNING)
        h.store.update(uuid, lambda task: task.changed(stop=True))
        h.controls.request(uuid)
        await h.sweeps(uuid, State.STOPPED)
        assert ("control terminate", job_id) in h.engine.calls
        assert h.state(victim) is State.RUNNING
        assert h.engine.jobs[victims].report.state is JobState.RUNNING


@over
async def test_a_forged_claim_before_the_record_of_the_id(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True, can_find=True)) as h:
        victim = await h.add()
        victims = await h.submitted(victim)
        unknown = await h.add(submit=False, attempt=1)
        forge_claim(h, unknown, victims)
        await h.sync.examine([(unknown, None)])
        assert h.get(unknown).job_id is None
        h.store.update(unknown, lambda task: task.changed(stop=True))
        h.controls.request(unknown)
        await until(lambda: h.state(unknown) is State.STOPPED, "the stop")
        assert h.engine.jobs[victims].report.state is JobState.QUEUED


@over
async def test_a_claim_that_could_not_be_confirmed_is_heard_by_the_next_look(
    house: Callable[..., Any],
) -> None:
    await _confirm_later(house, lambda h, uuid: h.sync.examine([(uuid, None)]))


@over
async def test_a_claim_that_could_not_be_confirmed_is_heard_by_the_sweep(house: Callable[..., Any]) -> None:
    await _confirm_later(house, lambda h, uuid: h.sync.sweep())


async def _confirm_later(house: Callable[..., Any], look: Callable[[House, str], Awaitable[None]]) -> None:
    async with house(MemoryEngine(tells_tasks=True), ending_grace=1e6) as h:
        h.engine.fail_next("submit", PassingFault("connection lost"), lost=True)
        uuid = await h.add("until [ -e go ]; do sleep 0.02; done")
        second = await h.submitted(uuid)
        first = h.engine.ids_of(uuid)[0]
        running = asyncio.create_task(h.run(uuid, first))
        await until((h.workspace.control(uuid) / "claim").is_symlink, "the claim")
        h.engine.begin(first)
        h.engine.leave()
        await h.sync.spool_pass()
        assert h.get(uuid).job_id == second
        h.engine.come_back()
        h.engine.end(second)  # it found the task claimed
        await look(h, uuid)
        assert h.get(uuid).job_id == first
        await h.sweeps(uuid, State.RUNNING)
        (h.workspace.folder(uuid) / "go").touch()
        assert await running == 0
        await h.passes(uuid, State.DONE)


@pytest.mark.logs("the cluster lost job 1 and gave its id to another")
@over
async def test_a_lost_array_is_submitted_again_as_long_as_none_of_it_began(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True), ending_grace=1e6) as h:
        array = {"begin": 1, "end": 2, "step": 1}
        lost, begun = await h.add(array=array), await h.add(array=array)
        assert [await h.submitted(uuid) for uuid in (lost, begun)] == ["1", "2"]
        await h.run(begun, "2", SGE_TASK_ID="1")
        h.engine.use_ids_again()
        others = [await h.add(array=array) for _ in range(2)]
        assert [await h.submitted(uuid) for uuid in others] == ["1", "2"]
        await h.sync.spool_pass()
        await h.sync.sweep()
        assert await h.submitted(lost) == "3"
        assert h.get(begun).job_id == "2"
        assert h.get(begun).members == "dq"


@over
async def test_what_another_job_used_is_not_this_ones(house: Callable[..., Any]) -> None:
    async with house(MemoryEngine(tells_tasks=True)) as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.use_ids_again()
        other = await h.add()
        assert await h.submitted(other) == job_id
        h.engine.end(job_id, usage=Usage(max_rss_bytes=12345))
        await h.run(uuid, job_id)
        await h.passes(uuid, State.DONE)
        await until(lambda: ("finished", job_id) in h.engine.calls, "the reaping")
        await asyncio.sleep(0)
        assert "max_rss_bytes" not in h.get(uuid).usage


@pytest.mark.logs("goes on; it is ended")
@over
async def test_a_job_that_goes_on_after_its_ending_is_ended(house: Callable[..., Any]) -> None:
    """Its task has ended, so that nobody could stop it any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaping, "TRIES", 2)
        patch.setattr(reaping, "FIRST_PAUSE", 0.01)
        await _go_on(house)


async def _go_on(house: Callable[..., Any]) -> None:
    async with house() as h:
        uuid = await h.add()
        job_id = await h.submitted(uuid)
        h.engine.begin(job_id)
        await h.run(uuid, job_id)
        await h.passes(uuid, State.DONE)
        await until(lambda: h.engine.jobs[job_id].report.state is JobState.ENDED, "its end")
        assert h.state(uuid) is State.DONE
