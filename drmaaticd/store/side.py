"""Small tables beside the tasks: anything kept by name, such as the idempotency keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from drmaaticd.journal.segments import Change
from drmaaticd.journal.tables import DocumentTable


class SideTable:
    """Documents by key. Changes are in memory at once and durable by the store's `durable`.

    What a revocable change is, is said in `Store`.
    """

    def __init__(self, table: DocumentTable) -> None:
        """Raises ValueError if the table holds a key twice."""
        self._table = table
        self._ids: dict[str, int] = {}
        for doc_id, data in table.data.items():
            self.observe(Change(table.name, doc_id, data), None)

    def get(self, key: str) -> dict[str, Any] | None:
        """A copy of the document, None if there is none."""
        doc_id = self._ids.get(key)
        return None if doc_id is None else self._value(doc_id)

    def put(self, key: str, value: dict[str, Any], *, revocable: bool = True) -> None:
        """Keep a document under this key. Raises `Unavailable`, TypeError for what is no JSON."""
        doc_id = self._ids.get(key)
        if doc_id is None:
            doc_id = self._table.next_id()
        self._table.put(doc_id, {"key": key, "value": value}, revocable=revocable)

    def delete(self, key: str, *, revocable: bool = True) -> None:
        """Forget a document, if it is there. Raises `Unavailable`."""
        doc_id = self._ids.get(key)
        if doc_id is not None:
            self._table.delete(doc_id, revocable=revocable)

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All keys and documents that are there now; those that go meanwhile are passed over."""
        for key in tuple(self._ids):
            value = self.get(key)
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: object) -> bool:
        return key in self._ids

    def observe(self, change: Change, before: bytes | None) -> None:
        """Follow a change of the table. Raises KeyError, TypeError or ValueError if it is none of ours."""
        old = None if before is None else key_of(before)
        new = None if change.data is None else key_of(change.data)
        if new is not None and new != old and new in self._ids:
            raise ValueError(f"the key {new!r} is there twice")
        if old is not None:
            del self._ids[old]
        if new is not None:
            self._ids[new] = change.id

    def _value(self, doc_id: int) -> dict[str, Any]:
        value: dict[str, Any] = self._table.load(doc_id)["value"]
        return value


def check(change: Change) -> None:
    """Raise KeyError, TypeError or ValueError for a change that no side table makes."""
    if change.data is not None:
        key_of(change.data)


def key_of(data: bytes) -> str:
    document = orjson.loads(data)
    key, value = document["key"], document["value"]
    if not isinstance(key, str) or not isinstance(value, dict):
        raise TypeError("key and value of a side table's document are a string and an object")
    return key
