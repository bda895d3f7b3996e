"""The store by itself: changes and look-ups at few and at many tasks, its start, the loop's lag.

``python -m benchmarks.bench_store`` runs this alone. What is compared is measured in turns, in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure, Goal, alternate, below, percentile, ratio, spread
from benchmarks.programs import ROOT
from benchmarks.scale import FULL, QUICK, Scale
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task

#: The many tasks of the scale are compared with this part of them.
FEW = 0.01

#: Calls that make one time of a round, and the rounds.
CALLS, ROUNDS = 100, 21

#: Callers that want their insertion durable at the same time.
CALLERS = 64

#: Foldings over which the loop is watched.
FOLDS = 3

RATIO_GOAL = Goal("≤ 2", lambda value: value <= 2)
START_GOAL = below(4, " s")
MEMORY_GOAL = below(400, " MB")
BLOCK_GOAL = below(50, " ms")

MB = 1_000_000

BEGIN = 1_700_000_000_000


def task(number: int, state: State = State.DONE) -> Task:
    """A task such as people send, about 800 bytes of JSON."""
    name = str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128, version=4))
    ended = state.final
    return Task(
        uuid=name,
        script=("fasta-stats", "assemble", "blast", "align", "checksum")[number % 5],
        state=state,
        created=BEGIN + number * 1000,
        updated=BEGIN + number * 1000 + 60_000,
        started=BEGIN + number * 1000 + 2_000,
        ended=BEGIN + number * 1000 + 60_000 if ended else None,
        description=f"Sample {number} of the third series, second lane",
        params=(
            {"name": "input", "value": "input.fasta"},
            {"name": "min_length", "value": "200"},
            {"name": "database", "value": "/data/public/databases/nt/2026-10", "private": True},
            {"name": "threads", "value": "4", "private": True},
        ),
        files_name={"input.fasta": f"sample {number} (trimmed).fasta"},
        folder=name,
        owner=f"ORCID:0000-0002-1825-{number % 200:04d}" if number % 4 else None,
        sender=f"192.0.2.{number % 250}",
        resources={"cpus": 4, "memory": 8 * 2**30, "max_clock_time": 10_800, "queue": "all.q"},
        attempt=1,
        job_id=str(100_000 + number),
        exit_status=0 if ended else None,
        usage={"cpu_seconds": 211.37, "wall_seconds": 58.04, "max_rss_bytes": 1_234_567_890} if ended else {},
    )


async def filled(folder: Path, count: int, live: int = 0, **options: int) -> Store:
    """A store of `count` tasks, `live` of them running, folded."""
    store = await asyncio.to_thread(Store.open, folder)
    for number in range(count):
        store.insert(task(number, State.RUNNING if number < live else State.DONE))
        if number % 1000 == 999:
            await store.durable()
    await store.close()
    return await asyncio.to_thread(lambda: Store.open(folder, **options))


# -- single operations -------------------------------------------------------------------------------


class _Operations:
    """What is measured in one store; each call touches another task."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known = [task(number).uuid for number in range(0, len(store), max(1, len(store) // 1000))]
        self._turns = itertools.count()
        self._fresh = itertools.count(len(store))

    def _uuid(self) -> str:
        return self._known[next(self._turns) * 617 % len(self._known)]

    def insert(self) -> None:
        self.store.insert(task(next(self._fresh)))

    def update(self) -> None:
        detail = f"seen {next(self._turns)} times"
        self.store.update(self._uuid(), lambda record: record.changed(detail=detail))

    def get(self) -> None:
        self.store.get(self._uuid())

    def page(self) -> None:
        self.store.page(page=1, size=10)

    def page_of_owner(self) -> None:
        self.store.page(owner="ORCID:0000-0002-1825-0001", page=1, size=10)

    def page_of_states(self) -> None:
        self.store.page(states={State.DONE, State.FAILED}, page=1, size=10)


