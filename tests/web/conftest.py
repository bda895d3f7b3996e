"""The application over the double: in the loop of pytest-tornado, and in a thread for blocking clients."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import FakeService
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from drmaaticd.web.app import WebApplication, make_app, make_server

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


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """In place of pytest-tornado's own, which leaves the loop open that it finds or makes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    current = IOLoop.current()
    yield current
    current.close(all_fds=True)
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def app(service: FakeService, io_loop: IOLoop) -> WebApplication:
    return make_app(service)


@pytest.fixture
def http_server(
    app: WebApplication, io_loop: IOLoop, _unused_port: tuple[socket.socket, int]
) -> Iterator[HTTPServer]:
    """In place of pytest-tornado's own: with the limits of `make_server`."""
    server = make_server(app, None)
    server.add_socket(_unused_port[0])
    yield server
    server.stop()
    io_loop.run_sync(server.close_all_connections)
    io_loop.run_sync(app.close)


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


@pytest.fixture
def running(service: FakeService) -> Iterator[Running]:
    server = Running(service)
    yield server
    server.stop()
    assert not server.app.requests_under_way
