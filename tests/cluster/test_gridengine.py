"""The parts in `inside/`, and the engines' contract, on a real one-node Grid Engine.

Each runs in a pytest of its own under the ordinary account that `tests/gridengine.sh` makes, as the
daemon would: as root, what permissions, umask and squashed roots break would stay hidden.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd.drm.library import STATIC_TLS, TUNABLES
from tests.cluster.warden import SCRIPT, VARIABLE, Warden

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = os.environ.get("DRM_ACCOUNT", "drmtest")
HOME = Path("/var/lib") / ACCOUNT
TREE = HOME / "tree"
PARTS = [
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/cluster/inside").glob("test_*.py")),
    "tests/contract/test_engine.py",
]

#: Slots of the cell's one queue; the contract's tests fill it.
SLOTS = "8"
CONTRACT_SLOTS = "2"

#: Seconds for one part: restarts of the queue master take up to a minute each.
PART_TIMEOUT = 1200

#: Seconds for one test within.
TEST_TIMEOUT = 400


def why_not() -> str | None:
    """Why there can be no Grid Engine here."""
    if os.geteuid() != 0:
        return "making a Grid Engine for the tests needs root"
    if shutil.which("apt-get") is None:
        return "tests/gridengine.sh installs Debian's packages, and this is no Debian"
    return None


def copy_tree() -> None:
    """Give the account its own copy of what is tested: it may not be able to enter this tree's folders."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name in ("drmaaticd", "tests"):
        shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)
    subprocess.run(["chmod", "-R", "u+rwX,go+rX", str(TREE)], check=True)


@pytest.fixture(scope="module")
def warden() -> Iterator[Path]:
    """A running cell, and root's ear for what the tests want done to it."""
    missing = why_not()
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test the real Grid Engine, but {missing}")
        pytest.skip(f"NOT TESTED on a real Grid Engine: {missing}")
    subprocess.run(["/bin/sh", str(SCRIPT), "start"], check=True, timeout=500)
    copy_tree()
    path = HOME / "warden.sock"
    listening = Warden(path, pwd.getpwnam(ACCOUNT).pw_uid)
    try:
        yield path
    finally:
        listening.close()


@pytest.mark.xdist_group("gridengine")  # one cell, and one part on it at a time
@pytest.mark.timeout(PART_TIMEOUT + 500)
@pytest.mark.parametrize("part", PARTS)
def test_on_a_real_grid_engine(warden: Path, part: str) -> None:
    slots = SLOTS if "contract" not in part else CONTRACT_SLOTS
    subprocess.run(
        ["/bin/sh", str(SCRIPT), "start"], check=True, timeout=200, env={**os.environ, "DRM_SLOTS": slots}
    )
    command = [
        "/bin/sh",
        str(SCRIPT),
        "as",
        f"{TUNABLES}={STATIC_TLS}",
        str(HOME / "venv/bin/python"),
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--durations=15",
        "-o",
        f"timeout={TEST_TIMEOUT}",
        f"--rootdir={TREE}",
        f"--config-file={TREE / 'pyproject.toml'}",
        "--basetemp",
        str(HOME / f"tmp-{Path(part).stem}"),
        str(TREE / part),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, VARIABLE: str(warden)},
        capture_output=True,
        text=True,
        timeout=PART_TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-5000:]}"
