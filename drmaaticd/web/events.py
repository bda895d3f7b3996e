"""Streams of events (HTML standard, "Server-sent events"): a task's changes while they happen.

A stream is an answer without an end of its own. What is told, to whom and how long is the service's.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Sequence

from tornado.iostream import StreamClosedError

from drmaaticd.errors import MethodNotAllowed
from drmaaticd.web import jsontext
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Event, Watch
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.transfer import STALL_SECONDS, Stalled, taken

log = logging.getLogger(__name__)

#: Milliseconds after which a client whose stream broke off comes again: the least and the most, so that
#: a thousand do not come at the same moment when the daemon was restarted.
RECONNECT = (1000, 3000)

#: A line that clients ignore.
SIGN_OF_LIFE = b":\n\n"

#: Characters of the longest id that is looked at.
MAX_ID = 128


def framed(events: Sequence[Event]) -> bytes:
    """The events as they are sent; JSON holds no line break."""
    return b"".join(_frame(event) for event in events) or SIGN_OF_LIFE


def _frame(event: Event) -> bytes:
    lines = [b"event: " + event.name.encode("ascii")] if event.name else []
    lines += [b"id: " + event.id.encode("ascii")] if event.id else []
    return b"\n".join((*lines, b"data: " + jsontext.dumps(event.data), b"\n"))


class _StreamHandler(Handler):
    """What one stream and the other have in common."""

    _watch: Watch | None = None

    @classmethod
    def _implements(cls, method: str) -> bool:
        return method != "HEAD" and super()._implements(method)  # a stream is made to be read

    async def head(self, *args: str, **kwargs: str) -> None:
        """Never succeeds."""
        raise MethodNotAllowed

    def compute_etag(self) -> str | None:
        """None: no stream is the same twice."""
        return None

    @property
    def last_event_id(self) -> str | None:
        """What the client has heard last, if it was here before."""
        text = self.request.headers.get("Last-Event-ID")
        return None if text is None or len(text) > MAX_ID else text

    async def follow(self, watch: Watch | None) -> None:
        """Send what is told until the end. To nothing more the answer is 204: clients then stay away."""
        if watch is None:
            self.set_status(204)
            return
        self._watch = watch
        try:
            await self._send(watch)
        except StreamClosedError:
            log.debug("request %s: the client has gone", self.request_id)
        except Stalled:
            log.info("request %s: the client does not read its events, closing", self.request_id)
            self._connection.close()
        finally:
            watch.close()

    async def _send(self, watch: Watch) -> None:
        self._notice_a_vanished_client()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx would collect the answer
        self.write(b"retry: %d\n\n" % random.randint(*RECONNECT))  # noqa: S311 - no secret
        await taken(self.flush(), self._stream)
        while (events := await watch.next()) is not None:
            self.write(framed(events))
            # Awaited in any case: else who has much to tell would keep the loop.
            await taken(self.flush(), self._stream)

    def _notice_a_vanished_client(self) -> None:
        """Have the kernel break off when what was sent is acknowledged by nobody (tcp(7))."""
        if not self._stream.closed():
            self._stream.socket.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000)
            )

    def on_connection_close(self) -> None:
        """The client has gone."""
        if self._watch is not None:
            self._watch.close()
        super().on_connection_close()


class EventsHandler(_StreamHandler):
    """``/task/{uuid}/events``."""

    async def get(self, uuid: str) -> None:
        """Send the task now, and again whenever it changes, until it has ended."""
        caller = await self.caller(uuid)
        await self.follow(self.service.watch(caller, task_uuid(uuid), self.last_event_id))


class ManyEventsHandler(_StreamHandler):
    """``/task/events``."""

    async def get(self) -> None:
        """Send the tasks that ``ids`` names, until all have ended; or all of the caller's, without end."""
        caller = await self.caller()
        ids = self.query.joined("ids")
        named = {} if ids is None else {"ids": ids}
        await self.follow(self.service.watch_many(caller, named, self.last_event_id))
