"""The API's end-to-end tests once more, with the jobs under a second account."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.test_api import *  # noqa: F403  # every test in it is collected here again
from tests.e2e.test_api import SLOTS, drop_scripts, ended, get, post
from tests.runas.places import as_job, with_jobs_apart

#: Run under the jobs' account: SIGTERM for the ``sleep`` of a task; says how many there were.
TERMINATE = """
import os, pathlib, signal, sys
count = 0
for place in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        environ = (place / "environ").read_bytes().split(b"\\0")
        if f"DRMAATICD_TASK_ID={sys.argv[1]}".encode() in environ:
            if (place / "comm").read_text() == "sleep\\n":
                os.kill(int(place.name), signal.SIGTERM)
                count += 1
    except OSError:
        continue
print(count)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with with_jobs_apart(
        tmp_path_factory.mktemp("api"), drm={"slots": SLOTS}, groups={"staff": {}}
    ) as running:
        drop_scripts(running)
        yield running.start()


def test_a_signal_is_named(service: Daemon) -> None:
    """As the test that it replaces, whose account may not signal the job."""
    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    wait_until(lambda: get(service, f"/task/{name}").json()["state"] == "running", "the task to run")
    said: list[str] = []

    def terminated() -> bool:
        said.append(as_job(sys.executable, "-c", TERMINATE, name)[1])
        return bool(get(service, f"/task/{name}").json()["state"] != "running")

    wait_until(terminated, "the command to run and to be ended")
    assert any(text != "0\n" for text in said), said
    task = ended(service, name)
    assert (task["state"], task["exit_status"], task["signal"]) == ("failed", 143, "SIGTERM")
