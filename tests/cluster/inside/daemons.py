"""A real daemon on the real cluster that `$DRM_CLUSTER` names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon, daemon

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
    with daemon(folder, start=False, environ=environ, allow=allow, drm=DRM | drm) as service:
        yield service
