"""What Slurm's answers mean. The texts are a real Slurm 22.05's, unless a test says otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.drm import slurmanswers as answers
from drmaaticd.drm.base import JobState, PassingFault, Refused, Report, Usage

U = "395b7b04-a4a4-4145-b660-267fb348c353"

SQUEUE = f"""\
6|FAILED|NonZeroExitCode|t-x-{U}
5|PENDING|JobHeldUser|we|ird name
9|RUNNING|None|t-we|ird-{U}
2|COMPLETING|JobHeldUser|b
1|STOPPED|None|a
3_8|PENDING|Resources|arr
3_2|RUNNING|None|arr
4_[1-19,21-40%2]|PENDING|Priority|sbatch
7|PENDING|ReqNodeNotAvail, UnavailableNodes:vm|t-x-{U}
8+0|RUNNING|None|het
8+1|PENDING|None|het
10|SUSPENDED|None|s
11|CANCELLED|None|t-x-{U}
12|TIMEOUT|TimeLimit|t-x-{U}
13|NODE_FAIL|None|t-x-{U}
14|OUT_OF_MEMORY|OutOfMemory|t-x-{U}
15|PENDING|JobHeldAdmin|x
16|COMPLETED|None|t-x-{U}
17|NEW_STATE|None|x
not a row
"""

SACCT = f"""\
351|COMPLETED|0:0|2|00:01.095||t-ok-{U}
351.batch|COMPLETED|0:0|2|00:01.095|61020K|batch
351.extern|COMPLETED|0:0|2|00:00.001|1.50M|extern
352|FAILED|3:0|0|00:00.002||t-fails-{U}
352.batch|FAILED|3:0|0|00:00.002||batch
353|FAILED|0:9|0|00:00.002||t-sig-{U}
353.batch|CANCELLED|0:9|0|00:00.002||batch
354|CANCELLED by 4711|0:0|5|00:00.002||t-x-{U}
354.batch|CANCELLED|0:15|5|00:00.002|3012K|batch
355|CANCELLED by 99|0:0|0|00:00:00||t-q-{U}
356_2|FAILED|2:0|0|00:00.001||t-arr-{U}
356_2.batch|FAILED|2:0|0|00:00.001||batch
357|RUNNING|0:0|7|00:00:00||t-limit-{U}
358_1|CANCELLED by 4711|0:0|5|00:00.002||t-a|rr2-{U}
358_[3,5,7,9%1]|CANCELLED by 4711|0:0|0|00:00:00||t-a|rr2-{U}
359|TIMEOUT|0:0|64|00:00.010||t-limit-{U}
360|OUT_OF_ME+|0:125|1|00:00.010||t-oom-{U}
"""


def test_squeue_rows() -> None:
    listing = answers.listing_of(SQUEUE)
    states = {job_id: report.state for job_id, report in listing.reports.items()}
    assert states["6"] is JobState.ENDED
    assert (states["5"], states["15"]) == (JobState.USER_HELD, JobState.SYSTEM_HELD)
    assert (states["9"], states["2"], states["3_2"]) == (JobState.RUNNING,) * 3
    assert (states["1"], states["10"]) == (JobState.USER_SUSPENDED, JobState.SYSTEM_SUSPENDED)
    assert [states[f"4_{index}"] for index in (1, 19, 21, 40)] == [JobState.QUEUED] * 4
    assert "4_20" not in states
    assert "4" not in states
    assert (states["8"], states["8+1"]) == (JobState.RUNNING, JobState.QUEUED)
    assert states["17"] is JobState.UNKNOWN
    assert len(listing.members["4"]) == 39


@pytest.mark.parametrize(
    ("version", "names_them"),
    [
        ("slurm-wlm 20.11.4\n", True),  # whose "all" leaves stopped jobs out
        ("slurm 20.11.9-1\n", True),
        ("slurm-wlm 21.08.5\n", False),
        ("slurm-wlm 22.05.8\n", False),
        ("slurm 26.05.5\n", False),
        ("", False),
    ],
)
def test_the_states_that_are_all(version: str, names_them: bool) -> None:
    states = answers.all_states(version)
    assert (states != "all") is names_them
    assert not names_them or {"stopped", "requeue_hold", "running", "completed"} <= set(states.split(","))


def test_squeue_tells_whose_job_it_is() -> None:
    reports = answers.listing_of(SQUEUE).reports
    assert (reports["9"].task, reports["6"].task, reports["5"].task) == (U, U, "")


def test_why_a_job_waits_or_ended() -> None:
    reports = answers.listing_of(SQUEUE).reports
    assert reports["7"].reason == "waits: ReqNodeNotAvail, UnavailableNodes:vm"
    assert reports["3_8"].reason is None
    assert [reports[job_id].reason for job_id in ("11", "12", "13", "14")] == [
        "it was cancelled",
        "time limit reached",
        "its node failed",
        "out of memory",
    ]
    assert all(reports[job_id].killed for job_id in ("11", "12", "13", "14"))
    assert (reports["6"].killed, reports["6"].reason) == (False, None)
    assert reports["16"] == Report(JobState.ENDED, exit_status=0, task=U)


def test_sacct_rows() -> None:
    found = answers.sacct_reports(SACCT, {4711: "drmtest"}.get)  # type: ignore[arg-type]
    assert found["351"] == Report(JobState.ENDED, 0, usage=Usage(1.095, 2.0, 61020 * 1024), task=U)
    assert (found["352"].exit_status, found["352"].usage) == (3, Usage(cpu_seconds=0.002))
    assert (found["353"].exit_status, found["353"].signal) == (None, "SIGKILL")
    assert (found["354"].reason, found["354"].killed) == ("it was cancelled by drmtest", True)
    assert found["354"].usage == Usage(0.002, 5.0, 3012 * 1024)
    assert found["355"].usage is None
    assert found["356_2"].exit_status == 2
    assert found["357"].state is JobState.RUNNING
    assert [found[f"358_{index}"].task for index in (1, 3, 9)] == [U] * 3
    assert "358_4" not in found
    assert found["359"].reason == "time limit reached"
    assert "351.batch" not in found


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_0", ["12_0"]),
        ("12+0", ["12"]),
        ("12+1", ["12+1"]),
        ("12_[4-9%2]", [f"12_{index}" for index in range(4, 10)]),
        ("12_[1,3-9:3]", ["12_1", "12_3", "12_6", "12_9"]),
        ("12_[7]", ["12_7"]),
        ("12_[1,3,5...]", ["12_1", "12_3"]),  # cut off by a Slurm that was not told to write all
        ("12_[]", []),
        ("012", []),
        ("-5", []),
        ("12_", []),
        ("12_x", []),
        ("", []),
        ("N/A", []),
    ],
)
def test_ids(text: str, ids: list[str]) -> None:
    assert list(answers.ids_of(text)) == ids


@given(st.text(max_size=40))
def test_no_text_breaks_the_readers(text: str) -> None:
    assert len(list(answers.ids_of(f"1_[{text[:6]}]"))) <= answers.MOST_INDICES
    answers.listing_of(text)
    answers.sacct_reports(text)
    answers.submitted_id(text)
    assert isinstance(answers.error_of("sbatch", 1, text), (PassingFault, Refused))


def test_a_range_that_no_slurm_has_is_bounded() -> None:
    assert sum(1 for _ in answers.indices_of("1-9999999999,1-9999999999")) == answers.MOST_INDICES


PASSING = [
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "sbatch: error: Batch job submission failed: Unexpected message received",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates"
    " accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
    "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    "sbatch: error: Batch job submission failed: I/O error writing script/environment to file",
    "sbatch: error: If munged is up, restart with --num-threads=10\nsbatch: error: Munge encode failed:"
    ' Failed to access "/run/munge/munge.socket.2": No such file or directory\nsbatch: error:'
    " slurm_send_node_msg: auth_g_create: REQUEST_SUBMIT_BATCH_JOB has authentication error\n"
    "sbatch: error: Batch job submission failed: Protocol authentication error",
    "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
    "sbatch: fatal: Could not establish a configuration source",
    "allocation failure: Unable to contact slurm controller (connect failure)",
    "sacct: error: Problem talking to the database: Connection refused",
    "sbatch: error while loading shared libraries: libslurm.so.38: cannot open shared object file",
    "something that nobody has seen yet",
    "",
]

FINAL = [
    "sbatch: error: invalid partition specified: nosuch\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified",
    "sbatch: error: Memory specification can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    "sbatch: error: Batch job submission failed: Invalid license specification",
    "sbatch: error: Batch job submission failed: Invalid qos specification",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds"
    " some limit)",
    "sbatch: error: Batch job submission failed: Invalid node name specified",
    "sbatch: error: Your project has ended.\nsbatch: error: Batch job submission failed: Unspecified error",
    "sbatch: error: Batch job submission failed: User's group not permitted to use this partition",
    "sbatch: unrecognized option '--frob'\nTry \"sbatch --help\" for more information",
    "sbatch: error: Invalid --time specification",
    "allocation failure: Invalid partition name specified",
    "Access/permission denied for job 1",
]


@pytest.mark.parametrize("output", PASSING)
def test_passing_faults(output: str) -> None:
    assert isinstance(answers.error_of("sbatch", 1, output), PassingFault)
    if output and "nobody" not in output:
        assert isinstance(answers.error_of("scontrol", 1, output, final=True), PassingFault)


@pytest.mark.parametrize("output", FINAL)
def test_final_faults(output: str) -> None:
    assert isinstance(answers.error_of("sbatch", 1, output), Refused)
    assert isinstance(answers.error_of("sbatch", -9, output), PassingFault)  # it was killed meanwhile


def test_the_text_of_a_fault_is_slurms_own_in_one_line() -> None:
    assert str(answers.error_of("sbatch", 1, FINAL[0])) == (
        "invalid partition specified: nosuch; Invalid partition name specified"
    )
    assert str(answers.error_of("sbatch", 7, "")) == "sbatch ended with status 7"
    assert "\x1b" not in answers.text_of("a\x1b[1mb")


def test_what_is_over() -> None:
    for text in (
        "slurm_load_jobs error: Invalid job id specified",
        "scancel: error: Kill job error on job id 7: Job/step already completing or completed",
    ):
        assert answers.is_over(answers.error_of("scancel", 1, text))
    assert not answers.is_over(PassingFault("Unable to contact slurm controller"))


@pytest.mark.parametrize(
    ("output", "job_id"),
    [("12\n", "12"), ("12;cluster\n", "12"), ("a note\n12\n", "12"), ("", None), ("Submitted\n", None)],
)
def test_the_submitted_id(output: str, job_id: str | None) -> None:
    assert answers.submitted_id(output) == job_id


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:01.095", 1.095),
        ("01:02:03", 3723.0),
        ("2-00:00:01", 172801.0),
        ("", None),
        ("INVALID", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert answers.seconds_of(text) == seconds


def test_sizes() -> None:
    assert answers.bytes_of("1.50M") == 1536 * 1024
    assert answers.bytes_of("123") == 123
    assert (answers.bytes_of(""), answers.bytes_of("0"), answers.bytes_of("x")) == (None, None, None)


def test_ping_and_settings() -> None:
    assert not answers.a_controller_is_up("Slurmctld(primary) at vm is DOWN\n")
    assert answers.a_controller_is_up("Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n")
    config = (
        "AccountingStorageType   = accounting_storage/none\nSLURM_VERSION           = 22.05.8\nX = (null)\n"
    )
    assert answers.setting(config, "SLURM_VERSION") == "22.05.8"
    assert answers.setting(config, "X") is None
    assert answers.setting(config, "Y") is None


def test_of_a_tasks_jobs_the_live_one_counts() -> None:
    ended, live = Report(JobState.ENDED), Report(JobState.QUEUED)
    assert answers.newest([("9", ended), ("7", live)]) == "7"
    assert answers.newest([("9_1", ended), ("10_2", ended)]) == "10"
    assert answers.newest([]) is None
