"""What the service tells of itself: to whoever asks for `/`, to its own description, to monitoring. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drmaaticd import __version__
from drmaaticd.config import Config
from drmaaticd.openapi.document import Site


@dataclass(frozen=True, slots=True)
class Figures:
    """What is so at this moment, for monitoring."""

    tasks: Mapping[str, int]
    """How many tasks are in each state, the deleted left out."""
    scripts: int
    script_findings: int
    uploads: int
    streams: int
    drm_works: bool
    store_works: bool


def site(config: Config) -> Site:
    """What the API's description tells of the configuration."""
    server = config.server
    return Site(
        url=config.public_url,
        anonymous=config.auth.anonymous,
        ignore_unknown=config.compat.ignore_unknown,
        page_size=server.page_size,
        max_page_size=server.max_page_size,
        max_upload=server.max_upload,
        max_link_lifetime=int(config.auth.max_link_lifetime),
    )


def index(config: Config) -> dict[str, Any]:
    """What this service is and where to go."""
    base = config.public_url
    return {
        "name": "drmaaticd",
        "version": __version__,
        "providers": [provider.name for provider in config.auth.providers],
        "anonymous": config.auth.anonymous,
        "max_upload": config.server.max_upload,
        "links": {
            "scripts": f"{base}/script/",
            "tasks": f"{base}/task/",
            "me": f"{base}/me",
            "token": f"{base}/token/{{username}}",
            "cpu_credit": f"{base}/cpu-credit/",
            "openapi": f"{base}/openapi.json",
            "docs": f"{base}/docs",
            "page": f"{base}/ui/",
            "health": f"{base}/health",
            "ready": f"{base}/ready",
            "metrics": f"{base}/metrics",
        },
    }
