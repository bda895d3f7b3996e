"""Submissions without files: their folder, and the mark of those that are under way."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from drmaaticd.errors import Conflict, NotFound
from drmaaticd.unfiled import MARK
from drmaaticd.workspace import Workspace
from tests.trees import OTHER, UUID, open_descriptors


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "tasks")
    made.prepare()
    return made


def marks(workspace: Workspace) -> list[str]:
    names = (path.name for path in (workspace.tasks_dir / ".incoming").iterdir())
    return sorted(name for name in names if name != MARK)


def test_the_folder_is_made_where_it_belongs_and_the_mark_goes(workspace: Workspace) -> None:
    before = open_descriptors()
    mask = os.umask(0o077)
    try:
        unfiled = workspace.unfiled(UUID)
        unfiled.commit({})
    finally:
        os.umask(mask)
    workspace.sync_folders()
    assert stat.S_IMODE(workspace.folder(UUID).stat().st_mode) == 0o750
    assert marks(workspace) == [UUID]
    unfiled.discard()
    unfiled.discard()
    assert marks(workspace) == []
    assert list(workspace.folder(UUID).iterdir()) == []
    assert open_descriptors() == before


def test_a_mark_takes_no_inode(workspace: Workspace) -> None:
    for uuid in (UUID, OTHER):
        workspace.unfiled(uuid).commit({})
    aside = workspace.tasks_dir / ".incoming"
    assert len({(aside / name).stat().st_ino for name in (UUID, OTHER, MARK)}) == 1


def test_without_hard_links_the_mark_is_a_file(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refused)
    unfiled = workspace.unfiled(UUID)
    unfiled.commit({})
    assert marks(workspace) == [UUID]
    unfiled.discard()
    assert marks(workspace) == []
    assert workspace.folder(UUID).is_dir()


def test_what_could_not_be_recorded_is_taken_back(workspace: Workspace) -> None:
    unfiled = workspace.unfiled(UUID)
    unfiled.commit({})
    unfiled.undo()
    unfiled.undo()
    unfiled.discard()
    assert marks(workspace) == []
    assert not workspace.folder(UUID).exists()


def test_a_folder_that_is_there_is_nobody_elses(workspace: Workspace) -> None:
    workspace.folder(UUID).mkdir()
    unfiled = workspace.unfiled(UUID)
    with pytest.raises(Conflict):
        unfiled.commit({})
    unfiled.undo()
    unfiled.discard()
    assert workspace.folder(UUID).is_dir()
    assert marks(workspace) == []


def test_a_parents_folder_is_left_alone(workspace: Workspace) -> None:
    workspace.folder(OTHER).mkdir()
    (workspace.folder(OTHER) / "result").write_text("kept")
    unfiled = workspace.unfiled(UUID)
    unfiled.commit_into(OTHER, {})
    unfiled.undo()
    unfiled.discard()
    assert not workspace.folder(UUID).exists()
    assert (workspace.folder(OTHER) / "result").read_text() == "kept"


def test_a_parents_folder_must_be_there(workspace: Workspace) -> None:
    unfiled = workspace.unfiled(UUID)
    with pytest.raises(NotFound):
        unfiled.commit_into(OTHER, {})
    unfiled.discard()
    assert marks(workspace) == []


def test_there_are_no_files_to_name(workspace: Workspace) -> None:
    for call in (
        workspace.unfiled(UUID).commit,
        lambda names: workspace.unfiled(UUID).commit_into(OTHER, names),
    ):
        with pytest.raises(ValueError, match="without files"):
            call({0: "input.fasta"})
    assert marks(workspace) == []


def test_what_a_dead_daemon_left_is_taken_back_unless_it_was_recorded(workspace: Workspace) -> None:
    for uuid in (UUID, OTHER):
        workspace.unfiled(uuid).commit({})
        workspace.control(uuid).mkdir()
    Workspace(workspace.tasks_dir).prepare(lambda uuid: uuid == OTHER)
    assert not workspace.folder(UUID).exists()
    assert not workspace.control(UUID).exists()
    assert workspace.folder(OTHER).is_dir()
    assert workspace.control(OTHER).is_dir()
    assert marks(workspace) == []
