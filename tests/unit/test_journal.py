"""The journal: lines, segments, snapshots, what a crash leaves, what waits to be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinydb import TinyDB, where

from drmaaticd.errors import StoreError
from drmaaticd.journal import recovery, segments
from drmaaticd.journal.buffer import Buffer
from drmaaticd.journal.segments import Change, Full, Record
from tests.journals import (
    apply,
    changes,
    fast,  # noqa: F401  # a fixture
    recovered,
    some_changes,
    state_after,
    write_folder,
)

# -- lines and segments


@given(st.integers(1, 2**60), changes)
def test_a_line_tells_what_was_written(seq: int, change: Change) -> None:
    line = segments.encode(seq, change)
    assert segments.decode(line) == Record(seq, change)
    assert line.count(b"\n") == 1
    assert len(orjson.loads(line)) == 5


def test_no_changed_byte_of_a_line_goes_unnoticed() -> None:
    line = segments.encode(17, Change("tasks", 3, b'{"a":"abc def"}'))
    for position in range(len(line)):
        for value in range(256):
            if value != line[position]:
                with pytest.raises(ValueError, match=r"incomplete|checksum"):
                    segments.decode(line[:position] + bytes([value]) + line[position + 1 :])


def test_a_full_disk_leaves_the_segment_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments.create(tmp_path, 1)
    writer = segments.Writer(tmp_path, 1, 0, 0)
    listed = some_changes(5)
    writer.append(listed[:2])
    before = (tmp_path / "journal.1").read_bytes()
    half_written(monkeypatch, errno.ENOSPC)
    with pytest.raises(Full):
        writer.append(listed[2:])
    assert (tmp_path / "journal.1").read_bytes() == before
    monkeypatch.undo()
    writer.append(listed[2:])
    writer.close()
    lines = list(segments.read(tmp_path / "journal.1"))
    assert [line.record for line in lines] == [Record(seq, change) for seq, change in enumerate(listed, 1)]


def half_written(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every second write to a segment puts half of it there and the next one fails, as on a full disk."""
    real = os.pwrite
    calls = 0

    def pwrite(fd: int, data: Any, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            return real(fd, data[: len(data) // 2], offset)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", pwrite)


# -- what a crash leaves


@pytest.mark.usefixtures("fast")
@pytest.mark.logs("torn record")
def test_cut_off_at_any_byte_the_journal_opens_to_a_prefix_of_the_changes(tmp_path: Path) -> None:
    folded, appended = some_changes(4), some_changes(9)[4:]
    folder = tmp_path / "store"
    write_folder(folder, folded, appended)
    content = (folder / "journal.2").read_bytes()
    ends = [0]
    for line in content.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    for cut in range(len(content) + 1):
        (folder / "journal.2").write_bytes(content[:cut])
        (folder / recovery.TORN).unlink(missing_ok=True)
        whole = sum(end <= cut for end in ends[1:])
        assert recovered(folder) == state_after(folded + appended[:whole])
        torn = content[ends[whole] : cut]
        assert (folder / "journal.2").read_bytes() == content[: ends[whole]]
        kept = (folder / recovery.TORN).read_bytes() if torn else b""
        assert kept.removesuffix(b"\n") == torn


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "name", [pytest.param("journal.2", marks=pytest.mark.logs("torn record")), "store.json"]
)
def test_any_changed_byte_is_noticed_or_harmless(tmp_path: Path, name: str) -> None:
    folded, appended = some_changes(4), some_changes(8)[4:]
    folder = tmp_path / "store"
    write_folder(folder, folded, appended)
    content = (folder / name).read_bytes()
    last_line = content.rstrip(b"\n").rindex(b"\n") + 1
    right = state_after(folded + appended)
    without_last = state_after(folded + appended[:-1])
    without_two = state_after(folded + appended[:-2])
    for position in range(len(content)):
        for flip in (0x01, 0x20, 0x80, content[position] ^ 0x0A):
            damaged = bytearray(content)
            damaged[position] ^= flip
            (folder / name).write_bytes(damaged)
            (folder / recovery.TORN).unlink(missing_ok=True)
            try:
                found = recovered(folder)
            except StoreError as error:
                told = str(error)
            else:
                told = ""
            if told:
                assert name in told
                assert (folder / name).read_bytes() == bytes(damaged)
                continue
            if (folder / recovery.TORN).exists():  # told, and kept
                # A newline that is gone joins the last two lines.
                assert found == (without_last if position >= last_line else without_two)
                assert position >= last_line - 1
            else:
                assert found == right
        (folder / name).write_bytes(content)


@pytest.mark.logs("torn record")
def test_damage_is_told_with_its_place_and_nothing_is_touched(tmp_path: Path) -> None:
    write_folder(tmp_path, some_changes(2), some_changes(6))
    segment = tmp_path / "journal.2"
    lines = segment.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], b"rubbish\n", *lines[4:]])
    segment.write_bytes(damaged)
    place = f"{segment}, line 4 .byte {len(b''.join(lines[:3]))}.: the checksum.*line 5.*store repair"
    with pytest.raises(StoreError, match=place):
        recovered(tmp_path)
    assert segment.read_bytes() == damaged
    segment.write_bytes(b"".join([*lines[:3], b"rubbish\n", b"\0" * 100]))
    assert recovered(tmp_path) == state_after(some_changes(2) + some_changes(3))
    assert (tmp_path / recovery.TORN).read_bytes() == b"rubbish\n" + b"\0" * 100 + b"\n"


