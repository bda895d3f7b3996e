"""Accounts over a real store, with clocks that tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drmaaticd.auth.accounts import Accounts
from drmaaticd.auth.keys import KeyRing
from drmaaticd.config import Config, Group, Paths
from drmaaticd.gate import FileGate
from drmaaticd.settings import Auth, default_groups
from drmaaticd.store import Store

#: A start for clocks: a whole number of seconds.
START = 1_800_000_000.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, at: float = START) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Office:
    """Accounts and what they stand on."""

    def __init__(self, accounts: Accounts, store: Store, keys: KeyRing, clock: Clock) -> None:
        self.accounts = accounts
        self.store = store
        self.keys = keys
        self.clock = clock

    def caller(self, token: str, address: str = "192.0.2.1") -> Any:
        """Who a token is, as a request with it would be told."""
        return self.accounts.authenticate(f"Bearer {token}", address)


@asynccontextmanager
async def office(
    folder: Path, *, clock: Clock | None = None, groups: dict[str, Group] | None = None, **auth: Any
) -> AsyncIterator[Office]:
    """Accounts in this folder; opened again, they are those of before."""
    clock = Clock() if clock is None else clock
    config = Config(
        paths=Paths(state_dir=folder / "state", tasks_dir=folder / "tasks", scripts_dir=folder / "scripts.d"),
        auth=Auth(**auth),
        groups=default_groups() | {"staff": Group(admin=True)} | (groups or {}),
    )
    files = FileGate()
    store = Store.open(folder / "state")
    keys = KeyRing.open(folder / "state", clock())
    accounts = Accounts(config=config, store=store, keys=keys, files=files, now=clock, clock=clock)
    try:
        yield Office(accounts, store, keys, clock)
    finally:
        accounts.close()
        await store.close()
        files.close()
