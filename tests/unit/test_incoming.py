"""Submissions on their way to disk: committed whole, or nothing left of them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from drmaaticd import incoming as room
from drmaaticd.errors import Conflict, InvalidInput, NotFound, StorageFull
from drmaaticd.incoming import Incoming
from drmaaticd.workspace import Workspace
from tests.trees import OTHER, UUID, open_descriptors


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "tasks")
    made.prepare()
    return made


def tree(workspace: Workspace) -> dict[str, bytes]:
    """Every file below the folder of task folders, and what it holds."""
    base = workspace.tasks_dir
    return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}


def aside(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.tasks_dir / ".incoming").iterdir())


def arrive(workspace: Workspace, *contents: bytes, uuid: str = UUID) -> Incoming:
    """A submission with files of these contents, under the tokens 0, 1, …"""
    incoming = workspace.incoming(uuid)
    for content in contents:
        file = incoming.create()
        file.write(content)
        file.close()
    return incoming


def test_files_become_the_folder_at_once(workspace: Workspace) -> None:
    before = open_descriptors()
    mask = os.umask(0o077)
    try:
        incoming = workspace.incoming(UUID)
        first, second = incoming.create(), incoming.create()
        first.write(b"one ")
        incoming.write(second.token, b"two")
        first.write(memoryview(b"more"))
        assert (first.size, second.size) == (8, 3)
        assert not workspace.folder(UUID).exists()
        incoming.commit({first.token: "input.fasta", second.token: "0"})
    finally:
        os.umask(mask)
    incoming.discard()
    incoming.discard()
    assert tree(workspace) == {f"{UUID}/input.fasta": b"one more", f"{UUID}/0": b"two"}
    assert aside(workspace) == []
    assert stat.S_IMODE(workspace.folder(UUID).stat().st_mode) == 0o750
    assert stat.S_IMODE((workspace.folder(UUID) / "0").stat().st_mode) == 0o640
    assert open_descriptors() == before


def test_names_may_be_other_files_tokens(workspace: Workspace) -> None:
    incoming = arrive(workspace, b"zero", b"one", b"two")
    incoming.commit({0: "1", 1: "2", 2: "0"})
    incoming.discard()
    assert tree(workspace) == {f"{UUID}/1": b"zero", f"{UUID}/2": b"one", f"{UUID}/0": b"two"}


def test_a_file_without_a_name_is_dropped(workspace: Workspace) -> None:
    incoming = arrive(workspace, b"kept", b"dropped")
    incoming.create()  # and one still open
    incoming.commit({0: "a"})
    incoming.discard()
    assert tree(workspace) == {f"{UUID}/a": b"kept"}


def test_a_task_without_files_gets_its_folder(workspace: Workspace) -> None:
    incoming = workspace.incoming(UUID)
    incoming.commit({}, sync=False)
    incoming.discard()
    assert workspace.listing(UUID) == []


@pytest.mark.parametrize("committed", [False, True])
def test_nothing_is_left_of_a_discarded_submission(workspace: Workspace, committed: bool) -> None:
    before = open_descriptors()
    incoming = arrive(workspace, b"x" * 100_000)
    incoming.create().write(b"half")
    if committed:
        incoming.commit({0: "a"})
        incoming.undo()
    incoming.discard()
    incoming.discard()
    incoming.undo()
    assert tree(workspace) == {}
    assert not workspace.folder(UUID).exists()
    assert aside(workspace) == []
    assert open_descriptors() == before


def test_a_folder_that_exists_is_left_alone(workspace: Workspace) -> None:
    workspace.folder(UUID).mkdir()
    (workspace.folder(UUID) / "there").write_text("before")
    incoming = arrive(workspace, b"new")
    with pytest.raises(Conflict):
        incoming.commit({0: "there"})
    incoming.discard()
    assert tree(workspace) == {f"{UUID}/there": b"before"}
    assert aside(workspace) == []


def test_a_second_submission_under_the_same_uuid_does_not_harm_the_first(workspace: Workspace) -> None:
    first = arrive(workspace, b"first")
    with pytest.raises(FileExistsError):
        workspace.incoming(UUID)
    first.commit({0: "a"})
    first.discard()
    assert tree(workspace) == {f"{UUID}/a": b"first"}


@pytest.mark.parametrize("names", [{0: ""}, {0: ".."}, {0: "a/b"}, {0: "a\0"}, {0: "a", 1: "a"}, {7: "a"}])
def test_names_are_checked_again(workspace: Workspace, names: dict[int, str]) -> None:
    incoming = arrive(workspace, b"a", b"b")
    workspace.folder(OTHER).mkdir()
    with pytest.raises(ValueError, match="not the names"):
        incoming.commit(names)
    with pytest.raises(ValueError, match="not the names"):
        incoming.commit_into(OTHER, names)
    incoming.discard()
    assert tree(workspace) == {}


def test_a_name_that_the_disk_cannot_take_is_the_callers_mistake(workspace: Workspace) -> None:
    workspace.folder(OTHER).mkdir()
    for into in (False, True):
        incoming = arrive(workspace, b"a", b"b")
        commit = partial(incoming.commit_into, OTHER) if into else incoming.commit
        with pytest.raises(InvalidInput):
            commit({0: "fine", 1: "x" * 256})
        incoming.discard()
    assert tree(workspace) == {}
    assert aside(workspace) == []


# Into a parent's folder


def test_files_join_a_parents_folder(workspace: Workspace) -> None:
    arrive(workspace, b"parent's", uuid=OTHER).commit({0: "input.txt"})
    incoming = arrive(workspace, b"child's", b"unnamed")
    assert workspace.taken(OTHER, ["input.txt", "other.txt", "x" * 300]) == {"input.txt"}
    incoming.commit_into(OTHER, {0: f"{UUID[:8]}_input.txt"})
    incoming.discard()
    workspace.prepare()
    assert tree(workspace) == {
        f"{OTHER}/input.txt": b"parent's",
        f"{OTHER}/{UUID[:8]}_input.txt": b"child's",
    }
    assert {path.stat().st_nlink for path in workspace.folder(OTHER).iterdir()} == {1}


def test_whatever_has_a_name_is_taken(workspace: Workspace) -> None:
    folder = workspace.folder(OTHER)
    folder.mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "directory").mkdir()
    assert workspace.taken(OTHER, ["dangling", "directory", "free"]) == {"dangling", "directory"}
    with pytest.raises(NotFound):
        workspace.taken(UUID, ["a"])
    with pytest.raises(ValueError, match="not files' names"):
        workspace.taken(OTHER, ["../etc"])


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_nothing_in_a_parents_folder_is_overwritten(workspace: Workspace, kind: str) -> None:
    folder = workspace.folder(OTHER)
    folder.mkdir()
    if kind == "file":
        (folder / "b").write_text("job's")
    elif kind == "link":
        (folder / "b").symlink_to(folder / "elsewhere")
    else:
        (folder / "b").mkdir()
    before = tree(workspace)
    incoming = arrive(workspace, b"first", b"second")
    with pytest.raises(Conflict):
        incoming.commit_into(OTHER, {0: "a", 1: "b"})
    incoming.discard()
    assert tree(workspace) == before
    assert not (folder / "a").exists()
    assert aside(workspace) == []


def test_a_commit_into_a_parents_folder_can_be_taken_back(workspace: Workspace) -> None:
    folder = workspace.folder(OTHER)
    folder.mkdir()
    incoming = arrive(workspace, b"first", b"second", b"third")
    incoming.commit_into(OTHER, {0: "a", 1: "b", 2: "c"})
    (folder / "a").unlink()
    (folder / "b").unlink()
    (folder / "b").write_text("a job has replaced it")
    incoming.undo()
    incoming.discard()
    assert tree(workspace) == {f"{OTHER}/b": b"a job has replaced it"}


def test_a_parents_folder_that_is_gone_or_no_folder_is_not_found(workspace: Workspace) -> None:
    incoming = arrive(workspace, b"x")
    with pytest.raises(NotFound):
        incoming.commit_into(OTHER, {0: "a"})
    incoming.discard()
    workspace.folder(OTHER).symlink_to(workspace.tasks_dir)
    incoming = arrive(workspace, b"x")
    with pytest.raises(NotFound):
        incoming.commit_into(OTHER, {0: "a"})
    incoming.discard()
    assert tree(workspace) == {}


def test_without_hard_links_files_are_copied(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "this file system has no hard links")

    monkeypatch.setattr(os, "link", no_links)
    folder = workspace.folder(OTHER)
    folder.mkdir()
    content = os.urandom(3_000_000)
    incoming = arrive(workspace, content)
    incoming.commit_into(OTHER, {0: "a"})
    incoming.discard()
    assert tree(workspace) == {f"{OTHER}/a": content}
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o640
    incoming = arrive(workspace, b"x", b"y")
    with pytest.raises(Conflict):
        incoming.commit_into(OTHER, {0: "b", 1: "a"})
    incoming.discard()
    assert tree(workspace) == {f"{OTHER}/a": content}


# What the death of the daemon leaves


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_stays_only_if_the_task_was_recorded(
    workspace: Workspace, recorded: bool, committed: bool
) -> None:
    arrive(workspace, b"other's", uuid=OTHER).discard()
    settled = arrive(workspace, b"other's", uuid=OTHER)
    settled.commit({0: "a"})
    settled.discard()
    incoming = arrive(workspace, b"mine")
    if committed:
        incoming.commit({0: "a"})
    workspace.control(UUID).mkdir()
    (workspace.control(UUID) / "run.sh").write_text("")
    del incoming  # the daemon dies here
    Workspace(workspace.tasks_dir).prepare(lambda uuid: recorded if uuid == UUID else False)
    expected = {f"{OTHER}/a": b"other's"}
    if recorded:
        expected[f".control/{UUID}/run.sh"] = b""
        if committed:
            expected[f"{UUID}/a"] = b"mine"
    assert tree(workspace) == expected
    assert aside(workspace) == []
    assert workspace.control(UUID).exists() == recorded


@pytest.mark.parametrize("recorded", [False, True])
def test_so_does_a_commit_into_a_parents_folder(workspace: Workspace, recorded: bool) -> None:
    folder = workspace.folder(OTHER)
    folder.mkdir()
    (folder / "result").write_bytes(b"parent's")
    arrive(workspace, b"first", b"second").commit_into(OTHER, {0: "a", 1: "b"})
    (folder / "b").unlink()
    (folder / "b").write_bytes(b"a job's")
    workspace.prepare(lambda _: recorded)
    expected = {f"{OTHER}/result": b"parent's", f"{OTHER}/b": b"a job's"}
    if recorded:
        expected[f"{OTHER}/a"] = b"first"
    assert tree(workspace) == expected
    assert aside(workspace) == []


@pytest.mark.parametrize("note", [b"", b'{"folder": "', b"\xff"])
def test_a_note_that_was_being_written_means_nothing_was_placed(workspace: Workspace, note: bytes) -> None:
    arrive(workspace, b"x")
    (workspace.tasks_dir / ".incoming" / UUID / "into").write_bytes(note)
    workspace.prepare(lambda _: False)
    assert tree(workspace) == {}


# Errors of the disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    incoming = workspace.incoming(UUID)
    file = incoming.create()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StorageFull):
            file.write(b"x")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)  # file servers say it only now
        with pytest.raises(StorageFull):
            incoming.commit({file.token: "a"})
    incoming.discard()
    assert tree(workspace) == {}


def test_short_writes_are_completed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    monkeypatch.setattr(room, "WRITE_BEHIND", 4)
    incoming = workspace.incoming(UUID)
    file = incoming.create()
    file.write(b"0123456789")
    file.write(b"")
    incoming.commit({file.token: "a"})
    incoming.discard()
    assert tree(workspace) == {f"{UUID}/a": b"0123456789"}


def test_closing_twice_closes_no_other_file(workspace: Workspace) -> None:
    incoming = workspace.incoming(UUID)
    first = incoming.create()
    first.close()
    second = incoming.create()
    first.close()
    with contextlib.closing(second):
        second.write(b"still open")
    incoming.discard()


@pytest.mark.parametrize("refusal", [None, errno.EXDEV, errno.EOPNOTSUPP])
def test_another_files_bytes_are_copied(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 5000)
    if refusal is not None:

        def refuse(*_: object) -> int:
            raise OSError(refusal, os.strerror(refusal))

        monkeypatch.setattr(os, "copy_file_range", refuse)
    incoming = workspace.incoming(UUID)
    file = incoming.create()
    with source.open("rb") as opened:
        copied = 0
        while count := file.copy(opened.fileno(), copied, 10**7):
            copied += count
    assert copied == file.size == source.stat().st_size
    incoming.commit({file.token: "input"})
    incoming.discard()
    assert (workspace.folder(UUID) / "input").read_bytes() == source.read_bytes()
    assert (workspace.folder(UUID) / "input").stat().st_ino != source.stat().st_ino


def test_a_full_disk_ends_a_copy(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    incoming = workspace.incoming(UUID)
    file = incoming.create()
    with source.open("rb") as opened, pytest.raises(StorageFull):
        file.copy(opened.fileno(), 0, 1)
    incoming.discard()
    assert aside(workspace) == []
