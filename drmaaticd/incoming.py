"""The files of one submission while they arrive: written aside, then moved to where they belong in one go.

Until `Incoming.commit` nothing of them is to be seen in any task's folder, and `Incoming.discard` leaves
nothing behind. Which names they get, and who may write to which folder, is decided by others.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.errors import Conflict, InvalidInput, NotFound, StorageFull
from drmaaticd.folder import LIST, SEARCH, is_plain, opened, storage_errors
from drmaaticd.removal import move, remove_tree

ASIDE = ".incoming"
"""The folder, beside the task folders, in which submissions arrive."""

WRITE_BEHIND = 8 * 1024 * 1024
"""Bytes after which the kernel is told to begin writing: so that the final sync of a large file is short."""

_NOTE = "into"  # beside files that are called by numbers
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1024 * 1024

#: What ``copy_file_range`` says where it cannot copy between two files (copy_file_range(2)).
_NO_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Modes:
    """The permissions of what the daemon makes. With a group (`gid`), its members may write, too."""

    gid: int | None = None

    @property
    def folder(self) -> int:
        """Of task folders; what is made in them belongs to the group, too."""
        return 0o750 if self.gid is None else 0o2770

    @property
    def file(self) -> int:
        """Of uploaded files."""
        return 0o640 if self.gid is None else 0o660

    @property
    def readable(self) -> int:
        """Of folders that jobs read."""
        return 0o750 if self.gid is None else 0o2750

    def apply(self, fd: int, mode: int, *, shared: bool = True) -> None:
        """Set the mode, whatever the umask, and where it is `shared` the group. Raises OSError."""
        if shared and self.gid is not None and os.fstat(fd).st_gid != self.gid:
            os.fchown(fd, -1, self.gid)
        os.fchmod(fd, mode)

    def make_folder(self, parent: int, name: str, mode: int) -> None:
        """A folder `name` with exactly these permissions, whether it was there or not."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            with opened(name, LIST, dir_fd=parent) as fd:
                status = os.fstat(fd)
                if status.st_mode & 0o7777 != mode or self.gid not in (None, status.st_gid):
                    self.apply(fd, mode, shared=bool(mode & 0o070))
        except OSError as error:
            error.filename = error.filename or name
            raise


