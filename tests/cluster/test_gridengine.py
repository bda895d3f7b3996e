"""The parts in `inside/`, and the engines' contract, on a real one-node Grid Engine.

Each runs in a pytest of its own under the ordinary account that `tests/gridengine.sh` makes, as the
daemon would: as root, what permissions, umask and squashed roots break would stay hidden.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd.drm.library import STATIC_TLS, TUNABLES
from tests.cluster.outside import ACCOUNT, HOME, ROOT, command, copy_tree, need_root
from tests.cluster.warden import SCRIPTS, VARIABLE, Warden

SCRIPT = SCRIPTS["gridengine"]
TREE = HOME / "tree"
PARTS = [
    *sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests/cluster/inside").glob("test_*.py")
        if "slurm" not in path.name
    ),
    "tests/contract/test_engine.py",
]

#: Slots of the cell's one queue; the contract's tests fill it.
SLOTS = "8"
CONTRACT_SLOTS = "2"

#: Seconds for one part: restarts of the queue master take up to a minute each.
PART_TIMEOUT = 1200


@pytest.fixture(scope="module")
def warden() -> Iterator[Path]:
    """A running cell, and root's ear for what the tests want done to it."""
    need_root("Grid Engine")
    subprocess.run(["/bin/sh", str(SCRIPT), "start"], check=True, timeout=500)
    copy_tree(TREE)
    path = HOME / "warden.sock"
    listening = Warden(path, pwd.getpwnam(ACCOUNT).pw_uid)
    try:
        yield path
    finally:
        listening.close()


@pytest.mark.timeout(PART_TIMEOUT + 500)
@pytest.mark.parametrize("part", PARTS)
def test_on_a_real_grid_engine(warden: Path, part: str) -> None:
    slots = SLOTS if "contract" not in part else CONTRACT_SLOTS
    subprocess.run(
        ["/bin/sh", str(SCRIPT), "start"], check=True, timeout=200, env={**os.environ, "DRM_SLOTS": slots}
    )
    done = subprocess.run(
        command(SCRIPT, TREE, part, variables=[f"{TUNABLES}={STATIC_TLS}"]),
        env={**os.environ, VARIABLE: str(warden)},
        capture_output=True,
        text=True,
        timeout=PART_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-5000:]}"
