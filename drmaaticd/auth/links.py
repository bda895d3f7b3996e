"""Links that let whoever has one read one task for a while.

A link is a key's id, the time of its expiry and an HMAC (RFC 2104) over these, the task and its owner:
nothing is kept of it, and it is good for that one task alone. It ends with its time, with the task, with
its owner's account, and with the key that signed it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import replace

from drmaaticd.auth.keys import KeyRing
from drmaaticd.callers import Caller
from drmaaticd.errors import FieldError, InvalidInput, NotAuthenticated
from drmaaticd.tasks import Task
from drmaaticd.units import format_duration

#: Seconds that a link is valid unless told.
LIFETIME = 300

#: Keeps the keys of links apart from those of tokens, which come from the same secret.
_PURPOSE = b"drmaaticd link 1"

_LINK = re.compile(r"([0-9a-f]{1,64})\.(\d{1,15})\.([A-Za-z0-9_-]{43})")


class Links:
    """Makes and follows links. All methods run on the loop."""

    def __init__(
        self, keys: KeyRing, longest: float, is_disabled: Callable[[str], bool], now: Callable[[], float]
    ) -> None:
        """`longest` is the most seconds that a link may live; `is_disabled` asks about a user's account."""
        self._keys = keys
        self._longest = int(longest)
        self._is_disabled = is_disabled
        self._now = now

    def make(self, task: Task, lifetime: int | None) -> tuple[str, int]:
        """The text of a new link to the task, and the seconds that it is valid.

        Of an unowned task, whose UUID alone opens it, a link adds nothing and takes nothing away.
        Raises `InvalidInput` for a lifetime that is not allowed.
        """
        seconds = min(LIFETIME, self._longest) if lifetime is None else lifetime
        if not 1 <= seconds <= self._longest:
            wrong = f"must be at most {self._longest} seconds ({format_duration(self._longest)})"
            raise InvalidInput("A query parameter is wrong.", errors=[FieldError("lifetime", wrong)])
        expires = int(self._now()) + seconds
        key = self._keys.current
        return f"{key.kid}.{expires}.{_signature(key.secret, expires, task)}", seconds

    def follow(self, caller: Caller, task: Task | None, text: str) -> Caller:
        """The caller, with leave to read the task. Raises `NotAuthenticated` if the link does not count."""
        found = _LINK.fullmatch(text)
        if found is not None and task is not None and task.deleted is None:
            kid, expires, signature = found[1], int(found[2]), found[3]
            key = self._keys.get(kid, self._now())
            if key is not None and hmac.compare_digest(signature, _signature(key.secret, expires, task)):
                signed_for = (kid, task.owner or "")
                linked = replace(caller, link=task.uuid, link_expires=expires, link_key=signed_for)
                if self.holds(linked):
                    return linked
        raise NotAuthenticated("The link is not valid, or not any more.")

    def holds(self, caller: Caller) -> bool:
        """Whether the link that a caller came by counts now."""
        if caller.link_expires is None or caller.link_key is None:
            return False
        kid, owner = caller.link_key
        now = self._now()
        return (
            now < caller.link_expires
            and self._keys.get(kid, now) is not None
            and not self._is_disabled(owner)
        )


def _signature(secret: bytes, expires: int, task: Task) -> str:
    key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
    message = "\n".join((task.uuid, str(expires), task.owner or ""))
    signed = hmac.digest(key, message.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode("ascii")
