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

#: Bytes of all transfers' blocks together, each of which holds two. Readers may be slow, and many: then
#: the blocks are smaller, but never than `LEAST_BLOCK`.
HELD = 64 * 1024 * 1024
LEAST_BLOCK = 64 * 1024

#: Seconds without any byte taken by the client after which a transfer is given up.
STALL_SECONDS = 60.0

#: Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info`` (linux/tcp.h, since 4.1).
_BYTES_ACKED = struct.Struct("=120xQ")


class Stalled(Exception):
    """The client took nothing for `STALL_SECONDS`."""


class Truncated(Exception):
    """A file has become shorter than it was when its transfer began."""


#: What returns up to so many bytes, or a piece of an archive more; ``b""`` at the end.
Read = Callable[[int], bytes]


class Blocks:
    """Blocks of bytes from a blocking source, the next one being read while one is written.

    `read` and `close` run in the executor's threads, one at a time.
    """

    _open = 0
    """Transfers under way in this process."""

    def __init__(self, executor: Executor, read: Read, close: Callable[[], None]) -> None:
        self._executor = executor
        self._read = read
        self._close = close
        self._ahead: Future[bytes] | None = None
        self._closed = False
        Blocks._open += 1

    @classmethod
    def size(cls) -> int:
        """Bytes of the next block, so that all transfers together hold no more than `HELD`."""
        return max(LEAST_BLOCK, min(BLOCK, HELD // (2 * max(cls._open, 1))))

    async def next(self) -> bytes:
        """The next block; ``b""`` at the end."""
        if self._ahead is None:
            self._ahead = self._executor.submit(self._read, self.size())
        # Shielded: a cancelled caller must not make us forget a read that is still going on.
        block = await asyncio.shield(asyncio.wrap_future(self._ahead))
        self._ahead = self._executor.submit(self._read, self.size()) if block else None
        return block

    def close(self) -> None:
        """Close the source, as soon as no thread reads from it. Does not wait."""
        if not self._closed:
            self._closed = True
            Blocks._open -= 1
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


def file_reader(opened: Readable, start: int, end: int) -> Read:
    """A `Blocks` source: the bytes from `start` up to `end`. It raises `Truncated` if they end early."""
    offset = start

    def read(most: int) -> bytes:
        nonlocal offset
        wanted = min(most, end - offset)
        if wanted <= 0:
            return b""
        block = opened.pread(offset, wanted)
        if not block:
            raise Truncated(f"the file ends at byte {offset} instead of {end}")
        offset += len(block)
        return block

    return read


def iterator_reader(pieces: Iterator[bytes]) -> Read:
    """A `Blocks` source: the iterator's pieces, small ones put together."""

    def read(most: int) -> bytes:
        collected: list[bytes] = []
        size = 0
        for piece in pieces:
            collected.append(piece)
            size += len(piece)
            if size >= most:
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
