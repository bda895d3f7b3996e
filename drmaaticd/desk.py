"""The desk: what the page asks beside the API's use cases, such as how people sign in.

Without HTTP, as `service`, which offers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drmaaticd.administration import Administration
from drmaaticd.auth import signin
from drmaaticd.auth.accounts import Accounts
from drmaaticd.callers import Caller
from drmaaticd.config import Config
from drmaaticd.filters import parse_filters
from drmaaticd.store import ANY, Store
from drmaaticd.view import view

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list of tasks."""

    count: int
    """How many tasks fit in all."""
    tasks: list[JSON]
    """The page's, as the API shows them but for their descendants."""
    states: dict[str, int]
    """How many there are in each state, were it not for the filter by state."""


class Desk:
    """One instance; all methods run on the loop."""

    def __init__(
        self, *, config: Config, accounts: Accounts, store: Store, administration: Administration
    ) -> None:
        self.administration = administration
        self._config = config
        self._accounts = accounts
        self._store = store

    # -- tasks ---------------------------------------------------------------------------------

    def list_tasks(self, caller: Caller, query: Mapping[str, str], page: int, size: int) -> Listing:
        """A page of the tasks that the caller may see in a list; of an administrator's, all.

        The filters are `filters.parse_filters`', and for administrators ``owner``, the key of a user.
        Deleted tasks are left out. Raises `InvalidInput`.
        """
        filters = parse_filters(query)
        if caller.user is None and filters.uuids is None:
            return Listing(0, [], {})  # an unowned task is known only to who knows its UUID
        anyone = query.get("owner") or ANY
        wanted = filters.query(anyone if caller.is_admin else caller.user)
        count, tasks = self._store.select(wanted, page, size)
        states = {state.value: many for state, many in self._store.tally(wanted).items()}
        return Listing(count, [view(task, caller, below=[], keep_seconds=None) for task in tasks], states)

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
