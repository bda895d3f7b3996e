"""What the API shows of a task's record. Pure; who may see it is decided before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from drmaaticd.callers import Caller
from drmaaticd.launcher import output_names
from drmaaticd.tasks import MEMBER_STATES, Task

#: What may name the machine's inside in a DRM's text: paths, hosts with a domain, accounts.
_INTERNAL = re.compile(
    r"(?<![\w.])/(?:[\w.+@%-]+/)*[\w.+@%-]+"  # an absolute path
    r"|\b[\w.+-]+@[\w.-]+\b"  # an account at a host
    r"|\b[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:local|lan|internal|[a-z]{2,6}\.[a-z]{2}|edu|org|com|net)\b"
    r"|(?i:\buser \"?[\w.-]+\"?)"
)

#: In UTC. Counting from it is exact, and quicker than any way that formats by a pattern.
_EPOCH = datetime(1970, 1, 1)


def rfc3339(milliseconds: int) -> str:
    """The time as RFC 3339 in UTC, to the millisecond: ``2026-11-24T10:00:00.123Z``."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def without_internals(text: str) -> str:
    """A DRM's text with absolute paths, hosts and accounts taken out."""
    return _INTERNAL.sub("…", text)


def descendants(uuid: str, children: Callable[[str], Iterable[Task]]) -> list[str]:
    """The UUIDs of all tasks below this one that are not deleted, nearest first.

    Deleted ones are passed through: what is below them works in the same folder.
    """
    found: list[str] = []
    level = [uuid]
    while level:
        below = [child for parent in level for child in children(parent)]
        found.extend(child.uuid for child in below if child.deleted is None)
        level = [child.uuid for child in below]
    return found


def view(task: Task, caller: Caller, *, below: list[str], keep_seconds: float | None) -> dict[str, Any]:
    """The task as the API's JSON. `below` are its descendants, `keep_seconds` the retention.

    Who came by a link is told of no other task: the UUID of an unowned one would open it.
    """
    related = caller.may_use(task)
    shown: dict[str, Any] = {
        "uuid": task.uuid,
        "task_name": task.script,
        "task_description": task.description,
        "status": task.state.text,
        "state": task.state.value,
        "creation_date": rfc3339(task.created),
        "update_date": rfc3339(task.updated),
        "descendants": below if related else [],
        "depends_on": list(task.depends_on) if related else [],
        "has_owner": task.owner is not None,
        "files_name": dict(task.files_name),
        "params": [
            {"name": param["name"], "value": param["value"]}
            for param in task.params
            if caller.is_admin or not param.get("private")
        ],
        "is_mine": caller.owns(task),
        "is_output_visible": task.visible,
    }
    shown["stdout"], shown["stderr"] = output_names(task.uuid, "<index>" if task.array else None)
    optional: dict[str, Any] = {
        "exit_status": task.exit_status,
        "start_date": rfc3339(task.started) if task.started is not None else None,
        "end_date": rfc3339(task.ended) if task.final and task.ended is not None else None,
        "parent_task": task.parent if related else None,
        "dependency_type": task.dependency_type if related and task.depends_on else None,
        "signal": task.signal,
        "detail": (task.detail if caller.is_admin else without_internals(task.detail)) or None,
        "resource_usage": task.usage or None,
    }
    if task.final and task.ended is not None and keep_seconds is not None:
        optional["expires_date"] = rfc3339(task.ended + int(keep_seconds * 1000))
    if task.array is not None:
        counts = Counter(MEMBER_STATES[letter].value for letter in task.members)
        optional["array"] = {**task.array, "states": dict(sorted(counts.items()))}
    if caller.is_admin:
        optional.update(
            user=task.owner,
            drm_job_id=task.job_id,
            sender_ip_addr=task.sender,
            deleted=task.deleted is not None,
        )
    shown.update((name, value) for name, value in optional.items() if value is not None)
    return shown