def test_a_line_that_is_missing_is_damage(tmp_path: Path) -> None:
    write_folder(tmp_path, some_changes(2), some_changes(6))
    segment = tmp_path / "journal.2"
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(StoreError, match=r"journal.2, line 3 .*: record 6 stands where 5 is due"):
        recovered(tmp_path)
    segment.write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))
    with pytest.raises(StoreError, match="record 4 stands where 5 is due"):
        recovered(tmp_path)


def test_a_segment_that_is_missing_is_damage(tmp_path: Path) -> None:
    write_folder(tmp_path, some_changes(2), some_changes(3))
    (tmp_path / "journal.2").rename(tmp_path / "journal.3")
    with pytest.raises(StoreError, match=r"journal\.2 is missing"):
        recovered(tmp_path)
    (tmp_path / "journal.3").unlink()
    with pytest.raises(StoreError, match=r"journal\.2 is missing"):
        recovered(tmp_path)
    (tmp_path / "store.json").unlink()
    (tmp_path / "journal.2").touch()
    with pytest.raises(StoreError, match=r"journal\.1 is missing"):
        recovered(tmp_path)


def test_a_document_that_is_not_valid_is_told_with_its_place(tmp_path: Path) -> None:
    write_folder(tmp_path, some_changes(2), some_changes(3))

    def refuse(change: Change) -> None:
        if change.data is not None and b"nr-1" in change.data:
            raise ValueError("no")

    with pytest.raises(StoreError, match=r"store.json, line 3 .byte .*not valid: ValueError"):
        recovery.recover(tmp_path, refuse)
    write_folder(tmp_path / "b", some_changes(1), some_changes(3))
    with pytest.raises(StoreError, match=r"journal.2, line 2 .byte .*not valid: ValueError"):
        recovery.recover(tmp_path / "b", refuse)


# -- the snapshot


def test_plain_tinydb_reads_and_rewrites_the_snapshot(tmp_path: Path) -> None:
    listed = [Change("tasks", number, b'{"n":%d,"name":"\xc3\xa4"}' % number) for number in range(1, 8)]
    write_folder(tmp_path, [*listed, Change("idempotency", 1, b'{"key":"k"}')], [])
    with TinyDB(tmp_path / "store.json", encoding="utf-8") as plain:
        assert plain.tables() == {"tasks", "idempotency", "_meta"}
        (found,) = plain.table("tasks").search(where("n") == 3)
        assert (found.doc_id, found) == (3, {"n": 3, "name": "ä"})
        plain.table("tasks").update({"name": "new"}, where("n") == 3)
        plain.table("tasks").remove(where("n") == 4)
        plain.table("tasks").insert({"n": 99})
    tables = recovered(tmp_path)
    assert {key: orjson.loads(data)["n"] for key, data in tables["tasks"].items()} == {
        1: 1, 2: 2, 3: 3, 5: 5, 6: 6, 7: 7, 8: 99,
    }  # fmt: skip
    assert orjson.loads(tables["tasks"][3])["name"] == "new"


