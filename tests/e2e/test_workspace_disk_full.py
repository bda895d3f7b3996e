"""A full disk at every step of a submission: it is told as such, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drmaaticd.errors import StorageFull, StoreError
from drmaaticd.workspace import Workspace
from tests.trees import OTHER, UUID, open_descriptors

PAGE = 4096
BLOCKS = 64
INODES = 64

#: Pages or inodes left free, from none to more than a submission needs.
FREE = range(16)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="A SMALL DISK CAN BE MOUNTED ONLY BY ROOT: run these tests as root, too"
)

Fill = Callable[[Path, int], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of `BLOCKS` pages and `INODES` files."""
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={BLOCKS * PAGE},nr_inodes={INODES},mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "drmaaticd-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill_blocks(disk: Path, left: int) -> None:
    """Use up the space but for `left` pages."""
    (disk / "filler").write_bytes(bytes((os.statvfs(disk).f_bfree - left) * PAGE))


def fill_inodes(disk: Path, left: int) -> None:
    """Use up the files but for `left`."""
    (disk / "many").mkdir()
    for number in range(os.statvfs(disk).f_ffree - left):
        (disk / "many" / str(number)).touch()


def free(disk: Path) -> tuple[int, int]:
    status = os.statvfs(disk)
    return status.f_bfree, status.f_ffree


def names(disk: Path) -> set[Path]:
    return set(disk.rglob("*"))


def submit(workspace: Workspace, parent: str | None) -> None:
    """What a submission does with the disk; on an error it is discarded."""
    incoming = workspace.incoming(UUID)
    try:
        for _ in range(3):
            file = incoming.create()
            file.write(bytes(2 * PAGE))
            file.close()
        if parent is None:
            incoming.commit({0: "a", 1: "b"})
        else:
            incoming.commit_into(parent, {0: "a", 1: "b"})
    finally:
        incoming.discard()


@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
@pytest.mark.parametrize("parent", [None, OTHER])
@pytest.mark.parametrize("left", FREE)
def test_a_submission_succeeds_or_leaves_nothing(
    disk: Path, fill: Fill, parent: str | None, left: int
) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    workspace.folder(OTHER).mkdir()
    fill(disk, left)
    before, had, descriptors = free(disk), names(disk), open_descriptors()
    try:
        submit(workspace, parent)
    except StorageFull:
        assert free(disk) == before
        assert names(disk) == had
    else:
        home = workspace.folder(parent or UUID)
        assert {path.name: path.stat().st_size for path in home.iterdir()} == {"a": 2 * PAGE, "b": 2 * PAGE}
    assert open_descriptors() == descriptors


@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
@pytest.mark.parametrize("left", [FREE[0], FREE[-1]])
def test_these_bounds_are_wide_enough(disk: Path, fill: Fill, left: int) -> None:
    """The test above sees the disk full at the first step, and not full at the last."""
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    fill(disk, left)
    expected = pytest.raises(StorageFull) if left == FREE[0] else contextlib.nullcontext()
    with expected:
        submit(workspace, None)


@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
@pytest.mark.parametrize("left", range(5))
def test_a_script_is_stored_whole_or_not_at_all(disk: Path, fill: Fill, left: int) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    content = bytes(3 * PAGE)
    fill(disk, left)
    try:
        path = workspace.store_script(content, "tool")
    except StorageFull:
        assert [path for path in workspace.scripts.rglob("*") if path.is_file()] == []
    else:
        assert path.read_bytes() == content


def test_what_is_written_before_the_disk_is_full_is_not_lost(disk: Path) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    fill_blocks(disk, 3)
    incoming = workspace.incoming(UUID)
    file = incoming.create()
    with pytest.raises(StorageFull):
        file.write(b"x" * 10 * PAGE)
    assert file.size == 3 * PAGE
    incoming.discard()
    assert names(disk / "tasks" / ".incoming") == set()


def test_on_a_full_disk_tasks_can_be_removed(disk: Path) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    (workspace.folder(UUID) / "d" / "e").mkdir(parents=True)
    (workspace.folder(UUID) / "d" / "e" / "f").write_bytes(bytes(PAGE))
    fill_blocks(disk, 0)
    fill_inodes(disk, 0)
    workspace.trash(UUID)
    workspace.empty_trash(UUID)
    assert not workspace.folder(UUID).exists()
    assert names(disk / "tasks" / ".trash") == set()


@pytest.mark.logs("the disk of the tasks' folder is full")
def test_a_full_disk_does_not_keep_the_daemon_from_starting(disk: Path) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    workspace.folder(UUID).mkdir()
    (workspace.folder(UUID) / "result").write_text("x")
    fill_blocks(disk, 0)
    fill_inodes(disk, 0)
    workspace.prepare()
    assert [info.path for info in workspace.listing(UUID)] == ["result"]


def test_but_without_its_folders_it_cannot(disk: Path) -> None:
    fill_inodes(disk, 1)
    assert free(disk)[1] == 1
    with pytest.raises(StoreError, match="No space left"):
        Workspace(disk / "tasks").prepare()


def test_a_disk_that_is_read_only_is_refused(disk: Path) -> None:
    workspace = Workspace(disk / "tasks")
    workspace.prepare()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StoreError, match="Read-only"):
        workspace.prepare()
