"""What a script's earlier tasks tell of the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from drmaaticd.callers import Caller
from drmaaticd.history import SAMPLE, History, spread
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task


def task(number: int, **fields: Any) -> Task:
    """A task of ``blast`` that waited a second and ran for two."""
    created = number * 10_000
    known = {
        "script": "blast",
        "state": State.DONE,
        "updated": created,
        "started": created + 1000,
        "ended": created + 3000,
    }
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    return Task(uuid=uuid, created=created, **known | fields)


def test_a_spread_holds_members_of_the_sample() -> None:
    assert spread([]) is None
    assert spread([2000]) == {"count": 1, "low": 2.0, "median": 2.0, "high": 2.0}
    assert spread([3000, 1000, 2000]) == {"count": 3, "low": 1.0, "median": 2.0, "high": 3.0}
    hundred = spread([1000 * number for number in range(100, 0, -1)])
    assert hundred == {"count": 100, "low": 10.0, "median": 50.0, "high": 90.0}
    assert spread([-500, 1000]) == {"count": 2, "low": 0.0, "median": 0.0, "high": 1.0}  # a clock went back


def test_only_done_tasks_of_the_script_count(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store.open(tmp_path)
        history = History(store, lambda caller, one: {"uuid": one.uuid})
        assert history.expected("blast") == {}
        store.insert(task(1))
        store.insert(task(2, state=State.FAILED, ended=22_000_000))
        store.insert(task(3, script="blastx", ended=33_000_000))
        store.insert(task(4, depends_on=(task(1).uuid,), started=49_000, ended=53_000))
        store.insert(task(5, state=State.RUNNING, ended=None))
        store.insert(task(6, deleted=60_001, ended=66_000_000))
        store.insert(task(7, started=None))
        expected = history.expected("blast")
        # What waited for another task tells nothing of the queue.
        assert expected["wait"] == {"count": 1, "low": 1.0, "median": 1.0, "high": 1.0}
        assert expected["run"] == {"count": 2, "low": 2.0, "median": 2.0, "high": 4.0}
        store.update(task(5).uuid, lambda known: known.changed(state=State.DONE, ended=58_000))
        assert history.expected("blast")["run"]["count"] == 3
        store.update(task(1).uuid, lambda known: known.changed(deleted=70_000))
        assert history.expected("blast")["run"]["count"] == 2
        await store.close()

    asyncio.run(main())


def test_the_last_ones_count_after_a_restart_too(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store.open(tmp_path)
        for number in range(1, SAMPLE + 11):
            store.insert(task(number, ended=number * 10_000 + (61_000 if number <= 10 else 2000)))
        await store.close()
        store = Store.open(tmp_path)
        found = History(store, lambda caller, one: {}).expected("blast")
        assert found["run"] == {"count": SAMPLE, "low": 1.0, "median": 1.0, "high": 1.0}
        await store.close()

    asyncio.run(main())


def test_the_latest_are_the_callers_own_of_this_very_script(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store.open(tmp_path)
        history = History(store, lambda caller, one: {"uuid": one.uuid})
        for number in range(1, 6):
            store.insert(task(number, owner="ORCID:me"))
        store.insert(task(6, owner="ORCID:me", script="blastx"))
        store.insert(task(7, owner="ORCID:you"))
        store.insert(task(8))
        me = Caller(user="ORCID:me", name="me", group="registered", is_admin=True, address="")
        assert history.latest(me, "blast", 3) == [{"uuid": task(number).uuid} for number in (5, 4, 3)]
        assert history.latest(Caller.anonymous(""), "blast", 3) == []
        await store.close()

    asyncio.run(main())
