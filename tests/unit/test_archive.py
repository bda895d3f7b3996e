"""Archives: what other programs make of them, and that they never lie."""

from __future__ import annotations

import encodings.cp437  # noqa: F401  # how names are read: whoever has given up root's rights may not load it
import io
import os
import stat
import struct
import subprocess
import tarfile
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd import folder as folders
from drmaaticd.archive import CHUNK, MAX_NAME, Archive, ArchiveBroken, archive_names
from drmaaticd.errors import InvalidInput, NotFound, TooLarge
from drmaaticd.workspace import Workspace
from tests.trees import NOBODY, ODD_NAMES, UUID, as_nobody, make_odd_files, make_traps, open_descriptors

FORMATS = ["zip", "tar.gz"]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "tasks")
    made.prepare()
    made.folder(UUID).mkdir()
    before = open_descriptors()
    yield made
    assert open_descriptors() == before


def pack(workspace: Workspace, format: str) -> bytes:
    """The whole archive; its length is what was promised."""
    archive = workspace.archive(UUID, UUID, format)
    try:
        chunks = list(archive)
    finally:
        archive.close()
    data = b"".join(chunks)
    assert archive.length == (len(data) if format == "zip" else None)
    assert all(len(chunk) >= CHUNK for chunk in chunks[:-1])
    assert archive.skipped == 0
    return data


def unpack(data: bytes, format: str) -> dict[str, bytes]:
    """Name and content of every file, directories left out."""
    if format == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            assert packed.testzip() is None
            return {info.filename: packed.read(info) for info in packed.infolist() if not info.is_dir()}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in members.items() if file is not None}


@pytest.mark.parametrize("format", FORMATS)
def test_files_come_back_as_they_were(workspace: Workspace, format: str) -> None:
    folder = workspace.folder(UUID)
    contents = {"a.txt": b"a", "empty": b"", "sub/deep/b": os.urandom(3 * CHUNK + 17), "sub/c": b"c" * CHUNK}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert unpack(pack(workspace, format), format) == {f"{UUID}/{n}": c for n, c in contents.items()}


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_folder_makes_a_sound_archive(workspace: Workspace, format: str) -> None:
    assert unpack(pack(workspace, format), format) == {}


def test_info_zip_takes_the_archive_of_an_empty_folder(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "packed.zip").write_bytes(pack(workspace, "zip"))
    subprocess.run(["unzip", "-tq", tmp_path / "packed.zip"], check=True, capture_output=True)


