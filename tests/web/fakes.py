"""A small real implementation of what the handlers ask of the service, in memory."""

from __future__ import annotations

import asyncio
import io
import uuid as uuids
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drmaaticd.about import Figures
from drmaaticd.errors import (
    Conflict,
    DrmaaticdError,
    FieldError,
    InvalidInput,
    KeyReused,
    NotAuthenticated,
    NotFound,
    StorageFull,
)
from drmaaticd.openapi.document import Site

TOKEN = "Bearer good"
ADMIN = "Bearer admin"
TASK = "00000000-0000-4000-8000-000000000001"


@dataclass
class FakeServerSettings:
    max_upload: int = 64 * 1024 * 1024
    trusted_proxies: Sequence[str] = ("127.0.0.0/8",)
    cors_origins: Sequence[str] = ("https://portal.example.org",)
    metrics_allow: Sequence[str] = ()
    page_size: int = 10
    max_page_size: int = 100


@dataclass
class FakeConfig:
    server: FakeServerSettings = field(default_factory=FakeServerSettings)
    public_url: str = "https://api.example.org/base"


@dataclass(frozen=True)
class FakeCaller:
    user: str | None
    is_admin: bool
    address: str
    link: str | None = None


@dataclass(frozen=True)
class FakeEvent:
    name: str
    id: str
    data: dict[str, Any]


class FakeWatch:
    """Tells what a test puts in, and after the last event the end."""

    def __init__(self, events: list[list[FakeEvent]], endless: bool) -> None:
        self.events = events
        self.endless = endless
        self.told = 0
        self.closed = False
        self._over = asyncio.Event()

    async def next(self) -> list[FakeEvent] | None:
        if self.closed:
            return None
        if self.told < len(self.events):
            self.told += 1
            return self.events[self.told - 1]
        if self.endless:
            await self._over.wait()
        return None

    def close(self) -> None:
        self.closed = True
        self._over.set()