class IncomingFile:
    """One file that is arriving. Its calls block, and are made one after the other."""

    def __init__(self, token: int, fd: int) -> None:
        self.token = token
        """Its number within the submission, by which it is given a name at the end."""
        self.fd = fd
        """The descriptor, -1 once closed."""
        self.size = 0
        """The bytes written so far."""
        self._told = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`. Raises `StorageFull`, or OSError for a failing disk."""
        rest = memoryview(data)
        with storage_errors():
            while rest:
                written = os.write(self.fd, rest)
                self.size += written
                rest = rest[written:]
            if self.size - self._told >= WRITE_BEHIND:
                # This starts the writing of what is still to be written, and does not wait for it.
                os.posix_fadvise(self.fd, self._told, self.size - self._told, os.POSIX_FADV_DONTNEED)
                self._told = self.size

    def copy(self, source: int, offset: int, length: int) -> int:
        """Append `length` bytes of the file `source` (a descriptor) from `offset`; how many there were.

        The system copies, or shares the blocks where the file system can. Raises `StorageFull`, OSError.
        """
        with storage_errors():
            try:
                copied = os.copy_file_range(source, self.fd, length, offset)
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                data = os.pread(source, min(length, _COPY_BYTES), offset)
                self.write(data)
                return len(data)
        self.size += copied
        return copied

    def sync(self) -> None:
        """Return when what was written is on the disk. Raises `StorageFull` or OSError."""
        with storage_errors():
            os.fdatasync(self.fd)

    def close(self) -> None:
        """Close the descriptor; closing twice is no error. Raises `StorageFull`: file servers say it late."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with storage_errors():
                os.close(fd)


class Incoming:
    """The files of one submission. Its calls block, and are made one after the other.

    While they arrive they lie in ``.incoming/<uuid>/``, named by their token.
    """

    def __init__(self, tasks_dir: Path, uuid: str, modes: Modes) -> None:
        """Make room for the submission `uuid`. Raises `StorageFull`, or OSError."""
        self._tasks_dir, self._uuid, self._modes = tasks_dir, uuid, modes
        self._files: dict[int, IncomingFile] = {}
        self._placed: dict[str, int] = {}
        """Name and inode of what `commit_into` has put into another task's folder."""
        self._home: str | None = None
        """The folder that the files were committed to."""
        with storage_errors(), places(tasks_dir) as (_, aside):
            self._parts = self._make_folder(aside, uuid)

    def create(self) -> IncomingFile:
        """A new, empty file. Raises `StorageFull`, or OSError."""
        token = len(self._files)
        with storage_errors():
            fd = os.open(str(token), _CREATE, 0o600, dir_fd=self._parts)
            self._files[token] = file = IncomingFile(token, fd)
            self._modes.apply(fd, self._modes.file)
        return file

    def write(self, token: int, data: bytes | memoryview) -> None:
        """Append to a file; see `IncomingFile.write`."""
        self._files[token].write(data)

    def commit(self, names: Mapping[int, str], *, sync: bool = True) -> None:
        """Make the named files the new task's folder, by one rename; files without a name are dropped.

        With `sync` they are on the disk before. Raises `StorageFull`; `Conflict` if there is such a
        folder; `InvalidInput` for a name that is too long. `discard` is still due.
        """
        self._check(names)
        with storage_errors(), places(self._tasks_dir) as (tasks, aside):
            self._finish(names, sync=sync)
            ready = self._make_folder(aside, self._ready)
            try:
                for token, name in names.items():
                    _rename(str(token), name, self._parts, ready)
                if sync:
                    os.fsync(ready)
            finally:
                os.close(ready)
            _rename_folder(self._ready, self._uuid, aside, tasks)
            self._home = self._uuid
            if sync:
                os.fsync(tasks)

    def commit_into(self, folder_uuid: str, names: Mapping[int, str], *, sync: bool = True) -> None:
        """Put the named files into another task's folder, never over anything that is there.

        All or none: raises `Conflict` if a name is taken (see `Workspace.taken`) or the folder cannot be
        written to, `NotFound` if it is gone, `StorageFull`, `InvalidInput`. `discard` is still due.
        """
        self._check(names)
        with storage_errors(), places(self._tasks_dir) as (tasks, _):
            self._finish(names, sync=sync)
            self._write_note(folder_uuid, names)
            try:
                with opened(folder_uuid, SEARCH, dir_fd=tasks) as target:
                    self._place(names, target, sync=sync)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotFound("the parent task's folder is gone") from error
            self._home = folder_uuid

    def undo(self) -> None:
        """Take a commit back, because the task could not be recorded; without a commit, do nothing.

        Raises OSError (`removal.FilesRemain`). `discard` is still due.
        """
        home, self._home = self._home, None
        if home is None:
            return
        with places(self._tasks_dir) as (tasks, aside):
            if home == self._uuid:
                with suppress(FileNotFoundError):
                    move(tasks, self._uuid, aside, self._ready)
                remove_tree(aside, self._ready)
                return
            with suppress(FileNotFoundError), opened(home, SEARCH, dir_fd=tasks) as target:
                _take_back(self._placed, target)

    def discard(self) -> None:
        """Remove what is under way and close everything, but leave what was committed.

        To be called when the task is recorded, or is not to be: if the daemon dies before, the next one
        takes back the commit of a task that it does not know (`Workspace.prepare`). May be called again.
        Raises OSError (`removal.FilesRemain`) if the disk fails.
        """
        for file in self._files.values():
            with suppress(OSError, StorageFull):  # a late "disk full" of a file that nobody wants
                file.close()
        if self._parts >= 0:
            parts, self._parts = self._parts, -1
            os.close(parts)
            with places(self._tasks_dir) as (_, aside):
                remove_tree(aside, self._ready)
                remove_tree(aside, self._uuid)

    @property
    def _ready(self) -> str:
        return f"{self._uuid}.ready"

    def _make_folder(self, aside: int, name: str) -> int:
        """A new folder with a task folder's permissions; its descriptor."""
        os.mkdir(name, 0o700, dir_fd=aside)
        try:
            fd = os.open(name, LIST, dir_fd=aside)
            try:
                self._modes.apply(fd, self._modes.folder)
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            os.rmdir(name, dir_fd=aside)
            raise
        return fd

    def _check(self, names: Mapping[int, str]) -> None:
        """Raise ValueError unless each is the plain name of one file: callers make them, not clients."""
        different = len(set(names.values())) == len(names) and names.keys() <= self._files.keys()
        if not different or not all(map(is_plain, names.values())):
            raise ValueError(f"not the names of different files: {dict(names)!r}")

    def _finish(self, names: Mapping[int, str], *, sync: bool) -> None:
        """Close all files; those that are kept are on the disk then, and `StorageFull` has been raised."""
        for token, file in self._files.items():
            if file.fd >= 0 and sync and token in names:
                file.sync()
            file.close()

    def _write_note(self, folder_uuid: str, names: Mapping[int, str]) -> None:
        """Note where the files go, for the next daemon if this one dies before the task is recorded."""
        note = json.dumps({"folder": folder_uuid, "names": {name: token for token, name in names.items()}})
        with opened(_NOTE, _CREATE, dir_fd=self._parts) as fd:
            os.write(fd, note.encode())

    def _place(self, names: Mapping[int, str], target: int, *, sync: bool) -> None:
        """Give every file its name in `target`, too, or none of them."""
        try:
            for token, name in names.items():
                self._placed[name] = _link(str(token), name, self._parts, target, self._modes)
            if sync and names:
                # What SEARCH opens cannot be synced. A folder that a job made unreadable stays unsynced.
                with suppress(PermissionError), opened(".", LIST, dir_fd=target) as readable:
                    os.fsync(readable)
        except BaseException:
            _take_back(self._placed, target)
            raise


def take_back_commit(tasks: int, aside: int, uuid: str) -> None:
    """Take back what a submission, broken off by the daemon's death, put into another task's folder.

    `tasks` and `aside` are descriptors of the folder of task folders and of `ASIDE` in it. What was
    copied, for want of hard links, is not recognised and stays. Raises OSError.
    """
    if not stat.S_ISDIR(os.stat(uuid, dir_fd=aside, follow_symlinks=False).st_mode):
        return  # the mark of one without files
    with opened(uuid, LIST, dir_fd=aside) as parts:
        try:
            with opened(_NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parts) as fd:
                note = json.loads(os.read(fd, os.fstat(fd).st_size))
            placed = {
                name: os.stat(str(token), dir_fd=parts, follow_symlinks=False).st_ino
                for name, token in note["names"].items()
            }
            with opened(note["folder"], SEARCH, dir_fd=tasks) as target:
                _take_back(placed, target)
        except (FileNotFoundError, ValueError):
            return  # it had not come so far, or died in writing the note: nothing was put there


@contextmanager
def places(tasks_dir: Path) -> Iterator[tuple[int, int]]:
    """Descriptors of the folder of task folders, and of the one in which submissions arrive."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with opened(tasks_dir, flags) as tasks, opened(ASIDE, LIST, dir_fd=tasks) as aside:
        yield tasks, aside


def _take_back(placed: dict[str, int], target: int) -> None:
    """Remove these names (with their inodes) from a folder, unless something else is called so by now."""
    for name, inode in placed.items():
        with suppress(FileNotFoundError):
            if os.stat(name, dir_fd=target, follow_symlinks=False).st_ino == inode:
                os.unlink(name, dir_fd=target)
    placed.clear()


def _rename(old: str, new: str, source: int, target: int) -> None:
    try:
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        _refuse_long(error)
        raise


def _rename_folder(old: str, new: str, source: int, target: int) -> None:
    try:
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise Conflict("there is a folder of this task already") from error
        raise


def _link(old: str, new: str, source: int, target: int, modes: Modes) -> int:
    """Make `new` a further name of `old`, never over anything; the inode that has it now."""
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        return os.stat(old, dir_fd=source, follow_symlinks=False).st_ino
    except FileExistsError as error:
        raise Conflict(f"the parent task's folder has a file {new!r} already") from error
    except OSError as error:
        _refuse_long(error)
        if error.errno == errno.EACCES:
            raise Conflict("a job has made the parent task's folder unwritable") from error
        if error.errno not in NO_LINKS:
            raise
    return _copy(old, new, source, target, modes)


def _copy(old: str, new: str, source: int, target: int, modes: Modes) -> int:
    """Like `_link`, for file systems without hard links."""
    with opened(old, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source) as reading:
        try:
            fd = os.open(new, _CREATE, 0o600, dir_fd=target)
        except FileExistsError as error:
            raise Conflict(f"the parent task's folder has a file {new!r} already") from error
        try:
            modes.apply(fd, modes.file)
            while data := os.read(reading, _COPY_BYTES):
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            os.fdatasync(fd)
            return os.fstat(fd).st_ino
        except BaseException:
            os.unlink(new, dir_fd=target)
            raise
        finally:
            os.close(fd)


def _refuse_long(error: OSError) -> None:
    if error.errno == errno.ENAMETOOLONG:
        raise InvalidInput("the name under which a file would be stored is too long") from error
