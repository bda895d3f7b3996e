"""How much each benchmark does: `FULL` for figures, `QUICK` to see in seconds that all of it works."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes in bytes, times in seconds."""

    rounds: int
    tasks: int
    """In the store while requests are served and the loop is watched."""
    many_tasks: int
    """In the store that is started and weighed."""
    starts: int
    request_seconds: float
    """Of one round of requests."""
    file_size: int
    transfers: int
    """Rounds of transfers."""
    endings: int
    """Jobs whose end is waited for."""
    live: int
    """Tasks under way while the loop is watched."""
    loop_rounds: int
    loop_seconds: float
    """Of one round of watching the loop."""
    watchers: int
    watched_changes: int
    """Changes of a task that all of them watch."""
    slurm_rounds: int
    slurm_live: int
    slurm_endings: int
    cell_rounds: int
    cell_live: int
    cell_swept: int
    cell_endings: int
    """The same on Grid Engine; `cell_swept` jobs are asked about in one sweep."""


FULL = Scale(
    rounds=7,
    tasks=20_000,
    many_tasks=100_000,
    starts=3,
    request_seconds=2.0,
    file_size=1024 * MIB,
    transfers=7,
    endings=40,
    live=1000,
    loop_rounds=3,
    loop_seconds=15.0,
    watchers=1000,
    watched_changes=30,
    slurm_rounds=5,
    slurm_live=2000,
    slurm_endings=20,
    cell_rounds=5,
    cell_live=2000,
    cell_swept=10_000,
    cell_endings=20,
)

QUICK = Scale(
    rounds=1,
    tasks=100,
    many_tasks=200,
    starts=1,
    request_seconds=0.1,
    file_size=2 * MIB,
    transfers=1,
    endings=2,
    live=10,
    loop_rounds=1,
    loop_seconds=0.5,
    watchers=20,
    watched_changes=2,
    slurm_rounds=1,
    slurm_live=10,
    slurm_endings=1,
    cell_rounds=1,
    cell_live=10,
    cell_swept=20,
    cell_endings=1,
)
