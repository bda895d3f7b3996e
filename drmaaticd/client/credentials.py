"""Where the user's tokens are kept: one file under the XDG configuration folder, for its owner alone.

``$XDG_CONFIG_HOME/drmaatic/credentials.json`` (else ``~/.config/…``), mode 0600, a token per service.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drmaaticd.client.failures import Refused

DEFAULT_URL = "http://127.0.0.1:8300"
URL_VARIABLE = "DRMAATIC_URL"
TOKEN_VARIABLE = "DRMAATIC_TOKEN"  # noqa: S105 - the name of a variable

_PORTS = {"http": 80, "https": 443}


def resolve(url: str | None, environ: Mapping[str, str] = os.environ) -> tuple[str, str | None]:
    """The service and the token to use.

    The service: `url`, else ``$DRMAATIC_URL``, else that of the last `keep`, else this machine's. The
    token: ``$DRMAATIC_TOKEN``, else what is kept for the service, else None. Raises `Refused` if
    others can read what is kept.
    """
    kept = _read(path(environ))
    url = url or environ.get(URL_VARIABLE) or kept.get("default") or DEFAULT_URL
    token = environ.get(TOKEN_VARIABLE, "").strip() or _tokens(kept).get(same(url), {}).get("token")
    return url, token


def keep(url: str, token: str, user: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Keep the token for this service, which is the one to use from now on; where it is kept."""
    with _changing(path(environ)) as kept:
        kept["default"] = url.rstrip("/")
        kept.setdefault("services", {})[same(url)] = {"token": token, "user": user}
    return path(environ)


def forget(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Forget the token for this service and return it; None if there is none."""
    if same(url) not in _tokens(_read(path(environ))):
        return None
    with _changing(path(environ)) as kept:
        entry = _tokens(kept).pop(same(url), {})
        if "default" in kept and same(kept["default"]) == same(url):
            del kept["default"]
    token: str | None = entry.get("token")
    return token


def path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file. A relative ``$XDG_CONFIG_HOME`` counts as unset (XDG Base Directory Specification)."""
    base = Path(environ.get("XDG_CONFIG_HOME") or "")
    if not base.is_absolute():
        base = Path(environ.get("HOME") or Path.home()) / ".config"
    return base / "drmaatic" / "credentials.json"


def same(url: str) -> str:
    """One spelling for all of a service's URLs: RFC 3986, sections 6.2.2.1 and 6.2.3."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    shown = "" if port in (None, _PORTS.get(parts.scheme)) else f":{port}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{shown}{parts.path.rstrip('/')}"


def _tokens(kept: Mapping[str, Any]) -> dict[str, Any]:
    services = kept.get("services")
    return services if isinstance(services, dict) else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise Refused(f"{file} can be read by others, or is another's: chmod 600 it, or remove it")
            kept = json.load(opened)
    except FileNotFoundError:
        return {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise Refused(f"{file} is damaged: remove it, and sign in again")
    return kept


@contextlib.contextmanager
def _changing(file: Path) -> Iterator[dict[str, Any]]:
    """What is kept, to be changed; written at the end, one process at a time, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (file.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _read(file)
        yield kept
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".credentials.")  # mode 0600
        try:
            with open(handle, "w", encoding="utf-8") as opened:
                json.dump(kept, opened, indent=2)
                opened.flush()
                os.fsync(handle)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
