"""Asking an identity provider whom a token belongs to. Its tokens are neither kept nor logged.

Sources: OpenID Connect Core 1.0, sections 3.1.3.7 (ID tokens) and 5.3 (userinfo); RFC 7662 (token
introspection); RFC 7517 (JWKS); RFC 6749, section 4.1.3, and RFC 7636 (authorisation codes); RFC 6750
(bearer tokens).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from drmaaticd.auth import jose
from drmaaticd.auth.jose import jwt
from drmaaticd.auth.signin import Proof
from drmaaticd.errors import NotAuthenticated, ProviderFailed
from drmaaticd.settings import Provider

log = logging.getLogger(__name__)

#: Seconds for connecting, and for a whole question; also for waiting until others are answered.
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0

#: Bytes of an answer's body and headers.
MAX_ANSWER = 256 * 1024
MAX_HEADERS = 32 * 1024

#: Questions to providers at a time.
MAX_QUESTIONS = 32

#: Seconds for which a provider's public keys are kept, and after which an unknown key's id may have
#: them fetched again.
KEYS_SECONDS = 600.0
KEYS_PAUSE = 30.0

#: Signatures that are taken: those of public keys (RFC 7518). Never ``none``, never a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

#: Seconds by which the clocks of provider and daemon may differ.
LEEWAY = 60

#: Characters of a provider's token; and what it is made of (RFC 6750, section 2.1).
MAX_BEARER = 8192
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

#: Characters of a person's name that are kept.
MAX_DISPLAY = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token belongs to. Only `sub` may be relied on; `name` is for display."""

    sub: str
    user_name: str
    name: str


class Refused(NotAuthenticated):
    """The provider does not vouch for the token."""


