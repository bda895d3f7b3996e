"""A real daemon on the real cluster that `$DRM_CLUSTER` names, and tasks that it can be disturbed with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.e2e.daemon import Daemon, daemon, wait_until

#: What leads to the cell. GLIBC_TUNABLES is not among it: the daemon starts itself anew.
CELL_VARIABLES = ("SGE_ROOT", "SGE_CELL", "DRMAA_LIBRARY_PATH")

#: Which cluster this is.
CLUSTER = os.environ.get("DRM_CLUSTER", "gridengine")

#: What each cluster's daemon is told: of Slurm's partitions the one that runs as many jobs as the cell.
BACKENDS: dict[str, dict[str, Any]] = {
    "gridengine": {"backend": "drmaa"},
    "slurm": {
        "backend": "slurm",
        "native": {"always": f"--partition={os.environ.get('DRM_PARTITION', 'eight')}"},
    },
}

#: Sweeps and graces that a test can wait for.
DRM = {**BACKENDS[CLUSTER], "sweep_interval": "1 s", "ending_grace": "4 s"}

#: Seconds after which a job with the shortest time limit has been ended: Slurm counts whole minutes,
#: and looks twice a minute.
LIMIT_PATIENCE = 150.0


@contextmanager
def on_cell(folder: Path, *, allow: Sequence[str] = (), **drm: Any) -> Iterator[Daemon]:
    """A daemon that submits to the cluster, not started yet."""
    environ = {name: os.environ[name] for name in CELL_VARIABLES if name in os.environ}
    groups = {"staff": {}}  # which a script of the API's tests is for
    with daemon(folder, start=False, environ=environ, allow=allow, drm=DRM | drm, groups=groups) as service:
        yield service


#: Seconds within which the cell has noticed everything, an outage of its master included.
PATIENCE = 200.0

NAP = """
inline = '''#!/bin/sh
echo "$DRMAATICD_TASK_ID" >> "$1"
until [ -e "$2" ]; do sleep 0.05; done
exit "$3"
'''
[[param]]
name = "log"
type = "string"
[[param]]
name = "until"
type = "string"
[[param]]
name = "exit"
type = "int"
default = 0
"""


class Cluster:
    """A daemon on the cell, and tasks that log each run and end when they are told."""

    def __init__(self, service: Daemon, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.log = folder / "ran"
        self.open = folder / "open"
        self.open.touch()

    def gate(self, name: str) -> Path:
        return self.folder / f"gate-{name}"

    def submit(self, until: Path | None = None, exit: int = 0, script: str = "nap") -> str:
        fields = {"log": str(self.log), "until": str(until or self.open), "exit": str(exit)}
        answer = requests.post(f"{self.service.url}/task/", data={"task_name": script, **fields}, timeout=30)
        assert answer.status_code == 201, answer.text
        uuid: str = answer.json()["uuid"]
        return uuid

    def task(self, uuid: str) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.service.url}/task/{uuid}", timeout=30).json()
        return found

    def state(self, uuid: str) -> str:
        return str(self.task(uuid)["state"])

    def until(self, uuid: str, *states: str) -> dict[str, Any]:
        wait_until(lambda: self.state(uuid) in states, f"{uuid} to be {states}", PATIENCE)
        return self.task(uuid)

    def running(self, uuid: str) -> None:
        """Wait until the task's script runs, and the daemon says so: its job runs a moment earlier."""
        wait_until(lambda: self.runs(uuid), f"{uuid} to log its run", PATIENCE)
        self.until(uuid, "running")

    def ended(self, uuid: str) -> dict[str, Any]:
        return self.until(uuid, "done", "failed", "stopped", "rejected")

    def job_id(self, uuid: str) -> str:
        """The DRM's id, which the launcher has written into its claim."""
        claim = self.service.tasks / ".control" / uuid / "claim"
        wait_until(claim.is_symlink, "the claim", PATIENCE)
        return str(claim.readlink()).rpartition(".")[0]

    def runs(self, uuid: str) -> int:
        return self.log.read_text().split().count(uuid) if self.log.exists() else 0
