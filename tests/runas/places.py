"""Folders that the jobs' account can come through, and daemons whose jobs it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon, daemon


def let_in(folder: Path) -> None:
    """Let every account through to a folder below this account's: pytest makes them for this one alone."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.geteuid():
            place.chmod(0o711)


@contextmanager
def with_jobs_apart(
    folder: Path, *, allow: Sequence[str] = (), drm: Any = None, **config: Any
) -> Iterator[Daemon]:
    """A daemon with ``run_as``, not started yet."""
    let_in(folder)
    settings = {"run_as": os.environ["RUNAS_JOBS"], **(drm or {})}
    with daemon(folder, start=False, allow=allow, drm=settings, **config) as service:
        yield service
