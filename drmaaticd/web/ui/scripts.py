"""The page's start: what can be run."""

from __future__ import annotations

from drmaaticd.web.ui.page import PageHandler

#: Scripts on one page of cards: all of them, for the search in the browser.
MOST_CARDS = 500


class HomePage(PageHandler):
    """``/ui/``."""

    section = "scripts"

    async def get(self) -> None:
        """Write the scripts as cards; ``?search=`` works without JavaScript too."""
        caller = await self.caller()
        search = self.query.text("search") or ""
        count, scripts = self.service.scripts(
            caller, name=None, names=None, search=search, page=1, size=MOST_CARDS
        )
        self.write_page("home.html", title="Scripts", scripts=scripts, count=count, search=search)
