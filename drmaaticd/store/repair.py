"""Putting right a damaged store: everything that can be read is kept, everything else is set aside.

The files as they were found stay in a folder of their own, so nothing is lost by a repair. Blocks; no
daemon may run meanwhile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from drmaaticd.errors import StoreError
from drmaaticd.journal import segments, snapshot
from drmaaticd.journal.recovery import append_durably
from drmaaticd.journal.segments import Change
from drmaaticd.store import side
from drmaaticd.store.core import TASKS
from drmaaticd.store.statedir import StateDir
from drmaaticd.tasks import Task

#: In the folder of what was set aside: the damaged lines alone.
DAMAGED = "damaged.lines"

_Tables = dict[str, dict[int, bytes]]


@dataclass
class Report:
    """What a repair found and did; to iterate over it gives lines for people."""

    tasks: int = 0
    """Tasks that the store holds now."""
    findings: list[str] = field(default_factory=list)
    """Each thing that was wrong, with its place."""
    folder: Path | None = None
    """Where the files are as they were found; None if nothing was wrong and nothing was changed."""

    def __iter__(self) -> Iterator[str]:
        yield from self.findings
        if self.folder is None:
            yield f"nothing is wrong with the store; it holds {self.tasks} tasks"
        else:
            yield f"the store now holds {self.tasks} tasks"
            yield f"the files as they were found, and what could not be read of them: {self.folder}"


def repair(state_dir: Path) -> Report:
    """Make the store in this folder one that opens, with all that can be read of it.

    A document's last readable version counts, also behind damage. If nothing is wrong nothing is
    changed. Raises `StoreError` if a daemon holds the folder, there is no store, or the disk fails.
    """
    if not state_dir.is_dir():
        raise StoreError(f"{state_dir} is no folder: there is no store to repair")
    with StateDir(state_dir):
        try:
            return _Repair(state_dir).run()
        except OSError as error:
            raise StoreError(f"the repair was given up, the store is as it was: {error}") from error


class _Repair:
    """One repair."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: _Tables = {TASKS: {}}
        self._report = Report()
        self._damaged: list[bytes] = []
        self._uuids: dict[str, int] = {}
        self._seq = 0

    def run(self) -> Report:
        numbers = segments.numbers(self._folder)
        path = self._folder / snapshot.NAME
        last = self._read_snapshot(path) if path.exists() else 0
        live = [number for number in numbers if number > last]
        self._check_numbers(last, live, fresh=not numbers and not path.exists())
        for number in live:
            self._read_segment(segments.path_of(self._folder, number))
        self._drop_doubles()
        self._report.tasks = len(self._tables[TASKS])
        if self._report.findings:
            self._set_aside([path, *(segments.path_of(self._folder, number) for number in numbers)])
            self._write(max([last, *numbers]))
        return self._report

    # -- reading -----------------------------------------------------------------------------------

    def _read_snapshot(self, path: Path) -> int:
        """Take what the snapshot holds; the last segment that is in it."""
        try:
            meta = snapshot.read(path, self._take)
        except StoreError as error:
            self._report.findings.append(_without_advice(str(error)))
            self._tables = {TASKS: {}}
        else:
            self._seq = meta.seq
            return meta.segment
        try:
            tables = snapshot.load(path)
        except StoreError:
            for row in snapshot.rows(path):
                at = segments.place(path, row.number, row.byte)
                self._attempt(at, row.raw, row.change, row.fault)
        else:
            self._take_tables(path, tables)
        # The last line may be what is damaged: whether a segment is in the snapshot already is not
        # known then. To apply it again does no harm, for each change holds a whole document.
        return 0

    def _take_tables(self, path: Path, tables: dict[str, dict[str, Any]]) -> None:
        for name in tables.keys() - {snapshot.META}:
            for key, document in tables[name].items():
                raw = orjson.dumps(document)
                change = Change(name, int(key), raw) if key.isdecimal() else None
                self._attempt(f"{path}, table {name}, document {key}", raw, change, "the id is no number")

    def _read_segment(self, path: Path) -> None:
        for line in segments.read(path):
            if line.record is not None and line.record.seq != self._seq + 1 and self._seq:
                self._report.findings.append(
                    f"{line.place}: record {line.record.seq} stands where {self._seq + 1} is due"
                )
            if line.record is not None:
                self._seq = line.record.seq
            elif self._seq:
                self._seq += 1  # so that a damaged line is reported once and not as a gap, too
            change = None if line.record is None else line.record.change
            self._attempt(line.place, line.raw, change, line.fault)

    def _check_numbers(self, last: int, live: list[int], *, fresh: bool) -> None:
        if fresh:
            raise StoreError(f"{self._folder} holds no store")
        first = last + 1 if not self._report.findings else min(live, default=1)
        for number in range(first, max(live, default=first) + 1):
            if number not in live:
                missing = segments.path_of(self._folder, number)
                self._report.findings.append(f"{missing} is missing")

    def _attempt(self, place: str, raw: bytes, change: Change | None, fault: str) -> None:
        """Take a change, or set its line aside and say why."""
        if change is not None:
            try:
                self._take(change)
            except (KeyError, TypeError, ValueError) as error:
                fault = f"the document is not valid: {error!r}"
            else:
                return
        self._report.findings.append(f"{place}: {fault}")
        self._damaged.append(raw)

    def _take(self, change: Change) -> None:
        documents = self._tables.setdefault(change.table, {})
        if change.data is None:
            documents.pop(change.id, None)
            return
        if change.table == TASKS:
            Task.from_json(orjson.loads(change.data))
        else:
            side.check(change)
        documents[change.id] = change.data

    def _drop_doubles(self) -> None:
        """Of two documents with one name the younger stays."""
        for table, documents in self._tables.items():
            name_of: Callable[[bytes], str] = _uuid if table == TASKS else side.key_of
            seen: set[str] = set()
            for doc_id in sorted(documents, reverse=True):
                name = name_of(documents[doc_id])
                if name in seen:
                    self._report.findings.append(f"table {table}: {name} is there twice")
                    self._damaged.append(documents.pop(doc_id))
                seen.add(name)

    # -- writing -----------------------------------------------------------------------------------

    def _set_aside(self, files: list[Path]) -> None:
        """Keep the files as they are found, and the damaged lines by themselves."""
        folder = self._new_folder()
        for file in files:
            if file.exists():
                _keep(file, folder / file.name)
        for raw in self._damaged:
            append_durably(folder / DAMAGED, raw)
        segments.sync_folder(folder)
        segments.sync_folder(self._folder)
        self._report.folder = folder

    def _new_folder(self) -> Path:
        number = 1
        while True:
            folder = self._folder / f"damaged.{number}"
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            else:
                return folder

    def _write(self, last: int) -> None:
        """A new snapshot that holds everything, and behind it an empty journal."""
        segments.create(self._folder, last + 1)
        writer = snapshot.Writer(self._folder)
        try:
            writer.rows(self._tables[TASKS].items())
            for name, documents in self._tables.items():
                if name != TASKS:
                    writer.table(name)
                    writer.rows(documents.items())
            writer.finish(last, self._seq)
        except OSError:
            writer.discard()
            segments.path_of(self._folder, last + 1).unlink()
            raise
        for number in segments.numbers(self._folder):
            if number <= last:
                segments.path_of(self._folder, number).unlink()


def _keep(file: Path, target: Path) -> None:
    """A second name for a file that is about to be replaced; a copy where that cannot be."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())


def _uuid(data: bytes) -> str:
    return Task.from_json(orjson.loads(data)).uuid


def _without_advice(text: str) -> str:
    return text.removesuffix(f"; {snapshot.ADVICE}")
