"""The list of tasks: filters, counts, pages. What changes on it is the script's business (list.js)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from drmaaticd.errors import FieldError, InvalidInput, NotFound
from drmaaticd.web.ui import words
from drmaaticd.web.ui.page import PageHandler

#: Tasks on a page of the list unless asked.
PAGE_SIZE = 25

#: Live tasks up to which the first page follows all of the caller's: it is told of each when it opens.
MOST_FOLLOWED = 200

#: Scripts to choose from.
MOST_SCRIPTS = 500

#: The tones of states in the order in which they are listed.
_TONES = ("wait", "run", "good", "bad", "off")

#: What links keep of the address, beside the page. ``ids`` are the script's, which adds them anew.
_KEPT = ("search", "script", "from", "to", "tz", "owner", "page_size")


@dataclass(frozen=True, slots=True)
class Chip:
    """A state, or states that read the same, with how many tasks are in it."""

    label: str
    tone: str
    states: str
    """As the filter names them."""
    count: int
    current: bool


class TasksPage(PageHandler):
    """``/ui/tasks``."""

    section = "tasks"

    async def get(self) -> None:
        """Write a page of the caller's tasks."""
        caller = await self.caller()
        shown = self.shown()
        number, size = self.query.number("page", 1), self._size()
        listing = self.service.desk.list_tasks(caller, self._filters(shown), number, size)
        if number > 1 and (number - 1) * size >= listing.count:
            raise NotFound("The list has no such page.")
        narrowed = any(shown[name] for name in ("search", "script", "from", "to", "owner"))
        live = sum(count for state, count in listing.states.items() if state not in words.FINAL)
        self.write_page(
            "tasks.html",
            title="Tasks",
            listing=listing,
            shown=shown,
            chips=list(chips(listing.states, shown["state"])),
            total=sum(listing.states.values()),
            to=lambda **changed: self._to(shown, changed),
            taken=taken,
            narrowed=narrowed,
            follows_all=caller.user is not None and number == 1 and not narrowed and live <= MOST_FOLLOWED,
            scripts=self._scripts(caller, shown["script"]),
            number=number,
            last=max(1, -(-listing.count // size)),
            first_on_page=(number - 1) * size + 1,
            by_ids=self.query.joined("ids") is not None,
            anonymous=caller.user is None,
        )

    def shown(self) -> dict[str, str]:
        """The filters as they stand in the form."""
        found = {name: (self.query.text(name) or "").strip() for name in _KEPT}
        return found | {"state": self.query.joined("state") or ""}

    def _size(self) -> int:
        return min(self.query.number("page_size", PAGE_SIZE), self.service.config.server.max_page_size)

    def _scripts(self, caller: Any, chosen: str) -> list[str]:
        _, found = self.service.scripts(caller, name=None, names=None, search=None, page=1, size=MOST_SCRIPTS)
        return sorted({str(script["name"]) for script in found} | ({chosen} if chosen else set()))

    def _filters(self, shown: Mapping[str, str]) -> dict[str, str]:
        """What the service is asked. Raises `InvalidInput`."""
        asked = {
            "state": shown["state"],
            "search": shown["search"],
            "exact_script": shown["script"],
            "owner": shown["owner"],
            **_days(shown["from"], shown["to"], shown["tz"]),
        }
        filters = {name: value for name, value in asked.items() if value}
        ids = self.query.joined("ids")
        return filters if ids is None else filters | {"ids": ids}

    def _to(self, shown: Mapping[str, str], changed: Mapping[str, Any]) -> str:
        """The address of this list with some filters changed; on its first page unless told."""
        kept = {name: str(value) for name, value in (dict(shown) | dict(changed)).items() if value}
        return f"{self.link('tasks')}{'?' if kept else ''}{urlencode(kept)}"


def chips(counts: Mapping[str, int], chosen: str) -> Iterator[Chip]:
    """What of the states there is, by tone; what is chosen is there in any case."""
    wanted = {name for name in chosen.split(",") if name}
    by_label: dict[str, list[str]] = {}
    for name, (label, _) in words.STATES.items():
        by_label.setdefault(label, []).append(name)
    for label, names in sorted(by_label.items(), key=lambda one: _TONES.index(words.STATES[one[1][0]][1])):
        count = sum(counts.get(name, 0) for name in names)
        current = bool(wanted & set(names))
        if count or current:
            yield Chip(label, words.STATES[names[0]][1], ",".join(names), count, current)


def taken(task: Mapping[str, Any]) -> str:
    """How long a task has run; empty while it does, or if it never did."""
    if "start_date" not in task or "end_date" not in task:
        return ""
    start, end = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
    return words.duration(max(0.0, (end - start).total_seconds()))


def _days(first: str, last: str, zone: str) -> dict[str, str]:
    """The filters by the time of creation: from the first day on, up to the end of the last.

    `zone` is by how many minutes the reader's first day, and the one after the last, begin before those
    of UTC, such as ``60,120``. Raises `InvalidInput`.
    """
    errors = []
    days: dict[str, date] = {}
    for name, text in (("from", first), ("to", last)):
        try:
            if text:
                days[name] = date.fromisoformat(text)
        except ValueError:
            errors.append(FieldError(name, "must be a day such as 2026-11-24"))
    if errors:
        raise InvalidInput("The filters are not valid.", errors=errors)
    before, _, after = zone.partition(",")
    times = {}
    if "from" in days:
        times["created_since"] = _begin(days["from"], before)
    if "to" in days and days["to"] < date.max:
        times["created_before"] = _begin(days["to"] + timedelta(days=1), after)
    return times


def _begin(day: date, offset: str) -> str:
    """When a day begins, in RFC 3339; an offset that cannot be one does not count."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if not re.fullmatch(r"-?[0-9]{1,3}", offset):
        return moment.isoformat()
    try:
        return (moment - timedelta(minutes=int(offset))).isoformat()
    except OverflowError:
        return moment.isoformat()


ROUTES = ((r"/ui/tasks/?", TasksPage),)
