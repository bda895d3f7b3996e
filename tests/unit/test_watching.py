"""Watchers of tasks over a real store: what they are told, and what they cost."""

from __future__ import annotations

import asyncio
import itertools
import uuid as uuids
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drmaaticd import watching as module
from drmaaticd.callers import Caller
from drmaaticd.changes import Changes
from drmaaticd.errors import TooManyRequests, Unavailable
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task
from drmaaticd.watching import Event, Heard, Watch, Watching

pytestmark = pytest.mark.gen_test

ANNA = Caller(user="x:anna", name="anna", group="registered", is_admin=False, address="192.0.2.1")
BERT = replace(ANNA, user="x:bert", name="bert")
ADMIN = replace(ANNA, user="x:root", name="root", is_admin=True)
NOBODY = Caller.anonymous("192.0.2.9")
UUID = "00000000-0000-4000-8000-000000000001"


class Place:
    """A store, its watchers, and who counts by now."""

    def __init__(self, store: Store, most: int, most_each: int) -> None:
        self.store = store
        self.refused: set[str | None] = set()
        self.shown = 0
        changes = Changes()
        store.on_change = changes.publish
        self.watching = Watching(
            store=store,
            recheck=lambda caller: None if caller.user in self.refused else caller,
            payer=lambda caller: caller.key,
            most=most,
            most_each=most_each,
        )
        changes.listen(None, self.watching.publish)

    def make(self, owner: str | None = "x:anna", **fields: Any) -> str:
        uuid = str(uuids.uuid4())
        given: dict[str, Any] = {"state": State.RECEIVED, "created": 1000, "updated": 1000} | fields
        self.store.insert(Task(uuid=uuid, script="s", owner=owner, **given))
        return uuid

    def move(self, uuid: str, *states: State, **more: Any) -> None:
        for state in states:
            self.store.update(uuid, lambda task, state=state: task.changed(state=state, **more))

    def open(
        self, caller: Caller = ANNA, *named: str, every: bool = False, last: str | None = None
    ) -> Watch | None:
        def present(_: Caller, task: Task) -> dict[str, Any]:
            self.shown += 1
            return {"uuid": task.uuid, "state": task.state.value}

        return self.watching.open(caller, present, uuids=None if every else named, last=last)

    def watch(self, caller: Caller = ANNA, *named: str, **options: Any) -> Watch:
        watch = self.open(caller, *named, **options)
        assert watch is not None
        return watch


@asynccontextmanager
async def place(folder: Path, most: int = 100, most_each: int = 100) -> AsyncIterator[Place]:
    store = Store.open(folder / "state")
    try:
        yield Place(store, most, most_each)
    finally:
        await store.close()


def told(events: list[Event] | None) -> list[Any]:
    assert events is not None
    return [event.name or event.data["state"] for event in events]


