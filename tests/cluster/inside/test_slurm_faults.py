"""Faults that are Slurm's own: forgetting, ids given twice, nodes that fail, answers that are lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from drmaaticd.drm.base import Action, JobState, PassingFault
from drmaaticd.drm.slurm import SlurmEngine
from tests.cluster.inside.cells import until
from tests.cluster.inside.daemons import Cluster
from tests.cluster.warden import ask
from tests.e2e.daemon import wait_until
from tests.launching import Place, in_loop

PARTITION = f"--partition={os.environ.get('DRM_PARTITION', 'eight')}"


def squeue(*options: str) -> list[str]:
    """The lines that squeue prints of this account's jobs, ended ones among them."""
    done = subprocess.run(
        ["squeue", "--me", "--noheader", "--states=all", *options], capture_output=True, text=True
    )
    return done.stdout.splitlines()


def task_job(uuid: str) -> str:
    """The id of a task's job, which has not begun."""
    found = wait_until(
        lambda: [line.split()[0] for line in squeue("--format=%i %j") if line.endswith(uuid)], "the job"
    )
    return str(found[0])


@pytest.fixture(autouse=True)
def _whole_again() -> Iterator[None]:
    """Whatever a test did to the cluster is undone."""
    yield
    ask("mend")


def test_slurm_forgets_before_the_daemon_asks(cluster: Cluster) -> None:
    """MinJobAge is ten seconds here: the launcher's word is all that is left."""
    well, badly = cluster.submit(cluster.gate("ends")), cluster.submit(cluster.gate("ends"), exit=5)
    jobs = [cluster.job_id(uuid) for uuid in (well, badly)]
    for uuid in (well, badly):
        cluster.running(uuid)
    cluster.service.kill()
    cluster.gate("ends").touch()
    wait_until(lambda: not set(jobs) & set(squeue("--format=%i")), "Slurm to forget the jobs")
    cluster.service.start()
    assert cluster.ended(well)["state"] == "done"
    assert cluster.ended(badly)["exit_status"] == 5


def test_a_job_is_cancelled_while_it_queues(cluster: Cluster) -> None:
    ask("disable")
    uuid = cluster.submit()
    cluster.until(uuid, "queued_active")
    ask("delete", task_job(uuid))
    found = cluster.ended(uuid)
    assert (found["state"], found["detail"]) == ("failed", "did not start: it was cancelled")
    assert cluster.runs(uuid) == 0


def test_a_node_is_drained_under_a_job(cluster: Cluster) -> None:
    runs = cluster.submit(cluster.gate("runs"))
    cluster.running(runs)
    ask("drain-node")
    waits = cluster.submit()
    cluster.until(waits, "queued_active")
    cluster.gate("runs").touch()
    assert cluster.ended(runs)["state"] == "done"
    assert cluster.state(waits) == "queued_active"
    ask("resume-node")
    assert cluster.ended(waits)["state"] == "done"
    assert [cluster.runs(uuid) for uuid in (runs, waits)] == [1, 1]


def test_a_node_fails_under_its_jobs(cluster: Cluster) -> None:
    once = cluster.submit(cluster.gate("runs"))
    again = cluster.submit(cluster.gate("runs"), script="again")
    for uuid in (once, again):
        cluster.running(uuid)
    ask("fail-node")
    found = cluster.ended(once)
    assert (found["state"], found["detail"]) == ("failed", "its node failed")
    ask("resume-node")
    wait_until(lambda: cluster.runs(again) == 2, "the second run")
    cluster.gate("runs").touch()
    assert cluster.ended(again)["state"] == "done"
    assert cluster.runs(once) == 1


def test_the_controller_loses_a_job_and_gives_its_id_to_another(cluster: Cluster) -> None:
    """As after a crash before its state was saved, only that it happens every time."""
    cluster.service.allow.append("gave its id to another")
    ask("disable")
    ask("keep-state")
    lost, stopped = cluster.submit(), cluster.submit()
    ids = [task_job(uuid) for uuid in (lost, stopped)]
    ask("kill-master")
    ask("lose-state")
    # Before the daemon can ask again, other jobs have the ids.
    cluster.service.signal(19)
    ask("start-master")
    submit = ["sbatch", "--parsable", PARTITION, "--output=/dev/null", "--job-name=somebody-elses"]
    theirs = [
        subprocess.run([*submit, "--wrap=true", "--hold"], check=True, capture_output=True, text=True)
        for _ in ids
    ]
    assert [done.stdout.strip() for done in theirs] == ids
    cluster.service.signal(18)
    assert requests.put(f"{cluster.service.url}/task/{stopped}/stop", timeout=30).status_code == 200
    assert cluster.ended(stopped)["state"] == "stopped"
    assert {line.split()[1] for line in squeue("--format=%i %T") if line.split()[0] in ids} == {"PENDING"}
    ask("enable")
    assert cluster.ended(lost)["state"] == "done"
    assert [cluster.runs(uuid) for uuid in (lost, stopped)] == [1, 0]


def test_the_controller_crashes_right_after_a_submission(cluster: Cluster) -> None:
    """It may have lost the job or not; the next submission settles it."""
    cluster.service.allow.append("gave its id to another")
    ask("disable")
    first = cluster.submit()
    wait_until(lambda: cluster.state(first) != "received", "the submission")
    ask("crash-master")
    ask("start-master")
    ask("disable")
    second = cluster.submit()
    ask("enable")
    for uuid in (first, second):
        assert cluster.ended(uuid)["state"] == "done"
        assert cluster.runs(uuid) == 1


@in_loop
async def test_a_submission_whose_answer_was_lost_is_found_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tasks")
    engine = SlurmEngine(native={"always": f"{PARTITION} --hold"})
    await engine.start()
    try:
        job = place.job("exit 0")
        assert engine.fault() is None
        ask("freeze-master")
        with pytest.raises(PassingFault):
            await engine.submit(job)
        assert engine.fault() is not None
        ask("thaw-master")

        async def submitted() -> str | None:
            try:
                return await engine.submit(job)
            except PassingFault:
                return None

        job_id = await until(submitted, "the controller takes jobs")
        assert engine.fault() is None
        named = [line.split()[0] for line in squeue("--format=%i %j") if line.endswith(job.task)]
        assert named == [job_id]
        await engine.control(job_id, Action.TERMINATE, "another task's")
        assert (await engine.states([job_id], 5.0))[job_id].state is JobState.USER_HELD
        await engine.control(job_id, Action.TERMINATE, job.task)
        assert (await engine.states([job_id], 5.0))[job_id].state is JobState.ENDED
    finally:
        await engine.close()


@in_loop
async def test_one_squeue_answers_for_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "tasks")
    engine = SlurmEngine(native={"always": f"{PARTITION} --hold"})
    await engine.start()
    try:
        ids = await asyncio.gather(*(engine.submit(place.job("exit 0")) for _ in range(40)))
        calls: list[str] = []
        run = engine._commands.run

        async def counted(kind: object, name: str, *arguments: object, **more: object) -> object:
            calls.append(name)
            return await run(kind, name, *arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(engine._commands, "run", counted)
        reports = await engine.states(ids, 5.0)
        assert {report.state for report in reports.values()} == {JobState.USER_HELD}
        assert calls == ["squeue"]
    finally:
        await engine.close()
        ask("delete-all")