def bearer(authorization: str | None) -> str:
    """The token of an ``Authorization`` header. Raises `NotAuthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or len(token) > MAX_BEARER or not _BEARER.fullmatch(token):
        raise NotAuthenticated(
            "The header must read: Authorization: Bearer, a blank, and the provider's access token."
        )
    return token


class Providers:
    """Asks the providers. One instance, with one client; `close` ends it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=MAX_QUESTIONS,
            max_body_size=MAX_ANSWER,
            max_header_size=MAX_HEADERS,
            defaults={
                "connect_timeout": CONNECT_SECONDS,
                "request_timeout": REQUEST_SECONDS,
                "follow_redirects": False,
                "validate_cert": True,
                "decompress_response": False,  # a small answer could become a very large one
                "user_agent": "drmaaticd",
            },
        )
        self._jwks: dict[str, _Keys] = {}
        self._now = now

    def close(self) -> None:
        """Let go of the client."""
        self._client.close()

    async def identify(self, provider: Provider, token: str) -> Identity:
        """Whom the token belongs to.

        Raises `Refused` if the provider does not vouch for it, or not for one of our clients;
        `ProviderFailed` if it cannot be reached or answers nonsense.
        """
        if not provider.client_ids:
            return _identity(provider, await self._userinfo(provider, token))
        if provider.jwks_url is not None and _JWS.fullmatch(token):
            try:
                return _identity(provider, await self._id_token(provider, token, provider.client_ids))
            except Refused:
                if provider.introspection_url is None:
                    raise
        if provider.introspection_url is None:
            raise Refused("An ID token is needed here.")
        said = await self._introspection(provider, token)
        identity = _identity(provider, await self._userinfo(provider, token))
        if said.get("sub") not in (None, identity.sub):
            raise ProviderFailed(f"{provider.name} answered two different users.")
        return identity

    async def redeem(self, provider: Provider, proof: Proof) -> Identity:
        """Whom a provider has signed in, by the authorisation code that it has sent the browser back with.

        Where the provider's keys are configured, its ID token says it; else as with `identify`. Raises
        as that does.
        """
        request = HTTPRequest(
            provider.token_url or "",
            method="POST",
            headers={"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        )
        form = {
            "grant_type": "authorization_code",
            "code": proof.code,
            "redirect_uri": proof.redirect_uri,
            "client_id": provider.client_id or "",
            "code_verifier": proof.verifier,
        }
        if provider.client_secret_file is not None:
            secret = await asyncio.to_thread(_secret, provider, provider.client_secret_file)
            if provider.client_auth == "basic":
                request.auth_mode = "basic"
                # Encoded before they are joined by a colon (RFC 6749, section 2.3.1).
                request.auth_username = quote_plus(provider.client_id or "")
                request.auth_password = quote_plus(secret)
            else:
                form["client_secret"] = secret
        request.body = urlencode(form).encode()
        told = await self._ask(provider, request, refusals=(400,))
        access = told.get("access_token")
        access = access if isinstance(access, str) and _BEARER.fullmatch(access) else ""
        if provider.jwks_url is not None:
            return await self._signed_in(provider, told.get("id_token"), access, proof.nonce)
        if not access:
            raise ProviderFailed(f"{provider.name} sent no access token.")
        return await self.identify(provider, access)

    async def _signed_in(self, provider: Provider, token: object, access: str, nonce: str) -> Identity:
        """Whom an ID token that was made for this sign-in names."""
        if not isinstance(token, str):
            raise ProviderFailed(f"{provider.name} sent no ID token.")
        said = await self._id_token(provider, token, (provider.client_id or "",))
        if not hmac.compare_digest(str(said.get("nonce", "")).encode(), nonce.encode()):
            raise Refused("The ID token was made for another sign-in.")
        if provider.user_name_claim in said:
            return _identity(provider, said)
        # An ID token need not hold more than `sub` (OpenID Connect Core, section 5.4).
        known = _identity(provider, await self._userinfo(provider, access))
        if known.sub != said["sub"]:
            raise ProviderFailed(f"{provider.name} answered two different users.")
        return known

    async def _userinfo(self, provider: Provider, token: str) -> Mapping[str, Any]:
        request = HTTPRequest(
            provider.userinfo_url, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"}
        )
        return await self._ask(provider, request, refusals=(400, 401, 403))

    async def _introspection(self, provider: Provider, token: str) -> Mapping[str, Any]:
        """The answer about an active token of one of our clients. Raises `Refused`."""
        request = HTTPRequest(
            provider.introspection_url or "",
            method="POST",
            body=urlencode({"token": token, "token_type_hint": "access_token"}),
            headers={"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
        )
        if provider.introspection_client_id is not None and provider.introspection_secret_file is not None:
            request.auth_mode = "basic"
            request.auth_username = provider.introspection_client_id
            request.auth_password = await asyncio.to_thread(
                _secret, provider, provider.introspection_secret_file
            )
        said = await self._ask(provider, request, refusals=())
        if said.get("active") is not True:
            raise Refused(f"{provider.name} does not know this token (any more).")
        clients = said["client_id"] if "client_id" in said else said.get("aud")
        if not _names_one(clients, provider.client_ids):
            raise Refused("The token was issued to another client.")
        return said

    async def _id_token(self, provider: Provider, token: str, clients: tuple[str, ...]) -> Mapping[str, Any]:
        """The claims of a valid ID token for one of these clients. Raises `Refused`."""
        await jose.load()
        try:
            kid = jwt().get_unverified_header(token).get("kid")
        except jwt().PyJWTError:
            raise Refused("The token is no ID token.") from None
        keys = await self._keys_for(provider, kid if isinstance(kid, str) else None)
        failure = "it is signed by a key that the provider does not name"
        for key in keys:
            try:
                said: dict[str, Any] = jwt().decode(
                    token,
                    key,
                    algorithms=ALGORITHMS,
                    issuer=provider.issuer,
                    audience=list(clients),
                    leeway=LEEWAY,
                    options={"require": ["iss", "sub", "aud", "exp"]},
                )
            except (jwt().PyJWTError, TypeError, ValueError) as error:
                failure = _why(error)
                continue
            # Core, section 3.1.3.7, 4: of several audiences, the one that it was issued to.
            if "azp" in said and said["azp"] not in clients:
                raise Refused("The ID token was issued to another client.")
            return said
        raise Refused(f"The ID token is not valid: {failure}.")

    async def _keys_for(self, provider: Provider, kid: str | None) -> list[Any]:
        """The provider's keys that may have signed: that of this id, or all if none is named."""
        url = provider.jwks_url or ""
        known = self._jwks.get(url)
        age = self._now() - known.fetched if known is not None else 0.0
        if known is None or age > KEYS_SECONDS or (age > KEYS_PAUSE and not known.of(kid)):
            known = _Keys(await self._fetch_keys(provider, url), self._now())
            self._jwks[url] = known
        return known.of(kid)

    async def _fetch_keys(self, provider: Provider, url: str) -> list[tuple[str | None, Any]]:
        document = await self._ask(provider, HTTPRequest(url), refusals=())
        found: list[tuple[str | None, Any]] = []
        keys = document.get("keys")
        for one in keys if isinstance(keys, list) else ():
            if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
                continue  # for encryption, or a shared secret, which no public document can hold
            try:
                key = jwt().PyJWK(one)
            except (jwt().PyJWTError, ValueError, TypeError, KeyError):
                continue  # a kind of key that is not known here
            # PyJWT holds a PyJWK to one algorithm, which it guesses where the provider has named none.
            found.append((key.key_id, key if "alg" in one else key.key))
        if not found:
            raise ProviderFailed(f"{provider.name} names no keys.")
        return found

    async def _ask(
        self, provider: Provider, request: HTTPRequest, refusals: tuple[int, ...]
    ) -> Mapping[str, Any]:
        """The JSON object that is answered. Raises `Refused`, `ProviderFailed`."""
        try:
            response = await self._client.fetch(request, raise_error=False)
        except Exception as error:  # noqa: BLE001 - a socket, TLS, HTTP or time-out error of any kind
            _failed(provider, request, type(error).__name__)
            raise ProviderFailed(f"{provider.name} cannot be reached.") from None
        if response.code in refusals:
            raise Refused(f"{provider.name} refuses the token.")
        if response.code != 200:
            _failed(provider, request, _what(response))
            raise ProviderFailed(
                f"{provider.name} cannot be reached."
                if response.code == 599
                else f"{provider.name} answered with status {response.code}."
            )
        try:
            document = json.loads(response.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            _failed(provider, request, "no JSON object")
            raise ProviderFailed(f"{provider.name} answered nonsense.")
        return document


class _Keys:
    """A provider's public keys and when they were fetched."""

    def __init__(self, keys: list[tuple[str | None, Any]], fetched: float) -> None:
        self._keys = keys
        self.fetched = fetched

    def of(self, kid: str | None) -> list[Any]:
        """Those of this id, or all."""
        return [key for known, key in self._keys if kid is None or known == kid]


def _identity(provider: Provider, said: Mapping[str, Any]) -> Identity:
    sub, user_name, name = said.get("sub"), said.get(provider.user_name_claim), said.get("name")
    if not isinstance(sub, str) or not sub or not isinstance(user_name, str) or not user_name:
        raise ProviderFailed(f"{provider.name} did not say whom the token belongs to.")
    shown = name if isinstance(name, str) and name.isprintable() else ""
    return Identity(sub, user_name, shown[:MAX_DISPLAY])


def _names_one(clients: object, ours: tuple[str, ...]) -> bool:
    named = clients if isinstance(clients, list) else [clients]
    return any(isinstance(client, str) and client in ours for client in named)


def _why(error: Exception) -> str:
    if isinstance(error, jwt().ExpiredSignatureError):
        return "it has expired"
    if isinstance(error, jwt().InvalidAudienceError):
        return "it was issued to another client"
    if isinstance(error, jwt().InvalidIssuerError):
        return "it was issued by somebody else"
    return "its signature or a claim is wrong"


def _secret(provider: Provider, path: Path) -> str:
    """A client's secret. Raises `ProviderFailed`."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("the secret for %s cannot be read: %s", provider.name, error)
        raise ProviderFailed(f"{provider.name} cannot be asked.") from None


def _what(response: HTTPResponse) -> str:
    if response.code == 599:
        return str(response.error) if isinstance(response.error, HTTPClientError) else "no answer"
    return f"status {response.code}"


def _failed(provider: Provider, request: HTTPRequest, what: str) -> None:
    log.info("%s: %s: %s", provider.name, request.url, what)
