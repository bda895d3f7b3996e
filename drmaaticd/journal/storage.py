"""The TinyDB storage that appends instead of rewriting, so that a write costs what it changes.

Documents live in memory as JSON bytes, which are replaced and never altered. Each change is put into
memory at once and into a segment soon; whoever awaits `durable` shares the sync with all others. When
the segments have grown, they are folded into a new snapshot, in slices. Everything but the opening
runs on the loop; what blocks runs in two threads, one for the segments and one for the snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import orjson
from tinydb.storages import Storage

from drmaaticd.errors import StorageFull, Unavailable
from drmaaticd.journal import recovery, segments, snapshot
from drmaaticd.journal.buffer import Buffer
from drmaaticd.journal.segments import Change

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Changes, and about how many bytes of them, that are written with one sync.
BATCH = 1000
BATCH_BYTES = 4 * 1024 * 1024

#: The segments are folded into a snapshot when they are larger than this many bytes and than this part
#: of the snapshot: folding then costs a constant times what was written.
FOLD_BYTES = 4 * 1024 * 1024
FOLD_RATIO = 0.5

#: Documents, and about how many bytes of them, that are picked for the snapshot without giving the loop
#: back. Picking is a look-up each: well under a millisecond.
SLICE = 500
SLICE_BYTES = 1024 * 1024

#: Seconds between two tries to write what stands while the disk is full.
RETRY = 1.0

Observer = Callable[[Change, bytes | None], None]
"""Called with each change, before it is in memory, and the version of the document before it.

