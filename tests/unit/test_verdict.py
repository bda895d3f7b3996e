"""The table of evidence, row by row, and what no evidence may ever lead to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.drm.base import JobState, Report
from drmaaticd.launcher import Claim, Ending, Evidence
from drmaaticd.states import LIVE, State, check_move
from drmaaticd.verdict import REQUEUE_GRACE, Patience, Verdict, combine, judge

PATIENT = Patience(ending=90.0, lost=3600.0)
PROMPT = Patience(ending=0.0, lost=3600.0)

NOTHING = Evidence(claim=None, ending=None, started=None, cancelled=False)
CLAIMED = Evidence(claim=Claim("7", 0), ending=None, started=10.0, cancelled=False)


def ended(status: int, *, provisional: bool = False, signal: str | None = None) -> Evidence:
    """The evidence of a job whose launcher wrote an ending."""
    ending = Ending(
        attempt=1, status=status, time=20.0, signal=signal, cpu_seconds=None, provisional=provisional
    )
    return replace(CLAIMED, ending=ending)


QUEUED = Report(JobState.QUEUED)
RUNNING = Report(JobState.RUNNING)
GONE_OK = Report(JobState.ENDED, exit_status=0)
GONE_KILLED = Report(JobState.ENDED, signal="SIGKILL", killed=True, reason="time limit reached")
UNKNOWN = Report(JobState.UNKNOWN)


def decide(
    evidence: Evidence,
    report: Report | None,
    *,
    state: State = State.RUNNING,
    stop: bool = False,
    patience: Patience = PATIENT,
    doubt: str | None = None,
    doubted: float = 0.0,
) -> Verdict:
    return judge(state, evidence, report, stop=stop, patience=patience, doubt=doubt, doubted=doubted)


# -- ending | anything but queued | the ending


@pytest.mark.parametrize("report", [None, RUNNING, GONE_OK, GONE_KILLED, UNKNOWN, QUEUED])
def test_an_ending_counts_whatever_the_drm_says(report: Report | None) -> None:
    verdict = decide(ended(0), report)
    assert (verdict.state, verdict.exit_status, verdict.ended) == (State.DONE, 0, 20.0)
    verdict = decide(ended(3), report)
    assert (verdict.state, verdict.exit_status) == (State.FAILED, 3)


def test_an_ending_by_a_signal_names_it_and_takes_the_drms_reason() -> None:
    verdict = decide(ended(143, provisional=True, signal="SIGTERM"), GONE_KILLED)
    assert verdict.state is State.FAILED
    assert (verdict.exit_status, verdict.signal) == (143, "SIGTERM")
    assert verdict.detail == "time limit reached"


def test_the_launchers_own_reason_comes_before_the_drms() -> None:
    evidence = replace(ended(1), reason="the output could not be written")
    assert decide(evidence, GONE_KILLED).detail == "the output could not be written"


# -- ending written after a caught signal | queued or held | provisional


@pytest.mark.parametrize("job", [JobState.QUEUED, JobState.SYSTEM_HELD, JobState.USER_HELD])
def test_an_ending_after_a_signal_is_provisional_while_the_drm_queues_the_job(job: JobState) -> None:
    verdict = decide(ended(143, provisional=True), Report(job))
    assert verdict.rerun
    assert verdict.state is job.task_state


def test_an_ending_after_a_signal_waits_for_the_drms_word() -> None:
    assert decide(ended(143, provisional=True), None).state is None


def test_an_ending_after_a_signal_does_not_end_a_job_that_runs_again() -> None:
    assert decide(ended(143, provisional=True), RUNNING).state is State.RUNNING


# -- claimed, no ending | killed … | after the grace: failed, with the DRM's reason


def test_a_killed_job_without_an_ending_fails_after_the_grace() -> None:
    first = decide(CLAIMED, GONE_KILLED)
    assert (first.state, first.doubt) == (None, "ended")
    assert decide(CLAIMED, GONE_KILLED, doubt="ended", doubted=89.0).state is None
    verdict = decide(CLAIMED, GONE_KILLED, doubt="ended", doubted=90.0)
    assert (verdict.state, verdict.signal, verdict.detail) == (State.FAILED, "SIGKILL", "time limit reached")


def test_where_endings_are_prompt_there_is_no_grace() -> None:
    assert decide(CLAIMED, GONE_KILLED, patience=PROMPT).state is State.FAILED


def test_time_in_another_doubt_does_not_count() -> None:
    assert decide(CLAIMED, GONE_KILLED, doubt="unknown", doubted=1e6).state is None


# -- claimed, no ending | done, exit 0 | after the grace: failed, "ended without a report"


def test_done_without_the_launchers_word_is_not_believed() -> None:
    assert decide(CLAIMED, GONE_OK).state is None
    verdict = decide(CLAIMED, GONE_OK, doubt="ended", doubted=90.0)
    assert (verdict.state, verdict.detail) == (State.FAILED, "ended without a report")
    assert verdict.exit_status is None


# -- no claim | ended | after the grace: failed, "did not start"


@pytest.mark.parametrize("report", [GONE_OK, Report(JobState.ENDED, exit_status=127)])
def test_a_job_that_never_claimed_did_not_start(report: Report) -> None:
    assert decide(NOTHING, report, state=State.QUEUED_ACTIVE).state is None
    verdict = decide(NOTHING, report, state=State.QUEUED_ACTIVE, doubt="ended", doubted=90.0)
    assert (verdict.state, verdict.detail) == (State.FAILED, "did not start")


# -- any | stop was asked, and the job is gone | stopped, unless status 0 came first


@pytest.mark.parametrize("evidence", [NOTHING, CLAIMED, ended(1), ended(143, provisional=True)])
def test_a_job_that_is_gone_after_a_stop_is_stopped(evidence: Evidence) -> None:
    assert decide(evidence, GONE_KILLED, stop=True).state is State.STOPPED


def test_a_success_before_the_stop_stays_a_success() -> None:
    assert decide(ended(0), GONE_OK, stop=True).state is State.DONE


def test_an_exit_0_that_the_stops_signal_caused_is_a_stop() -> None:
    assert decide(ended(0, provisional=True), GONE_OK, stop=True).state is State.STOPPED


def test_a_stopped_job_that_lives_is_not_stopped_yet() -> None:
    assert decide(CLAIMED, RUNNING, stop=True).state is State.RUNNING


def test_a_cancelled_claim_and_a_job_unknown_to_the_drm_is_stopped() -> None:
    cancelled = replace(NOTHING, cancelled=True)
    assert decide(cancelled, UNKNOWN, state=State.QUEUED_ACTIVE, stop=True).state is State.STOPPED
    assert decide(CLAIMED, UNKNOWN, stop=True).state is None
    assert decide(CLAIMED, UNKNOWN, stop=True, doubt="unknown", doubted=90.0).state is State.STOPPED


# -- silent | unknown, or the question failed | as it is; undetermined; failed after lost_after


def test_silence_is_not_an_ending() -> None:
    assert decide(CLAIMED, UNKNOWN).state is None
    assert decide(CLAIMED, UNKNOWN, doubt="unknown", doubted=90.0).state is State.UNDETERMINED
    again = decide(CLAIMED, UNKNOWN, state=State.UNDETERMINED, doubt="unknown", doubted=3599.0)
    assert (again.state, again.doubt) == (None, "unknown")
    lost = decide(CLAIMED, UNKNOWN, state=State.UNDETERMINED, doubt="unknown", doubted=3600.0)
    assert lost.state is State.FAILED
    assert "does not know the job" in lost.detail


def test_a_failed_question_leaves_the_task_as_it_is() -> None:
    assert decide(NOTHING, None, state=State.QUEUED_ACTIVE).state is None
    assert decide(CLAIMED, None, doubt="unknown", doubted=1e9).state is None


def test_a_job_that_is_found_again_is_live_again() -> None:
    assert decide(CLAIMED, RUNNING, state=State.UNDETERMINED).state is State.RUNNING


# -- live reports


def test_a_claim_shows_that_a_queued_task_runs() -> None:
    verdict = decide(CLAIMED, None, state=State.QUEUED_ACTIVE)
    assert (verdict.state, verdict.started) == (State.RUNNING, 10.0)


def test_a_drm_whose_view_lags_does_not_make_a_running_task_queued() -> None:
    first = decide(NOTHING, QUEUED, state=State.RUNNING)
    assert (first.state, first.doubt) == (None, "requeued")
    later = decide(NOTHING, QUEUED, state=State.RUNNING, doubt="requeued", doubted=REQUEUE_GRACE)
    assert later.state is State.QUEUED_ACTIVE


# -- what may never be, whatever the evidence

claims = st.none() | st.builds(Claim, job_id=st.just("7"), restart=st.integers(0, 2))
endings = st.none() | st.builds(
    Ending,
    attempt=st.integers(1, 3),
    status=st.integers(0, 255),
    time=st.floats(0, 2e9),
    signal=st.none() | st.just("SIGTERM"),
    cpu_seconds=st.none() | st.floats(0, 1e6),
    provisional=st.booleans(),
)
evidences = st.builds(
    Evidence, claim=claims, ending=endings, started=st.none() | st.floats(0, 2e9), cancelled=st.booleans()
)
reports = st.none() | st.builds(
    Report,
    state=st.sampled_from(list(JobState)),
    exit_status=st.none() | st.integers(0, 255),
    signal=st.none() | st.just("SIGKILL"),
    killed=st.booleans(),
    reason=st.none() | st.just("words"),
)
situations = st.fixed_dictionaries(
    {
        "state": st.sampled_from(list(State)),
        "stop": st.booleans(),
        "patience": st.sampled_from([PATIENT, PROMPT]),
        "doubt": st.sampled_from([None, "ended", "unknown", "requeued"]),
        "doubted": st.floats(0, 1e5),
    }
)


@given(evidences, reports, situations)
def test_every_verdict_is_a_legal_move(evidence: Evidence, report: Report | None, situation: dict) -> None:
    verdict = decide(evidence, report, **situation)
    if verdict.state is not None:
        check_move(situation["state"], verdict.state)


@given(evidences, reports, situations)
def test_nothing_is_done_that_did_not_say_so(
    evidence: Evidence, report: Report | None, situation: dict
) -> None:
    verdict = decide(evidence, report, **situation)
    if verdict.state is State.DONE:
        assert evidence.ending is not None
        assert evidence.ending.status == 0


@given(st.lists(st.sampled_from(list(State)), min_size=1))
def test_an_array_is_live_while_a_member_is_and_failed_if_one_failed(members: list[State]) -> None:
    whole = combine(members)
    assert whole.final == all(member.final for member in members)
    if whole is State.DONE:
        assert set(members) == {State.DONE}
    assert (State.RUNNING in members) == (whole is State.RUNNING)
    assert whole is combine(reversed(members))


def test_live_states_are_those_that_are_not_final() -> None:
    assert {state for state in State if not state.final} == LIVE


# -- an id that belongs to another job now

REASSIGNED = Report(JobState.RUNNING, task="another").about("this")


@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_job_that_was_lost_before_it_began_is_submitted_again(state: State) -> None:
    verdict = decide(NOTHING, REASSIGNED, state=state)
    assert (verdict.state, verdict.resubmit) == (State.RECEIVED, True)


def test_a_job_that_was_lost_later_is_unknown() -> None:
    assert decide(CLAIMED, REASSIGNED) == decide(CLAIMED, UNKNOWN)
    assert decide(ended(3), REASSIGNED) == decide(ended(3), UNKNOWN)
    cancelled = replace(NOTHING, cancelled=True)
    assert decide(cancelled, REASSIGNED, stop=True).state is State.STOPPED
    assert not decide(NOTHING, REASSIGNED, stop=True).resubmit


def test_whose_job_a_report_is_about() -> None:
    assert RUNNING.about("any") is RUNNING  # the DRM does not tell
    mine = replace(RUNNING, task="mine")
    assert mine.about("mine") is mine
    assert mine.about("other") == Report(JobState.UNKNOWN, reassigned=True)
