"""``/metrics``: figures in Prometheus' text format, names as its conventions have them.

What is counted is counted as requests end; the rest is asked of the service when the page is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from tornado.web import RequestHandler

from drmaaticd import __version__
from drmaaticd.errors import Forbidden, NotAuthenticated
from drmaaticd.web import addresses
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Service

#: Seconds; uploads and downloads are as long as they are large.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

#: Methods that are counted by name; a client may make up others.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The figures of one application."""

    def __init__(self, service: Service, routes: Mapping[type[RequestHandler], str]) -> None:
        """`routes` are the paths that the handlers serve, as labels."""
        self._service = service
        self._routes = routes
        # In this format it would be a series of its own for each, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        # DEL a series of its own for each, which nobody asks for
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "drmaaticd_http_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "drmaaticd_http_request_duration_seconds",
            "From the request's first line to the answer's last byte.",
            ("route",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Present(service))
        ProcessCollector(registry=self._registry)

    def count(self, handler: RequestHandler) -> None:
        """A request was answered."""
        request = handler.request
        method = request.method if request.method in METHODS else "other"
        route = self._routes.get(type(handler), "none")
        self._requests.labels(method, route, str(handler.get_status())).inc()
        self._seconds.labels(route).observe(request.request_time())

    def text(self) -> bytes:
        """Everything, in the text format 0.0.4."""
        return generate_latest(self._registry)


class _Present:
    """What is so at this moment."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """The names alone."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Ask the service."""
        yield InfoMetricFamily("drmaaticd_build", "What runs.", {"version": __version__})
        figures = self._service.figures()
        tasks = GaugeMetricFamily(
            "drmaaticd_tasks", "Tasks that are not deleted, by state.", labels=("state",)
        )
        for state, count in figures.tasks.items():
            tasks.add_metric((state,), count)
        yield tasks
        yield _gauge("drmaaticd_scripts", "Scripts in service.", figures.scripts)
        yield _gauge(
            "drmaaticd_script_findings", "Errors and warnings in script definitions.", figures.script_findings
        )
        yield _gauge("drmaaticd_uploads", "Uploads under way.", figures.uploads)
        yield _gauge("drmaaticd_streams", "Streams of events that are open.", figures.streams)
        yield _gauge("drmaaticd_drm_up", "Whether the DRM works.", figures.drm_works)
        yield _gauge("drmaaticd_store_up", "Whether the store works.", figures.store_works)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


class MetricsHandler(Handler):
    """``/metrics``."""

    async def get(self) -> None:
        """Write the figures; for administrators and the addresses that may."""
        told = addresses.parse(self.address) in self.common.metrics_allow
        if not told or "Authorization" in self.request.headers:
            caller = await self.caller()
            if not (told or caller.is_admin):
                raise (
                    Forbidden("The figures are for administrators.")
                    if caller.user
                    else NotAuthenticated("The figures are for administrators.")
                )
        self.set_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.write(self.common.metrics.text())

    def compute_etag(self) -> str | None:
        """None: they are never the same twice."""
        return None
