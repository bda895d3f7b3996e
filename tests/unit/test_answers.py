"""What libdrmaa's answers mean: tables of what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from drmaaticd.drm.answers import (
    LONGEST_TEXT,
    CutOff,
    NoRecord,
    NoSession,
    NotEnded,
    UnknownJob,
    ending_of,
    error_of,
    state_of,
    text_of,
    usage_of,
)
from drmaaticd.drm.base import EngineError, JobState, PassingFault, Refused, Report, Usage
from drmaaticd.drm.dialects import GRID_ENGINE, SLURM
from tests.unit.drmaa_double import Info, exception

ERRORS: list[tuple[str, str, type[EngineError], str]] = [
    ("TryLaterException", "code 16: later", PassingFault, "later"),
    ("DrmCommunicationException", "code 2: unable to send", CutOff, "unable to send"),
    ("DrmsExitException", "code 12: x", CutOff, "x"),
    ("DrmsInitException", "code 10: x", PassingFault, "x"),
    ("NoActiveSessionException", "code 5: No active session", NoSession, "No active session"),
    ("InternalException", "code 1: slurm_submit_batch_job: Zero Bytes", PassingFault, "Zero Bytes"),
    ("DeniedByDrmException", 'code 17: unknown resource "x"', Refused, 'unknown resource "x"'),
    ("DeniedByDrmException", "code 17: Job violates accounting/QOS policy", PassingFault, "QOS policy"),
    ("DeniedByDrmException", "code 17: AssocMaxSubmitJobLimit: job submit limit", PassingFault, "limit"),
    ("DeniedByDrmException", "code 17: job rejected: only 10 jobs are allowed per user", PassingFault, "10"),
    (
        "DeniedByDrmException",
        "code 17: LSF daemon (LIM) not responding ... still trying",
        PassingFault,
        "LIM",
    ),
    ("InvalidAttributeValueException", "code 14: x", Refused, "x"),
    ("InvalidAttributeFormatException", "code 13: x", Refused, "x"),
    ("InvalidArgumentException", "code 4: x limit", Refused, "x limit"),
    ("ConflictingAttributeValuesException", "code 15: x", Refused, "x"),
    ("AuthorizationException", "code 3: x", Refused, "x"),
    ("SuspendInconsistentStateException", "code 20: x", Refused, "x"),
    ("InvalidJobException", "code 18: no such", UnknownJob, "no such"),
    ("ExitTimeoutException", "code 23: time-out condition", NotEnded, "time-out"),
    ("SomethingNewException", "code 99: x", PassingFault, "x"),
    ("OutOfMemoryException", "code 6: ", PassingFault, "OutOfMemoryException"),
]


@pytest.mark.parametrize(("name", "text", "kind", "words"), ERRORS)
def test_errors(name: str, text: str, kind: type[EngineError], words: str) -> None:
    error = error_of(exception(name)(text))
    assert type(error) is kind
    assert words in str(error)
    assert "code" not in str(error)


def test_the_bare_exception_means_that_there_is_no_record() -> None:
    assert type(error_of(Exception("code 24: no usage information was returned"))) is NoRecord
    assert type(error_of(Exception("something else"))) is PassingFault


def test_a_text_that_cannot_be_decoded_is_a_passing_fault() -> None:
    assert isinstance(error_of(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")), PassingFault)


def test_texts_are_one_printable_line() -> None:
    assert text_of(Exception("code 17: a\n b\t\x00\x1b[31mc")) == "a b ??[31mc"
    assert len(text_of(Exception("x" * 5000))) == LONGEST_TEXT


def test_states() -> None:
    assert state_of("queued_active") is JobState.QUEUED
    assert state_of("user_system_on_hold") is JobState.USER_SYSTEM_HELD
    assert state_of("user_system_suspended") is JobState.USER_SUSPENDED
    assert state_of("done") is state_of("failed") is JobState.ENDED
    assert state_of("undetermined") is state_of("of the future") is JobState.UNKNOWN


USED = {"cpu": "2.4480", "ru_wallclock": "3.0000", "ru_maxrss": "315084.0000", "maxvmem": "3239936.0000"}
RAN = Usage(2.448, 3.0, 315084 * 1024)
ENDED = JobState.ENDED
ENDINGS: list[tuple[dict[str, Any], Report]] = [
    ({"exitStatus": 3}, Report(ENDED, 3)),
    ({"exitStatus": 0}, Report(ENDED, 0)),
    ({"exitStatus": 0, "resourceUsage": USED}, Report(ENDED, 0, usage=RAN)),
    # Slurm: exited, and signalled too.
    (
        {"exitStatus": 137, "hasSignal": True, "terminatedSignal": "SIGKILL"},
        Report(ENDED, 137, "SIGKILL"),
    ),
    (
        {"hasExited": False, "hasSignal": True, "terminatedSignal": "SIGKILL", "resourceUsage": USED},
        Report(ENDED, signal="SIGKILL", killed=True, usage=RAN),
    ),
    (
        {"hasExited": False, "wasAborted": True, "resourceUsage": USED},
        Report(ENDED, killed=True, reason="it was deleted or aborted", usage=RAN),
    ),
    (
        {"hasExited": False, "wasAborted": True, "resourceUsage": {"cpu": "0.0"}},
        Report(ENDED, killed=True, reason="the cluster could not start it"),
    ),
    ({"hasExited": False}, Report(ENDED, killed=True)),
    (
        {"hasExited": False, "hasSignal": True, "terminatedSignal": "Unknown \x07"},
        Report(ENDED, killed=True),
    ),
]


@pytest.mark.parametrize(("info", "report"), ENDINGS)
def test_endings(info: dict[str, Any], report: Report) -> None:
    assert ending_of(Info(**info), GRID_ENGINE) == report


def test_a_job_that_ran_out_of_time_is_told_by_its_limit() -> None:
    killed = Info(hasExited=False, hasSignal=True, terminatedSignal="SIGKILL", resourceUsage=USED)
    assert ending_of(killed, GRID_ENGINE, 3).reason == "time limit reached"
    assert ending_of(killed, GRID_ENGINE, 4).reason is None
    aborted = Info(hasExited=False, wasAborted=True, resourceUsage={"walltime": "61"})
    assert ending_of(aborted, SLURM, 60).reason == "time limit reached"


def test_what_slurm_has_forgotten_is_unknown_and_not_failed() -> None:
    assert ending_of(Info(exitStatus=255), SLURM).state is JobState.UNKNOWN
    assert ending_of(Info(exitStatus=255), GRID_ENGINE) == Report(ENDED, 255)


def test_usage() -> None:
    assert usage_of({"cpu": "1,5", "ru_wallclock": "2,0", "ru_maxrss": "1"}, GRID_ENGINE) == Usage(
        1.5, 2.0, 1024
    )
    assert usage_of({"cpu": "0", "walltime": "0"}, SLURM) is None
    assert usage_of({"cpu": "7", "walltime": "9", "ru_maxrss": "5"}, SLURM) == Usage(7.0, 9.0)
    assert usage_of({"cpu": "nonsense"}, SLURM) is None
    assert usage_of({}, GRID_ENGINE) is None
