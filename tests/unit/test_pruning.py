"""Which copies of scripts go, over a real store, real folders and a real catalogue."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drmaaticd import copies, launcher
from drmaaticd.gate import FileGate
from drmaaticd.pruning import Pruner
from drmaaticd.scripts import Catalogue
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task, now_ms
from drmaaticd.workspace import Workspace

OFFERED = b"#!/bin/sh\necho offered\n"
FORMER = b"#!/bin/sh\necho former\n"


class Place:
    """A store, task folders, one script in service, and the pruner."""

    def __init__(self, store: Store, folder: Path, files: FileGate) -> None:
        self.store = store
        # A path that the launcher has to quote.
        self.workspace = Workspace(folder / "it's $HOME's tasks")
        self.workspace.prepare()
        scripts = folder / "scripts.d"
        scripts.mkdir()
        (scripts / "tool.toml").write_text(f"inline = '''{OFFERED.decode()}'''")
        self.catalogue = Catalogue(scripts)
        self.catalogue.load()
        self.pruner = Pruner(store=store, workspace=self.workspace, files=files, catalogue=self.catalogue)

    def restarted(self) -> None:
        """What the process knows is gone: another has taken over."""
        self.workspace._copies = copies.Copies(".scripts", self.workspace._modes)

    def age(self) -> None:
        """Everything in the folder of copies was last changed two days ago, by another process."""
        self.restarted()
        then = time.time() - 2 * copies.OLD
        for path in self.workspace.scripts.rglob("*"):
            os.utime(path, (then, then), follow_symlinks=False)

    def task(self, command: Path, **fields: object) -> str:
        """A task whose launcher runs this command."""
        name = str(uuid.uuid4())
        self.workspace.folder(name).mkdir()
        spec = launcher.LaunchSpec(
            task=name,
            folder=self.workspace.folder(name),
            control=self.workspace.make_control(name),
            spool=self.workspace.spool,
            command=command,
        )
        launcher.write(spec.control, spec)
        known = Task(uuid=name, script="tool", state=State.RECEIVED, created=now_ms(), updated=now_ms())
        self.store.insert(known.changed(**fields) if fields else known)
        return name


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    store = Store.open(folder / "state")
    files = FileGate(2)
    try:
        yield Place(store, folder, files)
    finally:
        await store.close()
        files.close()


@pytest.mark.gen_test
async def test_what_is_neither_offered_nor_needed_goes(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        offered = here.workspace.store_script(OFFERED, "tool")
        former = here.workspace.store_script(FORMER, "tool")
        also = here.workspace.store_script(FORMER, "of another name")
        here.task(former, state=State.DONE)
        here.age()
        assert await here.pruner.prune() == 1
        assert offered.exists()
        assert not former.parent.exists()
        assert not also.parent.exists()
        assert not list((here.workspace.tasks_dir / ".trash").iterdir())
        assert await here.pruner.prune() == 0
        # It is made again when somebody wants it.
        assert here.workspace.store_script(FORMER, "tool").read_bytes() == FORMER


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"state": State.SYSTEM_ON_HOLD, "depends_on": (str(uuid.uuid4()),)},
        {"state": State.RUNNING, "rerunnable": True, "deleted": 1, "stop": True},
        {"state": State.QUEUED_ACTIVE, "array": {"begin": 1, "end": 9, "step": 2}},
    ],
    ids=["received", "waits for another", "deleted, not gone", "array"],
)
async def test_what_a_live_task_needs_stays_until_its_end(tmp_path: Path, fields: dict[str, object]) -> None:
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        name = here.task(former, **fields)
        here.age()
        for _ in range(3):
            assert await here.pruner.prune() == 0
        assert former.exists()
        here.store.update(name, lambda known: known.changed(state=State.FAILED, stop=False))
        assert await here.pruner.prune() == 1
        assert not former.exists()


@pytest.mark.gen_test
async def test_launchers_are_read_only_if_something_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:
        here.task(here.workspace.store_script(OFFERED, "tool"))
        here.task(here.workspace.store_script(FORMER, "tool"))
        read: list[Path] = []
        head = launcher.head
        monkeypatch.setattr(launcher, "head", lambda control: read.append(control) or head(control))
        await here.pruner.prune()
        assert not read, "all were asked for just now"
        here.age()
        await here.pruner.prune()
        assert read
        read.clear()
        await here.pruner.prune()
        assert not read, "the task that needs it is known, and live"


@pytest.mark.gen_test
@pytest.mark.parametrize("whose", ["this process", "another process"])
async def test_what_was_asked_for_lately_stays(
    tmp_path: Path, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission is under way: there is no record of its task, and no launcher yet."""
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        here.age()
        assert here.workspace.store_script(FORMER, "tool") == former
        if whose == "another process":
            here.restarted()
        else:  # the file server's clock is days behind
            then = time.time() - 2 * copies.OLD
            for path in (former, former.parent):
                os.utime(path, (then, then))
        assert await here.pruner.prune() == 0
        assert former.read_bytes() == FORMER


