"""The filters of the task list: from a query's strings to what the store is asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from drmaaticd.drafts import canonical_uuid
from drmaaticd.errors import FieldError, InvalidInput
from drmaaticd.states import State
from drmaaticd.store import Query
from drmaaticd.store.listing import Owner

#: Tasks that may be named in ``ids``.
MAX_IDS = 200

_TIMES = ("updated_since", "created_since", "created_before")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to; None where a filter is not set."""

    uuids: tuple[str, ...] | None = None
    states: frozenset[State] | None = None
    script: str | None = None
    description: str | None = None
    search: str | None = None
    updated_since: int | None = None
    exact_script: str | None = None
    created_since: int | None = None
    created_before: int | None = None

    def query(self, owner: Owner) -> Query:
        """What the store is asked: of these tasks, those that are not deleted."""
        return Query(owner=owner, **asdict(self))


def parse_filters(query: Mapping[str, str]) -> Filters:
    """The filters that a query string sets; names that are no filter are not looked at.

    Raises `InvalidInput` naming every filter that is malformed.
    """
    errors: list[FieldError] = []
    uuids = None
    if "ids" in query:
        listed = [part.strip() for part in query["ids"].split(",")]
        if len(listed) > MAX_IDS:
            errors.append(FieldError("ids", f"names {len(listed)} tasks; at most {MAX_IDS} are allowed"))
        uuids = tuple(filter(None, (canonical_uuid(part) for part in listed)))
    states: frozenset[State] | None = None
    if query.get("state"):
        states = _states(query["state"], {state.value: state for state in State})
    if query.get("status"):
        by_status = _states(query["status"], {state.text: state for state in State})
        states = by_status if states is None else states & by_status
    times: dict[str, int | None] = {}
    for name in _TIMES:
        times[name] = _milliseconds(query[name]) if query.get(name) else None
        if query.get(name) and times[name] is None:
            errors.append(FieldError(name, "is no RFC 3339 time such as 2026-11-24T10:00:00Z"))
    if errors:
        raise InvalidInput("The filters are not valid.", errors=errors)
    return Filters(
        uuids=uuids,
        states=states,
        script=query.get("task_name") or None,
        description=query.get("description") or None,
        search=query.get("search") or None,
        exact_script=query.get("exact_script") or None,
        **times,
    )


def _states(text: str, names: Mapping[str, State]) -> frozenset[State]:
    """The states that a comma-separated list names. Some of the texts hold a comma themselves."""
    found = set()
    rest = text.strip()
    while rest:
        for name, state in names.items():
            if rest == name or rest.startswith(f"{name},"):
                found.add(state)
                rest = rest[len(name) + 1 :].lstrip()
                break
        else:
            rest = rest.partition(",")[2].lstrip()
    return frozenset(found)


def _milliseconds(text: str) -> int | None:
    try:
        # A plus that was not percent-encoded; RFC 3339's lower case and leap seconds (section 5.6, 5.7).
        text = re.sub(r"(:[0-9]{2}):60(?=[.Z+-])", r"\1:59", text.upper().replace(" ", "+"))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
