"""What has happened to a task so far, and what has not yet: only what its record tells. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drmaaticd.web.ui import words

_STARTED = frozenset({"running", "system_suspended", "user_suspended"})
_SUBMITTED = _STARTED | {"created", "queued_active"}

#: What is said of these states in a row that already has their usual names.
_PLAINER = {"received": "Waiting to be submitted", "created": "Waiting in the cluster"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a task's life. `phase` is ``past``, ``now`` or ``next``."""

    name: str
    phase: str
    time: str = ""
    """RFC 3339; empty where it is not known."""
    note: str = ""


def timeline(task: Mapping[str, Any], submitted: bool) -> list[Step]:
    """The steps in order. `submitted`: the DRM has given the task's job a number."""
    state = str(task["state"])
    final = state in words.FINAL
    steps = [Step("Received", "past", task["creation_date"])]
    started = task.get("start_date")
    if submitted or started or state in _SUBMITTED:
        steps.append(Step("Submitted", "past"))
    elif not final:
        steps.append(Step("Submitted", "next"))
    if started:
        waited = _between(task["creation_date"], started)
        steps.append(Step("Started", "past", started, f"after {waited}"))
    elif state in _STARTED:
        steps.append(Step("Started", "past"))
    elif not final:
        steps.append(Step("Started", "next"))
    if final:
        steps.append(Step(words.state(task), "now", task.get("end_date", ""), _lasted(task)))
    else:
        place = 1 + sum(step.phase == "past" for step in steps[1:])
        steps.insert(place, Step(_PLAINER.get(state, words.state(task)), "now"))
        steps.append(Step("Ended", "next"))
    return steps


def _lasted(task: Mapping[str, Any]) -> str:
    if "start_date" not in task or "end_date" not in task:
        return ""
    return f"ran for {_between(task['start_date'], task['end_date'])}"


def _between(first: str, last: str) -> str:
    seconds = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    return words.duration(max(seconds, 0.0))
