"""The fixture `small_disk`, a disk that is soon full, and what fills it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SmallDisk = Callable[[int], Path]
"""Mounts a disk of so many KiB and returns the folder where it is."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """``small_disk(512)``: an empty tmpfs of 512 KiB, unmounted after the test. Needs root.

    Without root the test is skipped, and fails where ``CI=true``: there nobody would notice.
    """
    if os.geteuid() != 0:
        reason = "A SMALL DISK CAN BE MOUNTED ONLY BY ROOT: run these tests as root, too"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        options = f"size={kib}k,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "drmaaticd-test", place], check=True)
        mounted.append(place)
        return place

    yield mount
    for place in reversed(mounted):
        # Lazily: a process that a failed test left behind must not keep the disk.
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path: Path) -> None:
    """Let a file grow until its disk is full."""

    def grow() -> None:
        with path.open("ab", buffering=0) as stream:
            while stream.write(bytes(4096)):
                continue

    with pytest.raises(OSError, match="No space left"):
        grow()
