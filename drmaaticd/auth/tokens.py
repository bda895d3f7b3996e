"""The daemon's own tokens: JSON Web Tokens (RFC 7519), signed, and each known to the store by its id.

A token counts only if its signature is right *and* its id (``jti``) is on record and not revoked. So a
revocation holds at once and after a restart, and no record outlives its token.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from drmaaticd.auth.jose import jwt
from drmaaticd.auth.keys import KeyRing
from drmaaticd.store import Store

#: The one algorithm that is signed with and taken: HMAC with SHA-256 (RFC 7518, section 3.2).
ALGORITHM = "HS256"
ISSUER = "drmaaticd"
REQUIRED = ("iss", "sub", "aud", "iat", "exp", "jti")

#: Characters of the longest text that is looked at as a token.
MAX_TOKEN = 4096

#: Records looked at before the loop is given back for a moment.
SLICE = 200

#: Verified tokens that are remembered, so that their signature is not computed again.
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are seconds since 1970."""

    jti: str
    user: str
    issued: int
    expires: int
    kid: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token; `text` is told once and kept nowhere."""

    text: str
    claims: Claims

    def __repr__(self) -> str:
        return f"Issued({self.claims!r})"


class Tokens:
    """Issues, verifies and revokes. All methods run on the loop; an issue is revocable (see `Store`)."""

    def __init__(self, store: Store, keys: KeyRing, now: Callable[[], float]) -> None:
        self._table = store.side("tokens")
        self._keys = keys
        self._now = now
        self._remembered: OrderedDict[bytes, Claims] = OrderedDict()
        if len(self._table) > 0:
            jwt()  # before the first request

    def issue(self, user: str, lifetime: float) -> Issued:
        """A new token for the user, `lifetime` seconds long. It counts once the store is durable.

        The first one takes long unless `jose.load` was awaited.
        """
        now = int(self._now())
        key = self._keys.current
        # Hexadecimal: an id is an argument of `drmaaticd token revoke`, where a leading dash is an option's.
        claims = Claims(secrets.token_hex(16), user, now, now + int(lifetime), key.kid)
        text = jwt().encode(
            {
                "iss": ISSUER,
                "sub": user,
                "aud": self._keys.instance,
                "iat": now,
                "exp": claims.expires,
                "jti": claims.jti,
            },
            key.secret,
            algorithm=ALGORITHM,
            headers={"kid": key.kid},
        )
        self._table.put(claims.jti, {"user": user, "issued": now, "expires": claims.expires})
        return Issued(text, claims)

    def verify(self, text: str) -> Claims | None:
        """What a token says, None if it does not count (any more), whatever the reason."""
        if len(text) > MAX_TOKEN or len(self._table) == 0:
            return None
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        claims = self._remembered.get(digest)
        if claims is None:
            claims = self._check(text)
            if claims is None:
                return None
            self._remember(digest, claims)
        return claims if self.counts(claims.jti, claims.kid, claims.user, claims.expires) else None

    def counts(self, jti: str, kid: str, user: str, expires: int) -> bool:
        """Whether a token whose signature was right counts now.

        None of this may be remembered: time passes, keys are retired, tokens revoked.
        """
        now = self._now()
        known = self._table.get(jti)
        return (
            known is not None
            and "revoked" not in known
            and known["user"] == user
            and now < expires
            and self._keys.get(kid, now) is not None
        )

    def _remember(self, digest: bytes, claims: Claims) -> None:
        self._remembered[digest] = claims
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _check(self, text: str) -> Claims | None:
        """Signature and claims; PyJWT compares in constant time."""
        try:
            kid = jwt().get_unverified_header(text).get("kid")
            key = self._keys.get(kid, self._now()) if isinstance(kid, str) else None
            if key is None:
                return None
            said = jwt().decode(
                text,
                key.secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=self._keys.instance,
                # The times are compared by `verify`, at each use.
                options={"require": list(REQUIRED), "verify_exp": False, "verify_iat": False},
            )
            return Claims(str(said["jti"]), str(said["sub"]), int(said["iat"]), int(said["exp"]), key.kid)
        except (jwt().PyJWTError, ValueError, TypeError, RecursionError):
            return None

    def revoke(self, jti: str) -> bool:
        """End a token; False if there is no such token that counts.

        Stands: also where the disk is full, what was revoked opens nothing any more.
        """
        known = self._table.get(jti)
        if known is None or "revoked" in known or known["expires"] <= self._now():
            return False
        self._table.put(jti, known | {"revoked": int(self._now())}, revocable=False)
        return True

    def on_record(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tokens that have not expired: (id, ``user``, ``issued``, ``expires``, perhaps ``revoked``)."""
        now = self._now()
        return ((jti, known) for jti, known in self._table.items() if known["expires"] > now)

    def last_expiry(self) -> float:
        """When the last token that counts expires; now, if there is none."""
        return max(
            (known["expires"] for _, known in self.on_record() if "revoked" not in known),
            default=self._now(),
        )

    async def prune(self) -> None:
        """Forget what has expired. Stands."""
        now = self._now()
        for count, (jti, known) in enumerate(self._table.items(), 1):
            if known["expires"] <= now:
                self._table.delete(jti, revocable=False)
            if count % SLICE == 0:
                await asyncio.sleep(0)
