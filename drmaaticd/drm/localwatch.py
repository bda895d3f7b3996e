"""A run of the embedded engine's that is under way, and what may be left of one that is not."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.drm.localjobs import LocalJob, Run
from drmaaticd.drm.processes import Identity, Target
from drmaaticd.drm.trees import Tree


@dataclass(slots=True, eq=False)
class Watched:
    """A process under way, and what hangs on it."""

    job: LocalJob
    run: Run
    identity: Identity
    pidfd: int
    sure: bool = True
    """Whether it is known to have been released; otherwise it is started anew when it has ended."""
    timer: asyncio.TimerHandle | None = None

    @property
    def tree(self) -> Tree:
        """All processes of the run."""
        return _tree(self.job, self.run, self.identity)


def remains(job: LocalJob, run: Run) -> Tree:
    """What may be left of a run that ended some time ago.

    Its session's number may be another's by now: without a control group, the environment tells.
    """
    return _tree(job, run, None)


def _tree(job: LocalJob, run: Run, root: Identity | None) -> Tree:
    mark = job.mark(run)
    group = None if run.cgroup is None else Path(run.cgroup)
    return Tree(Target(job.task, mark, root), group, Path(tempfile.gettempdir(), f"drmaaticd-{mark}"))
