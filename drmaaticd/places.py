"""Where things are: the checks and field types of URLs, origins, addresses, networks and paths.

Which settings hold them is said in `settings`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Strict, ValidationInfo


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_url(value: str) -> SplitResult:
    """Take a URL apart; ValueError unless it is a plain http or https one."""
    try:
        url = urlsplit(value)
        sane = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        sane = False
    if not sane or re.search(r"[^!-~]", value) or url.username is not None:
        raise ValueError("must be a URL such as https://jobs.example.org, with http or https and a host")
    if url.query or url.fragment or value.endswith(("?", "#")):
        raise ValueError("must be a URL without ? and #")
    return url


def _base_url(value: str) -> str:
    split_url(value)
    return value.rstrip("/")


def _secure_url(value: str) -> str:
    url = split_url(value)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ValueError("must be an https URL: access tokens travel to it")
    return value


def _origin(value: str) -> str:
    if value != "*" and split_url(value).path:
        raise ValueError('must be an origin such as https://portal.example.org, without a path, or "*"')
    return value.lower()


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", value) or re.fullmatch(
        r"[\d.]+", value
    ):
        raise ValueError("must be an IP address or a host name alone (the port has a key of its own)")
    return value


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError('must be an IP address or a network such as "10.0.0.0/8"') from None
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address if alone else network)


def _path(value: Any, info: ValidationInfo) -> Path:
    """Make a path absolute; relative ones are relative to the configuration file's folder."""
    if not isinstance(value, str | Path) or not str(value) or not str(value).isprintable():
        raise ValueError("must be a path")
    path = Path(value)
    if str(path).startswith("~"):
        path = path.expanduser()
    if not path.is_absolute():
        path = (info.context or {}).get("folder", Path.cwd()) / path
    return Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps "..")


Url = Annotated[str, AfterValidator(_base_url)]
SecureUrl = Annotated[str, AfterValidator(_secure_url)]
AbsolutePath = Annotated[Path, BeforeValidator(_path)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Strict(False)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], Strict(False)]
Address = Annotated[str, AfterValidator(_address)]
