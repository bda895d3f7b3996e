"""The application over the double in a thread of its own, and the wait for what it does."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from drmaaticd.web.app import make_app, make_server
from tests.web.fakes import FakeService

#: Seconds after which a wait has failed.
PATIENCE = 20.0


def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    pytest.fail(f"{what} did not come true")


class Running:
    """A server in a thread of its own, for clients that block."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(PATIENCE)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.app = make_app(self.service)
        server = make_server(self.app, None)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        server.add_socket(sock)
        self._started.set()
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()
        await self.app.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
