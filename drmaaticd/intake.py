"""How a request becomes a task: admission, idempotency, and everything written before it is told.

`drafts` holds what a request sends; here it is admitted, and, when complete, put in its places: the
files, the launcher, the record. Only a durable task is acknowledged and handed to the submitter.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from drmaaticd import launcher
from drmaaticd.auth import audit
from drmaaticd.auth.accounts import Accounts
from drmaaticd.auth.quotas import Quotas, Room
from drmaaticd.callers import Caller
from drmaaticd.changes import Changes
from drmaaticd.config import Config
from drmaaticd.drafts import Draft, Order, check_key
from drmaaticd.errors import (
    Conflict,
    DrmaaticdError,
    KeyReused,
    NotFound,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from drmaaticd.folder import storage_errors
from drmaaticd.gate import FileGate
from drmaaticd.scripts import Catalogue, Checked, Script
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.submission import Submitter
from drmaaticd.tasks import Task, now_ms
from drmaaticd.workspace import OpenedFile, Unfiled, Workspace

log = logging.getLogger(__name__)

#: Seconds for which a request waits for the DRM; then the answer is that the wish stands.
DRM_PATIENCE = 2.0

#: A body up to this many bytes is no upload that must have a place; the connections bound these.
SMALL_BODY = 256 * 1024

#: Milliseconds for which an idempotency key is known.
KEY_LIFETIME = 24 * 3600 * 1000


class Intake:
    """Takes tasks. One instance; all methods run on the loop."""

    def __init__(
        self,
        *,
        config: Config,
        catalogue: Catalogue,
        store: Store,
        workspace: Workspace,
        files: FileGate,
        changes: Changes,
        submitter: Submitter,
        accounts: Accounts,
    ) -> None:
        self.config = config
        self.workspace = workspace
        self.files = files
        self._catalogue = catalogue
        self._store = store
        self._changes = changes
        self._submitter = submitter
        self._accounts = accounts
        self._quotas = Quotas(store=store, accounts=accounts, workspace=workspace, files=files)
        self._keys = store.side("idempotency")
        self._keys_under_way: set[str] = set()
        self._uploads: Counter[str] = Counter()
        self._finishing: set[asyncio.Task[Any]] = set()
        self._over: list[Unfiled] = []
        self._discarding: asyncio.Task[None] | None = None
        self.stopping = False

    # -- what a draft asks -----------------------------------------------------------------------

    def find_script(self, caller: Caller, name: str) -> Script | None:
        """The script, if this caller may run it."""
        script = self._catalogue.get(name)
        return script if script is not None and may_run(caller, script) else None

    def usable_task(self, caller: Caller, uuid: str) -> Task:
        """A task that this caller may see and use. Raises `NotFound`, `Forbidden`."""
        task = self._store.get(uuid)
        if task is None or (task.deleted is not None and not caller.is_admin):
            raise NotFound("There is no such task.")
        caller.check_may_use(task)
        return task

    async def open_input(self, caller: Caller, uuid: str, stored_name: str) -> tuple[str, OpenedFile]:
        """An input file of a task that the caller may use: the name that the client gave, and the file.

        Raises `NotFound`, `Forbidden`.
        """
        task = self.usable_task(caller, uuid)
        client_name = task.files_name.get(stored_name)
        if client_name is None or task.deleted is not None:
            raise NotFound("There is no such file.")
        return client_name, await self.files.run(self.workspace.open, task.folder, stored_name.encode())

    # -- admission -------------------------------------------------------------------------------

    async def admit(self, caller: Caller, key: str | None, length: int | None) -> Room | None:
        """Whether the caller may have another task at all, and how much it may write.

        What a key has made before costs nothing more. Raises `TooManyRequests`, `Conflict`, `StorageFull`.
        """
        if key is not None and _key(caller, key) in self._keys:
            return None
        costs = [script.required_tokens for script in self._catalogue.all() if may_run(caller, script)]
        self._accounts.check_credit(caller, min(costs, default=0))
        self._quotas.check_live(caller)
        room = await self._quotas.room(caller)
        if room is not None and length is not None:
            try:
                room.check(length)
            except StorageFull:
                room.close()
                raise
        return room

    def draft(
        self,
        caller: Caller,
        *,
        length: int | None,
        key: str | None,
        chunked: bool,
        present: Callable[[Task], dict[str, Any]],
        room: Room | None = None,
    ) -> Draft:
        """Begin to take a task; the draft must be finished or aborted.

        `length` is the announced size of the body in bytes, None if it is not announced (`chunked`);
        `present` makes the answer of the accepted task, or raises; `room` is what `admit` allowed.
        Raises what can be known before the body: `TooLarge`, `InvalidInput` and `Conflict` (the key),
        `TooManyRequests`, `Unavailable`.
        """
        if self.stopping or self._store.failed:
            raise Unavailable("No tasks are taken at present.")
        if length is not None and length > self.config.server.max_upload:
            raise TooLarge(f"The request is larger than {self.config.server.max_upload} bytes.")
        check_key(caller, key)
        if key is not None and _key(caller, key) in self._keys_under_way:
            raise Conflict("A request with this idempotency key is still arriving.")
        holds_place = chunked or length is None or length > SMALL_BODY
        if holds_place:
            self._take_place(caller)
        if key is not None:
            self._keys_under_way.add(_key(caller, key))
        return Draft(self, caller, key, present, holds_place=holds_place, room=room)

    def hold_place(self, draft: Draft) -> None:
        """Have a draft, whose body is small, hold a place all the same: it is about to copy files."""
        if not draft.holds_place:
            self._take_place(draft.caller)
            draft.holds_place = True

    def _take_place(self, caller: Caller) -> None:
        server = self.config.server
        if self._uploads.total() >= server.max_uploads:
            raise Unavailable("Too many uploads are under way.")
        if self._uploads[caller.address] >= server.max_uploads_per_address:
            raise TooManyRequests("Too many uploads from this address are under way.", retry_after=5)
        self._uploads[caller.address] += 1

    @property
    def uploads(self) -> int:
        """How many uploads hold a place."""
        return self._uploads.total()

    def release(self, draft: Draft) -> None:
        """A draft has ended: its place and its key are free."""
        if draft.holds_place:
            self._uploads[draft.caller.address] -= 1
            if not self._uploads[draft.caller.address]:
                del self._uploads[draft.caller.address]
        if draft.key is not None:
            self._keys_under_way.discard(_key(draft.caller, draft.key))

    def discard_later(self, unfiled: Unfiled) -> None:
        """Remove the mark of a submission that is over, together with those that end meanwhile."""
        self._over.append(unfiled)
        if self._discarding is None or self._discarding.done():
            self._discarding = asyncio.get_running_loop().create_task(self._discard())
            self.under_way(self._discarding)

    async def _discard(self) -> None:
        while self._over:
            over, self._over = self._over, []
            try:
                await self.files.run(_discard_all, over)
            except (OSError, DrmaaticdError) as error:
                log.warning("the marks of submissions that are over stay until the next start: %s", error)

    def under_way(self, finishing: asyncio.Task[Any]) -> None:
        """A draft is being finished, which does not end with its request."""
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finished)

    def _finished(self, finishing: asyncio.Task[Any]) -> None:
        self._finishing.discard(finishing)
        if not finishing.cancelled():
            finishing.exception()  # whoever asked has it, if they are still there

    async def close(self) -> None:
        """Wait for the drafts that are being finished."""
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    # -- acceptance ------------------------------------------------------------------------------

    async def accept(self, draft: Draft) -> tuple[Task, bool]:
        """Make a task of a complete draft: (the task, whether it is new); see `Draft.finish`."""
        repeated = self._repeated(draft)
        if repeated is not None:
            return repeated, False
        order = draft.order()
        self._accounts.check_credit(draft.caller, order.script.required_tokens)
        task = await self._write_down(draft, order)
        self._submitter.add(task)
        await self._changes.until(
            self._store.get(task.uuid) or task,
            lambda known: known.job_id is not None or known.state is not State.RECEIVED,
            DRM_PATIENCE,
        )
        return self._store.get(task.uuid) or task, True

    def _repeated(self, draft: Draft) -> Task | None:
        """The task that a request with the same key has made. Raises `KeyReused`, `NotFound`."""
        if draft.key is None:
            return None
        known = self._keys.get(_key(draft.caller, draft.key))
        if known is None or known["expires"] < now_ms():
            return None
        if known["fingerprint"] != draft.fingerprint():
            raise KeyReused("This idempotency key came before with other fields or files.")
        task = self._store.get(known["uuid"])
        if task is None or task.deleted is not None:
            raise NotFound("The task that was made with this idempotency key is deleted.")
        return task

    async def _write_down(self, draft: Draft, order: Order) -> Task:
        """Put files, launcher and record in their places; on failure nothing of them remains."""
        try:
            task = self._submitter.announced(await self.files.run(self._prepare, draft, order))
            # Others may have come in the meantime; from here to `durable` nobody does.
            self._quotas.check_live(draft.caller)
            self._accounts.charge(draft.caller, task.cost)
            self._store.insert(task)
            if draft.key is not None:
                known = {
                    "uuid": task.uuid,
                    "fingerprint": draft.fingerprint(),
                    "expires": task.created + KEY_LIFETIME,
                }
                self._keys.put(_key(draft.caller, draft.key), known)
            await self._store.durable()
        except BaseException:
            await self.files.run(draft.take_back)
            raise
        caller = draft.caller
        audit.record(
            "task.submitted", user=caller.user, address=caller.address, task=task.uuid, script=task.script
        )
        return task

    def _prepare(self, draft: Draft, order: Order) -> Task:
        """The part that touches the disk, in a thread: the files and the launcher. Raises `StorageFull`."""
        folder = order.parent.folder if order.parent is not None else draft.uuid
        with storage_errors():
            checked = draft.place_files(order, folder)
            task = _record(draft, order, checked, folder, self._accounts)
            self._write_launcher(task, order.script, checked.arguments())
            # Last: what a sync of one file writes, file systems with a journal need not write again.
            draft.sync()
        return task

    def _write_launcher(self, task: Task, script: Script, arguments: list[str]) -> None:
        command = script.command
        if command is None or script.travels:
            command = self.workspace.store_script(script.content, script.name)
        control = self.workspace.make_control(task.uuid)
        spec = launcher.LaunchSpec(
            task=task.uuid,
            attempt=1,
            folder=self.workspace.folder(task.folder),
            control=control,
            spool=self.workspace.spool,
            command=command,
            arguments=arguments,
            environment=script.environment,
            setup=script.setup,
            modules=script.modules,
            cpus=script.resources.cpus,
            array=script.array is not None,
            rerunnable=script.rerunnable,
            shared=self.workspace.shared,
        )
        launcher.write(control, spec, self.workspace.sync_controls)


def _discard_all(over: list[Unfiled]) -> None:
    for unfiled in over:
        unfiled.discard()


def may_run(caller: Caller, script: Script) -> bool:
    """Whether the script is for this caller: for everyone if it names no groups."""
    return not script.groups or caller.is_admin or caller.group in script.groups


def _key(caller: Caller, key: str) -> str:
    """Under which an idempotency key is kept: never the client's own words."""
    return hashlib.sha256(f"{caller.key}\0{key}".encode()).hexdigest()


