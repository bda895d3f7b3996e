"""Waiting for a task to change."""

from __future__ import annotations

import asyncio

import pytest

from drmaaticd.changes import Changes
from drmaaticd.states import State
from drmaaticd.tasks import Task

pytestmark = pytest.mark.gen_test

TASK = Task(uuid="u", script="s", state=State.RECEIVED, created=1, updated=1)


async def test_a_condition_that_holds_already_needs_no_change() -> None:
    assert await Changes().until(TASK, lambda task: True, 0.0)


async def test_a_change_wakes_who_waits_for_it() -> None:
    changes = Changes()
    waiting = asyncio.ensure_future(changes.until(TASK, lambda task: task.final, 30.0))
    await asyncio.sleep(0)
    changes.publish(TASK.changed(state=State.RUNNING))
    await asyncio.sleep(0)
    assert not waiting.done()
    changes.publish(TASK.changed(state=State.DONE))
    assert await waiting


async def test_time_runs_out_and_nothing_is_left_behind() -> None:
    changes = Changes()
    assert not await changes.until(TASK, lambda task: task.final, 0.01)
    assert not changes._listeners


async def test_others_changes_are_not_heard_and_everybodys_are() -> None:
    changes = Changes()
    heard: list[str] = []
    end_one = changes.listen("u", lambda task: heard.append("one"))
    end_all = changes.listen(None, lambda task: heard.append("all"))
    other = Task(uuid="v", script="s", state=State.RECEIVED, created=1, updated=1)
    changes.publish(other)
    assert heard == ["all"]
    changes.publish(TASK)
    assert heard == ["all", "one", "all"]
    end_one()
    end_one()  # a second time does no harm
    end_all()
    changes.publish(TASK)
    assert len(heard) == 3
