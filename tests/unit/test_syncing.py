"""Threads that share a sync."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drmaaticd.syncing import SharedSync

PATIENCE = 20.0


class Slow(SharedSync):
    """Each sync waits for its permission; `fail` makes one fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.count = 0
        self.fail = False

    def _sync(self) -> None:
        self.count += 1
        self.begun.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        if self.fail:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super()._sync()


def until_in_thread(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("this did not come true")


def waiting(shared: SharedSync) -> int:
    """How many threads wait for another's sync."""
    return len(shared._changed._waiters)  # type: ignore[attr-defined]


def test_alone_each_call_is_a_sync(tmp_path: Path) -> None:
    shared = Slow(tmp_path)
    for count in (1, 2):
        shared.may_end.release()
        shared.sync()
        assert shared.count == count


def test_those_who_come_during_a_sync_share_the_next(tmp_path: Path) -> None:
    shared = Slow(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(shared.sync)
        assert shared.begun.acquire(timeout=PATIENCE)
        others = [pool.submit(shared.sync) for _ in range(5)]
        until_in_thread(lambda: waiting(shared) == 5)
        shared.may_end.release()
        first.result(PATIENCE)
        assert shared.begun.acquire(timeout=PATIENCE)
        assert not any(other.done() for other in others)
        shared.may_end.release()
        for other in others:
            other.result(PATIENCE)
    assert shared.count == 2


def test_a_failure_is_told_to_all_who_shared_it_and_to_no_others(tmp_path: Path) -> None:
    shared = Slow(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.sync)
        assert shared.begun.acquire(timeout=PATIENCE)
        others = [pool.submit(shared.sync) for _ in range(3)]
        until_in_thread(lambda: waiting(shared) == 3)
        shared.may_end.release()
        first.result(PATIENCE)
        assert shared.begun.acquire(timeout=PATIENCE)
        shared.fail = True
        shared.may_end.release()
        for other in others:
            with pytest.raises(OSError, match="Input/output"):
                other.result(PATIENCE)
    shared.fail = False
    shared.may_end.release()
    shared.sync()


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SharedSync(tmp_path / "gone").sync()