def _record(draft: Draft, order: Order, checked: Checked, folder: str, accounts: Accounts) -> Task:
    script, parent, now = order.script, order.parent, now_ms()
    group = accounts.group_of(draft.caller)
    resources = {
        "cpus": script.resources.cpus,
        "memory": script.resources.memory,
        "max_clock_time": script.resources.max_clock_time,
        "queue": script.resources.queue or group.queue,
        "native": script.resources.native,
        "account": group.account,
        "qos": script.resources.qos,
        "licenses": script.resources.licenses,
        "gres": script.resources.gres,
    }
    array = script.array
    return Task(
        uuid=draft.uuid,
        script=script.name,
        state=State.RECEIVED,
        created=now,
        updated=now,
        description=order.description,
        params=checked.params,
        files_name={file.stored_name: file.client_name for file in checked.files},
        parent=parent.uuid if parent is not None else None,
        folder=folder,
        depends_on=order.depends_on,
        dependency_type=order.dependency_type,
        owner=draft.caller.user,
        sender=draft.caller.address,
        visible=script.is_output_visible and (parent is None or parent.visible),
        html_scripts=script.html_scripts,
        cost=script.required_tokens,
        payer=accounts.payer(draft.caller),
        resources={name: value for name, value in resources.items() if value},
        rerunnable=script.rerunnable,
        array={"begin": array.begin, "end": array.end, "step": array.step} if array is not None else None,
    )
