"""The store against kills, power cuts and full disks, at every step that it takes."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from drmaaticd.errors import StorageFull, StoreError
from drmaaticd.states import State
from drmaaticd.store import Store, repair
from drmaaticd.tasks import Task
from tests.disks import SmallDisk

ROOT = Path(__file__).resolve().parents[2]


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def task(number: int, description: str = "") -> Task:
    return Task(
        uuid=uuid(number),
        script="blast",
        state=State.RECEIVED,
        created=number,
        updated=number,
        description=description,
    )


def contents(folder: Path) -> dict[str, int]:
    """UUID → number of changes of each task that the store holds when it is opened."""

    async def main() -> dict[str, int]:
        store = await asyncio.to_thread(Store.open, folder)
        try:
            return {known.uuid: known.attempt for known in store.page(size=10**6)[1]}
        finally:
            await store.close()

    return asyncio.run(main())


# -- a kill, and a power cut, before every call to the system


class Machine:
    """Notes, before each call that changes a folder, what a kill and what a power cut would leave.

    A power cut leaves of each file what was synced last, under the names that were synced last; at its
    most unkind the names that were removed since are gone all the same.
    """

    CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "unlink", "replace", "link")

    def __init__(self, folder: Path, aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.aside = aside
        self.acknowledged: dict[str, int] = {}
        self.moments: list[tuple[Path, dict[str, int], str]] = []
        self._lock = threading.RLock()
        self._synced: dict[int, int] = {}
        self._names: dict[str, int] = {}
        (aside / "inodes").mkdir(parents=True)
        for path in folder.iterdir():  # what is there already was synced before
            status = path.stat()
            os.link(path, aside / "inodes" / str(status.st_ino))
            self._synced[status.st_ino] = status.st_size
            self._names[path.name] = status.st_ino
        self._real = {name: getattr(os, name) for name in self.CALLS}
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name))
        monkeypatch.setattr(os, "open", self._open)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._take(name)
                result = self._real[name](*args, **kwargs)
                if name in ("fsync", "fdatasync"):
                    self._sync(args[0])
                return result

        return call

    def _open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if not flags & os.O_CREAT or Path(path).parent != self.folder:
            return int(self._real["open"](path, flags, *args, **kwargs))
        with self._lock:
            self._take("open")
            fd = int(self._real["open"](path, flags, *args, **kwargs))
            kept = self.aside / "inodes" / str(os.fstat(fd).st_ino)
            if not kept.exists():
                self._real["link"](path, kept)
            return fd

    def _sync(self, fd: int) -> None:
        status = os.fstat(fd)
        if status.st_ino == self.folder.stat().st_ino:
            self._names = {path.name: path.stat().st_ino for path in self._files()}
        else:
            self._synced[status.st_ino] = status.st_size

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_file()]

    def _take(self, call: str) -> None:
        number = len(self.moments)
        killed, cut, unkind = places = [
            self.aside / f"{number}-{kind}" for kind in ("killed", "cut", "unkindly-cut")
        ]
        for place in places:
            place.mkdir()
            self.moments.append((place, dict(self.acknowledged), call))
        present = {path.name: path.read_bytes() for path in self._files()}
        for name, content in present.items():
            (killed / name).write_bytes(content)
        for name, inode in self._names.items():
            content = (self.aside / "inodes" / str(inode)).read_bytes()[: self._synced.get(inode, 0)]
            (cut / name).write_bytes(content)
            if name in present:
                (unkind / name).write_bytes(content)


@pytest.fixture
def unheard(caplog: pytest.LogCaptureFixture) -> None:
    """For tests in which records may be torn or refused, and need not be; elsewhere that is expected."""
    caplog.set_level(logging.CRITICAL, logger="drmaaticd.journal")


@pytest.mark.usefixtures("unheard")
def test_a_kill_or_a_power_cut_at_any_step_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    made: dict[str, int] = {}

    async def work() -> None:
        store = await asyncio.to_thread(lambda: Store.open(folder, fold_bytes=600))
        machine.acknowledged = {}
        for number in range(1, 13):
            store.insert(task(number))
            made[uuid(number)] = 0
            if number > 3:
                name = uuid(number - 3)
                made[name] = store.update(
                    name, lambda known: known.changed(attempt=known.attempt + 1)
                ).attempt
            before = dict(made)
            await store.durable()
            machine.acknowledged = before
        await store.close()

    with monkeypatch.context() as patch:
        machine = Machine(folder, tmp_path / "aside", patch)
        asyncio.run(work())
    calls = {call for _, _, call in machine.moments}
    assert {"open", "write", "pwrite", "fsync", "fdatasync", "unlink", "replace"} <= calls
    assert len(machine.moments) > 100
    for place, acknowledged, call in machine.moments:
        found = contents(place)
        for name, attempt in acknowledged.items():
            assert found.get(name, -1) >= attempt, f"{place.name} before {call}: {name}"
        for name, attempt in found.items():
            assert attempt <= made[name]


@pytest.mark.parametrize("segment", ["journal.2", "store.json"])
def test_a_kill_or_a_power_cut_at_any_step_of_a_repair_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment: str
) -> None:
    """Before the repair is through it can be made again; after it the store opens."""
    folder = tmp_path / "store"

    async def fill() -> None:
        store = await asyncio.to_thread(Store.open, folder)
        store.insert(task(1))
        store.insert(task(2))
        await store.close()
        store = await asyncio.to_thread(Store.open, folder)
        for number in (3, 4, 5):
            store.insert(task(number))
        await store.durable()
        shutil.copytree(folder, tmp_path / "killed")
        await store.close()

    asyncio.run(fill())
    folder = tmp_path / "killed"
    content = bytearray((folder / segment).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / segment).write_bytes(content)
    with monkeypatch.context() as patch:
        machine = Machine(folder, tmp_path / "aside", patch)
        report = repair(folder)
    assert report.folder is not None
    survivors = (
        {uuid(1), uuid(2), uuid(3), uuid(5)} if segment == "journal.2" else {uuid(3), uuid(4), uuid(5)}
    )
    assert survivors <= set(contents(folder))
    assert len(machine.moments) > 20
    for place, _, call in machine.moments:
        repair(place)
        assert survivors <= set(contents(place)), f"{place.name} before {call}"


# -- a full disk at every step


@pytest.mark.usefixtures("unheard")
def test_a_disk_that_is_full_at_any_step_loses_nothing_acknowledged(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    disk = small_disk(1024)
    page = os.sysconf("SC_PAGE_SIZE")
    refusals = 0
    for left in range(13):
        folder = disk / f"store-{left}"
        filler = disk / "filler"
        with asyncio.Runner() as runner:
            store = Store.open(folder, fold_bytes=3000)
            fill(filler, left * page)
            acknowledged, refused = runner.run(work_until_full(store))
            refusals += len(refused)
            assert {known.uuid for known in store.page(size=10**6)[1]} >= acknowledged.keys()
            assert not any(store.get(name) for name in refused)
            runner.run(store.close())
        filler.unlink()
        found = contents(folder)
        for name, attempt in acknowledged.items():
            assert found[name] == attempt
        assert not set(found) & refused
        shutil.rmtree(folder)
    assert refusals > 13


async def work_until_full(store: Store) -> tuple[dict[str, int], set[str]]:
    """Insert and update until five insertions were refused: what was acknowledged, what was refused."""
    acknowledged: dict[str, int] = {}
    refused: set[str] = set()
    number = 0
    while len(refused) < 5 and number < 400:
        number += 1
        name = uuid(number)
        store.insert(task(number, "x" * 500))
        try:
            await store.durable()
        except StorageFull:
            refused.add(name)
            continue
        acknowledged[name] = 0
        acknowledged[name] = store.update(
            name, lambda known: known.changed(attempt=1), revocable=True
        ).attempt
        try:
            await store.durable()
        except StorageFull:
            acknowledged[name] = 0
    return acknowledged, refused


def fill(path: Path, left: int) -> None:
    """Let a file grow until no more than `left` bytes are free on its disk."""
    with path.open("wb", buffering=0) as stream:
        status = os.statvfs(path.parent)
        stream.write(bytes(max(0, status.f_bavail * status.f_frsize - left)))


@pytest.mark.usefixtures("unheard")
def test_the_store_goes_on_when_there_is_room_again(small_disk: SmallDisk) -> None:
    disk = small_disk(1024)

    async def main() -> int:
        store = await asyncio.to_thread(lambda: Store.open(disk / "state"))
        store.insert(task(1))
        await store.durable()
        fill(disk / "filler", 0)

        async def change_for_ever() -> None:  # the last page may have room for some
            while True:
                store.update(uuid(1), lambda known: known.changed(attempt=known.attempt + 1))
                await store.durable()

        with pytest.raises(StorageFull):
            await change_for_ever()
        known = store.get(uuid(1))
        assert known is not None
        (disk / "filler").unlink()
        segment = max((disk / "state").glob("journal.[0-9]*"))
        size = segment.stat().st_size
        while segment.stat().st_size == size:  # noqa: ASYNC110  # the store tries by itself
            await asyncio.sleep(0.01)
        await store.durable()
        assert store.get(uuid(1)) == known
        await store.close()
        return known.attempt

    attempt = asyncio.run(main())
    assert contents(disk / "state") == {uuid(1): attempt}


def test_no_room_at_the_start_is_told(small_disk: SmallDisk) -> None:
    disk = small_disk(64)
    (disk / "state").mkdir(mode=0o700)
    fill(disk / "filler", 0)
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)):
        Store.open(disk / "state")
    (disk / "filler").unlink()
    assert contents(disk / "state") == {}


# -- kill -9

WRITER = """
import asyncio, sys
from pathlib import Path
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task

