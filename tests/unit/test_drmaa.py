"""The engine for clusters over a double of drmaa-python: what cannot be provoked on a real one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drmaaticd.drm import library as drmaa_library
from drmaaticd.drm import session as session_module
from drmaaticd.drm.base import Action, Array, Found, Job, JobState, PassingFault, Refused, Report
from drmaaticd.drm.dialects import GRID_ENGINE, LSF, SLURM
from drmaaticd.drm.drmaa import DrmaaEngine
from drmaaticd.drm.library import STARTED_ANEW, environment_findings, load, needs_reexec
from drmaaticd.errors import ConfigurationError
from tests.launching import in_loop, until
from tests.unit.drmaa_double import Drm, DrmaaModule, Info, exception

DOWN = exception("DrmCommunicationException")


def job(**more: Any) -> Job:
    values: dict[str, Any] = {
        "task": "6f1ed002-ab5c-4b9e-8f25-3a0c2b6d9f11",
        "name": "t-x",
        "run_script": Path("/shared/.control/x/run.sh"),
        "folder": Path("/shared/x"),
    }
    return Job(**(values | more))


@pytest.fixture(autouse=True)
def _grid_engine_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = tmp_path / "sge" / "default" / "common"
    common.mkdir(parents=True)
    (common / "act_qmaster").write_text("host\n")
    monkeypatch.setenv("SGE_ROOT", str(tmp_path / "sge"))
    monkeypatch.delenv("SGE_CELL", raising=False)
    monkeypatch.setattr(session_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(session_module, "LONGEST_PAUSE", 0.0)


@asynccontextmanager
async def engine(drm: Drm, tmp_path: Path, **more: Any) -> AsyncIterator[DrmaaEngine]:
    more.setdefault("question", lambda _: drm.asked.append)
    made = DrmaaEngine(tmp_path, load=lambda *_: DrmaaModule(drm), **more)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


# -- submitting ---------------------------------------------------------------------------------


@in_loop
async def test_the_template_is_bytes_and_holds_the_run_script_alone(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path, native={"always": "-P proj"}) as drmaa:
        assert await drmaa.submit(job(cpus=2, queue="all.q")) == "1"
    assert drm.templates == [
        {
            "remoteCommand": b"/bin/sh",
            "args": [b"/shared/.control/x/run.sh"],
            "workingDirectory": b"/shared/x",
            "jobName": b"t-x",
            "nativeSpecification": b"-b y -shell n -P proj -q all.q -pe smp 2 -r n",
            "outputPath": b":/dev/null",
            "errorPath": b":/dev/null",
        }
    ]


@in_loop
@pytest.mark.parametrize(
    "wrong",
    [
        {"run_script": Path("/shared/it's/run.sh")},
        {"folder": Path("/shared/a b")},
        {"folder": Path("/shared/$drmaa_wd_ph$")},
        {"folder": Path(os.fsdecode(b"/shared/\xff"))},
        {"folder": Path("relative")},
        {"native": "-q\nx"},
        {"queue": "a b"},
    ],
)
async def test_what_a_drm_would_misread_never_reaches_it(tmp_path: Path, wrong: dict[str, Any]) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        with pytest.raises(Refused):
            await drmaa.submit(job(**wrong))
    assert "runJob" not in drm.names()


@in_loop
async def test_one_template_serves_all_jobs_and_holds_each_ones_own_values(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job(name="t-one", queue="all.q", cpus=2))
        await drmaa.submit(job(name="t-two", folder=Path("/shared/y"), run_script=Path("/shared/y/run.sh")))
        assert len(drm.made) == 1
        assert not drm.made[0].deleted
    assert drm.made[0].deleted
    first, second = drm.templates
    assert (first["jobName"], second["jobName"]) == (b"t-one", b"t-two")
    assert second["args"] == [b"/shared/y/run.sh"]
    assert second["workingDirectory"] == b"/shared/y"
    assert second["nativeSpecification"] == b"-b y -shell n -r n"


@in_loop
async def test_a_template_with_which_a_submission_failed_is_used_no_more(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        drm.troubles["runJob"] = [exception("DeniedByDrmException")("code 17: no such queue")]
        with pytest.raises(Refused):
            await drmaa.submit(job())
        assert await drmaa.submit(job()) == "1"
    assert [template.deleted for template in drm.made] == [True, True]


@in_loop
async def test_an_array_has_one_id(tmp_path: Path) -> None:
    async with engine(Drm(next_id=12), tmp_path) as drmaa:
        assert await drmaa.submit(job(array=Array(2, 6, 2))) == "12"
        assert drmaa.element("12", 4) == "12.4"
        reports = await drmaa.states(["12.2", "12.3", "12.6"], 1.0)
        assert [reports[name].state for name in ("12.2", "12.3", "12.6")] == [
            JobState.QUEUED,
            JobState.UNKNOWN,
            JobState.QUEUED,
        ]


@in_loop
async def test_a_job_with_an_id_that_is_none_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "sge/default/common/act_qmaster"))
    drm = Drm(info="SLURM 22.05.8")
    async with engine(drm, tmp_path) as drmaa:
        with pytest.raises(Refused, match="ids that are not Slurm's"):
            await drmaa.submit(job(array=Array(1, 2)))  # the double numbers members as Grid Engine does
    assert ("control", "1.1", "terminate") in drm.calls


@in_loop
async def test_refusals_and_faults(tmp_path: Path) -> None:
    drm = Drm()
    drm.troubles["runJob"] = [
        exception("DeniedByDrmException")("code 17: unknown queue"),
        exception("InternalException")("code 1: Zero Bytes were transmitted"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(),  # type: ignore[list-item]
    ]
    async with engine(drm, tmp_path) as drmaa:
        with pytest.raises(Refused, match=r"^unknown queue$"):
            await drmaa.submit(job())
        assert drmaa.fault() is None
        for _ in range(3):
            with pytest.raises(PassingFault):
                await drmaa.submit(job())
            assert drmaa.fault() is not None
        assert await drmaa.submit(job()) == "1"
        assert drmaa.fault() is None


# -- the session --------------------------------------------------------------------------------


@in_loop
async def test_the_session_is_opened_anew_with_its_contact_once_the_drm_answers(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job())
        drm.down = True
        for _ in range(3):
            with pytest.raises(PassingFault, match="unable to send message"):
                await drmaa.states(["1"], 1.0)
        assert drmaa.fault() == "unable to send message to qmaster"
        assert drm.names().count("exit") == 0  # closing waits long for a DRM that is away
        drm.down = False
        assert (await drmaa.states(["1"], 1.0))["1"].state is JobState.QUEUED
        assert drmaa.fault() is None
    assert [call for call in drm.calls if call[0] in ("initialize", "exit")] == [
        ("initialize", None),
        ("exit",),
        ("initialize", drm.contact),
        ("exit",),
    ]


@in_loop
async def test_while_the_drm_is_away_calls_fail_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "FIRST_PAUSE", 3600.0)
    drm = Drm(down=True)
    async with engine(drm, tmp_path) as drmaa:
        calls = len(drm.calls)
        for _ in range(5):
            with pytest.raises(PassingFault, match="unable to send"):
                await drmaa.submit(job())
            with pytest.raises(PassingFault, match="unable to send"):
                await drmaa.finished("1")
        assert len(drm.calls) == calls


@in_loop
async def test_a_drm_that_is_away_at_the_start(tmp_path: Path) -> None:
    drm = Drm(down=True)
    async with engine(drm, tmp_path) as drmaa:
        assert drmaa.fault() == "unable to send message to qmaster"
        drm.down = False
        assert await drmaa.submit(job()) == "1"
        assert drmaa.fault() is None


@in_loop
async def test_with_nothing_to_ask_an_outage_is_seen_to_begin_and_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "FIRST_PAUSE", 0.0)
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.ping()
        assert drmaa.fault() is None
        drm.down = True
        with pytest.raises(PassingFault):
            await drmaa.ping()
        assert drmaa.fault() == "unable to send message to qmaster"
        drm.down = False
        await drmaa.ping()
        assert drmaa.fault() is None


@in_loop
async def test_the_contact_is_kept_for_the_next_daemon(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path):
        pass
    async with engine(drm, tmp_path):
        pass
    assert [call for call in drm.calls if call[0] == "initialize"] == [
        ("initialize", None),
        ("initialize", drm.contact),
    ]


@in_loop
async def test_a_contact_that_is_not_known_any_more(tmp_path: Path) -> None:
    (tmp_path / "drmaa.contact").write_text("session=gone\n")
    drm = Drm(troubles={"initialize": [exception("InvalidContactStringException")("code 7: x")]})
    async with engine(drm, tmp_path) as drmaa:
        assert drmaa.fault() is None
    assert (tmp_path / "drmaa.contact").read_text() == f"{drm.contact}\n"


@in_loop
async def test_a_damaged_contact_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "drmaa.contact").write_bytes(b"\xff\xfe")
    drm = Drm()
    async with engine(drm, tmp_path):
        assert drm.calls[0] == ("initialize", None)


@in_loop
async def test_slurm_keeps_its_session_over_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "sge/default/common/act_qmaster"))
    drm = Drm(info="SLURM", contact="", troubles={"jobStatus": [DOWN("code 2: x")]})
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job())
        with pytest.raises(PassingFault):
            await drmaa.states(["1"], 1.0)
        assert (await drmaa.states(["1"], 1.0))["1"].state is JobState.QUEUED
        assert drm.names().count("initialize") == 1


# -- endings and states -------------------------------------------------------------------------


@in_loop
async def test_an_ending_is_asked_for_once_and_told_as_often_as_wanted(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job())
        drm.states["1"], drm.endings["1"] = "failed", Info(exitStatus=3)
        ended = Report(JobState.ENDED, 3)
        assert await drmaa.states(["1"], 1.0) == {"1": ended}
        assert await drmaa.states(["1"], 1.0) == {"1": ended}
        assert await drmaa.finished("1") == ended
    assert drm.names().count("wait") == 1


@in_loop
async def test_an_id_that_is_used_again_does_not_inherit_an_ending(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job(max_clock_time=1))
        drm.states["1"], drm.endings["1"] = "done", Info()
        assert (await drmaa.finished("1")).state is JobState.ENDED
        drm.next_id = 1
        assert await drmaa.submit(job()) == "1"
        assert (await drmaa.states(["1"], 1.0))["1"].state is JobState.QUEUED


@in_loop
async def test_a_job_that_is_gone_without_a_record(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job())
        drm.endings["1"] = Exception("code 24: no usage information was returned for the completed job")
        report = await drmaa.finished("1")
        assert (report.state, report.killed, report.exit_status) == (JobState.ENDED, True, None)


@in_loop
async def test_an_ending_that_the_drm_has_not_noticed_is_asked_for_with_the_next_sweep(
    tmp_path: Path,
) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.submit(job())
        drm.states["1"] = "running"
        assert (await drmaa.finished("1")).state is JobState.RUNNING
        drm.endings["1"] = Info(exitStatus=4)
        assert await drmaa.states([], 1.0) == {}
        assert "1" not in drm.states  # reaped
        assert (await drmaa.finished("1")).exit_status == 4


@in_loop
async def test_a_session_that_never_notices_endings_is_taken_for_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.drm.drmaa.DEAF_AFTER", 0.0)
    drm = Drm(states={"1": "running"})
    async with engine(drm, tmp_path) as drmaa:
        await drmaa.finished("1")
        await drmaa.finished("1")
        await drmaa.finished("1")
        assert drm.names().count("initialize") == 2


@in_loop
async def test_an_unknown_job_is_no_ending(tmp_path: Path) -> None:
    drm = Drm()
    async with engine(drm, tmp_path) as drmaa:
        assert await drmaa.states(["5", "x;y", "-5"], 1.0) == {
            "5": Report(JobState.UNKNOWN),
            "x;y": Report(JobState.UNKNOWN),
            "-5": Report(JobState.UNKNOWN),
        }
        assert (await drmaa.finished("5")).state is JobState.UNKNOWN
        await drmaa.control("5", Action.TERMINATE)
        await drmaa.control("-5", Action.TERMINATE)
        assert await drmaa.find("x") is Found.CANNOT_TELL
    asked = {call[1] for call in drm.calls if call[0] in ("jobStatus", "wait", "control")}
    assert asked == {"5"}


@in_loop
async def test_undetermined_is_unknown_but_for_members_that_slurm_may_not_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "sge/default/common/act_qmaster"))
    states = {"1": "undetermined", "2_1": "undetermined", "3.1": "undetermined"}
    async with engine(Drm(info="SLURM", states=dict(states)), tmp_path) as drmaa:
        assert await drmaa.states(["1", "2_1"], 1.0) == {"1": Report(JobState.UNKNOWN)}
    async with engine(Drm(states=dict(states)), tmp_path) as drmaa:
        assert await drmaa.states(["3.1"], 1.0) == {"3.1": Report(JobState.UNKNOWN)}


@in_loop
async def test_a_fault_amid_a_sweep_keeps_what_was_learned(tmp_path: Path) -> None:
    drm = Drm(states={str(number): "running" for number in range(1, 6)})
    async with engine(drm, tmp_path) as drmaa:

        def called(name: str, *args: Any, remote: bool = True) -> None:
            drm.calls.append((name, *args))
            if name == "jobStatus" and len(drm.calls) > 3:
                raise DOWN("code 2: x")

        drm.called = called  # type: ignore[method-assign]
        drm.calls.clear()
        reports = await drmaa.states(list(drm.states), 5.0)
        assert set(reports) == {"1", "2", "3"}
        assert drmaa.fault() == "x"


@in_loop
async def test_everyone_gets_a_turn_though_the_budget_is_small(tmp_path: Path) -> None:
    drm = Drm(states={str(number): "running" for number in range(1, 10_001)})
    ids = list(drm.states)
    async with engine(drm, tmp_path) as drmaa:
        seen: list[str] = []
        while len(seen) < len(ids):
            reports = await drmaa.states(ids, 0.005)
            assert reports
            seen += reports
        assert len(set(seen[: len(ids)])) == len(ids)  # nobody twice before everyone once


@in_loop
async def test_what_a_jobs_state_forbids(tmp_path: Path) -> None:
    drm = Drm(states={"1": "running", "2": "queued_active", "3": "user_on_hold"})
    async with engine(drm, tmp_path) as drmaa:
        with pytest.raises(Refused):
            await drmaa.control("1", Action.HOLD)
        with pytest.raises(Refused):
            await drmaa.control("2", Action.SUSPEND)
        drm.troubles["control"] = [exception("InternalException")("code 1: Job/step already completing")]
        await drmaa.control("1", Action.TERMINATE)
        drm.troubles["control"] = [exception("ResumeInconsistentStateException")("code 19: x")]
        with pytest.raises(Refused):
            await drmaa.control("1", Action.RESUME)
        for job_id, action in (("1", Action.SUSPEND), ("2", Action.HOLD), ("3", Action.HOLD)):
            await drmaa.control(job_id, action)
        assert drm.calls[-1] == ("control", "3", "hold")


# -- the thread ---------------------------------------------------------------------------------


@in_loop
async def test_a_stuck_call_is_a_fault_and_blocks_no_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.drm.drmaa.STUCK_AFTER", 0.05)
    drm = Drm()
    release = threading.Event()
    async with engine(drm, tmp_path) as drmaa:
        original = drm.called

        def called(name: str, *args: Any, remote: bool = True) -> None:
            if name == "runJob":
                release.wait()
            original(name, *args, remote=remote)

        drm.called = called  # type: ignore[method-assign]
        submission = asyncio.create_task(drmaa.submit(job()))
        await until(lambda: drmaa.fault() is not None)
        assert str(drmaa.fault()).startswith("the DRM has not answered runJob for")
        release.set()
        assert await submission == "1"
        assert drmaa.fault() is None


@in_loop
async def test_a_daemon_that_stops_does_not_wait_for_a_stuck_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.drm.drmaa.CLOSE_TIMEOUT", 0.05)
    drm = Drm()
    release = threading.Event()
    drmaa = DrmaaEngine(tmp_path, load=lambda *_: DrmaaModule(drm), question=lambda _: drm.asked.append)
    await drmaa.start()
    stuck = asyncio.create_task(drmaa._runner.run(release.wait))
    await until(lambda: drmaa._runner.busy() is not None)
    await drmaa.close()
    with pytest.raises(PassingFault, match="stopping"):
        await drmaa.submit(job())
    release.set()
    assert await stuck


# -- configuration ------------------------------------------------------------------------------


@in_loop
async def test_wrong_configurations_are_named(tmp_path: Path) -> None:
    for drm, more, words in (
        (Drm(info="GridWay"), {}, "drm.dialect: auto does not know the DRM .*'GridWay'"),
        (Drm(), {"native": {"nosuch": "x"}}, "native.nosuch: unknown"),
    ):
        drmaa = DrmaaEngine(tmp_path, load=lambda *_, drm=drm: DrmaaModule(drm), **more)
        with pytest.raises(ConfigurationError, match=words):
            await drmaa.start()
        assert "initialize" not in drm.names()


@in_loop
async def test_a_library_that_does_not_say_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grid Engine's does not without SGE_ROOT."""
    why = "Please set the environment variable SGE_ROOT."
    drm = Drm(troubles={"drmsInfo": [exception("InternalException")(f"code 1: {why}") for _ in range(2)]})
    with pytest.raises(ConfigurationError, match=rf"drm\.backend: libdrmaa does not work here: {why}"):
        await DrmaaEngine(tmp_path, load=lambda *_: DrmaaModule(drm)).start()
    monkeypatch.setattr(drmaa_library, "load", lambda *_: DrmaaModule(drm))
    with pytest.raises(ConfigurationError, match=why):
        drmaa_library.examine(Path("x.toml"), None, "auto", {}, {})


