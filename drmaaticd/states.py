"""The states of a task and which may follow which.

The words of `State.text` are those of the service whose clients must go on working (API.md's
table); the names are DRMAA's job states (GFD-R.022, section 2.6) where there is one. Pure.
"""

from __future__ import annotations

import enum

from drmaaticd.errors import IllegalMove


class State(enum.StrEnum):
    """Where a task is. The value is the API's ``state``, `text` its ``status``."""

    RECEIVED = "received"
    REJECTED = "rejected"
    CREATED = "created"
    UNDETERMINED = "undetermined"
    QUEUED_ACTIVE = "queued_active"
    SYSTEM_ON_HOLD = "system_on_hold"
    USER_ON_HOLD = "user_on_hold"
    USER_SYSTEM_ON_HOLD = "user_system_on_hold"
    RUNNING = "running"
    SYSTEM_SUSPENDED = "system_suspended"
    USER_SUSPENDED = "user_suspended"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"

    @property
    def text(self) -> str:
        """The sentence that the API gives as ``status``."""
        return _TEXTS[self]

    @property
    def final(self) -> bool:
        """Whether the task has ended: a final state, once stored, never changes."""
        return self in _FINAL


_TEXTS = {
    State.RECEIVED: "task has been received from the ws",
    State.REJECTED: "task has been rejected from the ws",
    State.CREATED: "task has been created and sent to the DRM",
    State.UNDETERMINED: "process status cannot be determined",
    State.QUEUED_ACTIVE: "job is queued and active",
    State.SYSTEM_ON_HOLD: "job is queued and in system hold",
    State.USER_ON_HOLD: "job is queued and in user hold",
    State.USER_SYSTEM_ON_HOLD: "job is queued and in user and system hold",
    State.RUNNING: "job is running",
    State.SYSTEM_SUSPENDED: "job is system suspended",
    State.USER_SUSPENDED: "job is user suspended",
    State.STOPPED: "job was stopped by the user",
    State.DONE: "job finished normally",
    State.FAILED: "job finished, but failed",
}

_FINAL = frozenset({State.REJECTED, State.STOPPED, State.DONE, State.FAILED})

HELD = frozenset({State.SYSTEM_ON_HOLD, State.USER_ON_HOLD, State.USER_SYSTEM_ON_HOLD})
SUSPENDED = frozenset({State.SYSTEM_SUSPENDED, State.USER_SUSPENDED})
QUEUED = HELD | {State.QUEUED_ACTIVE}
LIVE = frozenset(State) - _FINAL

#: What the DRM can say of a job that has not ended, and where any of it may lead: DRMs move jobs
#: freely between these (requeue, hold, preemption), so no order is assumed among them.
_WITH_DRM = (LIVE - {State.RECEIVED}) | (_FINAL - {State.REJECTED})

MOVES: dict[State, frozenset[State]] = {
    State.RECEIVED: frozenset(State) - {State.RECEIVED},
    # A dependent task waits on hold without the DRM knowing of it, and may yet be refused.
    State.SYSTEM_ON_HOLD: (_WITH_DRM | {State.RECEIVED, State.REJECTED}) - {State.SYSTEM_ON_HOLD},
    State.USER_ON_HOLD: (_WITH_DRM | {State.RECEIVED, State.REJECTED}) - {State.USER_ON_HOLD},
    State.USER_SYSTEM_ON_HOLD: (_WITH_DRM | {State.RECEIVED, State.REJECTED}) - {State.USER_SYSTEM_ON_HOLD},
    **{
        state: (_WITH_DRM | {State.RECEIVED}) - {state}  # RECEIVED: to be submitted anew
        for state in (
            State.CREATED,
            State.UNDETERMINED,
            State.QUEUED_ACTIVE,
            State.RUNNING,
            State.SYSTEM_SUSPENDED,
            State.USER_SUSPENDED,
        )
    },
    **{state: frozenset[State]() for state in _FINAL},
}
"""For each state, the states that may come directly after it."""


def check_move(before: State, after: State) -> None:
    """Raise `IllegalMove` unless `after` is `before` or may follow it."""
    if after is not before and after not in MOVES[before]:
        raise IllegalMove(f"a task that is {before} cannot become {after}")
