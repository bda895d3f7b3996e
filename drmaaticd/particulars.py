"""What a task's page shows beside the API's view: what the task asked for, and its array's members.

Who may see a task is decided by the service, which hands its own rule in.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

from drmaaticd.callers import Caller
from drmaaticd.controls import Controls
from drmaaticd.drm.base import Action, Array
from drmaaticd.tasks import MEMBER_LETTERS, MEMBER_STATES, Task
from drmaaticd.view import rfc3339

#: What of a task's resources its owner is shown; the rest is the administrator's business.
_SHOWN = ("queue", "cpus", "memory", "max_clock_time")

_NAMES = {action: "stop" if action is Action.TERMINATE else action.value for action in Action}


class Particulars:
    """Answers the page's questions about single tasks."""

    def __init__(self, seen: Callable[[Caller, str], Task], controls: Controls) -> None:
        """`seen` finds a task that the caller may see, or raises `NotFound`, `Forbidden`."""
        self._seen = seen
        self._controls = controls

    def task(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """What the task asked for and cost, what is under way, and what the caller may do now.

        Memory is in bytes, time in seconds. Raises `NotFound`, `Forbidden`.
        """
        task = self._seen(caller, uuid)
        usable = caller.may_use(task) and task.deleted is None
        requested = {name: task.resources.get(name) for name in _SHOWN}
        expires = caller.link_expires if caller.link == task.uuid else None
        return {
            "credit": task.cost,
            "requested": {name: value for name, value in requested.items() if value not in (None, "")},
            "submitted": task.job_id is not None,
            "stopping": task.stop and not task.final,
            "wanted": "" if task.final else task.wanted,
            "deleted": task.deleted is not None,
            "usable": usable,
            "actions": [_NAMES[action] for action in self._controls.allowed(task)] if usable else [],
            "link_expires": "" if expires is None or usable else rfc3339(int(expires * 1000)),
        }

    def members(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """An array's members; see `members`. Raises `NotFound`, `Forbidden`."""
        return members(self._seen(caller, uuid))


def members(task: Task) -> dict[str, Any]:
    """An array's members, in order, as runs of one state each; empty for a task that is no array.

    ``{"begin", "end", "step", "runs": [[state, how many], …]}``: 75,000 members that have ended well
    are one run.
    """
    if task.array is None:
        return {}
    # Without letters of their own the members are what the task is: not handed over yet, or never.
    letters = task.members or MEMBER_LETTERS[task.state] * len(Array(**task.array).indices)
    runs = [[MEMBER_STATES[letter].value, len(list(group))] for letter, group in groupby(letters)]
    return {**task.array, "runs": runs}
