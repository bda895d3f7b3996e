"""A control group (cgroup v2) for each job, where this process may make one: nothing escapes from it.

Used to find and kill what belongs to a job, not to limit it: a limit needs controllers enabled in
the daemon's own group, into which the init system could then not start the next daemon.
See cgroups(7) and the kernel's cgroup-v2 document.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from time import monotonic

log = logging.getLogger(__name__)

#: Seconds after a fault until groups are tried again: the first pause and the longest; each doubles.
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0

#: Extended attributes by which systemd says that a group was handed over (``Delegate=yes``).
_DELEGATED = ("user.delegate", "trusted.delegate")

#: The group under which the jobs' groups lie.
_JOBS = "drmaaticd-jobs"

_MOUNT = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 ", re.MULTILINE)


class Cgroups:
    """The jobs' groups under one folder of the cgroup v2 file system. Blocking.

    A fault passes: a limit on groups is raised, a folder is made again. So after one it is tried again,
    though not for each job: one that is started meanwhile is found by what its processes inherit.
    """

    def __init__(self, parent: Path) -> None:
        """`parent` is a group in which this process may make others."""
        self._folder = parent / _JOBS
        self._fault = ""
        self._pause = FIRST_PAUSE
        self._again = 0.0
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            self._failed(error)

    def join(self, name: str, pid: int) -> Path | None:
        """Put a process, with what it starts from now on, into a new group; None if that cannot be."""
        if self._fault and monotonic() < self._again:
            return None
        try:
            group = self._create(name, pid)
        except ProcessLookupError:
            return None  # it has ended, which says nothing of groups
        except OSError as error:
            self._failed(error)
            return None
        if self._fault:
            log.info("jobs get control groups again")
            self._fault, self._pause = "", FIRST_PAUSE
        return group

    def _create(self, name: str, pid: int) -> Path:
        group = self._folder / name
        group.mkdir(parents=True, exist_ok=True)  # somebody may have removed the folder, which was empty
        try:
            (group / "cgroup.procs").write_text(str(pid), "ascii")
        except OSError:
            remove(group)
            raise
        return group

    def _failed(self, error: OSError) -> None:
        if not self._fault:
            log.warning("jobs get no control groups at present; it is tried again: %s", error)
        self._fault = str(error)
        self._again = monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def delegated() -> Path | None:
    """This process's own group, if it was handed over to it."""
    own = _own_group()
    if own is None or not os.access(own / "cgroup.procs", os.W_OK):
        return None
    if os.geteuid() != 0:
        return own
    # Root may write everywhere; that does not make the group its to divide.
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(own, name) == b"1":
                return own
    return None


def _own_group() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    paths = [line[3:] for line in lines if line.startswith("0::/")]
    mount = _MOUNT.search(mounts)
    if not paths or mount is None:
        return None
    # A mount may show only a part of the hierarchy, as in a container.
    inside = os.path.relpath(paths[0], mount[1])
    return None if inside.startswith("..") else Path(mount[2]) / inside


def pids(group: Path) -> list[int]:
    """The processes in a group and in the groups below it."""
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):  # a group that has just been removed
            text = (Path(folder) / "cgroup.procs").read_text("ascii")
            found.extend(int(line) for line in text.split())
    return found


def kill(group: Path) -> bool:
    """SIGKILL everything in a group at once; False where the kernel cannot (before Linux 5.14)."""
    try:
        (group / "cgroup.kill").write_text("1", "ascii")
    except OSError:
        return False
    return True


def remove(group: Path) -> bool:
    """Remove an empty group with those below it; False if something is in it still."""
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError as error:
        log.debug("control group %s stays: %s", group, error)
        return False
    return True
