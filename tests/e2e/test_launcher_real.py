"""The launcher under hardship: full disks, no more processes, lost folders, other shells, many rounds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drmaaticd import evidence, launcher
from drmaaticd.launcher import LaunchSpec
from tests.launching import Place

#: An account that is not in use, to which limits on processes apply.
NOBODYS_ID = 64123

#: Run in a mount namespace of its own: a small tmpfs, a launcher on it, and what is left in the end.
ON_A_SMALL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
root, options, body, tests, scratch = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root], check=True)
sys.path.insert(0, tests)
from tests.launching import Place
place = Place(Path(root) / "tasks")
spec = place.spec(body)
done = subprocess.run(["/bin/sh", str(spec.control / "run.sh")],
                      env={"PATH": os.environ["PATH"], "DRMAATICD_JOB_ID": "17", "TMPDIR": scratch})
found = place.evidence(spec.task)
print(json.dumps({
    "exit": done.returncode,
    "status": found.ending and found.ending.status,
    "reason": found.reason,
    "bells": sorted(name.rpartition(".")[2] for name in os.listdir(place.spool)),
    "left": sorted(os.listdir(spec.folder)),
}))
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tasks")


def start(spec: LaunchSpec, shell: str = "/bin/sh", job_id: str = "17") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [shell, str(spec.control / "run.sh")],
        env={"PATH": os.environ["PATH"], "DRMAATICD_JOB_ID": job_id, "TMPDIR": str(spec.control)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "this did not come true"
        time.sleep(0.01)


def on_a_small_disk(tmp_path: Path, options: str, body: str) -> dict[str, Any]:
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("THE FULL DISK IS NOT TESTED: this account may not make a mount namespace")
    root = tmp_path / "disk"
    root.mkdir()
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [
            *unshare,
            sys.executable,
            "-c",
            ON_A_SMALL_DISK,
            str(root),
            options,
            body,
            str(tests),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        cwd=tests.parent,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_an_ending_needs_no_space(tmp_path: Path) -> None:
    said = on_a_small_disk(tmp_path, "size=256k", "cat /dev/zero >big; echo lost; exit 5")
    assert (said["exit"], said["status"], said["reason"]) == (5, 5, None)
    assert said["bells"] == ["ended", "started"]


def test_an_ending_needs_no_inode(tmp_path: Path) -> None:
    said = on_a_small_disk(
        tmp_path, "nr_inodes=60,size=4m", "i=0; while true >f$i; do i=$((i+1)); done 2>/dev/null; exit 5"
    )
    assert (said["exit"], said["status"], said["reason"]) == (5, 5, None)
    assert said["bells"] == ["started"]  # a doorbell does need one: the DRM's word must do


def test_output_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    # 13 inodes are taken by the folders and files of the place, 4 by the launcher up to its output.
    for inodes in range(12, 22):
        folder = tmp_path / str(inodes)
        folder.mkdir()
        try:
            said = on_a_small_disk(folder, f"nr_inodes={inodes}", "exit 0")
        except AssertionError:
            continue  # not even room for the task
        if said["reason"] is not None:
            assert said["reason"] == evidence.REASONS["output"]
            assert (said["exit"], said["status"]) == (1, 1)
            return
    pytest.fail("no size of the disk made the output fail")


def test_a_missing_folder_is_said(place: Place) -> None:
    spec = place.spec("exit 0")
    spec.folder.rmdir()
    process = start(spec)
    process.communicate(timeout=60)
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert (process.returncode, found.ending.status) == (1, 1)
    assert found.reason == evidence.REASONS["folder"]


def test_an_ending_waits_for_its_folder_to_come_back(place: Place) -> None:
    spec = place.spec('mv "$1" "$1.away"; exit 6', [str(place.root / ".control")])
    process = start(spec)
    away = place.root / ".control.away"
    until(away.exists)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=1.5)  # it goes on trying
    away.rename(place.root / ".control")
    process.communicate(timeout=60)
    ending = launcher.read(spec.control).ending
    assert ending is not None
    assert ending.status == 6
    assert process.returncode == 6


def test_a_lost_running_file_is_made_up_for(place: Place) -> None:
    spec = place.spec('rm "$(dirname "$0")"/../.control/*/running.*; exit 6')
    process = start(spec)
    process.communicate(timeout=60)
    ending = launcher.read(spec.control).ending
    assert ending is not None
    assert ending.status == 6


@pytest.mark.parametrize("when", ["the command", "the ending"])
def test_where_no_process_can_be_started_any_more_there_is_an_ending_still(
    place: Place, tmp_path: Path, when: str
) -> None:
    limit = "prlimit --pid $PPID --nproc=1:1; exit 3"
    if when == "the command":
        # The shell that runs the setup lines is the launcher's child, so it is the command's own fork
        # that fails: nothing of it runs.
        spec = place.spec("(touch ran); exit 0", setup=("ulimit -u 1",))
    else:
        spec = place.spec(limit)
    command = ["/bin/sh", str(spec.control / "run.sh")]
    if os.geteuid() == 0:  # no limit on processes applies to root
        subprocess.run(["chown", "-R", f"{NOBODYS_ID}:{NOBODYS_ID}", str(tmp_path)], check=True)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_mode & 0o011 != 0o011:
                folder.chmod(folder.stat().st_mode | 0o011)
        command = [
            *("setpriv", f"--reuid={NOBODYS_ID}", f"--regid={NOBODYS_ID}", "--clear-groups"),
            *command,
        ]
    environment = {
        "PATH": os.environ["PATH"],
        "DRMAATICD_JOB_ID": "17",
        "USER": "x",
        "TMPDIR": str(tmp_path),  # which it cannot remove its own folder from any more
    }
    subprocess.run(command, env=environment, capture_output=True, timeout=60)
    ending = launcher.read(spec.control).ending
    assert ending is not None
    assert ending.status != 0
    if when == "the ending":
        assert ending.status == 3
        assert [path.name for path in spec.control.glob("ended.*")] == ["ended.1.3.0"]
    assert not (spec.folder / "ran").exists()


def _shells() -> list[str]:
    found = [shutil.which(name) for name in ("dash", "bash", "ksh", "mksh", "yash")]
    return [path for path in found if path is not None]


@pytest.mark.parametrize("shell", _shells())
def test_each_shell_that_may_be_sh_runs_it(place: Place, tmp_path: Path, shell: str) -> None:
    sh = tmp_path / "sh"
    sh.symlink_to(shell)
    awkward = ["", "-n", "'\"\\$(id)`id`", "\n\t x", "é😀\udcff\udc81", "*", "~", "a=b", "@task@"]
    spec = place.spec(
        'printf "%s\\0" "$@" >arguments; echo out; echo "$A $B" >&2; exit 3',
        awkward,
        environment={"A": "1 '2'"},
        setup=("B=3; export B",),
    )
    script = spec.control / "run.sh"
    text = os.fsencode(launcher.render(spec)).replace(b'/bin/sh "$control', os.fsencode(f'{sh} "$control'))
    script.write_bytes(text)
    process = start(spec, str(sh))
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 3
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert (found.ending.status, found.ending.provisional) == (3, False)
    assert found.ending.cpu_seconds is not None
    received = (spec.folder / "arguments").read_bytes()
    assert received == b"".join(os.fsencode(argument) + b"\0" for argument in awkward)
    assert (place.output(spec.task), place.errors(spec.task)) == ("out\n", "1 '2' 3\n")
    process = start(spec, str(sh), "18")
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_of_many_copies_started_at_once_one_runs(place: Place) -> None:
    for round_ in range(100):
        spec = place.spec("echo x >>count", rerunnable=bool(round_ % 2))
        copies = [start(spec, job_id=str(number)) for number in range(1, 5)]
        for copy in copies:
            copy.communicate(timeout=60)
            assert copy.returncode == 0
        assert (spec.folder / "count").read_text() == "x\n"
        assert len(list(spec.control.glob("ended.*"))) == 1


def test_a_very_long_command_line_arrives_or_fails_with_a_status(place: Place) -> None:
    body = 'printf "%s" "$*" | wc -c'
    fits = place.spec(body, ["x" * 5000] * 100)
    start(fits).communicate(timeout=60)
    assert place.output(fits.task).strip() == str(5000 * 100 + 99)
    one_too_long = place.spec(body, ["x" * (200 << 10)])
    start(one_too_long).communicate(timeout=60)
    ending = launcher.read(one_too_long.control).ending
    assert ending is not None
    assert ending.status == 126
    assert "too long" in place.errors(one_too_long.task)