async def test_now_each_change_and_the_end(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make()
        watch = here.watch(ANNA, uuid)
        assert told(await watch.next()) == ["received"]
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        here.move(uuid, State.RUNNING)
        assert told(await waiting) == ["running"]
        here.move(uuid, State.DONE)
        assert told(await watch.next()) == ["done", "end"]
        assert await watch.next() is None
        watch.close()
        assert not len(here.watching)
        assert not here.watching._index
        assert not here.watching._counts


async def test_what_does_not_show_is_no_event(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make()
        watch = here.watch(ANNA, uuid)
        await watch.next()
        here.store.update(uuid, lambda task: task.changed(job_id="7", attempt=1))
        assert not watch.pending
        here.store.update(uuid, lambda task: task.changed(detail="waits for a core"))
        assert told(await watch.next()) == ["received"]
        here.store.update(uuid, lambda task: task.changed(members="rq"))
        assert told(await watch.next()) == ["received"]


async def test_a_slow_reader_is_told_the_latest_alone(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid, other = here.make(), here.make()
        watch = here.watch(ANNA, uuid, other)
        await watch.next()
        for _ in range(200):
            here.move(uuid, State.RUNNING, State.USER_SUSPENDED)
        here.move(other, State.RUNNING)
        here.move(uuid, State.DONE)
        assert len(watch.pending) == 2
        events = await watch.next()
        assert told(events) == ["running", "done"]  # in the order of the last changes
        assert events is not None
        assert events[1].data["uuid"] == uuid


async def test_who_comes_again_is_told_what_was_missed(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid, other = here.make(), here.make()
        watch = here.watch(ANNA, uuid, other)
        events = await watch.next()
        assert events is not None
        last = next(event.id for event in events if event.data["uuid"] == uuid)
        watch.close()
        again = here.watch(ANNA, uuid, last=last)
        assert not again.pending
        here.move(uuid, State.DONE)
        assert told(await again.next()) == ["done", "end"]
        again.close()
        here.move(other, State.FAILED)
        both = await here.watch(ANNA, uuid, other, last=last).next()
        assert told(both) == ["done", "failed", "end"]


async def test_who_has_heard_the_end_is_told_to_stay_away(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        ended = [here.make(state=State.DONE, updated=at, ended=at) for at in (5000, 5000, 9_000_000)]
        events = await here.watch(ANNA, *ended).next()
        assert told(events) == ["done", "done", "done", "end"]
        assert events is not None
        assert here.open(ANNA, *ended, last=events[-1].id) is None
        assert here.open(ANNA, ended[2], last=events[2].id) is None
        fresh = here.make()
        assert told(await here.watch(ANNA, *ended, fresh, last=events[-1].id).next()) == ["received"]


async def test_a_change_within_the_same_millisecond_is_not_taken_for_heard(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make(created=2**42, updated=2**42)  # the clock never comes so far
        events = await here.watch(ANNA, uuid).next()
        assert events is not None
        here.move(uuid, State.DONE)
        assert here.store.get(uuid).updated == 2**42  # type: ignore[union-attr]
        assert told(await here.watch(ANNA, uuid, last=events[0].id).next()) == ["done", "end"]


@pytest.mark.parametrize("text", ["", "x", "End", "end@1", "a@b@c", f"{UUID}@1@zzzzzzzz", "end\n"])
async def test_a_last_event_id_that_was_not_made_here_is_none(text: str) -> None:
    assert Heard.parse(text) is None


async def test_all_of_ones_own_and_nobody_elses(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        live = here.make()
        here.make(state=State.DONE, ended=1000)
        here.make(owner="x:bert")
        here.make(owner=None)
        anna, bert, admin = (here.watch(who, every=True) for who in (ANNA, BERT, ADMIN))
        first = await anna.next()
        assert first is not None
        assert [event.data["uuid"] for event in first] == [live]
        assert len(await bert.next() or []) == 1
        assert len(await admin.next() or []) == 3
        new = here.make()
        assert (list(anna.pending), list(bert.pending), list(admin.pending)) == ([new], [], [new])
        here.move(new, State.DONE)
        here.move(live, State.DONE)
        assert told(await anna.next()) == ["done", "done"]  # and no end: there may come more
        assert here.open(NOBODY, every=True) is None


async def test_all_of_ones_own_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.make(state=State.DONE, updated=2000, ended=2000)
        uuid = here.make(updated=9_000_000)
        watch = here.watch(ANNA, every=True)
        events = await watch.next()
        watch.close()
        assert events is not None
        here.move(uuid, State.DONE)
        missed = await here.watch(ANNA, every=True, last=events[-1].id).next()
        assert told(missed) == ["done"]


async def test_others_tasks_are_passed_over(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        theirs, mine, nobodys = here.make(owner="x:bert"), here.make(), here.make(owner=None)
        events = await here.watch(ANNA, theirs, mine, nobodys, "nothing").next()
        assert events is not None
        assert {event.data["uuid"] for event in events} == {mine, nobodys}
        assert here.open(ANNA, theirs) is None
        linked = replace(NOBODY, link=theirs)
        assert told(await here.watch(linked, theirs, mine).next()) == ["received"]


async def test_a_deleted_task_is_gone_once_and_ends_its_stream(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make(state=State.RUNNING)
        one, every = here.watch(ANNA, uuid), here.watch(ANNA, every=True)
        await one.next()
        await every.next()
        here.store.update(uuid, lambda task: task.changed(deleted=5, stop=True))
        assert told(await one.next()) == ["gone", "end"]
        assert told(await every.next()) == ["gone"]
        here.move(uuid, State.STOPPED, purged=True)
        assert not every.pending
        assert await one.next() is None


async def test_a_task_that_became_somebody_elses_is_gone(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make(owner=None)
        before, owner = here.watch(NOBODY, uuid), here.watch(ANNA, every=True)
        await before.next()
        here.store.update(uuid, lambda task: task.changed(owner="x:anna"))
        assert told(await before.next()) == ["gone", "end"]
        assert told(await owner.next()) == ["received"]


async def test_rights_that_end_end_the_stream(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make()
        anna, admin = here.watch(ANNA, uuid), here.watch(ADMIN, every=True)
        await anna.next()
        await admin.next()
        here.refused.add("x:anna")
        here.move(uuid, State.RUNNING)
        assert await anna.next() is None  # not even what changed before the next sign of life
        assert told(await admin.next()) == ["running"]
        admin.caller = replace(ADMIN, is_admin=True)
        here.watching._recheck = lambda caller: replace(caller, is_admin=False)
        waiting = asyncio.ensure_future(admin.next())
        await asyncio.sleep(0)
        here.watching.beat()
        assert await waiting is None


async def test_a_sign_of_life_reaches_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.001)
    async with place(tmp_path) as here:
        uuid = here.make()
        watches = [here.watch(ANNA, uuid) for _ in range(2 * module.SLICE + 3)]
        for watch in watches:
            await watch.next()
        running = asyncio.ensure_future(here.watching.run_forever())
        assert await asyncio.gather(*(watch.next() for watch in watches)) == [[]] * len(watches)
        running.cancel()


async def test_many_are_woken_in_slices_and_the_record_is_made_once(tmp_path: Path) -> None:
    async with place(tmp_path, most=1000, most_each=1000) as here:
        uuid = here.make()
        watches = [here.watch(ANNA, uuid) for _ in range(5 * module.SLICE)]
        for watch in watches:
            await watch.next()
        here.shown = 0
        waiting = [asyncio.ensure_future(watch.next()) for watch in watches]
        await asyncio.sleep(0)
        here.move(uuid, State.RUNNING)
        rounds = [0]
        while rounds[-1] < len(watches):
            await asyncio.sleep(0)
            rounds.append(sum(task.done() for task in waiting))
        assert max(now - before for before, now in itertools.pairwise(rounds)) <= module.SLICE
        assert here.shown == 1
        assert all(told(task.result()) == ["running"] for task in waiting)


async def test_places_are_bounded(tmp_path: Path) -> None:
    async with place(tmp_path, most=3, most_each=2) as here:
        uuid = here.make(owner=None)
        first = here.watch(ANNA, uuid)
        here.watch(ANNA, uuid)
        with pytest.raises(TooManyRequests) as each:
            here.watch(ANNA, uuid)
        assert int(each.value.headers["Retry-After"]) > 0
        here.watch(BERT, uuid)
        with pytest.raises(Unavailable) as all_:
            here.watch(NOBODY, uuid)
        assert int(all_.value.headers["Retry-After"]) > 0
        first.close()
        first.close()
        here.watch(ANNA, uuid)
        assert len(here.watching) == 3


async def test_who_reads_nothing_while_very_much_changes_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 5)
    async with place(tmp_path) as here:
        watch = here.watch(ANNA, every=True)
        for _ in range(5):
            here.make()
        assert len(watch.pending) == 5
        here.make()
        assert await watch.next() is None


async def test_what_is_remembered_is_bounded_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    async with place(tmp_path) as here:
        watch = here.watch(ADMIN, every=True)
        for _ in range(100):
            here.make()
        while watch.pending:
            await watch.next()
        assert len(here.watching._marks) == 10
        assert len(here.watching._shown) <= module.SLICE
        watch.close()
        assert not here.watching._marks
        assert not here.watching._shown


async def test_a_child_shows_among_its_parents_descendants(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        parent = here.make()
        await here.watch(ANNA, parent).next()
        here.make(parent=parent, folder=parent)
        await here.watch(ANNA, parent).next()
        assert here.shown == 2


async def test_at_the_end_all_are_ended_and_none_taken(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        uuid = here.make()
        watch = here.watch(ANNA, uuid)
        await watch.next()
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)
        here.watching.stop()
        assert await waiting is None
        with pytest.raises(Unavailable):
            here.watch(ANNA, uuid)
