"""What a script's earlier tasks tell of the next one: how long it may wait, and how long it may run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from drmaaticd.callers import Caller
from drmaaticd.store import Store
from drmaaticd.tasks import Task

#: So many of a script's last done tasks are looked at.
SAMPLE = 100

#: The range that is told: from this part of the sample to that one.
LOW, HIGH = 0.1, 0.9


class History:
    """Answers the page's questions about a script's tasks."""

    def __init__(self, store: Store, present: Callable[[Caller, Task], dict[str, Any]]) -> None:
        """`present` makes the JSON of a task that the caller may see."""
        self._store = store
        self._present = present

    def expected(self, script: str) -> dict[str, Any]:
        """The spans of the last `SAMPLE` done tasks of a script, whoever sent them.

        ``wait`` is from acceptance to the start, of those that waited for no other task; ``run`` is the
        wall time. Each, where there is any, has ``count``, and ``low``, ``median`` and ``high`` in seconds.
        """
        tasks = self._store.done(script, SAMPLE)
        waits = [
            task.started - task.created for task in tasks if task.started is not None and not task.depends_on
        ]
        runs = [
            task.ended - task.started for task in tasks if task.started is not None and task.ended is not None
        ]
        spans = {"wait": spread(waits), "run": spread(runs)}
        return {name: span for name, span in spans.items() if span is not None}

    def latest(self, caller: Caller, script: str, most: int) -> list[dict[str, Any]]:
        """The caller's own tasks of a script, newest first; the anonymous caller has none."""
        if caller.user is None:
            return []
        return [self._present(caller, task) for task in self._store.latest(caller.user, script, most)]


def spread(milliseconds: Sequence[int]) -> dict[str, Any] | None:
    """Where most of these spans lie, in seconds; None without any.

    The quantiles are members of the sample (nearest rank); clocks that went back count as no time.
    """
    if not milliseconds:
        return None
    ordered = sorted(max(0, one) / 1000 for one in milliseconds)

    def at(part: float) -> float:
        return ordered[max(0, math.ceil(part * len(ordered)) - 1)]

    return {"count": len(ordered), "low": at(LOW), "median": at(0.5), "high": at(HIGH)}
