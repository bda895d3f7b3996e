"""The folders under `tasks_dir`: where each task's files, control files and scripts are, and how they go.

The only place that joins paths; what clients send reaches the file system through `folder` alone.
Everything here blocks and is called in threads. Which task may do what is decided by others.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from drmaaticd.archive import Archive, open_archive
from drmaaticd.copies import Copies
from drmaaticd.errors import Forbidden, NotFound, StorageFull, StoreError, Unavailable
from drmaaticd.folder import (
    LIST,
    SEARCH,
    Listing,
    OpenedFile,
    is_plain,
    list_files,
    open_file,
    opened,
    storage_errors,
    used_bytes,
)
from drmaaticd.incoming import ASIDE, Incoming, IncomingFile, Modes, take_back_commit
from drmaaticd.removal import FilesRemain, empty, move, remove_tree
from drmaaticd.syncing import SharedSync
from drmaaticd.unfiled import Unfiled

CONTROL = ".control"
SPOOL = ".spool"
SCRIPTS = ".scripts"
TRASH = ".trash"

_TASKS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # the administrator may have made it a link
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

__all__ = ["Archive", "Incoming", "IncomingFile", "Listing", "OpenedFile", "Unfiled", "Workspace"]

logger = logging.getLogger(__name__)


class JobsAccount(Protocol):
    """A second account that jobs run under, and what it does to folders that its jobs have filled.

    Both take a directory's descriptor and return what went wrong, if anything. They raise OSError.
    """

    gid: int
    """The group that the daemon's account and that one share."""

    def empty(self, folder: int) -> str:
        """Remove all that the account may remove."""

    def share(self, folder: int) -> str:
        """Let the group read all that is the account's."""


