"""The launcher: really run by sh under the variables of several DRMs, and what is read of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drmaaticd import evidence, launcher
from drmaaticd.launcher import Claim, Doorbell, Evidence, LaunchSpec
from tests.launching import Place

TASK = "0b8b2a4e-1111-4222-8333-444455556666"
LOCAL = {"DRMAATICD_JOB_ID": "17"}
SLURM = {"SLURM_JOB_ID": "17"}
GRID = {"JOB_ID": "17", "SGE_TASK_ID": "undefined", "RESTARTED": "0"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tasks")


def start(spec: LaunchSpec, drm: Mapping[str, str] = LOCAL, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", str(spec.control / "run.sh")],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(spec.control), **drm},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def run(spec: LaunchSpec, drm: Mapping[str, str] = LOCAL) -> int:
    """Run the launcher; returns its exit status. It says nothing unless it refuses."""
    process = start(spec, drm)
    out, err = process.communicate(timeout=60)
    assert out == b""
    assert process.returncode == 1 or err == b"", err
    return process.returncode


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def claimed(spec: LaunchSpec, text: str, *files: str) -> None:
    """Leave behind what an earlier launcher would have."""
    (spec.control / "claim").symlink_to(text)
    for name in files:
        (spec.control / name).touch()


def runs(spec: LaunchSpec) -> int:
    """How often the command has run, if it is COUNTING."""
    count = spec.folder / "count"
    return len(count.read_text().split()) if count.exists() else 0


COUNTING = "echo x >>count"


# -- one run -----------------------------------------------------------------------------------


def test_it_runs_the_command_and_leaves_claim_ending_and_doorbells(place: Place) -> None:
    spec = place.spec("echo out; echo err >&2; exit 3")
    before = time.time()
    assert run(spec) == 3
    found = launcher.read(spec.control)
    assert found.claim == Claim("17", 0)
    assert found.ending is not None
    assert (found.ending.attempt, found.ending.status, found.ending.signal) == (1, 3, None)
    assert found.started is not None
    assert before - 1 <= found.started <= found.ending.time <= time.time() + 1
    assert found.ending.cpu_seconds is not None
    assert not found.ending.provisional
    assert not found.cancelled
    assert found.reason is None
    assert place.output(spec.task) == "out\n"
    assert place.errors(spec.task) == "err\n"
    assert sorted(launcher.doorbells(place.spool, 10)) == [f"{spec.task}.ended", f"{spec.task}.started"]
    assert not list(spec.control.glob("drmaaticd-*"))  # the job's own TMPDIR


def test_a_temporary_folder_goes_though_the_command_may_not_write_there_any_more(place: Place) -> None:
    spec = place.spec(
        'mkdir -p "$TMPDIR/a/b" && echo x >"$TMPDIR/a/b/c" && chmod -R a-w "$TMPDIR/a" || exit 9; exit 3'
    )
    # Root may write everywhere, unless that power is taken from it.
    powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*powerless, "/bin/sh", str(spec.control / "run.sh")],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(spec.control), **LOCAL},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, b"")
    assert not list(spec.control.glob("drmaaticd-*"))


def test_the_environment_is_fixed_and_nothing_of_the_daemon_is_in_it(place: Place) -> None:
    spec = place.spec(
        'env -0 >environment; echo x >"$TMPDIR/file"', environment={"A": "1\n'2'", "LANG": "C"}, cpus=3
    )
    awkward = {"SGE_X": "1\nSGE_FALSE=2\nJOB_ID=3", "SLURM_EMPTY": "", "CUDA_VISIBLE_DEVICES": "0,1"}
    secret = {"SECRET": "s", "PYTHONPATH": "/x", "LC_ALL": "C", "OLDPWD": "/x", "NOT_SGE_X": "1"}
    assert run(spec, {**LOCAL, **awkward, **secret, "HOME": "/home/of", "USER": "somebody"}) == 0
    pairs = (spec.folder / "environment").read_bytes().decode().rstrip("\0").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs)
    assert environment.pop("TMPDIR").startswith(f"{spec.control}/drmaaticd-")
    for ignored in ("PWD", "_", "SHLVL"):  # some shells export these by themselves
        environment.pop(ignored, None)
    assert environment == {
        **awkward,
        "PATH": launcher.JOB_PATH,
        "HOME": "/home/of",
        "USER": "somebody",
        "LOGNAME": "somebody",
        "SHELL": "/bin/sh",
        "LANG": "C",
        "A": "1\n'2'",
        "PYTHONUNBUFFERED": "1",
        "DRMAATICD_TASK_ID": spec.task,
        "DRMAATICD_CPUS": "3",
    }


def test_the_granted_cores_are_told_where_the_drm_tells_them(place: Place) -> None:
    spec = place.spec("echo $DRMAATICD_CPUS $(umask) $(pwd)", cpus=3)
    assert run(spec, {**GRID, "NSLOTS": "8"}) == 0
    assert place.output(spec.task) == f"8 0027 {spec.folder}\n"


def test_statuses_that_mean_something_to_a_drm_are_kept_from_it(place: Place) -> None:
    for status in (99, 100):
        spec = place.spec(f"exit {status}")
        assert run(spec) == 1
        ending = launcher.read(spec.control).ending
        assert ending is not None
        assert ending.status == status


NAMES_OF_THE_LAUNCHER = (
    *("command", "prepares", "preparing", "control", "here", "index", "status", "task", "out", "folder"),
    *("cpus", "attempt", "running", "own_tmp", "word", "spool"),
)


def test_a_scripts_variables_may_have_any_name(place: Place) -> None:
    spec = place.spec(
        'echo "$command|$prepares|$here|$1"',
        arguments=("an argument",),
        environment=dict.fromkeys(NAMES_OF_THE_LAUNCHER, "/bin/false"),
        setup=("status=3; preparing=/; out=/dev/null",),
    )
    assert run(spec) == 0
    assert place.output(spec.task) == "/bin/false|/bin/false|/bin/false|an argument\n"
    spec = place.spec("echo ran", setup=(*(f"{name}=/bin/false" for name in NAMES_OF_THE_LAUNCHER),))
    assert run(spec) == 0
    assert place.output(spec.task) == "ran\n"


def test_a_script_may_set_a_path_without_the_systems_tools(place: Place) -> None:
    spec = place.spec("echo $PATH; exit 4", environment={"PATH": "/nowhere"}, setup=(":",))
    assert run(spec) == 4
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert (found.ending.status, found.reason) == (4, None)
    spec = place.spec("exit 0", setup=("rm() { :; }", "PATH=/nowhere"))
    assert run(spec) == 0


def test_modules_and_setup_lines_come_before_the_command(place: Place) -> None:
    spec = place.spec(
        'echo "$LOADED|$B"',
        modules=("gcc/12", "odd name'"),
        setup=(
            # what a site's init file would define; modules are loaded before the setup lines
            "B='two\nlines'; export B",
        ),
    )
    text = launcher.render(spec)
    assert "module load gcc/12 'odd name'\"'\"''" in text
    fake = spec.control / "init"
    fake.write_text('module() { export LOADED="$*"; }\n')
    text = text.replace("/etc/profile.d/lmod.sh", str(fake))
    (spec.control / "run.sh").write_text(text)
    assert run(spec) == 0
    assert place.output(spec.task) == "load gcc/12 odd name'|two\nlines\n"


@pytest.mark.parametrize(
    ("setup", "status"),
    [(("false",), 1), (("true", "(exit 7)"), 7), (("if",), 2), (("exit 0",), 1), (("exit 5",), 5)],
)
def test_a_setup_line_that_fails_ends_the_task(place: Place, setup: tuple[str, ...], status: int) -> None:
    spec = place.spec(COUNTING, setup=setup)
    assert run(spec) == status
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert found.ending.status == status
    assert found.reason == "setup failed"
    assert runs(spec) == 0
    if not setup[-1].startswith("exit"):
        assert place.errors(spec.task) != ""


def test_missing_modules_are_said(place: Place, tmp_path: Path) -> None:
    spec = place.spec(COUNTING, modules=("gcc",))
    text = launcher.render(spec)
    for name in launcher.MODULE_INIT_FILES:
        text = text.replace(name, str(tmp_path / "none"))
    (spec.control / "run.sh").write_text(text)
    assert run(spec) == 127
    assert launcher.read(spec.control).reason == "setup failed"
    assert "no module command" in place.errors(spec.task)
    assert runs(spec) == 0


@pytest.mark.parametrize("kind", ["missing", "not executable", "folder"])
def test_a_command_that_cannot_run_is_told_from_one_that_fails(place: Place, kind: str) -> None:
    spec = place.spec(COUNTING)
    if kind == "missing":
        spec.command.unlink()
    elif kind == "not executable":
        spec.command.chmod(0o644)
    else:
        spec.command.unlink()
        spec.command.mkdir()
    assert run(spec) == 127
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert found.ending.status == 127
    assert found.reason == evidence.REASONS["command"]
    assert "cannot execute" in place.errors(spec.task)


def test_a_folder_in_the_way_of_the_output_is_said(place: Place) -> None:
    spec = place.spec(COUNTING)
    (spec.folder / launcher.output_names(spec.task)[1]).mkdir()
    assert run(spec) == 1
    found = launcher.read(spec.control)
    assert found.ending is not None
    assert found.reason == "the output could not be written"
    assert runs(spec) == 0


def test_output_never_goes_through_a_link_or_onto_what_is_there(place: Place, tmp_path: Path) -> None:
    spec = place.spec("echo new")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    out, err = (spec.folder / name for name in launcher.output_names(spec.task))
    out.symlink_to(victim)
    os.mkfifo(err)
    assert run(spec) == 0
    assert victim.read_text() == "untouched"
    assert not out.is_symlink()
    assert out.read_text() == "new\n"
    assert err.is_file()


def test_the_job_has_no_input_and_no_foreign_descriptors(place: Place, tmp_path: Path) -> None:
    spec = place.spec("cat; ls /proc/self/fd | wc -l")
    drm = {"PATH": os.environ["PATH"], "TMPDIR": str(spec.control), **LOCAL}
    inherits = 'exec 9>"$1" 5<&0; exec /bin/sh "$2"'
    command = ["/bin/sh", "-c", inherits, "sh", str(tmp_path / "open"), str(spec.control / "run.sh")]
    with (tmp_path / "input").open("w+") as file:
        file.write("something to read")
        file.seek(0)
        subprocess.run(command, env=drm, stdin=file, check=True, timeout=60)
    assert place.output(spec.task) == "4\n"  # 0, 1, 2 and the one that ls reads the folder with


# -- signals ------------------------------------------------------------------------------------


def _signalled(place: Place, body: str, number: signal.Signals) -> tuple[int, Evidence]:
    spec = place.spec(body)
    process = start(spec, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (spec.folder / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    return process.returncode, launcher.read(spec.control)


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
)
def test_a_caught_signal_makes_the_ending_provisional(place: Place, number: signal.Signals) -> None:
    status, found = _signalled(place, "touch here; exec sleep 60", number)
    assert found.ending is not None
    assert found.ending.provisional
    assert found.ending.signal == number.name
    assert found.ending.status == status == 128 + number


def test_a_command_that_handles_the_signal_has_its_own_status(place: Place) -> None:
    status, found = _signalled(
        place, "trap 'exit 4' TERM; touch here; while :; do sleep 0.02; done", signal.SIGTERM
    )
    assert found.ending is not None
    assert (found.ending.status, found.ending.signal, found.ending.provisional) == (4, None, True)
    assert status == 4


def test_a_killed_command_is_no_provisional_ending(place: Place) -> None:
    spec = place.spec("kill -KILL $$")
    assert run(spec) == 137
    ending = launcher.read(spec.control).ending
    assert ending is not None
    assert (ending.status, ending.signal, ending.provisional) == (137, "SIGKILL", False)


# -- claims ---------------------------------------------------------------------------------------


def test_another_job_exits_without_a_trace(place: Place) -> None:
    spec = place.spec(COUNTING)
    assert run(spec) == 0
    before = listing(spec.control)
    for bell in place.spool.iterdir():
        bell.unlink()
    assert run(spec, {"DRMAATICD_JOB_ID": "18"}) == 0
    assert run(spec, {"DRMAATICD_JOB_ID": "1"}) == 0
    assert run(spec, {"SLURM_JOB_ID": "18", "SLURM_RESTART_COUNT": "5"}) == 0
    assert listing(spec.control) == before
    assert listing(place.spool) == []
    assert runs(spec) == 1


def test_a_cancelled_task_never_runs(place: Place) -> None:
    spec = place.spec(COUNTING, rerunnable=True)
    assert launcher.cancel(spec.control, [None]) == {None}
    assert launcher.cancel(spec.control, [None]) == {None}
    assert run(spec) == 0
    assert run(spec, {**SLURM, "SLURM_RESTART_COUNT": "1"}) == 0
    assert runs(spec) == 0
    assert launcher.read(spec.control) == Evidence(claim=None, ending=None, started=None, cancelled=True)


def test_a_claimed_task_cannot_be_cancelled(place: Place) -> None:
    spec = place.spec(COUNTING)
    assert run(spec) == 0
    assert launcher.cancel(spec.control, [None]) == set()
    assert launcher.read(spec.control).claim == Claim("17", 0)


def test_members_of_an_array_are_cancelled_one_by_one(place: Place) -> None:
    spec = place.spec(COUNTING, array=True)
    assert run(spec, {**LOCAL, "DRMAATICD_TASK_INDEX": "2"}) == 0
    assert launcher.cancel(spec.control, [1, 2, 3]) == {1, 3}
    assert run(spec, {**LOCAL, "DRMAATICD_TASK_INDEX": "3"}) == 0
    assert runs(spec) == 1


@pytest.mark.parametrize("rerunnable", [True, False])
@pytest.mark.parametrize(
    ("left", "drm", "expected"),
    [
        # A retried NFS call: the claim is this very launcher's, and it had not got further.
        (("17.0",), LOCAL, "runs"),
        (("17.0",), GRID, "runs"),
        (("17.2",), {**SLURM, "SLURM_RESTART_COUNT": "2"}, "runs"),
        # A restart, as the DRM's counter says.
        (("17.0", "running.1"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "reruns"),
        (("17.0", "ended.1.143.1700000000.caught"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "reruns"),
        (("17.1", "running.2"), {**SLURM, "SLURM_RESTART_COUNT": "4"}, "reruns"),
        (("17.0", "running.1"), {**GRID, "RESTARTED": "1"}, "reruns"),
        (("17.0", "running.1"), {**LOCAL, "DRMAATICD_RESTART_COUNT": "1"}, "reruns"),
        # A counter that only says "again", or no counter.
        (("17.1", "running.2"), {**GRID, "RESTARTED": "1"}, "reruns"),
        (("17.3", "running.4"), {**GRID, "RESTARTED": "1"}, "reruns"),
        (("17.0", "running.1"), {"PBS_JOBID": "17"}, "reruns"),
        (("17.0", "running.1"), {"LSB_JOBID": "17", "LSB_JOBINDEX": "0"}, "reruns"),
        # It ran to its end: nobody runs it again.
        (("17.0", "ended.1.0.1700000000"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        (("17.0", "ended.1.1.1700000000.setup"), {**GRID, "RESTARTED": "1"}, "silent"),
        (("17.0", "ended.1.0.1700000000"), {"PBS_JOBID": "17"}, "silent"),
        # A second copy of the same run, and one that comes late.
        (("17.0", "running.1"), SLURM, "silent"),
        (("17.2", "running.3"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        # Other jobs, and ids that merely look alike.
        (("18.0", "running.1"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        (("117.0", "running.1"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        (("17.0.0", "running.1"), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        (("cancelled",), {**SLURM, "SLURM_RESTART_COUNT": "1"}, "silent"),
        (("nonsense $(id)",), SLURM, "silent"),
    ],
)
def test_claims_and_restarts(
    place: Place, left: tuple[str, ...], drm: dict[str, str], expected: str, rerunnable: bool
) -> None:
    spec = place.spec(COUNTING, rerunnable=rerunnable)
    claimed(spec, *left)
    assert run(spec, drm) == 0
    found = launcher.read(spec.control)
    text = str((spec.control / "claim").readlink())
    if expected == "silent" or (expected == "reruns" and not rerunnable):
        assert runs(spec) == 0
        assert text == left[0]
        assert listing(place.spool) == []
        return
    assert runs(spec) == 1
    assert found.ending is not None
    assert found.claim is not None
    assert found.ending.attempt == 1 + found.claim.restart
    if expected == "reruns":
        old = int(left[0].rpartition(".")[2])
        counter = int(drm.get("SLURM_RESTART_COUNT", "0"))
        assert text == f"17.{max(old + 1, counter)}"
        assert str((spec.control / f"claim.{old}").readlink()) == left[0]
    else:
        assert text == left[0]


def test_attempts_count_on_from_the_given_one(place: Place) -> None:
    spec = place.spec(COUNTING, attempt=5, rerunnable=True)
    assert run(spec, SLURM) == 0
    ending = launcher.read(spec.control).ending
    assert ending is not None
    assert ending.attempt == 5


@pytest.mark.parametrize(
    ("drm", "job_id"),
    [
        ({"JOB_ID": "3", "SGE_TASK_ID": "7"}, "3"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "3", "SLURM_ARRAY_TASK_ID": "7"}, "3"),
        ({"PBS_JOBID": "3[7].server", "PBS_ARRAY_INDEX": "7"}, "3[].server"),
        ({"PBS_JOBID": "3-7.server", "PBS_ARRAYID": "7"}, "3-7.server"),
        ({"LSB_JOBID": "3", "LSB_JOBINDEX": "7"}, "3"),
        ({"DRMAATICD_JOB_ID": "3", "DRMAATICD_TASK_INDEX": "7"}, "3"),
    ],
)
def test_each_drm_tells_id_and_index_in_its_own_way(place: Place, drm: dict[str, str], job_id: str) -> None:
    spec = place.spec("echo $DRMAATICD_TASK_INDEX; exit $DRMAATICD_TASK_INDEX", array=True)
    assert run(spec, drm) == 7
    found = launcher.read(spec.control, 7)
    assert found.claim == Claim(job_id, 0)
    assert found.ending is not None
    assert found.ending.status == 7
    assert place.output(spec.task, 7) == "7\n"
    assert listing(place.spool) == [f"{spec.task}.7.ended", f"{spec.task}.7.started"]
    assert launcher.read(spec.control).claim is None


@pytest.mark.parametrize(
    "drm",
    [
        {},
        {"JOB_ID": "a/b"},
        {"JOB_ID": "../../x"},
        {"JOB_ID": "3\n4"},
        {"DRMAATICD_JOB_ID": "3", "DRMAATICD_TASK_INDEX": "undefined"},
        {"DRMAATICD_JOB_ID": "3", "DRMAATICD_TASK_INDEX": "../1"},
        {"DRMAATICD_JOB_ID": "3", "DRMAATICD_TASK_INDEX": "0"},
    ],
)
def test_without_a_usable_id_or_index_nothing_is_claimed(place: Place, drm: dict[str, str]) -> None:
    spec = place.spec(COUNTING, array="DRMAATICD_TASK_INDEX" in drm)
    assert run(spec, drm) == 1
    assert listing(spec.control) == ["run.sh"]
    assert runs(spec) == 0


def test_of_two_copies_started_at_once_one_runs(place: Place) -> None:
    for _ in range(10):
        spec = place.spec(COUNTING)
        copies = [start(spec, {"DRMAATICD_JOB_ID": str(number)}) for number in (1, 2)]
        for copy in copies:
            assert copy.communicate(timeout=60) == (b"", b"")
            assert copy.returncode == 0
        assert runs(spec) == 1
        assert len(list(spec.control.glob("ended.*"))) == 1


def test_cancelling_and_starting_at_once_agree_on_who_won(place: Place) -> None:
    seen = set()
    for round_ in range(10):
        spec = place.spec(COUNTING)
        process = start(spec)
        time.sleep(round_ / 1000)  # not waiting for anything: the moment is to vary
        won = launcher.cancel(spec.control, [None]) == {None}
        process.communicate(timeout=60)
        assert runs(spec) == (0 if won else 1)
        seen.add(won)
    assert seen


# -- any argument ----------------------------------------------------------------------------------

_CHARACTERS = st.one_of(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    st.sampled_from("'\"\\$`!*?[]{}()<>|&;#~=%^ \t\n\r\x01\x7f\x81\x82\x88é😀-@"),
    st.integers(0xDC80, 0xDCFF).map(chr),
)
_TEXTS = st.one_of(
    st.text(_CHARACTERS, max_size=40),
    st.sampled_from(
        ["", "-", "--", "-n", "$(touch x)", "`id`", "a'b", "@folder@", "\\", "\n", "''", "é" * 99]
    ),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(_TEXTS, max_size=60), value=_TEXTS)
def test_the_command_gets_every_argument_byte_by_byte(place: Place, arguments: list[str], value: str) -> None:
    spec = place.spec(
        '[ $# = 0 ] || printf "%s\\0" "$@" >arguments; printf %s "$VALUE" >value',
        arguments,
        environment={"VALUE": value},
    )
    assert run(spec) == 0
    expected = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    received = spec.folder / "arguments"
    assert (received.read_bytes() if arguments else b"") == expected
    assert (spec.folder / "value").read_bytes() == os.fsencode(value)
    written = {"value", *launcher.output_names(spec.task)} | ({"arguments"} if arguments else set())
    assert set(listing(spec.folder)) == written


def test_awkward_paths_are_quoted(tmp_path: Path) -> None:
    place = Place(tmp_path / 'it\'s a $(touch x) "place"\n;é')
    spec = place.spec("pwd -P")
    assert run(spec) == 0
    assert place.output(spec.task) == f"{spec.folder}\n"
    assert listing(tmp_path) == [place.root.name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "../x"},
        {"task": TASK.upper()},
        {"arguments": ["a\0b"]},
        {"arguments": ["\ud800"]},
        {"environment": {"A-B": "1"}},
        {"environment": {"A;B": "1"}},
        {"environment": {"": "1"}},
        {"environment": {"A": "\0"}},
        {"setup": ["\0"]},
        {"folder": Path("relative")},
        {"command": Path("relative")},
    ],
)
def test_what_no_shell_could_be_told_is_an_error(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "task": TASK,
        **{name: Path("/x") for name in ("folder", "control", "spool", "command")},
    }
    launcher.render(LaunchSpec(**good))
    with pytest.raises(ValueError, match=r".+"):
        launcher.render(LaunchSpec(**{**good, **wrong}))


def test_the_script_is_replaced_by_rename_and_is_not_for_everyone(place: Place) -> None:
    spec = place.spec("exit 0", environment={"PASSWORD": "x"})
    path = spec.control / launcher.RUN_SCRIPT
    inode = path.stat().st_ino
    with path.open() as reader:
        assert launcher.write(spec.control, spec) == path
        assert path.stat().st_ino != inode
        assert reader.read() == launcher.render(spec)
    assert path.stat().st_mode & 0o777 == 0o640
    assert listing(spec.control) == [launcher.RUN_SCRIPT]


# -- reading -----------------------------------------------------------------------------------------


def control(tmp_path: Path, claim: str | None, *files: str) -> Path:
    folder = tmp_path / "control"
    folder.mkdir()
    if claim is not None:
        (folder / "claim").symlink_to(claim)
    for name in files:
        (folder / name).touch()
    return folder


NOTHING = Evidence(claim=None, ending=None, started=None, cancelled=False)


def test_nothing_is_read_where_nothing_is(tmp_path: Path) -> None:
    assert launcher.read(tmp_path / "none") == NOTHING
    assert launcher.read(control(tmp_path, None), 3) == NOTHING
    (tmp_path / "file").touch()
    assert launcher.read(tmp_path / "file") == NOTHING
    (tmp_path / "link").symlink_to(tmp_path / "control")
    assert launcher.read(tmp_path / "link") == NOTHING


def test_a_running_task_has_a_claim_and_a_start(tmp_path: Path) -> None:
    found = launcher.read(control(tmp_path, "12.server.3", "running.4"))
    assert found.claim == Claim("12.server", 3)
    assert found.ending is None
    assert found.started is not None


def test_a_later_run_counts_more_than_an_earlier_ending(tmp_path: Path) -> None:
    folder = control(tmp_path, "1.2", "ended.1.143.1700000000.caught", "ended.2.143.1700000000.caught")
    ending = launcher.read(folder).ending
    assert ending is not None
    assert (ending.attempt, ending.provisional) == (2, True)
    (folder / "running.3").touch()
    assert launcher.read(folder).ending is None
    (folder / "running.3").rename(folder / "ended.3.0.1700000000")
    ending = launcher.read(folder).ending
    assert ending is not None
    assert (ending.attempt, ending.status) == (3, 0)
    assert ending.time == 1700000000.0  # the file is much younger: its clock is another


@pytest.mark.parametrize(
    "name",
    [
        "ended",
        "ended.1",
        "ended.1.0",
        "ended.1.256.1",
        "ended.x.0.1",
        "ended.1.0.1.UP",
        "ended.1.0.1.a.b",
        "ended.-1.0.1",
        "ended.1.0.1 ",
        "Ended.1.0.1",
        "ended.1.0.1\n",
        "ended.١.0.1",
        "ended.1." + "9" * 50 + ".1",
    ],
)
def test_names_that_no_launcher_makes_are_no_endings(tmp_path: Path, name: str) -> None:
    assert launcher.read(control(tmp_path, "1.0", "running.1", name)).ending is None


def test_an_ending_that_is_no_file_is_not_believed(tmp_path: Path) -> None:
    folder = control(tmp_path, "1.0")
    (folder / "ended.3.0.1700000000").symlink_to("/etc/passwd")
    os.mkfifo(folder / "ended.3.0.1700000001")
    (folder / "ended.3.0.1700000002").mkdir()
    assert launcher.read(folder).ending is None
    (folder / "ended.3.7.1700000003").touch()
    ending = launcher.read(folder).ending
    assert ending is not None
    assert ending.status == 7


def test_a_claim_that_is_no_link_or_no_claim_is_none(tmp_path: Path) -> None:
    folder = control(tmp_path, None, "claim")
    assert launcher.read(folder) == NOTHING
    assert launcher.cancel(folder, [None]) == set()
    for text in ("x", "1.x", "1.", ".1", "a b.1", "/etc/passwd", "1." + "9" * 30, "é.1"):
        (folder / "claim").unlink()
        (folder / "claim").symlink_to(text)
        assert launcher.read(folder) == NOTHING


def test_a_folder_full_of_files_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_ENTRIES", 50)
    folder = control(tmp_path, "1.0", *(f"x{number}" for number in range(200)))
    assert launcher.read(folder).claim == Claim("1", 0)


@settings(max_examples=100, deadline=None)
@given(content=st.one_of(st.binary(max_size=300), st.text("0123456789ms. \n", max_size=80).map(str.encode)))
def test_no_content_of_an_ending_harms(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("control")
    (folder / "ended.1.0.0").write_bytes(content)
    ending = launcher.read(folder).ending
    assert ending is not None
    assert ending.cpu_seconds is None or ending.cpu_seconds >= 0
    assert abs(ending.time - time.time()) < 60  # the file's own: the launcher had no clock


def test_the_time_used_is_that_of_the_command_alone(tmp_path: Path) -> None:
    folder = control(tmp_path, "1.0", "ended.1.0.0")
    (folder / "ended.1.0.0").write_text(
        "0m0.010000s 0m0.020000s\n0m0.500000s 0m0.250000s\n0m0.01s 0m0.02s\n1m1.500000s 0m2.250000s\n"
    )
    ending = launcher.read(folder).ending
    assert ending is not None
    assert ending.cpu_seconds == 63.0


@pytest.mark.parametrize(
    ("status", "name"),
    [
        *((0, None), (1, None), (128, None), (129, "SIGHUP"), (137, "SIGKILL"), (143, "SIGTERM")),
        *((162, "SIGRTMIN"), (165, "SIGRTMIN+3"), (192, "SIGRTMAX"), (193, None), (255, None)),
    ],
)
def test_the_signal_that_a_status_means(status: int, name: str | None) -> None:
    assert evidence.signal_name(status) == name


@given(index=st.one_of(st.none(), st.integers(1, 10**8)), event=st.sampled_from(["started", "ended"]))
def test_doorbells_are_read_back(index: int | None, event: str) -> None:
    middle = "" if index is None else f".{index}"
    assert launcher.parse_doorbell(f"{TASK}{middle}.{event}") == Doorbell(TASK, index, event)


@pytest.mark.parametrize(
    "name",
    [
        *("", TASK, f"{TASK}.gone", f"{TASK}.0.ended", f"{TASK}.01.ended", f"{TASK}.x.ended"),
        *(f"{TASK}.ended.1", f"{TASK.upper()}.ended", f"{TASK}.ended\n", f"{TASK}.²3.ended"),
        *(f"x{TASK}.ended", f"{TASK}..ended"),
    ],
)
def test_other_names_are_no_doorbells(name: str) -> None:
    assert launcher.parse_doorbell(name) is None


def test_a_pass_over_the_spool_is_bounded_and_leaves_the_daemons_own_files(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{TASK}.{number + 1}.ended").touch()
    (tmp_path / ".refresh-1").touch()
    assert len(launcher.doorbells(tmp_path, 7)) == 7
    assert len(launcher.doorbells(tmp_path, 100)) == 20
    before = tmp_path.stat().st_mtime_ns
    launcher.refresh(tmp_path)
    assert tmp_path.stat().st_mtime_ns > before
    assert len(list(tmp_path.iterdir())) == 21
    launcher.refresh(tmp_path / "none")  # told where it matters


def test_a_refresh_makes_nothing_through_a_link(tmp_path: Path) -> None:
    """A job may write to the spool, and knows the name."""
    made = tmp_path / "made"
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / f".refresh-{os.getpid()}").symlink_to(made)
    launcher.refresh(spool)
    assert not made.exists()
    assert not list(spool.iterdir())
