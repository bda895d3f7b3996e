"""The longest block of the loop, with tasks ending, lists asked for and the journal folded all the while."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.figures import Figure, below
from benchmarks.programs import Daemon, Program
from benchmarks.records import fill, unowned
from benchmarks.scale import Scale
from benchmarks.wire import Connection, Unexpected, form, head

GOAL = below(50, " ms")

#: Jobs that run at a time; the other live tasks wait in the engine's queue.
SLOTS = 4

#: Each record is about this large, in bytes, so that the journal is folded within seconds.
TEXT = "x" * 2000

SCRIPTS = {"nap": ("sleep 0.2", '[[param]]\nname = "text"\ntype = "string"')}

#: Seconds between two looks for ended tasks, two reads, and two controls.
FEED_PAUSE, READ_PAUSE, CONTROL_PAUSE = 0.2, 0.005, 0.1

#: Tasks of which the feeder asks whether they have ended: those that were posted first end first.
LOOKED_AT = 100

#: Files that are replaced when the journal is folded.
SNAPSHOT = "store.json"

SEED = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe saw in a round, milliseconds; see `probed`."""

    longest: float
    p999: float
    wall: float
    computed: float
    collection: float


class Probed:
    """A program with a probe in it."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def take(self) -> Seen:
        """What it saw since the last call."""
        stdin, stdout = self.program.process.stdin, self.program.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the program has no pipes")
        stdin.write(b"\n")
        stdin.flush()
        told: dict[str, float] = json.loads(stdout.readline())
        return Seen(**{name: 1000 * seconds for name, seconds in told.items()})


class _Load:
    """Clients in threads: one keeps the number of live tasks, one reads, one controls."""

    def __init__(self, daemon: Daemon, live: int, stored: list[str]) -> None:
        self._daemon = daemon
        self._wanted = live
        self._stored = stored
        self.live: deque[str] = deque()
        self.ended = self.reads = self.controls = self.folds = 0
        self._snapshot = daemon.state / SNAPSHOT
        self._inode = self._snapshot.stat().st_ino
        self._over = threading.Event()

    def fill(self) -> None:
        """Post tasks until there are enough."""
        with self._daemon.connect() as connection:
            self._post(connection, self._wanted)

    @contextmanager
    def running(self) -> Iterator[None]:
        """All clients at work. Raises what they raise."""
        with ThreadPoolExecutor(3) as threads:
            clients = [threads.submit(client) for client in (self._feed, self._read, self._control)]
            try:
                yield
            finally:
                self._over.set()
            for client in clients:
                client.result()

    def _feed(self) -> None:
        with self._daemon.connect() as connection:
            while not self._over.wait(FEED_PAUSE):
                oldest = [self.live[place] for place in range(min(LOOKED_AT, len(self.live)))]
                gone = {task["uuid"] for task in self._list(connection, oldest) if "end_date" in task}
                self.live = deque(uuid for uuid in self.live if uuid not in gone)
                self.ended += len(gone)
                self._post(connection, self._wanted - len(self.live))
                self._look_for_fold()

    def _post(self, connection: Connection, count: int) -> None:
        request = form("/task/", {"task_name": "nap", "text": TEXT})
        for _ in range(count):
            answer = connection.exchange(request)
            if answer.status != 201:
                raise Unexpected(answer.body.decode())
            self.live.append(answer.json()["uuid"])
            self._look_for_fold()

    def _look_for_fold(self) -> None:
        inode = self._snapshot.stat().st_ino
        self.folds += inode != self._inode
        self._inode = inode

    def _list(self, connection: Connection, uuids: list[str]) -> list[dict[str, Any]]:
        answer = connection.exchange(head("GET", f"/task/?page_size=100&ids={','.join(uuids)}"))
        if answer.status != 200:
            raise Unexpected(answer.body.decode())
        results: list[dict[str, Any]] = answer.json()["results"]
        return results

    def _read(self) -> None:
        random = Random(SEED)
        with self._daemon.connect() as connection:
            while not self._over.wait(READ_PAUSE):
                uuid = random.choice(self._stored)
                for path in (f"/task/{uuid}", "/script/", f"/task/?search=sample&ids={uuid}"):
                    if connection.exchange(head("GET", path)).status != 200:
                        raise Unexpected(path)
                    self.reads += 1

    def _control(self) -> None:
        """Hold and release, stop and delete tasks that wait at the queue's end."""
        turn = 0
        with self._daemon.connect() as connection:
            while not self._over.wait(CONTROL_PAUSE):
                live = self.live
                if not live:  # all have ended just now
                    continue
                uuid = live[-1 - turn % min(len(live), 20)]
                turn += 1
                for request in _controls(uuid, turn):
                    if connection.exchange(request).status not in (200, 204, 404, 409):
                        raise Unexpected(request.decode())
                    self.controls += 1


