"""Root's side of the tests with two accounts: a pytest under the daemon's account for each part."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "runas.sh"
HOME = Path("/var/lib") / os.environ.get("RUNAS_ACCOUNT", "drmserve")
PYTHON = Path("/var/lib") / os.environ.get("DRM_ACCOUNT", "drmtest") / "venv/bin/python"

#: Seconds for one part, and for one test within.
PART_TIMEOUT = 600
TEST_TIMEOUT = 200


@contextmanager
def two_accounts(part: str) -> Iterator[str]:
    """The accounts, a copy of the tree for them, and the rule between them, which go at the end.

    The name for `run`: others may run the same tests at the same time.
    """
    part = f"{part}-{os.getpid()}"
    environ = {**os.environ, "RUNAS_PART": part}
    subprocess.run(["/bin/sh", str(SCRIPT), "start"], check=True, timeout=500, env=environ)
    try:
        yield part
    finally:
        subprocess.run(["/bin/sh", str(SCRIPT), "stop"], check=True, timeout=60, env=environ)


def run(part: str, file: str, **variables: str) -> None:
    """Run a file of tests under the daemon's account, in this part's copy; AssertionError if it fails."""
    place = HOME / part
    tree = place / "tree"
    options = [
        *("-m", "pytest", "-p", "no:cacheprovider", "-q", "-o", f"timeout={TEST_TIMEOUT}"),
        *(f"--rootdir={tree}", f"--config-file={tree / 'pyproject.toml'}"),
        *("--basetemp", str(place / f"tmp-{Path(file).stem}"), str(tree / file)),
    ]
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT), "as", str(PYTHON), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PART_TIMEOUT,
        env={**os.environ, "RUNAS_PART": part, **variables},
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
