"""The tasks, and small tables beside them, kept in TinyDB over the journal.

`update` is the one read-modify-write. Memory and indexes change at once; `durable` says when the disk
has it. How it gets there is the business of `journal`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import orjson

from drmaaticd.errors import StoreError
from drmaaticd.journal.segments import Change
from drmaaticd.journal.snapshot import ADVICE, FIRST_TABLE
from drmaaticd.journal.storage import FOLD_BYTES, JournalStorage
from drmaaticd.journal.tables import Database
from drmaaticd.states import State
from drmaaticd.store.indexes import (
    EVERYTHING,
    LIVE,
    UNPURGED,
    Entry,
    Indexes,
    of_done,
    of_owner,
    of_state,
)
from drmaaticd.store.listing import ANY, Owner, Query, select, tally
from drmaaticd.store.side import SideTable, check
from drmaaticd.store.statedir import StateDir
from drmaaticd.tasks import Task

TASKS = FIRST_TABLE

#: New index entries after which what is there is put out of the garbage collector's sight again.
#: Freezing also keeps the garbage of the moment, so it is not done for less.
FREEZE_EVERY = 20_000

_SIDE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Store:
    """All that the daemon knows of tasks. One instance; all methods but `open` run on the loop.

    A change is *revocable* or *standing*, which matters when the disk is full. A revocable one is
    undone, and whoever awaits `durable` is told `StorageFull`: right for what a client asks for and
    can ask again. Nothing may be awaited between a revocable change and its `durable`. A standing one
    is a fact that must not be lost, such as the end of a job: it stays in memory and is tried again
    until there is room (`durable` raises `StorageFull` all the same). `insert` and the side tables are
    revocable, `update` stands, unless told otherwise. If a task was changed in both ways since it was
    last durable, all of it stands; but a task whose insertion is refused is gone with all its changes.

    For changes that *free* room, such as a deletion, some is set aside where the file system can do that:
    a full disk must not keep people from making room on it.
    """

    def __init__(self, state_dir: StateDir, fold_bytes: int) -> None:
        """Read what is stored; see `open`."""
        self.on_change: Callable[[Task], object] = _ignore
        """Called with each new record of a task, at once (before it is durable); and with the old one
        again if the change is undone."""
        self.on_failure: Callable[[str], object] = _ignore
        """Called once with the reason when the store has failed: nothing more is acknowledged."""
        self._state_dir = state_dir
        loader = _Loader()
        self._db = Database(state_dir.path, loader.observe, fold_bytes=fold_bytes, storage=JournalStorage)
        self._tasks = self._db.table(TASKS)
        self._journal = journal = self._tasks.journal
        self._indexes = Indexes(loader.entries.values())
        names = [name for name in journal.tables if name != TASKS]
        self._sides = {name: SideTable(self._db.table(name)) for name in names}
        journal.observe = self._observe
        journal.on_undo = self._undone
        journal.on_failure = self._failed
        journal.on_folded = self._freeze
        self._frozen = 0
        del loader
        self._freeze()

    @classmethod
    def open(cls, state_dir: Path, *, fold_bytes: int = FOLD_BYTES) -> Self:
        """Take hold of the state folder and read the store. Blocks.

        Raises `StoreError` if another process holds the folder, it cannot be used, or what is stored
        is damaged (the text names file, line and byte). `fold_bytes`: see `journal.storage`.
        """
        held = StateDir(state_dir)
        try:
            return cls(held, fold_bytes)
        except OSError as error:
            held.release()
            raise StoreError(f"the store in {state_dir} cannot be opened: {error}") from error
        except ValueError as error:
            held.release()
            raise StoreError(f"the store in {state_dir}: {error}; {ADVICE}") from error
        except BaseException:
            held.release()
            raise

    async def close(self) -> None:
        """Write what waits, fold the journal, let go of the folder. Idempotent."""
        try:
            await self._journal.aclose()
        finally:
            self._state_dir.release()

    @property
    def failed(self) -> str | None:
        """Why the store has failed: nobody knows what is on the disk, the daemon must end. Or None."""
        return self._journal.failed

    async def durable(self) -> None:
        """Return when everything changed so far is on the disk; many callers share one sync.

        Raises `StorageFull` (see the class) or `Unavailable`.
        """
        await self._journal.durable()

    # -- single tasks ----------------------------------------------------------------------------

    def get(self, uuid: str) -> Task | None:
        """The present record of a task."""
        entry = self._indexes.get(uuid)
        return None if entry is None else self._read(entry)

    def insert(self, task: Task) -> None:
        """Add a task. Revocable. Raises ValueError if the UUID is taken, `Unavailable`."""
        if self._indexes.get(task.uuid) is not None:
            raise ValueError(f"there is a task with the UUID {task.uuid} already")
        self._tasks.insert(task.to_json())
        self.on_change(task)

    def update(
        self, uuid: str, change: Callable[[Task], Task], *, revocable: bool = False, frees: bool = False
    ) -> Task:
        """Make the record what `change` makes of the present one, and return it.

        A `change` that returns the very record that it was given changes nothing. Raises KeyError if
        there is no such task, `Unavailable`, and what `change` raises.
        """
        entry = self._indexes.get(uuid)
        if entry is None:
            raise KeyError(uuid)
        before = self._read(entry)
        after = change(before)
        if after is before:
            return before
        if (after.uuid, after.created) != (before.uuid, before.created):
            raise ValueError("a task's UUID and the time of its creation never change")
        self._tasks.put(entry.id, after.to_json(), revocable=revocable, frees=frees)
        self.on_change(after)
        return after

    def remove(self, uuid: str) -> None:
        """Forget a task altogether. Stands. Raises KeyError, `Unavailable`."""
        entry = self._indexes.get(uuid)
        if entry is None:
            raise KeyError(uuid)
        self._tasks.delete(entry.id, revocable=False)

    # -- many tasks --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._indexes)

    def page(
        self,
        *,
        owner: Owner = ANY,
        uuids: Sequence[str] | None = None,
        states: Collection[State] | None = None,
        script: str | None = None,
        description: str | None = None,
        search: str | None = None,
        updated_since: int | None = None,
        include_deleted: bool = False,
        page: int = 1,
        size: int = 10,
    ) -> tuple[int, list[Task]]:
        """How many tasks fit, and those on this page, newest first, ties by UUID.

        `script` (its name), `description` and `search` (either of them, or the UUID) match a part, in
        any case; `updated_since` is in milliseconds. What this costs is said in `listing`.
        """
        query = Query(
            owner=owner,
            uuids=uuids,
            states=states,
            script=script,
            description=description,
            search=search,
            updated_since=updated_since,
            include_deleted=include_deleted,
        )
        return self.select(query, page, size)

    def select(self, query: Query, page: int, size: int) -> tuple[int, list[Task]]:
        """As `page`, for a query that is made already."""
        count, entries = select(self._indexes, query, page, size)
        return count, self._read_all(entries)

    def done(self, script: str, most: int) -> list[Task]:
        """The tasks of this script that are done and not deleted, newest first, `most` at most.

        Costs what it returns, whatever the number of tasks.
        """
        return self._read_all(self._indexes.shelf(of_done(script))[:most])

    def latest(self, owner: str | None, script: str, most: int) -> list[Task]:
        """An owner's tasks of exactly this script, newest first, `most` at most."""
        fitting = (entry for entry in self._indexes.shelf(of_owner(owner)) if entry.script == script)
        return self._read_all(islice(fitting, most))

    def tally(self, query: Query) -> dict[State, int]:
        """How many of the tasks that fit are in each state; its own states are not looked at."""
        return tally(self._indexes, query)

    def live(self) -> list[Task]:
        """The tasks that have not ended, or of which a stop is still to be carried out; newest first."""
        return self._read_all(self._indexes.shelf(LIVE))

    def live_uuids(self) -> list[str]:
        """Which tasks `live` would read."""
        return [entry.uuid for entry in self._indexes.shelf(LIVE)]

    def counts(self) -> dict[State, int]:
        """How many tasks are in each state, the deleted left out."""
        return {state: len(self._indexes.shelf(of_state(state))) for state in State}

    def live_of(self, key: str) -> int:
        """How many tasks have not ended that this user owns; or, unowned ones, that this key has paid."""
        return sum(not entry.final and _whose(entry) == key for entry in self._indexes.shelf(LIVE))

    def folders_of(self, key: str) -> list[tuple[str, int, bool]]:
        """The tasks that have a folder of their own which may be there yet, whose as in `live_of`.

        For each: UUID, time of the last change (milliseconds since 1970), whether it has ended.
        """
        return [
            (entry.uuid, entry.updated, entry.final)
            for entry in self._indexes.shelf(EVERYTHING)
            if entry.parent is None and not entry.purged and _whose(entry) == key
        ]

    def count_folders(self) -> int:
        """How many tasks have a folder of their own which may be there yet."""
        return sum(entry.parent is None and not entry.purged for entry in self._indexes.shelf(EVERYTHING))

    def unpurged(self) -> list[Task]:
        """The tasks that are deleted and whose files are not gone yet."""
        return self._read_all(self._indexes.shelf(UNPURGED))

    def children(self, uuid: str) -> list[Task]:
        """The tasks whose parent this is, in the order of their creation.

        Deleted ones too: their own children, which need not be deleted, work in the same folder.
        """
        return self._read_all(self._indexes.children(uuid))

    def dependants(self, uuid: str) -> list[Task]:
        """The tasks that depend on this one, in the order of their creation."""
        return self._read_all(self._indexes.dependants(uuid))

    def finished_before(self, ms: int) -> Iterator[Task]:
        """The tasks that had ended by then (milliseconds since 1970), also deleted ones, oldest first.

        They are read one by one as they are asked for: there may be very many. They may be changed and
        removed meanwhile.
        """
        entries = self._indexes.shelf(EVERYTHING)
        found = [entry.uuid for entry in reversed(entries) if _ended_before(entry, ms)]
        for uuid in found:
            task = self.get(uuid)
            if task is not None:
                yield task

    # -- side tables -------------------------------------------------------------------------------

    def side(self, name: str) -> SideTable:
        """The small table of this name (lowercase letters, digits, ``_``, ``-``)."""
        if name == TASKS or not _SIDE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a side table")
        if name not in self._sides:
            self._sides[name] = SideTable(self._db.table(name))
        return self._sides[name]

    # -- between memory and indexes ------------------------------------------------------------------

    def _read(self, entry: Entry) -> Task:
        return Task.from_json(self._tasks.load(entry.id))

    def _read_all(self, entries: Iterable[Entry]) -> list[Task]:
        return [self._read(entry) for entry in entries]

    def _observe(self, change: Change, before: bytes | None) -> None:
        """Bring the indexes up to what a document is about to be.

        It is read back from its JSON first: what could not be read at the next start is refused now.
        """
        if change.table != TASKS:
            self.side(change.table).observe(change, before)
        elif change.data is not None:
            self._indexes.put(change.id, _task(change.data))
        elif before is not None:
            self._indexes.drop(_task(before).uuid)

    def _undone(self, change: Change) -> None:
        if change.table == TASKS and change.data is not None:
            self.on_change(_task(change.data))

    def _failed(self, reason: str) -> None:
        self.on_failure(reason)

    def _freeze(self) -> None:
        """Spare the garbage collector the records, which are no garbage: looking at all of them holds
        up every thread."""
        if len(self) >= self._frozen + FREEZE_EVERY:
            gc.collect()
            gc.freeze()
            self._frozen = len(self)


class _Loader:
    """Takes the changes while the store is read, when there are no indexes yet."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}

    def observe(self, change: Change, before: bytes | None) -> None:
        if change.table != TASKS:
            check(change)
        elif change.data is None:
            self.entries.pop(change.id, None)
        else:
            self.entries[change.id] = Entry(change.id, _task(change.data))


def _task(data: bytes) -> Task:
    return Task.from_json(orjson.loads(data))


def _ended_before(entry: Entry, ms: int) -> bool:
    return entry.final and entry.ended is not None and entry.ended < ms


def _whose(entry: Entry) -> str:
    return entry.owner or entry.payer


def _ignore(_: object) -> None:
    """Nobody listens."""