@pytest.mark.parametrize("format", FORMATS)
def test_other_programs_agree(workspace: Workspace, tmp_path: Path, format: str) -> None:
    """Info-ZIP and GNU tar unpack every odd name; what they unpack is what there was."""
    folder = workspace.folder(UUID)
    make_odd_files(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "large").write_bytes(os.urandom(CHUNK * 2))
    packed = tmp_path / "packed"
    packed.write_bytes(pack(workspace, format))
    target = tmp_path / "unpacked"
    target.mkdir()
    if format == "zip":
        subprocess.run(["unzip", "-tq", packed], check=True, capture_output=True)
        command = ["unzip", "-q", packed, "-d", target]
    else:
        command = ["tar", "--extract", "--gzip", "--file", packed, "--directory", target]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.stderr == b""
    contents = sorted(path.read_bytes() for path in (target / UUID).iterdir() if path.is_file())
    assert contents == sorted(ODD_NAMES)
    assert (target / UUID / "sub" / "large").read_bytes() == (folder / "sub" / "large").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_but_regular_files_is_packed(workspace: Workspace, tmp_path: Path, format: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    make_traps(workspace.folder(UUID), outside)
    (workspace.folder(UUID) / "sub" / "real").write_text("inside")
    assert unpack(pack(workspace, format), format) == {f"{UUID}/sub/real": b"inside"}


@pytest.mark.parametrize("seconds", [-(2**40), -1, 0, 315_532_800, 1_795_514_400, 2**33, 2**40])
def test_times_and_permissions_are_kept_as_far_as_the_format_can(workspace: Workspace, seconds: int) -> None:
    path = workspace.folder(UUID) / "tool"
    path.write_text("x")
    path.chmod(0o700)
    os.utime(path, (0, seconds))
    real = int(path.stat().st_mtime)  # not every file system can hold any time
    with tarfile.open(fileobj=io.BytesIO(pack(workspace, "tar.gz"))) as tar:
        (member,) = tar.getmembers()
    assert member.mtime == min(max(real, 0), 8**11 - 1)  # eleven octal digits
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
    assert (member.mode, member.type) == (0o755, tarfile.REGTYPE)
    (info,) = zipfile.ZipFile(io.BytesIO(pack(workspace, "zip"))).infolist()
    assert info.external_attr >> 16 == stat.S_IFREG | 0o755
    if 1980 < time.localtime(real).tm_year < 2107:
        assert abs(time.mktime((*info.date_time, 0, 0, -1)) - real) <= 2  # a zip counts every other second
    else:
        assert info.date_time[0] == (1980 if real < 2**31 else 2107)


def test_what_is_not_executable_is_not_unpacked_so(workspace: Workspace) -> None:
    (workspace.folder(UUID) / "data").write_text("x")
    (info,) = zipfile.ZipFile(io.BytesIO(pack(workspace, "zip"))).infolist()
    assert info.external_attr >> 16 == stat.S_IFREG | 0o644
    assert info.compress_type == zipfile.ZIP_STORED


def test_a_tar_ends_as_posix_says(workspace: Workspace) -> None:
    (workspace.folder(UUID) / "data").write_bytes(b"x" * 700)
    unpacked = subprocess.run(
        ["gzip", "-dc"], input=pack(workspace, "tar.gz"), capture_output=True, check=True
    )
    assert len(unpacked.stdout) % tarfile.RECORDSIZE == 0
    assert unpacked.stdout.endswith(bytes(2 * tarfile.BLOCKSIZE))
    assert b"drmaaticd" not in unpacked.stdout


# Files that change meanwhile


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_grows_is_cut_to_its_size(workspace: Workspace, format: str) -> None:
    path = workspace.folder(UUID) / "log"
    path.write_bytes(b"before")
    archive = workspace.archive(UUID, UUID, format)
    with path.open("ab") as log:
        log.write(b" and after" * CHUNK)
    data = b"".join(archive)
    archive.close()
    assert unpack(data, format) == {f"{UUID}/log": b"before"}
    assert archive.length in (len(data), None)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("change", ["shorter", "gone", "link", "fifo", "directory", "folder-gone"])
def test_a_file_that_is_no_longer_what_it_was_breaks_the_stream(
    workspace: Workspace, tmp_path: Path, format: str, change: str
) -> None:
    path = workspace.folder(UUID) / "f"
    path.write_bytes(b"x" * 100)
    (tmp_path / "outside").write_bytes(b"secret" * 100)
    archive = workspace.archive(UUID, UUID, format)
    if change == "shorter":
        os.truncate(path, 99)
    else:
        path.unlink()
    if change == "link":
        path.symlink_to(tmp_path / "outside")
    elif change == "fifo":
        os.mkfifo(path)
    elif change == "directory":
        path.mkdir()
    elif change == "folder-gone":
        workspace.trash(UUID)
        workspace.empty_trash(UUID)
    for _ in range(2):
        with pytest.raises(ArchiveBroken):
            list(archive)
    archive.close()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_shrinks_while_it_is_sent_breaks_the_stream(workspace: Workspace, format: str) -> None:
    path = workspace.folder(UUID) / "f"
    path.write_bytes(os.urandom(8 * CHUNK))
    archive = workspace.archive(UUID, UUID, format)
    assert len(next(archive)) >= CHUNK
    os.truncate(path, CHUNK)
    with pytest.raises(ArchiveBroken, match="shorter"):
        list(archive)
    archive.close()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_too_short_already_is_not_begun(workspace: Workspace, format: str) -> None:
    path = workspace.folder(UUID) / "f"
    path.write_bytes(os.urandom(8 * CHUNK))
    archive = workspace.archive(UUID, UUID, format)
    os.truncate(path, 8 * CHUNK - 1)
    with pytest.raises(ArchiveBroken, match="shorter"):
        next(archive)
    archive.close()


@pytest.mark.parametrize("format", FORMATS)
def test_an_archive_can_be_given_up_at_any_time(workspace: Workspace, format: str) -> None:
    (workspace.folder(UUID) / "f").write_bytes(os.urandom(8 * CHUNK))
    before = open_descriptors()
    for taken in range(3):
        archive = workspace.archive(UUID, UUID, format)
        for _ in range(taken):
            next(archive)
        archive.close()
        archive.close()
        assert open_descriptors() == before
        with pytest.raises(ValueError, match="closed"):
            next(archive)


def test_closing_waits_for_the_read_under_way() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        inside.set()
        go_on.wait()
        yield b"x"

    archive = Archive(os.open("/", os.O_PATH), pieces(), None)  # type: ignore[arg-type]  # a generator it is
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(next(archive)))
    closer = threading.Thread(target=archive.close)
    reader.start()
    inside.wait()
    closer.start()
    go_on.set()
    reader.join()
    closer.join()
    assert found == [b"x"]


