"""The users: who has come from which provider, in which group, and whether they may still."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drmaaticd.auth.orcid import is_orcid
from drmaaticd.errors import InvalidInput, NotFound
from drmaaticd.settings import ORCID_PATTERN, Group, Provider
from drmaaticd.store import Store
from drmaaticd.tasks import now_ms
from drmaaticd.validation import compile_pattern

log = logging.getLogger(__name__)

#: The group of users who have come by themselves.
REGISTERED = "registered"

#: The source of service accounts, which no provider vouches for.
INTERNAL = "internal"

#: Characters of a user's name at most.
MAX_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user. Identity is the provider's name and its `sub`; times are milliseconds since 1970."""

    source: str
    name: str
    sub: str | None = None
    """The provider's subject, once it has vouched for the user: then the name is theirs alone."""
    display: str = ""
    """What the provider calls the person; for display alone."""
    group: str = REGISTERED
    disabled: bool = False
    created: int
    last_exchange: int | None = None

    @property
    def key(self) -> str:
        """What tasks and tokens know the user by."""
        return f"{self.source}:{self.name}"


class Users:
    """Users by key. Changes are revocable (see `Store`), but for one that shuts a user out."""

    def __init__(self, store: Store, groups: Mapping[str, Group], providers: tuple[Provider, ...]) -> None:
        self._table = store.side("users")
        self._groups = groups
        self.matchers = Matchers(providers)
        strays = Counter(user.group for user in self.all() if user.group not in groups)
        for group, count in sorted(strays.items()):
            users = "user is" if count == 1 else "users are"
            log.warning(
                "%d %s in the group %r, which the configuration does not have: they count as %s",
                count,
                users,
                group,
                REGISTERED,
            )

    def get(self, key: str) -> User | None:
        """The user of this key."""
        document = self._table.get(key)
        return None if document is None else User(**document)

    def all(self) -> Iterator[User]:
        """All users, by key."""
        for _, document in sorted(self._table.items()):
            yield User(**document)

    def put(self, user: User) -> None:
        """Keep a user's record."""
        document = {
            name: value
            for name in User.__dataclass_fields__
            if (value := getattr(user, name)) is not None and value is not False and value != ""
        }
        self._table.put(user.key, document, revocable=not user.disabled)

    def find(self, name: str) -> User:
        """The user of this key, or of this bare name if only one has it.

        Raises `NotFound`, `InvalidInput`.
        """
        user = self.get(name)
        if user is not None:
            return user
        found = [user for user in self.all() if user.name == name]
        if not found:
            raise NotFound(f"There is no user {name!r}.")
        if len(found) > 1:
            keys = ", ".join(user.key for user in found)
            raise InvalidInput(f"{name!r} is not one user alone: say which of {keys}.")
        return found[0]

    def find_or_foresee(self, name: str) -> User:
        """The user, or one who has not come yet but could. Raises `NotFound`, `InvalidInput`."""
        try:
            return self.find(name)
        except NotFound:
            source, _, rest = name.partition(":")
            provider = self.matchers.named(source) if rest else None
            bare = rest if provider is not None else name
            provider = provider or self.matchers.first(bare)
            self.matchers.check(provider, bare)
            return User(source=provider.name, name=bare, created=now_ms())

    def arrived(self, provider: Provider, name: str, sub: str, display: str) -> User:
        """The record of a user whom the provider has just vouched for; not kept yet.

        Raises `NameTaken` if the name is another subject's: names may change hands, subjects never
        (OpenID Connect Core, section 5.7).
        """
        known = self.get(f"{provider.name}:{name}")
        if known is None:
            known = User(source=provider.name, name=name, created=now_ms())
        if known.sub is not None and known.sub != sub:
            raise NameTaken(f"The name {name} belongs to another account of {provider.name}.")
        return replace(known, sub=sub, display=display, last_exchange=now_ms())

    def check_group(self, group: str) -> None:
        """Raise `InvalidInput` unless users may be put into this group."""
        if group not in self._groups or group == "anonymous":
            allowed = ", ".join(sorted(set(self._groups) - {"anonymous"}))
            raise InvalidInput(f"There is no group {group!r} for users; there are: {allowed}.")

    def group(self, name: str) -> tuple[str, Group]:
        """The group of this name; where the configuration has it no more, that of newcomers."""
        group = self._groups.get(name)
        return (name, group) if group is not None else (REGISTERED, self._groups[REGISTERED])


class NameTaken(InvalidInput):
    """Another account of the same provider has had this name before."""

    status = 403
    title = "Forbidden"


class Matchers:
    """Which provider a name is for."""

    def __init__(self, providers: tuple[Provider, ...]) -> None:
        self._providers = [
            (provider, compile_pattern(provider.pattern) if provider.pattern else None)
            for provider in providers
        ]

    def named(self, name: str) -> Provider | None:
        """The provider of this name."""
        return next((provider for provider, _ in self._providers if provider.name == name), None)

    def first(self, name: str) -> Provider:
        """The first provider whose pattern fits the name. Raises `InvalidInput`."""
        if is_name(name):
            for provider, matches in self._providers:
                if matches is None or matches(name):
                    return provider
        raise InvalidInput("This is no user name of any provider here.")

    def check(self, provider: Provider, name: str) -> None:
        """Raise `InvalidInput` unless the name can be one of this provider's."""
        matches = next(matches for known, matches in self._providers if known is provider)
        if not is_name(name) or (matches is not None and not matches(name)):
            raise InvalidInput(f"This is no user name of {provider.name}.")
        if _is_for_orcid(provider) and not is_orcid(name):
            raise InvalidInput("This is no ORCID iD: its form or its last character, the checksum, is wrong.")


def _is_for_orcid(provider: Provider) -> bool:
    return provider.pattern == ORCID_PATTERN or (provider.pattern is None and provider.name == "ORCID")


def is_name(name: str) -> bool:
    """Whether this can be a user's name at all: printable text without blanks at its ends."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()


def as_json(user: User, when: Any) -> dict[str, Any]:
    """The user as administrators see one; `when` words a time."""
    shown = {
        "user": user.key,
        "user_source": user.source,
        "user_name": user.name,
        "name": user.display or None,
        "group": user.group,
        "disabled": user.disabled,
        "created": when(user.created),
        "last_exchange": None if user.last_exchange is None else when(user.last_exchange),
    }
    return {name: value for name, value in shown.items() if value is not None}
