"""The desk: what the page asks beside the API's use cases, such as how people sign in.

Without HTTP, as `service`, which offers it.
"""

from __future__ import annotations

from typing import Any

from drmaaticd.auth import signin
from drmaaticd.auth.accounts import Accounts
from drmaaticd.callers import Caller
from drmaaticd.config import Config

JSON = dict[str, Any]


class Desk:
    """One instance; all methods run on the loop."""

    def __init__(self, *, config: Config, accounts: Accounts) -> None:
        self._config = config
        self._accounts = accounts

    # -- signing in ----------------------------------------------------------------------------

    def ways_in(self) -> list[str]:
        """The names of the providers at which people can sign in on the page."""
        return [provider.name for provider in self._config.auth.providers if provider.offers_sign_in]

    def begin_sign_in(self, provider: str, redirect_uri: str) -> signin.Begun:
        """Begin to sign in; the provider sends the browser back to `redirect_uri`. Raises `NotFound`."""
        return signin.begin(self._accounts.provider_for_page(provider), redirect_uri)

    async def sign_in(
        self, provider: str, code: str, *, verifier: str, nonce: str, redirect_uri: str, address: str
    ) -> JSON:
        """A token (API.md, Tokens) for the code that the browser came back with.

        Raises `NotFound`, `TooManyRequests`, `NotAuthenticated`, `InvalidInput`, `Forbidden`,
        `ProviderFailed`.
        """
        proof = signin.Proof(code, verifier=verifier, nonce=nonce, redirect_uri=redirect_uri)
        return await self._accounts.sign_in(provider, proof, address)

    def issuer(self, provider: str) -> str | None:
        """What the provider calls itself, where that is configured."""
        found = (one.issuer for one in self._config.auth.providers if one.name == provider)
        return next(found, None)

    def anonymous(self) -> bool:
        """Whether one may go on without signing in."""
        return self._config.auth.anonymous

    async def check_token(self, token: str, address: str) -> Caller:
        """Whose token somebody has pasted. Raises as `Accounts.authenticate` does."""
        return self._accounts.authenticate(f"Bearer {token}", address)
