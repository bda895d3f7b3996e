"""The engine for Slurm over commands that are small shell scripts: what it runs, what it makes of answers.

On a real Slurm it is tested by `tests/cluster/`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drmaaticd.drm import slurmcommands
from drmaaticd.drm.base import Action, Array, Found, Job, JobState, PassingFault, Refused
from drmaaticd.drm.slurm import SlurmEngine
from drmaaticd.drm.slurmcommands import Commands, Kind
from drmaaticd.errors import ConfigurationError
from tests.launching import in_loop, until

UUID = "395b7b04-a4a4-4145-b660-267fb348c353"
OTHER = "00000000-a4a4-4145-b660-267fb348c353"
JOB = Job(task=UUID, name=f"t-x-{UUID}", run_script=Path("/t/run.sh"), folder=Path("/t"))
HELD_ARRAY = Job(
    task=UUID, name=f"t-x-{UUID}", run_script=Path("/t/run.sh"), folder=Path("/t"), array=Array(1, 3)
)


class Slurm:
    """A folder of commands: each writes down how it was called and does what its script says."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls"
        self.say("sbatch", "cat >/dev/null; echo 7")
        self.say("squeue", ":")
        self.say("scancel", ":")
        self.say("scontrol", 'case $1 in ping) echo "Slurmctld(primary) at a is UP" ;; esac')
        self.say("sacct", ":")

    def say(self, name: str, body: str) -> None:
        program = self.bin / name
        new = program.with_suffix(".new")
        new.write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{self.log}'\n{body}\n")
        new.chmod(0o755)
        new.rename(program)

    def queue(self, *rows: str) -> None:
        self.say("squeue", "cat <<'EOT'\n" + "\n".join(rows) + "\nEOT")

    def accounts(self, *rows: str) -> None:
        self.say(
            "scontrol",
            'case $1 in ping) echo "Slurmctld(primary) at a is UP" ;;\n'
            '*) echo "AccountingStorageType = accounting_storage/slurmdbd" ;; esac',
        )
        self.say("sacct", "cat <<'EOT'\n" + "\n".join(rows) + "\nEOT")

    def away(self) -> None:
        for name in ("sbatch", "squeue", "scancel"):
            self.say(name, "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
        self.say("scontrol", 'echo "Slurmctld(primary) at a is DOWN"; exit 1')

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def called(self, name: str) -> list[str]:
        return [call for call in self.calls if call.split()[0] == name]

    def commands(self, timeout: float = 20.0, **environ: str) -> Commands:
        return Commands({"PATH": f"{self.bin}:{os.defpath}", **environ}, timeout)

    @asynccontextmanager
    async def engine(self, patience: float = 20.0, **environ: str) -> AsyncIterator[SlurmEngine]:
        engine = SlurmEngine(commands=self.commands(patience, **environ))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


# -- the commands ----------------------------------------------------------------------------------


@in_loop
async def test_commands_get_a_fixed_environment(slurm: Slurm, tmp_path: Path) -> None:
    slurm.say("sbatch", f"env >'{tmp_path}/env'; cat >'{tmp_path}/script'; echo 7")
    secrets = {"TOKEN": "secret", "SBATCH_PARTITION": "theirs", "LC_ALL": "de_DE", "SLURM_CONF": "/conf"}
    async with slurm.engine(**secrets) as engine:
        assert await engine.submit(JOB) == "7"
    lines = (tmp_path / "env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}  # sh's own
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "LC_ALL", "SLURM_CONF"}
    assert "LC_ALL=C.UTF-8" in lines
    assert (tmp_path / "script").read_text() == "#!/bin/sh\nexec /bin/sh /t/run.sh"


@in_loop
async def test_arguments_reach_a_command_as_they_are(slurm: Slurm, tmp_path: Path) -> None:
    slurm.say("scontrol", f"for word in \"$@\"; do printf '%s\\n' \"$word\"; done >'{tmp_path}/words'")
    commands = slurm.commands()
    commands.find(Path("x"))
    words = ["a b", "$(touch x)", "'", "é", ";"]
    await commands.run(Kind.QUESTION, "scontrol", words)
    await commands.close()
    assert (tmp_path / "words").read_text().splitlines() == words


@in_loop
async def test_a_command_that_hangs_is_ended(slurm: Slurm) -> None:
    slurm.say("squeue", "exec sleep 600")
    async with slurm.engine(patience=0.3) as engine:
        with pytest.raises(PassingFault, match=r"squeue did not answer within 0\.3 s"):
            await engine.states(["7"], 1.0)
        assert engine.fault() is not None
        slurm.queue(f"7|RUNNING|None|t-x-{UUID}")
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.RUNNING
        assert engine.fault() is None


@in_loop
async def test_output_without_end_is_cut(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmcommands, "MOST_OUTPUT", 100_000)
    monkeypatch.setattr(slurmcommands, "MOST_ERRORS", 1000)
    slurm.say("squeue", "exec yes")
    async with slurm.engine() as engine:
        with pytest.raises(PassingFault, match="more than anybody could read"):
            await engine.states(["7"], 1.0)
        slurm.say("squeue", "yes error | head -c 300000 >&2; exit 1")
        with pytest.raises(PassingFault, match="error"):
            await engine.states(["7"], 1.0)


@in_loop
async def test_no_more_submissions_at_a_time_than_allowed(slurm: Slurm, tmp_path: Path) -> None:
    counter = tmp_path / "now"
    counter.mkdir()
    slurm.say(
        "sbatch",
        f"cat >/dev/null; : >{counter}/$$; ls {counter} | wc -l >>{tmp_path}/most; sleep 0.05\n"
        f"rm {counter}/$$; echo 7",
    )
    async with slurm.engine() as engine:
        await asyncio.gather(*(engine.submit(JOB) for _ in range(12)))
    assert max(map(int, (tmp_path / "most").read_text().split())) <= Kind.SUBMIT.value


@in_loop
async def test_closing_ends_commands_that_hang(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmcommands, "CLOSING_SECONDS", 0.1)
    slurm.say("sbatch", "exec sleep 600")
    engine = SlurmEngine(commands=slurm.commands())
    await engine.start()
    submitting = asyncio.create_task(engine.submit(JOB))
    await until(lambda: slurm.called("sbatch"), "the submission")
    start = time.monotonic()
    await engine.close()
    with pytest.raises(PassingFault):
        await submitting
    assert time.monotonic() - start < 30
    with pytest.raises(PassingFault, match="stopping"):
        await engine.states(["7"], 1.0)


@in_loop
async def test_missing_commands_are_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmcommands, "MORE_PLACES", "/nowhere")
    engine = SlurmEngine(commands=Commands({"PATH": str(tmp_path)}))
    with pytest.raises(ConfigurationError, match="sbatch, squeue, scancel, scontrol: not found"):
        await engine.start()
    await engine.close()


