"""Faults of the real cell, seen through the daemon: every task ends right, and none runs twice."""

from __future__ import annotations

import shutil

import pytest
import requests

from tests.cluster.inside.daemons import CLUSTER, PATIENCE, Cluster
from tests.cluster.warden import ask
from tests.e2e.daemon import wait_until


def test_the_master_dies_while_tasks_queue_run_and_end(cluster: Cluster) -> None:
    runs = cluster.submit(cluster.gate("runs"))
    ends = cluster.submit(cluster.gate("ends"))
    fails = cluster.submit(cluster.gate("ends"), exit=3)
    for uuid in (runs, ends, fails):
        cluster.running(uuid)
    ask("disable")
    queued = cluster.submit()
    cluster.until(queued, "queued_active")
    ask("kill-master")
    cluster.gate("ends").touch()
    assert cluster.ended(ends)["state"] == "done"  # the launcher tells, the DRM cannot
    assert cluster.ended(fails)["exit_status"] == 3
    meanwhile = cluster.submit()
    assert cluster.state(meanwhile) == "received"
    assert cluster.state(runs) == "running"
    ask("start-master")
    # Else the execution daemon hears of its master only after a minute or two. A new one looks after the
    # jobs of the one before once a minute, so that this takes one.
    ask("rouse")
    ask("enable")
    cluster.gate("runs").touch()
    for uuid in (runs, queued, meanwhile):
        assert cluster.ended(uuid)["state"] == "done", cluster.task(uuid)
    assert [cluster.runs(uuid) for uuid in (runs, ends, fails, queued, meanwhile)] == [1] * 5


def test_the_master_is_down_when_the_daemon_starts(cluster: Cluster) -> None:
    assert cluster.service.stop() == 0
    ask("kill-master")
    cluster.service.start()
    uuid = cluster.submit()
    assert cluster.state(uuid) == "received"
    wait_until(
        lambda: requests.get(f"{cluster.service.url}/ready", timeout=30).status_code == 503, "not ready"
    )
    ask("start-master")
    ask("rouse")
    assert cluster.ended(uuid)["state"] == "done", cluster.task(uuid)
    assert cluster.runs(uuid) == 1
    wait_until(lambda: requests.get(f"{cluster.service.url}/ready", timeout=30).ok, "ready again")


def test_the_daemon_is_killed_while_jobs_run_and_end(cluster: Cluster) -> None:
    runs = cluster.submit(cluster.gate("runs"))
    ends = cluster.submit(cluster.gate("ends"))
    fails = cluster.submit(cluster.gate("ends"), exit=7)
    for uuid in (runs, ends, fails):
        cluster.running(uuid)
    ask("disable")
    queued = cluster.submit()
    cluster.until(queued, "queued_active")
    cluster.service.kill()
    cluster.gate("ends").touch()
    control = cluster.service.tasks / ".control"
    for uuid in (ends, fails):
        wait_until(lambda uuid=uuid: list((control / uuid).glob("ended.*")), "the endings")
    ask("enable")
    cluster.service.start()
    assert cluster.ended(ends)["state"] == "done"
    assert cluster.ended(fails)["exit_status"] == 7
    assert cluster.state(runs) == "running"
    cluster.gate("runs").touch()
    assert cluster.ended(runs)["state"] == "done"
    assert cluster.ended(queued)["state"] == "done"
    assert [cluster.runs(uuid) for uuid in (runs, ends, fails, queued)] == [1] * 4


def test_the_daemon_dies_between_the_submission_and_its_record(cluster: Cluster) -> None:
    assert cluster.service.stop() == 0
    cluster.service.environ["DRMAATICD_FAULT"] = "submitted"
    cluster.service.start()
    with pytest.raises(requests.ConnectionError):
        cluster.submit(cluster.gate("runs"))
    assert cluster.service.wait() == -9
    del cluster.service.environ["DRMAATICD_FAULT"]
    [uuid] = [path.name for path in cluster.service.tasks.iterdir() if not path.name.startswith(".")]
    cluster.job_id(uuid)  # the job has come to run while nobody knew of it
    cluster.service.start()
    cluster.running(uuid)
    cluster.gate("runs").touch()
    assert cluster.ended(uuid)["state"] == "done"
    assert cluster.runs(uuid) == 1


