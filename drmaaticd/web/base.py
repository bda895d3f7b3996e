"""What all handlers share: headers, errors, the caller, and what happens to a body.

Every handler reads its body as a stream, so that no body is ever collected in memory, and a refusal
is answered while it still arrives. Errors are raised; `write_error` is the one place that words them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from drmaaticd.errors import InvalidInput, MethodNotAllowed, NotFound, TooLarge
from drmaaticd.web import jsontext, problem, requestid
from drmaaticd.web.addresses import Clients, Networks
from drmaaticd.web.background import Background
from drmaaticd.web.cors import Cors
from drmaaticd.web.interface import Caller, Service
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.query import Query
from drmaaticd.web.transfer import Blocks, Stalled, taken

if TYPE_CHECKING:
    from drmaaticd.web.documents import Documents
    from drmaaticd.web.metrics import Metrics

log = logging.getLogger(__name__)

#: Bytes of a body where none is expected: it is read and dropped up to this.
MAX_IGNORED_BODY = 64 * 1024

#: After a refusal, so much of the rest of the body is read and dropped, for so long (seconds): a
#: connection that is closed with unread bytes is reset, and the answer may be lost with it.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 10.0

#: Seconds in which a body that is only dropped must be complete.
IGNORED_BODY_SECONDS = 60.0

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

#: What every answer carries.
HEADERS = {
    "Server": "drmaaticd",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Common:
    """What the application hands to all its handlers beside the service."""

    clients: Clients
    cors: Cors
    metrics_allow: Networks
    readers: Executor
    """Threads that read files and archives for downloads, and parse large forms."""
    background: Background
    documents: Documents
    metrics: Metrics
    under_way: set[RequestHandler]
    """The requests that are not answered yet."""


@stream_request_body
class Handler(RequestHandler):
    """The base of all handlers."""

    service: Service
    common: Common
    request_id: str = "-"
    open_to_all = False
    """Whether callers without a token are let in also where the configuration has no anonymous callers."""
    _caller: Caller | None = None
    _refused = False
    _dropped = 0
    _timer: asyncio.TimerHandle | None = None

    # -- every answer --------------------------------------------------------------------------

    def initialize(self, service: Service, common: Common) -> None:
        """Take what the URL specification hands in."""
        self.service = service
        self.common = common
        self.request_id = requestid.accept(self.request.headers.get(requestid.HEADER))
        self.set_default_headers()
        common.under_way.add(self)

    def set_default_headers(self) -> None:
        """Set what every answer carries, errors too."""
        if not hasattr(self, "common"):  # Tornado calls this once before `initialize`
            return
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header(requestid.HEADER, self.request_id)
        for name, value in self.common.cors.headers(self.request.headers.get("Origin")).items():
            self.set_header(name, value)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Let any bytes of a path through, those that are no UTF-8 as lone surrogates."""
        return value.decode("utf-8", "surrogateescape")

    def write_json(self, value: Any) -> None:
        """Write a JSON answer."""
        self.set_header("Content-Type", "application/json")
        self.write(jsontext.dumps(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Word any error as a problem document."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        self.finish(self._write_problem(error, status_code))

    def _write_problem(self, error: BaseException | None, status: int = 500) -> bytes:
        answer = problem.problem_of(error, status)
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        if answer.status == 401 and "WWW-Authenticate" not in self._headers:
            given = "Authorization" in self.request.headers
            self.set_header("WWW-Authenticate", 'Bearer error="invalid_token"' if given else "Bearer")
        if answer.status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_header("Content-Type", problem.CONTENT_TYPE)
        return answer.body()

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log bugs with their traceback; what the caller is told needs no log."""
        if problem.is_bug(value) and not isinstance(value, StreamClosedError):
            log.error(
                "request %s: %s %s failed",
                self.request_id,
                self.request.method,
                ascii(self.request.path),
                exc_info=value,
            )

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """End the answer, and see to it that a client that does not read it is given up."""
        self.stop_timer()
        future = super().finish(chunk)
        if not future.done():
            self.common.background.add(self._guard(future))
        return future

    def on_finish(self) -> None:
        """The answer is written."""
        self.common.under_way.discard(self)

    async def _guard(self, flushed: asyncio.Future[None]) -> None:
        try:
            await taken(flushed, self._stream)
        except Stalled:
            log.info("request %s: the client does not read its answer, closing", self.request_id)
            self._connection.close()
        except StreamClosedError:
            return

    # -- methods -------------------------------------------------------------------------------

    @classmethod
    def allowed_methods(cls) -> list[str]:
        """The methods that this path knows, for ``Allow``."""
        return [name for name in _METHODS if cls._implements(name)]

    @classmethod
    def _implements(cls, method: str) -> bool:
        name = "get" if method == "HEAD" else method.lower()
        return getattr(cls, name, None) is not RequestHandler._unimplemented_method

    async def head(self, *args: str, **kwargs: str) -> None:
        """Answer as to GET; Tornado leaves the body out."""
        result: Awaitable[None] | None = self.get(*args, **kwargs)
        if result is not None:
            await result

    def options(self, *args: str, **kwargs: str) -> None:
        """Answer a preflight, before anyone is authenticated; else tell the methods."""
        methods = self.allowed_methods()
        self.set_status(204)
        self.set_header("Allow", ", ".join(methods))
        if "Access-Control-Request-Method" in self.request.headers:
            origin = self.request.headers.get("Origin")
            for name, value in self.common.cors.preflight(origin, methods).items():
                self.set_header(name, value)

    # -- the request ---------------------------------------------------------------------------

    @property
    def _connection(self) -> HTTP1Connection:
        return cast(HTTP1Connection, self.request.connection)

    @property
    def _stream(self) -> IOStream:
        return self._connection.stream

    @cached_property
    def address(self) -> str:
        """The client's address, behind trusted proxies."""
        forwarded = self.request.headers.get_list("X-Forwarded-For")
        return self.common.clients.address(self.request.remote_ip or "", forwarded)

    @property
    def query(self) -> Query:
        """The parameters of the query string."""
        return Query(self.request.query_arguments)

    def authorization(self) -> str | None:
        """What the request says about who asks, as the ``Authorization`` header says it."""
        given = self.request.headers.get_list("Authorization")
        return ",".join(given) if given else None

    async def caller(self, linked: str | None = None) -> Caller:
        """Who asks. Asked once a request, since it is counted.

        `linked` is the UUID of the task that is read, where a link to it may be followed.
        Raises `NotAuthenticated`, `Forbidden` (a disabled account), `TooManyRequests`.
        """
        if self._caller is None:
            caller = await self.service.authenticate(self.authorization(), self.address)
            if linked is not None:
                caller = self.follow_link(caller, linked)
            if not self.open_to_all:
                self.service.check_open(caller)
            self._caller = caller
        return self._caller

    def follow_link(self, caller: Caller, uuid: str) -> Caller:
        """The caller, with what a link in the query lets them read. Raises `NotAuthenticated`."""
        link = self.query.text("link")
        return caller if link is None else self.service.follow(caller, task_uuid(uuid), link)

    # -- the body ------------------------------------------------------------------------------

    @property
    def body_length(self) -> int | None:
        """The body's length in bytes as announced, None where it is chunked; 0 if there is none."""
        if "Transfer-Encoding" in self.request.headers:
            return None
        return int(self.request.headers.get("Content-Length", "0").partition(",")[0])

    async def prepare(self) -> None:
        """Decide about a body before it is read. Requests without one are decided by their method."""
        requestid.current.set(self.request_id)
        headers = self.request.headers
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            return
        if headers.get("Expect", "").lower() == "100-continue":
            headers["Expect"] = "100-continue"  # Tornado compares the case
        try:
            self._check_framing()
        except InvalidInput as error:
            # What follows cannot be told from a body, so there is nothing to read on for.
            self.finish(self._write_problem(error))
            return
        if self.body_length == 0:
            return
        try:
            self._check_method()
            await self.admit_body()
        except Exception as error:  # noqa: BLE001 - logged and answered by refuse()
            await self.refuse(error)

    def _check_framing(self) -> None:
        """Word those errors of RFC 9112, section 6.3, for which Tornado has only a bare 400."""
        encodings = self.request.headers.get_list("Transfer-Encoding")
        lengths = {
            text.strip()
            for line in self.request.headers.get_list("Content-Length")
            for text in line.split(",")
        }
        if encodings and (lengths or [text.lower() for text in encodings] != ["chunked"]):
            raise InvalidInput("The body must be framed by Content-Length or as chunked.")
        if not encodings and not (len(lengths) == 1 and all(_is_length(text) for text in lengths)):
            raise InvalidInput("Content-Length is no whole number.")

    def _check_method(self) -> None:
        if not self._implements(self.request.method or ""):
            raise MethodNotAllowed

    async def admit_body(self) -> None:
        """Decide whether the body that is announced is read at all; raise what speaks against it."""
        if (self.body_length or 0) > MAX_IGNORED_BODY:
            raise TooLarge(f"No body is read here, and none over {MAX_IGNORED_BODY} bytes is dropped.")
        self._connection.set_body_timeout(IGNORED_BODY_SECONDS)

    async def take(self, chunk: bytes) -> None:
        """Work on a piece of the body; raise what is wrong with it."""
        self._dropped += len(chunk)
        if self._dropped > MAX_IGNORED_BODY:
            raise TooLarge(f"No body is read here, and none over {MAX_IGNORED_BODY} bytes is dropped.")

    async def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body, or drop it after a refusal. Never raises: that would close
        the connection without an answer."""
        if self._refused:
            self._dropped += len(chunk)
            if self._dropped > DRAIN_BYTES:
                self._end_refusal()
            return
        requestid.current.set(self.request_id)
        try:
            await self.take(chunk)
        except Exception as error:  # noqa: BLE001 - logged and answered by refuse()
            await self.refuse(error)

    async def give_up_body(self) -> None:
        """Undo what was made of the body so far."""

    async def refuse(self, error: Exception) -> None:
        """Answer an error at once, and read on for a while (RFC 9112, section 9.6)."""
        self.log_exception(type(error), error, error.__traceback__)
        self._refused = True
        self._dropped = 0
        try:
            await self.give_up_body()
        except Exception:
            log.exception("request %s: what had arrived of the body could not be removed", self.request_id)
        self.clear()
        body = self._write_problem(error)
        self.set_header("Connection", "close")
        self.set_header("Content-Length", len(body))
        # Without its header Tornado sends no "100 Continue" after the answer.
        self.request.headers.pop("Expect", None)
        self.write(body)
        self.flush().add_done_callback(lambda _: self._half_close())
        self.start_timer(DRAIN_SECONDS, self._end_refusal)
        # Called when all of the body was read: whatever the method, the answer is out already.
        setattr(self, (self.request.method or "").lower(), self._after_refusal)

    def _half_close(self) -> None:
        """Tell the client that nothing follows, while its bytes are still taken."""
        if self._stream.closed():
            return
        try:
            self._stream.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            log.debug("request %s: the client has gone: %s", self.request_id, error)

    def _after_refusal(self, *args: str, **kwargs: str) -> None:
        self._end_refusal()
        self._connection.close()

    def _end_refusal(self) -> None:
        self.stop_timer()
        if not self._finished:
            self.finish()

    def on_connection_close(self) -> None:
        """The client has gone: give up the body."""
        super().on_connection_close()
        self.stop_timer()
        if self._refused:
            self._end_refusal()
        self.common.under_way.discard(self)
        self.common.background.add(self.give_up_body())

    def start_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once; the request has one timer, stopped when it ends."""
        self.stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def stop_timer(self) -> None:
        """Stop the request's timer, if it runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- downloads -----------------------------------------------------------------------------

    async def transmit(self, blocks: Blocks) -> None:
        """Send blocks at the client's pace and close them. If it breaks off, so does the connection:
        an answer that is cut short must not look whole."""
        left = int(self._headers.get("Content-Length", "-1"))
        try:
            while left and (block := await blocks.next()):
                left -= len(block)
                self.write(block)
                await taken(self.flush(), self._stream)
        except StreamClosedError:
            log.info("request %s: the client has gone in mid-transfer", self.request_id)
        except Stalled:
            log.info("request %s: the client takes nothing, closing", self.request_id)
        except Exception:
            log.warning("request %s: a transfer broke off", self.request_id, exc_info=True)
        except asyncio.CancelledError:
            self._break_off()
            raise
        else:
            return
        finally:
            blocks.close()
        self._break_off()

    def _break_off(self) -> None:
        self._connection.close()
        self.finish()


class NotFoundHandler(Handler):
    """Answers for every path that nobody else has."""

    async def get(self) -> None:
        """Never succeeds; as do the others. Who is not let in at all is told so first."""
        await self.caller()
        raise NotFound("There is no such path.")

    post = put = patch = delete = get

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Word an error. Of methods that HTTP does not have either, nothing is told here."""
        if status_code == 405:
            kwargs["exc_info"] = (NotFound, NotFound("There is no such path."), None)
        super().write_error(status_code, **kwargs)

    async def admit_body(self) -> None:
        """No body is read here."""
        await self.caller()
        raise NotFound("There is no such path.")

    def options(self, *args: str, **kwargs: str) -> None:
        """Answer a browser's preflight, so that it may see the 404."""
        headers = self.request.headers
        if "Access-Control-Request-Method" not in headers or not self.common.cors.allows(
            headers.get("Origin")
        ):
            raise NotFound("There is no such path.")
        super().options()


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