@in_loop
async def test_a_named_dialect_needs_no_known_name(tmp_path: Path) -> None:
    async with engine(Drm(info="Some Grid Engine's heir"), tmp_path, dialect="gridengine") as drmaa:
        assert drmaa.dialect.name == "gridengine"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "SGE_ROOT is not set"),
        ({"SGE_ROOT": "/nosuch"}, "no folder $SGE_ROOT=/nosuch"),
        ({"SGE_ROOT": "/tmp"}, "act_qmaster is missing"),
    ],
)
def test_grid_engines_environment(environ: dict[str, str], words: str) -> None:
    (finding,) = environment_findings(GRID_ENGINE, environ, Path("x.toml"))
    assert not finding.warning
    assert words in finding.message


def test_slurms_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drmaa_library, "SLURM_CONF_PLACES", ())
    findings = environment_findings(SLURM, {"SLURM_DRMAA_CONF": ""}, Path("x.toml"))
    assert [finding.warning for finding in findings] == [True, False]
    (finding,) = environment_findings(SLURM, {"SLURM_CONF": "/nosuch"}, Path("x.toml"))
    assert "SLURM_CONF=/nosuch" in finding.message
    conf = tmp_path / "slurm.conf"
    conf.touch()
    assert environment_findings(SLURM, {"SLURM_CONF": str(conf)}, Path("x.toml")) == []
    assert environment_findings(LSF, {}, Path("x.toml")) == []


