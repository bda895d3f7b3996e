"""Connections whose requests reach no handler: what Tornado's parser gives up is answered in our own form.

Of itself Tornado answers a bare 400 to what is no HTTP, and nothing at all to a head over its limit.
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from collections.abc import Awaitable
from types import TracebackType
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, UnsatisfiableReadError

from drmaaticd.errors import DrmaaticdError, HeadTooLarge, InvalidInput
from drmaaticd.web import problem, requestid
from drmaaticd.web.background import Background
from drmaaticd.web.base import HEADERS

log = logging.getLogger(__name__)

#: Bytes of a request's line and headers.
MAX_HEADER = 16 * 1024

#: After such an answer, so much more is read and dropped, for so long (seconds): a connection that is
#: closed with unread bytes is reset, and the answer may be lost with it (RFC 9112, section 9.6).
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0

#: What Tornado writes where its parser fails, before it closes the connection.
_BARE = b"HTTP/1.1 400 Bad Request\r\n\r\n"

_BROKEN = InvalidInput("The request is no valid HTTP/1.1, or its body is framed wrongly.")
_TOO_LARGE = HeadTooLarge(f"A request's line and headers have at most {MAX_HEADER} bytes.")

_Trace = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class ClientStream(IOStream):
    """A client's connection."""

    def __init__(self, sock: socket.socket, background: Background, **settings: Any) -> None:
        super().__init__(sock, **settings)
        self._background = background
        self._if_endless: DrmaaticdError = _BROKEN
        """What it is if what is being read does not end within its limit."""
        self._lingers = False

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read a head, which alone is read so."""
        self._if_endless = _TOO_LARGE
        return super().read_until_regex(regex, max_bytes)

    def read_until(self, delimiter: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read the line before a chunk, which alone is read so."""
        self._if_endless = _BROKEN
        return super().read_until(delimiter, max_bytes)

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Write what a handler writes, and more than Tornado would of itself."""
        if data == _BARE:
            self._lingers = True
            data = _answer(_BROKEN)
        return super().write(data)

    def close(self, exc_info: bool | BaseException | _Trace | None = False) -> None:
        """Close the connection, after an answer if something was longer than allowed."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed() and not self.writing():
            self._lingers = True
            try:
                self.socket.send(_answer(self._if_endless))
            except OSError as error:
                log.debug("a refusal could not be sent: %s", error)
        super().close(exc_info)

    def close_fd(self) -> None:
        """Give the socket up: at once, or once its client has had the time to see the answer."""
        if not self._lingers:
            super().close_fd()
            return
        sock, self.socket = self.socket, None  # type: ignore[assignment]  # as Tornado does
        self._background.add(_linger(sock))


class Server(HTTPServer):
    """Tornado's server on connections of the kind above."""

    def initialize(self, *args: Any, **settings: Any) -> None:
        """Take what Tornado's own takes."""
        super().initialize(*args, **settings)
        self._background = Background()

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection. Tornado's own stream has not begun to read: its socket is taken over."""
        limits = {"max_buffer_size": stream.max_buffer_size, "read_chunk_size": stream.read_chunk_size}
        super().handle_stream(ClientStream(stream.socket, self._background, **limits), address)

    async def close_all_connections(self) -> None:
        """Close them, those too that were given up but a moment ago."""
        await super().close_all_connections()
        await self._background.join()


def _answer(error: DrmaaticdError) -> bytes:
    body = problem.problem_of(error).body()
    headers = {
        **HEADERS,
        requestid.HEADER: requestid.accept(None),
        "Content-Type": problem.CONTENT_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _linger(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    try:
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (dropped := await loop.sock_recv(sock, 64 * 1024)):
                left -= len(dropped)
    except (OSError, TimeoutError) as error:
        log.debug("the client of a refused request: %r", error)
    finally:
        sock.close()
