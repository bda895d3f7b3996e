"""Changes to write and stores to read back, for the tests of the journal and of the store."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import strategies as st

from drmaaticd.journal import recovery, segments, snapshot
from drmaaticd.journal.segments import Change

Tables = dict[str, dict[int, bytes]]

documents = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    max_size=4,
)
changes = st.builds(
    Change,
    st.sampled_from(["tasks", "idempotency"]),
    st.integers(1, 9),
    st.none() | documents.map(orjson.dumps),
)


def apply(tables: Tables, change: Change) -> None:
    table = tables.setdefault(change.table, {})
    if change.data is None:
        table.pop(change.id, None)
    else:
        table[change.id] = change.data


def filled(tables: Tables) -> Tables:
    """Without the empty tables, which a snapshot need not name."""
    return {name: table for name, table in tables.items() if table}


def state_after(listed: list[Change]) -> Tables:
    tables: Tables = {}
    for change in listed:
        apply(tables, change)
    return filled(tables)


def recovered(folder: Path) -> Tables:
    tables: Tables = {}
    recovery.recover(folder, lambda change: apply(tables, change))
    return filled(tables)


def write_folder(folder: Path, folded: list[Change], appended: list[Change]) -> None:
    """A store whose snapshot holds the one and whose only segment the other."""
    folder.mkdir(exist_ok=True)
    recovery.recover(folder, lambda change: None)
    writer = segments.Writer(folder, 1, 0, 0)
    writer.append(folded)
    closed, seq = writer.rotate()
    shot = snapshot.Writer(folder)
    state = state_after(folded)
    shot.rows(state.pop("tasks", {}).items())
    for name, table in state.items():
        shot.table(name)
        shot.rows(table.items())
    shot.finish(closed, seq)
    writer.drop(closed)
    writer.append(appended)
    writer.close()


def some_changes(count: int) -> list[Change]:
    """A few documents, changed and removed in turn."""
    return [
        Change(
            "idempotency" if number % 4 == 3 else "tasks",
            number % 3 + 1,
            None if number % 5 == 4 else orjson.dumps({"uuid": f"nr-{number}", "Größe": number}),
        )
        for number in range(count)
    ]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs that return at once, for tests that open a store very often: no machine crashes here."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
