"""Where the tasks are: by UUID, owner, state, what waits for what, and in the order of the list.

An index entry holds what lists are filtered by, so that a filter looks at no document. Pure; the
documents themselves, and that both agree, are the business of `store`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter

from sortedcontainers import SortedKeyList

from drmaaticd.states import State
from drmaaticd.tasks import Task

Shelf = tuple[str, object]
"""The name of an ordered list of entries, such as ``("owner", "ORCID:…")``."""

EVERYTHING: Shelf = ("everything", None)
PRESENT: Shelf = ("deleted", False)
DELETED: Shelf = ("deleted", True)
LIVE: Shelf = ("live", None)
UNPURGED: Shelf = ("unpurged", None)


def of_owner(owner: str | None) -> Shelf:
    """The tasks of an owner that are not deleted."""
    return ("owner", owner)


def of_state(state: State) -> Shelf:
    """The tasks in a state that are not deleted."""
    return ("state", state)


def of_done(script: str) -> Shelf:
    """The tasks of a script that are done and not deleted."""
    return ("done", script)


class Entry:
    """What the indexes know of a task. Changed in place by `assign`, which the indexes alone call."""

    __slots__ = (
        "deleted",
        "depends_on",
        "ended",
        "final",
        "id",
        "live",
        "order",
        "owner",
        "parent",
        "payer",
        "purged",
        "script",
        "state",
        "text",
        "updated",
        "uuid",
    )

    def __init__(self, id: int, task: Task) -> None:
        self.id = id
        self.uuid = task.uuid
        self.order = (-task.created, task.uuid)
        """Newest first, ties by UUID."""
        self.text = ""
        self.assign(task)

    def assign(self, task: Task) -> None:
        """Take over what may change of a task."""
        self.owner = None if task.owner is None else sys.intern(task.owner)
        self.payer = sys.intern(task.payer)
        self.state = task.state
        self.final = task.final
        self.live = task.stop or not task.final
        self.script = sys.intern(task.script)
        text = task.description.casefold()
        if text != self.text:
            self.text = text
        self.updated = task.updated
        self.ended = task.ended
        self.deleted = task.deleted is not None
        self.purged = task.purged
        self.parent = task.parent
        self.depends_on = task.depends_on

    def shelves(self) -> tuple[Shelf, ...]:
        """The lists that it stands in."""
        found = [EVERYTHING]
        if self.live:
            found.append(LIVE)
        if not self.deleted:
            found += (PRESENT, of_owner(self.owner), of_state(self.state))
            if self.state is State.DONE:
                found.append(of_done(self.script))
        else:
            found.append(DELETED)
            if not self.purged:
                found.append(UNPURGED)
        return tuple(found)


_ORDER = attrgetter("order")


class Indexes:
    """All entries, by whatever they are asked for."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Raises ValueError if two entries have the same UUID."""
        self._by_uuid: dict[str, Entry] = {}
        self._shelves: dict[Shelf, SortedKeyList] = {}
        self._children: dict[str, list[Entry]] = {}
        self._dependants: dict[str, list[Entry]] = {}
        self._scripts: Counter[str] = Counter()
        unsorted: dict[Shelf, list[Entry]] = {}
        for entry in sorted(entries, key=_ORDER, reverse=True):  # relatives are listed oldest first
            if entry.uuid in self._by_uuid:
                raise ValueError(f"two tasks have the UUID {entry.uuid}")
            self._relate(entry)
            for shelf in entry.shelves():
                unsorted.setdefault(shelf, []).append(entry)
        for shelf, listed in unsorted.items():
            self._shelves[shelf] = SortedKeyList(reversed(listed), key=_ORDER)

    def __len__(self) -> int:
        return len(self._by_uuid)

    def get(self, uuid: str) -> Entry | None:
        """The entry of a task."""
        return self._by_uuid.get(uuid)

    def put(self, id: int, task: Task) -> None:
        """Note a new task or the new record of one. Raises ValueError for a UUID that another id has."""
        entry = self._by_uuid.get(task.uuid)
        if entry is None:
            entry = Entry(id, task)
            self._relate(entry)
            self._move(entry, (), entry.shelves())
            return
        if entry.id != id:
            raise ValueError(f"there is a task with the UUID {task.uuid} already")
        if entry.order != (-task.created, task.uuid):
            raise ValueError("the time of a task's creation never changes")
        before = entry.shelves()
        related = (entry.script, entry.parent, entry.depends_on) != (
            task.script,
            task.parent,
            task.depends_on,
        )
        if related:
            self._unrelate(entry)
        entry.assign(task)
        if related:
            self._relate(entry)
        self._move(entry, before, entry.shelves())

    def drop(self, uuid: str) -> None:
        """Forget a task. Raises KeyError."""
        entry = self._by_uuid[uuid]
        self._unrelate(entry)
        self._move(entry, entry.shelves(), ())

    def shelf(self, shelf: Shelf) -> SortedKeyList:
        """The entries of a list, newest first; not to be altered."""
        return self._shelves.get(shelf) or SortedKeyList(key=_ORDER)

    def children(self, uuid: str) -> Iterator[Entry]:
        """The tasks whose parent this is, deleted ones too, in the order of their creation."""
        return iter(self._children.get(uuid, ()))

    def dependants(self, uuid: str) -> tuple[Entry, ...]:
        """The tasks that depend on this one, in the order of their creation."""
        return tuple(self._dependants.get(uuid, ()))

    def scripts_like(self, part: str) -> frozenset[str]:
        """The names of scripts that tasks were made from and that hold this part (casefolded)."""
        return frozenset(name for name in self._scripts if part in name.casefold())

    def _move(self, entry: Entry, before: tuple[Shelf, ...], after: tuple[Shelf, ...]) -> None:
        for shelf in before:
            if shelf not in after:
                listed = self._shelves[shelf]
                listed.remove(entry)
                if not listed:
                    del self._shelves[shelf]
        for shelf in after:
            if shelf not in before:
                if shelf not in self._shelves:
                    self._shelves[shelf] = SortedKeyList(key=_ORDER)
                self._shelves[shelf].add(entry)

    def _relate(self, entry: Entry) -> None:
        self._by_uuid[entry.uuid] = entry
        self._scripts[entry.script] += 1
        if entry.parent is not None:
            self._children.setdefault(entry.parent, []).append(entry)
        for uuid in entry.depends_on:
            self._dependants.setdefault(uuid, []).append(entry)

    def _unrelate(self, entry: Entry) -> None:
        del self._by_uuid[entry.uuid]
        self._scripts[entry.script] -= 1
        if not self._scripts[entry.script]:
            del self._scripts[entry.script]
        if entry.parent is not None:
            _remove(self._children, entry.parent, entry)
        for uuid in entry.depends_on:
            _remove(self._dependants, uuid, entry)


def _remove(lists: dict[str, list[Entry]], key: str, entry: Entry) -> None:
    lists[key].remove(entry)
    if not lists[key]:
        del lists[key]
