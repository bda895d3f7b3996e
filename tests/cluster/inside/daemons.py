"""A real daemon on the real cell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon, daemon

#: What leads to the cell. GLIBC_TUNABLES is not among it: the daemon starts itself anew.
CELL_VARIABLES = ("SGE_ROOT", "SGE_CELL", "DRMAA_LIBRARY_PATH")

#: Sweeps and graces that a test can wait for.
DRM = {"backend": "drmaa", "sweep_interval": "1 s", "ending_grace": "4 s"}


@contextmanager
def on_cell(folder: Path, *, allow: Sequence[str] = (), **drm: Any) -> Iterator[Daemon]:
    """A daemon that submits to the cell, not started yet."""
    environ = {name: os.environ[name] for name in CELL_VARIABLES if name in os.environ}
    groups = {"staff": {}}  # which a script of the API's tests is for
    with daemon(folder, start=False, environ=environ, allow=allow, drm=DRM | drm, groups=groups) as service:
        yield service