# What cannot be packed


def test_what_a_job_made_unreadable_is_skipped_and_counted() -> None:
    with tempfile.TemporaryDirectory(prefix="archive-") as base:
        if os.geteuid() == 0:
            os.chown(base, NOBODY, -1)
        workspace = Workspace(Path(base) / "tasks")

        def check() -> None:
            workspace.prepare()
            folder = workspace.folder(UUID)
            for name in ("closed/f", "open/f"):
                (folder / name).parent.mkdir(parents=True)
                (folder / name).write_text("x")
            (folder / "unreadable").write_text("x")
            (folder / "unreadable").chmod(0o040)
            (folder / "closed").chmod(0)
            archive = workspace.archive(UUID, UUID, "zip")
            data = b"".join(archive)
            archive.close()
            assert archive.skipped == 2
            assert unpack(data, "zip") == {f"{UUID}/open/f": b"x"}
            (folder / "closed").chmod(0o700)

        as_nobody(check)


def test_a_folder_that_a_listing_cannot_hold_is_not_half_packed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (workspace.folder(UUID) / str(number)).write_text("")
    monkeypatch.setattr(folders, "MAX_ENTRIES", 2)
    with pytest.raises(TooLarge):
        workspace.archive(UUID, UUID, "zip")


def test_other_formats_and_folders_are_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidInput) as caught:
        workspace.archive(UUID, UUID, "rar")
    assert [error.name for error in caught.value.errors] == ["format"]
    with pytest.raises(NotFound):
        workspace.archive(UUID.replace("0", "9"), UUID, "zip")


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_files(workspace: Workspace, format: str) -> None:
    for name in ("a", "b"):
        with (workspace.folder(UUID) / name).open("wb") as file:
            file.truncate(32 * 2**20)
    archive = workspace.archive(UUID, UUID, format)
    tracemalloc.start()
    try:
        for _ in archive:
            continue
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
        archive.close()


# Sizes beyond the old format


