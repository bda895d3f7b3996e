"""The application over the double: in the loop of pytest-tornado, and in a thread for blocking clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from drmaaticd.web.app import WebApplication, make_app, make_server
from tests.web.fakes import FakeService
from tests.web.running import Running


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


@pytest.fixture
def running(service: FakeService) -> Iterator[Running]:
    server = Running(service)
    yield server
    server.stop()
    assert not server.app.requests_under_way
