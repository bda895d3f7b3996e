"""The application: which path goes to which handler, and the HTTP server's limits."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler

from drmaaticd.web.accounts import CreditHandler, MeHandler, SignOutHandler, TokenHandler
from drmaaticd.web.addresses import Clients, Networks
from drmaaticd.web.background import Background
from drmaaticd.web.base import Common, Handler, NotFoundHandler
from drmaaticd.web.beside import HealthHandler, IndexHandler, ReadyHandler
from drmaaticd.web.cors import Cors
from drmaaticd.web.documents import DocsHandler, Documents, OpenapiHandler
from drmaaticd.web.events import EventsHandler, ManyEventsHandler
from drmaaticd.web.files import DownloadHandler, FileHandler, FilesHandler
from drmaaticd.web.interface import Service
from drmaaticd.web.metrics import Metrics, MetricsHandler
from drmaaticd.web.scripts import ScriptHandler, ScriptsHandler
from drmaaticd.web.streams import MAX_HEADER, Server
from drmaaticd.web.tasks import (
    ControlHandler,
    LinkHandler,
    OwnershipHandler,
    StatusHandler,
    TaskHandler,
    TasksHandler,
)
from drmaaticd.web.ui.page import xsrf_settings
from drmaaticd.web.ui.routes import page_routes

log = logging.getLogger(__name__)
access_log = logging.getLogger("drmaaticd.access")

#: Seconds that a connection may wait for its next request, and a request for its headers.
IDLE_SECONDS = 60.0

#: Bytes that are read from a socket at once.
READ_SIZE = 256 * 1024

#: Bytes that Tornado reads ahead of a connection's present request at most.
MAX_READ_AHEAD = 1024 * 1024

#: Tornado's own limit, whose answer is bare, must never be reached: handlers count themselves.
NO_LIMIT = 1 << 62

#: Threads that read for downloads; a file server that hangs takes one for each transfer it blocks.
READERS = 8

API_ROUTES: tuple[tuple[str, type[Handler]], ...] = (
    (r"/", IndexHandler),
    (r"/health/?", HealthHandler),
    (r"/ready/?", ReadyHandler),
    (r"/metrics/?", MetricsHandler),
    (r"/openapi\.json/?", OpenapiHandler),
    (r"/docs/?", DocsHandler),
    (r"/token/?", SignOutHandler),
    (r"/token/([^/]+)/?", TokenHandler),
    (r"/me/?", MeHandler),
    (r"/cpu-credit/?", CreditHandler),
    (r"/script/?", ScriptsHandler),
    (r"/script/([^/]+)/?", ScriptHandler),
    (r"/task/?", TasksHandler),
    (r"/task/events/?", ManyEventsHandler),
    (r"/task/([^/]+)/?", TaskHandler),
    (r"/task/([^/]+)/status/?", StatusHandler),
    (r"/task/([^/]+)/events/?", EventsHandler),
    (r"/task/([^/]+)/link/?", LinkHandler),
    (r"/task/([^/]+)/(stop|hold|release|suspend|resume)/?", ControlHandler),
    (r"/task/([^/]+)/get_ownership/?", OwnershipHandler),
    (r"/task/([^/]+)/file/?", FilesHandler),
    (r"/task/([^/]+)/file/(.+)", FileHandler),
    (r"/task/([^/]+)/download/?", DownloadHandler),
)

#: How a target in absolute form begins: scheme and authority, which is not looked at.
_ABSOLUTE = re.compile(r"https?://[^/]*", re.IGNORECASE)

#: The API's, and the page's.
ROUTES = API_ROUTES + page_routes(API_ROUTES)


class WebApplication(Application):
    """The application and what it owns: the readers' threads and the work in the background."""

    def __init__(self, service: Service) -> None:
        settings = service.config.server
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._background = Background()
        self._under_way: set[RequestHandler] = set()
        self._metrics = Metrics(service, {route: label(pattern) for pattern, route in ROUTES})
        common = Common(
            clients=Clients(settings.trusted_proxies),
            cors=Cors(settings.cors_origins),
            metrics_allow=Networks(settings.metrics_allow),
            readers=self._readers,
            background=self._background,
            documents=Documents(service, [(path, route.allowed_methods()) for path, route in API_ROUTES]),
            metrics=self._metrics,
            under_way=self._under_way,
        )
        handed: dict[str, Any] = {"service": service, "common": common}
        super().__init__(
            [URLSpec(pattern, handler, handed) for pattern, handler in ROUTES],
            default_handler_class=NotFoundHandler,
            default_handler_args=handed,
            log_function=self._answered,
            **xsrf_settings(service.config.public_url),
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """The handler of a request, whose target may be a whole URL (RFC 9112, section 3.2.2)."""
        if absolute := _ABSOLUTE.match(request.path):
            request.path = request.path[absolute.end() :] or "/"
        return super().find_handler(request, **kwargs)

    def _answered(self, handler: RequestHandler) -> None:
        self._metrics.count(handler)
        _log_access(handler)

    @property
    def requests_under_way(self) -> int:
        """How many requests have begun and are not answered yet."""
        return len(self._under_way)

    async def close(self) -> None:
        """Wait for the work in the background and end the threads. Close the connections first."""
        await self._background.join()
        self._readers.shutdown(wait=False)


def label(pattern: str) -> str:
    """A route's pattern as a metric's label: what is free as ``{}``."""
    return re.sub(r"\([^()]*\)", "{}", pattern.removesuffix("/?")).replace("\\", "")


def make_app(service: Service) -> WebApplication:
    """The application for this service; it does not listen."""
    return WebApplication(service)


def make_server(app: Application, config: object = None) -> HTTPServer:
    """The HTTP server with its limits, none of which is configured; the caller binds and stops it."""
    return Server(
        app,
        max_header_size=MAX_HEADER,
        idle_connection_timeout=IDLE_SECONDS,
        max_body_size=NO_LIMIT,
        max_buffer_size=MAX_READ_AHEAD,
        chunk_size=READ_SIZE,
    )


def _log_access(handler: RequestHandler) -> None:
    if not access_log.isEnabledFor(logging.INFO):
        return
    request = handler.request
    access_log.info(
        "%s %s %s %d %.1f ms %s",
        getattr(handler, "address", request.remote_ip),
        request.method,
        ascii(request.path)[1:-1],
        handler.get_status(),
        1000 * request.request_time(),
        getattr(handler, "request_id", "-"),
    )
