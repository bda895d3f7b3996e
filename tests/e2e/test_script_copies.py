"""The copies of scripts, over a change of the scripts, a restart and two days' time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import requests

from drmaaticd.copies import OLD
from tests.e2e.daemon import Daemon, wait_until


def submit(service: Daemon, name: str, **fields: str) -> str:
    answer = requests.post(f"{service.url}/task/", data={"task_name": name, **fields}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


def state(service: Daemon, uuid: str) -> str:
    return str(requests.get(f"{service.url}/task/{uuid}", timeout=60).json()["state"])


def test_copies_stay_for_what_waits_and_go_when_nothing_needs_them(daemon: Callable[..., Daemon]) -> None:
    service = daemon(start=False, drm={"slots": 2})
    gate = service.folder / "gate"
    service.inline("first", f"until [ -e {gate} ]; do sleep 0.02; done")
    service.inline("second", "echo the version that it was sent with")
    service.inline("third", "true")
    service.start()
    first = submit(service, "first")
    second = submit(service, "second", dependencies=first)
    third = submit(service, "third")
    wait_until(lambda: state(service, third) == "done", "the task that waits for nothing to end")
    assert service.stop() == 0

    copies = {path.name: path for path in (service.tasks / ".scripts").glob("*/*")}
    assert sorted(copies) == ["first", "second", "third"]
    then = time.time() - 2 * OLD
    for path in (service.tasks / ".scripts").rglob("*"):
        os.utime(path, (then, then))
    service.inline("second", "echo another version")
    (service.scripts / "third.toml").unlink()

    service.start()
    service.wait_for_log("copies of 1 scripts that nothing needs any more were removed")
    assert {name for name, path in copies.items() if path.exists()} == {"first", "second"}
    gate.touch()
    wait_until(lambda: state(service, second) == "done", "the task that waited to end")
    out = requests.get(f"{service.url}/task/{second}/file/{second[:8]}_out.txt", timeout=60)
    assert out.text == "the version that it was sent with\n"
    service.restart()
    wait_until(lambda: not copies["second"].exists(), "the former version to go")
    assert copies["first"].exists()
