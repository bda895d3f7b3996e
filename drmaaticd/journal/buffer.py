"""Changes on their way to the disk, and the durable version of each document that they touch.

Pure: `storage` moves changes from here to the segments and says how that went. A change is either
*revocable* (somebody waits to hear whether it could be stored, and it is undone if not) or *standing*
(it is a fact, such as the end of a job, and is kept until it can be stored).
"""

from __future__ import annotations

from collections import deque
from collections.abc import KeysView
from dataclasses import dataclass

from drmaaticd.journal.segments import Change

Key = tuple[str, int]
"""Table and document id."""


@dataclass(slots=True)
class _Version:
    """What is on the disk of a document, and how many changes of it are not."""

    data: bytes | None
    open: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    change: Change
    revocable: bool
    frees: bool


class Buffer:
    """Changes in the order in which they were made. Each has an ordinal, counted from 1."""

    def __init__(self) -> None:
        self.made = 0
        """Ordinal of the last change."""
        self.done = 0
        """Ordinal up to which every change is on the disk, undone, or has been given a new one."""
        self._waiting: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        self._versions: dict[Key, _Version] = {}
        self._freeing = 0

    @property
    def waiting(self) -> int:
        """How many changes have not been taken yet."""
        return len(self._waiting)

    @property
    def frees(self) -> bool:
        """Whether among what is not on the disk is a change that frees room."""
        return self._freeing > 0

    def add(self, change: Change, before: bytes | None, *, revocable: bool, frees: bool = False) -> None:
        """Note a change of a document that was `before` (None: was not there)."""
        version = self._versions.setdefault((change.table, change.id), _Version(before, 0))
        version.open += 1
        self.made += 1
        self._freeing += frees
        self._waiting.append(_Waiting(change, revocable, frees))

    def take(self, most: int, most_bytes: int) -> list[Change]:
        """The next changes to be written: at least one, at most so many, in about so many bytes."""
        if self._taken:
            raise RuntimeError("the last ones were neither acknowledged nor refused")
        size = 0
        while self._waiting and len(self._taken) < most and size < most_bytes:
            waiting = self._waiting.popleft()
            self._taken.append(waiting)
            size += len(waiting.change.data or b"")
        return [waiting.change for waiting in self._taken]

    def acknowledge(self) -> None:
        """What was taken is on the disk."""
        for waiting in self._taken:
            change = waiting.change
            self._freeing -= waiting.frees
            key = (change.table, change.id)
            version = self._versions[key]
            version.open -= 1
            if version.open:
                version.data = change.data
            else:
                del self._versions[key]
        self.done += len(self._taken)
        self._taken = []

    def refuse(self) -> list[Change]:
        """What was taken cannot be written: the changes that undo what must be undone, in order.

        All that waits is refused with it: later changes may build on refused ones. Of a document
        with a standing change the present version is kept, and waits again as a standing change;
        but a new document whose insertion is revocable goes, whatever was done to it since.
        """
        by_key: dict[Key, list[_Waiting]] = {}
        for waiting in (*self._taken, *self._waiting):
            by_key.setdefault((waiting.change.table, waiting.change.id), []).append(waiting)
        self._taken = []
        self._waiting.clear()
        self._freeing = 0
        self.done = self.made
        undo: list[Change] = []
        for key, changes in by_key.items():
            durable = self._versions.pop(key).data
            is_new = durable is None and changes[0].revocable
            if is_new or all(waiting.revocable for waiting in changes):
                undo.append(Change(*key, durable))
            else:
                self.add(changes[-1].change, durable, revocable=False)
        # Removals first: what comes back may bear a name that what goes bears now.
        return sorted(undo, key=lambda change: change.data is not None)

    def touched(self) -> KeysView[Key]:
        """The documents of which the present version is not on the disk."""
        return self._versions.keys()

    def durable(self, key: Key, present: bytes | None) -> bytes | None:
        """The version of a document that is on the disk."""
        version = self._versions.get(key)
        return present if version is None else version.data
