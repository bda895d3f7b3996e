"""The accounts: who sends a request, how tokens come and go, what each caller may still spend.

The one object of this room that the service, the intake and the administrators' commands use.
Methods run on the loop.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from drmaaticd.auth import audit, jose, providers, signin, users
from drmaaticd.auth.credit import Credit
from drmaaticd.auth.keys import KeyRing
from drmaaticd.auth.links import Links
from drmaaticd.auth.rates import Rates, network_of
from drmaaticd.auth.tokens import Claims, Issued, Tokens
from drmaaticd.auth.users import INTERNAL, User, Users
from drmaaticd.callers import ANONYMOUS_GROUP, Caller
from drmaaticd.config import Config
from drmaaticd.errors import (
    DrmaaticdError,
    Forbidden,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TooManyRequests,
)
from drmaaticd.gate import FileGate
from drmaaticd.settings import Group, Provider
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task, now_ms
from drmaaticd.units import format_duration
from drmaaticd.view import rfc3339

JSON = dict[str, Any]

#: Seconds that a token may live at least and at most.
LIFETIMES = (60.0, 10 * 366 * 86_400.0)


class Accounts:
    """Everything about people. One instance."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        keys: KeyRing,
        files: FileGate,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is the wall clock, `clock` one that never goes back; both in seconds."""
        self._config = config
        self._store = store
        self._keys = keys
        self._files = files
        self._now = now
        self._tokens = Tokens(store, keys, now)
        self._users = Users(store, config.groups, config.auth.providers)
        #: While the key changes no token is issued: its time could outlast the old key's.
        self._rotating = asyncio.Lock()
        self._rates = Rates(clock)
        self._credit = Credit(store, now)
        self._providers = providers.Providers(clock)
        self.links = Links(keys, config.auth.max_link_lifetime, self._is_disabled, now)

    def close(self) -> None:
        """Let go of the HTTP client."""
        self._providers.close()

    # -- who asks ------------------------------------------------------------------------------

    def authenticate(self, authorization: str | None, address: str) -> Caller:
        """Who sends this request; it is counted.

        Raises `NotAuthenticated` for a token that does not count, `Forbidden` for a disabled account,
        `TooManyRequests`.
        """
        if authorization is None:
            caller = Caller.anonymous(address)
            self._count(caller, f"address:{network_of(address)}", self.group_of(caller).rate)
            return caller
        try:
            caller = self._bearer(authorization, address)
        except DrmaaticdError:
            # Whoever tries tokens is known by address alone.
            anonymous = Caller.anonymous(address)
            self._count(anonymous, f"failures from {network_of(address)}", self.group_of(anonymous).rate)
            raise
        self._count(caller, caller.key, self.group_of(caller).rate)
        return caller

    def _bearer(self, authorization: str, address: str) -> Caller:
        scheme, _, text = authorization.partition(" ")
        claims = self._tokens.verify(text.strip(" ")) if scheme.lower() == "bearer" else None
        user = self._users.get(claims.user) if claims is not None else None
        if claims is None or user is None:
            audit.record("token.refused", address=address)
            raise NotAuthenticated(
                "The token is not valid.", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        if user.disabled:
            audit.record("account.refused", user=user.key, address=address, reason="disabled")
            raise Forbidden("This account is disabled.")
        return self._caller(user, address, claims)

    def _caller(self, user: User, address: str, claims: Claims) -> Caller:
        name, group = self._users.group(user.group)
        return Caller(
            user=user.key,
            name=user.name,
            group=name,
            is_admin=group.admin,
            address=address,
            source=user.source,
            display=user.display,
            token=claims.jti,
            expires=claims.expires,
            signed_by=claims.kid,
        )

    def recheck(self, caller: Caller) -> Caller | None:
        """Who the caller is by now, None if they would be refused: for requests that last. Not counted."""
        if caller.link is not None and not self.links.holds(caller):
            return None
        if caller.user is None:
            return caller
        user = self._users.get(caller.user)
        if user is None or user.disabled:
            return None
        if caller.token is not None and not self._tokens.counts(
            caller.token, caller.signed_by or "", user.key, caller.expires or 0
        ):
            return None
        name, group = self._users.group(user.group)
        return replace(caller, group=name, is_admin=group.admin)

    def _count(self, caller: Caller, key: str, rate: float) -> None:
        try:
            self._rates.take(key, rate)
        except TooManyRequests:
            _stopped(caller, "rate")
            raise

    def group_of(self, caller: Caller) -> Group:
        """The group that a caller is in."""
        return self._config.groups[caller.group]

    def me(self, caller: Caller) -> JSON:
        """Who the caller is (API.md, Tokens)."""
        shown: JSON = {
            "user_source": caller.source or None,
            "user_name": caller.name or None,
            "name": caller.display or None,
            "group": caller.group,
            "is_admin": caller.is_admin,
            "expires": None if caller.expires is None else rfc3339(caller.expires * 1000),
        }
        return {name: value for name, value in shown.items() if value is not None}

    # -- tokens for people ---------------------------------------------------------------------

    async def exchange(self, authorization: str | None, name: str, address: str) -> JSON:
        """A token for a provider's token (API.md, Tokens).

        Raises `TooManyRequests`, `NotAuthenticated`, `InvalidInput`, `Forbidden`, `ProviderFailed`.
        """
        user, issued = await self._let_in(address, name, lambda: self._vouched_for(authorization, name))
        return {"user_source": user.source, "user_name": user.name} | self._told(issued)

    async def sign_in(self, name: str, proof: signin.Proof, address: str) -> JSON:
        """A token for the code that this provider has sent the browser back with.

        Raises as `exchange` does, and `NotFound`.
        """
        provider = self.provider_for_page(name)

        async def vouched_for() -> tuple[Provider, providers.Identity]:
            identity = await self._providers.redeem(provider, proof)
            self._users.matchers.check(provider, identity.user_name)
            return provider, identity

        _, issued = await self._let_in(address, provider.name, vouched_for)
        return self._told(issued)

    def provider_for_page(self, name: str) -> Provider:
        """The provider of this name, at which people can sign in on the page. Raises `NotFound`."""
        provider = self._users.matchers.named(name)
        if provider is None or not provider.offers_sign_in:
            raise NotFound("There is no such way to sign in.")
        return provider

    async def _let_in(
        self, address: str, claimed: str, vouch: Callable[[], Awaitable[tuple[Provider, providers.Identity]]]
    ) -> tuple[User, Issued]:
        """A token for whom a provider vouches for; tried no more often than an address may."""
        caller = Caller.anonymous(address)
        with _audited(caller, "token_rate"):
            self._rates.take(f"exchanges from {network_of(address)}", self._config.auth.token_rate)
        try:
            provider, identity = await vouch()
            await jose.load()
            async with self._rotating:
                user, issued = self._admit(provider, identity)
        except DrmaaticdError as error:
            reason = error.detail or error.title
            audit.record("token.refused", address=address, claimed=claimed[: users.MAX_NAME], reason=reason)
            raise
        await self._store.durable()
        audit.record("token.issued", user=user.key, address=address, jti=issued.claims.jti)
        return user, issued

    async def _vouched_for(self, authorization: str | None, name: str) -> tuple[Provider, providers.Identity]:
        """The provider, and whom it says the token to belong to: the one of this name."""
        token = providers.bearer(authorization)
        provider = self._users.matchers.first(name)
        self._users.matchers.check(provider, name)
        identity = await self._providers.identify(provider, token)
        if not hmac.compare_digest(
            identity.user_name.encode("utf-8", "surrogatepass"), name.encode("utf-8", "surrogatepass")
        ):
            raise Forbidden("The token belongs to somebody else.")
        return provider, identity

    def _admit(self, provider: Provider, identity: providers.Identity) -> tuple[User, Issued]:
        """The user, who has just arrived, with a token; as an administrator has set it meanwhile."""
        user = self._users.arrived(provider, identity.user_name, identity.sub, identity.name)
        if user.disabled:
            raise Forbidden("This account is disabled.")
        self._users.put(user)
        return user, self._tokens.issue(user.key, self._lifetime(user))

    def _lifetime(self, user: User) -> float:
        _, group = self._users.group(user.group)
        return group.token_lifetime or self._config.auth.token_lifetime

    def _told(self, issued: Issued) -> JSON:
        claims = issued.claims
        return {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": claims.expires - claims.issued,
        }

    async def sign_out(self, caller: Caller) -> None:
        """Revoke the token that the request came with. Raises `NotAuthenticated` without one."""
        if caller.token is None:
            raise NotAuthenticated("There is no token to revoke.", headers={"WWW-Authenticate": "Bearer"})
        self._tokens.revoke(caller.token)
        await self._store.durable()
        audit.record(
            "token.revoked", user=caller.user, address=caller.address, jti=caller.token, by="its owner"
        )

    # -- CPU credit and other bounds -------------------------------------------------------------

    def payer(self, caller: Caller) -> str:
        """Whose credit a task of this caller costs."""
        return caller.user if caller.user is not None else f"address:{network_of(caller.address)}"

    def cpu_credit(self, caller: Caller, required: int | None) -> JSON:
        """What the caller may spend, and how long until `required` may be (API.md, CPU credit)."""
        group, key = self.group_of(caller), self.payer(caller)
        shown: JSON = {"available_cpu_credit": math.floor(self._credit.available(key, group) + 1e-6)}
        if required is not None:
            wait = self._credit.wait_time(key, group, required)
            shown["wait_time"] = "infinite" if wait is None else wait
        return shown

    def check_credit(self, caller: Caller, cost: int) -> None:
        """Raise `TooManyRequests` if the caller cannot spend so much now."""
        with _audited(caller, "cpu_credit"):
            self._credit.check(self.payer(caller), self.group_of(caller), cost)

    def charge(self, caller: Caller, cost: int) -> None:
        """Have the caller pay for a task. Revocable, with the task. Raises `TooManyRequests`."""
        with _audited(caller, "cpu_credit"):
            self._credit.charge(self.payer(caller), self.group_of(caller), cost)

    def settled(self, task: Task) -> None:
        """A task has ended: what it has cost is given back, once, if the DRM refused it. Stands."""
        if task.state is not State.REJECTED or not task.cost or not task.payer:
            return
        self._store.update(task.uuid, lambda known: replace(known, cost=0))
        self._credit.give_back(task.payer, self._group_of_payer(task.payer), task.cost)

    def recover(self) -> None:
        """Give back what the daemon before this one did not come to give back."""
        _, rejected = self._store.page(states=[State.REJECTED], include_deleted=True, size=len(self._store))
        for task in rejected:
            self.settled(task)

    def _is_disabled(self, key: str) -> bool:
        user = self._users.get(key)
        return user is not None and user.disabled

    def _group_of_payer(self, key: str) -> Group:
        user = self._users.get(key)
        return self._config.groups[ANONYMOUS_GROUP] if user is None else self._users.group(user.group)[1]

    async def prune(self) -> None:
        """Forget expired tokens and full accounts of credit."""
        await self._tokens.prune()
        await self._credit.prune(self._group_of_payer)

    # -- for administrators ----------------------------------------------------------------------

    def list_users(self) -> list[JSON]:
        """All users, by key."""
        return [users.as_json(user, rfc3339) for user in self._users.all()]

    def show_user(self, name: str) -> JSON:
        """One user, their tokens and credit. Raises `NotFound`, `InvalidInput` (two have the name)."""
        user = self._users.find(name)
        _, group = self._users.group(user.group)
        return users.as_json(user, rfc3339) | {
            "tokens": self.list_tokens(user.key),
            "available_cpu_credit": math.floor(self._credit.available(user.key, group) + 1e-6),
        }

    async def set_user(
        self, name: str, *, group: str | None = None, disabled: bool | None = None, by: str
    ) -> JSON:
        """Put a user into a group, or disable or enable the account; also before the first exchange.

        Raises `NotFound`, `InvalidInput`.
        """
        user = self._users.find_or_foresee(name)
        if group is not None:
            self._users.check_group(group)
            user = replace(user, group=group)
        if disabled is not None:
            user = replace(user, disabled=disabled)
        self._users.put(user)
        await self._store.durable()
        audit.record("user.set", user=user.key, group=user.group, disabled=user.disabled, by=by)
        return users.as_json(user, rfc3339)

    async def issue_token(
        self, name: str, *, group: str | None = None, lifetime: float | None = None, by: str
    ) -> JSON:
        """A token for an internal service account, such as a front-end's; it is told only here.

        The account is made if it is new, for which it needs a group. `lifetime` is in seconds.
        Raises `InvalidInput`, `Forbidden` for a disabled account.
        """
        await jose.load()
        async with self._rotating:
            user = self._service_account(name.removeprefix(f"{INTERNAL}:"), group)
            lifetime = self._lifetime(user) if lifetime is None else lifetime
            least, most = LIFETIMES
            if not least <= lifetime <= most:
                raise InvalidInput(
                    f"The lifetime must be from {format_duration(least)} to {format_duration(most)}."
                )
            self._users.put(user)
            issued = self._tokens.issue(user.key, lifetime)
        await self._store.durable()
        claims = issued.claims
        audit.record("token.issued", user=user.key, jti=claims.jti, group=user.group, by=by)
        known = {"user": user.key, "jti": claims.jti, "expires": rfc3339(claims.expires * 1000)}
        return known | self._told(issued)

    def _service_account(self, name: str, group: str | None) -> User:
        if not users.is_name(name) or ":" in name:
            raise InvalidInput("A service account's name is printable text without colons.")
        user = self._users.get(f"{INTERNAL}:{name}")
        if user is not None and user.disabled:
            raise Forbidden("This account is disabled.")
        if group is not None:
            self._users.check_group(group)
        elif user is None:
            raise InvalidInput("A new service account needs a group.")
        if user is None:
            user = User(source=INTERNAL, name=name, created=now_ms())
        return user if group is None else replace(user, group=group)

    async def revoke_token(self, *, jti: str | None = None, user: str | None = None, by: str) -> int:
        """Revoke one token by its id, or all of a user; how many. Raises `NotFound`, `InvalidInput`."""
        if (jti is None) == (user is None):
            raise InvalidInput("Say which token, or whose tokens.")
        if user is not None:
            key = self._users.find(user).key
            wanted = [known for known, record in self._tokens.on_record() if record["user"] == key]
        else:
            wanted = [jti or ""]
        revoked = [one for one in wanted if self._tokens.revoke(one)]
        if jti is not None and not revoked:
            raise NotFound("There is no such token, or it counts no more.")
        await self._store.durable()
        for one in revoked:
            audit.record("token.revoked", jti=one, by=by)
        return len(revoked)

    def list_tokens(self, user: str | None = None) -> list[JSON]:
        """The tokens that have not expired, newest first. Raises `NotFound`, `InvalidInput`."""
        key = None if user is None else self._users.find(user).key
        found = [(jti, known) for jti, known in self._tokens.on_record() if key in (None, known["user"])]
        found.sort(key=lambda one: (-one[1]["issued"], one[0]))
        return [
            {"jti": jti, "user": known["user"]}
            | {
                name: rfc3339(known[name] * 1000)
                for name in ("issued", "expires", "revoked")
                if name in known
            }
            for jti, known in found
        ]

    async def rotate_key(self, *, overlap: float | None = None, by: str) -> JSON:
        """Sign with a new key; tokens of the old ones count for `overlap` seconds more.

        None lets each live its time; 0 ends all of them now. Raises `InvalidInput`, OSError.
        """
        if overlap is not None and not 0 <= overlap <= LIFETIMES[1]:
            raise InvalidInput("The overlap must be a time from 0 s on.")
        async with self._rotating:
            now = self._now()
            until = self._tokens.last_expiry() if overlap is None else now + overlap
            await self._files.run(self._keys.rotate, until, now)
        audit.record("key.rotated", kid=self._keys.current.kid, by=by)
        shown: JSON = {"kid": self._keys.current.kid, "keys": len(self._keys)}
        if len(self._keys) > 1:
            shown["overlap_until"] = rfc3339(int(until * 1000))
        return shown


@contextmanager
def _audited(caller: Caller, limit: str) -> Iterator[None]:
    """Note whom a limit has stopped."""
    try:
        yield
    except TooManyRequests:
        _stopped(caller, limit)
        raise


def _stopped(caller: Caller, limit: str) -> None:
    audit.record("limit.hit", user=caller.user, address=caller.address, limit=limit)
