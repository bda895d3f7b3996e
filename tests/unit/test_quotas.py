"""How much one owner's uploads may write together, whichever ends first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drmaaticd.auth.quotas import Quotas, Room
from drmaaticd.callers import Caller
from drmaaticd.config import Group
from drmaaticd.errors import Conflict, StorageFull
from drmaaticd.gate import FileGate
from drmaaticd.states import State
from drmaaticd.tasks import Task
from drmaaticd.workspace import Workspace
from tests.accounts import Office, office

CALLER = Caller.anonymous("192.0.2.1")
PAYER = "address:192.0.2.1"
GROUPS = {"anonymous": Group(max_disk=100_000, max_live=2)}


def with_quotas(tmp_path: Path, visit: Callable[[Quotas, Office, Workspace], Awaitable[None]]) -> None:
    async def main() -> None:
        files = FileGate()
        workspace = Workspace(tmp_path / "tasks")
        async with office(tmp_path, groups=GROUPS) as place:
            await files.run(workspace.prepare, lambda uuid: True)
            quotas = Quotas(store=place.store, accounts=place.accounts, workspace=workspace, files=files)
            await visit(quotas, place, workspace)
            await place.store.durable()
        files.close()

    asyncio.run(main())


async def room(quotas: Quotas, caller: Caller = CALLER) -> Room:
    made = await quotas.room(caller)
    assert made is not None
    return made


def task(number: int, **changes: object) -> Task:
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    fields = {"uuid": uuid, "script": "s", "state": State.DONE, "created": number, "updated": number}
    return Task(**(fields | {"folder": uuid, "payer": PAYER} | changes))  # type: ignore[arg-type]


def test_uploads_at_the_same_time_share_the_room(tmp_path: Path) -> None:
    async def visit(quotas: Quotas, place: Office, workspace: Workspace) -> None:
        first, second = await asyncio.gather(room(quotas), room(quotas))
        first.take(60_000)
        with pytest.raises(StorageFull, match="60000 bytes are taken"):
            second.take(50_000)
        second.take(40_000)
        other = await room(quotas, Caller.anonymous("192.0.2.2"))
        other.take(100_000)
        first.close(kept=True)  # a task now, whose folder the second has not measured
        with pytest.raises(StorageFull):
            second.take(1)
        second.close()
        second.close(kept=True)
        third = await room(quotas)
        third.take(100_000)
        for one in (third, other):
            one.close()
        assert quotas._traffic == {}

    with_quotas(tmp_path, visit)


def test_what_was_broken_off_is_free_again(tmp_path: Path) -> None:
    async def visit(quotas: Quotas, place: Office, workspace: Workspace) -> None:
        first, second = await room(quotas), await room(quotas)
        first.take(90_000)
        first.close()
        second.take(90_000)
        second.close()

    with_quotas(tmp_path, visit)


def test_folders_count_until_they_are_gone(tmp_path: Path) -> None:
    async def visit(quotas: Quotas, place: Office, workspace: Workspace) -> None:
        def put(number: int, size: int, **changes: object) -> Task:
            made = task(number, **changes)
            place.store.insert(made)
            folder = tmp_path / "tasks" / made.uuid
            folder.mkdir()
            (folder / "out.txt").write_bytes(b"x" * size)
            return made

        mine = put(1, 60_000)
        put(2, 600_000, payer="address:192.0.2.9")
        put(3, 600_000, owner="ORCID:somebody")
        made = await room(quotas)
        assert 60_000 <= made.used < 100_000
        made.close()
        grown = tmp_path / "tasks" / mine.uuid / "more.txt"
        grown.write_bytes(b"x" * 200_000)
        place.store.update(mine.uuid, lambda known: known.changed(description="changed"))
        with pytest.raises(StorageFull):
            await quotas.room(CALLER)
        assert quotas._traffic == {}
        place.store.update(mine.uuid, lambda known: known.changed(deleted=9, purged=True))
        made = await room(quotas)
        assert made.used == 0
        made.close()

    with_quotas(tmp_path, visit)


def test_live_tasks(tmp_path: Path) -> None:
    async def visit(quotas: Quotas, place: Office, workspace: Workspace) -> None:
        for number, state in enumerate((State.RUNNING, State.DONE, State.FAILED), 1):
            place.store.insert(task(number, state=state))
        place.store.insert(task(4, state=State.RUNNING, owner="ORCID:somebody"))
        place.store.insert(task(5, state=State.RUNNING, payer="address:192.0.2.9"))
        quotas.check_live(CALLER)
        place.store.insert(task(6, state=State.QUEUED_ACTIVE))
        with pytest.raises(Conflict, match="2 of your tasks have not ended, and 2 are allowed"):
            quotas.check_live(CALLER)
        # Who takes a task over has it counted from then on.
        place.store.update(task(6).uuid, lambda known: known.changed(owner="ORCID:somebody"))
        quotas.check_live(CALLER)

    with_quotas(tmp_path, visit)
