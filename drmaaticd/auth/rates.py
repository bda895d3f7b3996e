"""Request rates: a token bucket for each caller, in memory. Pure but for the clock that is handed in."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from functools import lru_cache

from drmaaticd.errors import TooManyRequests

#: A caller who was quiet may send so many requests at once: what the rate gives in these seconds, but
#: never fewer than `LEAST_BURST`.
BURST_SECONDS = 2.0
LEAST_BURST = 10.0

#: Buckets at which those that are full, and so say nothing, are thrown away.
SWEEP_AT = 10_000


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """Under what an anonymous client is counted: its address, in IPv6 its /64 (RFC 6177: no site has
    less, so that single addresses there cost nothing)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Rates:
    """Buckets by key. `now` is a clock in seconds that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[str, tuple[float, float, float]] = {}
        """Key → (requests left, when that was, when the bucket will be full)."""
        self._sweep_at = SWEEP_AT

    def take(self, key: str, rate: float) -> None:
        """Count one request, of which `rate` a second are allowed on the average.

        Raises `TooManyRequests` with the time after which one more is allowed.
        """
        burst = max(LEAST_BURST, rate * BURST_SECONDS)
        now = self._now()
        left, then, _ = self._buckets.get(key, (burst, now, now))
        left = min(burst, left + (now - then) * rate)
        allowed = left >= 1.0
        left -= allowed
        self._buckets[key] = (left, now, now + (burst - left) / rate)
        if len(self._buckets) > self._sweep_at:
            self._sweep(now)
        if not allowed:
            raise TooManyRequests("Too many requests.", retry_after=max(1, math.ceil((1.0 - left) / rate)))

    def _sweep(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket[2] > now}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._buckets))
