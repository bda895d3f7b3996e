"""The store: tasks, indexes and pages against a naive model, full disks, the lock, repair."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where

from drmaaticd.errors import StorageFull, StoreError, Unavailable
from drmaaticd.journal import segments
from drmaaticd.journal.segments import Change
from drmaaticd.states import State
from drmaaticd.store import ANY, Store, repair
from drmaaticd.store.indexes import Entry, Indexes
from drmaaticd.store.listing import Query, select, tally
from drmaaticd.store.statedir import StateDir
from drmaaticd.tasks import Task

T = TypeVar("T")


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def task(number: int, **fields: Any) -> Task:
    fields = {"script": "blast", "state": State.RECEIVED, "created": number, "updated": number, **fields}
    return Task(uuid=uuid(number), **fields)


def run(folder: Path, work: Callable[[Store], Coroutine[Any, Any, T]], **options: Any) -> T:
    """Open a store, do the work, close it."""

    async def main() -> T:
        store = await asyncio.to_thread(lambda: Store.open(folder, **options))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def all_tasks(folder: Path) -> dict[str, Task]:
    async def work(store: Store) -> dict[str, Task]:
        return {found.uuid: found for found in store.page(include_deleted=True, size=10**6)[1]}

    return run(folder, work)


# -- single tasks


def test_what_was_inserted_changed_and_removed_is_so_after_a_restart(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        for number in range(1, 4):
            store.insert(task(number, description="ä\n\"'", files_name={"a": "b"}, params=({"name": "x"},)))
        after = store.update(uuid(2), lambda known: known.changed(state=State.RUNNING, job_id="7"))
        assert after == store.get(uuid(2))
        assert after.job_id == "7"
        store.remove(uuid(3))
        await store.durable()
        assert (len(store), store.get(uuid(3))) == (2, None)

    async def second(store: Store) -> None:
        assert len(store) == 2
        found = store.get(uuid(2))
        assert found is not None
        assert (found.state, found.job_id) == (State.RUNNING, "7")
        assert store.get(uuid(1)) == task(
            1, description="ä\n\"'", files_name={"a": "b"}, params=({"name": "x"},)
        )
        assert store.get(uuid(3)) is None
        store.insert(task(3))
        assert store.get(uuid(3)) == task(3)

    run(tmp_path, first)
    run(tmp_path, second)


def test_what_an_update_may_not_do(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        store.insert(task(1))
        with pytest.raises(KeyError):
            store.update(uuid(2), lambda known: known)
        with pytest.raises(KeyError):
            store.remove(uuid(2))
        with pytest.raises(ValueError, match="already"):
            store.insert(task(1, script="other"))
        for change in ({"uuid": uuid(9)}, {"created": 99}):
            with pytest.raises(ValueError, match="never change"):
                store.update(uuid(1), lambda known, change=change: replace(known, **change))  # type: ignore[misc]
        with pytest.raises(TypeError):
            store.update(uuid(1), lambda known: known.changed(usage={"x": object()}))
        with pytest.raises(ZeroDivisionError):
            store.update(uuid(1), lambda known: 1 / 0)  # type: ignore[arg-type,return-value]
        assert store.get(uuid(1)) == task(1)

    run(tmp_path, work)


def test_an_update_that_changes_nothing_writes_nothing_and_tells_nobody(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        store.insert(task(1))
        await store.durable()
        size = (tmp_path / "journal.1").stat().st_size
        seen: list[Task] = []
        store.on_change = seen.append
        assert store.update(uuid(1), lambda known: known) == task(1)
        await store.durable()
        assert (tmp_path / "journal.1").stat().st_size == size
        assert seen == []

    run(tmp_path, work)


def test_changes_are_told(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        seen: list[Task] = []
        store.on_change = seen.append
        store.insert(task(1))
        after = store.update(uuid(1), lambda known: known.changed(detail="x"))
        assert seen == [task(1), after]

    run(tmp_path, work)


def test_plain_tinydb_finds_a_task_in_the_snapshot(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for number in range(1, 30):
            store.insert(task(number, owner=f"ORCID:{number % 3}"))
        store.side("idempotency").put("k", {"uuid": uuid(1)})

    run(tmp_path, work)
    with TinyDB(tmp_path / "store.json") as plain:
        (found,) = plain.table("tasks").search(where("uuid") == uuid(7))
        assert Task.from_json(found) == task(7, owner="ORCID:1")
        assert plain.table("tasks").count(where("owner") == "ORCID:1") == 10


# -- many tasks, against a naive model

words = st.sampled_from(["Lane", "lane 2", "Straße", "", "sample 3", "blast"])
tasks = st.builds(
    Task,
    uuid=st.integers(0, 9).map(uuid),
    script=st.sampled_from(["blast", "BLASTX", "align"]),
    state=st.sampled_from(list(State)),
    created=st.integers(0, 3),
    updated=st.integers(0, 5),
    ended=st.none() | st.integers(0, 5),
    description=words,
    owner=st.sampled_from([None, "ORCID:1", "ORCID:2"]),
    parent=st.none() | st.integers(0, 3).map(uuid),
    depends_on=st.lists(st.integers(0, 3).map(uuid), max_size=2, unique=True).map(tuple),
    stop=st.booleans(),
    deleted=st.none() | st.just(1),
    purged=st.booleans(),
)
queries = st.builds(
    Query,
    owner=st.sampled_from([ANY, None, "ORCID:1", "ORCID:9"]),
    uuids=st.none() | st.lists(st.integers(0, 12).map(uuid), max_size=6),
    states=st.none() | st.sets(st.sampled_from(list(State)), max_size=5),
    script=st.sampled_from([None, None, "last", "x", "?"]),
    description=st.sampled_from([None, None, "LANE", "strasse"]),
    search=st.sampled_from([None, None, "bla", "lane", "0000-4000"]),
    updated_since=st.none() | st.integers(0, 5),
    exact_script=st.sampled_from([None, None, "blast", "BLAST"]),
    created_since=st.none() | st.integers(0, 4),
    created_before=st.none() | st.integers(0, 4),
    include_deleted=st.booleans(),
)


def fits(found: Task, query: Query) -> bool:
    def part(wanted: str, *texts: str) -> bool:
        return any(wanted.casefold() in text.casefold() for text in texts)

    return (
        (query.include_deleted or found.deleted is None)
        and (query.owner is ANY or found.owner == query.owner)
        and (query.uuids is None or found.uuid in query.uuids)
        and (query.states is None or found.state in query.states)
        and (query.script is None or part(query.script, found.script))
        and (query.description is None or part(query.description, found.description))
        and (query.search is None or part(query.search, found.script, found.description, found.uuid))
        and (query.updated_since is None or found.updated >= query.updated_since)
        and (query.exact_script is None or found.script == query.exact_script)
        and (query.created_since is None or found.created >= query.created_since)
        and (query.created_before is None or found.created < query.created_before)
    )


def newest_first(found: Sequence[Task]) -> list[Task]:
    return sorted(found, key=lambda known: (-known.created, known.uuid))


steps = st.lists(st.tuples(tasks, st.booleans()), max_size=25)


def carry_out(indexes: Indexes, model: dict[str, Task], made: list[tuple[Task, bool]]) -> None:
    """Insert, replace, or remove in the indexes and in the model."""
    for record, removal in made:
        if removal and record.uuid in model:
            indexes.drop(record.uuid)
            del model[record.uuid]
        elif not removal:
            if record.uuid in model:  # the time of creation stays
                record = replace(record, created=model[record.uuid].created)
            indexes.put(int(record.uuid[:8], 16), record)
            model[record.uuid] = record


@settings(deadline=None)
@given(steps, st.lists(queries, min_size=1, max_size=5), st.integers(1, 3), st.integers(1, 4))
def test_pages_are_what_a_naive_list_gives(
    made: list[tuple[Task, bool]], asked: list[Query], page: int, size: int
) -> None:
    model: dict[str, Task] = {}
    grown = Indexes()
    carry_out(grown, model, made)
    loaded = Indexes([Entry(int(known.uuid[:8], 16), known) for known in model.values()])
    for indexes in (grown, loaded):
        for query in asked:
            expected = [known.uuid for known in newest_first(list(model.values())) if fits(known, query)]
            count, entries = select(indexes, query, page, size)
            assert count == len(expected)
            assert [entry.uuid for entry in entries] == expected[(page - 1) * size : page * size]
            anyhow = replace(query, states=None)
            counted = Counter(known.state for known in model.values() if fits(known, anyhow))
            assert {state: many for state, many in tally(indexes, query).items() if many} == counted


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(made=st.lists(st.tuples(tasks, st.booleans()), max_size=12))
def test_groups_are_what_a_naive_list_gives(tmp_path: Path, made: list[tuple[Task, bool]]) -> None:
    """Also after a restart, and in the order in which the tasks were created."""
    folder = tmp_path / "store"
    shutil.rmtree(folder, ignore_errors=True)
    model: dict[str, Task] = {}

    def check(store: Store) -> None:
        listed = newest_first(list(model.values()))
        oldest_first = listed[::-1]
        assert len(store) == len(model)
        assert store.live() == [known for known in listed if known.stop or not known.final]
        assert store.unpurged() == [known for known in listed if known.deleted and not known.purged]
        ended = [
            known for known in oldest_first if known.final and known.ended is not None and known.ended < 3
        ]
        assert list(store.finished_before(3)) == ended
        for name in map(uuid, range(4)):
            below = [known for known in listed if known.parent == name]
            waiting = [known for known in listed if name in known.depends_on]
            assert newest_first(store.children(name)) == below
            assert newest_first(store.dependants(name)) == waiting

    async def work(store: Store) -> None:
        for record, removal in made:
            known = store.get(record.uuid)
            if known is None:
                store.insert(record)
                model[record.uuid] = record
            elif removal:
                store.remove(record.uuid)
                del model[record.uuid]
            else:
                model[record.uuid] = replace(record, created=known.created)
                store.update(record.uuid, lambda _, record=record: model[record.uuid])  # type: ignore[misc]
        check(store)

    async def again(store: Store) -> None:
        check(store)

    run(folder, work)
    run(folder, again)


def test_what_is_finished_may_be_removed_while_it_is_listed(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        for number in range(1, 5):
            store.insert(task(number, state=State.DONE, ended=number))
        listed = store.finished_before(4)
        assert next(listed).uuid == uuid(1)
        store.remove(uuid(1))
        store.remove(uuid(2))
        assert [known.uuid for known in listed] == [uuid(3)]

    run(tmp_path, work)


# -- side tables


def test_side_tables_keep_what_they_are_given(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        keys = store.side("idempotency")
        assert store.side("idempotency") is keys
        keys.put("a", {"n": 1})
        keys.put("b", {"n": 2})
        keys.put("a", {"n": 3})
        keys.delete("b")
        keys.delete("never there")
        keys.put("c", {"n": 4})
        value = keys.get("a")
        assert value == {"n": 3}
        value["n"] = 99
        assert keys.get("a") == {"n": 3}
        for key, _ in keys.items():
            keys.delete(key)
            keys.put("new while iterating", {})
        keys.put("a", {"n": 3})
        store.side("credit").put("a", {"n": 5})

    async def second(store: Store) -> None:
        assert dict(store.side("idempotency").items()) == {"a": {"n": 3}, "new while iterating": {}}
        assert store.side("idempotency").get("b") is None
        assert "a" in store.side("credit")
        assert (len(store.side("credit")), len(store.side("none"))) == (1, 0)
        assert len(store) == 0
        for name in ("tasks", "_meta", "", 'a"b', "A"):
            with pytest.raises(ValueError, match="no name"):
                store.side(name)
        with pytest.raises(TypeError):
            store.side("credit").put("x", {"y": object()})
        assert "x" not in store.side("credit")

    run(tmp_path, first)
    run(tmp_path, second)


# -- full and broken disks


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, nothing can be written to the journal, until `monkeypatch.undo`."""

    def pwrite(fd: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.logs("disk is full")
def test_a_refused_task_was_never_there(
    tmp_path: Path, no_room: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        store.insert(task(1, owner="ORCID:1"))
        store.side("idempotency").put("old", {"uuid": uuid(1)})
        await store.durable()
        before = store.page(size=100)
        told: list[Task] = []
        store.on_change = told.append
        no_room()
        store.insert(task(2, owner="ORCID:1", parent=uuid(1), depends_on=(uuid(1),)))
        store.side("idempotency").put("new", {"uuid": uuid(2)})
        store.side("idempotency").delete("old")
        store.side("idempotency").put("old", {"uuid": uuid(2)})
        assert len(store) == 2
        with pytest.raises(StorageFull):
            await store.durable()
        assert store.page(size=100) == before
        assert (len(store), store.get(uuid(2))) == (1, None)
        assert store.children(uuid(1)) == store.dependants(uuid(1)) == []
        assert dict(store.side("idempotency").items()) == {"old": {"uuid": uuid(1)}}
        monkeypatch.undo()
        store.insert(task(2))
        store.side("idempotency").put("new", {"uuid": uuid(2)})
        await store.durable()
        assert told == [task(2, owner="ORCID:1", parent=uuid(1), depends_on=(uuid(1),)), task(2)]

    run(tmp_path, work)
    assert set(all_tasks(tmp_path)) == {uuid(1), uuid(2)}


@pytest.mark.logs("disk is full")
def test_a_refused_request_is_undone_and_a_fact_is_not(
    tmp_path: Path, no_room: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        for number in (1, 2, 3):
            store.insert(task(number))
        await store.durable()
        no_room()
        told: list[Task] = []
        asked = store.update(uuid(1), lambda known: known.changed(owner="ORCID:1"), revocable=True)
        store.on_change = told.append
        store.update(uuid(2), lambda known: known.changed(state=State.DONE))
        store.remove(uuid(3))
        with pytest.raises(StorageFull):
            await store.durable()
        assert asked.owner == "ORCID:1"
        assert store.get(uuid(1)) == told[-1] == task(1)
        assert store.page(owner="ORCID:1") == (0, [])
        assert [known.uuid for known in store.live()] == [uuid(1)]
        assert store.get(uuid(3)) is None
        monkeypatch.undo()
        await store.durable()

    run(tmp_path, work)
    found = all_tasks(tmp_path)
    assert {name: known.state for name, known in found.items()} == {
        uuid(1): State.RECEIVED,
        uuid(2): State.DONE,
    }


def test_after_a_failed_sync_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def work(store: Store) -> None:
        store.on_failure = failures.append
        store.insert(task(1))
        await store.durable()
        monkeypatch.setattr(os, "fdatasync", fail)
        store.insert(task(2))
        with pytest.raises(Unavailable):
            await store.durable()
        monkeypatch.undo()
        assert store.failed == failures[0]
        assert "Input/output error" in store.failed
        with pytest.raises(Unavailable):
            store.insert(task(3))
        with pytest.raises(Unavailable):
            store.update(uuid(1), lambda known: known.changed(detail="x"))
        with pytest.raises(Unavailable):
            store.side("idempotency").put("a", {})
        assert store.get(uuid(1)) == task(1)

    run(tmp_path, work)
    assert len(failures) == 1
    assert uuid(1) in all_tasks(tmp_path)


# -- the folder


def test_a_second_store_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(StoreError, match=rf"in use by another drmaaticd \(process {os.getpid()}\)"):
            Store.open(tmp_path)
        with pytest.raises(StoreError, match="in use"):
            repair(tmp_path)
        store.insert(task(1))
        await store.durable()
        await store.close()
        await store.close()  # again is no error
        with pytest.raises(Unavailable):
            store.insert(task(2))
        with pytest.raises(Unavailable):
            await store.durable()

    run(tmp_path, work)
    assert set(all_tasks(tmp_path)) == {uuid(1)}


def test_nobody_else_may_look(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    folder.mkdir(parents=True, mode=0o755)

    async def work(store: Store) -> None:
        store.insert(task(1))
        await store.durable()

    before = os.umask(0)
    try:
        run(folder, work)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"lock", "store.json", "journal.2"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file cannot be used as the state folder"):
        Store.open(tmp_path / "file")
    (tmp_path / "state" / "journal.1").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot be opened: .*journal\.1"):
        Store.open(tmp_path / "state")
    with StateDir(tmp_path / "state"):  # and the lock is free
        pass


def test_the_lock_goes_with_the_process_not_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("4711\n")  # as after a kill

    async def work(store: Store) -> None:
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"

    run(tmp_path, work)
    with (tmp_path / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- damage and repair


def damaged_store(folder: Path) -> list[bytes]:
    """A store whose snapshot holds tasks 1 to 3 and whose segment tasks 4 to 8; the segment's lines."""

    async def first(store: Store) -> None:
        for number in range(1, 4):
            store.insert(task(number))

    async def second(store: Store) -> None:
        for number in range(4, 9):
            store.insert(task(number))
        store.side("idempotency").put("k", {"uuid": uuid(8)})
        await store.durable()
        shutil.copytree(folder.parent / "work", folder)  # as a kill leaves it

    run(folder.parent / "work", first)
    run(folder.parent / "work", second)
    return (folder / "journal.2").read_bytes().splitlines(keepends=True)


def test_repair_changes_nothing_where_nothing_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    damaged_store(folder)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    report = repair(folder)
    assert list(report) == ["nothing is wrong with the store; it holds 8 tasks"]
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before
    with pytest.raises(StoreError, match="no store"):
        repair(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no store"):
        repair(tmp_path / "empty")


def test_repair_keeps_what_can_be_read_and_the_rest_aside(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    lines = damaged_store(folder)
    content = b"".join([lines[0], b"rubbish\n", lines[2], *lines[4:]])
    (folder / "journal.2").write_bytes(content)
    with pytest.raises(StoreError, match=r"journal\.2, line 2 .*store repair"):
        Store.open(folder)
    report = repair(folder)
    assert report.tasks == 6
    assert [finding.partition("journal.2, ")[2] for finding in report.findings] == [
        f"line 2 (byte {len(lines[0])}): the checksum does not fit",
        f"line 4 (byte {len(lines[0] + lines[2]) + 8}): record 8 stands where 7 is due",
    ]
    assert report.folder is not None
    assert (report.folder / "journal.2").read_bytes() == content
    assert (report.folder / "damaged.lines").read_bytes() == b"rubbish\n"
    assert str(report.folder) in list(report)[-1]

    async def work(store: Store) -> None:
        assert len(store) == 6
        assert store.get(uuid(5)) is store.get(uuid(7)) is None
        assert store.get(uuid(8)) == task(8)
        assert store.side("idempotency").get("k") == {"uuid": uuid(8)}
        store.insert(task(9))

    run(folder, work)
    assert list(repair(folder)) == ["nothing is wrong with the store; it holds 7 tasks"]


@pytest.mark.parametrize("way", ["cut", "a document", "the last line", "the first line", "gone", "nonsense"])
def test_repair_of_a_damaged_snapshot(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "store"
    damaged_store(folder)
    path = folder / "store.json"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    damaged = {
        "cut": b"".join(lines[:3])[:-20],
        "a document": content.replace(b'{"uuid":"00000002', b'{"xuid":"00000002'),
        "the last line": b"".join([*lines[:-1], b"x"]),
        "the first line": b"".join([b'{"tusks":{\n', *lines[1:]]),
        "nonsense": b"nonsense",
        "gone": b"",
    }[way]
    path.write_bytes(damaged)
    if way == "gone":
        path.unlink()
    kept = {"cut": {1}, "a document": {1, 3}, "gone": set(), "nonsense": set()}.get(way, {1, 2, 3})
    with pytest.raises(StoreError, match="store repair"):
        Store.open(folder)
    report = repair(folder)
    assert report.findings
    assert report.folder is not None
    assert way == "gone" or (report.folder / "store.json").read_bytes() == damaged
    assert set(all_tasks(folder)) == {uuid(number) for number in kept | {4, 5, 6, 7, 8}}


def test_documents_that_are_no_tasks_are_refused_and_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    damaged_store(folder)
    writer = segments.Writer(folder, 2, 9, 0)
    newer = orjson.dumps({**task(9).to_json(), "colour": "red"})
    double = orjson.dumps(task(4, description="twice").to_json())
    writer.append([Change("tasks", 9, newer), Change("tasks", 10, double), Change("idempotency", 2, b"{}")])
    writer.close()
    with pytest.raises(StoreError, match=r"journal\.2, line 7 .*not valid: TypeError.*colour"):
        Store.open(folder)
    report = repair(folder)
    assert len(report.findings) == 3
    assert report.folder is not None
    aside = (report.folder / "damaged.lines").read_bytes()
    assert newer in aside
    found = all_tasks(folder)
    assert len(found) == 8
    assert found[uuid(4)].description == "twice"


def test_a_uuid_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    damaged_store(folder)
    writer = segments.Writer(folder, 2, 9, 0)
    writer.append([Change("tasks", 10, orjson.dumps(task(4).to_json()))])
    writer.close()
    with pytest.raises(StoreError, match=f"two tasks have the UUID {uuid(4)}"):
        Store.open(folder)


def test_a_repair_that_has_no_room_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "store"
    lines = damaged_store(folder)
    (folder / "journal.2").write_bytes(b"".join([b"rubbish\n", *lines[1:]]))
    names = ("store.json", "journal.2")
    before = {name: (folder / name).read_bytes() for name in names}

    def write(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StoreError, match="given up"):
        repair(folder)
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert repair(folder).tasks == 7
