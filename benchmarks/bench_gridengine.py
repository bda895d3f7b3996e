"""The daemon on a real Grid Engine against a bare loop of ``runJob``; nothing where no cell answers.

Grid Engine runs no jobs of root, so as root the measuring is done in a process of its own under the
account of `tests/gridengine.sh`, which tells its figures in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import bench_endings
from benchmarks.bench_loop import Probed
from benchmarks.figures import Figure, alternate, at_least, below, percentile, ratio, spread
from benchmarks.programs import ROOT, Daemon
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.wire import Unexpected, form, hammer
from drmaaticd.drm.base import Action, Array, Job
from drmaaticd.drm.drmaa import DrmaaEngine
from drmaaticd.drm.library import STATIC_TLS, TUNABLES

CELL = ROOT / "tests" / "gridengine.sh"

#: The account that `CELL` makes, and the copy of what is measured that it can read.
HOME = Path("/var/lib") / os.environ.get("DRM_ACCOUNT", "drmtest")
COPY = HOME / "benchmarks"

#: The jobs of both sides wait in the queue: they would take the processors that are measured.
HOLD = "-h"

#: Clients that post at the same time.
CLIENTS = 8

SCRIPTS = {"held": ("exit 0", f'[resources]\nnative = "{HOLD}"')}

#: Seconds for which the loop is watched with jobs held: two sweeps.
WATCHED = 25.0

#: Seconds of the budget that a sweep is given, to see whether it keeps it.
BUDGET = 1.0

GOALS = {
    "accepted": at_least(0.8),
    "endings": below(0.5, " s"),
    "loop": below(50, " ms"),
    "budget": below(2 * BUDGET, " s"),
}


def gridengine(place: Path, scale: Scale) -> list[Figure]:
    """Submissions, endings, the loop while jobs are held, and sweeps."""
    if os.geteuid() != 0 or subprocess.run(["/bin/sh", CELL, "status"], capture_output=True).returncode != 0:
        print("no Grid Engine answers here: as root, tests/gridengine.sh start makes one", file=sys.stderr)
        return []
    shutil.rmtree(COPY, ignore_errors=True)
    for name in ("benchmarks", "drmaaticd"):
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "go+rX", COPY], check=True)
    variables = [f"{TUNABLES}={STATIC_TLS}", f"PYTHONPATH={COPY}"]
    command = [HOME / "venv/bin/python", "-m", "benchmarks.bench_gridengine"]
    kind = "quick" if scale is QUICK else "full"
    try:
        told = subprocess.run(
            ["/bin/sh", CELL, "as", *variables, *command, HOME / "bench-work", kind],
            stdout=subprocess.PIPE,
            check=True,
        )
    finally:
        shutil.rmtree(COPY)
    return [replace(Figure(**figure), goal=GOALS.get(key)) for key, figure in json.loads(told.stdout).items()]


# -- under the account ---------------------------------------------------------------------------


def main() -> int:
    """``python -m benchmarks.bench_gridengine FOLDER full|quick``: the figures as JSON."""
    place, scale = Path(sys.argv[1]), FULL if sys.argv[2] == "full" else QUICK
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        found = {
            "accepted": _accepted(place / "accepted", scale),
            "endings": _endings(place / "endings", scale),
            "loop": _loop(place / "loop", scale),
            **asyncio.run(_sweeps(place, scale)),
        }
    finally:
        _delete_all()
        shutil.rmtree(place)
    print(json.dumps({key: _as_json(figure) for key, figure in found.items()}))
    return 0


def _as_json(figure: Figure) -> dict[str, object]:
    return {"what": figure.what, "value": figure.value, "shown": figure.shown, "note": figure.note}


def _delete_all() -> None:
    subprocess.run(["qdel", "-u", str(os.environ["USER"])], capture_output=True, check=False)


def _then_delete(measure: Callable[[], float]) -> Callable[[], float]:
    """The measure, and then an empty queue: a master is the slower the more jobs it holds."""

    def measured() -> float:
        value = measure()
        _delete_all()
        return value

    return measured


class _Bare:
    """A loop of ``runJob`` in one thread, in a process of its own: a process has one session."""

    PROGRAM = f"""
import os, sys, time
import drmaa
session = drmaa.Session()
session.initialize()
template = session.createJobTemplate()
template.remoteCommand = "/bin/sh"
template.args = ["/dev/null"]
template.workingDirectory = "/"
template.outputPath = ":/dev/null"
template.errorPath = ":/dev/null"
template.nativeSpecification = "{HOLD} -b y -w n"
for line in sys.stdin:
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < float(line):
        session.runJob(template)
        done += 1
    print(done / (time.perf_counter() - begun), flush=True)