@in_loop
async def test_a_site_setting_that_may_not_be_is_a_finding(slurm: Slurm) -> None:
    engine = SlurmEngine(commands=slurm.commands(), native={"always": "--output=/x"})
    with pytest.raises(ConfigurationError, match="may not be given"):
        await engine.start()
    await engine.close()


# -- submitting ------------------------------------------------------------------------------------


@in_loop
async def test_a_refusal_is_final_and_no_fault(slurm: Slurm) -> None:
    slurm.say(
        "sbatch",
        "cat >/dev/null\n"
        "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1",
    )
    async with slurm.engine() as engine:
        with pytest.raises(Refused, match=r"^Invalid qos specification$"):
            await engine.submit(JOB)
        assert engine.fault() is None


@in_loop
async def test_a_lost_answer_is_looked_for_before_the_next_try(slurm: Slurm) -> None:
    slurm.say("sbatch", "cat >/dev/null; echo 'Socket timed out on send/recv operation' >&2; exit 1")
    async with slurm.engine() as engine:
        with pytest.raises(PassingFault):
            await engine.submit(JOB)
        slurm.queue(f"5|RUNNING|None|t-x-{OTHER}", f"6|PENDING|Priority|t-x-{UUID}")
        slurm.say("sbatch", "cat >/dev/null; echo 7")
        assert await engine.submit(JOB) == "6"
        assert len(slurm.called("sbatch")) == 1
        assert await engine.submit(JOB) == "7"  # it is not doubtful any more


