"""The use cases: what the API does, without HTTP. The only place that orchestrates the rooms.

Every method takes the caller first, checks what they may, and answers with JSON values or raises an
error of `errors`. Blocking file work goes through the file gate; the DRM is never asked from here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drmaaticd import __version__, about
from drmaaticd.about import Figures
from drmaaticd.auth import audit
from drmaaticd.auth.accounts import Accounts
from drmaaticd.callers import Caller
from drmaaticd.changes import Changes
from drmaaticd.config import Config
from drmaaticd.controls import ACTIONS, DONE_DETAILS, PAST, Controls
from drmaaticd.desk import Desk
from drmaaticd.drafts import Draft
from drmaaticd.drm.base import Action, Engine
from drmaaticd.errors import Conflict, Forbidden, InvalidInput, NotAuthenticated, NotFound, Rejected
from drmaaticd.filters import parse_filters
from drmaaticd.gate import FileGate
from drmaaticd.history import History
from drmaaticd.housekeeping import Housekeeping
from drmaaticd.intake import DRM_PATIENCE, Intake, may_run
from drmaaticd.openapi.document import Site
from drmaaticd.particulars import Particulars
from drmaaticd.scripts import Catalogue
from drmaaticd.states import State
from drmaaticd.store import ANY, Store
from drmaaticd.tasks import Task, now_ms
from drmaaticd.view import descendants, view, without_internals
from drmaaticd.watching import Watch, Watching
from drmaaticd.workspace import Archive, OpenedFile, Workspace

log = logging.getLogger(__name__)

ARCHIVE_FORMATS = ("zip", "tar.gz")


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """A file to be sent; the receiver closes `opened`."""

    opened: OpenedFile
    name: str
    html_scripts: bool


@dataclass(frozen=True, slots=True)
class ArchiveAnswer:
    """An archive to be sent; the receiver closes `archive`."""

    archive: Archive
    filename: str


class Service:
    """The use cases. One instance; all methods run on the loop."""

    def __init__(
        self,
        *,
        config: Config,
        catalogue: Catalogue,
        store: Store,
        workspace: Workspace,
        engine: Engine,
        files: FileGate,
        changes: Changes,
        intake: Intake,
        controls: Controls,
        housekeeping: Housekeeping,
        accounts: Accounts,
        watching: Watching,
        desk: Desk,
    ) -> None:
        self.config = config
        self._catalogue = catalogue
        self._store = store
        self._workspace = workspace
        self._engine = engine
        self._files = files
        self._changes = changes
        self._intake = intake
        self._controls = controls
        self._housekeeping = housekeeping
        self.accounts = accounts
        self.particulars = Particulars(self._seen, controls)
        self._watching = watching
        self.history = History(store, self._view)
        self.desk = desk

    # -- who and whether -----------------------------------------------------------------------

    async def authenticate(self, authorization: str | None, address: str) -> Caller:
        """Who sends this request; see `Accounts.authenticate`."""
        return self.accounts.authenticate(authorization, address)

    async def exchange(self, authorization: str | None, name: str, address: str) -> dict[str, Any]:
        """A token for a provider's token; see `Accounts.exchange`."""
        return await self.accounts.exchange(authorization, name, address)

    async def sign_out(self, caller: Caller) -> None:
        """Revoke the token that the request came with. Raises `NotAuthenticated` without one."""
        await self.accounts.sign_out(caller)

    def me(self, caller: Caller) -> dict[str, Any]:
        """Who the caller is."""
        self.check_open(caller)
        return self.accounts.me(caller)

    def cpu_credit(self, caller: Caller, required: int | None) -> dict[str, Any]:
        """What the caller may spend, and how long until `required` may be."""
        self.check_open(caller)
        return self.accounts.cpu_credit(caller, required)

    def check_open(self, caller: Caller) -> None:
        """Raise `NotAuthenticated` for an anonymous caller where these are not let in."""
        if caller.user is None and caller.link is None and not self.config.auth.anonymous:
            raise NotAuthenticated("A token is needed here.", headers={"WWW-Authenticate": "Bearer"})

    def health(self) -> dict[str, Any]:
        """That the process lives."""
        return {"status": "ok", "version": __version__}

    def ready(self) -> tuple[bool, str]:
        """Whether tasks can be taken and run, and why not."""
        if self._intake.stopping:
            return False, "the daemon is stopping"
        if self._store.failed:
            return False, f"the store has failed: {self._store.failed}"
        fault = self._engine.fault()
        return (True, "") if fault is None else (False, f"the DRM does not work: {fault}")

    def figures(self) -> Figures:
        """The figures for monitoring."""
        return Figures(
            tasks={state.value: count for state, count in self._store.counts().items()},
            scripts=len(self._catalogue.all()),
            script_findings=len(self._catalogue.findings),
            uploads=self._intake.uploads,
            streams=len(self._watching),
            drm_works=self._engine.fault() is None,
            store_works=self._store.failed is None,
        )

    @property
    def site(self) -> Site:
        """What the API's description tells of the configuration."""
        return about.site(self.config)

    def index(self, caller: Caller) -> dict[str, Any]:
        """What this service is and where to go."""
        self.check_open(caller)
        return about.index(self.config)

    # -- scripts -----------------------------------------------------------------------------

    def script(self, caller: Caller, name: str) -> dict[str, Any]:
        """A script's JSON. Raises `NotFound`."""
        self.check_open(caller)
        script = self._intake.find_script(caller, name)
        if script is None:
            raise NotFound("There is no such script.")
        return script.public(admin=caller.is_admin)

    def scripts(
        self,
        caller: Caller,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        search: str | None = None,
        page: int,
        size: int,
    ) -> tuple[int, list[dict[str, Any]]]:
        """A page of the scripts that the caller may run, by name: (how many in all, the page's)."""
        self.check_open(caller)
        wanted = (search or "").casefold()
        found = [
            script
            for script in self._catalogue.all()
            if may_run(caller, script)
            and (name is None or script.name == name)
            and (names is None or script.name in names)
            and (wanted in script.name.casefold() or wanted in script.description.casefold())
        ]
        shown = found[(page - 1) * size : page * size]
        return len(found), [script.public(admin=caller.is_admin) for script in shown]

    def offer(self, caller: Caller) -> tuple[int, list[dict[str, Any]]]:
        """The version of the scripts, and those that the caller may run, as anybody is shown them.

        Also for those who are not let in: they may run none.
        """
        version = self._catalogue.version  # before the scripts: they may change in another thread
        if caller.user is None and not self.config.auth.anonymous:
            return version, []
        return version, [script.public() for script in self._catalogue.all() if may_run(caller, script)]

    # -- tasks -------------------------------------------------------------------------------

    async def draft(self, caller: Caller, *, length: int | None, key: str | None, chunked: bool) -> Draft:
        """Begin to take a task; see `Intake.admit` and `Intake.draft`."""
        self.check_open(caller)
        room = await self._intake.admit(caller, key, length)
        try:
            return self._intake.draft(
                caller,
                length=length,
                key=key,
                chunked=chunked,
                present=lambda task: self._accepted(caller, task),
                room=room,
            )
        except BaseException:
            if room is not None:
                room.close()
            raise

    def _accepted(self, caller: Caller, task: Task) -> dict[str, Any]:
        """The answer to an accepted task. Raises `Rejected` if the DRM has refused it already."""
        if task.state is State.REJECTED:
            detail = task.detail if caller.is_admin else without_internals(task.detail)
            raise Rejected(
                f"The cluster refused the job: {detail}",
                extra={"uuid": task.uuid},
                headers={"Location": f"{self.config.public_url}/task/{task.uuid}"},
            )
        return self._view(caller, task)

    def task(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """A task's JSON. Raises `NotFound`, `Forbidden`."""
        return self._view(caller, self._seen(caller, uuid))

    def status(self, caller: Caller, uuid: str) -> str:
        """A task's status text. Raises `NotFound`, `Forbidden`."""
        return self._seen(caller, uuid).state.text

    def watch(self, caller: Caller, uuid: str, last: str | None) -> Watch | None:
        """Watch one task; see `Watching.open`. Raises `NotFound`, `Forbidden` too."""
        _present(self._seen(caller, uuid))
        return self._watching.open(caller, self._view, uuids=[uuid], last=last)

    def watch_many(self, caller: Caller, query: Mapping[str, str], last: str | None) -> Watch | None:
        """Watch the tasks that ``ids`` names, or all of the caller's; see `Watching.open`."""
        self.check_open(caller)
        return self._watching.open(caller, self._view, uuids=parse_filters(query).uuids, last=last)

    def link(self, caller: Caller, uuid: str, lifetime: int | None) -> dict[str, Any]:
        """A link by which anyone may read the task; see `Links.make`. Raises `NotFound`, `Forbidden` too."""
        text, seconds = self.accounts.links.make(_present(self._usable(caller, uuid)), lifetime)
        _audit("task.linked", caller, uuid)
        return {"url": f"{self.config.public_url}/task/{uuid}?link={text}", "expires_in": seconds}

    def follow(self, caller: Caller, uuid: str, text: str) -> Caller:
        """The caller, with leave to read this task by a link. Raises `NotAuthenticated`."""
        return self.accounts.links.follow(caller, self._store.get(uuid), text)

    def tasks(
        self, caller: Caller, query: Mapping[str, str], page: int, size: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """A page of the caller's tasks, newest first: (how many in all, the page's)."""
        self.check_open(caller)
        filters = parse_filters(query)
        if caller.user is None and filters.uuids is None:
            return 0, []  # an unowned task is known only to who knows its UUID
        wanted = filters.query(ANY if caller.is_admin else caller.user)
        count, tasks = self._store.select(replace(wanted, include_deleted=caller.is_admin), page, size)
        return count, [self._view(caller, task) for task in tasks]

    async def delete(self, caller: Caller, uuid: str) -> None:
        """Delete a task: its job is stopped, its files go. Raises `NotFound`, `Forbidden`, `Conflict`."""
        task = _present(self._usable(caller, uuid))
        below = [self._store.get(child) for child in self._below(uuid)]
        if any(child is not None and not child.final for child in below):
            raise Conflict("Tasks that work in this task's folder have not ended.")
        self._store.update(
            uuid,
            lambda known: known.changed(deleted=now_ms(), stop=not known.final),
            revocable=True,
            frees=True,
        )
        await self._store.durable()
        _audit("task.deleted", caller, uuid)
        if not task.final:
            await self._carry_out(uuid, lambda known: known.final)
        await self._housekeeping.purge(uuid)

    async def control(self, caller: Caller, uuid: str, name: str) -> dict[str, Any]:
        """Stop, hold, release, suspend or resume. Raises `NotFound`, `Forbidden`, `Conflict`.

        Waits up to `DRM_PATIENCE` for the DRM; the request stands if that is not enough.
        """
        action = ACTIONS[name]
        task = _present(self._usable(caller, uuid))
        self._controls.check(task, action)
        if action is Action.TERMINATE:
            # What runs may be what fills the disk.
            self._store.update(uuid, lambda known: known.changed(stop=True), revocable=True, frees=True)
            condition = _ended
        else:
            self._store.update(uuid, lambda known: known.changed(wanted=action.value), revocable=True)
            condition = _carried_out
        await self._store.durable()
        _audit(f"task.{PAST[name]}", caller, uuid)
        if not await self._carry_out(uuid, condition):
            return {
                "detail": f"The request to {name} the task is noted and is carried out as soon as possible."
            }
        return {"detail": self._outcome(uuid, action)}

    def _outcome(self, uuid: str, action: Action) -> str:
        """What came of a request. Raises `Conflict` if the DRM refused it or the task ended before."""
        task = self._store.get(uuid)
        if task is None:
            raise NotFound("There is no such task.")
        if action is Action.TERMINATE and task.state is not State.STOPPED:
            return f"The task had ended: {task.state.text}."
        refused = self._controls.refusal(uuid)
        if refused is not None:
            raise Conflict(f"The cluster refused: {without_internals(refused)}")
        return DONE_DETAILS[action]

    async def _carry_out(self, uuid: str, condition: Callable[[Task], bool]) -> bool:
        """Have an intention carried out; False if it takes longer than a request may wait."""
        task = self._store.get(uuid)
        if task is None:
            return True
        self._controls.request(uuid)
        return await self._changes.until(task, condition, DRM_PATIENCE)

    async def take_ownership(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """Make an unowned task, with its unowned descendants, the caller's.

        Raises `NotAuthenticated` for the anonymous, `Conflict` for the owner, `Forbidden` for others.
        """
        task = self._known(caller, uuid)
        if caller.user is None:
            raise NotAuthenticated(
                "Only somebody with a token can own a task.", headers={"WWW-Authenticate": "Bearer"}
            )
        _present(task)
        if caller.owns(task):
            raise Conflict("The task is yours already.")
        if task.owner is not None:
            _audit("permission.refused", caller, uuid)
            raise Forbidden("This task belongs to somebody else.")
        for name in (uuid, *self._below(uuid)):
            known = self._store.get(name)
            if known is not None and known.owner is None:
                self._store.update(name, lambda unowned: unowned.changed(owner=caller.user), revocable=True)
        await self._store.durable()
        _audit("task.owned", caller, uuid)
        return {"detail": "The task is yours."}

    # -- files -------------------------------------------------------------------------------

    async def files(self, caller: Caller, uuid: str, details: bool) -> list[Any]:
        """The task's files: their paths, or with `details` path, size and time each."""
        task = self._readable(caller, uuid)
        listed = await self._files.run(self._workspace.listing, task.folder)
        return [file.details() if details else file.path for file in listed]

    async def open_file(self, caller: Caller, uuid: str, path: bytes) -> FileAnswer:
        """A file of the task. Raises `NotFound`, `Forbidden`."""
        task = self._readable(caller, uuid)
        opened = await self._files.run(self._workspace.open, task.folder, path)
        name = path.rpartition(b"/")[2].decode("utf-8", "replace")
        return FileAnswer(opened, name, task.html_scripts)

    async def archive(self, caller: Caller, uuid: str, format: str) -> ArchiveAnswer:
        """All files of an ended task as one. Raises `NotFound` until it has ended, `InvalidInput`."""
        task = self._readable(caller, uuid)
        if format not in ARCHIVE_FORMATS:
            raise InvalidInput(f"The format is none of {', '.join(ARCHIVE_FORMATS)}.")
        if not task.final:
            raise NotFound("The task has not ended: its files can be downloaded one by one.")
        archive = await self._files.run(self._workspace.archive, task.folder, task.uuid, format)
        return ArchiveAnswer(archive, f"{task.uuid}.{format}")

    # -- rules that the use cases share --------------------------------------------------------

    def _known(self, caller: Caller, uuid: str) -> Task:
        """The task, if there is one; an administrator sees deleted ones too."""
        self.check_open(caller)
        task = self._store.get(uuid)
        if task is None or (task.deleted is not None and not caller.is_admin):
            raise NotFound("There is no such task.")
        return task

    def _seen(self, caller: Caller, uuid: str) -> Task:
        task = self._known(caller, uuid)
        return task if caller.may_see(task) else self._usable(caller, uuid)

    def _usable(self, caller: Caller, uuid: str) -> Task:
        self.check_open(caller)
        try:
            return self._intake.usable_task(caller, uuid)
        except Forbidden:
            _audit("permission.refused", caller, uuid)
            raise

    def _readable(self, caller: Caller, uuid: str) -> Task:
        task = self._known(caller, uuid)
        try:
            caller.check_may_read_files(task)
        except Forbidden:
            _audit("permission.refused", caller, uuid)
            raise
        return task

    def _below(self, uuid: str) -> list[str]:
        return descendants(uuid, self._store.children)

    def _view(self, caller: Caller, task: Task) -> dict[str, Any]:
        return view(task, caller, below=self._below(task.uuid), keep_seconds=self._housekeeping.keep_seconds)


def _audit(event: str, caller: Caller, uuid: str) -> None:
    audit.record(event, user=caller.user, address=caller.address, task=uuid)


def _present(task: Task) -> Task:
    """The task. Raises `NotFound` for a deleted one, which administrators still see."""
    if task.deleted is not None:
        raise NotFound("There is no such task.")
    return task


def _ended(task: Task) -> bool:
    return task.final


def _carried_out(task: Task) -> bool:
    return task.final or not task.wanted
