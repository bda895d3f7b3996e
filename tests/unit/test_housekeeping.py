"""Retention and removal, over a real store and real folders."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drmaaticd import config
from drmaaticd.gate import FileGate
from drmaaticd.housekeeping import Housekeeping
from drmaaticd.pruning import Pruner
from drmaaticd.scripts import Catalogue
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task, now_ms
from drmaaticd.workspace import Workspace

DAY = 86_400_000
ROOT = "00000000-0000-4000-8000-00000000000a"
CHILD = "00000000-0000-4000-8000-00000000000b"
GRANDCHILD = "00000000-0000-4000-8000-00000000000c"


class Place:
    """A store, task folders, and the housekeeping with a retention of ten days."""

    def __init__(self, store: Store, folder: Path, files: FileGate, **retention: Any) -> None:
        self.store = store
        self.workspace = Workspace(folder / "tasks")
        self.workspace.prepare()
        settings = config.defaults()
        kept = settings.retention.model_copy(update={"finished": 10 * 86_400.0, **retention})
        self.housekeeping = Housekeeping(
            store=store,
            workspace=self.workspace,
            files=files,
            pruner=Pruner(
                store=store, workspace=self.workspace, files=files, catalogue=Catalogue(folder / "scripts.d")
            ),
            config=settings.model_copy(update={"retention": kept}),
        )

    def add(self, uuid: str, ended_days_ago: float | None, parent: str | None = None) -> None:
        """A task, ended or running, with its folder (or in its first ancestor's)."""
        above = None if parent is None else self.store.get(parent)
        now = now_ms()
        ended = None if ended_days_ago is None else now - int(ended_days_ago * DAY)
        self.store.insert(
            Task(
                uuid=uuid,
                script="x",
                state=State.RUNNING if ended is None else State.DONE,
                created=now - 30 * DAY,
                updated=now,
                ended=ended,
                parent=parent,
                folder=uuid if above is None else above.folder,
            )
        )
        if above is None:
            self.workspace.folder(uuid).mkdir()
            (self.workspace.folder(uuid) / "result.txt").write_text("42")
        self.workspace.control(uuid).mkdir()

    def has_files(self, uuid: str) -> bool:
        return (self.workspace.folder(uuid) / "result.txt").exists()

    async def pass_once(self) -> None:
        await self.housekeeping._keep_retention()

    def delete(self, uuid: str) -> None:
        self.store.update(uuid, lambda known: known.changed(deleted=now_ms()))


@asynccontextmanager
async def place(folder: Path, **retention: Any) -> AsyncIterator[Place]:
    store = Store.open(folder / "state")
    files = FileGate(2)
    try:
        yield Place(store, folder, files, **retention)
    finally:
        await store.close()
        files.close()


@pytest.mark.gen_test
async def test_what_is_past_its_retention_goes_then_its_record(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, 11)
        here.add(CHILD, 9)
        await here.pass_once()
        assert not here.has_files(ROOT)
        assert not here.workspace.control(ROOT).exists()
        assert here.has_files(CHILD)
        known = here.store.get(ROOT)
        assert known is not None
        assert known.deleted is not None
        await here.pass_once()
        assert here.store.get(ROOT) is None
        assert here.store.get(CHILD) is not None


@pytest.mark.gen_test
@pytest.mark.parametrize("last", [None, 9], ids=["still running", "ended later"])
async def test_a_folder_is_kept_for_the_last_that_works_in_it(tmp_path: Path, last: float | None) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, 20)
        here.add(CHILD, 15, parent=ROOT)
        here.add(GRANDCHILD, last, parent=CHILD)
        await here.pass_once()
        assert here.has_files(ROOT)
        assert [here.store.get(uuid).deleted for uuid in (ROOT, CHILD, GRANDCHILD)] == [None] * 3  # type: ignore[union-attr]
        here.store.update(
            GRANDCHILD, lambda known: known.changed(state=State.DONE, ended=now_ms() - 11 * DAY)
        )
        await here.pass_once()
        assert not here.has_files(ROOT)


