"""The start: how long it takes and how much memory the daemon has then, empty and with many tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, below, spread
from benchmarks.programs import Daemon
from benchmarks.records import fill, uuid_of
from benchmarks.scale import Scale
from benchmarks.wire import Unexpected, head

EMPTY_GOAL = below(60, " MB")
FULL_GOAL = below(400, " MB")
START_GOAL = below(4, " s")

#: Bytes of a megabyte.
MB = 1_000_000


def start(place: Path, scale: Scale) -> list[Figure]:
    """An empty daemon, and one with many tasks; each is started several times."""
    fill(place / "full" / "state", scale.many_tasks)
    empty = _measure(place / "empty", scale.starts, "/script/")
    full = _measure(place / "full", scale.starts, f"/task/{uuid_of(0)}")
    tasks = f"{scale.many_tasks:,} tasks"
    return [
        Figure(
            what="Memory of the idle, empty daemon",
            value=max(empty.memory),
            shown=f"{max(empty.memory):.0f} MB",
            goal=EMPTY_GOAL,
            note=f"resident, after its first answers; the peak until then: {max(empty.peak):.0f} MB",
        ),
        Figure(
            what=f"Memory with {tasks}",
            value=max(full.memory),
            shown=f"{max(full.memory):.0f} MB",
            goal=FULL_GOAL,
            note=f"resident, after its first answers; the peak until then: {max(full.peak):.0f} MB",
        ),
        Figure(
            what=f"Start with {tasks}, from nothing to listening",
            value=median(full.seconds),
            shown=f"{spread(full.seconds, '.2f')} s",
            goal=START_GOAL,
            note=f"the start of Python and all imports included; empty: {spread(empty.seconds, '.2f')} s",
        ),
    ]


class _Starts:
    """What was seen at each start."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.memory: list[float] = []
        self.peak: list[float] = []


def _measure(folder: Path, times: int, path: str) -> _Starts:
    seen = _Starts()
    daemon = Daemon(folder)
    for _ in range(times):
        seen.seconds.append(daemon.start())
        try:
            with daemon.connect() as connection:
                for _ in range(20):
                    if connection.exchange(head("GET", path)).status != 200:
                        raise Unexpected(f"{path} is not answered")
            seen.memory.append(daemon.memory / MB)
            seen.peak.append(daemon.peak / MB)
        finally:
            daemon.stop()
    return seen


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"start": start}