def _controls(uuid: str, turn: int) -> list[bytes]:
    if turn % 10:
        return [head("PUT", f"/task/{uuid}/{action}", Content_Length=0) for action in ("hold", "release")]
    return [head("PUT", f"/task/{uuid}/stop", Content_Length=0), head("DELETE", f"/task/{uuid}")]


def loop(place: Path, scale: Scale) -> list[Figure]:
    """Watch the daemon's loop under load, and beside it that of a program that does nothing."""
    fill(place / "daemon" / "state", scale.tasks)
    (place / "idle").mkdir()
    idle = Program(["-m", "benchmarks.probed", "idle"], place / "idle" / "log")
    daemon = Daemon(place / "daemon", SCRIPTS, module=("benchmarks.probed", "daemon"), slots=SLOTS)
    with daemon, idle:
        watched, beside = Probed(daemon), Probed(idle)
        starting = watched.take()
        beside.take()
        load = _Load(daemon, scale.live, list(unowned(scale.tasks)))
        load.fill()
        rounds = [(watched.take(), beside.take())]
        with load.running():
            for _ in range(scale.loop_rounds):
                time.sleep(scale.loop_seconds)
                rounds.append((watched.take(), beside.take()))
    return _figures(scale, starting, rounds, load)


def _figures(scale: Scale, starting: Seen, rounds: list[tuple[Seen, Seen]], load: _Load) -> list[Figure]:
    ours, idle = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    worst = max(ours, key=lambda seen: seen.longest)
    seconds = scale.loop_rounds * scale.loop_seconds
    return [
        Figure(
            what="Longest block of the loop",
            value=worst.longest,
            shown=f"{worst.longest:.1f} ms",
            goal=GOAL,
            note=f"{scale.tasks:,} tasks stored and {scale.live:,} live; while these were posted, and in "
            f"{seconds:g} s with {load.ended} jobs ended, {load.reads:,} reads and {load.controls} controls; "
            f"{load.folds} foldings of the journal; records of over {len(TEXT):,} bytes. By round: "
            f"{_each(seen.longest for seen in ours)} ms; 99.9 % of the naps within "
            f"{max(seen.p999 for seen in ours):.1f} ms. In the longest, the loop itself computed for "
            f"{worst.computed:.1f} ms; longest garbage collection: "
            f"{max(seen.collection for seen in ours):.1f} ms",
        ),
        Figure(
            what="The same by the clock, with the waits for a processor that others had",
            value=max(seen.wall for seen in ours),
            shown=f"{max(seen.wall for seen in ours):.1f} ms",
            note=f"by round: {_each(seen.wall for seen in ours)} ms; in a program that does nothing, "
            f"meanwhile: {_each(seen.wall for seen in idle)} ms",
        ),
        Figure(
            what="Longest block of the loop at the start, before it listens",
            value=starting.longest,
            shown=f"{starting.longest:.1f} ms",
            note=f"{scale.tasks:,} tasks are read meanwhile, in a thread; longest garbage collection: "
            f"{starting.collection:.1f} ms",
        ),
    ]


def _each(values: Iterator[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"loop": loop}