NAMES: dict[str, Callable[[_Operations], None]] = {
    "insert": _Operations.insert,
    "update": _Operations.update,
    "look-up by UUID": _Operations.get,
    "first page": _Operations.page,
    "first page of an owner": _Operations.page_of_owner,
    "first page of two states": _Operations.page_of_states,
}


def _timed(runner: asyncio.Runner, operations: _Operations, act: Callable[[_Operations], None]) -> float:
    """Microseconds of a call; what it leaves to be written is written afterwards."""

    async def measure() -> float:
        begin = time.perf_counter()
        for _ in range(CALLS):
            act(operations)
        seconds = time.perf_counter() - begin
        await operations.store.durable()
        return seconds / CALLS * 1e6

    return runner.run(measure())


def _committed(runner: asyncio.Runner, operations: _Operations) -> float:
    """Microseconds of an insertion until it is durable."""

    async def measure() -> float:
        begin = time.perf_counter()
        operations.insert()
        await operations.store.durable()
        return (time.perf_counter() - begin) * 1e6

    return runner.run(measure())


def operations(runner: asyncio.Runner, small: Store, large: Store) -> list[Figure]:
    """The price of each operation in the large store against the small one."""
    few, many = _Operations(small), _Operations(large)
    sizes = f"at {len(large):,} against {len(small):,} tasks"
    figures = []
    for name, act in NAMES.items():
        in_few, in_many = alternate(
            ROUNDS,
            lambda act=act: _timed(runner, few, act),  # type: ignore[misc]
            lambda act=act: _timed(runner, many, act),  # type: ignore[misc]
        )
        figures.append(_ratio(f"Store: {name}, {sizes}", in_many, in_few, "without the sync"))
    in_few, in_many = alternate(ROUNDS, lambda: _committed(runner, few), lambda: _committed(runner, many))
    figures.append(_ratio(f"Store: insert until durable, {sizes}", in_many, in_few, "with the sync"))
    return figures


def _ratio(what: str, many: list[float], few: list[float], note: str) -> Figure:
    value = ratio(many, few)
    shown = f"{statistics.median(few):.0f} and {statistics.median(many):.0f} µs"
    return Figure(what=what, value=value, shown=f"{value:.2f}", goal=RATIO_GOAL, note=f"{shown}, {note}")


def commits(runner: asyncio.Runner, store: Store) -> list[Figure]:
    """Insertions that many callers want to be durable at the same time."""
    inserter = _Operations(store)

    async def caller() -> None:
        inserter.insert()
        await store.durable()

    async def together() -> float:
        begin = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (time.perf_counter() - begin) / CALLERS * 1e6

    times = [runner.run(together()) for _ in range(ROUNDS)]
    return [
        Figure(
            what=f"Store: insert until durable, {CALLERS} callers at once",
            value=statistics.median(times),
            shown=f"{spread(times, '.0f')} µs each",
            note="they share a sync",
        )
    ]


