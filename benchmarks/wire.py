"""HTTP/1.1 on raw sockets, for clients that cost little: keep-alive, no pipelining, one thread.

It understands what the daemon and the bare handlers send (a Content-Length always), and nothing else.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

#: Bytes asked for in one call when a large answer is received.
RECEIVE_SIZE = 1024 * 1024

#: Bytes asked for in one call when small answers are received.
SMALL_SIZE = 64 * 1024

#: Seconds without any byte after which a benchmark gives up.
PATIENCE = 120.0

BOUNDARY = "benchmark-7d1f4c"


class Unexpected(Exception):
    """An answer was not what a benchmark can measure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, the header as it came, and the body; of `receive` only the body's length."""

    status: int
    header: bytes
    body: bytes
    length: int

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def head(method: str, path: str, **headers: str | int) -> bytes:
    """A request's header; ``_`` in the names of fields stands for ``-``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode()


def form(path: str, fields: dict[str, str]) -> bytes:
    """A whole POST request with a form."""
    body = urlencode(fields).encode()
    kind = "application/x-www-form-urlencoded"
    return head("POST", path, Content_Type=kind, Content_Length=len(body)) + body


def multipart(fields: dict[str, str], file: str) -> tuple[bytes, bytes]:
    """What comes before and after the content of the one file in a multipart form."""
    begin = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    begin += (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{file}"; filename="{file}.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return begin.encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


class Connection:
    """One connection; `exchange` sends a request and waits for the answer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def exchange(self, *pieces: bytes | memoryview) -> Answer:
        """Send the pieces and read the whole answer."""
        self.send(pieces)
        header, begun = self._header()
        length = content_length(header)
        body = bytearray(begun)
        while len(body) < length:
            body += self._some(SMALL_SIZE)
        return Answer(status_of(header), header, bytes(body), length)

    def send(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Send the pieces of a request."""
        for piece in pieces:
            self.socket.sendall(piece)

    def receive(self, request: bytes, buffer: bytearray) -> Answer:
        """Send a request and take its answer into the buffer, again and again, without keeping it."""
        self.socket.sendall(request)
        header, begun = self._header()
        length = content_length(header)
        got = len(begun)
        while got < length:
            size = self.socket.recv_into(buffer)
            if not size:
                raise Unexpected(f"the connection ended after {got} of {length} bytes")
            got += size
        return Answer(status_of(header), header, b"", length)

    def _header(self) -> tuple[bytes, bytes]:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._some(SMALL_SIZE)
        return data[: end + 4], data[end + 4 :]

    def _some(self, size: int) -> bytes:
        data = self.socket.recv(size)
        if not data:
            raise Unexpected("the connection ended")
        return data


def status_of(header: bytes) -> int:
    """The status of an answer."""
    return int(header[9:12])


def content_length(header: bytes) -> int:
    """The length of an answer's body; 0 if it has none."""
    name = b"\r\nContent-Length: "
    start = header.find(name)
    if start < 0:
        if status_of(header) in (204, 304):
            return 0
        raise Unexpected(f"no Content-Length in {header!r}")
    start += len(name)
    return int(header[start : header.index(b"\r", start)])


@dataclass(frozen=True, slots=True)
class Load:
    """What `hammer` found: answers a second, and the share of its time in which it was busy itself."""

    rate: float
    busy: float


class _Peer:
    """A connection of `hammer`'s: what has come of the answer, and the next request."""

    __slots__ = ("data", "next", "socket")

    def __init__(self, port: int, first: int) -> None:
        self.socket = Connection(port).socket
        self.data = b""
        self.next = first

    def answered(self, status: bytes) -> bool:
        """Receive; whether the answer is complete."""
        data = self.socket.recv(SMALL_SIZE)
        if not data:
            raise Unexpected("the connection ended")
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0 or len(self.data) < end + 4 + content_length(self.data[: end + 4]):
            return False
        if self.data[9:12] != status:
            raise Unexpected(self.data.decode(errors="replace"))
        self.data = b""
        return True


def hammer(port: int, requests: Sequence[bytes], *, connections: int, seconds: float, status: int) -> Load:
    """Send the requests over and over, on each connection one at a time, and count the answers.

    Raises `Unexpected` for any answer with another status.
    """
    peers = [_Peer(port, number) for number in range(connections)]
    by_fd = {peer.socket.fileno(): peer for peer in peers}
    code = str(status).encode()
    count = 0
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        cpu, begun = time.process_time(), time.perf_counter()
        for peer in peers:
            peer.socket.sendall(requests[peer.next % len(requests)])
        while (now := time.perf_counter()) - begun < seconds:
            for fd, _ in poll.poll(PATIENCE):
                peer = by_fd[fd]
                if peer.answered(code):
                    count += 1
                    peer.next += connections
                    peer.socket.sendall(requests[peer.next % len(requests)])
        passed, busy = now - begun, time.process_time() - cpu
    for peer in peers:  # the last answers are waited for, so that the next round meets an idle server
        while not peer.answered(code):
            pass
        peer.socket.close()
    return Load(count / passed, busy / passed)
