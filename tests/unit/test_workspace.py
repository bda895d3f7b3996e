"""The workspace: its places, what is read out of task folders, and what is removed."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd import folder as folders
from drmaaticd.errors import Forbidden, NotFound, StoreError, Unavailable
from drmaaticd.folder import LIST, components, opened
from drmaaticd.removal import FilesRemain, empty
from drmaaticd.sharing import share
from drmaaticd.workspace import Workspace
from tests.trees import (
    NOBODY,
    ODD_NAMES,
    OTHER,
    SECRET,
    UUID,
    as_nobody,
    make_deep,
    make_odd_files,
    make_traps,
    open_descriptors,
)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that an ordinary user, too, may go through and write to (`tmp_path` is private)."""
    with tempfile.TemporaryDirectory(prefix="workspace-") as name:
        path = Path(name)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, -1)
        yield path
        # What a test made inaccessible must not keep the folder from going.
        for directory, _, _ in os.walk(path):
            Path(directory).chmod(0o700)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "tasks")
    made.prepare()
    made.folder(UUID).mkdir()
    return made


def read(workspace: Workspace, path: bytes) -> bytes:
    opened = workspace.open(UUID, path)
    try:
        return opened.pread(0, opened.size + 1)
    finally:
        opened.close()


def left_over(workspace: Workspace) -> list[str]:
    """Everything below the folder of task folders, but the daemon's own empty places."""
    found = sorted(str(path.relative_to(workspace.tasks_dir)) for path in workspace.tasks_dir.rglob("*"))
    return [name for name in found if name not in (".control", ".incoming", ".scripts", ".spool", ".trash")]


# Places


def test_prepare_makes_the_places_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        workspace = Workspace(tmp_path / "deeper" / "tasks")
        workspace.prepare()
        workspace.prepare()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in workspace.tasks_dir.iterdir()}
    assert modes == {
        ".control": 0o700,
        ".incoming": 0o700,
        ".scripts": 0o750,
        ".spool": 0o700,
        ".trash": 0o700,
    }
    assert workspace.spool == workspace.tasks_dir / ".spool"
    assert workspace.scripts == workspace.tasks_dir / ".scripts"
    assert workspace.control(UUID) == workspace.tasks_dir / ".control" / UUID
    assert workspace.folder(UUID) == workspace.tasks_dir / UUID


class Jobs:
    """The jobs' account, where it is also the daemon's: what it does is done at once."""

    def __init__(self, gid: int) -> None:
        self.gid = gid

    def empty(self, folder: int) -> str:
        with opened(".", LIST, dir_fd=folder) as here:
            empty(here)
        return ""

    def share(self, folder: int) -> str:
        share(folder, self.gid)
        return ""


def test_a_group_may_write_where_jobs_write(tmp_path: Path) -> None:
    group = os.getgid()
    workspace = Workspace(tmp_path, jobs=Jobs(group))
    workspace.prepare()
    incoming = workspace.incoming(UUID)
    file = incoming.create()
    incoming.commit({file.token: "a"})
    incoming.discard()
    script = workspace.store_script(b"x", "s")
    assert workspace.make_control(UUID) == workspace.control(UUID)
    expected = {
        tmp_path / ".control": 0o2710,
        tmp_path / ".spool": 0o2730,
        tmp_path / ".scripts": 0o2750,
        tmp_path / ".incoming": 0o700,
        tmp_path / ".trash": 0o700,
        tmp_path / ".control" / UUID: 0o2770,
        tmp_path / UUID: 0o2770,
        tmp_path / UUID / "a": 0o660,
        script: 0o555,
    }
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in expected} == expected
    assert all(path.stat().st_gid == group for path in expected)
    assert tmp_path.stat().st_mode & 0o010


def test_prepare_clears_what_was_under_way(workspace: Workspace) -> None:
    (workspace.tasks_dir / ".incoming" / UUID).mkdir()
    (workspace.tasks_dir / ".incoming" / UUID / "0").write_text("half")
    (workspace.tasks_dir / ".trash" / f"{UUID}.x" / "deep").mkdir(parents=True)
    (workspace.tasks_dir / ".trash" / "file").write_text("x")
    (workspace.folder(UUID) / "result").write_text("kept")
    workspace.prepare()
    assert left_over(workspace) == [UUID, f"{UUID}/result"]


