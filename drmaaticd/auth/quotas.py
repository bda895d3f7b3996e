"""How many live tasks and how much disk a caller may have, where the group bounds it.

A user's tasks are those that they own; an anonymous caller's, the unowned ones sent from their address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drmaaticd.auth import audit
from drmaaticd.auth.accounts import Accounts
from drmaaticd.callers import Caller
from drmaaticd.errors import Conflict, StorageFull
from drmaaticd.gate import FileGate
from drmaaticd.store import Store
from drmaaticd.units import format_size
from drmaaticd.workspace import Workspace


@dataclass(slots=True)
class Traffic:
    """What the uploads of one owner that are under way have written, for as long as there are any."""

    rooms: int = 0
    arriving: int = 0
    """Bytes of those that have not ended."""
    landed: int = 0
    """Bytes of those that have become tasks: who measured the folders before has not seen them."""


class Room:
    """What one upload may still write. `close` it when the upload has ended, whatever came of it."""

    def __init__(self, traffic: Traffic, caller: Caller, most: int, gone: Callable[[], object]) -> None:
        self._traffic = traffic
        self._caller = caller
        self._most = most
        self._gone = gone
        self._landed_before = traffic.landed
        self._taken = 0
        self._open = True
        self.used = 0
        """Bytes in the owner's folders, measured after this was made."""
        traffic.rooms += 1

    def check(self, size: int) -> None:
        """Raise `StorageFull` unless so many bytes more may be written."""
        traffic = self._traffic
        used = self.used + traffic.arriving + traffic.landed - self._landed_before
        if used + size > self._most:
            audit.record("limit.hit", user=self._caller.user, address=self._caller.address, limit="max_disk")
            raise StorageFull(
                f"Your tasks may take {format_size(self._most)} of the disk, and {used} bytes are taken: "
                "delete some that you need no more."
            )

    def take(self, size: int) -> None:
        """Count bytes that are about to be written. Raises `StorageFull`."""
        self.check(size)
        self._taken += size
        self._traffic.arriving += size

    def close(self, *, kept: bool = False) -> None:
        """The upload has ended; what it wrote is `kept` if it became a task. Idempotent."""
        if not self._open:
            return
        self._open = False
        traffic = self._traffic
        traffic.rooms -= 1
        traffic.arriving -= self._taken
        traffic.landed += self._taken if kept else 0
        if not traffic.rooms:
            self._gone()


class Quotas:
    """One instance; methods run on the loop."""

    def __init__(self, *, store: Store, accounts: Accounts, workspace: Workspace, files: FileGate) -> None:
        self._store = store
        self._accounts = accounts
        self._workspace = workspace
        self._files = files
        self._traffic: dict[str, Traffic] = {}
        self._measured: dict[str, dict[str, tuple[int, int]]] = {}
        """By whose they are: folder → (when its task last changed, its bytes)."""

    def check_live(self, caller: Caller) -> None:
        """Raise `Conflict` if the caller has as many live tasks as the group allows."""
        most = self._accounts.group_of(caller).max_live
        if most is None:
            return
        live = self._store.live_of(self._accounts.payer(caller))
        if live >= most:
            audit.record("limit.hit", user=caller.user, address=caller.address, limit="max_live")
            raise Conflict(f"{live} of your tasks have not ended, and {most} are allowed at a time.")

    async def room(self, caller: Caller) -> Room | None:
        """What the caller may still write, None if nothing bounds it. Raises `StorageFull` if nothing."""
        most = self._accounts.group_of(caller).max_disk
        if most is None:
            return None
        key = self._accounts.payer(caller)
        traffic = self._traffic.setdefault(key, Traffic())
        room = Room(traffic, caller, most, lambda: self._traffic.pop(key, None))
        try:
            room.used = await self._used(key)
            room.check(1)
        except BaseException:
            room.close()
            raise
        return room

    async def _used(self, key: str) -> int:
        """The bytes in all folders of this owner. Folders that change no more are measured once."""
        known = self._measured.get(key, {})
        now: dict[str, tuple[int, int]] = {}
        total = 0
        for uuid, updated, final in self._store.folders_of(key):
            before = known.get(uuid)
            settled = final and not self._store.children(uuid)
            if before is not None and settled and before[0] == updated:
                now[uuid] = before
            else:
                now[uuid] = (updated if settled else -1, await self._files.run(self._workspace.usage, uuid))
            total += now[uuid][1]
        self._measured[key] = now
        return total
