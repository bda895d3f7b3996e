"""When an array began: the first start of those runs of its members that count.

Of a member that the DRM runs again, only the newest run counts, as of a task that is no array. A record
keeps the first start alone, not each member's; where the run that it is of counts no more, the control
folders are read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice

from drmaaticd.claims import Key
from drmaaticd.launcher import Evidence
from drmaaticd.outcome import indices, members_of, milliseconds, requeued
from drmaaticd.states import QUEUED
from drmaaticd.tasks import MEMBER_STATES, Task
from drmaaticd.verdict import Verdict

#: Control folders read in one call, and members looked at without giving the loop back.
SLICE = 1000

Read = Callable[[Iterable[Key]], Awaitable[dict[Key, Evidence]]]


class Starts:
    """Finds the starts of arrays. All methods run on the loop."""

    def __init__(self, read: Read) -> None:
        """`read` gives what the launchers of these jobs left."""
        self._read = read

    async def began(
        self,
        task: Task,
        verdicts: Mapping[int | None, Verdict],
        grounds: Mapping[int | None, tuple[Evidence, object]],
    ) -> int | None:
        """The start of an array (milliseconds since 1970), but for what the verdicts themselves tell of.

        It is the one on record, unless that is of a run that counts no more. `grounds` is what each
        verdict was made from, the launcher's word first.
        """
        if task.started is None:
            return None
        known, letters = indices(task), members_of(task)
        unread: list[int | None] = []
        for count, (index, verdict) in enumerate(verdicts.items(), 1):
            if count % SLICE == 0:
                await asyncio.sleep(0)
            evidence = grounds[index][0]
            again = False
            if index is not None and index in known:
                again = requeued(MEMBER_STATES[letters[known.index(index)]], verdict)
            if (again or evidence.formerly) and task.started in _outdated(evidence, again=again):
                return await self._first(task, verdicts)
            if again and evidence.started is None:
                unread.append(index)
        while unread:
            some, unread = unread[:SLICE], unread[SLICE:]
            for evidence in (await self._read((task.uuid, index) for index in some)).values():
                if task.started in _outdated(evidence, again=True):
                    return await self._first(task, verdicts)
        return task.started

    async def _first(self, task: Task, verdicts: Mapping[int | None, Verdict]) -> int | None:
        """The first start of the members that have begun and do not wait again."""
        begun = (
            (task.uuid, index)
            for index, letter in zip(indices(task), members_of(task), strict=True)
            if (verdicts.get(index, _NONE).state or MEMBER_STATES[letter]) not in QUEUED
        )
        first: int | None = None
        while some := list(islice(begun, SLICE)):
            starts = [milliseconds(found.started) for found in (await self._read(some)).values()]
            first = min((start for start in (first, *starts) if start is not None), default=None)
        return first


_NONE = Verdict()


def _outdated(evidence: Evidence, *, again: bool) -> set[int | None]:
    """The starts of a member's runs that count no more; if it waits `again`, its last one is among them."""
    starts = (*evidence.formerly, evidence.started) if again else evidence.formerly
    return {milliseconds(start) for start in starts}
