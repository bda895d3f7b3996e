"""HTTP by hand: requests as bytes, answers as they come, for tests of framing and timing."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

BOUNDARY = "----drmaaticd"


@dataclass
class Answer:
    """One answer from a socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> dict[str, Any]:
        assert self.status == status, self
        assert self.headers["content-type"] == "application/problem+json"
        document = self.json()
        assert document["status"] == status
        return dict(document)


def read_answer(sock: socket.socket, *, head: bool = False) -> Answer:
    """The next answer; further bytes stay in the socket."""
    raw = b""
    while not raw.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError(f"closed after {raw!r}")
        raw += byte
    lines = raw.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    body = b""
    if not head and headers.get("transfer-encoding") == "chunked":
        body = b"".join(iter(lambda: read_chunk(sock), b""))
    elif not head and status not in (204, 304) and status >= 200:
        length = int(headers["content-length"])
        while len(body) < length:
            data = sock.recv(length - len(body))
            if not data:
                raise ConnectionError(f"closed after {len(body)} of {length} bytes")
            body += data
    return Answer(status, headers, body)


def read_line(sock: socket.socket) -> bytes:
    """The next line, without its end."""
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError(f"closed after {line!r}")
        line += byte
    return line[:-2]


def read_chunk(sock: socket.socket) -> bytes:
    """The next chunk of a chunked body (RFC 9112, section 7.1); empty at its end."""
    length = int(read_line(sock), 16)
    data = b""
    while len(data) < length:
        data += sock.recv(length - len(data))
    assert read_line(sock) == b""
    return data


def at_end(sock: socket.socket) -> bool:
    """Whether the server closes now, without another byte and without a reset."""
    return sock.recv(1) == b""


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post_head(
    *, length: int | None, kind: str = f"multipart/form-data; boundary={BOUNDARY}", **headers: str
) -> bytes:
    lines = ["POST /task/ HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunked(body: bytes, size: int) -> list[bytes]:
    """The chunks of a chunked body, its end too."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
