"""Which path below ``/ui/`` goes to which handler.

The page's data come from ``/ui/api/…``: the API's own handlers, with the session's caller.
"""

from __future__ import annotations

from collections.abc import Iterable

from drmaaticd.web.base import Handler
from drmaaticd.web.ui import admin, signin, tasks
from drmaaticd.web.ui.assets import AssetHandler
from drmaaticd.web.ui.compare import ComparePage
from drmaaticd.web.ui.page import NoPageHandler
from drmaaticd.web.ui.script import RerunPage, ScriptPage
from drmaaticd.web.ui.scripts import HomePage
from drmaaticd.web.ui.session import with_session
from drmaaticd.web.ui.task import MembersHandler, TaskActionPage, TaskPage

Route = tuple[str, type[Handler]]

PAGES: tuple[Route, ...] = (
    (r"/ui/?", HomePage),
    (r"/ui/script/([^/]+)/?", ScriptPage),
    (r"/ui/task/([^/]+)/rerun/?", RerunPage),
    (r"/ui/compare/?", ComparePage),
    (r"/ui/task/([^/]+)/?", TaskPage),
    (r"/ui/task/([^/]+)/members", MembersHandler),
    (r"/ui/task/([^/]+)/(stop|hold|release|suspend|resume|delete|own)", TaskActionPage),
    *signin.ROUTES,
    *tasks.ROUTES,
    *admin.ROUTES,
    (r"/ui/static/([^/]+)/([^/]+)", AssetHandler),
)

#: What of the API the page has no use for.
_NOT_FOR_PAGES = ("/token", "/health", "/ready", "/metrics", "/openapi", "/docs")


def page_routes(api: Iterable[Route]) -> tuple[Route, ...]:
    """All routes below ``/ui/``; `api` are the API's."""
    data = tuple(
        (f"/ui/api{pattern}", with_session(handler))
        for pattern, handler in api
        if pattern != "/" and not pattern.startswith(_NOT_FOR_PAGES)
    )
    return (*PAGES, *data, (r"/ui/.*", NoPageHandler))