def meta_line(version: int) -> bytes:
    return (
        b'{"tasks":{\n},"_meta":{"1":{"format":%d,"segment":0,"seq":0,"documents":0,"crc32":"12345678"}}}\n'
        % version
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no JSON"),
        (b"[]", "no TinyDB file"),
        (b'{"tasks": [], "_meta": {}}', "no TinyDB file"),
        (b'{"tasks": {}}', "no table _meta"),
        (b'{"_meta": {"1": {"segment": 1, "seq": 1}}}', "no table tasks"),
        (b'{"tasks": {}, "_meta": {}}', "not as it was written"),
        (b'{"tasks": {"x": {}}, "_meta": {"1": {"segment": 1, "seq": 1}}}', "document x is not valid"),
        (b'{"tasks":{\n', "end is missing"),
        (b'{"tasks":{\nrubbish\n', "line 2 .*no line of a snapshot"),
        (meta_line(9), "format 9"),
        (meta_line(1), "checksum"),
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "store.json").write_bytes(content)
    (tmp_path / "journal.1").touch()
    with pytest.raises(StoreError, match=fault):
        recovered(tmp_path)


# -- what is on its way to the disk


@given(st.data())
def test_the_buffer_keeps_memory_and_disk_apart(data: st.DataObject) -> None:
    """Against a model: after any changes, writes and refusals, memory is what it should be."""
    buffer = Buffer()
    memory: dict[int, bytes] = {}
    disk: dict[int, bytes] = {}
    open_changes: list[tuple[Change, bool]] = []
    for number in range(data.draw(st.integers(1, 30))):
        action = data.draw(st.sampled_from(["change", "change", "write", "refuse"]))
        if action == "change":
            key, removal = data.draw(st.integers(1, 3)), data.draw(st.booleans())
            revocable = data.draw(st.booleans())
            change = Change("tasks", key, None if removal else b"%d" % number)
            buffer.add(change, memory.get(key), revocable=revocable)
            put(memory, change)
            open_changes.append((change, revocable))
        else:
            taken = buffer.take(data.draw(st.integers(1, 4)), 10**6)
            assert taken == [change for change, _ in open_changes[: len(taken)]]
            if action == "write":
                buffer.acknowledge()
                for change in taken:
                    put(disk, change)
                open_changes = open_changes[len(taken) :]
            else:
                for change in buffer.refuse():
                    put(memory, change)
                expected, open_changes = refused(disk, open_changes)
                assert memory == expected
        for key in (1, 2, 3):
            assert buffer.durable(("tasks", key), memory.get(key)) == disk.get(key)
        assert buffer.waiting == len(open_changes)
        assert (buffer.done == buffer.made) == (not open_changes)


def put(tables: dict[int, bytes], change: Change) -> None:
    apply({"tasks": tables}, change)


def refused(
    disk: dict[int, bytes], open_changes: list[tuple[Change, bool]]
) -> tuple[dict[int, bytes], list[tuple[Change, bool]]]:
    """What memory should hold, and what should wait, when all of these are refused."""
    memory = dict(disk)
    waiting = []
    for key in dict.fromkeys(change.id for change, _ in open_changes):
        own = [(change, revocable) for change, revocable in open_changes if change.id == key]
        is_new = key not in disk and own[0][1]
        if not is_new and not all(revocable for _, revocable in own):
            put(memory, own[-1][0])
            waiting.append((own[-1][0], False))
    return memory, waiting
