"""Who waits for a task to change, and how they are told.

The store publishes each new record here; requests wait for a condition, streams of events
subscribe. Nothing is kept: a subscriber that comes late asks the store first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from drmaaticd.tasks import Task

Listener = Callable[[Task], None]


class Changes:
    """A meeting point on the loop; not thread-safe, as nothing but the loop changes a task."""

    def __init__(self) -> None:
        self._listeners: dict[str | None, set[Listener]] = {}

    def publish(self, task: Task) -> None:
        """Tell everyone who listens to this task, or to all."""
        for key in (task.uuid, None):
            for listener in tuple(self._listeners.get(key, ())):
                listener(task)

    def listen(self, uuid: str | None, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each new record of a task (None: of every task).

        Returns the function that ends this.
        """
        self._listeners.setdefault(uuid, set()).add(listener)

        def end() -> None:
            listeners = self._listeners.get(uuid)
            if listeners is not None:
                listeners.discard(listener)
                if not listeners:
                    del self._listeners[uuid]

        return end

    async def until(self, task: Task, condition: Callable[[Task], bool], seconds: float) -> bool:
        """Wait until a record of `task` fulfils the condition; False when `seconds` have passed."""
        if condition(task):
            return True
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def listener(changed: Task) -> None:
            if not arrived.done() and condition(changed):
                arrived.set_result(None)

        end = self.listen(task.uuid, listener)
        try:
            await asyncio.wait_for(arrived, seconds)
        except TimeoutError:
            return False
        finally:
            end()
        return True
