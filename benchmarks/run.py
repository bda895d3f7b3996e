"""The run: every benchmark in its own folder, the table on standard output, and `docs/performance.md`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    bench_endings,
    bench_gridengine,
    bench_loop,
    bench_requests,
    bench_slurm,
    bench_start,
    bench_store,
    bench_transfers,
    bench_watchers,
)
from benchmarks.figures import Figure
from benchmarks.machine import describe
from benchmarks.page import write
from benchmarks.programs import ROOT
from benchmarks.scale import FULL, QUICK, Scale

PAGE = ROOT / "docs" / "performance.md"

Benchmark = Callable[[Path, Scale], list[Figure]]

BENCHMARKS: dict[str, Benchmark] = {
    **bench_requests.BENCHMARKS,
    **bench_transfers.BENCHMARKS,
    **bench_start.BENCHMARKS,
    **bench_endings.BENCHMARKS,
    **bench_loop.BENCHMARKS,
    **bench_watchers.BENCHMARKS,
    **bench_store.BENCHMARKS,
    **bench_slurm.BENCHMARKS,
    **bench_gridengine.BENCHMARKS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for. 0 if every goal was met, else 1."""
    options = _parser().parse_args(arguments)
    scale = QUICK if options.quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=options.folder))
    described = describe(folder)
    try:
        figures = _run(options.only or list(BENCHMARKS), folder, scale)
        whole = not options.quick and not options.only
        page = options.output or (PAGE if whole else None)
        if page is not None:
            write(page, figures, described)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    missed = [figure for figure in figures if figure.goal is not None and not figure.goal.met(figure.value)]
    print(f"\n{len(figures)} figures, {len(missed)} goals missed")
    return 1 if missed and not options.quick else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, no figures")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--folder", type=Path, help="where to work; needs 5 GiB (default: as tempfile says)")
    parser.add_argument(
        "--output", type=Path, help="the page to write (default: docs/performance.md, if all of it was run)"
    )
    return parser


def _run(names: Sequence[str], folder: Path, scale: Scale) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        place = folder / name
        place.mkdir()
        begun = time.perf_counter()
        print(f"{name} …", file=sys.stderr, flush=True)
        found = BENCHMARKS[name](place, scale)
        shutil.rmtree(place)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        for figure in found:
            print(_line(figure), flush=True)
        figures += found
    return figures


def _line(figure: Figure) -> str:
    goal = f" (goal {figure.goal.text}: {figure.verdict.strip('*')})" if figure.goal else ""
    return f"{figure.what}: {figure.shown}{goal}\n    {figure.note}"
