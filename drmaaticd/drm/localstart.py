"""How the embedded engine starts a job's process, and what that is given.

The process waits until it is on record, so that no daemon that dies in between leaves one behind
that the next does not know. Blocking.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.drm import cgroups, processes
from drmaaticd.drm.accounts import Account
from drmaaticd.drm.cgroups import Cgroups
from drmaaticd.drm.localjobs import JobFolder, LocalJob, Run
from drmaaticd.drm.processes import Identity

log = logging.getLogger(__name__)

#: The search path with which the launcher finds its tools.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Started:
    """A process that runs. `pidfd` is the caller's to close."""

    identity: Identity
    pidfd: int
    cgroup: str | None


class Starter:
    """Starts the runs of jobs, each in a session of its own, and in a control group where that can be."""

    def __init__(
        self, folder: JobFolder, run_prefix: Sequence[str], cgroup: Path | None, account: Account
    ) -> None:
        self._folder = folder
        self._account = account
        self._run_prefix = tuple(run_prefix)
        self._cgroups = _open_cgroups(cgroup)

    def start(self, job: LocalJob, run: Run) -> Started:
        """Start a run, which is written down here: `run` is the caller's copy. Raises OSError."""
        command = (*self._run_prefix, "/bin/sh", job.run_script)
        held = processes.start_held(command, _environment(job, run, self._account), self._account)
        try:
            run.cgroup = self._join_cgroup(job, run, held.identity.pid)
            run.identity = held.identity
            self._folder.write(*job.run_file(run))
            held.release()
        except BaseException:
            held.close()
            os.close(held.pidfd)
            self._account.abandon(held.identity.pid)  # without the word it ends at once
            if run.cgroup is not None:
                cgroups.remove(Path(run.cgroup))
            raise
        return Started(held.identity, held.pidfd, run.cgroup)

    def _join_cgroup(self, job: LocalJob, run: Run, pid: int) -> str | None:
        if self._cgroups is None:
            return None
        name = job.id if run.index is None else f"{job.id}.{run.index}"
        group = self._cgroups.join(name, pid)
        return None if group is None else str(group)


def _open_cgroups(parent: Path | None) -> Cgroups | None:
    parent = parent or cgroups.delegated()
    if parent is not None:
        return Cgroups(parent)
    log.info("jobs have no control groups here: their processes are found by what they inherit")
    return None


def _environment(job: LocalJob, run: Run, account: Account) -> dict[str, str]:
    """All that the launcher is given; the daemon's own environment is none of it."""
    environment = {
        "PATH": _PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "TMPDIR": tempfile.gettempdir(),
        "DRMAATICD_TASK_ID": job.task,
        "DRMAATICD_JOB_ID": job.id,
        "DRMAATICD_RESTART_COUNT": str(run.restart),
        processes.RUN_VARIABLE: job.mark(run),
    }
    if run.index is not None:
        environment["DRMAATICD_TASK_INDEX"] = str(run.index)
    return environment