@pytest.mark.gen_test
async def test_what_is_asked_for_while_it_is_pruned_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        here.age()
        remove = here.workspace.remove_script

        def asked_for_first(digest: str) -> bool:
            here.workspace.store_script(FORMER, "tool")
            return remove(digest)

        monkeypatch.setattr(here.workspace, "remove_script", asked_for_first)
        assert await here.pruner.prune() == 0
        assert former.exists()


def test_a_copy_in_use_is_dated_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    copy = workspace.store_script(FORMER, "tool")
    then = time.time() - 2 * copies.OLD
    os.utime(copy, (then, then))
    workspace.store_script(FORMER, "tool")  # looked at, as it was touched
    assert copy.stat().st_mtime > then
    assert workspace.store_script(FORMER, "tool") == copy
    inode, dated = copy.stat().st_ino, copy.stat().st_mtime_ns
    monkeypatch.setattr(copies, "DATED_ANEW", 0.0)
    assert workspace.store_script(FORMER, "tool") == copy
    assert copy.stat().st_ino == inode
    assert copy.stat().st_mtime_ns > dated


@pytest.mark.gen_test
@pytest.mark.logs("are removed later")
async def test_what_cannot_be_told_is_left(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        name = here.task(former)
        here.age()
        script = here.workspace.control(name) / launcher.RUN_SCRIPT
        text = script.read_bytes()

        def unreadable(control: Path) -> bytes:
            raise OSError(5, "Input/output error")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(launcher, "head", unreadable)
            assert await here.pruner.prune() == 0
        here.workspace.tasks_dir.rename(tmp_path / "away")
        assert await here.pruner.prune() == 0
        (tmp_path / "away").rename(here.workspace.tasks_dir)
        assert former.exists()
        assert script.read_bytes() == text


@pytest.mark.gen_test
@pytest.mark.logs("are removed later")
async def test_a_removal_that_was_broken_off_is_finished_by_the_next_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        here.age()

        def dies(place: int, prefix: str = "", *, exactly: bool = False) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(here.workspace, "_remove", dies)
            await here.pruner.prune()
        assert not former.parent.exists()
        here.workspace.prepare()
        assert not list((here.workspace.tasks_dir / ".trash").iterdir())
        assert here.workspace.store_script(FORMER, "tool").exists()


@pytest.mark.gen_test
async def test_what_a_job_made_of_its_launcher_does_no_harm(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        former = here.workspace.store_script(FORMER, "tool")
        for odd in ("fifo", "link", "folder", "none"):
            script = here.workspace.control(here.task(former)) / launcher.RUN_SCRIPT
            script.unlink()
            if odd == "fifo":
                os.mkfifo(script)
            elif odd == "link":
                script.symlink_to("/dev/zero")
            elif odd == "folder":
                script.mkdir()
        (here.workspace.scripts / "of the administrator").write_text("kept")
        here.age()
        assert await here.pruner.prune() == 1
        assert (here.workspace.scripts / "of the administrator").exists()
