"""The machine that the figures were measured on, without its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import tornado


def describe(folder: Path) -> list[tuple[str, str]]:
    """What there is to know of this machine now; `folder` is where the benchmarks put their files."""
    return [
        ("CPU", f"{_cpu()}, {os.cpu_count()} cores, {len(os.sched_getaffinity(0))} of them usable"),
        ("Memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.0f} GiB"),
        ("Kernel", f"{platform.system()} {platform.release()}"),
        ("Files on", filesystem(folder)),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Tornado", tornado.version),
        ("Load before", f"{os.getloadavg()[0]:.1f} (1 minute)"),
    ]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.machine()


def filesystem(folder: Path) -> str:
    """The type of the file system that holds this folder."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, found, *_ = line.split(" ")
        inside = Path(point) in (folder, *folder.parents)
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
