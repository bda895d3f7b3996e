"""TinyDB's table and database over `JournalStorage`.

Everything that TinyDB offers works; what the daemon uses (`put`, `insert`, `get`, `remove` by id, the
length) looks at one document only, where TinyDB's own way copies the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import orjson
from tinydb import TinyDB
from tinydb.table import Document, Table

from drmaaticd.journal.segments import Change
from drmaaticd.journal.snapshot import FIRST_TABLE
from drmaaticd.journal.storage import Documents, JournalStorage


class DocumentTable(Table):
    """A table whose changes go into the journal one by one."""

    _next_free: int | None = None

    @property
    def journal(self) -> JournalStorage:
        """The storage, by its own type."""
        return cast("JournalStorage", self._storage)

    def put(
        self, doc_id: int, document: Mapping[str, Any], *, revocable: bool = True, frees: bool = False
    ) -> None:
        """Make this the document of that id; see `JournalStorage.change`.

        Raises TypeError or ValueError for what is no JSON, `Unavailable`.
        """
        change = Change(self.name, doc_id, orjson.dumps(document))
        self.journal.change(change, revocable=revocable, frees=frees)

    def delete(self, doc_id: int, *, revocable: bool = True) -> None:
        """Remove a document, if it is there. Raises `Unavailable`."""
        if doc_id in self.data:
            self.journal.change(Change(self.name, doc_id, None), revocable=revocable)

    def load(self, doc_id: int) -> dict[str, Any]:
        """A fresh copy of a document. Raises KeyError."""
        document: dict[str, Any] = orjson.loads(self.data[doc_id])
        return document

    def next_id(self) -> int:
        """The id for a new document."""
        return self._get_next_id()

    # -- TinyDB's own methods, at the price of one document ----------------------------------------

    def insert(self, document: Mapping[Any, Any]) -> int:
        """Add a document and return its id. Raises ValueError if a `Document`'s id is taken."""
        if not isinstance(document, Document):
            doc_id = self.next_id()
        elif document.doc_id in self.data:
            raise ValueError(f"a document with the id {document.doc_id} exists already")
        else:
            doc_id = document.doc_id
            self._next_free = None
        self.put(doc_id, document)
        return doc_id

    def insert_multiple(self, documents: Iterable[Mapping[Any, Any]]) -> list[int]:
        """Add documents and return their ids."""
        return [self.insert(document) for document in documents]

    def update(
        self,
        fields: Mapping[Any, Any] | Callable[[Any], None],
        cond: Any = None,
        doc_ids: Iterable[int] | None = None,
    ) -> list[int]:
        """Set fields of the documents with these ids, or that match, or of all; their ids."""
        if doc_ids is not None:
            chosen = [doc_id for doc_id in doc_ids if doc_id in self.data]
        else:
            chosen = [doc_id for doc_id in tuple(self.data) if cond is None or cond(self.load(doc_id))]
        for doc_id in chosen:
            document = self.load(doc_id)
            if callable(fields):
                fields(document)
            else:
                document.update(fields)
            self.put(doc_id, document)
        return chosen

    def remove(self, cond: Any = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove the documents with these ids, or that match; their ids."""
        if doc_ids is None:
            if cond is None:
                raise RuntimeError("Use truncate() to remove all documents")
            doc_ids = [doc_id for doc_id in self.data if cond(self.load(doc_id))]
        chosen = [doc_id for doc_id in doc_ids if doc_id in self.data]
        for doc_id in chosen:
            self.delete(doc_id)
        return chosen

    def truncate(self) -> None:
        """Remove all documents; ids begin anew."""
        self.journal.replace(self.name, {})
        self._next_free = None

    def __len__(self) -> int:
        return len(self.data)

    # -- what the rest of TinyDB stands on -----------------------------------------------------------

    @property
    def data(self) -> Mapping[int, bytes]:
        """The documents as JSON, by id; not to be altered."""
        return self.journal.tables.get(self.name, {})

    def _read_table(self) -> dict[str, Mapping[Any, Any]]:
        return cast("dict[str, Mapping[Any, Any]]", Documents(self.data))

    def _update_table(self, updater: Callable[[dict[int, Mapping[Any, Any]]], None]) -> None:
        table: dict[int, Mapping[Any, Any]] = {doc_id: self.load(doc_id) for doc_id in self.data}
        updater(table)
        self.journal.replace(self.name, table)

    def _get_next_id(self) -> int:
        if self._next_free is None:
            self._next_free = max(self.data, default=0) + 1
        self._next_free += 1
        return self._next_free - 1


class Database(TinyDB):
    """``Database(folder, observe, storage=JournalStorage)``: the store as a TinyDB database."""

    table_class = DocumentTable
    default_table_name = FIRST_TABLE

    def table(self, name: str, **kwargs: Any) -> DocumentTable:
        """The table of this name; it needs not be there yet.

        It keeps no results of queries: they would be dropped at each change, and cost memory.
        """
        kwargs.setdefault("cache_size", 0)
        return cast("DocumentTable", super().table(name, **kwargs))
