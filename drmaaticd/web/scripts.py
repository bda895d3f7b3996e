"""Scripts: the list and one of them, as far as the caller may run them."""

from __future__ import annotations

from drmaaticd.web.base import Handler
from drmaaticd.web.pages import Page


class ScriptsHandler(Handler):
    """``/script``."""

    async def get(self) -> None:
        """Write a page of the scripts."""
        caller = await self.caller()
        query = self.query
        settings = self.service.config.server
        with query.together():
            page = Page.of(query, settings.page_size, settings.max_page_size)
            asked = {
                "name": query.text("name"),
                "name__in": query.joined("name__in"),
                "search": query.text("search"),
            }
        names = asked["name__in"]
        count, scripts = self.service.scripts(
            caller,
            name=asked["name"],
            names=None if names is None else [name for name in names.split(",") if name],
            search=asked["search"],
            page=page.number,
            size=page.size,
        )
        filters = {name: value for name, value in asked.items() if value is not None}
        self.write_json(page.document(count, scripts, f"{self.service.config.public_url}/script/", filters))


class ScriptHandler(Handler):
    """``/script/{name}``."""

    async def get(self, name: str) -> None:
        """Write the script."""
        self.write_json(self.service.script(await self.caller(), name))