def test_prepare_refuses_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("")
    with pytest.raises(StoreError, match=r"tasks cannot be used: File exists"):
        Workspace(tmp_path / "tasks").prepare()


def test_prepare_refuses_a_link_for_one_of_its_own_folders(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".spool").symlink_to("elsewhere")
    with pytest.raises(StoreError, match=r"\.spool cannot be used"):
        Workspace(tmp_path).prepare()


def test_prepare_refuses_a_folder_that_cannot_be_written_to(base: Path) -> None:
    tasks = base / "tasks"

    def refused() -> None:
        tasks.mkdir()
        Workspace(tasks).prepare()
        tasks.chmod(0o500)
        with pytest.raises(StoreError, match=r"cannot be used: Permission denied"):
            Workspace(tasks).prepare()

    as_nobody(refused)


def test_the_tasks_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "tasks").symlink_to("real")
    workspace = Workspace(tmp_path / "tasks")
    workspace.prepare()
    workspace.folder(UUID).mkdir()
    assert workspace.listing(UUID) == []


@pytest.mark.parametrize(
    "uuid",
    ["", "..", ".trash", "../etc", UUID.upper(), UUID + "\n", UUID[:-1], UUID.replace("-", ""), "x" * 36],
)
def test_only_a_canonical_uuid_becomes_a_path(workspace: Workspace, uuid: str) -> None:
    for call in (
        workspace.control,
        workspace.folder,
        workspace.incoming,
        workspace.listing,
        workspace.trash,
        workspace.empty_trash,
        workspace.remove_control,
    ):
        with pytest.raises(NotFound):
            call(uuid)
    with pytest.raises(NotFound):
        workspace.open(uuid, b"x")
    with pytest.raises(NotFound):
        workspace.archive(uuid, "x", "zip")


def test_a_folder_that_is_missing_or_a_link_has_no_files(workspace: Workspace) -> None:
    workspace.folder(OTHER).symlink_to(UUID)
    for uuid in (OTHER, UUID.replace("0", "9")):
        with pytest.raises(NotFound):
            workspace.listing(uuid)
        with pytest.raises(NotFound):
            workspace.open(uuid, b"x")
        assert workspace.usage(uuid) == 0


def test_without_its_folder_the_workspace_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Workspace(tmp_path / "unmounted").listing(UUID)


# Listing


def test_what_is_listed_is_what_there_is_and_can_be_opened(workspace: Workspace) -> None:
    folder = workspace.folder(UUID)
    make_odd_files(folder)
    (folder / "sub" / "sub").mkdir(parents=True)
    (folder / "sub" / "sub" / "a").write_bytes(b"a")
    listing = workspace.listing(UUID)
    assert sorted(info.raw for info in listing) == sorted([*ODD_NAMES, b"sub/sub/a"])
    assert [info.path for info in listing] == sorted(info.path for info in listing)
    assert not listing.truncated
    assert not listing.unreadable
    for info in listing:
        content = read(workspace, unquote_to_bytes(info.quoted))
        assert content == info.raw.rpartition(b"/")[2]
        assert info.size == len(content)
        info.path.encode()  # lone surrogates could not be sent


def test_bytes_that_are_no_utf8_are_shown_but_not_guessed(workspace: Workspace) -> None:
    (workspace.folder(UUID) / os.fsdecode(b"latin-\xe9")).write_text("x")
    (info,) = workspace.listing(UUID)
    assert (info.path, info.raw, info.quoted) == ("latin-\ufffd", b"latin-\xe9", "latin-%E9")
    with pytest.raises(NotFound):
        workspace.open(UUID, info.path.encode())
    assert read(workspace, info.raw) == b"x"


def test_details_are_those_of_the_api(workspace: Workspace) -> None:
    path = workspace.folder(UUID) / "a b.txt"
    path.write_text("four")
    os.utime(path, ns=(0, 1_795_514_400_123_999_999))
    (info,) = workspace.listing(UUID)
    assert info.details() == {"path": "a%20b.txt", "size": 4, "modified": "2026-11-24T10:00:00.123Z"}


@given(mtime=st.integers(-(2**93), 2**93))
def test_any_time_can_be_told(mtime: int) -> None:
    told = folders.FileInfo(b"x", 0, mtime, 0o100644, 0).details()["modified"]
    assert isinstance(told, str)
    assert len(told) == len("2026-11-24T10:00:00.123Z")


