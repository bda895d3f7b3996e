"""Who watches which tasks, and what each watcher is told next.

A watcher keeps the names of the tasks that have changed since it was last told, never a queue of their
records: what it is told is how they are then, so a slow reader costs little and misses no final state.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from drmaaticd.callers import Caller
from drmaaticd.errors import TooManyRequests, Unavailable
from drmaaticd.states import LIVE
from drmaaticd.store import ANY, Store
from drmaaticd.tasks import Task

JSON = dict[str, Any]

#: Seconds between two signs of life to every watcher. Proxies give up silent answers after 60 (nginx's
#: ``proxy_read_timeout``) or sooner.
HEARTBEAT = 15.0

#: Watchers that are woken before the loop is given to others: each then writes to its client.
SLICE = 32

#: Tasks of which a watcher is told at once.
BATCH = 32

#: Tasks that a watcher of all its caller's tasks is told of when it comes, the newest.
FIRST = 1000

#: Tasks that may wait to be told to one watcher; over this its stream ends, and its client comes again.
MAX_PENDING = 4 * FIRST

#: Tasks whose last published state is remembered, while anybody watches.
REMEMBERED = 20_000

#: Milliseconds by which a wall clock that was set back may make a later change look earlier.
SLACK = 60_000

#: Seconds after which it may help to ask for a stream again: by then those that are dead are found.
RETRY_AFTER = int(HEARTBEAT)

#: The id of the event that tells that all tasks of a stream have ended.
END = "end"

_EVENT_ID = re.compile(r"([0-9a-f-]{36})@(\d{1,15})@([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Event:
    """What a watcher is told. `name` is empty for a task's record, ``gone`` or ``end``."""

    name: str
    id: str
    data: JSON


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client that comes again has heard last: the id of an event, taken apart."""

    uuid: str
    updated: int
    mark: str

    @classmethod
    def parse(cls, text: str | None) -> Heard | None:
        """None where there is none, or what there is was not made here."""
        if text == END:
            return cls("", 0, "")
        found = _EVENT_ID.fullmatch(text or "")
        return None if found is None else cls(found[1], int(found[2]), found[3])

    def covers(self, task: Task) -> bool:
        """Whether its client knows the task as it is."""
        if not self.uuid:
            return task.final  # and was told, before the end
        if task.uuid == self.uuid:
            return _mark(task) == self.mark
        return task.final and task.updated < self.updated - SLACK


class Watch:
    """One watcher. `next` until it says None, then `close`."""

    def __init__(
        self, watching: Watching, caller: Caller, present: Callable[[Caller, Task], JSON], key: str
    ) -> None:
        self._watching = watching
        self.caller = caller
        self.key = key
        """Under what it is counted."""
        self.present = present
        self.tasks: set[str] | None = None
        """The tasks that have not been told to have ended; None for all of the caller's."""
        self.pending: dict[str, int] = {}
        """The tasks to be told of, by when they changed, in that order: a client that comes again names
        the last of them, and is told what came later."""
        self.queued = False
        """Whether it is about to be woken."""
        self._beat = False
        self._ended = False
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    def mark(self, task: Task) -> None:
        """The task is to be told of."""
        self.pending.pop(task.uuid, None)
        self.pending[task.uuid] = task.updated
        if len(self.pending) > MAX_PENDING:
            self.finish()

    def beat(self) -> None:
        """A sign of life is due."""
        self._beat = True

    def finish(self) -> None:
        """Nothing more is told."""
        self._over = True
        self.wake()

    def wake(self) -> None:
        """Let who waits in `next` look."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[Event] | None:
        """What has changed, in the order of the last changes, none for a sign of life; None at the end.

        Awaits the first change. Everything is looked at anew, whether the caller may still see it too.
        """
        while not (self.pending or self._beat or self._over or self._is_through):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._waiter = None
        if self._over or self._ended or not self._watching.admits(self):
            return None
        self._beat = False
        events: list[Event] = []
        while self.pending and len(events) < BATCH:
            uuid = next(iter(self.pending))
            event = self._event(uuid, self.pending.pop(uuid))
            if event is not None:
                events.append(event)
        if self._is_through:
            self._ended = True
            events.append(Event("end", END, {}))
        return events

    @property
    def _is_through(self) -> bool:
        """Whether all tasks that it was for have ended, and been told."""
        return self.tasks is not None and not self.tasks and not self.pending

    def _event(self, uuid: str, updated: int) -> Event | None:
        if self.tasks is not None and uuid not in self.tasks:
            return None
        task = self._watching.task(uuid)
        if task is None or task.deleted is not None or not self.caller.may_see(task):
            self._leave(uuid)
            return Event("gone", "", {"uuid": uuid})
        if task.final:
            self._leave(uuid)
        return Event("", f"{uuid}@{updated}@{_mark(task)}", self._watching.shown(self, task))

    def _leave(self, uuid: str) -> None:
        if self.tasks is not None:
            self.tasks.discard(uuid)
            self._watching.leave(self, uuid)

    def close(self) -> None:
        """Give its place to others. Idempotent."""
        self.finish()
        self._watching.closed(self)


class Watching:
    """All watchers. One instance; its methods run on the loop."""

    def __init__(
        self,
        *,
        store: Store,
        recheck: Callable[[Caller], Caller | None],
        payer: Callable[[Caller], str],
        most: int,
        most_each: int,
    ) -> None:
        """`recheck` says who a caller is by now, `payer` under what one is counted."""
        self._store = store
        self._recheck = recheck
        self._payer = payer
        self._most = most
        self._most_each = most_each
        self._watches: set[Watch] = set()
        self._counts: Counter[str] = Counter()
        self._index: dict[Hashable, set[Watch]] = {}
        """Watchers by a task's UUID, by ``("owner", key)``, and under `ANY` those of all tasks."""
        self._marks: OrderedDict[str, str] = OrderedDict()
        """What was last published of each task: what does not show changes nothing."""
        self._shown: OrderedDict[str, dict[tuple[Hashable, ...], JSON]] = OrderedDict()
        """The records told last, as each kind of caller sees them: many watch the same."""
        self._to_wake: deque[Watch] = deque()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._watches)

    # -- watchers come and go --------------------------------------------------------------------

    def open(
        self,
        caller: Caller,
        present: Callable[[Caller, Task], JSON],
        *,
        uuids: Sequence[str] | None,
        last: str | None,
    ) -> Watch | None:
        """Watch these tasks, or all of the caller's; None if there is nothing to be told any more.

        Tasks that the caller may not see are passed over. `last` is the id of the event that the caller
        heard last. Raises `TooManyRequests`, `Unavailable`.
        """
        heard = Heard.parse(last)
        tasks = self._all(caller, heard) if uuids is None else self._named(caller, uuids)
        told = [task for task in tasks if heard is None or not heard.covers(task)]
        if not told and (caller.user is None or uuids is not None) and all(task.final for task in tasks):
            return None
        watch = Watch(self, caller, present, self._payer(caller))
        self._admit(watch)
        if uuids is not None:
            watch.tasks = {task.uuid for task in tasks if not task.final} | {task.uuid for task in told}
        for key in self._keys(watch):
            self._index.setdefault(key, set()).add(watch)
        for task in tasks:
            self._remember(task)
        for task in sorted(told, key=lambda task: task.updated):
            watch.mark(task)
        return watch

    def _named(self, caller: Caller, uuids: Iterable[str]) -> list[Task]:
        found = (self._store.get(uuid) for uuid in dict.fromkeys(uuids))
        return [task for task in found if task and task.deleted is None and caller.may_see(task)]

    def _all(self, caller: Caller, heard: Heard | None) -> list[Task]:
        """The caller's live tasks, and those that have ended since; at most `FIRST` of each."""
        if caller.user is None:
            return []  # unowned tasks are known only to who knows their UUIDs
        owner = ANY if caller.is_admin else caller.user
        _, tasks = self._store.page(owner=owner, states=LIVE, size=FIRST)
        if heard is not None and heard.uuid:
            _, later = self._store.page(owner=owner, updated_since=heard.updated - SLACK, size=FIRST)
            tasks += [task for task in later if task.final]
        return tasks

    def _admit(self, watch: Watch) -> None:
        """Raise unless there is a place for one more."""
        if self._stopping:
            raise Unavailable("The daemon is stopping.")
        if self._counts[watch.key] >= self._most_each:
            raise TooManyRequests(
                f"You have {self._most_each} streams of events open, and no more are allowed at a time.",
                retry_after=RETRY_AFTER,
            )
        if len(self._watches) >= self._most:
            raise Unavailable("Too many streams of events are open.", retry_after=RETRY_AFTER)
        self._watches.add(watch)
        self._counts[watch.key] += 1

    def _keys(self, watch: Watch) -> list[Hashable]:
        if watch.tasks is not None:
            return list(watch.tasks)
        return [ANY if watch.caller.is_admin else ("owner", watch.caller.user)]

    def leave(self, watch: Watch, key: Hashable) -> None:
        """The watcher is no longer told of this task."""
        watches = self._index.get(key)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del self._index[key]

    def closed(self, watch: Watch) -> None:
        """A watcher has gone."""
        if watch not in self._watches:
            return
        self._watches.discard(watch)
        self._counts[watch.key] -= 1
        if not self._counts[watch.key]:
            del self._counts[watch.key]
        for key in self._keys(watch):
            self.leave(watch, key)
        if not self._watches:
            self._marks.clear()
            self._shown.clear()

    # -- what they are told ------------------------------------------------------------------------

    def task(self, uuid: str) -> Task | None:
        """The task as it is."""
        return self._store.get(uuid)

    def admits(self, watch: Watch) -> bool:
        """Whether the watcher's caller is still who it was; its rights on tasks are asked one by one."""
        now = self._recheck(watch.caller)
        if now is None or now.is_admin != watch.caller.is_admin:
            return False
        watch.caller = now
        return True

    def shown(self, watch: Watch, task: Task) -> JSON:
        """The task as the watcher's caller sees it, made once for all who see the same."""
        caller = watch.caller
        kind = (caller.is_admin, caller.owns(task), caller.may_use(task))
        kinds = self._shown.setdefault(task.uuid, {})
        self._shown.move_to_end(task.uuid)
        while len(self._shown) > SLICE:
            self._shown.popitem(last=False)
        if kind not in kinds:
            kinds[kind] = watch.present(caller, task)
        return kinds[kind]

    # -- changes -----------------------------------------------------------------------------------

    def publish(self, task: Task) -> None:
        """Take notice of a task's new record: the listener of `changes.Changes`."""
        if not self._watches:
            return
        self._shown.pop(task.uuid, None)
        if task.parent is not None:
            self._shown.clear()  # it is among the descendants of others
        before = self._marks.get(task.uuid)
        if self._remember(task) == before:
            return
        keys = (task.uuid, ("owner", task.owner), ANY)
        for watch in {watch for key in keys for watch in self._index.get(key, ())}:
            watch.mark(task)
            self._queue(watch)

    def _remember(self, task: Task) -> str:
        mark = _mark(task)
        self._marks[task.uuid] = mark
        self._marks.move_to_end(task.uuid)
        while len(self._marks) > REMEMBERED:
            self._marks.popitem(last=False)
        return mark

    def _queue(self, watch: Watch) -> None:
        if not watch.queued:
            watch.queued = True
            self._to_wake.append(watch)
            if len(self._to_wake) == 1:
                asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        """Wake a few, and the next few when these have written and the loop has done other work."""
        for _ in range(min(SLICE, len(self._to_wake))):
            watch = self._to_wake[0]
            watch.queued = False
            watch.wake()
            self._to_wake.popleft()
        if self._to_wake:
            asyncio.get_running_loop().call_soon(self._wake)

    # -- their time --------------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Give signs of life, until cancelled: one timer for all."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            self.beat()

    def beat(self) -> None:
        """Have every watcher write a sign of life, and look whether its caller still may."""
        for watch in self._watches:
            watch.beat()
            self._queue(watch)

    def stop(self) -> None:
        """End all, and take no more: the daemon stops."""
        self._stopping = True
        for watch in tuple(self._watches):
            watch.finish()


def _mark(task: Task) -> str:
    """Stands for all of a record whose change is an event; eight hexadecimal digits."""
    if task.deleted is not None:
        return "0" * 8
    shows = (task.state.value, task.members, task.detail, task.owner, task.exit_status)
    return f"{zlib.crc32(repr(shows).encode('utf-8', 'surrogatepass')):08x}"