@in_loop
async def test_a_lost_answer_of_a_job_that_is_not_there(slurm: Slurm) -> None:
    slurm.say("sbatch", "cat >/dev/null")
    async with slurm.engine() as engine:
        with pytest.raises(PassingFault, match="named no job"):
            await engine.submit(JOB)
        slurm.say("sbatch", "cat >/dev/null; echo '7;cluster'")
        assert await engine.submit(JOB) == "7"


@in_loop
async def test_while_the_controller_is_away_one_ping_asks_for_all(slurm: Slurm) -> None:
    async with slurm.engine() as engine:
        slurm.away()
        with pytest.raises(PassingFault):
            await engine.states(["7"], 1.0)
        before = len(slurm.calls)
        answers = await asyncio.gather(
            *(engine.submit(JOB) for _ in range(10)), engine.states(["7"], 1.0), return_exceptions=True
        )
        assert all(isinstance(answer, PassingFault) for answer in answers)
        assert slurm.calls[before:] == ["scontrol ping"]
        assert "is DOWN" in (engine.fault() or "")


@in_loop
async def test_with_nothing_to_ask_an_outage_is_seen_to_begin_and_to_end(slurm: Slurm) -> None:
    async with slurm.engine() as engine:
        slurm.say("scontrol", 'echo "Slurmctld(primary) at a is DOWN"; exit 1')
        with pytest.raises(PassingFault, match="is DOWN"):
            await engine.ping()
        assert "is DOWN" in (engine.fault() or "")
        slurm.say("scontrol", 'echo "Slurmctld(primary) at a is UP"')
        await engine.ping()
        assert engine.fault() is None


# -- asking ----------------------------------------------------------------------------------------


@in_loop
async def test_two_thousand_jobs_are_one_command(slurm: Slurm) -> None:
    slurm.queue(*(f"{number}|RUNNING|None|t-x-{UUID}" for number in range(1, 2001)))
    async with slurm.engine() as engine:
        reports = await engine.states([str(number) for number in range(1, 2001)], 1.0)
        assert {report.state for report in reports.values()} == {JobState.RUNNING}
        assert len(slurm.called("squeue")) == 1
        assert f"--user {os.geteuid()}" in slurm.called("squeue")[0]


@in_loop
async def test_an_old_squeue_is_asked_for_each_state_by_name(slurm: Slurm) -> None:
    slurm.say(
        "scontrol",
        "case $1 in --version) echo slurm-wlm 20.11.4 ;; *) echo Slurmctld is UP ;; esac",
    )
    slurm.say(
        "squeue",
        f"case \"$*\" in *stopped*) echo '7|STOPPED|None|t-x-{UUID}' ;; esac",
    )
    async with slurm.engine() as engine:
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.USER_SUSPENDED
        assert (await engine.states(["7", "8"], 1.0))["7"].state is JobState.USER_SUSPENDED


