"""Bytes on their way out: read ahead in a thread, written as fast as the client takes them.

A reader that takes nothing for `STALL_SECONDS` is given up; how slowly it takes does not matter.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Protocol

from tornado.iostream import IOStream

log = logging.getLogger(__name__)

#: Bytes of one block: large enough that the hop to a thread does not show.
BLOCK = 1024 * 1024

#: Seconds without any byte taken by the client after which a transfer is given up.
STALL_SECONDS = 60.0

#: Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info`` (linux/tcp.h, since 4.1).
_BYTES_ACKED = struct.Struct("=120xQ")


class Stalled(Exception):
    """The client took nothing for `STALL_SECONDS`."""


class Truncated(Exception):
    """A file has become shorter than it was when its transfer began."""


class Blocks:
    """Blocks of bytes from a blocking source, the next one being read while one is written.

    `read` returns the next block, ``b""`` at the end; it and `close` run in the executor's threads,
    one at a time.
    """

    def __init__(self, executor: Executor, read: Callable[[], bytes], close: Callable[[], None]) -> None:
        self._executor = executor
        self._read = read
        self._close = close
        self._ahead: Future[bytes] | None = None

    async def next(self) -> bytes:
        """The next block; ``b""`` at the end."""
        if self._ahead is None:
            self._ahead = self._executor.submit(self._read)
        # Shielded: a cancelled caller must not make us forget a read that is still going on.
        block = await asyncio.shield(asyncio.wrap_future(self._ahead))
        self._ahead = self._executor.submit(self._read) if block else None
        return block

    def close(self) -> None:
        """Close the source, as soon as no thread reads from it. Does not wait."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.done():
            ahead.add_done_callback(lambda _: self._close())
            return
        try:
            self._executor.submit(self._close).add_done_callback(_log_failure)
        except RuntimeError:  # the executor has been shut down
            self._close()


def _log_failure(closed: Future[None]) -> None:
    error = closed.exception()
    if error is not None:
        log.error("a file or archive could not be closed", exc_info=error)


class Readable(Protocol):
    """Something with bytes at offsets."""

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`."""


def file_reader(opened: Readable, start: int, end: int) -> Callable[[], bytes]:
    """A `Blocks` source: the bytes from `start` up to `end`. It raises `Truncated` if they end early."""
    offset = start

    def read() -> bytes:
        nonlocal offset
        wanted = min(BLOCK, end - offset)
        if wanted <= 0:
            return b""
        block = opened.pread(offset, wanted)
        if not block:
            raise Truncated(f"the file ends at byte {offset} instead of {end}")
        offset += len(block)
        return block

    return read


def iterator_reader(pieces: Iterator[bytes]) -> Callable[[], bytes]:
    """A `Blocks` source: the iterator's pieces, small ones put together."""

    def read() -> bytes:
        collected: list[bytes] = []
        size = 0
        for piece in pieces:
            collected.append(piece)
            size += len(piece)
            if size >= BLOCK:
                break
        return collected[0] if len(collected) == 1 else b"".join(collected)

    return read


async def taken(flushed: asyncio.Future[None], stream: IOStream) -> None:
    """Wait until what was written is in the kernel's hands.

    Raises `Stalled` if the client acknowledges nothing for `STALL_SECONDS`, `StreamClosedError` if
    it goes away. The kernel's own count is asked, since a socket is reported writable only when a
    third of its buffer, which may be megabytes, is free.
    """
    before: int | None = None
    while not flushed.done():
        now = _acknowledged(stream)
        if now is not None and now == before:
            raise Stalled
        before = now
        await asyncio.wait([flushed], timeout=STALL_SECONDS)
    flushed.result()


def _acknowledged(stream: IOStream) -> int | None:
    """Bytes that the peer has acknowledged so far, -1 where the kernel cannot tell."""
    if stream.closed():
        return None
    try:
        info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
    except OSError:
        return -1
    return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _BYTES_ACKED.size else -1
