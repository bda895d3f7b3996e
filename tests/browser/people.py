"""Tasks in a store before its daemon starts, and browsers whose people are signed in already."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext

from drmaaticd import admin_protocol
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task
from tests.e2e.daemon import Daemon

#: Milliseconds since 1970: when the first of the tasks was created, and between one and the next.
START = 1_790_000_000_000
STEP = 60_000

#: How the tasks of `fill` have ended, in turn.
ENDS = (State.DONE, State.DONE, State.DONE, State.FAILED, State.STOPPED)


def task(number: int, owner: str | None, script: str) -> Task:
    """The ended task of this number."""
    state = ENDS[number % len(ENDS)]
    created = START + number * STEP
    return Task(
        uuid=str(uuid.UUID(int=number + (4 << 76) + (8 << 60))),
        script=script,
        state=state,
        created=created,
        updated=created + 3000,
        started=created + 1000,
        ended=created + 3000,
        description=f"sample {number}" if number % 2 else "",
        owner=owner,
        payer=owner or "address:127.0.0.1",
        exit_status=3 if state is State.FAILED else 0,
    )


def fill(state_dir: Path, count: int, owners: tuple[str | None, ...], scripts: tuple[str, ...]) -> None:
    """Put `count` ended tasks into a store that no daemon holds; owners and scripts take turns.

    What they had of files is gone: beside the store is a tasks' folder that a daemon has used, empty.
    """
    (state_dir.parent / "tasks" / ".control").mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        store = Store.open(state_dir)
        for number in range(count):
            store.insert(task(number, owners[number % len(owners)], scripts[number % len(scripts)]))
        await store.durable()
        await store.close()

    # In a thread of its own: in the test's, the browser's event loop runs.
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()


def token(service: Daemon, name: str, group: str = "registered") -> str:
    """A token for the service account of this name."""
    told = admin_protocol.ask(service.state, "token.issue", name=name, group=group)
    return str(told["access_token"])


def signed_in(context: BrowserContext, service: Daemon, token: str) -> BrowserContext:
    """The browser of somebody who has pasted this token."""
    host = urlsplit(service.url).hostname
    context.add_cookies(
        [{"name": "drmaaticd_session", "value": f"pasted.{token}", "domain": host, "path": "/ui"}]
    )
    return context
