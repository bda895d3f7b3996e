"""The journal on the loop: shared syncs, folding, full disks, failed syncs; and TinyDB's face."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Coroutine
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.storages import MemoryStorage

from drmaaticd.errors import StorageFull, Unavailable
from drmaaticd.journal import segments, snapshot
from drmaaticd.journal.segments import Change
from drmaaticd.journal.storage import JournalStorage
from drmaaticd.journal.tables import Database, DocumentTable
from tests.journals import (
    documents,
    fast,  # noqa: F401  # a fixture
    filled,
    recovered,
    some_changes,
    state_after,
)

T = TypeVar("T")

# -- the storage on the loop


def run(folder: Path, work: Callable[[JournalStorage], Coroutine[Any, Any, T]], **options: Any) -> T:
    """Open a storage, do the work, close it."""

    async def main() -> T:
        storage = JournalStorage(folder, lambda change, before: None, **options)
        try:
            return await work(storage)
        finally:
            await storage.aclose()

    return asyncio.run(main())


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each sync of a segment."""
    real, seen = os.fdatasync, list[int]()

    def fdatasync(fd: int) -> None:
        seen.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return seen


def test_what_is_durable_is_there_after_a_kill(tmp_path: Path) -> None:
    async def work(storage: JournalStorage) -> None:
        for number, change in enumerate(some_changes(10), 1):
            storage.change(change)
            await storage.durable()
            shutil.copytree(tmp_path / "store", tmp_path / str(number))  # as a kill here leaves it

    (tmp_path / "store").mkdir()
    run(tmp_path / "store", work)
    for number in range(1, 11):
        assert recovered(tmp_path / str(number)) == state_after(some_changes(number))
    assert recovered(tmp_path / "store") == state_after(some_changes(10))


def test_many_callers_share_a_sync(tmp_path: Path, syncs: list[int]) -> None:
    async def work(storage: JournalStorage) -> None:
        async def caller(number: int) -> None:
            storage.change(Change("tasks", number, b"{}"))
            await storage.durable()

        await asyncio.gather(*map(caller, range(1, 201)))
        assert len(syncs) <= 2
        await storage.durable()  # nothing is open: no sync
        assert len(syncs) <= 2

    run(tmp_path, work)


def test_each_caller_is_told_when_its_own_change_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.journal.storage.BATCH", 1)

    async def work(storage: JournalStorage) -> None:
        async def caller(number: int) -> None:
            storage.change(Change("tasks", number, b'{"n":%d}' % number))
            await storage.durable()
            assert b'{"n":%d}' % number in (tmp_path / "journal.1").read_bytes()

        await asyncio.gather(*map(caller, range(1, 10)))

    run(tmp_path, work)


