"""For administrators: health, scripts and what is wrong with them, groups; users and what they may."""

from __future__ import annotations

from typing import Any, ClassVar

from drmaaticd.errors import DrmaaticdError, InvalidInput, NotFound
from drmaaticd.web.interface import Administration, Caller
from drmaaticd.web.ui import tasks
from drmaaticd.web.ui.formpage import FormPage

#: Users on a page.
PAGE_SIZE = 50

#: What can be done to a user, and the fields that say so.
_CHANGES: dict[str, dict[str, Any]] = {"disable": {"disabled": True}, "enable": {"disabled": False}}


class _AdminPage(FormPage):
    section: ClassVar[str] = "admin"

    @property
    def administration(self) -> Administration:
        """What administrators may ask."""
        return self.service.desk.administration

    async def admin(self) -> Caller:
        """Who asks. Raises as `caller`, `NotAuthenticated` for nobody, `Forbidden` for others."""
        caller = await self.caller()
        self.administration.check(caller)
        return caller

    async def admit_form(self) -> None:
        """Nobody else's fields are read."""
        await self.admin()


class AdminPage(_AdminPage):
    """``/ui/admin``."""

    async def get(self) -> None:
        """Write what there is to know."""
        caller = await self.admin()
        ready, reason = self.service.ready()
        health = await self.administration.health(caller)
        self.write_page(
            "admin.html",
            title="Administration",
            ready=ready,
            reason=reason,
            health=health,
            chips=list(tasks.chips(health["states"], "")),
            scripts=self.administration.scripts(caller),
            groups=self.administration.groups(caller),
            reloaded=self.query.flag("reloaded"),
        )


class ReloadPage(_AdminPage):
    """``/ui/admin/reload``."""

    async def post(self) -> None:
        """Read the scripts anew."""
        await self.administration.reload_scripts(await self.admin())
        self.redirect_to(f"{self.link('admin', reloaded='1')}#scripts")


class UsersPage(_AdminPage):
    """``/ui/admin/users``."""

    async def get(self) -> None:
        """Write a page of the users."""
        caller = await self.admin()
        self._write(caller, changed=self.administration.user(caller, self.query.text("changed") or ""))

    async def post(self) -> None:
        """Change a user, and show the same page again."""
        caller = await self.admin()
        fields = self.fields
        name, what = fields.get("user", "").strip(), fields.get("do", "")
        try:
            if not name:
                raise InvalidInput("Whose account? A name is missing.")
            change = {"group": fields.get("group", "")} if what == "group" else _CHANGES.get(what)
            if change is None:
                raise InvalidInput("There is no such change.")
            user = await self.administration.set_user(caller, name, **change)
        except DrmaaticdError as error:
            if error.status >= 500:
                raise
            self.set_status(error.status)
            self._write(caller, problem=error.detail, name=name)
        else:
            self.redirect_to(self._to(self._number, changed=user["user"]))

    @property
    def _search(self) -> str:
        return (self.query.text("search") or "").strip()

    @property
    def _number(self) -> int:
        return self.query.number("page", 1)

    def _to(self, number: int, **more: str) -> str:
        kept = {"search": self._search, "page": str(number) if number > 1 else "", **more}
        return self.link("admin", "users", **{name: value for name, value in kept.items() if value})

    def _write(
        self, caller: Caller, *, changed: dict[str, Any] | None = None, problem: str = "", name: str = ""
    ) -> None:
        number = self._number
        count, users = self.administration.users(caller, self._search, number, PAGE_SIZE)
        if number > 1 and not users:
            raise NotFound("The list has no such page.")
        self.write_page(
            "users.html",
            title="Users",
            users=users,
            count=count,
            number=number,
            last=max(1, -(-count // PAGE_SIZE)),
            to=self._to,
            search=self._search,
            groups=[one["name"] for one in self.administration.groups(caller) if one["name"] != "anonymous"],
            me_key=caller.user,
            changed=changed,
            problem=problem,
            name=name,
        )


ROUTES = (
    (r"/ui/admin/?", AdminPage),
    (r"/ui/admin/reload/?", ReloadPage),
    (r"/ui/admin/users/?", UsersPage),
)