@pytest.mark.gen_test
async def test_a_folder_is_kept_though_a_task_between_is_deleted(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, 20)
        here.add(CHILD, 15, parent=ROOT)
        here.add(GRANDCHILD, None, parent=CHILD)
        here.delete(CHILD)
        await here.housekeeping.purge(CHILD)
        for _ in range(3):  # nor is forgotten that the child lay between
            await here.pass_once()
        assert here.has_files(ROOT)
        here.store.update(
            GRANDCHILD, lambda known: known.changed(state=State.DONE, ended=now_ms() - 11 * DAY)
        )
        for _ in range(3):
            await here.pass_once()
        assert not here.has_files(ROOT)
        assert [here.store.get(uuid) for uuid in (ROOT, CHILD, GRANDCHILD)] == [None] * 3


@pytest.mark.gen_test
async def test_deleted_files_go_at_once_or_with_the_retention(tmp_path: Path) -> None:
    async with place(tmp_path / "at once") as here:
        here.add(ROOT, 1)
        here.delete(ROOT)
        await here.housekeeping.purge(ROOT)
        assert not here.has_files(ROOT)
    async with place(tmp_path / "later", remove_files_on_delete=False) as here:
        here.add(ROOT, 1)
        here.delete(ROOT)
        await here.housekeeping.purge(ROOT)
        await here.pass_once()
        assert here.has_files(ROOT)
        here.store.update(ROOT, lambda known: known.changed(ended=now_ms() - 11 * DAY))
        await here.pass_once()
        assert not here.has_files(ROOT)
        await here.pass_once()
        assert here.store.get(ROOT) is None


@pytest.mark.gen_test
async def test_the_files_of_a_deleted_task_wait_for_its_end(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, None)
        here.delete(ROOT)
        await here.housekeeping.purge(ROOT)
        await here.pass_once()
        assert here.has_files(ROOT)
        ended = here.store.update(ROOT, lambda known: known.changed(state=State.STOPPED, ended=now_ms()))
        here.housekeeping.settled(ended)
        await here.housekeeping.close()
        assert not here.has_files(ROOT)
        assert here.store.get(ROOT).purged  # type: ignore[union-attr]


@pytest.mark.gen_test
@pytest.mark.logs("could not be removed")
async def test_what_cannot_be_removed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, 1)
        here.delete(ROOT)

        def broken(uuid: str) -> None:
            raise OSError("no")

        with monkeypatch.context() as patched:
            patched.setattr(here.workspace, "trash", broken)
            await here.housekeeping.purge(ROOT)
        assert here.has_files(ROOT)
        await here.pass_once()
        assert not here.has_files(ROOT)


@pytest.mark.gen_test
@pytest.mark.logs("could not be removed; tried again later")
@pytest.mark.logs("are removed later")
async def test_while_the_tasks_folder_is_away_everything_is_left(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.add(ROOT, 1)
        here.delete(ROOT)
        here.workspace.tasks_dir.rename(tmp_path / "away")
        await here.pass_once()
        (tmp_path / "away").rename(here.workspace.tasks_dir)
        assert here.has_files(ROOT)
        await here.pass_once()
        assert not here.has_files(ROOT)


@pytest.mark.gen_test
async def test_copies_of_scripts_that_nothing_needs_go(tmp_path: Path) -> None:
    async with place(tmp_path, finished=None) as here:
        copy = here.workspace.store_script(b"#!/bin/sh\n", "former")
        here.workspace._copies._known.clear()  # as in the next daemon
        os.utime(copy, (0, 0))
        os.utime(copy.parent, (0, 0))
        await here.pass_once()
        assert not copy.exists()


@pytest.mark.gen_test
async def test_old_idempotency_keys_are_forgotten(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        keys = here.store.side("idempotency")
        keys.put("old", {"uuid": ROOT, "fingerprint": "f", "expires": now_ms() - 1})
        keys.put("young", {"uuid": ROOT, "fingerprint": "f", "expires": now_ms() + DAY})
        await here.pass_once()
        assert [key for key, _ in keys.items()] == ["young"]