@in_loop
async def test_one_job_is_asked_about_alone(slurm: Slurm) -> None:
    slurm.say("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    async with slurm.engine() as engine:
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.UNKNOWN
        assert "--jobs 7" in slurm.called("squeue")[0]
        assert engine.fault() is None


@in_loop
async def test_what_slurm_forgot_is_remembered_until_the_id_is_given_again(slurm: Slurm) -> None:
    async with slurm.engine() as engine:
        slurm.queue(f"7|NODE_FAIL|None|t-x-{UUID}")
        assert (await engine.states(["7"], 1.0))["7"].reason == "its node failed"
        slurm.queue()
        assert (await engine.states(["7"], 1.0))["7"].reason == "its node failed"
        assert await engine.submit(JOB) == "7"
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.UNKNOWN


@in_loop
async def test_a_member_that_vanished_was_cancelled(slurm: Slurm) -> None:
    async with slurm.engine() as engine:
        assert await engine.submit(HELD_ARRAY) == "7"
        slurm.queue(f"7_[1,3%1]|PENDING|Resources|t-x-{UUID}")
        reports = await engine.states(["7_1", "7_2", "7_3", "7_4", "7"], 1.0)
        assert [reports[job_id].state for job_id in ("7_1", "7_2", "7_3", "7_4", "7")] == [
            JobState.QUEUED,
            JobState.ENDED,
            JobState.QUEUED,
            JobState.UNKNOWN,
            JobState.QUEUED,
        ]
        assert (reports["7_2"].killed, reports["7_2"].task) == (True, UUID)


@in_loop
async def test_accounting_tells_of_what_was_forgotten(slurm: Slurm) -> None:
    slurm.accounts(
        f"7|FAILED|3:0|5|00:01.500||t-x-{UUID}",
        "7.batch|FAILED|3:0|5|00:01.500|2048K|batch",
        f"8|RUNNING|0:0|5|00:00:00||t-x-{OTHER}",
    )
    async with slurm.engine() as engine:
        reports = await engine.states(["7", "8", "9"], 1.0)
        assert (reports["7"].exit_status, reports["7"].task) == (3, UUID)
        assert reports["7"].usage is not None
        assert reports["7"].usage.max_rss_bytes == 2048 * 1024
        # The controller does not know 8: its record has no end.
        assert (reports["8"].state, reports["9"].state) == (JobState.UNKNOWN, JobState.UNKNOWN)
        assert len(slurm.called("sacct")) == 1


@in_loop
async def test_accounting_that_does_not_answer_leaves_jobs_unasked(slurm: Slurm) -> None:
    slurm.accounts()
    slurm.say("sacct", "echo 'sacct: error: Problem talking to the database' >&2; exit 1")
    slurm.queue(f"7|RUNNING|None|t-x-{UUID}")
    async with slurm.engine() as engine:
        assert set(await engine.states(["7", "8"], 1.0)) == {"7"}
        assert engine.fault() is None
        with pytest.raises(PassingFault):
            await engine.finished("8")


@in_loop
async def test_ended_jobs_are_asked_about_together_and_told_more(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.drm.slurm.GATHERING", 0.05)
    slurm.accounts(
        f"7|CANCELLED by {os.geteuid()}|0:0|5|00:01.500||t-x-{UUID}",
        f"8|COMPLETED|0:0|5|00:01.500||t-x-{OTHER}",
    )
    slurm.queue(f"7|CANCELLED|None|t-x-{UUID}", f"8|COMPLETED|None|t-x-{OTHER}")
    async with slurm.engine() as engine:
        first, second, again = await asyncio.gather(*(engine.finished(job) for job in ("7", "8", "7")))
        assert first == again
        assert first.reason is not None
        assert first.reason.startswith("it was cancelled by ")
        assert (second.exit_status, second.usage is not None) == (0, True)
        assert len(slurm.called("squeue")) == 1


@in_loop
async def test_find(slurm: Slurm) -> None:
    slurm.queue(
        f"5|CANCELLED|None|t-x-{UUID}", f"4_[1-3]|PENDING|None|t-x-{UUID}", f"6|RUNNING|None|{OTHER}x"
    )
    async with slurm.engine() as engine:
        assert await engine.find(UUID) == "4"
        assert await engine.find(OTHER) is Found.NONE
        slurm.away()
        assert await engine.find(OTHER) is Found.CANNOT_TELL


# -- controlling -----------------------------------------------------------------------------------


@in_loop
async def test_a_job_of_another_task_is_left_alone(slurm: Slurm) -> None:
    slurm.queue(f"7|RUNNING|None|t-x-{OTHER}")
    async with slurm.engine() as engine:
        for action in Action:
            await engine.control("7", action, UUID)
        assert slurm.called("scancel") == []
        await engine.control("7", Action.TERMINATE, OTHER)
        assert slurm.called("scancel") == ["scancel 7"]
        report = (await engine.states(["7"], 1.0))["7"]
        assert report.about(UUID).reassigned
        assert not report.about(OTHER).reassigned


@in_loop
async def test_suspending_by_right_or_by_signal(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.queue(f"7|RUNNING|None|t-x-{UUID}")
    async with slurm.engine() as engine:
        await engine.control("7", Action.SUSPEND, UUID)
        assert slurm.called("scontrol")[-1] == "scontrol suspend 7"
        slurm.queue(f"7|SUSPENDED|None|t-x-{UUID}")
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.USER_SUSPENDED
        await engine.control("7", Action.RESUME, UUID)
        assert slurm.called("scontrol")[-1] == "scontrol resume 7"
        # By somebody else, later on.
        assert (await engine.states(["7"], 1.0))["7"].state is JobState.SYSTEM_SUSPENDED
        slurm.say("scontrol", "echo 'Access/permission denied for job 7' >&2; exit 1")
        slurm.queue(f"7|RUNNING|None|t-x-{UUID}")
        monkeypatch.setattr("drmaaticd.drm.slurm.STOPS", 2)  # a Slurm that never shows it
        await engine.control("7", Action.SUSPEND, UUID)
        assert slurm.called("scancel") == ["scancel --signal=STOP --full 7"] * 2
        slurm.queue(f"7|STOPPED|None|t-x-{UUID}")
        await engine.control("7", Action.RESUME, UUID)
        assert slurm.called("scancel")[-1] == "scancel --signal=CONT --full 7"


@in_loop
async def test_a_suspended_job_is_resumed_to_be_ended(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drmaaticd.drm.slurm.RESUMING", 0.01)
    monkeypatch.setattr("drmaaticd.drm.slurm.SUSPENDING", 0.01)
    slurm.queue(f"7_1|RUNNING|None|t-x-{UUID}", f"7_2|RUNNING|None|t-x-{UUID}")
    async with slurm.engine() as engine:
        await engine.control("7_2", Action.SUSPEND, UUID)
        before = len(slurm.calls)
        await engine.control("7_1", Action.TERMINATE, UUID)
        await engine.control("7", Action.TERMINATE, UUID)
        await engine.control("7_2", Action.TERMINATE, UUID)
        told = [call for call in slurm.calls[before:] if not call.startswith("squeue")]
        assert told == ["scancel 7_1", "scontrol resume 7_2", "scancel 7", "scancel 7_2"]
        await engine.control("7_2", Action.SUSPEND, UUID)
        slurm.say("scontrol", "echo 'Job is pending execution for job 7_2' >&2; exit 1")
        await engine.control("7_2", Action.TERMINATE, UUID)
        assert slurm.called("scancel")[-1] == "scancel 7_2"


@in_loop
async def test_a_node_is_given_the_time_to_suspend_before_it_resumes(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is ended as soon as it was suspended would be killed without having heard the signal."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("drmaaticd.drm.slurm.RESUMING", 10.0)
    monkeypatch.setattr("drmaaticd.drm.slurm.SUSPENDING", 100.0)
    slurm.queue(f"7|RUNNING|None|t-x-{UUID}")
    async with slurm.engine() as engine:
        await engine.control("7", Action.SUSPEND, UUID)
        monkeypatch.setattr("drmaaticd.drm.slurm.asyncio.sleep", sleep)
        await engine.control("7", Action.TERMINATE, UUID)
        monkeypatch.undo()
    assert max(pauses) > 10.0
    assert slurm.called("scancel") == ["scancel 7"]


@in_loop
async def test_a_job_that_ends_meanwhile_is_no_error(slurm: Slurm) -> None:
    slurm.queue(f"7|PENDING|JobHeldUser|t-x-{UUID}")
    async with slurm.engine() as engine:
        slurm.say("scontrol", "echo 'Job/step already completing or completed' >&2; exit 1")
        await engine.control("7", Action.RELEASE, UUID)
        slurm.say("scontrol", "echo 'No, for a reason of its own' >&2; exit 1")
        with pytest.raises(Refused, match="reason of its own"):
            await engine.control("7", Action.RELEASE, UUID)


def test_the_calls_are_written_down(slurm: Slurm) -> None:
    """The helper itself: a test that counts calls would otherwise count nothing."""
    commands = slurm.commands()
    commands.find(Path("x"))
    assert commands.call("squeue", ["--me"]).status == 0
    assert json.dumps(slurm.calls) == '["squeue --me"]'
    asyncio.run(commands.close())
