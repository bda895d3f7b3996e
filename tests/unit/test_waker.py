"""Calls of a library that sleeps over its answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drmaaticd.drm import waker as waker_module
from drmaaticd.drm.waker import THREADS, Waker
from tests.launching import in_loop
from tests.unit.drmaa_double import Drm, Session
from tests.unit.test_drmaa import engine, job

#: Seconds after which a test gives up.
PATIENCE = 20.0


@contextmanager
def waker(ask: Any) -> Iterator[Waker]:
    made = Waker(ask)
    try:
        yield made
    finally:
        made.close()


def test_a_call_that_sleeps_is_woken_by_a_question() -> None:
    answer = threading.Event()
    with waker(answer.set) as made, made.watching():
        assert answer.wait(PATIENCE)


def test_the_first_call_after_a_rest_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waker_module, "IDLE", 0.0)
    for _ in range(3):
        answer = threading.Event()
        with waker(answer.set) as made:
            while made._sleeping < THREADS:
                threading.Event().wait(0.001)
            with made.watching():
                assert answer.wait(PATIENCE)


def test_a_question_that_sleeps_itself_is_followed_by_the_other_threads() -> None:
    second = threading.Event()
    asked: list[str] = []

    def ask() -> None:
        asked.append(threading.current_thread().name)
        if len(asked) == 1:
            assert second.wait(PATIENCE)
        else:
            second.set()

    with waker(ask) as made, made.watching():
        assert second.wait(PATIENCE)
    assert len(set(asked[:2])) == 2


def test_nothing_is_asked_without_a_call_nor_of_one_that_has_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[None] = []
    monkeypatch.setattr(waker_module, "HOPELESS", 0.0)
    looks = threading.Semaphore(0)
    with waker(lambda: asked.append(None)) as made:
        look = made._await_look

        def counted(place: int) -> bool:
            looks.release()
            return look(place)

        monkeypatch.setattr(made, "_await_look", counted)
        with made.watching():
            for _ in range(20):
                assert looks.acquire(timeout=PATIENCE)
        for _ in range(20):
            assert looks.acquire(timeout=PATIENCE)
    assert asked == []


def test_the_end_waits_for_a_question_under_way() -> None:
    begun, answer = threading.Event(), threading.Event()

    def ask() -> None:
        begun.set()
        assert answer.wait(PATIENCE)

    with waker(ask) as made:
        with made.watching():
            assert begun.wait(PATIENCE)
        assert not made.quiet(0.0)
        answer.set()
        assert made.quiet(PATIENCE)


@pytest.mark.logs("a question to wake libdrmaa failed")
def test_a_failed_question_is_told_and_the_next_is_asked() -> None:
    answer = threading.Event()
    asked: list[None] = []

    def ask() -> None:
        asked.append(None)
        if len(asked) == 1:
            raise OSError
        answer.set()

    with waker(ask) as made, made.watching():
        assert answer.wait(PATIENCE)
        assert made.quiet(PATIENCE)  # the other thread may not have told yet


@in_loop
async def test_the_engine_wakes_a_submission_on_grid_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tmp_path / "sge" / "default" / "common"
    cell.mkdir(parents=True)
    (cell / "act_qmaster").touch()
    monkeypatch.setenv("SGE_ROOT", str(tmp_path / "sge"))
    monkeypatch.delenv("SGE_CELL", raising=False)
    drm, woken = Drm(), threading.Event()
    submit = Session.runJob

    def sleeps(session: Session, template: Any) -> str:
        assert woken.wait(PATIENCE)
        return submit(session, template)

    monkeypatch.setattr(Session, "runJob", sleeps)

    def question(_: Any) -> Any:
        return lambda job_id: (drm.asked.append(job_id), woken.set())

    async with engine(drm, tmp_path, question=question) as drmaa:
        assert await drmaa.submit(job()) == "1"
    assert drm.asked[0] == "1"
