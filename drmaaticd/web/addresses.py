"""Who is at the other end: the client's address behind trusted proxies, and lists of networks.

``X-Forwarded-For`` is believed from the right, and only as long as the hop that wrote it is trusted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """The address, None if it is none. A zone is dropped, an IPv4-mapped address unwrapped."""
    try:
        address = ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


class Networks:
    """A set of addresses and networks (``"10.0.0.0/8"``, ``"::1"``)."""

    def __init__(self, networks: Iterable[object]) -> None:
        self._networks = [ipaddress.ip_network(str(network), strict=False) for network in networks]

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


class Clients:
    """Finds the client's address of a request."""

    def __init__(self, trusted_proxies: Iterable[object]) -> None:
        self._trusted = Networks(trusted_proxies)

    def address(self, peer: str, forwarded: Iterable[str] = ()) -> str:
        """The address of the client.

        `peer` is the connection's own; `forwarded` the ``X-Forwarded-For`` lines in order. The walk
        ends at the first hop that is not trusted, or whose word is no address.
        """
        here = parse(peer)
        hops = [hop for line in forwarded for hop in line.split(",")]
        while hops and here in self._trusted:
            said = parse(hops.pop())
            if said is None:
                break
            here = said
        return str(here) if here is not None else peer