session.exit()
"""

    def __enter__(self) -> _Bare:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def rate(self, seconds: float) -> float:
        """Jobs submitted a second."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise Unexpected("the loop has no pipes")
        stdin.write(f"{seconds}\n")
        stdin.flush()
        return float(stdout.readline())


def _accepted(place: Path, scale: Scale) -> Figure:
    request = form("/task/", {"task_name": "held"})
    seconds = 2 * scale.request_seconds

    def posts() -> float:
        load = hammer(daemon.port, [request], connections=CLIENTS, seconds=seconds, status=201)
        return load.rate

    with Daemon(place, SCRIPTS, backend="drmaa", max_live=100_000) as daemon, _Bare() as bare:
        bare.rate(0.1)
        ours, theirs = alternate(
            scale.cell_rounds, _then_delete(posts), _then_delete(lambda: bare.rate(seconds))
        )
    share = ratio(ours, theirs)
    return Figure(
        what=f"Grid Engine: tasks accepted, {CLIENTS} clients, share of a bare loop of runJob",
        value=share,
        shown=f"{share:.2f}",
        note=f"{spread(ours, ',.0f')} a second; runJob: {spread(theirs, ',.0f')}; the answer 201 waits for "
        "the job's id, 2 s at most; the jobs are held",
    )


def _endings(place: Path, scale: Scale) -> Figure:
    found = bench_endings.delays(place, scale.cell_endings, backend="drmaa")
    return Figure(
        what="Grid Engine: a job's end until the API says `done`",
        value=median(found),
        shown=f"{median(found):.3f} s",
        note=f"median of {len(found)} jobs; 95 of 100 within {percentile(found, 0.95):.3f} s",
    )


def _loop(place: Path, scale: Scale) -> Figure:
    request = form("/task/", {"task_name": "held"})
    drm = {"backend": "drmaa", "max_live": 100_000}
    with Daemon(place, SCRIPTS, module=("benchmarks.probed", "daemon"), **drm) as daemon:
        watched = Probed(daemon)
        watched.take()
        with daemon.connect() as connection:
            for _ in range(scale.cell_live):
                answer = connection.exchange(request)
                if answer.status != 201:
                    raise Unexpected(answer.body.decode())
        posting = watched.take()
        time.sleep(WATCHED if scale is FULL else 1.0)
        sweeping = watched.take()
    _delete_all()
    longest = max(posting.longest, sweeping.longest)
    return Figure(
        what=f"Grid Engine: longest block of the loop with {scale.cell_live:,} jobs held",
        value=longest,
        shown=f"{longest:.1f} ms",
        note=f"{posting.longest:.1f} ms while they were posted, {sweeping.longest:.1f} ms in {WATCHED:g} s "
        "of sweeps",
    )


async def _sweeps(place: Path, scale: Scale) -> dict[str, Figure]:
    (place / "engine").mkdir()
    engine = DrmaaEngine(place / "engine")
    await engine.start()
    try:
        job_id = await engine.submit(
            Job(
                task="00000000-0000-4000-8000-000000000000",
                name="t-sweep-00000000-0000-4000-8000-000000000000",
                run_script=Path("/dev/null"),
                folder=place,
                array=Array(1, scale.cell_swept),
                native=HOLD,
            )
        )
        members = [engine.element(job_id, index) for index in range(1, scale.cell_swept + 1)]
        whole, answers = await _timed(engine, members, 600.0)
        if answers != len(members):
            raise Unexpected(f"a sweep told of {answers} jobs only")
        part, answered = await _timed(engine, members, BUDGET)
        await engine.control(job_id, Action.TERMINATE)
    finally:
        await engine.close()
    return {
        "sweep": Figure(
            what=f"Grid Engine: a sweep over {len(members):,} live jobs",
            value=whole,
            shown=f"{whole:.2f} s",
            note=f"{whole / len(members) * 1000:.2f} ms each, on the engine's thread",
        ),
        "budget": Figure(
            what=f"Grid Engine: the same with a budget of {BUDGET:g} s",
            value=part,
            shown=f"{part:.2f} s",
            note=f"{answered:,} jobs were asked about; the next sweep goes on with the others",
        ),
    }


async def _timed(engine: DrmaaEngine, ids: Sequence[str], budget: float) -> tuple[float, int]:
    begun = time.perf_counter()
    told = await engine.states(ids, budget)
    return time.perf_counter() - begun, len(told)


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"gridengine": gridengine}

if __name__ == "__main__":
    raise SystemExit(main())
