"""The program of a script: found, judged, and read, so that its content can travel to the jobs.

Where the copy is put, and how it is run, is decided elsewhere.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

#: Bytes of a program whose content is copied to the tasks' file system.
MAX_CONTENT = 16 * 1024 * 1024

#: What tells one version of a file from the next; None if it is not there. The change time catches
#: what keeps size and modification time, such as a new mode.
Stamp = tuple[int, int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Program:
    """A program; `content` is empty if it does not travel but runs in its own place."""

    path: Path
    content: bytes
    travels: bool


class NoProgram(ValueError):
    """There is no such program, or it could not be run; worded for the administrator."""


def stamp(file: Path) -> Stamp:
    """The stamp of a file as it is now."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)


def path_of(command: str, scripts_dir: Path) -> Path:
    """The absolute path of a command, which is absolute or relative to the scripts folder."""
    return Path(os.path.abspath(scripts_dir / command))  # noqa: PTH100  (Path.absolute keeps "..")


def inline(text: str) -> bytes:
    """The content of a script that stands in its definition; ``/bin/sh`` runs it unless it says else."""
    return (text if text.startswith("#!") else f"#!/bin/sh\n{text}").encode()


def read(path: Path, scripts_dir: Path) -> Program:
    """Judge and read a program.

    What lies in the scripts folder travels, and so does a script (``#!``) elsewhere; an installed
    binary, or what is larger than `MAX_CONTENT`, runs in its own place. Raises `NoProgram`.
    """
    try:
        return _read(path, ours=scripts_dir in path.parents)
    except OSError as error:
        raise NoProgram(f"cannot be read: {error.strerror} ({path})") from None


def _read(path: Path, *, ours: bool) -> Program:
    # Not blocking, since opening a FIFO would wait for a writer that never comes.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoProgram(f"must be a regular file ({path})")
        head = os.pread(fd, 256, 0)
        _check_head(path, head, executable=bool(status.st_mode & 0o111))
        small = status.st_size <= MAX_CONTENT
        if not small and ours:
            raise NoProgram(
                f"must be at most {MAX_CONTENT // 1024**2} MiB to be copied to the jobs: install a larger "
                f"one elsewhere and name it by its absolute path ({path})"
            )
        if small and (ours or head.startswith(b"#!")):
            with open(fd, "rb", closefd=False) as stream:
                return Program(path, stream.read(MAX_CONTENT), travels=True)
        if not status.st_mode & 0o111:
            raise NoProgram(f"must be executable, since it runs in its own place ({path})")
        return Program(path, b"", travels=False)
    finally:
        os.close(fd)


def _check_head(path: Path, head: bytes, *, executable: bool) -> None:
    if not head:
        raise NoProgram(f"must not be empty ({path})")
    if not executable and not head.startswith(b"#!"):
        raise NoProgram(f"must be executable or begin with #! ({path})")
    first, newline, _ = head.partition(b"\n")
    if head.startswith(b"#!") and newline and first.endswith(b"\r"):
        raise NoProgram(f"has Windows line ends, with which #! does not work ({path})")
