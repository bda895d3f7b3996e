"""Folders beyond all measure: sizes and numbers at which formats and recursion end."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from drmaaticd.archive import CHUNK
from drmaaticd.workspace import Workspace
from tests.trees import UUID, make_deep, open_descriptors


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "tasks")
    made.prepare()
    made.folder(UUID).mkdir()
    return made


def pack_to(path: Path, workspace: Workspace) -> None:
    """Write the zip, with holes for zeros; its length is what was promised."""
    archive = workspace.archive(UUID, UUID, "zip")
    zeros = bytes(2 * CHUNK)
    with path.open("wb") as file:
        for chunk in archive:
            if chunk == zeros[: len(chunk)]:
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
    archive.close()
    assert path.stat().st_size == archive.length


@pytest.mark.parametrize("count", [65_534, 65_535, 65_536])
def test_as_many_files_as_the_old_zip_format_can_count(
    workspace: Workspace, tmp_path: Path, count: int
) -> None:
    folder = workspace.folder(UUID)
    fd = os.open(folder, os.O_RDONLY)
    for number in range(count):
        os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fd))
    os.close(fd)
    packed = tmp_path / "packed.zip"
    pack_to(packed, workspace)
    with zipfile.ZipFile(packed) as found:
        assert sum(not info.is_dir() for info in found.infolist()) == count
    subprocess.run(["unzip", "-tqq", packed], check=True, capture_output=True)
    workspace.trash(UUID)
    workspace.empty_trash(UUID)


def test_a_file_larger_than_the_old_zip_format_can_say(workspace: Workspace, tmp_path: Path) -> None:
    size = 2**32 + 1
    for name in ("before", "large", "z-after"):
        (workspace.folder(UUID) / name).write_bytes(name.encode())
    os.truncate(workspace.folder(UUID) / "large", size)
    packed = tmp_path / "packed.zip"
    pack_to(packed, workspace)
    listed = subprocess.run(["unzip", "-l", packed], check=True, capture_output=True, text=True)
    assert f"{size} " in listed.stdout
    with zipfile.ZipFile(packed) as found:
        assert found.testzip() is None
        assert found.getinfo(f"{UUID}/large").file_size == size
        assert found.read(f"{UUID}/z-after") == b"z-after"


def test_ten_thousand_levels_are_removed(workspace: Workspace) -> None:
    make_deep(workspace.folder(UUID), 10_000)
    assert workspace.listing(UUID).truncated
    before = open_descriptors()
    workspace.trash(UUID)
    workspace.empty_trash(UUID)
    assert open_descriptors() == before
    assert list((workspace.tasks_dir / ".trash").iterdir()) == []


def test_a_wide_folder_is_removed(workspace: Workspace) -> None:
    for name in ("a", "b", "c"):
        (workspace.folder(UUID) / name).mkdir()
        for number in range(10_000):
            (workspace.folder(UUID) / name / str(number)).touch()
            if number % 5 == 0:
                (workspace.folder(UUID) / name / f"{number}-directory" / "inner").mkdir(parents=True)
    workspace.trash(UUID)
    workspace.empty_trash(UUID)
    assert list((workspace.tasks_dir / ".trash").iterdir()) == []
