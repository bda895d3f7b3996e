"""Kill the daemon at random moments under load: what was acknowledged is there, and ran once.

The random seed is printed with a failure; nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from tests.e2e.daemon import Daemon, daemon, wait_until

KILLS = 6
CLIENTS = 3

FINAL = {"done", "failed", "stopped", "rejected"}


def free_port() -> int:
    """A port that is free now: the clients must find the next daemon where the last one was."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Client(threading.Thread):
    """Submits, stops and deletes, and remembers what it was told."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.accepted: list[str] = []
        self.stopped: set[str] = set()
        self.deleted: set[str] = set()
        self.maybe_ended: set[str] = set()
        """Stops and deletions that were asked for and got no answer."""
        self.odd: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.step()
            except requests.ConnectionError:
                time.sleep(0.02)  # the daemon is dead or not there yet

    def step(self) -> None:
        dice = self.random.random()
        if dice < 0.1 and self.accepted:
            self.end(self.random.choice(self.accepted))
            return
        answer = requests.post(
            f"{self.url}/task/",
            data={"task_name": "mark", "seconds": f"{self.random.random() / 10:.3f}"},
            files={"input": ("x.bin", self.random.randbytes(self.random.randrange(1, 5000)))},
            timeout=60,
        )
        if answer.status_code == 201:
            self.accepted.append(answer.json()["uuid"])
        elif answer.status_code != 503:  # it says so while it stops
            self.odd.append(f"{answer.status_code} {answer.text}")

    def end(self, uuid: str) -> None:
        if uuid in self.deleted:
            return
        self.maybe_ended.add(uuid)
        if self.random.random() < 0.5:
            answer = requests.put(f"{self.url}/task/{uuid}/stop", timeout=60)
            if answer.status_code == 200:
                self.stopped.add(uuid)
            expected = {200, 409}
        else:
            answer = requests.delete(f"{self.url}/task/{uuid}", timeout=60)
            if answer.status_code == 204:
                self.deleted.add(uuid)
            expected = {204, 404} if uuid in self.maybe_ended else {204}
        if answer.status_code not in expected and answer.status_code != 503:
            self.odd.append(f"{answer.status_code} {answer.text}")


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    runs = tmp_path / "runs"
    runs.touch()
    with daemon(
        tmp_path,
        start=False,
        server={"port": free_port()},
        drm={"slots": 4},
        allow=[r"torn", r"damaged"],
    ) as service:
        service.script(
            "mark",
            f"""
            inline = '''#!/bin/sh
            echo "$DRMAATICD_TASK_ID" >> '{runs}'
            sleep "$1"
            cat input.bin > copy
            '''
            [[param]]
            name = "seconds"
            type = "float"
            [[param]]
            name = "input"
            type = "file"
            flag = "--input"
            """.replace("\n            ", "\n"),
        )
        service.start()
        clients = [Client(service.url, dice.randrange(10**9)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            before = accepted_by(clients)
            wait_until(lambda before=before: accepted_by(clients) > before + 5, "some tasks")
            time.sleep(dice.random() / 2)  # the moment is the point
            service.kill()
            service.start()
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(90)
            assert not client.is_alive()
            assert not client.odd, client.odd
        check(service, clients, runs)


def accepted_by(clients: list[Client]) -> int:
    """How many tasks have been acknowledged."""
    return sum(len(client.accepted) for client in clients)


def check(service: Daemon, clients: list[Client], runs: Path) -> None:
    """Compare what was told with what is there."""
    accepted = [uuid for client in clients for uuid in client.accepted]
    deleted = set().union(*(client.deleted for client in clients))
    maybe_ended = set().union(*(client.maybe_ended for client in clients))
    assert len(accepted) == len(set(accepted)) > KILLS

    def task(uuid: str) -> dict[str, str] | None:
        answer = requests.get(f"{service.url}/task/{uuid}", timeout=60)
        if answer.status_code == 404:
            return None
        body: dict[str, str] = answer.json()
        return body

    def all_ended() -> bool:
        return all(found["state"] in FINAL for uuid in accepted if (found := task(uuid)) is not None)

    wait_until(all_ended, "every task to end", patience=120)
    ran = Counter(runs.read_text().split())
    assert not {uuid: count for uuid, count in ran.items() if count > 1}, "tasks ran twice"
    for uuid in accepted:
        found = task(uuid)
        if uuid in deleted:
            assert found is None, f"{uuid} was deleted and is back"
        elif found is None:
            assert uuid in maybe_ended, f"{uuid} was acknowledged and is lost"
        elif uuid in maybe_ended:
            assert found["state"] in ("done", "stopped"), found
        else:
            assert found["state"] == "done", found
            assert ran[uuid] == 1, f"{uuid} is done and never ran"
            files = requests.get(f"{service.url}/task/{uuid}/file", timeout=60).json()
            assert {"input.bin", "copy"} <= set(files)
    wait_until(lambda: leftovers(service, accepted, deleted) == set(), "what was deleted to go")


def leftovers(service: Daemon, accepted: list[str], deleted: set[str]) -> set[str]:
    """Task folders that belong to no task: of deleted ones, or of requests that were cut off."""
    folders = {path.name for path in service.tasks.iterdir() if not path.name.startswith(".")}
    unknown = folders - set(accepted)
    # A request whose answer was lost may have made a task all the same; then it is to be found.
    lost = {
        uuid for uuid in unknown if requests.get(f"{service.url}/task/{uuid}", timeout=60).status_code == 200
    }
    return (unknown - lost) | (folders & deleted)
