"""The API's tests, the faults, and the engines' contract, on a real one-node Slurm; a part with accounting.

Each part runs in a pytest of its own under the ordinary account, as in `test_gridengine`. What leaves
the controller alone runs at the same time, each part in a partition of its own: time limits take Slurm
a minute and a half.

With ``SLURM_RELEASE=trixie`` in the environment all this is done on the Slurm of that release of Debian,
in a folder that `tests/slurm.sh` makes.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.outside import ACCOUNT, HOME, command, copy_tree, need_root
from tests.cluster.warden import SCRIPTS, VARIABLE, Warden
from tests.runas.outside import run, two_accounts

SCRIPT = SCRIPTS["slurm"]

#: The release of Debian whose Slurm is tested; empty for this machine's.
RELEASE = os.environ.get("SLURM_RELEASE", "")

#: Sets what belongs to this apart from what other runs of these tests have in the account's folder.
NAME = f"slurm-{RELEASE}" if RELEASE else "slurm"
TREE = HOME / f"tree-{NAME}"
API = "tests/cluster/inside/test_api.py"
CONTRACT = "tests/contract/test_engine.py"

#: Seconds for one part, and for installing a Slurm and starting it.
PART_TIMEOUT = 600
START_TIMEOUT = 900


@dataclass(frozen=True)
class Part:
    """A file of tests, or some of them, and the partition of their jobs."""

    name: str
    file: str
    partition: str
    only: str


TOGETHER = (
    Part("contract", CONTRACT, "pair", "not time_limit"),
    Part("api", API, "eight", "not time_limit"),
    Part("resources", "tests/cluster/inside/test_slurm_resources.py", "main", ""),
    Part("contract-limit", CONTRACT, "main", "time_limit"),
    Part("api-limit", API, "main", "time_limit"),
)
ALONE = (
    Part("daemon-faults", "tests/cluster/inside/test_daemon_faults.py", "eight", ""),
    Part("slurm-faults", "tests/cluster/inside/test_slurm_faults.py", "eight", ""),
)

ACCOUNTED = Part("accounting", "tests/cluster/inside/test_slurm_accounting.py", "main", "")


@pytest.fixture(scope="module")
def warden() -> Iterator[Path]:
    """A running Slurm, and root's ear for what the tests want done to it."""
    need_root("Slurm")
    subprocess.run(["/bin/sh", str(SCRIPT), "start"], check=True, timeout=START_TIMEOUT)
    copy_tree(TREE)
    path = HOME / f"warden-{NAME}.sock"
    listening = Warden(path, pwd.getpwnam(ACCOUNT).pw_uid, "slurm")
    try:
        yield path
    finally:
        listening.close()


def start(part: Part, socket: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a part; what it prints goes to a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            command(
                SCRIPT,
                TREE,
                part.file,
                variables=[f"DRM_PARTITION={part.partition}"],
                options=["-k", part.only] if part.only else [],
                name=f"{NAME}-{part.name}",
            ),
            env={**os.environ, VARIABLE: str(socket)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def together(
    warden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], Path]]]:
    """The parts that run at the same time, by name, with the files of what they print."""
    folder = tmp_path_factory.mktemp("output")
    running = {part.name: (start(part, warden, folder / part.name), folder / part.name) for part in TOGETHER}
    yield running
    for process, _ in running.values():
        if process.poll() is None:
            process.kill()
        process.wait()


def finish(process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait for a part, and show what it printed."""
    status = process.wait(PART_TIMEOUT)
    text = output.read_text(errors="replace")
    print(text)
    assert status == 0, text[-20000:]


@pytest.mark.timeout(PART_TIMEOUT + START_TIMEOUT)
@pytest.mark.parametrize("part", TOGETHER, ids=lambda part: part.name)
def test_on_a_real_slurm(together: dict[str, tuple[subprocess.Popen[bytes], Path]], part: Part) -> None:
    finish(*together[part.name])


def run_alone(part: Part, warden: Path, output: Path) -> None:
    """A part from its start to its end."""
    process = start(part, warden, output)
    try:
        finish(process, output)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def alone(warden: Path, together: dict[str, tuple[subprocess.Popen[bytes], Path]]) -> Path:
    """The warden's socket, when all that runs together has ended."""
    for process, _ in together.values():
        process.wait(PART_TIMEOUT)
    return warden


@pytest.mark.timeout(PART_TIMEOUT + START_TIMEOUT)
@pytest.mark.parametrize("part", ALONE, ids=lambda part: part.name)
def test_faults_of_a_real_slurm(alone: Path, part: Part, tmp_path: Path) -> None:
    run_alone(part, alone, tmp_path / "output")


@pytest.mark.timeout(PART_TIMEOUT + START_TIMEOUT)
def test_with_accounting(alone: Path, tmp_path: Path) -> None:
    subprocess.run(["/bin/sh", str(SCRIPT), "accounting"], check=True, timeout=START_TIMEOUT)
    try:
        run_alone(ACCOUNTED, alone, tmp_path / "output")
    finally:
        subprocess.run(["/bin/sh", str(SCRIPT), "no-accounting"], check=True, timeout=START_TIMEOUT)


@pytest.mark.timeout(PART_TIMEOUT + START_TIMEOUT)
@pytest.mark.skipif(bool(RELEASE), reason="how commands are run under another account is no release's")
@pytest.mark.usefixtures("alone")
def test_under_a_second_account() -> None:
    with two_accounts("slurm") as made:
        run(made, "tests/runas/inside/test_slurm.py", DRM_CLUSTER="slurm", DRM_PARTITION="eight")
