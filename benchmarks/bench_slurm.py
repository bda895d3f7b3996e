"""The daemon on a real Slurm against loops of ``sbatch``; nothing where no controller answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks import bench_endings
from benchmarks.bare import HOLD, sbatch
from benchmarks.figures import Figure, Goal, alternate, at_least, below, percentile, ratio, spread
from benchmarks.programs import Bare, Daemon, Program
from benchmarks.scale import Scale
from benchmarks.wire import form, hammer
from drmaaticd.drm.slurm import SlurmEngine

#: Loops of sbatch, and clients of the daemon, of the round with many.
LOOPS, CLIENTS = 4, 8

#: Processors from which on many clients have a goal.
ENOUGH_CPUS = 4

#: The first words of the names of all jobs made here.
SCRIPT = "slurmbench"

#: Jobs that one scancel is given.
CHUNK = 500

MANY_GOAL = at_least(0.7)
ONE_GOAL = at_least(0.9)
ENDING_GOAL = below(0.5, " s")

SCRIPTS = {SCRIPT: ("exit 0", '[[param]]\nname = "text"\ntype = "string"')}


def is_here() -> bool:
    """Whether a Slurm answers on this machine."""
    if shutil.which("sbatch") is None or shutil.which("scontrol") is None:
        return False
    ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=30)
    return " UP" in ping.stdout


def slurm(place: Path, scale: Scale) -> list[Figure]:
    """Submissions, a sweep and endings."""
    if not is_here():
        print("no Slurm answers here: tests/slurm.sh start makes one", file=sys.stderr)
        return []
    try:
        figures = [*_submissions(place / "many", scale), *_sweep(place / "sweep", scale)]
    finally:
        _cancel_all()
    return [*figures, _endings(place / "endings", scale)]


def _loops(count: int, seconds: float) -> float:
    """Submissions a second of so many loops of sbatch."""

    def loop(number: int) -> int:
        done = 0
        while time.perf_counter() < end:
            sbatch(f"{SCRIPT}-{number}")
            done += 1
        return done

    begun = time.perf_counter()
    end = begun + seconds
    with ThreadPoolExecutor(count) as pool:
        done = sum(pool.map(loop, range(count)))
    return done / (time.perf_counter() - begun)


def _posts(program: Program, path: str, clients: int, seconds: float) -> float:
    """Answers 201 a second to so many clients."""
    request = form(path, {"task_name": SCRIPT, "text": "some words"})
    return hammer(program.port, [request], connections=clients, seconds=seconds, status=201).rate


def _submissions(place: Path, scale: Scale) -> list[Figure]:
    seconds = scale.request_seconds
    drm = {"backend": "slurm", "max_live": 100_000, "native.always": HOLD}
    with Daemon(place / "daemon", SCRIPTS, **drm) as daemon, Bare(place / "bare") as bare:

        def posts(program: Program, path: str, clients: int) -> Callable[[], float]:
            return _then_cancel(lambda: _posts(program, path, clients, seconds))

        def loops(count: int) -> Callable[[], float]:
            return _then_cancel(lambda: _loops(count, seconds))

        many, four = alternate(scale.slurm_rounds, posts(daemon, "/task/", CLIENTS), loops(LOOPS))
        ours, loop, plain, synced = alternate(
            scale.slurm_rounds,
            posts(daemon, "/task/", 1),
            loops(1),
            posts(bare, "/sbatch", 1),
            posts(bare, "/sbatch-synced", 1),
        )
    cpus = len(os.sched_getaffinity(0))
    return [
        _figure(
            f"{CLIENTS} clients against {LOOPS} loops", many, four, MANY_GOAL if cpus >= ENOUGH_CPUS else None
        ),
        _figure("one client against one loop", ours, loop, ONE_GOAL),
        _bare("does nothing but run sbatch", plain, loop, "share of the loop's rate"),
        _bare("has record and script on the disk before that", synced, loop, "share of the loop's rate"),
        _bare(
            "has record and script on the disk before that",
            ours,
            synced,
            "the daemon's share of its rate",
        ),
    ]


def _figure(what: str, ours: Sequence[float], theirs: Sequence[float], goal: Goal | None) -> Figure:
    share = ratio(ours, theirs)
    return Figure(
        what=f"Slurm: tasks accepted, {what} of sbatch, share of its rate",
        value=share,
        shown=f"{share:.2f}",
        goal=goal,
        note=f"{spread(ours, ',.0f')} a second; sbatch: {spread(theirs, ',.0f')}; the answer 201 waits "
        "for the job's id; the jobs are held",
    )


def _bare(what: str, rates: Sequence[float], against: Sequence[float], share: str) -> Figure:
    value = ratio(rates, against)
    return Figure(
        what=f"Slurm: one client of a bare handler that {what}, {share}",
        value=value,
        shown=f"{value:.2f}",
        note=f"{spread(rates, ',.0f')} a second, against {spread(against, ',.0f')}",
    )


def _sweep(place: Path, scale: Scale) -> list[Figure]:
    place.mkdir(parents=True)
    ids = _mine()
    with ThreadPoolExecutor(LOOPS) as pool:
        list(pool.map(sbatch, [f"{SCRIPT}-sweep"] * max(scale.slurm_live - len(ids), 0)))
    ids = _mine()[: scale.slurm_live]
    times = asyncio.run(_ask(ids, scale.slurm_rounds * 3))
    return [
        Figure(
            what=f"Slurm: a sweep over {len(ids):,} live jobs",
            value=median(times),
            shown=f"{median(times):.3f} s",
            note=f"{spread(times, '.3f')}; one squeue, whatever the number",
        )
    ]


async def _ask(ids: Sequence[str], rounds: int) -> list[float]:
    engine = SlurmEngine()
    await engine.start()
    try:
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            await engine.states(ids, 60.0)
            times.append(time.perf_counter() - begun)
        return times
    finally:
        await engine.close()


def _mine() -> list[str]:
    """The ids of the jobs that were made here."""
    rows = subprocess.run(
        ["squeue", "--noheader", "--format=%i %j", "--user", str(os.geteuid())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = (f"{SCRIPT}-", f"t-{SCRIPT}-")
    return [row.split()[0] for row in rows if row.split()[1].startswith(names)]


def _then_cancel(measure: Callable[[], float]) -> Callable[[], float]:
    """The measure, and then an empty queue: a controller takes only so many jobs (MaxJobCount)."""

    def measured() -> float:
        value = measure()
        _cancel_all()
        return value

    return measured


def _cancel_all() -> None:
    ids = _mine()
    for start in range(0, len(ids), CHUNK):
        subprocess.run(["scancel", *ids[start : start + CHUNK]], check=True)


def _endings(place: Path, scale: Scale) -> Figure:
    delays = bench_endings.delays(place, scale.slurm_endings, backend="slurm")
    return Figure(
        what="Slurm: a job's end until the API says `done`",
        value=median(delays),
        shown=f"{median(delays):.3f} s",
        goal=ENDING_GOAL,
        note=f"median of {len(delays)} jobs; 95 of 100 within {percentile(delays, 0.95):.3f} s",
    )


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"slurm": slurm}
