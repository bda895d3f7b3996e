"""A store full of ended tasks, and a token of one who owns some of them.

``python -m benchmarks.records STATE_DIR COUNT``, as its own process, so that what it takes in memory is
gone when it ends; the token is what it writes.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid as uuids
from collections.abc import Iterator
from pathlib import Path

from benchmarks.programs import ROOT
from drmaaticd.auth.keys import KeyRing
from drmaaticd.auth.tokens import Tokens
from drmaaticd.auth.users import User, Users
from drmaaticd.settings import default_groups
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task, now_ms

#: Milliseconds over which the tasks are spread: less than what the daemon keeps them for.
PERIOD = 80 * 24 * 3600 * 1000

#: Tasks that become durable together.
BATCH = 1000

OWNERS = 50

#: Seconds for which the token counts.
LIFETIME = 24 * 3600.0


#: The owner of the second task, and of every fiftieth after it.
OWNER = User(source="ORCID", name="0000-0002-1825-0001", created=0)


def uuid_of(number: int) -> str:
    """The UUID of the task of this number: always the same one, and of version 4."""
    return str(uuids.UUID(int=random.Random(number).getrandbits(128), version=4))


def task_of(number: int, count: int, now: int) -> Task:
    """One ended task with what tasks usually carry; every other one has an owner."""
    uuid = uuid_of(number)
    created = now - PERIOD + number * (PERIOD // count) - 60_000
    return Task(
        uuid=uuid,
        script=("fasta-stats", "checksums", "align")[number % 3],
        state=State.DONE if number % 10 else State.FAILED,
        created=created,
        updated=created + 42_000,
        started=created + 1_500,
        ended=created + 42_000,
        description=f"sample {number}, second run",
        params=(
            {"name": "input", "value": "input.fasta"},
            {"name": "min_length", "value": str(number % 500)},
            {"name": "format", "value": "tsv"},
        ),
        files_name={"input.fasta": f"genes of sample {number}.fasta"},
        folder=uuid,
        owner=f"ORCID:0000-0002-1825-{number % OWNERS:04d}" if number % 2 else None,
        sender="192.0.2.7",
        resources={"cpus": 2, "memory": 2 * 1024**3, "max_clock_time": 10_800},
        attempt=1,
        job_id=str(number + 1),
        exit_status=0 if number % 10 else 1,
        detail="" if number % 10 else "the script ended with exit status 1",
        usage={"cpu_seconds": 38.2, "wall_seconds": 40.5, "max_rss_bytes": 180_000_000},
    )


def unowned(count: int) -> Iterator[str]:
    """The UUIDs of those of the first `count` tasks that anonymous callers may see."""
    return (uuid_of(number) for number in range(0, count, 2))


def owned(count: int) -> Iterator[str]:
    """The UUIDs of those of the first `count` tasks that `OWNER` owns."""
    return (uuid_of(number) for number in range(1, count, OWNERS))


def fill(state_dir: Path, count: int) -> str:
    """Make a store with `count` tasks, in a process of its own; a token of `OWNER`.

    They have no files, but the folder ``tasks`` beside it passes for theirs.
    """
    (state_dir.parent / "tasks" / ".control").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.records", str(state_dir), str(count)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stdout.strip()


async def _fill(state_dir: Path, count: int) -> None:
    store = Store.open(state_dir)
    now = now_ms()
    for number in range(count):
        store.insert(task_of(number, count, now))
        if number % BATCH == BATCH - 1:
            await store.durable()
    keys = KeyRing.open(state_dir, time.time())
    Users(store, default_groups(), ()).put(OWNER)
    issued = Tokens(store, keys, time.time).issue(OWNER.key, LIFETIME)
    await store.durable()
    await store.close()
    print(issued.text)


if __name__ == "__main__":
    asyncio.run(_fill(Path(sys.argv[1]), int(sys.argv[2])))
