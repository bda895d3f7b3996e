"""Opening what jobs made to the group that the daemon shares with their account (``[drm] run_as``).

Done by the files' owner, the jobs' account: programs make files that they alone can read (mkstemp(3)
does), which the daemon is to serve all the same. Follows no link.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from drmaaticd.folder import LIST, SEARCH, opened

_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

#: What the group gets: of directories, of files.
_DIRECTORY = stat.S_IRGRP | stat.S_IXGRP
_FILE = stat.S_IRGRP


def enter(folder: int) -> int:
    """The same folder, to be read; its owner may have to be let in first. Raises OSError."""
    with suppress(PermissionError):
        return os.open(".", LIST, dir_fd=folder)
    _change(folder, os.fstat(folder).st_mode | stat.S_IRWXU)
    return os.open(".", LIST, dir_fd=folder)


def share(root: int, gid: int) -> None:
    """Let the group `gid` read everything below `root` that is this account's. Raises OSError."""
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        try:
            fd = _descend(root, parts)
        except OSError:
            continue  # gone, or not ours
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    with suppress(OSError):  # what cannot be shared stays as it is
                        if _share_entry(fd, entry.name, gid):
                            pending.append((*parts, entry.name))
        finally:
            os.close(fd)


def _descend(root: int, parts: tuple[str, ...]) -> int:
    current = os.open(".", SEARCH, dir_fd=root)
    for part in parts:
        try:
            following = os.open(part, SEARCH, dir_fd=current)
        finally:
            os.close(current)
        current = following
    try:
        return os.open(".", LIST, dir_fd=current)
    finally:
        os.close(current)


def _share_entry(place: int, name: str, gid: int) -> bool:
    """Share one entry; whether it is a directory, to be entered. Raises OSError."""
    with opened(name, _ENTRY, dir_fd=place) as fd:
        status = os.fstat(fd)
        directory = stat.S_ISDIR(status.st_mode)
        if not directory and not stat.S_ISREG(status.st_mode):
            return False
        wanted = status.st_mode | (_DIRECTORY | stat.S_IRWXU if directory else _FILE)
        if status.st_uid == os.geteuid():
            if status.st_gid != gid:
                os.chown(f"/proc/self/fd/{fd}", -1, gid)
                _change(fd, wanted)
            elif wanted != status.st_mode:
                _change(fd, wanted)
        return directory


def _change(fd: int, mode: int) -> None:
    # A descriptor that needs no permission to open cannot be handed to fchmod; its name can.
    Path(f"/proc/self/fd/{fd}").chmod(stat.S_IMODE(mode))