def test_the_daemon_dies_before_the_record_and_the_job_still_queues(cluster: Cluster) -> None:
    """Slurm can tell that there is a job. Elsewhere nobody can: a second is submitted, and one runs."""
    assert cluster.service.stop() == 0
    ask("disable")
    cluster.service.environ["DRMAATICD_FAULT"] = "submitted"
    cluster.service.start()
    with pytest.raises(requests.ConnectionError):
        cluster.submit()
    assert cluster.service.wait() == -9
    del cluster.service.environ["DRMAATICD_FAULT"]
    [uuid] = [path.name for path in cluster.service.tasks.iterdir() if not path.name.startswith(".")]
    cluster.service.start()
    if CLUSTER == "slurm":
        cluster.until(uuid, "queued_active")
    else:
        cluster.service.wait_for_log(f"task {uuid} never reached the DRM")
    ask("enable")
    assert cluster.ended(uuid)["state"] == "done"
    assert cluster.runs(uuid) == 1


def test_a_job_deleted_behind_the_daemons_back(cluster: Cluster) -> None:
    running = cluster.submit(cluster.gate("never"))
    cluster.running(running)
    ask("delete", cluster.job_id(running))
    found = cluster.ended(running)
    assert found["state"] == "failed"
    assert found["detail"]


def test_a_job_whose_folder_is_gone_does_not_start(cluster: Cluster) -> None:
    ask("disable")
    uuid = cluster.submit()
    cluster.until(uuid, "queued_active")
    shutil.rmtree(cluster.service.tasks / uuid)
    ask("enable")
    found = cluster.ended(uuid)
    assert found["state"] == "failed"
    assert found["detail"]
    assert cluster.runs(uuid) == 0


def test_a_disabled_queue_makes_tasks_wait(cluster: Cluster) -> None:
    ask("disable")
    uuid = cluster.submit()
    cluster.until(uuid, "queued_active")
    ask("enable")
    assert cluster.ended(uuid)["state"] == "done"


def test_a_requeued_job_that_may_run_again_runs_again(cluster: Cluster) -> None:
    uuid = cluster.submit(cluster.gate("runs"), script="again")
    cluster.running(uuid)
    ask("requeue", cluster.job_id(uuid))
    wait_until(lambda: cluster.runs(uuid) == 2, "the second run", PATIENCE)
    cluster.gate("runs").touch()
    assert cluster.ended(uuid)["state"] == "done"


def test_a_job_that_may_not_run_again_does_not(cluster: Cluster) -> None:
    uuid = cluster.submit(cluster.gate("runs"))
    cluster.running(uuid)
    ask("requeue", cluster.job_id(uuid))  # which this Grid Engine then leaves alone
    cluster.gate("runs").touch()
    assert cluster.ended(uuid)["state"] == "done"
    assert cluster.runs(uuid) == 1


@pytest.mark.parametrize("status", [99, 100])
def test_exit_statuses_that_mean_something_to_the_drm(cluster: Cluster, status: int) -> None:
    uuid = cluster.submit(exit=status)
    found = cluster.ended(uuid)
    assert (found["state"], found["exit_status"]) == ("failed", status)
    assert cluster.runs(uuid) == 1


def test_a_drm_that_does_not_answer_holds_up_nobody(cluster: Cluster) -> None:
    """The queue master is frozen, so the engine's thread is stuck in a call."""
    ask("freeze-master")
    try:
        uuid = cluster.submit()
        assert cluster.state(uuid) == "received"
        wait_until(
            lambda: requests.get(f"{cluster.service.url}/ready", timeout=30).status_code == 503,
            "the daemon to see that it is stuck",
        )
        assert requests.get(f"{cluster.service.url}/script", timeout=30).ok
        assert requests.put(f"{cluster.service.url}/task/{uuid}/hold", timeout=30).status_code == 409
    finally:
        ask("thaw-master")
    assert cluster.ended(uuid)["state"] == "done"
    assert cluster.runs(uuid) == 1


def test_a_session_that_died_is_opened_anew(cluster: Cluster) -> None:
    before = cluster.submit()
    assert cluster.ended(before)["state"] == "done"
    ask("kill-master")
    wait_until(
        lambda: requests.get(f"{cluster.service.url}/ready", timeout=30).status_code == 503,
        "the outage to be seen",
    )
    ask("start-master")
    ask("rouse")
    wait_until(lambda: requests.get(f"{cluster.service.url}/ready", timeout=30).ok, "ready again", PATIENCE)
    runs = cluster.submit(cluster.gate("runs"))
    cluster.running(runs)
    assert requests.put(f"{cluster.service.url}/task/{runs}/stop", timeout=30).status_code == 200
    assert cluster.ended(runs)["state"] == "stopped"
