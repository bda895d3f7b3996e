"""What is set aside behind the journal, so that a full disk does not keep people from making room."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from pathlib import Path

import pytest

from drmaaticd.errors import StorageFull
from drmaaticd.journal import recovery, segments
from drmaaticd.journal.segments import RESERVE, Change, Full
from drmaaticd.journal.storage import JournalStorage
from tests.disks import SmallDisk, fill
from tests.journals import recovered, some_changes

#: A change of about half a kilobyte.
CHANGE = [Change("tasks", 1, b'{"x":"' + b"y" * 500 + b'"}')]

#: How many of them the reserve takes for certain.
SPARE = RESERVE // 600


def opened(folder: Path) -> segments.Writer:
    """As a daemon begins."""
    found = recovery.recover(folder, lambda change: None)
    return segments.Writer(folder, found.segment, found.seq, found.journal_size)


def append_until_refused(writer: segments.Writer, *, frees: bool = False) -> int:
    """How many changes there was room for."""
    for count in range(10 * SPARE):
        try:
            writer.append(CHANGE, frees=frees)
        except Full:
            return count
    pytest.fail("the disk is not full")


def test_what_frees_room_is_written_on_a_full_disk(small_disk: SmallDisk) -> None:
    disk = small_disk(1024)
    writer = opened(disk)
    writer.append(CHANGE)
    fill(disk / "filler")
    append_until_refused(writer)
    before = (disk / "journal.1").read_bytes()
    for _ in range(SPARE):
        writer.append(CHANGE, frees=True)
        with pytest.raises(Full):
            writer.append(CHANGE)
    assert len((disk / "journal.1").read_bytes()) > len(before) + SPARE * 500
    assert append_until_refused(writer, frees=True) < SPARE
    (disk / "filler").unlink()
    writer.append(CHANGE)
    fill(disk / "filler")
    writer.append(CHANGE, frees=True)
    writer.close()
    assert recovered(disk) == {"tasks": {1: CHANGE[0].data}}


def test_the_reserve_outlives_the_daemon(small_disk: SmallDisk) -> None:
    disk = small_disk(1024)
    opened(disk).close()
    fill(disk / "filler")
    writer = opened(disk)
    append_until_refused(writer)
    for _ in range(SPARE):
        writer.append(CHANGE, frees=True)
    writer.close()


def test_the_next_segment_has_a_reserve_or_is_not_begun(small_disk: SmallDisk) -> None:
    disk = small_disk(1024)
    writer = opened(disk)
    writer.append(some_changes(5))
    writer.rotate()
    fill(disk / "filler")
    append_until_refused(writer)
    with pytest.raises(Full):
        writer.rotate()
    assert segments.numbers(disk) == [1, 2]
    for _ in range(SPARE):
        writer.append(CHANGE, frees=True)
    writer.close()


def test_what_a_closed_segment_had_set_aside_is_given_back(small_disk: SmallDisk) -> None:
    disk = small_disk(2048)
    writer = opened(disk)
    for _ in range(3):
        writer.append(CHANGE)
        writer.rotate()
    writer.close()
    used = sum((disk / f"journal.{number}").stat().st_blocks * 512 for number in (1, 2, 3))
    assert used < RESERVE


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_a_reserve_where_the_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Without:
        def fallocate(self, *_: int) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(segments, "_libc", Without())
    writer = opened(tmp_path)
    writer.append(some_changes(5))
    writer.rotate()
    writer.append(CHANGE)
    writer.close()
    assert recovered(tmp_path)["tasks"][1] == CHANGE[0].data


def test_a_disk_that_fails_is_not_taken_for_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def fallocate(self, *_: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    writer = opened(tmp_path)
    monkeypatch.setattr(segments, "_libc", Failing())
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        writer.append(some_changes(5) * 100)
    writer.close()


@pytest.mark.logs("disk is full")
def test_a_deletion_is_durable_among_changes_that_are_refused(small_disk: SmallDisk) -> None:
    disk = small_disk(1024)

    async def main() -> None:
        storage = JournalStorage(disk, lambda change, before: None)
        for key in range(1, 20):
            storage.change(Change("tasks", key, b'{"v":"old"}'))
        await storage.durable()
        fill(disk / "filler")
        refused = 0
        for key in range(1, 20):
            try:
                storage.change(Change("tasks", key, CHANGE[0].data))
                await storage.durable()
            except StorageFull:
                refused += 1
            storage.change(Change("tasks", key, b'{"v":"deleted"}'), frees=True)
            await storage.durable()
        assert refused > 10
        assert set(storage.tables["tasks"].values()) == {b'{"v":"deleted"}'}
        # What waits before one is written with it.
        storage.change(Change("tasks", 1, b'{"v":"before"}'))
        storage.change(Change("tasks", 2, b'{"v":"freed"}'), frees=True)
        await storage.durable()
        storage.change(Change("tasks", 3, b'{"v":"after"}'))
        with pytest.raises(StorageFull):
            await storage.durable()
        await storage.aclose()

    asyncio.run(main())
    found = recovered(disk)["tasks"]
    assert [found[key] for key in (1, 2, 3)] == [b'{"v":"before"}', b'{"v":"freed"}', b'{"v":"deleted"}']
