"""Folders as hostile jobs leave them, for the tests of what reads and removes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

UUID = "0a1b2c3d-1111-4222-8333-944445555666"
OTHER = "ffffffff-1111-4222-8333-944445555666"
NOBODY = 65534
SECRET = "root:x:0:0:what no job may show"

#: Regular files whose names try to be something else.
ODD_NAMES = (
    b"plain.txt",
    b"with space.txt",
    b"new\nline",
    b"-rf",
    b"back\\slash",
    b"percent%2e%2e",
    b"quote\"'",
    b"tab\tand\x1b[31mred",
    "umlaut-ä-\U0001f9ec".encode(),
    b"latin-\xe9",
    b"lone-\xed\xa0\x80",
    b"...",
    b"..hidden",
    b"C:",
    b"x" * 255,
)


def make_odd_files(folder: Path) -> None:
    """One file for each of `ODD_NAMES`, its content its own name."""
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(name)


def make_traps(folder: Path, outside: Path) -> list[bytes]:
    """Links, FIFOs, sockets and (as root) devices; the paths at which something may seem to be."""
    secret = outside / "secret"
    secret.write_text(SECRET)
    (folder / "link").symlink_to(secret)
    (folder / "relative-link").symlink_to(os.path.relpath(secret, folder))
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "outside").symlink_to(outside)
    (folder / "here").symlink_to(".")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..")
    os.mkfifo(folder / "fifo")
    _make_socket(folder, "socket")
    found = [b"link", b"relative-link", b"passwd", b"dangling", b"loop", b"outside/secret", b"here/link"]
    found += [b"sub", b"sub/up/link", b"fifo", b"socket", b"link/", b"link/x"]
    if _make_device(folder / "device"):
        found.append(b"device")
    return found


def _make_socket(folder: Path, name: str) -> None:
    """Bound relative to the folder: a socket's path may not be long."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
    finally:
        os.chdir(before)


def _make_device(path: Path) -> bool:
    """Whether a device could be made: only root can, and not in every container."""
    try:
        os.mknod(path, 0o20600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        return False
    return True


def make_deep(folder: Path, levels: int) -> None:
    """Directories within directories, with a file in the last: deeper than any path can say."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.close(fd)


def open_descriptors() -> list[tuple[str, str]]:
    """What this process has open, to find what was left open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append((link.name, str(link.readlink())))
        except FileNotFoundError:
            continue  # the one that the folder itself was read with
    return sorted(found)


def as_nobody(action: Callable[[], None]) -> None:
    """Run without root's power over permissions; an ordinary user has none to lay down."""
    if os.geteuid() != 0:
        action()
        return
    os.seteuid(NOBODY)
    try:
        action()
    finally:
        os.seteuid(0)