def lists(store: Store) -> list[Figure]:
    """How long the lists that must look at every task hold up the loop."""
    states = {State.DONE, State.FAILED}
    queries: dict[str, Callable[[], object]] = {
        "search": lambda: store.page(search="SAMPLE 77 "),
        "every filter at once": lambda: store.page(
            states=set(State), script="a", description="sample", search="lane", updated_since=1
        ),
        "the last page": lambda: store.page(page=len(store) // 10, size=10),
        "a late page of two states": lambda: store.page(states=states, page=len(store) // 11, size=10),
    }
    return [_held_up(f"Store: {name}, {len(store):,} tasks", query) for name, query in queries.items()]


def _held_up(what: str, query: Callable[[], object]) -> Figure:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        query()
        times.append((time.perf_counter() - begin) * 1e3)
    note = f"the longest of {ROUNDS}; {spread(times, '.1f')} ms"
    return Figure(what=what, value=max(times), shown=f"{max(times):.1f} ms", goal=BLOCK_GOAL, note=note)


# -- the start ---------------------------------------------------------------------------------------

_START = """
import json, sys, time
from pathlib import Path
begin = time.perf_counter()
from drmaaticd.store import Store
store = Store.open(Path(sys.argv[1]))
seconds = time.perf_counter() - begin
status = Path("/proc/self/status").read_text()
rss, peak = (int(status.split(name)[1].split()[0]) * 1024 for name in ("VmRSS:", "VmHWM:"))
print(json.dumps([len(store), seconds, rss, peak]))
"""


def start(folder: Path) -> list[Figure]:
    """Open the large store in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _START, str(folder)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    count, seconds, rss, peak = json.loads(done.stdout)
    return [
        Figure(
            what=f"Store: open with {count:,} tasks",
            value=seconds,
            shown=f"{seconds:.2f} s",
            goal=START_GOAL,
            note="imports included",
        ),
        Figure(
            what=f"Store: memory with {count:,} tasks",
            value=peak / MB,
            shown=f"{rss / MB:.0f} MB",
            goal=MEMORY_GOAL,
            note=f"resident, of the process; its peak, which the goal is for: {peak / MB:.0f} MB",
        ),
    ]


# -- the loop's lag ----------------------------------------------------------------------------------


async def lag(place: Path, count: int, live: int) -> list[Figure]:
    """The longest block of the loop while live tasks change and the journal is folded again and again."""
    store = await filled(place, count, live, fold_bytes=64 * 1024)
    gaps: list[float] = []

    async def probe() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append((now - last) * 1e3)
            last = now

    watching = asyncio.create_task(probe())
    changes = await _change_until_folded(store, place / "store.json")
    watching.cancel()
    await store.close()
    return [
        Figure(
            what=f"Store: longest block of the loop, {count:,} tasks, {live:,} of them live",
            value=max(gaps),
            shown=f"{max(gaps):.1f} ms",
            goal=BLOCK_GOAL,
            note=f"in {changes:,} changes, {FOLDS} times folded; 99.9 % of the naps of 1 ms took "
            f"less than {percentile(gaps, 0.999):.1f} ms",
        )
    ]


async def _change_until_folded(store: Store, snapshot: Path) -> int:
    """Change live tasks until the journal has been folded `FOLDS` times; how many changes that took."""
    live = itertools.cycle([record.uuid for record in store.live()])
    folds = changes = 0
    seen = _inode(snapshot)
    while folds < FOLDS:
        for name in itertools.islice(live, 50):
            changes += 1
            store.update(name, _seen(changes))
        await store.durable()
        if _inode(snapshot) != seen:
            seen = _inode(snapshot)
            folds += 1
    return changes


def _inode(path: Path) -> int:
    """What a file is replaced by is another one."""
    return path.stat().st_ino


def _seen(number: int) -> Callable[[Task], Task]:
    return lambda record: record.changed(detail=f"change {number}")


# -- all of it ---------------------------------------------------------------------------------------


def store(place: Path, scale: Scale) -> list[Figure]:
    """All figures of the store."""
    few, many = max(10, int(scale.many_tasks * FEW)), scale.many_tasks
    with asyncio.Runner() as runner:
        small, large = runner.run(filled(place / "few", few)), runner.run(filled(place / "many", many))
        figures = operations(runner, small, large) + commits(runner, large) + lists(large)
        runner.run(small.close())
        runner.run(large.close())
        figures += start(place / "many")
        figures += runner.run(lag(place / "busy", scale.tasks, scale.live))
    return figures


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"store": store}


def main() -> int:
    """Print the figures; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, no figures")
    parser.add_argument("--folder", type=Path, help="where to put the stores (default: as tempfile says)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        figures = store(Path(place), QUICK if options.quick else FULL)
    for figure in figures:
        goal = f" (goal {figure.goal.text}: {figure.verdict.strip('*')})" if figure.goal else ""
        print(f"{figure.what}: {figure.shown}{goal}\n    {figure.note}")
    missed = any(figure.goal is not None and not figure.goal.met(figure.value) for figure in figures)
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