def test_nothing_but_regular_files_is_listed_or_opened(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.folder(UUID)
    outside = tmp_path / "outside"
    outside.mkdir()
    traps = make_traps(folder, outside)
    (folder / "sub" / "real").write_text("inside")
    before = open_descriptors()
    assert [info.path for info in workspace.listing(UUID)] == ["sub/real"]
    for path in traps:
        with pytest.raises(NotFound):
            workspace.open(UUID, path)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b".",
        b"..",
        b"/",
        b"//",
        b"/etc/passwd",
        b"../secret",
        b"sub/../../secret",
        b"sub/./a",
        b"sub//a",
        b"sub/",
        b"a\0b",
        b"x" * 300,
        b"/".join([b"x" * 255] * 64),
        b"a/" * 3000 + b"a",
        b"missing",
        b"a/below-a-file",
    ],
)
def test_paths_that_no_file_has_are_not_found(workspace: Workspace, path: bytes) -> None:
    folder = workspace.folder(UUID)
    (folder / "sub").mkdir()
    (folder / "a").write_text("a")
    (folder / "sub" / "a").write_text("a")
    (workspace.tasks_dir / "secret").write_text(SECRET)
    before = open_descriptors()
    with pytest.raises(NotFound):
        workspace.open(UUID, path)
    assert open_descriptors() == before


