"""What a browser keeps while its person signs in elsewhere, and where it may go afterwards. Pure.

Each sign-in has a cookie of its own, named after its `state`, so that two in two tabs do not disturb
each other. It is for the browser's own eyes: what it proves is that this browser has asked.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

#: Seconds in which one must be back.
SECONDS = 600

#: Sign-ins under way in one browser; the oldest are forgotten beyond.
MOST = 4

#: Characters of the longest address to go to afterwards.
MAX_NEXT = 1024

_PREFIX = "drmaaticd_flow_"
_STATE = re.compile(r"[A-Za-z0-9_-]{20,100}")


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in under way; `started` is in seconds since 1970."""

    provider: str
    state: str
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    next: str
    started: int

    @property
    def cookie(self) -> str:
        """The name of its cookie."""
        return cookie_of(self.state)

    def text(self) -> str:
        """The cookie's value."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The sign-in of a cookie's value, None if it is none of ours."""
        try:
            said = json.loads(base64.urlsafe_b64decode(text))
            made = cls(**said)
            texts = (made.provider, made.state, made.verifier, made.nonce, made.next)
        except (ValueError, TypeError, RecursionError):
            return None
        whole = isinstance(made.started, int) and all(isinstance(one, str) for one in texts)
        return made if whole else None

    def fits(self, provider: str, state: str, now: float) -> bool:
        """Whether the browser has come back from this sign-in, in time."""
        return (
            self.provider == provider
            and hmac.compare_digest(self.state.encode(), state.encode())
            and -SECONDS < now - self.started < SECONDS
        )


def cookie_of(state: str) -> str:
    """The name of the cookie for this `state`; of one that cannot be ours, a name that no cookie has."""
    return f"{_PREFIX}{state[:16] if _STATE.fullmatch(state) else ''}"


def to_forget(cookies: Iterable[tuple[str, str]]) -> list[str]:
    """Which of a browser's cookies must go before one more sign-in begins."""
    found = [(name, Flow.parse(value)) for name, value in cookies if name.startswith(_PREFIX)]
    found.sort(key=lambda one: 0 if one[1] is None else one[1].started)
    return [name for name, _ in found[: max(0, len(found) - MOST + 1)]]


def safe_next(asked: str | None, root: str) -> str:
    """Where to go after the sign-in: the asked page if it is one of ours, else the first.

    `root` is what stands before ``/ui/`` in every address. Nothing else is taken, and no form of
    address that browsers read in another way than it looks (`URL standard
    <https://url.spec.whatwg.org/#url-parsing>`_: backslashes, control characters, dots).
    """
    first = f"{root}/ui/"
    if asked is None or not asked.startswith(first) or len(asked) > MAX_NEXT:
        return first
    try:
        parts = urlsplit(asked)
    except ValueError:
        return first
    path = unquote(parts.path)
    bad = re.search(r"[^!-\[\]-~]", asked) or parts.scheme or parts.netloc
    if bad or "\\" in path or {"..", "."} & set(path.split("/")) or "//" in path:
        return first
    if path.startswith((f"{first}sign-", f"{first}api/")):
        return first
    return asked
