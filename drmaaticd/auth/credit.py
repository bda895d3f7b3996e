"""CPU credit: what each caller may still spend on tasks, coming back with time, kept by the store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from drmaaticd.errors import TooManyRequests
from drmaaticd.settings import Group
from drmaaticd.store import Store

#: Accounts looked at before the loop is given back for a moment.
SLICE = 200

#: What is closer to a whole number than this is taken for it: sums of parts are never exact.
EXACT = 1e-6


class Credit:
    """Accounts of credit by key (a user's, or an address's). Changes are revocable (see `Store`).

    Who has spent nothing for so long that the account is full again is not on record.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._table = store.side("credit")
        self._now = now

    def available(self, key: str, group: Group) -> float:
        """What the caller may spend now."""
        known = self._table.get(key)
        if known is None:
            return float(group.cpu_credit_max)
        # The wall clock may go back; credit never does so.
        passed = max(0.0, self._now() - float(known["at"]))
        amount = float(known["amount"]) + passed * group.cpu_credit_regen
        return min(float(group.cpu_credit_max), amount)

    def wait_time(self, key: str, group: Group, required: int) -> int | None:
        """Whole seconds until so much is available; None if it never is."""
        missing = required - self.available(key, group) - EXACT
        if missing <= 0:
            return 0
        if required > group.cpu_credit_max or group.cpu_credit_regen <= 0:
            return None
        return math.ceil(missing / group.cpu_credit_regen)

    def check(self, key: str, group: Group, cost: int) -> None:
        """Raise `TooManyRequests` if so much cannot be spent now."""
        wait = self.wait_time(key, group, cost)
        if wait == 0:
            return
        left = math.floor(self.available(key, group) + EXACT)
        raise TooManyRequests(
            f"Not enough CPU credit: {cost} needed, {left} available"
            + ("." if wait is not None else ", and it will never be enough."),
            retry_after=wait,
        )

    def charge(self, key: str, group: Group, cost: int) -> None:
        """Spend credit. Raises `TooManyRequests`."""
        self.check(key, group, cost)
        if cost:
            self._table.put(key, {"amount": self.available(key, group) - cost, "at": self._now()})

    def give_back(self, key: str, group: Group, cost: int) -> None:
        """Return what was spent on a task that was refused. Stands."""
        if cost and key in self._table:
            amount = min(float(group.cpu_credit_max), self.available(key, group) + cost)
            self._table.put(key, {"amount": amount, "at": self._now()}, revocable=False)

    async def prune(self, group_of: Callable[[str], Group]) -> None:
        """Forget the accounts that are full. Stands."""
        for count, (key, _) in enumerate(self._table.items(), 1):
            group = group_of(key)
            if self.available(key, group) >= group.cpu_credit_max:
                self._table.delete(key, revocable=False)
            if count % SLICE == 0:
                await asyncio.sleep(0)