class FakeOpened:
    """A file in memory; reads may be made to fail or to end early."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content = content
        self.size = len(content) if size is None else size
        self.etag = f'"{len(content):x}-1"'
        self.closed = False

    def pread(self, offset: int, length: int) -> bytes:
        assert not self.closed
        return self.content[offset : offset + length]

    def close(self) -> None:
        self.closed = True


class FakeArchive:
    """The pieces of an archive; `error` is raised after the last of them."""

    def __init__(self, pieces: list[bytes], length: int | None, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.length = length
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


@dataclass
class FileAnswer:
    opened: FakeOpened
    name: str
    html_scripts: bool


@dataclass
class ArchiveAnswer:
    archive: FakeArchive
    filename: str


class FakeDraft:
    """Keeps what comes, and whether it ended as it should."""

    def __init__(self, service: FakeService, caller: FakeCaller, key: str | None) -> None:
        self.service = service
        self.caller = caller
        self.key = key
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, str, bytearray]] = []
        self.events: list[str] = []
        self.open = False
        self.aborted = False
        self.finished = False

    def field(self, name: str, value: str) -> None:
        self.fields.append((name, value))

    async def open_file(self, name: str, client_name: str) -> None:
        assert not self.open
        self.open = True
        self.files.append((name, client_name, bytearray()))

    async def write(self, data: bytes) -> None:
        assert self.open
        assert not self.aborted
        self.files[-1][2].extend(data)
        if self.service.disk is not None and len(self.files[-1][2]) > self.service.disk:
            raise StorageFull("The disk is full.")

    async def close_file(self) -> None:
        assert self.open
        self.open = False

    async def keep_file(self, name: str, uuid: str, stored_name: str) -> None:
        assert not self.open
        self.files.append((name, stored_name, bytearray(uuid.encode())))

    async def finish(self) -> tuple[dict[str, Any], bool]:
        assert not self.open
        assert not self.aborted
        if self.service.finish_error is not None:
            raise self.service.finish_error
        if not any(name == "task_name" for name, _ in self.fields):
            raise InvalidInput("The task is not valid.", errors=[FieldError("task_name", "is required")])
        content = (self.fields, [(name, client, bytes(data)) for name, client, data in self.files])
        if self.key in self.service.keys:
            document, known = self.service.keys[self.key]
            if known != content:
                raise KeyReused("It came with other fields.")
            return document, False
        document = {"uuid": str(uuids.uuid4()), "task_name": dict(self.fields)["task_name"]}
        self.service.all_tasks.insert(0, document)
        if self.key is not None:
            self.service.keys[self.key] = (document, content)
        self.finished = True
        return document, True

    async def abort(self) -> None:
        self.aborted = True


class FakeService:
    """One instance; the attributes are there for tests to look at and to set."""

    def __init__(self) -> None:
        self.config = FakeConfig()
        self.all_scripts = [{"name": f"script-{number}"} for number in range(25)]
        self.version = 1
        self.all_tasks: list[dict[str, Any]] = [{"uuid": TASK, "task_name": "fasta-stats"}]
        self.contents: dict[bytes, bytes] = {b"log.txt": b"0123456789", b"empty": b""}
        self.opened: list[FakeOpened] = []
        self.archives: list[FakeArchive] = []
        self.archive_error: Exception | None = None
        self.html_scripts = False
        self.drafts: list[FakeDraft] = []
        self.draft_arguments: list[dict[str, Any]] = []
        self.draft_error: DrmaaticdError | None = None
        self.finish_error: Exception | None = None
        self.keys: dict[str | None, Any] = {}
        self.disk: int | None = None
        self.fault = ""
        self.anonymous = True
        self.callers: list[FakeCaller] = []
        self.filters: list[dict[str, str]] = []
        self.bug: Exception | None = None
        self.throttled: DrmaaticdError | None = None
        self.exchanged: list[tuple[str, str]] = []
        self.watches: list[FakeWatch] = []
        self.events: list[list[FakeEvent]] | None = [[FakeEvent("", "e1", {"uuid": TASK, "state": "done"})]]
        self.endless = False
        self.watched: list[tuple[Any, str | None]] = []

    async def authenticate(self, authorization: str | None, address: str) -> FakeCaller:
        if self.throttled is not None:
            raise self.throttled
        if authorization not in (None, TOKEN, ADMIN):
            raise NotAuthenticated("The token is not valid.")
        caller = FakeCaller(None if authorization is None else "ORCID:x", authorization == ADMIN, address)
        self.callers.append(caller)
        return caller

    async def exchange(self, authorization: str | None, name: str, address: str) -> dict[str, Any]:
        if authorization != "Bearer theirs":
            raise NotAuthenticated("The provider refuses the token.")
        self.exchanged.append((authorization, name))
        return {"user_name": name, "access_token": "good"}

    async def sign_out(self, caller: FakeCaller) -> None:
        if caller.user is None:
            raise NotAuthenticated("There is no token to revoke.")

    def me(self, caller: FakeCaller) -> dict[str, Any]:
        return {"group": "anonymous" if caller.user is None else "registered"}

    def cpu_credit(self, caller: FakeCaller, required: int | None) -> dict[str, Any]:
        shown: dict[str, Any] = {"available_cpu_credit": 97}
        return shown if required is None else shown | {"wait_time": max(0, required - 97)}

    def check_open(self, caller: FakeCaller) -> None:
        if caller.user is None and caller.link is None and not self.anonymous:
            raise NotAuthenticated("A token is needed here.")

    def index(self, caller: FakeCaller) -> dict[str, Any]:
        if self.bug is not None:
            raise self.bug
        return {"name": "drmaaticd"}

    @property
    def site(self) -> Site:
        return Site(url=self.config.public_url, anonymous=self.anonymous)

    def offer(self, caller: FakeCaller) -> tuple[int, list[dict[str, Any]]]:
        whole: dict[str, Any] = {"description": "", "required_tokens": 1, "param": []}
        return self.version, [whole | script for script in self.all_scripts]

    def figures(self) -> Figures:
        return Figures({"running": 2}, len(self.all_scripts), 1, 3, 4, not self.fault, True)

    def health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def ready(self) -> tuple[bool, str]:
        return not self.fault, self.fault

    def scripts(
        self,
        caller: FakeCaller,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        search: str | None = None,
        page: int,
        size: int,
    ) -> tuple[int, list[dict[str, Any]]]:
        found = [
            script
            for script in self.all_scripts
            if (name is None or script["name"] == name)
            and (names is None or script["name"] in names)
            and (search or "") in script["name"]
        ]
        return len(found), found[(page - 1) * size : page * size]

    def script(self, caller: FakeCaller, name: str) -> dict[str, Any]:
        for script in self.all_scripts:
            if script["name"] == name:
                return script
        raise NotFound("There is no such script.")

    async def draft(
        self, caller: FakeCaller, *, length: int | None, key: str | None, chunked: bool
    ) -> FakeDraft:
        self.draft_arguments.append({"length": length, "key": key, "chunked": chunked})
        if self.draft_error is not None:
            raise self.draft_error
        draft = FakeDraft(self, caller, key)
        self.drafts.append(draft)
        return draft

    def task(self, caller: FakeCaller, uuid: str) -> dict[str, Any]:
        for task in self.all_tasks:
            if task["uuid"] == uuid:
                return task
        raise NotFound("There is no such task.")

    def status(self, caller: FakeCaller, uuid: str) -> str:
        self.task(caller, uuid)
        return "job finished normally"

    def follow(self, caller: FakeCaller, uuid: str, text: str) -> FakeCaller:
        if text != "good":
            raise NotAuthenticated("The link is not valid, or not any more.")
        return replace(caller, link=uuid)

    def watch(self, caller: FakeCaller, uuid: str, last: str | None) -> FakeWatch | None:
        self.task(caller, uuid)
        return self._watch(uuid, last)

    def watch_many(self, caller: FakeCaller, query: dict[str, str], last: str | None) -> FakeWatch | None:
        return self._watch(query, last)

    def _watch(self, what: Any, last: str | None) -> FakeWatch | None:
        self.watched.append((what, last))
        if self.events is None:
            return None
        watch = FakeWatch(self.events, self.endless)
        self.watches.append(watch)
        return watch

    def link(self, caller: FakeCaller, uuid: str, lifetime: int | None) -> dict[str, Any]:
        self.task(caller, uuid)
        return {"url": f"https://api.example.org/base/task/{uuid}?link=good", "expires_in": lifetime or 300}

    def tasks(
        self, caller: FakeCaller, filters: dict[str, str], page: int, size: int
    ) -> tuple[int, list[dict[str, Any]]]:
        self.filters.append(filters)
        return len(self.all_tasks), self.all_tasks[(page - 1) * size : page * size]

    async def delete(self, caller: FakeCaller, uuid: str) -> None:
        self.all_tasks.remove(self.task(caller, uuid))

    async def control(self, caller: FakeCaller, uuid: str, action: str) -> dict[str, Any]:
        self.task(caller, uuid)
        if action == "resume":
            raise Conflict("The task is not suspended.")
        return {"detail": f"{action} done"}

    async def take_ownership(self, caller: FakeCaller, uuid: str) -> dict[str, Any]:
        self.task(caller, uuid)
        if caller.user is None:
            raise NotAuthenticated("Only somebody with a token can own a task.")
        return {"detail": "The task is yours."}

    async def files(self, caller: FakeCaller, uuid: str, details: bool) -> list[Any]:
        self.task(caller, uuid)
        names = [name.decode("utf-8", "surrogateescape") for name in sorted(self.contents)]
        return [{"path": name} for name in names] if details else names

    async def open_file(self, caller: FakeCaller, uuid: str, path: bytes) -> FileAnswer:
        self.task(caller, uuid)
        if path not in self.contents:
            raise NotFound("There is no such file.")
        opened = FakeOpened(self.contents[path])
        self.opened.append(opened)
        name = path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
        return FileAnswer(opened, name, self.html_scripts)

    async def archive(self, caller: FakeCaller, uuid: str, format: str) -> ArchiveAnswer:
        self.task(caller, uuid)
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as packed:
            for name, content in self.contents.items():
                packed.writestr(f"{uuid}/{name.decode('utf-8', 'replace')}", content)
        whole = memory.getvalue()
        pieces = [whole[at : at + 10] for at in range(0, len(whole), 10)]
        length = len(whole) if format == "zip" else None
        archive = FakeArchive(pieces, length, self.archive_error)
        self.archives.append(archive)
        return ArchiveAnswer(archive, f"{uuid}.{format}")