What it raises (KeyError, TypeError, ValueError) keeps the change from being made.
"""


class Documents(Mapping[str, dict[str, Any]]):
    """A table as TinyDB reads it: ids as strings, and a fresh copy of each document."""

    def __init__(self, data: Mapping[int, bytes]) -> None:
        self.data: Final = data

    def __getitem__(self, key: str) -> dict[str, Any]:
        try:
            document: dict[str, Any] = orjson.loads(self.data[int(key)])
        except ValueError as error:
            raise KeyError(key) from error
        return document

    def __iter__(self) -> Iterator[str]:
        return map(str, self.data)

    def __len__(self) -> int:
        return len(self.data)


class JournalStorage(Storage):
    """All tables of one folder, in memory and on the disk."""

    def __init__(self, folder: Path, observe: Observer, *, fold_bytes: int = FOLD_BYTES) -> None:
        """Read what is stored. Blocks. Raises `StoreError`, OSError."""
        self.tables: dict[str, dict[int, bytes]] = {snapshot.FIRST_TABLE: {}}
        self.observe = observe
        self.on_undo: Callable[[Change], None] = lambda change: None
        """Called after a change was undone because the disk is full."""
        self.on_failure: Callable[[str], None] = lambda reason: None
        """Called once, on the loop, when the store has failed."""
        self.on_folded: Callable[[], None] = lambda: None
        self.failed: str | None = None
        self._folder = folder
        self._fold_bytes = fold_bytes
        self._buffer = Buffer()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._rotation: asyncio.Future[tuple[int, int]] | None = None
        self._folding: asyncio.Task[None] | None = None
        self._full = False
        self._closed = False
        found = recovery.recover(folder, self._set)
        self._snapshot_size = found.snapshot_size
        self._fold_above = 0
        self._writer = segments.Writer(folder, found.segment, found.seq, found.journal_size)
        self._journal_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._snapshot_thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")

    # -- what TinyDB asks of a storage -----------------------------------------------------------

    def read(self) -> dict[str, Any]:
        """All tables. Nothing is copied before it is looked at."""
        return {name: Documents(data) for name, data in self.tables.items()}

    def write(self, data: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> None:
        """Make the tables be these. This compares everything: `change` is the way to change little."""
        for name in (*self.tables, *(set(data) - set(self.tables))):
            if not isinstance(data.get(name), Documents):  # those are what is there already
                self.replace(name, data.get(name, {}))

    def replace(self, name: str, documents: Mapping[Any, Mapping[str, Any]]) -> None:
        """Make a table hold these documents and no others, by the changes that this takes."""
        present = self.tables.get(name, {})
        wanted = {int(key): orjson.dumps(document) for key, document in documents.items()}
        for key in present.keys() - wanted.keys():
            self.change(Change(name, key, None))
        for key, data in wanted.items():
            if present.get(key) != data:
                self.change(Change(name, key, data))

    # -- changing --------------------------------------------------------------------------------

    def change(self, change: Change, *, revocable: bool = True, frees: bool = False) -> None:
        """Put a change into memory, and into the journal soon. Raises `Unavailable`.

        A revocable change is undone if the disk is full; the next `durable` says so, if nothing is
        awaited in between. A standing one stays, and is tried again until it can be written. One that
        `frees` room on the disk, soon, may use what is set aside for such.
        """
        self._check()
        before = self._set(change)
        self._buffer.add(change, before, revocable=revocable, frees=frees)
        self._wake()

    def _set(self, change: Change) -> bytes | None:
        documents = self.tables.setdefault(change.table, {})
        before = documents.get(change.id)
        self.observe(change, before)
        if change.data is None:
            documents.pop(change.id, None)
        else:
            documents[change.id] = change.data
        return before

    def _check(self) -> None:
        if self.failed is not None:
            raise Unavailable("The store has failed.")
        if self._closed:
            raise Unavailable("The store is closed.")

    async def durable(self) -> None:
        """Return when everything changed so far is on the disk.

        Raises `StorageFull` if it could not be written (revocable changes are undone then), and
        `Unavailable` if nobody can know.
        """
        self._check()
        if self._buffer.done == self._buffer.made:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._buffer.made, waiter))
        self._wake()
        await waiter

    # -- writing ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._write_out(), name="journal")

    async def _write_out(self) -> None:
        """Write until nothing waits, or the disk is full."""
        self._stop_retrying()
        refused = -1
        try:
            while self.failed is None:
                if self._rotation is not None:
                    await self._rotate(self._rotation)
                elif self._buffer.waiting and self._buffer.made > refused:
                    if not await self._commit():
                        refused = self._buffer.made
                else:
                    return
        except OSError as error:
            self._fail(f"writing the journal failed: {error}")
        except Exception as error:
            log.exception("the journal failed")
            self._fail(repr(error))

    async def _commit(self) -> bool:
        """Write the next batch; False if there is no room for it."""
        # Also for what stands before it: later changes may build on those.
        frees = self._buffer.frees
        batch = self._buffer.take(BATCH, BATCH_BYTES)
        try:
            await self._in_thread(self._journal_thread, self._writer.append, batch, frees=frees)
        except segments.Full as full:
            self._refuse(str(full))
            return False
        self._buffer.acknowledge()
        while self._waiters and self._waiters[0][0] <= self._buffer.done:
            waiter = self._waiters.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        if self._full and not frees:
            self._full = False
            log.info("the store can be written again")
        self._fold_if_due()
        return True

    def _refuse(self, reason: str) -> None:
        for undo in self._buffer.refuse():
            self._set(undo)
            self.on_undo(undo)
        self._end_waiters(lambda: StorageFull("There is no room to store this."))
        if not self._full:
            self._full = True
            log.warning("the store cannot be written, the disk is full: %s: %s", self._folder, reason)
        if self._buffer.waiting:
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._wake)

    def _fail(self, reason: str) -> None:
        """Acknowledge nothing more, ever: after a failed sync nobody knows what is on the disk."""
        self.failed = reason
        self._stop_retrying()
        self._end_waiters(lambda: Unavailable("The store has failed."))
        if self._rotation is not None and not self._rotation.done():
            self._rotation.set_exception(Unavailable("The store has failed."))
        self._rotation = None
        self.on_failure(reason)

    def _end_waiters(self, error: Callable[[], Exception]) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()[1]
            if not waiter.done():
                waiter.set_exception(error())

    def _stop_retrying(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    @staticmethod
    async def _in_thread(
        thread: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, lambda: function(*args, **kwargs))

    # -- folding ---------------------------------------------------------------------------------

    def _fold_if_due(self) -> None:
        size = self._writer.size
        if size <= max(self._fold_bytes, self._fold_above, self._snapshot_size * FOLD_RATIO):
            return
        if self._folding is None or self._folding.done():
            self._folding = asyncio.get_running_loop().create_task(self._fold(), name="folding")

    async def _rotate(self, asked: asyncio.Future[tuple[int, int]]) -> None:
        """Begin the next segment, between two batches: all that is acknowledged is before it."""
        try:
            closed = await self._in_thread(self._journal_thread, self._writer.rotate)
        except segments.Full as full:
            if not asked.done():
                asked.set_exception(full)
        else:
            if not asked.done():
                asked.set_result(closed)
        self._rotation = None

    async def _fold(self) -> None:
        """Write a snapshot of what is durable and drop the segments that it holds.

        Documents that change meanwhile may be in it in either version: the next segment, which is
        replayed on top of it, holds their changes.
        """
        try:
            self._rotation = asyncio.get_running_loop().create_future()
            self._wake()
            segment, seq = await self._rotation
            await self._write_snapshot(segment, seq)
            await self._in_thread(self._journal_thread, self._writer.drop, segment)
        except Unavailable:
            return
        except (segments.Full, OSError) as error:
            self._not_folded(error)
        except Exception as error:
            log.exception("folding the journal failed")
            self._fail(repr(error))
        else:
            self._fold_above = 0
            self.on_folded()

    def _not_folded(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno not in segments.FULL:
            self._fail(f"writing the snapshot failed: {error}")
            return
        self._fold_above = self._writer.size + self._fold_bytes
        log.warning("the journal could not be folded, the disk is full; it grows on: %s", error)

    async def _write_snapshot(self, segment: int, seq: int) -> None:
        thread = self._snapshot_thread
        writer = await self._in_thread(thread, snapshot.Writer, self._folder)
        try:
            for name in (snapshot.FIRST_TABLE, *(self.tables.keys() - {snapshot.FIRST_TABLE})):
                if name != snapshot.FIRST_TABLE:
                    await self._in_thread(thread, writer.table, name)
                for rows in self._slices(name):
                    await self._in_thread(thread, writer.rows, rows)
            self._snapshot_size = await self._in_thread(thread, writer.finish, segment, seq)
        except BaseException:
            # Not awaited: this may be a cancellation. The thread does it after what it is doing.
            thread.submit(writer.discard)
            raise

    def _slices(self, table: str) -> Iterator[list[tuple[int, bytes]]]:
        """The durable documents of a table, a slice at a time; they may change between two slices."""
        documents = self.tables[table]
        keys = dict.fromkeys(documents)
        keys.update(dict.fromkeys(key for name, key in self._buffer.touched() if name == table))
        rows: list[tuple[int, bytes]] = []
        size = 0
        for key in keys:
            data = self._buffer.durable((table, key), documents.get(key))
            if data is not None:
                rows.append((key, data))
                size += len(data)
            if len(rows) >= SLICE or size >= SLICE_BYTES:
                yield rows
                rows, size = [], 0
        yield rows

    # -- the end ---------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Write what waits, fold, end the threads. What cannot be written is logged. Idempotent."""
        if self._closed:
            return
        try:
            if self.failed is None:
                await self._finish()
        finally:
            self._closed = True
            self._stop_retrying()
            self._end_waiters(lambda: Unavailable("The store is closed."))
            if self._folding is not None and not self._folding.done():
                self._folding.cancel()
                await asyncio.wait([self._folding])
            for thread in (self._journal_thread, self._snapshot_thread):
                thread.shutdown(wait=True)
            self._writer.close()

    async def _finish(self) -> None:
        try:
            await self.durable()
        except StorageFull:
            log.error("the disk is full: changes of %d records are lost", len(self._buffer.touched()))
        except Unavailable:
            return
        if self._folding is not None:
            await asyncio.wait([self._folding])
        if self.failed is None and self._writer.size:
            await self._fold()  # so that the snapshot by itself tells everything

    def close(self) -> None:
        """TinyDB's way to close cannot wait for the journal.

        Raises RuntimeError: `aclose` is what to await.
        """
        raise RuntimeError("await aclose() instead")
