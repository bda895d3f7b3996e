"""How long after a job's last act the API says that its task is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure, below, percentile
from benchmarks.programs import Daemon
from benchmarks.scale import Scale
from benchmarks.wire import Connection, Unexpected, form, head

GOAL = below(0.3, " s")

#: Seconds between two questions for the task.
POLL = 0.005

#: The job writes the time as the last thing that it does, after a while that is never the same, so
#: that it ends anywhere between two looks of the daemon.
SCRIPTS = {
    "clock": (
        'sleep "$1"\ndate +%s.%N >end.txt',
        '[[param]]\nname = "seconds"\ntype = "float"\nrequired = true',
    )
}
SHORTEST, STEP, STEPS = 0.05, 0.037, 11


def endings(place: Path, scale: Scale) -> list[Figure]:
    """One job after the other: from the time that it wrote to the first answer that says `done`."""
    found = delays(place / "daemon", scale.endings)
    return [
        Figure(
            what="A job's end until the API says `done`",
            value=median(found),
            shown=f"{median(found):.3f} s",
            goal=GOAL,
            note=f"median of {len(found)} jobs; 95 of 100 within {percentile(found, 0.95):.3f} s, "
            f"all within {max(found):.3f} s; asked every {POLL * 1000:g} ms",
        )
    ]


def delays(place: Path, count: int, **drm: Any) -> list[float]:
    """From each job's last act to the answer that says `done`, in seconds; `drm` as for `Daemon`."""
    found = []
    with Daemon(place, SCRIPTS, **drm) as daemon, daemon.connect() as connection:
        for number in range(count):
            seconds = SHORTEST + STEP * (number % STEPS)
            uuid = _post(connection, seconds)
            seen = _wait(connection, uuid)
            found.append(seen - float((daemon.tasks / uuid / "end.txt").read_text(encoding="ascii")))
    return found


def _post(connection: Connection, seconds: float) -> str:
    answer = connection.exchange(form("/task/", {"task_name": "clock", "seconds": f"{seconds:.3f}"}))
    if answer.status != 201:
        raise Unexpected(answer.body.decode())
    return str(answer.json()["uuid"])


def _wait(connection: Connection, uuid: str) -> float:
    """The wall clock when the task was first seen done."""
    request = head("GET", f"/task/{uuid}")
    while (state := connection.exchange(request).json()["state"]) != "done":
        if state in ("failed", "stopped", "rejected"):
            raise Unexpected(f"the task is {state}")
        time.sleep(POLL)
    return time.time()


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"endings": endings}
