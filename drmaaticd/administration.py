"""What administrators see and do on the page: health, scripts with what is wrong in them, users, groups.

Every method refuses others. Without HTTP, as `service`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from drmaaticd import __version__
from drmaaticd.auth.accounts import Accounts
from drmaaticd.callers import Caller
from drmaaticd.config import Config
from drmaaticd.drm.base import Engine
from drmaaticd.errors import Conflict, Finding, Forbidden, NotAuthenticated, NotFound
from drmaaticd.gate import FileGate
from drmaaticd.scripts import Catalogue
from drmaaticd.settings import Group
from drmaaticd.states import LIVE, State
from drmaaticd.store import Query, Store
from drmaaticd.units import format_duration, format_rate, format_size

JSON = dict[str, Any]

#: States in which a task has not been given to the DRM yet, or is held back by the daemon.
_NOT_SUBMITTED = (State.RECEIVED, State.SYSTEM_ON_HOLD)


class Administration:
    """One instance; all methods run on the loop."""

    def __init__(
        self,
        *,
        config: Config,
        accounts: Accounts,
        store: Store,
        catalogue: Catalogue,
        engine: Engine,
        files: FileGate,
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        """`reload` reads the scripts anew."""
        self._config = config
        self._accounts = accounts
        self._store = store
        self._catalogue = catalogue
        self._engine = engine
        self._files = files
        self._reload = reload

    def check(self, caller: Caller) -> None:
        """Raise `NotAuthenticated` for who is not signed in, `Forbidden` for who is no administrator."""
        if caller.user is None:
            raise NotAuthenticated("Only administrators may see this.")
        if not caller.is_admin:
            raise Forbidden("Only administrators may see this.")

    async def health(self, caller: Caller) -> JSON:
        """How the engine does, and how many tasks are where."""
        self.check(caller)
        states = self._store.tally(Query())
        drm = self._config.drm
        return {
            "version": __version__,
            "backend": drm.backend,
            "slots": drm.slots if drm.backend == "local" else None,
            "fault": self._engine.fault(),
            "states": {state.value: count for state, count in states.items()},
            "live": sum(states.get(state, 0) for state in LIVE),
            "waiting": sum(states.get(state, 0) for state in _NOT_SUBMITTED),
            "max_live": drm.max_live,
            "warnings": [_as_json(finding) for finding in await self._files.run(self._config.warnings)],
        }

    def scripts(self, caller: Caller) -> list[JSON]:
        """All definitions, by name: whether each is in service, and what is wrong with it."""
        self.check(caller)
        found: dict[str, JSON] = {
            script.name: {
                "name": script.name,
                "description": script.description,
                "groups": list(script.groups),
                "in_service": True,
                "findings": [],
            }
            for script in self._catalogue.all()
        }
        for finding in self._catalogue.findings:
            unknown = {"name": finding.file.stem, "in_service": False, "findings": []}
            found.setdefault(finding.file.stem, unknown)["findings"].append(_as_json(finding))
        return [found[name] for name in sorted(found)]

    async def reload_scripts(self, caller: Caller) -> None:
        """Read all definitions anew."""
        self.check(caller)
        await self._reload()

    def groups(self, caller: Caller) -> list[JSON]:
        """The configuration's groups, with how many users are in each."""
        self.check(caller)
        members: dict[str, int] = {}
        for user in self._accounts.list_users():
            members[user["group"]] = members.get(user["group"], 0) + 1
        return [
            _group(name, group) | {"members": members.get(name, 0)}
            for name, group in self._config.groups.items()
        ]

    def users(self, caller: Caller, search: str, page: int, size: int) -> tuple[int, list[JSON]]:
        """A page of the users whose name or key holds this text, by key: (how many in all, the page's)."""
        self.check(caller)
        sought = search.casefold()
        found = [
            user
            for user in self._accounts.list_users()
            if sought in user["user"].casefold() or sought in user.get("name", "").casefold()
        ]
        return len(found), found[(page - 1) * size : page * size]

    def user(self, caller: Caller, key: str) -> JSON | None:
        """The user of this key."""
        self.check(caller)
        try:
            return self._accounts.show_user(key)
        except NotFound:
            return None

    async def set_user(
        self, caller: Caller, name: str, *, group: str | None = None, disabled: bool | None = None
    ) -> JSON:
        """See `Accounts.set_user`. Raises `Conflict` where administrators would shut themselves out."""
        self.check(caller)
        if name in (caller.user, caller.name):
            raise Conflict("This is your own account: have another administrator change it.")
        return await self._accounts.set_user(name, group=group, disabled=disabled, by=caller.user or "")


def _as_json(finding: Finding) -> JSON:
    return {
        "file": str(finding.file),
        "line": finding.line,
        "key": finding.key,
        "message": finding.message,
        "warning": finding.warning,
    }


def _group(name: str, group: Group) -> JSON:
    return {
        "name": name,
        "admin": group.admin,
        "rate": format_rate(group.rate),
        "cpu_credit_max": group.cpu_credit_max,
        "cpu_credit_regen": format_rate(group.cpu_credit_regen),
        "token_lifetime": None if group.token_lifetime is None else format_duration(group.token_lifetime),
        "queue": group.queue,
        "account": group.account,
        "max_live": group.max_live,
        "max_disk": None if group.max_disk is None else format_size(group.max_disk),
    }