def test_the_length_of_a_large_archive_is_right_to_the_byte(workspace: Workspace) -> None:
    """5 GiB in a sparse file: the end is compared, without reading all of it."""
    folder = workspace.folder(UUID)
    for name, size in (("a", 5), ("b", 5 * 2**30), ("c", 7)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    archive = workspace.archive(UUID, UUID, "zip")
    archive.close()
    name = len(f"{UUID}/a")
    local = [30 + name + 5 + 16, 30 + name + 20 + 5 * 2**30 + 24, 30 + name + 7 + 16]
    central = [46 + name, 46 + name + 4 + 16, 46 + name + 4 + 8]
    assert archive.length == sum(local) + sum(central) + 56 + 20 + 22


def test_many_files(workspace: Workspace) -> None:
    folder = workspace.folder(UUID)
    for number in range(500):
        (folder / str(number)).write_bytes(b"%d" % number)
    data = pack(workspace, "zip")
    found = unpack(data, "zip")
    assert len(found) == 500
    assert found[f"{UUID}/499"] == b"499"
    (count,) = struct.unpack("<H", data[-12:-10])
    assert count == 500


# Names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([b"a", b"b/c"], ["a", "b/c"]),
        (
            [b"new\nline", b"back\\slash", b"del\x7f", b"c1\xc2\x85"],
            ["new_line", "back_slash", "del_", "c1_"],
        ),
        ([b"latin-\xe9.txt", b"latin-\xe8.txt"], ["latin-_.txt", "latin-_~2.txt"]),
        ([b"a\nb", b"a_b"], ["a_b~2", "a_b"]),
        ([b"a_b/c", b"a\tb"], ["a_b/c", "a_b~2"]),
        ([b"a\tb/c", b"a\nb/c", b"a_b"], ["a_b~2/c", "a_b~3/c", "a_b"]),
        ([b"d\n/x", b"d\n/y", b"d\n/y\t", b"d\n/y\n"], ["d_/x", "d_/y", "d_/y_", "d_/y_~2"]),
        ([b"a\n~2", b"a_~2", b"a\n", b"a_"], ["a_~2~2", "a_~2", "a_~3", "a_"]),
        ([b".\n", b"._"], ["._~2", "._"]),
        (["gänseblümchen-\U0001f9ec".encode()], ["gänseblümchen-\U0001f9ec"]),
        ([b"x" * 254 + b"\n", b"x" * 254 + b"_"], ["x" * 253 + "~2", "x" * 254 + "_"]),
        ([b"a.tar\n.gz", b"a.tar_.gz"], ["a~2.tar_.gz", "a.tar_.gz"]),
        (
            [b"a." + b"x" * 252 + b"\n", b"a." + b"x" * 252 + b"_"],
            ["a." + "x" * 251 + "~2", "a." + "x" * 252 + "_"],
        ),
    ],
)
def test_names_are_safe_and_stay_different(paths: list[bytes], names: list[str]) -> None:
    assert archive_names(paths) == names


_COMPONENT = st.binary(min_size=1, max_size=6) | st.sampled_from(
    [b"a", b"a_", b"a\n", b"a\\", b"a\xff", b"a_~2"]
)


@given(
    st.lists(st.lists(_COMPONENT, min_size=1, max_size=3).map(b"/".join), max_size=12, unique=True).map(
        lambda paths: [
            path for path in paths if not {b"", b".", b".."} & set(path.split(b"/")) and b"\0" not in path
        ]
    )
)
def test_any_names_can_be_unpacked_side_by_side(paths: list[bytes]) -> None:
    # On a disk, nothing is a file and a directory at once.
    directories = {path[:cut] for path in paths for cut in range(len(path)) if path[cut : cut + 1] == b"/"}
    paths = [path for path in paths if path not in directories]
    names = archive_names(paths)
    assert len(set(names)) == len(paths)
    above = {name[:cut] for name in names for cut in range(len(name)) if name[cut] == "/"}
    assert not above & set(names)
    for path, name in zip(paths, names, strict=True):
        assert name.count("/") == path.count(b"/")
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\\" not in name
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
        assert all(len(part.encode()) <= MAX_NAME for part in name.split("/"))
        if name.encode() != path:
            assert name not in {other.decode("utf-8", "replace") for other in paths}
