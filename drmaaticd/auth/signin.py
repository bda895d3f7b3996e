"""Signing in on the page: what is sent to the provider's authorisation endpoint.

Sources: RFC 6749, section 4.1 (authorisation code); RFC 7636 (PKCE); OpenID Connect Core 1.0, section
3.1.2.1 (`nonce`). What comes of the code is `providers`' business, who may enter is `accounts`'.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode

from drmaaticd.settings import Provider

#: Bytes of each secret: 43 characters, as RFC 7636, section 4.1, recommends for the verifier.
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that has begun; the browser keeps all but `url` until it comes back."""

    url: str
    """Where to send the browser."""
    state: str
    """What the provider must send back: this browser, and no other, has asked."""
    verifier: str = field(repr=False)
    """What proves at the token endpoint that we are who has asked for the code."""
    nonce: str = field(repr=False)
    """What must stand in the ID token."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the browser has come back with, and what was kept of the beginning."""

    code: str = field(repr=False)
    verifier: str = field(repr=False, kw_only=True)
    nonce: str = field(repr=False, kw_only=True)
    redirect_uri: str = field(kw_only=True)


def begin(provider: Provider, redirect_uri: str) -> Begun:
    """Begin to sign in at a provider for which `offers_sign_in` is true."""
    state, verifier, nonce = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(3))
    asked = {
        "response_type": "code",
        "client_id": provider.client_id or "",
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
    }
    return Begun(f"{provider.authorize_url}?{urlencode(asked)}", state, verifier, nonce)


def challenge(verifier: str) -> str:
    """The verifier's challenge by the method ``S256`` (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
