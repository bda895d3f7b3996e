"""Small requests: ``GET /task/{uuid}`` against a bare handler, and how many tasks are taken a second."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Goal, alternate, at_least, ratio, spread
from benchmarks.programs import Bare, Daemon, Program
from benchmarks.records import fill, owned, unowned
from benchmarks.scale import Scale
from benchmarks.wire import Load, Unexpected, form, hammer, head

#: Connections that ask at the same time.
CONNECTIONS = 8

#: Different tasks that are asked for.
ASKED = 500

GOAL = at_least(0.5)
GOAL_SIGNED_IN = at_least(0.4)


class _Rounds:
    """Rounds of requests to one program, with the share of time in which both sides were busy."""

    def __init__(self, program: Program, requests: list[bytes], seconds: float, status: int = 200) -> None:
        self._program = program
        self._requests = requests
        self._seconds = seconds
        self._status = status
        self.loads: list[Load] = []
        self.server_busy: list[float] = []

    def __call__(self) -> float:
        """One round; answers a second."""
        before = self._program.cpu
        load = hammer(
            self._program.port,
            self._requests,
            connections=CONNECTIONS,
            seconds=self._seconds,
            status=self._status,
        )
        self.loads.append(load)
        self.server_busy.append((self._program.cpu - before) / self._seconds)
        return load.rate

    @property
    def busy(self) -> str:
        """How busy generator and program were, for the notes."""
        generator = max(load.busy for load in self.loads)
        server = min(self.server_busy)
        return f"generator busy {generator:.0%} of the time at most, server {server:.0%} at least"


def get(place: Path, scale: Scale) -> list[Figure]:
    """One task, read over and over, against a bare handler that writes the same bytes."""
    fill(place / "daemon" / "state", scale.tasks)
    paths = [f"/task/{uuid}" for uuid in itertools.islice(unowned(scale.tasks), ASKED)]
    requests = [head("GET", path) for path in paths]
    return [_against_bare(place, scale, requests, "GET /task/{uuid}", GOAL)]


def get_signed_in(place: Path, scale: Scale) -> list[Figure]:
    """The same with a token, of tasks that its user owns."""
    token = fill(place / "daemon" / "state", scale.tasks)
    paths = [f"/task/{uuid}" for uuid in itertools.islice(owned(scale.tasks), ASKED)]
    requests = [head("GET", path, Authorization=f"Bearer {token}") for path in paths]
    return [_against_bare(place, scale, requests, "GET /task/{uuid} with a token", GOAL_SIGNED_IN)]


def _against_bare(place: Path, scale: Scale, requests: list[bytes], what: str, goal: Goal) -> Figure:
    with Daemon(place / "daemon") as daemon:
        with daemon.connect() as connection:
            answer = connection.exchange(requests[0])
        json = place / "task.json"
        json.write_bytes(answer.body)
        with Bare(place / "bare", str(json)) as bare:
            _check_same(bare, answer.body)
            ours = _Rounds(daemon, requests, scale.request_seconds)
            theirs = _Rounds(bare, [head("GET", "/json")], scale.request_seconds)
            mine, others = alternate(scale.rounds, ours, theirs)
    return Figure(
        what=f"{what}, share of a bare handler's rate",
        value=ratio(mine, others),
        shown=f"{ratio(mine, others):.2f}",
        goal=goal,
        note=f"{spread(mine, ',.0f')} a second; bare: {spread(others, ',.0f')}; "
        f"{CONNECTIONS} connections, {scale.tasks:,} tasks in the store; {ours.busy}; "
        f"with the bare handler, {theirs.busy}",
    )


def _check_same(bare: Program, body: bytes) -> None:
    with bare.connect() as connection:
        if connection.exchange(head("GET", "/json")).body != body:
            raise Unexpected("the bare handler writes something else")


def accept(place: Path, scale: Scale) -> list[Figure]:
    """Tasks posted as forms; the jobs that they become run meanwhile."""
    scripts = {"nothing": ("exit 0", '[[param]]\nname = "text"\ntype = "string"')}
    request = form(
        "/task/", {"task_name": "nothing", "text": "some words", "task_description": "a benchmark"}
    )
    with Daemon(place / "daemon", scripts) as daemon:
        rounds = _Rounds(daemon, [request], scale.request_seconds, status=201)
        rates = [rounds() for _ in range(scale.rounds)]
    return [
        Figure(
            what="Tasks accepted, POST of a form",
            value=median(rates),
            shown=f"{spread(rates, ',.0f')} a second",
            note=f"{CONNECTIONS} clients; each answer says that the task is on disk, with its launcher; "
            f"the embedded engine runs the jobs meanwhile; {rounds.busy}",
        )
    ]


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {
    "get": get,
    "get_signed_in": get_signed_in,
    "accept": accept,
}
