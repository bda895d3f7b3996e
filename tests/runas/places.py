"""Folders that the jobs' account can come through, and daemons whose jobs it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drmaaticd.drm.otheraccount import OtherAccount
from tests.e2e.daemon import Daemon, daemon

#: Run under the jobs' account: end every process of these tasks.
END = """
import os, pathlib, signal, sys
wanted = {f"DRMAATICD_TASK_ID={task}".encode() for task in sys.argv[1:]}
for place in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if wanted & set((place / "environ").read_bytes().split(b"\\0")):
            os.kill(int(place.name), signal.SIGKILL)
    except OSError:
        continue
"""


def jobs_account() -> OtherAccount:
    """The second account of `tests/runas.sh`."""
    return OtherAccount(os.environ["RUNAS_JOBS"])


def as_job(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run a command under the jobs' account; its exit status and everything that it says."""
    account = jobs_account()
    try:
        words = ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *command]
        with account.piped(words, {"PATH": "/usr/bin:/bin", "HOME": "/"}) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(stdin)
            process.stdin.close()
            said = process.stdout.read().decode("utf-8", "replace")
            return process.wait(60), said
    finally:
        account.close()


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
        try:
            yield service
        finally:
            if service.running:
                service.stop()
            control = service.tasks / ".control"
            tasks = [place.name for place in control.iterdir()] if control.is_dir() else []
            status, said = as_job(sys.executable, "-c", END, *tasks)
            assert status == 0, said
