"""Jobs under a second account: the contract, the API, a job's whole life, and attacks, each part in a pytest
of its own under the daemon's account (see `tests/runas.sh`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.outside import need_root

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "runas.sh"
HOME = Path("/var/lib/drmserve")
TREE = HOME / "tree"
PYTHON = Path("/var/lib/drmtest/venv/bin/python")

#: Seconds for one part, and for one test within.
PART_TIMEOUT = 600
TEST_TIMEOUT = 200

PARTS = {
    "contract": "tests/contract/test_engine.py",
    "api": "tests/runas/inside/test_api.py",
    "life": "tests/runas/inside/test_life.py",
    "attacks": "tests/runas/inside/test_attacks.py",
    "checks": "tests/runas/inside/test_checks.py",
    "own": "tests/runas/inside/test_own_account.py",
}


@pytest.fixture(scope="module")
def accounts() -> Iterator[None]:
    """The two accounts and the rule between them."""
    need_root("run_as")
    subprocess.run(["/bin/sh", str(SCRIPT), "start"], check=True, timeout=500)
    yield
    subprocess.run(["/bin/sh", str(SCRIPT), "no-rule"], check=True, timeout=60)


@pytest.mark.timeout(PART_TIMEOUT + 500)
@pytest.mark.parametrize("part", PARTS)
def test_with_jobs_apart(accounts: None, part: str) -> None:
    pytest_there = [
        *("-m", "pytest", "-p", "no:cacheprovider", "-q", "-o", f"timeout={TEST_TIMEOUT}"),
        *(f"--rootdir={TREE}", f"--config-file={TREE / 'pyproject.toml'}"),
        *("--basetemp", str(HOME / f"tmp-{part}"), str(TREE / PARTS[part])),
    ]
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT), "as", str(PYTHON), *pytest_there],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PART_TIMEOUT,
        env=dict(os.environ),
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
