"""Slurm's commands, and with them its jobs, under the second account, on the cluster of `tests/slurm.sh`."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.cluster.inside.daemons import DRM
from tests.e2e.daemon import Daemon, wait_until
from tests.runas.inside.test_life import ARRAY, PRIVATE, WAIT, go, submit, task
from tests.runas.places import with_jobs_apart

JOBS = os.environ["RUNAS_JOBS"]
PATIENCE = 120.0
ENDS = ("done", "failed", "stopped", "rejected")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with with_jobs_apart(tmp_path_factory.mktemp("slurm"), drm=DRM) as made:
        made.inline("wait", WAIT)
        made.inline("private", PRIVATE)
        made.inline("members", 'touch "up.$DRMAATICD_TASK_INDEX"; sleep 600', ARRAY)
        yield made.start()


def until(service: Daemon, uuid: str, *states: str) -> str:
    wait_until(lambda: task(service, uuid)["state"] in states, f"{uuid} to be {states}", PATIENCE)
    return str(task(service, uuid)["state"])


def started(service: Daemon, uuid: str) -> Path:
    folder = service.tasks / uuid
    wait_until((folder / "started").exists, "the job to be there", PATIENCE)
    until(service, uuid, "running")
    return folder


def put(service: Daemon, uuid: str, action: str) -> None:
    requests.put(f"{service.url}/task/{uuid}/{action}", timeout=30).raise_for_status()


def queue() -> dict[str, str]:
    """The owners of the jobs that Slurm knows, by their names."""
    words = ["squeue", "--noheader", "--states=all", "--format=%j %u"]
    lines = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    return dict(line.split() for line in lines)


def test_the_jobs_are_the_other_accounts(service: Daemon) -> None:
    uuid = submit(service, "wait")
    folder = started(service, uuid)
    assert queue()[f"t-wait-{uuid}"] == JOBS
    assert (folder / "started").stat().st_uid == pwd.getpwnam(JOBS).pw_uid
    go(folder)
    assert until(service, uuid, *ENDS) == "done"
    out = task(service, uuid)["stdout"]
    assert requests.get(f"{service.url}/task/{uuid}/file/{out}", timeout=30).text == f"{JOBS}\n"


def test_a_stop_and_a_suspension_reach_it(service: Daemon) -> None:
    uuid = submit(service, "wait")
    started(service, uuid)
    put(service, uuid, "suspend")
    until(service, uuid, "user_suspended", "system_suspended")
    put(service, uuid, "resume")
    until(service, uuid, "running")
    put(service, uuid, "stop")
    assert until(service, uuid, *ENDS) == "stopped"


def test_a_killed_daemons_jobs_are_adopted(service: Daemon) -> None:
    uuid = submit(service, "wait")
    folder = started(service, uuid)
    service.kill()
    service.start()
    assert task(service, uuid)["state"] == "running"
    go(folder)
    assert until(service, uuid, *ENDS) == "done"


def test_an_array_is_stopped_and_removed(service: Daemon) -> None:
    uuid = submit(service, "members")
    folder = service.tasks / uuid
    wait_until(lambda: all((folder / f"up.{index}").exists() for index in (1, 2, 3)), "all members", PATIENCE)
    put(service, uuid, "stop")
    until(service, uuid, *ENDS)
    requests.delete(f"{service.url}/task/{uuid}", timeout=30).raise_for_status()
    wait_until(lambda: not folder.exists(), "its folder to be gone", PATIENCE)


def test_private_files_are_served_and_removed(service: Daemon) -> None:
    uuid = submit(service, "private")
    assert until(service, uuid, *ENDS) == "done"
    url = f"{service.url}/task/{uuid}"
    assert requests.get(f"{url}/file/closed/inner/file", timeout=30).text == "hidden\n"
    requests.delete(url, timeout=30).raise_for_status()
    wait_until(lambda: not (service.tasks / uuid).exists(), "its folder to be gone")