async def client(store, number, step):
    while True:
        name = f"{number:08x}-0000-4000-8000-000000000000"
        store.insert(Task(uuid=name, script="blast", state=State.RECEIVED, created=number, updated=number,
                          description="x" * 300))
        await store.durable()
        print(name, 0, flush=True)
        for _ in range(3):
            attempt = store.update(name, lambda known: known.changed(attempt=known.attempt + 1)).attempt
            await store.durable()
            print(name, attempt, flush=True)
        number += step

async def main():
    store = await asyncio.to_thread(lambda: Store.open(Path(sys.argv[1]), fold_bytes=20_000))
    await asyncio.gather(*(client(store, 100_000 * int(sys.argv[2]) + n, 16) for n in range(16)))

asyncio.run(main())
"""


@contextmanager
def writer(folder: Path, number: int) -> Iterator[subprocess.Popen[str]]:
    """A process that writes as fast as it can and prints what was acknowledged, killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(number)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.usefixtures("unheard")
def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    acknowledged: dict[str, int] = {}
    chance = random.Random(7)
    for number in range(6):
        with writer(folder, number) as process:
            assert process.stdout is not None
            for _ in range(chance.randint(200, 2000)):
                name, attempt = process.stdout.readline().split()
                acknowledged[name] = int(attempt)
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:  # what it had said before it died
                if line.endswith("\n"):
                    name, attempt = line.split()
                    acknowledged[name] = int(attempt)
            process.wait()
        shutil.copytree(folder, tmp_path / "copy")
        found = contents(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")
        missing = {name for name, attempt in acknowledged.items() if found.get(name, -1) < attempt}
        assert not missing
    assert len(acknowledged) > 300
    snapshot = orjson.loads((folder / "store.json").read_bytes())
    assert snapshot["_meta"]["1"]["segment"] > 1  # it was folded meanwhile