def test_a_caller_that_gives_up_disturbs_nobody(tmp_path: Path) -> None:
    async def work(storage: JournalStorage) -> None:
        storage.change(Change("tasks", 1, b"{}"))
        waiting = [asyncio.create_task(storage.durable()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]

    run(tmp_path, work)


def test_what_nobody_waits_for_is_written_all_the_same(tmp_path: Path) -> None:
    async def work(storage: JournalStorage) -> None:
        storage.change(Change("tasks", 1, b"{}"))
        await until(lambda: (tmp_path / "journal.1").stat().st_size > 0)

    run(tmp_path, work)


def test_the_journal_is_folded_when_it_has_grown(tmp_path: Path) -> None:
    async def work(storage: JournalStorage) -> None:
        folds: list[None] = []
        storage.on_folded = lambda: folds.append(None)
        number = 0
        while len(folds) < 3:
            number += 1
            storage.change(Change("tasks", number % 50 + 1, b'{"n":%d}' % number))
            storage.change(Change("keys", number % 7 + 1, None if number % 3 else b'{"n":%d}' % number))
            await storage.durable()
        assert segments.numbers(tmp_path) == [4]
        shutil.copytree(tmp_path, tmp_path.parent / "killed")
        assert recovered(tmp_path.parent / "killed") == filled(storage.tables)

    run(tmp_path, work, fold_bytes=2000)


def test_closing_folds_so_that_the_snapshot_tells_everything(tmp_path: Path) -> None:
    async def work(storage: JournalStorage) -> None:
        storage.change(Change("tasks", 1, b'{"uuid":"x"}'))

    run(tmp_path, work)
    with TinyDB(tmp_path / "store.json") as plain:
        assert plain.table("tasks").all() == [{"uuid": "x"}]
    inode = (tmp_path / "store.json").stat().st_ino

    async def nothing(storage: JournalStorage) -> None:
        with pytest.raises(RuntimeError, match="aclose"):
            storage.close()

    run(tmp_path, nothing)
    assert (tmp_path / "store.json").stat().st_ino == inode  # nothing to fold


class Disk:
    """Makes the writes to segments fail with "no space", after half of the data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.tries = 0
        real = os.pwrite

        def pwrite(fd: int, data: Any, offset: int) -> int:
            if self.full and len(data) > 1:
                return real(fd, data[: len(data) // 2], offset)
            if self.full:
                self.tries += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data, offset)

        monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # files and threads set no event
        await asyncio.sleep(0.001)


@pytest.mark.logs("disk is full")
def test_on_a_full_disk_what_can_be_refused_is_undone_and_the_rest_tried_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drmaaticd.journal.storage.RETRY", 0.01)
    undone: list[Change] = []

    async def work(storage: JournalStorage) -> None:
        storage.on_undo = undone.append
        for key in (1, 2, 3):
            storage.change(Change("tasks", key, b'{"v":"old"}'))
        await storage.durable()
        disk.full = True
        storage.change(Change("tasks", 1, b'{"v":"asked for"}'))
        storage.change(Change("tasks", 2, b'{"v":"a fact"}'), revocable=False)
        storage.change(Change("tasks", 3, None))
        storage.change(Change("tasks", 4, b'{"v":"new"}'))
        storage.change(Change("tasks", 4, b'{"v":"new, and changed"}'), revocable=False)
        waiting = [storage.durable(), storage.durable()]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StorageFull, StorageFull]
        assert storage.tables["tasks"] == {1: b'{"v":"old"}', 2: b'{"v":"a fact"}', 3: b'{"v":"old"}'}
        assert {change.id for change in undone} == {1, 3, 4}
        with pytest.raises(StorageFull):  # the fact is not durable yet
            await storage.durable()
        tries = disk.tries
        await until(lambda: disk.tries > tries + 1)  # without being asked
        disk.full = False
        await until(lambda: b"a fact" in (tmp_path / "store" / "journal.1").read_bytes())
        await storage.durable()
        shutil.copytree(tmp_path / "store", tmp_path / "killed")
        assert recovered(tmp_path / "killed") == {"tasks": storage.tables["tasks"]}
        assert storage.tables["tasks"][2] == b'{"v":"a fact"}'

    (tmp_path / "store").mkdir()
    run(tmp_path / "store", work)


@pytest.mark.logs("disk is full")
def test_a_change_that_comes_while_the_full_disk_keeps_a_fold_waiting_is_answered(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(storage: JournalStorage) -> None:
        begun, go = threading.Event(), threading.Event()
        rotate = storage._writer.rotate

        def slow_rotate() -> tuple[int, int]:
            begun.set()
            go.wait()
            return rotate()

        monkeypatch.setattr(storage._writer, "rotate", slow_rotate)
        disk.full = True
        storage.change(Change("tasks", 1, b"{}"))
        refused = asyncio.create_task(storage.durable())
        await until(lambda: disk.tries == 1)
        folding = asyncio.create_task(storage._fold())
        await until(begun.is_set)
        with pytest.raises(StorageFull):
            await refused
        storage.change(Change("tasks", 2, b"{}"))
        late = asyncio.create_task(storage.durable())
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(StorageFull):
            await asyncio.wait_for(late, 30)
        disk.full = False
        await folding

    run(tmp_path, work)
    assert recovered(tmp_path) == {}


@pytest.mark.logs("disk is full: .*No space")
@pytest.mark.logs("changes of 1 records are lost")
def test_what_stands_is_told_when_it_is_lost_at_the_end(tmp_path: Path, disk: Disk) -> None:
    async def work(storage: JournalStorage) -> None:
        storage.change(Change("tasks", 1, b'{"v":"old"}'))
        await storage.durable()
        disk.full = True
        storage.change(Change("tasks", 1, b'{"v":"a fact"}'), revocable=False)

    run(tmp_path, work)
    assert recovered(tmp_path) == {"tasks": {1: b'{"v":"old"}'}}


def test_a_snapshot_never_holds_what_is_not_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a snapshot is made, the segment's sync is held up; what waits for it must not get in."""
    real = os.fdatasync

    async def work(storage: JournalStorage) -> None:
        loop = asyncio.get_running_loop()
        storage.change(Change("tasks", 1, b'{"v":"durable"}'))
        storage.change(Change("tasks", 2, b'{"v":"durable"}'))
        await storage.durable()
        go, begun = asyncio.Event(), asyncio.Event()

        def fdatasync(fd: int) -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
            real(fd)

        write_snapshot = storage._write_snapshot

        async def changed_before(segment: int, seq: int) -> None:
            monkeypatch.setattr(os, "fdatasync", fdatasync)
            storage.change(Change("tasks", 1, b'{"v":"open"}'))
            storage.change(Change("tasks", 2, None))
            storage.change(Change("tasks", 3, b'{"v":"open"}'))
            await begun.wait()
            await write_snapshot(segment, seq)

        monkeypatch.setattr(storage, "_write_snapshot", changed_before)
        folding = asyncio.create_task(storage._fold())
        try:
            await until(lambda: b'"segment":1' in (tmp_path / "store.json").read_bytes())
            with TinyDB(tmp_path / "store.json") as plain:
                assert [dict(found) for found in plain.table("tasks")] == [{"v": "durable"}] * 2
        finally:
            monkeypatch.undo()
            go.set()
        await folding
        await storage.durable()

    run(tmp_path, work)
    assert recovered(tmp_path) == {"tasks": {1: b'{"v":"open"}', 3: b'{"v":"open"}'}}


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_after_a_failed_sync_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    failures: list[str] = []
    calls = 0

    def fail(*_: object) -> int:
        nonlocal calls
        calls += 1
        # A sync that says "no space" has failed like any other.
        number = errno.ENOSPC if call == "fdatasync" else errno.EIO
        raise OSError(number, os.strerror(number))

    async def work(storage: JournalStorage) -> None:
        storage.on_failure = failures.append
        storage.change(Change("tasks", 1, b"{}"))
        await storage.durable()
        monkeypatch.setattr(os, call, fail)
        storage.change(Change("tasks", 2, b"{}"), revocable=False)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await storage.durable()
        with pytest.raises(Unavailable):
            storage.change(Change("tasks", 3, b"{}"))
        assert storage.failed

    run(tmp_path, work)
    assert len(failures) == 1
    assert calls == 1


def test_after_a_failed_sync_of_the_snapshot_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def work(storage: JournalStorage) -> None:
        storage.on_failure = failures.append
        storage.change(Change("tasks", 1, b"{}"))
        await storage.durable()
        monkeypatch.setattr(os, "fsync", fail)
        await storage._fold()
        with pytest.raises(Unavailable):
            await storage.durable()

    run(tmp_path, work)
    assert len(failures) == 1
    monkeypatch.undo()
    assert recovered(tmp_path) == {"tasks": {1: b"{}"}}


@pytest.mark.logs("could not be folded")
def test_no_room_for_a_snapshot_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work(storage: JournalStorage) -> None:
        storage.change(Change("tasks", 1, b"{}"))
        monkeypatch.setattr(os, "write", fail)
        await storage._fold()
        monkeypatch.undo()
        storage.change(Change("tasks", 2, b"{}"))
        await storage.durable()
        shutil.copytree(tmp_path / "store", tmp_path / "killed")

    (tmp_path / "store").mkdir()
    run(tmp_path / "store", work)
    for name in ("killed", "store"):
        assert recovered(tmp_path / name) == {"tasks": {1: b"{}", 2: b"{}"}}
    assert not (tmp_path / "store" / snapshot.TEMPORARY).exists()


# -- TinyDB's face


def with_table(folder: Path, work: Callable[[Database, DocumentTable], Awaitable[None]]) -> None:
    async def main() -> None:
        database = Database(folder, lambda change, before: None, storage=JournalStorage)
        try:
            await work(database, database.table("tasks"))
        finally:
            await database.table("tasks").journal.aclose()

    asyncio.run(main())


tiny_actions = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), documents),
        st.tuples(st.just("insert_multiple"), st.lists(documents, max_size=3)),
        st.tuples(st.just("update"), st.integers(1, 6), documents),
        st.tuples(st.just("update where"), st.integers(0, 3), documents),
        st.tuples(st.just("upsert"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(1, 6)),
        st.tuples(st.just("remove where"), st.integers(0, 3)),
        st.tuples(st.just("truncate")),
        st.tuples(st.just("drop")),
    ),
    max_size=12,
)


