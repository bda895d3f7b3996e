"""The admin socket's bounds: how long it waits, for how many, and that none of them holds up another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from drmaaticd import admin
from drmaaticd.admin import MAX_CONNECTIONS, AdminSocket
from drmaaticd.admin_protocol import SOCKET
from drmaaticd.auth.accounts import Accounts
from tests.launching import in_loop, until

ASK = b'{"do": "user.list"}\n'

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class People:
    """Stands for the accounts: their list is whatever a test wants it to be."""

    def __init__(self) -> None:
        self.users: Any = []
        self.asked = 0

    async def list_users(self) -> Any:
        self.asked += 1
        return self.users

    def __getattr__(self, name: str) -> Any:
        return self.list_users  # the other requests are not made here


@asynccontextmanager
async def listening(folder: Path, people: People) -> AsyncIterator[AdminSocket]:
    made = AdminSocket(folder, cast(Accounts, people))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def connect(folder: Path) -> Peer:
    return await asyncio.open_unix_connection(str(folder / SOCKET))


async def answer(peer: Peer) -> Any:
    reader, writer = peer
    line = await reader.readline()
    writer.close()
    return json.loads(line)


async def is_closed(peer: Peer) -> bool:
    """Wait until the daemon has closed a connection; whether it said nothing."""
    try:
        return await peer[0].read() == b""
    except ConnectionError:
        return True
    finally:
        peer[1].close()


def test_the_bounds_are_what_is_documented() -> None:
    assert (admin.REQUEST_SECONDS, admin.WRITE_SECONDS, MAX_CONNECTIONS) == (10.0, 60.0, 32)


@in_loop
async def test_a_request_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "REQUEST_SECONDS", 0.05)
    async with listening(tmp_path, People()):
        silent, half = await connect(tmp_path), await connect(tmp_path)
        half[1].write(ASK[:-1])
        assert await is_closed(silent)
        assert await is_closed(half)
        peer = await connect(tmp_path)
        peer[1].write(ASK)
        assert await answer(peer) == {"result": []}


@in_loop
async def test_an_answer_that_is_not_taken_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "WRITE_SECONDS", 0.05)
    people = People()
    people.users = "x" * 20_000_000
    async with listening(tmp_path, people) as made:
        reader, writer = await connect(tmp_path)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ASK)
        await until(lambda: people.asked == 1)
        await until(lambda: not made._connections)
        writer.close()


@in_loop
async def test_no_more_than_its_connections(tmp_path: Path) -> None:
    async with listening(tmp_path, People()) as made:
        peers = [await connect(tmp_path) for _ in range(MAX_CONNECTIONS)]
        await until(lambda: len(made._connections) == MAX_CONNECTIONS)
        assert await is_closed(await connect(tmp_path))
        for peer in peers:
            peer[1].write(ASK)
        assert [await answer(peer) for peer in peers] == [{"result": []}] * MAX_CONNECTIONS
        await until(lambda: not made._connections)
        again = await connect(tmp_path)
        again[1].write(ASK)
        assert await answer(again) == {"result": []}


@in_loop
async def test_one_that_takes_its_time_holds_up_no_other(tmp_path: Path) -> None:
    people = People()
    go = asyncio.Event()

    async def slow() -> Any:
        await go.wait()
        return ["slow"]

    async with listening(tmp_path, people):
        people.list_users = slow  # type: ignore[method-assign]
        first = await connect(tmp_path)
        first[1].write(ASK)
        await asyncio.sleep(0)
        second = await connect(tmp_path)
        second[1].write(b"nonsense\n")
        assert "error" in await answer(second)
        go.set()
        assert await answer(first) == {"result": ["slow"]}


@in_loop
async def test_closing_ends_who_waits(tmp_path: Path) -> None:
    async with listening(tmp_path, People()) as made:
        peer = await connect(tmp_path)
        await until(lambda: made._connections)
        await made.close()
        assert await is_closed(peer)
        assert not (tmp_path / SOCKET).exists()
        await made.close()
