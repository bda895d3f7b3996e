"""Cross-origin requests (Fetch standard, "HTTP extensions"): who may read answers from a browser.

Never with credentials: tokens travel in ``Authorization``, which a page must hold itself.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Seconds for which a browser may remember a preflight.
MAX_AGE = 7200

ALLOWED_HEADERS = ", ".join(
    (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Range",
        "If-None-Match",
        "If-Range",
        "Last-Event-ID",
        "X-Request-ID",
    )
)

EXPOSED_HEADERS = ", ".join(
    (
        "Location",
        "ETag",
        "Content-Range",
        "Content-Disposition",
        "Retry-After",
        "X-Request-ID",
        "WWW-Authenticate",
    )
)


class Cors:
    """The origins (``https://portal.example.org``) that may use the API from a browser."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(_normal(origin) for origin in origins)

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin may read answers; ``*`` in the configuration means all."""
        return origin is not None and ("*" in self._origins or _normal(origin) in self._origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What every answer to a request of this origin carries."""
        if origin is None or not self.allows(origin):
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED_HEADERS}

    def preflight(self, origin: str | None, methods: Iterable[str]) -> dict[str, str]:
        """What the answer to a preflight of an allowed origin carries beyond `headers`."""
        if not self.allows(origin):
            return {}
        return {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE),
        }


def _normal(origin: str) -> str:
    return origin.rstrip("/").lower()
