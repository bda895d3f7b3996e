"""What a task's page shows beside the API's view: what the task asked for, and its array's members. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from drmaaticd.drm.base import Array
from drmaaticd.states import State
from drmaaticd.tasks import MEMBER_LETTERS, MEMBER_STATES, Task

#: What of a task's resources its owner is shown; the rest is the administrator's business.
_SHOWN = ("queue", "cpus", "memory", "max_clock_time")


def particulars(task: Task, actions: Iterable[str]) -> dict[str, Any]:
    """``credit``, ``requested``, whether it was ``submitted``, what is under way, and the ``actions``.

    `actions` are those that the caller may ask for now. Memory is in bytes, time in seconds.
    """
    return {
        "credit": task.cost,
        "requested": {
            name: task.resources[name] for name in _SHOWN if task.resources.get(name) not in (None, "")
        },
        "submitted": task.job_id is not None,
        "stopping": task.stop and not task.final,
        "wanted": "" if task.final else task.wanted,
        "html_scripts": task.html_scripts,
        "deleted": task.deleted is not None,
        "actions": list(actions),
    }


def members(task: Task) -> dict[str, Any]:
    """An array's members, in order, as runs of one state each; empty for a task that is no array.

    ``{"begin", "end", "step", "runs": [[state, how many], …]}``: 75,000 members that have ended well
    are one run.
    """
    if task.array is None:
        return {}
    letters = task.members or _letter(task.state) * len(Array(**task.array).indices)
    runs = [[MEMBER_STATES[letter].value, len(list(group))] for letter, group in groupby(letters)]
    return {**task.array, "runs": runs}


def _letter(state: State) -> str:
    """What all members are while the array as a whole has not been handed to the DRM, or never was."""
    return MEMBER_LETTERS[state]