def act(database: TinyDB, action: tuple[Any, ...]) -> Any:
    """Do one thing to the tasks of any TinyDB database."""
    table = database.table("tasks")
    match deepcopy(action):
        case ("insert", document):
            return table.insert({"n": len(document), **document})
        case ("insert_multiple", many):
            return table.insert_multiple(many)
        case ("update", key, document):
            return table.update(document, doc_ids=[key])
        case ("update where", number, document):
            return table.update(document, where("n") == number)
        case ("upsert", number):
            return table.upsert({"n": number, "up": True}, where("n") == number)
        case ("remove", key):
            return table.remove(doc_ids=[key])
        case ("remove where", number):
            return table.remove(where("n") == number)
        case ("truncate",):
            return table.truncate()
        case ("drop",):
            return database.drop_table("tasks")
    raise AssertionError(action)


def without_ids(documents: list[Any]) -> list[Any]:
    return sorted(documents, key=lambda document: orjson.dumps(document, option=orjson.OPT_SORT_KEYS))


@pytest.mark.usefixtures("fast")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(actions=tiny_actions)
def test_it_behaves_as_tinydb_does(tmp_path: Path, actions: list[tuple[Any, ...]]) -> None:
    """The same calls on plain TinyDB and here lead to the same documents, here also after a restart."""
    folder = tmp_path / "store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = TinyDB(storage=MemoryStorage)

    async def work(database: Database, _: DocumentTable) -> None:
        for action in actions:
            theirs, ours = act(model, action), act(database, action)
            assert ours == theirs
            table, other = database.table("tasks"), model.table("tasks")
            assert without_ids(table.all()) == without_ids(other.all())
            assert len(table) == len(other)
            assert table.count(where("n") == 2) == other.count(where("n") == 2)
        await database.table("tasks").journal.durable()

    with_table(folder, work)
    found = recovered(folder).get("tasks", {})
    assert without_ids([orjson.loads(data) for data in found.values()]) == without_ids(
        model.table("tasks").all()
    )


def test_the_table_is_for_many_documents(tmp_path: Path) -> None:
    async def work(database: Database, table: DocumentTable) -> None:
        first = table.insert({"a": 1})
        assert table.get(doc_id=first) == {"a": 1}
        assert table.get(doc_id=99) is None
        assert table.contains(doc_id=first)
        copy = table.load(first)
        copy["a"] = 2
        assert table.load(first) == {"a": 1}
        assert database.tables() == {"tasks"}
        assert len(database) == 1
        assert database.get(where("a") == 1).doc_id == first
        with pytest.raises(TypeError):
            table.insert({"a": object()})
        with pytest.raises(RuntimeError, match="truncate"):
            table.remove()
        assert len(table) == 1

    with_table(tmp_path, work)