def test_a_library_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRMAA_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(drmaa_library, "find_library", lambda name: None)
    with pytest.raises(ConfigurationError, match="libdrmaa was not found"):
        load(Path("x.toml"), None, {})
    with pytest.raises(ConfigurationError, match=r"drm\.library: there is no file /nosuch/libdrmaa\.so"):
        load(Path("x.toml"), "/nosuch/libdrmaa.so", {})
    with pytest.raises(ConfigurationError, match=r"no file \$DRMAA_LIBRARY_PATH=/nosuch"):
        load(Path("x.toml"), None, {"DRMAA_LIBRARY_PATH": "/nosuch/x"})


def test_a_file_that_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "libdrmaa.so"
    file.write_text("no ELF")
    monkeypatch.setenv("DRMAA_LIBRARY_PATH", "")
    with pytest.raises(ConfigurationError, match=r"cannot be loaded: .*(invalid ELF header|file too short)"):
        load(Path("x.toml"), str(file), os.environ)


def test_starting_anew_happens_once_and_only_where_it_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dlopen(path: str) -> None:
        if "jemalloc" in path:
            raise OSError(f"{path}: cannot allocate memory in static TLS block")
        if "broken" in path:
            raise OSError(f"{path}: invalid ELF header")

    monkeypatch.setattr(drmaa_library.ctypes, "CDLL", dlopen)
    monkeypatch.setattr(drmaa_library, "find_library", lambda name: None)
    environ = needs_reexec({"HOME": "/x"}, "/lib/jemalloc.so")
    assert environ == {
        "HOME": "/x",
        "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=4096",
        STARTED_ANEW: "1",
    }
    assert needs_reexec(environ, "/lib/jemalloc.so") is None
    again = needs_reexec({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, "/lib/jemalloc.so")
    assert again is not None
    assert again["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.rtld.optional_static_tls=4096"
    assert needs_reexec({"DRMAA_LIBRARY_PATH": "/lib/fine.so"}) is None
    assert needs_reexec({}, "/lib/broken.so") is None
    assert needs_reexec({}) is None