@given(
    path=st.lists(st.sampled_from([b"..", b".", b"", b"a", b"\0", b"link", b"sub"]) | st.binary()).map(
        b"/".join
    )
)
def test_no_path_leads_out(path: bytes) -> None:
    try:
        parts = components(path)
    except NotFound:
        return
    assert b"/".join(parts) == path
    assert len(parts) <= folders.MAX_DEPTH
    assert not {b"", b".", b".."} & set(parts)
    assert not any(b"/" in part or b"\0" in part for part in parts)


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder full of links that lead out, beside a secret."""
    tasks = tmp_path_factory.mktemp("fenced")
    workspace = Workspace(tasks)
    workspace.prepare()
    folder = workspace.folder(UUID)
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("inside")
    (folder / "sub" / "a").write_text("inside")
    (tasks / "secret").write_text(SECRET)
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "sub" / "up").symlink_to("../..")
    return workspace


_PARTS = st.sampled_from([b"..", b".", b"", b"a", b"link", b"up", b"sub", b"secret", b"etc", b"\0"])


@given(path=st.lists(_PARTS | st.binary(max_size=3), max_size=6).map(b"/".join))
def test_whatever_is_opened_lies_inside(fenced: Workspace, path: bytes) -> None:
    try:
        assert read(fenced, path) == b"inside"
        assert path in (b"a", b"sub/a")
    except NotFound:
        assert path not in (b"a", b"sub/a")


@given(st.sets(st.binary(min_size=1, max_size=8).filter(lambda n: not {0, 47} & set(n)), max_size=5))
def test_any_name_that_can_be_is_listed_and_opened(names: set[bytes]) -> None:
    names -= {b".", b".."}
    with tempfile.TemporaryDirectory() as base:
        workspace = Workspace(Path(base))
        workspace.prepare()
        folder = workspace.folder(UUID)
        folder.mkdir()
        for name in names:
            (folder / os.fsdecode(name)).write_bytes(name)
        listing = workspace.listing(UUID)
        assert {info.raw for info in listing} == names
        assert all(read(workspace, unquote_to_bytes(info.quoted)) == info.raw for info in listing)


def test_a_listing_is_bounded_in_depth(workspace: Workspace) -> None:
    depth = folders.MAX_DEPTH
    folder = workspace.folder(UUID)
    deepest = folder.joinpath(*["d"] * (depth - 1))
    deepest.mkdir(parents=True)
    (deepest / "f").write_text("reached")
    listing = workspace.listing(UUID)
    assert [info.path for info in listing] == ["d/" * (depth - 1) + "f"]
    assert read(workspace, listing[0].raw) == b"reached"
    assert not listing.truncated
    (deepest / "d").mkdir()
    (deepest / "d" / "f").write_text("not reached")
    again = workspace.listing(UUID)
    assert list(again) == list(listing)
    assert again.truncated


def test_a_listing_is_bounded_in_number(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        (workspace.folder(UUID) / f"{number:02}").write_text("")
    monkeypatch.setattr(folders, "MAX_ENTRIES", 12)
    assert not workspace.listing(UUID).truncated
    monkeypatch.setattr(folders, "MAX_ENTRIES", 11)
    listing = workspace.listing(UUID)
    assert listing.truncated
    assert len(listing) == 11


def test_a_large_listing_is_sorted_in_slices(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_SORTED_AT_ONCE", 7)
    for number in range(50):
        (workspace.folder(UUID) / f"{number * 37 % 50}").write_text("")
    assert [info.path for info in workspace.listing(UUID)] == sorted(str(number) for number in range(50))


def test_what_a_job_made_unreadable_does_not_break_a_listing(base: Path) -> None:
    workspace = Workspace(base / "tasks")

    def check() -> None:
        workspace.prepare()
        folder = workspace.folder(UUID)
        for name in ("closed", "no-search", "open"):
            (folder / name).mkdir(parents=True)
            (folder / name / "f").write_text("x")
        (folder / "unreadable").write_text("x")
        (folder / "unreadable").chmod(0)
        (folder / "closed").chmod(0)
        (folder / "no-search").chmod(0o400)
        listing = workspace.listing(UUID)
        assert [info.path for info in listing] == ["open/f", "unreadable"]
        assert listing.unreadable == 2
        for path in (b"unreadable", b"closed/f"):
            with pytest.raises(Forbidden):
                workspace.open(UUID, path)
        (folder / "open").chmod(0o100)  # searchable is enough for an exact path
        assert read(workspace, b"open/f") == b"x"

    as_nobody(check)


def test_a_name_that_changes_into_a_link_never_shows_what_is_outside(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = workspace.folder(UUID)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text(SECRET)
    (folder / "f").write_text("inside")
    (folder / "d").mkdir()
    (folder / "d" / "f").write_text("inside")
    (folder / "link-f").symlink_to(outside / "f")
    (folder / "link-d").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("f", "d"):
                (folder / name).rename(folder / "aside")
                (folder / f"link-{name}").rename(folder / name)
                (folder / name).rename(folder / f"link-{name}")
                (folder / "aside").rename(folder / name)

    thread = threading.Thread(target=swap)
    thread.start()
    before = open_descriptors()
    seen = {b"inside": 0, b"refused": 0}
    try:
        while min(seen.values()) < 50:
            for path in (b"f", b"d/f"):
                try:
                    content = read(workspace, path)
                except NotFound:
                    content = b"refused"
                seen[content] += 1  # KeyError: something from outside
            with contextlib.suppress(NotFound):
                assert all(info.size == len("inside") for info in workspace.listing(UUID))
    finally:
        stop.set()
        thread.join()
    assert open_descriptors() == before


# Opened files


def test_an_opened_file_is_what_it_was(workspace: Workspace) -> None:
    path = workspace.folder(UUID) / "log.txt"
    path.write_bytes(b"0123456789")
    opened = workspace.open(UUID, b"log.txt")
    assert opened.size == 10
    assert opened.inode == path.stat().st_ino
    assert opened.mtime_ns == path.stat().st_mtime_ns
    assert [opened.pread(0, 4), opened.pread(8, 10), opened.pread(10, 1)] == [b"0123", b"89", b""]
    path.unlink()
    assert opened.pread(4, 2) == b"45"
    opened.close()
    opened.close()
    assert opened.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        opened.pread(0, 1)


def test_the_etag_tells_versions_apart(workspace: Workspace) -> None:
    path = workspace.folder(UUID) / "f"

    def etag() -> str:
        opened = workspace.open(UUID, b"f")
        opened.close()
        return opened.etag

    path.write_text("one")
    os.utime(path, ns=(0, 1))
    first = etag()
    assert first == etag()
    assert first.startswith('"')
    assert first.endswith('"')
    os.utime(path, ns=(0, 2))
    later = etag()
    path.write_text("longer")
    os.utime(path, ns=(0, 2))
    longer = etag()
    replacement = path.with_name("new")
    replacement.write_text("another")
    replacement.write_text("longer")
    os.utime(replacement, ns=(0, 2))
    replacement.rename(path)
    assert len({first, later, longer, etag()}) == 4


def test_usage_counts_what_is_on_the_disk(workspace: Workspace) -> None:
    folder = workspace.folder(UUID)
    empty = workspace.usage(UUID)
    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_bytes(os.urandom(300_000))
    os.link(folder / "sub" / "data", folder / "again")
    (folder / "out").symlink_to("/")
    os.sync()
    assert 300_000 <= workspace.usage(UUID) - empty < 600_000
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(10**12)
    assert workspace.usage(UUID) < 10**9


# Scripts


def test_a_script_is_kept_by_its_content(workspace: Workspace) -> None:
    first = workspace.store_script(b"#!/bin/sh\necho one\n", "tool.sh")
    assert first == workspace.store_script(b"#!/bin/sh\necho one\n", "tool.sh")
    second = workspace.store_script(b"#!/bin/sh\necho two\n", "tool.sh")
    assert first != second
    assert first.name == second.name == "tool.sh"
    assert first.read_bytes() == b"#!/bin/sh\necho one\n"
    assert stat.S_IMODE(first.stat().st_mode) == 0o555
    assert first.is_relative_to(workspace.scripts)
    assert [path.name for path in first.parent.iterdir()] == ["tool.sh"]


def test_an_identical_script_is_not_written_again(workspace: Workspace) -> None:
    inode = workspace.store_script(b"x", "tool").stat().st_ino
    assert workspace.store_script(b"x", "tool").stat().st_ino == inode


def test_a_copy_that_is_as_it_was_is_not_read_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.store_script(b"right", "tool")
    assert workspace.store_script(b"right", "tool") == path
    with monkeypatch.context() as patched:
        patched.setattr("drmaaticd.copies._holds", None)
        assert workspace.store_script(b"right", "tool") == path
    os.utime(path)
    path.chmod(0o700)
    path.write_bytes(b"wrong")
    path.chmod(0o555)
    assert workspace.store_script(b"right", "tool").read_bytes() == b"right"
    path.unlink()
    assert workspace.store_script(b"right", "tool").read_bytes() == b"right"


@pytest.mark.parametrize("damage", ["content", "length", "mode", "link", "fifo"])
def test_a_damaged_copy_is_replaced(workspace: Workspace, tmp_path: Path, damage: str) -> None:
    path = workspace.store_script(b"right", "tool")
    path.chmod(0o755)
    if damage in ("content", "length"):
        path.write_bytes(b"wrong" if damage == "content" else b"much longer")
        path.chmod(0o555)
    if damage in ("link", "fifo"):
        path.unlink()
    if damage == "link":
        (tmp_path / "other").write_bytes(b"right")
        (tmp_path / "other").chmod(0o555)
        path.symlink_to(tmp_path / "other")
    if damage == "fifo":
        os.mkfifo(path, 0o555)
    assert workspace.store_script(b"right", "tool") == path
    assert not path.is_symlink()
    assert path.read_bytes() == b"right"
    assert stat.S_IMODE(path.stat().st_mode) == 0o555


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b"])
def test_a_script_stays_in_its_place(workspace: Workspace, name: str) -> None:
    with pytest.raises(ValueError, match="not a file's name"):
        workspace.store_script(b"x", name)


# Removal


def test_trash_hides_at_once_and_empties_later(workspace: Workspace) -> None:
    (workspace.folder(UUID) / "f").write_text("x")
    workspace.folder(OTHER).mkdir()
    workspace.trash(UUID)
    assert not workspace.folder(UUID).exists()
    workspace.trash(UUID)
    workspace.folder(UUID).mkdir()  # never so in practice, but no reason to fail
    workspace.trash(UUID)
    assert len(left_over(workspace)) == 4
    workspace.empty_trash(UUID)
    workspace.empty_trash(UUID)
    assert left_over(workspace) == [OTHER]


def test_removal_follows_no_link(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    make_traps(workspace.folder(UUID), outside)
    make_odd_files(workspace.folder(UUID))
    workspace.trash(UUID)
    workspace.empty_trash(UUID)
    assert left_over(workspace) == []
    assert (outside / "secret").read_text() == SECRET


def test_a_folder_that_is_a_link_is_removed_as_a_link(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    workspace.folder(OTHER).symlink_to(outside)
    workspace.trash(OTHER)
    workspace.empty_trash(OTHER)
    assert left_over(workspace) == [UUID]
    assert (outside / "kept").exists()


def test_removal_minds_no_depth(workspace: Workspace) -> None:
    make_deep(workspace.folder(UUID), 1_500)  # more than Python may recurse
    listing = workspace.listing(UUID)
    assert listing == []
    assert listing.truncated
    before = open_descriptors()
    workspace.trash(UUID)
    workspace.empty_trash(UUID)
    assert left_over(workspace) == []
    assert open_descriptors() == before


def test_removal_minds_no_permissions(base: Path) -> None:
    workspace = Workspace(base / "tasks")

    def check() -> None:
        workspace.prepare()
        folder = workspace.folder(UUID)
        for name in ("closed/inner", "read-only/inner", "no-search/inner"):
            (folder / name).mkdir(parents=True)
            (folder / name / "f").write_text("x")
            (folder / name).chmod(0)
        (folder / "closed").chmod(0)
        (folder / "read-only").chmod(0o500)
        (folder / "no-search").chmod(0o600)
        folder.chmod(0)
        workspace.trash(UUID)
        workspace.empty_trash(UUID)
        assert left_over(workspace) == []

    as_nobody(check)


def test_removal_changes_no_permissions_elsewhere(base: Path) -> None:
    workspace = Workspace(base / "tasks")

    def check() -> None:
        workspace.prepare()
        outside = base / "outside"
        outside.mkdir()
        outside.chmod(0o500)
        folder = workspace.folder(UUID)
        folder.mkdir()
        (folder / "link").symlink_to(outside)
        folder.chmod(0)
        workspace.trash(UUID)
        workspace.empty_trash(UUID)
        assert stat.S_IMODE(outside.stat().st_mode) == 0o500

    as_nobody(check)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files that belong to another account")
@pytest.mark.logs("not everything in .trash could be removed")
def test_what_cannot_be_removed_is_reported_and_the_rest_goes(base: Path) -> None:
    workspace = Workspace(base / "tasks")

    def fill() -> None:
        workspace.prepare()
        (workspace.folder(UUID) / "foreign").mkdir(parents=True)
        (workspace.folder(UUID) / "own").write_text("x")

    as_nobody(fill)
    foreign = workspace.folder(UUID) / "foreign"
    (foreign / "f").write_text("x")
    os.chown(foreign, 0, 0)
    foreign.chmod(0o755)

    def check() -> None:
        workspace.trash(UUID)
        with pytest.raises(FilesRemain, match=r"Permission denied: 'foreign'") as caught:
            workspace.empty_trash(UUID)
        assert caught.value.problems
        remaining = [name for name in left_over(workspace) if Path(name).name in ("own", "f")]
        assert len(remaining) == 1
        workspace.prepare()  # a start is not refused because of it

    as_nobody(check)
    workspace.empty_trash(UUID)
    assert left_over(workspace) == []


def test_files_that_come_while_removing_are_removed_too(workspace: Workspace) -> None:
    folder = workspace.folder(UUID)
    (folder / "d").mkdir()
    fd = os.open(folder / "d", os.O_RDONLY)
    for number in range(2000):
        (folder / "d" / str(number)).write_text("")
    begun, stop = threading.Event(), threading.Event()

    def go_on_writing() -> None:
        for number in range(300):
            with contextlib.suppress(FileNotFoundError):  # the folder is gone: what it is about
                os.close(os.open(f"late{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            begun.set()
            if stop.is_set():
                return

    thread = threading.Thread(target=go_on_writing)
    thread.start()
    begun.wait()
    try:
        workspace.trash(UUID)
        with contextlib.suppress(FilesRemain):
            workspace.empty_trash(UUID)
    finally:
        stop.set()
        thread.join()
        os.close(fd)
    workspace.empty_trash(UUID)
    assert left_over(workspace) == []


def test_a_control_folder_is_removed_whole(workspace: Workspace) -> None:
    control = workspace.control(UUID)
    (control / "7").mkdir(parents=True)
    (control / "run.sh").write_text("")
    (control / "claim").symlink_to("4711.0")
    workspace.control(OTHER).mkdir()
    workspace.remove_control(UUID)
    workspace.remove_control(UUID)
    assert left_over(workspace) == [f".control/{OTHER}", UUID]
