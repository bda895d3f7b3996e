"""When a control group is tried for, and what is said of it (real ones: e2e/test_local_engine_real.py)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drmaaticd.drm import cgroups
from drmaaticd.drm.cgroups import Cgroups


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is, which stands still."""
    now = [1000.0]
    monkeypatch.setattr(cgroups, "monotonic", lambda: now[0])
    return now


def block(parent: Path) -> None:
    """No group can be made here."""
    (parent / "drmaaticd-jobs").rename(parent / "away")
    (parent / "drmaaticd-jobs").write_text("")


def unblock(parent: Path) -> None:
    (parent / "drmaaticd-jobs").unlink()
    (parent / "away").rename(parent / "drmaaticd-jobs")


@pytest.mark.logs("no control groups at present")
def test_after_a_fault_it_is_tried_again_more_and_more_seldom(
    tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, cgroups.__name__)
    groups = Cgroups(tmp_path)
    assert groups.join("1", 1) == tmp_path / "drmaaticd-jobs" / "1"
    block(tmp_path)
    pause = cgroups.FIRST_PAUSE
    for _ in range(12):
        assert groups.join("2", 1) is None  # this one tries, and fails
        unblock(tmp_path)
        clock[0] += pause - 1
        assert groups.join("2", 1) is None, "it is not tried for each job"
        block(tmp_path)
        clock[0] += 1
        pause = min(pause * 2, cgroups.LONGEST_PAUSE)
    unblock(tmp_path)
    assert groups.join("2", 1) is not None
    assert groups.join("3", 1) is not None
    block(tmp_path)
    assert groups.join("4", 1) is None
    unblock(tmp_path)
    clock[0] += cgroups.FIRST_PAUSE
    assert groups.join("4", 1) is not None
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(";")[0] for text in said] == [
        "jobs get no control groups at present",
        "jobs get control groups again",
    ] * 2


@pytest.mark.logs("no control groups at present")
def test_a_fault_at_the_start_passes_too(tmp_path: Path, clock: list[float]) -> None:
    (tmp_path / "drmaaticd-jobs").write_text("")
    groups = Cgroups(tmp_path)
    (tmp_path / "drmaaticd-jobs").unlink()
    assert groups.join("1", 1) is None
    clock[0] += cgroups.FIRST_PAUSE
    assert groups.join("1", 1) is not None


def test_a_process_that_has_ended_says_nothing_of_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = Cgroups(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", gone)
        assert groups.join("1", 1) is None
    assert groups.join("2", 1) is not None


def gone(*_: object) -> int:
    """What the kernel says where there is no such process."""
    raise ProcessLookupError(3, "No such process")


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path)
    (tmp_path / "drmaaticd-jobs").rmdir()
    assert groups.join("1", 1) is not None
