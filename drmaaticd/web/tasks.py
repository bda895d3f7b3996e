"""Tasks: the list (whose path also takes uploads), one task, its status, and what can be done to it."""

from __future__ import annotations

from drmaaticd.web.base import Handler
from drmaaticd.web.pages import Page
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.upload import UploadHandler

_LISTS = ("status", "state", "ids")
_TEXTS = ("task_name", "description", "search", "updated_since", "created_since", "created_before")


class TasksHandler(UploadHandler):
    """``/task/``."""

    async def get(self) -> None:
        """Write a page of the caller's tasks."""
        caller = await self.caller()
        query = self.query
        settings = self.service.config.server
        with query.together():
            page = Page.of(query, settings.page_size, settings.max_page_size)
            asked = {name: query.joined(name) for name in _LISTS}
            asked |= {name: query.text(name) for name in _TEXTS}
            filters = {name: value for name, value in asked.items() if value is not None}
            count, tasks = self.service.tasks(caller, filters, page.number, page.size)
        self.write_json(page.document(count, tasks, f"{self.service.config.public_url}/task/", filters))


class TaskHandler(Handler):
    """``/task/{uuid}``."""

    async def get(self, uuid: str) -> None:
        """Write the task."""
        self.write_json(self.service.task(await self.caller(uuid), task_uuid(uuid)))

    async def delete(self, uuid: str) -> None:
        """Stop the job, remove the files and forget the task."""
        await self.service.delete(await self.caller(), task_uuid(uuid))
        self.set_status(204)


class StatusHandler(Handler):
    """``/task/{uuid}/status``."""

    async def get(self, uuid: str) -> None:
        """Write the status text as a JSON string."""
        self.write_json(self.service.status(await self.caller(uuid), task_uuid(uuid)))


class ControlHandler(Handler):
    """``/task/{uuid}/stop`` and the other actions."""

    async def put(self, uuid: str, action: str) -> None:
        """Carry out the action, or promise it."""
        self.write_json(await self.service.control(await self.caller(), task_uuid(uuid), action))


class OwnershipHandler(Handler):
    """``/task/{uuid}/get_ownership``."""

    async def put(self, uuid: str) -> None:
        """Make the unowned task the caller's."""
        self.write_json(await self.service.take_ownership(await self.caller(), task_uuid(uuid)))


class LinkHandler(Handler):
    """``/task/{uuid}/link``."""

    def set_default_headers(self) -> None:
        """A link is a secret: it is kept by no cache."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    async def post(self, uuid: str) -> None:
        """Write a link by which anyone may read the task for a while."""
        caller = await self.caller()
        query = self.query
        lifetime = None if query.text("lifetime") is None else query.number("lifetime", 0)
        self.write_json(self.service.link(caller, task_uuid(uuid), lifetime))
        self.set_status(201)
