"""The daemon with a probe on its loop, and the probe alone, to tell the daemon's pauses from the machine's.

``python -m benchmarks.probed daemon CONFIG`` runs the daemon as ``drmaaticd serve`` does;
``python -m benchmarks.probed idle`` runs nothing else. For each line on standard input, one on standard
output: what was seen since the last one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from drmaaticd import logs
from drmaaticd.config import load
from drmaaticd.daemon import protect_memory, serve
from drmaaticd.signals import Signals

#: Seconds that the probe sleeps; whatever it oversleeps, the loop was away.
NAP = 0.001

#: Where Linux tells how long a thread was ready and waited for a processor: the second number, in
#: nanoseconds (Documentation/scheduler/sched-stats.rst).
SCHEDSTAT = "/proc/thread-self/schedstat"


class Nap(NamedTuple):
    """By how much a sleep was too long, and what the loop's thread did meanwhile; seconds."""

    late: float
    waited: float
    """The thread was ready, but the processors were busy with others."""
    computed: float
    """Processor time of the thread."""

    @property
    def blocked(self) -> float:
        """Too late by the loop's own doing: it computed, or waited for the interpreter lock or a disk."""
        return max(0.0, self.late - self.waited)


class Probe:
    """Sleeps on the loop and notes by how much it overslept. Made and run in the loop's thread."""

    def __init__(self) -> None:
        self._naps: list[Nap] = []
        self._collections: list[float] = []
        self._begun = 0.0
        # Kernels without CONFIG_SCHED_INFO do not tell: then no wait is left out.
        self._schedstat = os.open(SCHEDSTAT, os.O_RDONLY) if Path(SCHEDSTAT).exists() else None
        gc.callbacks.append(self._collected)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wall, cpu, queue = time.perf_counter(), time.thread_time(), self._queued()
            await asyncio.sleep(NAP)
            late = time.perf_counter() - wall - NAP
            self._naps.append(Nap(late, self._queued() - queue, time.thread_time() - cpu))

    def _queued(self) -> float:
        if self._schedstat is None:
            return 0.0
        return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9

    def _collected(self, phase: str, _: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._begun = now
        else:
            self._collections.append(now - self._begun)

    def take(self) -> dict[str, Any]:
        """What was seen since the last call: seconds."""
        naps, self._naps = self._naps or [Nap(0.0, 0.0, 0.0)], []
        collections, self._collections = self._collections or [0.0], []
        blocks = sorted(nap.blocked for nap in naps)
        return {
            "longest": blocks[-1],
            "p999": blocks[int(len(blocks) * 0.999)],
            "wall": max(nap.late for nap in naps),
            "computed": max(naps, key=lambda nap: nap.blocked).computed,
            "collection": max(collections),
        }


def _answer(loop: asyncio.AbstractEventLoop, probe: Probe) -> None:
    """Answer the lines on standard input; in a thread of its own, so that the loop reads nothing."""
    for _ in sys.stdin:
        taken = asyncio.run_coroutine_threadsafe(_take(probe), loop).result()
        print(json.dumps(taken), flush=True)


async def _take(probe: Probe) -> dict[str, Any]:
    return probe.take()


async def watch(work: Coroutine[Any, Any, int]) -> int:
    """Run the probe beside the work, until that has ended."""
    probe = Probe()
    napping = asyncio.create_task(probe.run())
    loop = asyncio.get_running_loop()
    threading.Thread(target=_answer, args=(loop, probe), daemon=True).start()
    status = await work
    napping.cancel()
    return status


async def _idle() -> int:
    print("listening on http://127.0.0.1:0", file=sys.stderr, flush=True)
    await asyncio.Event().wait()
    return 0


def main() -> int:
    """Run the one or the other."""
    if sys.argv[1] == "idle":
        return asyncio.run(watch(_idle()))
    logs.setup("info", "text")
    os.umask(0o027)
    protect_memory()
    config = load(Path(sys.argv[2]))

    return asyncio.run(watch(serve(config, Signals())))


if __name__ == "__main__":
    raise SystemExit(main())
