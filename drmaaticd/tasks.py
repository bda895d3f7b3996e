"""The task record: what the store keeps of a task, and its way to JSON and back.

Records are immutable: `store.Store.update` swaps one for the next. What the API shows of a record
is made in `service`; what may follow what, in `states`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drmaaticd.states import State, check_move

JSON = dict[str, Any]

#: One letter a state, for the members of an array: a record of 10,000 members stays small.
MEMBER_LETTERS: dict[State, str] = {
    State.RECEIVED: "i",
    State.REJECTED: "x",
    State.CREATED: "c",
    State.UNDETERMINED: "u",
    State.QUEUED_ACTIVE: "q",
    State.SYSTEM_ON_HOLD: "h",
    State.USER_ON_HOLD: "H",
    State.USER_SYSTEM_ON_HOLD: "b",
    State.RUNNING: "r",
    State.SYSTEM_SUSPENDED: "s",
    State.USER_SUSPENDED: "S",
    State.STOPPED: "t",
    State.DONE: "d",
    State.FAILED: "f",
}
MEMBER_STATES: dict[str, State] = {letter: state for state, letter in MEMBER_LETTERS.items()}


def now_ms() -> int:
    """The wall clock in whole milliseconds since 1970 (UTC), the unit of every stored time."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Times are milliseconds since 1970; what is unknown is None or empty."""

    uuid: str
    script: str
    """The script's name, the API's ``task_name``."""
    state: State
    created: int
    updated: int
    started: int | None = None
    ended: int | None = None

    description: str = ""
    params: tuple[JSON, ...] = ()
    """``{"name", "value"}`` each, with ``"private": true`` for the administrator's own."""
    files_name: Mapping[str, str] = field(default_factory=dict)
    """Stored name → the name that the client gave."""
    parent: str | None = None
    folder: str = ""
    """UUID of the first ancestor, whose folder the task works in; its own if it has no parent."""
    depends_on: tuple[str, ...] = ()
    dependency_type: str = "afterany"

    owner: str | None = None
    """Key of the user (``ORCID:0000-…``), None for an unowned task."""
    sender: str = ""
    """The address that sent it."""
    visible: bool = False
    """Whether whoever knows the UUID may read its files."""
    html_scripts: bool = False
    cost: int = 1
    """CPU credit charged for it."""
    payer: str = ""
    """Whose credit that was: the key of a user, or ``address:…``."""

    resources: JSON = field(default_factory=dict)
    """``queue``, ``cpus``, ``memory`` (bytes), ``max_clock_time`` (seconds), ``account``, ``qos``,
    ``licenses``, ``gres``, ``native``."""
    rerunnable: bool = False
    array: JSON | None = None
    """``begin``, ``end``, ``step`` of an array job."""
    members: str = ""
    """One letter of `MEMBER_LETTERS` for each index of the array, in order."""

    attempt: int = 0
    """How often it was handed to the DRM; written before each time."""
    job_id: str | None = None
    """The DRM's id of the present attempt, once it has been told."""
    exit_status: int | None = None
    signal: str | None = None
    detail: str = ""
    """Why it failed, was refused or waits, worded for its owner."""
    usage: JSON = field(default_factory=dict)

    stop: bool = False
    """A stop (or deletion) was asked for and is carried out until the job is gone."""
    wanted: str = ""
    """A control action (``hold``, ``release``, ``suspend``, ``resume``) still to be carried out."""
    deleted: int | None = None
    purged: bool = False
    """Its files and control folder are gone."""

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state.final

    def changed(self, **changes: Any) -> Task:
        """A copy with these fields changed and `updated` set, `ended` too where the state is final.

        Raises `IllegalMove` if the state may not follow the present one.
        """
        now = now_ms()
        state = changes.get("state")
        if state is not None:
            check_move(self.state, state)
            if state.final and changes.get("ended", self.ended) is None:
                changes["ended"] = now
        return dataclasses.replace(self, updated=max(now, self.updated), **changes)

    def to_json(self) -> JSON:
        """The document that the store keeps: fields that have their default are left out."""
        document: JSON = {}
        for name, default in _DEFAULTS:
            value = getattr(self, name)
            if value != default:
                document[name] = list(value) if isinstance(value, tuple) else value
        document["state"] = self.state.value
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Task:
        """The record that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        fields = dict(document)
        fields["state"] = State(fields["state"])
        for name in ("params", "depends_on"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**fields)


def _defaults() -> tuple[tuple[str, Any], ...]:
    pairs = []
    for spec in dataclasses.fields(Task):
        default = spec.default
        if spec.default_factory is not dataclasses.MISSING:
            default = spec.default_factory()
        pairs.append((spec.name, default))
    return tuple(pairs)


_DEFAULTS = _defaults()
