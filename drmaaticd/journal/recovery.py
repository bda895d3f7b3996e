"""Reading a store back: the snapshot, then every segment after it, and what a crash may have left.

What a crash can explain is put right here: a half-written snapshot, segments that the snapshot holds
already, a last line that is incomplete. Anything else is damage, and nothing is served.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.errors import StoreError
from drmaaticd.journal import segments, snapshot
from drmaaticd.journal.segments import FILE_MODE, Change, Line
from drmaaticd.journal.snapshot import ADVICE, Meta

log = logging.getLogger(__name__)

#: Where damaged ends of the journal are kept.
TORN = "journal.torn"

Put = Callable[[Change], object]
"""Takes each change, in order; raises KeyError, TypeError or ValueError for one that is not valid."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where the journal goes on."""

    segment: int
    seq: int
    journal_size: int
    """Bytes of the segments that the snapshot does not hold."""
    snapshot_size: int


def recover(folder: Path, put: Put) -> Recovered:
    """Hand everything that is stored to `put`, mend what a crash left, make what a new store needs.

    Raises `StoreError` naming the place of the damage; then nothing has been changed. Raises OSError.
    """
    (folder / snapshot.TEMPORARY).unlink(missing_ok=True)
    numbers = segments.numbers(folder)
    path = folder / snapshot.NAME
    if not numbers and not path.exists():
        segments.create(folder, 1)
        numbers = [1]
    meta = snapshot.read(path, put) if path.exists() else Meta()
    live = _following(folder, meta, numbers)
    seq, torn = _replay(folder, live, meta.seq, put)
    _keep_torn(folder, torn)
    for number in numbers:
        if number <= meta.segment:  # the daemon died before it could drop what the snapshot holds
            segments.path_of(folder, number).unlink()
    size = sum(segments.path_of(folder, number).stat().st_size for number in live)
    snapshot_size = meta.size if path.exists() else _first_snapshot(folder)
    return Recovered(live[-1], seq, size, snapshot_size)


def _first_snapshot(folder: Path) -> int:
    """An empty snapshot, so that there is always one to look into."""
    writer = snapshot.Writer(folder)
    return writer.finish(0, 0)


def _following(folder: Path, meta: Meta, numbers: list[int]) -> list[int]:
    """The segments after the snapshot. A segment is made before the snapshot that needs it."""
    live = [number for number in numbers if number > meta.segment]
    for number in range(meta.segment + 1, max(live, default=meta.segment + 1) + 1):
        if number not in live:
            raise StoreError(f"{segments.path_of(folder, number)} is missing; {ADVICE}")
    return live


def _replay(folder: Path, live: list[int], seq: int, put: Put) -> tuple[int, list[Line]]:
    """Hand the records to `put`; the last sequence number, and the damaged lines at the end."""
    torn: list[Line] = []
    for line in _all_lines(folder, live):
        if line.record is None:
            torn.append(line)
            continue
        if torn:
            raise StoreError(
                f"{torn[0].place}: {torn[0].fault}, and valid records follow in {line.file.name}, "
                f"line {line.number}; {ADVICE}"
            )
        if line.record.seq != seq + 1:
            raise StoreError(
                f"{line.place}: record {line.record.seq} stands where {seq + 1} is due; {ADVICE}"
            )
        try:
            put(line.record.change)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{line.place}: the document is not valid: {error!r}; {ADVICE}") from error
        seq += 1
    return seq, torn


def _all_lines(folder: Path, numbers: list[int]) -> Iterator[Line]:
    for number in numbers:
        yield from segments.read(segments.path_of(folder, number))


def _keep_torn(folder: Path, torn: list[Line]) -> None:
    """Move the damaged end of the journal, which was never acknowledged as a whole, out of the way."""
    if not torn:
        return
    append_durably(folder / TORN, b"".join(line.raw for line in torn))
    for file in dict.fromkeys(line.file for line in reversed(torn)):  # the last first: no gap arises
        first = next(line for line in torn if line.file == file)
        _truncate(file, first.byte)
    log.warning(
        "the journal ends in a torn record, as after a crash: %s: %s; %d bytes are kept in %s and dropped",
        torn[0].place,
        torn[0].fault,
        sum(len(line.raw) for line in torn),
        folder / TORN,
    )


def append_durably(path: Path, data: bytes) -> None:
    """Add to a file that keeps what is set aside. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    with open(fd, "ab", buffering=0) as stream:
        view = memoryview(data if data.endswith(b"\n") else data + b"\n")
        while view:
            view = view[stream.write(view) :]
        os.fsync(fd)
    segments.sync_folder(path.parent)


def _truncate(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)