class Workspace:
    """The folder of task folders.

    `jobs` is the account of the jobs where it is not the daemon's own: its group may then write to task
    folders, to control folders whose task it knows, and ring in the spool.
    """

    def __init__(self, tasks_dir: Path, *, jobs: JobsAccount | None = None) -> None:
        self.tasks_dir = tasks_dir
        self._folders_sync = SharedSync(tasks_dir)
        self._controls_sync = SharedSync(tasks_dir / CONTROL)
        self._jobs = jobs
        self._modes = Modes(None if jobs is None else jobs.gid)
        self._copies = Copies(SCRIPTS, self._modes)

    # Places

    @property
    def spool(self) -> Path:
        """The folder in which launchers ring their doorbells."""
        return self.tasks_dir / SPOOL

    @property
    def scripts(self) -> Path:
        """The folder of copied scripts."""
        return self.tasks_dir / SCRIPTS

    @property
    def control_dir(self) -> Path:
        """The folder of all tasks' control folders."""
        return self.tasks_dir / CONTROL

    def control(self, uuid: str) -> Path:
        """The folder of a task's control files. Raises `NotFound` for what is no UUID."""
        return self.control_dir / checked(uuid)

    def folder(self, uuid: str) -> Path:
        """The folder that a task's job works in. Raises `NotFound` for what is no UUID."""
        return self.tasks_dir / checked(uuid)

    def sync_folders(self) -> None:
        """Return when the task folders made so far are on the disk. Raises `StorageFull`, OSError."""
        with storage_errors():
            self._folders_sync.sync()

    def sync_controls(self) -> None:
        """Return when the control folders made so far are on the disk. Raises `StorageFull`, OSError."""
        with storage_errors():
            self._controls_sync.sync()

    def prepare(self, known: Callable[[str], bool] | None = None) -> None:
        """Make the folders, and remove what submissions and deletions under way left behind.

        To be called once, before anything else, by the one daemon that uses this folder. `known` says
        whether a UUID is a recorded task's: what a submission had committed when the daemon died is
        removed if the task is not. Raises `StoreError` with the folder and the reason if it cannot be used.
        """
        with self._made() as tasks:
            if known is not None:
                _abandon(tasks, known)
            for name in (ASIDE, TRASH):
                with opened(name, LIST, dir_fd=tasks) as place:
                    try:
                        self._remove(place)
                    except FilesRemain as error:
                        logger.warning("not everything in %s could be removed: %s", name, error)

    def is_blank(self) -> bool:
        """Whether no daemon has used this folder yet, or it is not there."""
        return not self.control_dir.is_dir()

    def make_places(self) -> None:
        """Make the folders, and touch nothing that is there: beside a daemon that may be running.

        Raises `StoreError`.
        """
        with self._made():
            return

    def make_control(self, uuid: str) -> Path:
        """A task's control folder, made if need be. Raises OSError."""
        checked(uuid)
        with self._opened() as tasks, opened(CONTROL, SEARCH, dir_fd=tasks) as control:
            self._modes.make_folder(control, uuid, self._modes.folder)
        return self.control(uuid)

    @property
    def shared(self) -> bool:
        """Whether jobs run under another account, whose group may write where jobs write."""
        return self._jobs is not None

    # Uploads and scripts

    def incoming(self, uuid: str) -> Incoming:
        """Room for the files of the new task `uuid`. Raises `StorageFull`, or OSError."""
        return Incoming(self.tasks_dir, checked(uuid), self._modes)

    def unfiled(self, uuid: str) -> Unfiled:
        """Room for the new task `uuid`, which has no files."""
        return Unfiled(self.tasks_dir, checked(uuid), self._modes)

    def taken(self, folder_uuid: str, names: Iterable[str]) -> set[str]:
        """Those of `names` that exist in a folder, as whatever. Raises `NotFound` without the folder.

        The names are the daemon's own making: a path raises ValueError.
        """
        names = set(names)
        if not all(map(is_plain, names)):
            raise ValueError(f"not files' names: {names!r}")
        with self._folder(folder_uuid) as folder:
            return {name for name in names if _exists(folder, name)}

    def store_script(self, content: bytes, name: str) -> Path:
        """A copy of a script that jobs can run; see `copies.Copies`. Raises `StorageFull`, OSError."""
        with storage_errors(), self._opened() as tasks:
            return self.scripts / self._copies.store(tasks, content, name)

    def old_scripts(self) -> set[str]:
        """The digests of copied scripts that may go if no task needs them. Raises OSError, `Unavailable`."""
        with self._opened() as tasks:
            return self._copies.old(tasks)

    def scripts_named(self, text: bytes) -> set[str]:
        """The digests of the copied scripts that a launcher's text names."""
        return self._copies.named(text)

    def remove_script(self, digest: str) -> bool:
        """Remove the copies of one content, unless somebody has asked for them lately.

        They are out of their place at once; a crash leaves the rest to the next `prepare`. Raises OSError,
        `Unavailable`.
        """
        with self._opened() as tasks, opened(TRASH, LIST, dir_fd=tasks) as trash:
            name = f"{digest}.{secrets.token_hex(8)}"
            if not self._copies.take_out(tasks, digest, trash, name):
                return False
            self._remove(trash, name)
        return True

    # Reading

    def listing(self, folder_uuid: str) -> Listing:
        """The regular files of a folder. Raises `NotFound` without the folder, OSError."""
        with self._folder(folder_uuid) as folder:
            found = list_files(folder)
            return list_files(folder) if found.unreadable and self._shared(folder) else found

    def open(self, folder_uuid: str, path: bytes) -> OpenedFile:
        """The regular file at exactly `path` in a folder; see `folder.open_file` for what is raised."""
        with self._folder(folder_uuid) as folder:
            try:
                return open_file(folder, path)
            except Forbidden:
                if not self._shared(folder):
                    raise
            return open_file(folder, path)

    def archive(self, folder_uuid: str, arc_root: str, format: str) -> Archive:
        """All regular files of a folder, as ``zip`` or ``tar.gz``; see `archive.open_archive`."""
        with self._folder(folder_uuid) as folder:
            archive = open_archive(folder, arc_root, format)
            if archive.skipped and self._shared(folder):
                archive.close()
                return open_archive(folder, arc_root, format)
            return archive

    def usage(self, uuid: str) -> int:
        """The bytes that a folder takes on the disk, 0 if there is none."""
        with suppress(NotFound), self._folder(uuid) as folder:
            used, unreadable = used_bytes(folder)
            return used_bytes(folder)[0] if unreadable and self._shared(folder) else used
        return 0

    # Removal

    def trash(self, uuid: str) -> None:
        """Move a folder out of sight, at once; that there is none is no error. Raises OSError."""
        checked(uuid)
        with self._opened() as tasks:
            _discard(tasks, uuid, tasks)

    def empty_trash(self, uuid: str) -> None:
        """Remove what `trash` moved away. Raises `removal.FilesRemain` if something cannot be removed."""
        checked(uuid)
        with self._opened() as tasks, opened(TRASH, LIST, dir_fd=tasks) as trash:
            self._remove(trash, uuid)

    def remove_control(self, uuid: str) -> None:
        """Remove a task's control folder. Raises `removal.FilesRemain`, OSError."""
        checked(uuid)
        with self._opened() as tasks, opened(CONTROL, SEARCH, dir_fd=tasks) as control:
            name = _discard(control, uuid, tasks)
            if name is not None:
                with opened(TRASH, LIST, dir_fd=tasks) as trash:
                    self._remove(trash, name)

    def clear_spool(self, names: Iterable[str]) -> list[str]:
        """Remove these from the spool; the names of what stays, as a job has put no file there."""
        stay: list[str] = []
        with self._opened() as tasks, opened(SPOOL, LIST, dir_fd=tasks) as spool:
            for name in names:
                try:
                    os.unlink(name, dir_fd=spool)
                except FileNotFoundError:
                    continue
                except (IsADirectoryError, PermissionError):
                    stay.append(name)
            return [name for name in stay if not self._removed(spool, name)]

    # Within

    def _removed(self, place: int, name: str) -> bool:
        try:
            self._remove(place, name, exactly=True)
        except FilesRemain as error:
            logger.warning("%r in the spool cannot be removed: %s", name, error)
            return False
        return True

    def _remove(self, place: int, prefix: str = "", *, exactly: bool = False) -> None:
        """Remove what is called so in a directory, with the help of the jobs' account where that is needed.

        Raises `FilesRemain`.
        """
        try:
            remove_tree(place, prefix) if exactly else empty(place, prefix=prefix)
            return
        except FilesRemain:
            if self._jobs is None:
                raise
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(prefix)]
        for name in names:
            # What is wrong, the second try says.
            with suppress(OSError), opened(name, SEARCH, dir_fd=place) as folder:
                self._jobs.empty(folder)
        remove_tree(place, prefix) if exactly else empty(place, prefix=prefix)

    def _shared(self, folder: int) -> bool:
        """Whether something may be readable now that was not: the jobs' account has shared what it made."""
        if self._jobs is None:
            return False
        try:
            problem = self._jobs.share(folder)
        except OSError as error:
            problem = str(error)
        if problem:
            logger.info("files that jobs made could not be shared: %s", problem)
        return not problem

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the folder of task folders. Raises `Unavailable` while it cannot be reached."""
        try:
            fd = os.open(self.tasks_dir, _TASKS)
        except OSError as error:
            raise Unavailable("the folder of the tasks cannot be reached") from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _folder(self, uuid: str) -> Iterator[int]:
        """A descriptor of a task's folder. Raises `NotFound` if there is none."""
        checked(uuid)
        with self._opened() as tasks:
            try:
                fd = os.open(uuid, SEARCH, dir_fd=tasks)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise NotFound("the task has no files") from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _made(self) -> Iterator[int]:
        """A descriptor of the folder of task folders, with all that belongs into it. Raises `StoreError`."""
        try:
            self.tasks_dir.mkdir(0o750, parents=True, exist_ok=True)
            with opened(self.tasks_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as tasks:
                self._make_places(tasks)
                _probe(tasks)
                yield tasks
        except OSError as error:
            place = error.filename if isinstance(error.filename, str) else ""
            where = self.tasks_dir / place  # an absolute one stands for itself
            raise StoreError(f"{where} cannot be used: {error.strerror}") from error

    def _make_places(self, tasks: int) -> None:
        # Jobs that share an account must not learn of each other's tasks: they pass through, and ring,
        # and cannot list.
        control, spool = (0o700, 0o700) if self._jobs is None else (0o2710, 0o2730)
        places = {CONTROL: control, SPOOL: spool, SCRIPTS: self._modes.readable, ASIDE: 0o700, TRASH: 0o700}
        for name, mode in places.items():
            self._modes.make_folder(tasks, name, mode)
        if self._jobs is not None:
            status = os.fstat(tasks)
            mode = status.st_mode & 0o7777
            # The jobs' account must be able to come through; whose tasks there are, it must not see.
            wanted = (mode | 0o110) & ~0o066
            if (mode, status.st_gid) != (wanted, self._jobs.gid):
                self._modes.apply(tasks, wanted)


def checked(uuid: str) -> str:
    """The UUID as it is, if it is one in canonical form (RFC 9562, section 4); raises `NotFound` if not."""
    if not _UUID.fullmatch(uuid):
        raise NotFound("there is no such task")
    return uuid


def _probe(tasks: int) -> None:
    """Raise OSError unless files can be made here; a full disk passes, since it can be mended meanwhile."""
    name = f".probe-{secrets.token_hex(8)}"
    try:
        with storage_errors():
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=tasks))
            os.unlink(name, dir_fd=tasks)
    except StorageFull:
        logger.warning("the disk of the tasks' folder is full")


def _abandon(tasks: int, known: Callable[[str], bool]) -> None:
    """Take back the commits of submissions that were under way and whose tasks are not `known`."""
    with opened(ASIDE, LIST, dir_fd=tasks) as aside, opened(CONTROL, LIST, dir_fd=tasks) as control:
        with os.scandir(aside) as entries:
            names = [entry.name for entry in entries if _UUID.fullmatch(entry.name)]
        for uuid in names:
            if not known(uuid):
                logger.info("the submission of %s was broken off; its files are removed", uuid)
                take_back_commit(tasks, aside, uuid)
                _discard(tasks, uuid, tasks)
                _discard(control, uuid, tasks)


def _discard(source: int, uuid: str, tasks: int) -> str | None:
    """Move a task's folder from `source` into the trash; its name there, None if there is none."""
    name = f"{uuid}.{secrets.token_hex(8)}"
    with opened(TRASH, SEARCH, dir_fd=tasks) as trash:
        try:
            move(source, uuid, trash, name)
        except FileNotFoundError:
            return None
    return name


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise
    return True
