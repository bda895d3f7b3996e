"""A task that is being sent: its fields, its files on their way to disk, and what becomes of them.

A draft ends in `finish`, which makes a task of it, or in `abort`, which leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import uuid as uuids
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drmaaticd.auth.quotas import Room
from drmaaticd.callers import Caller
from drmaaticd.errors import (
    DrmaaticdError,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
)
from drmaaticd.scripts import Checked, Script, Upload
from drmaaticd.tasks import Task
from drmaaticd.workspace import Incoming, IncomingFile, OpenedFile, Unfiled

if TYPE_CHECKING:
    from drmaaticd.intake import Intake

#: Bytes of all text fields together; they are held in memory until the last byte has come.
MAX_TEXT = 4 * 1024 * 1024

#: Bytes of a file of an earlier task that are copied in one step: others may come in between.
COPY_BYTES = 64 * 1024 * 1024

#: Characters of a task's description.
MAX_DESCRIPTION = 200

#: Tasks that one task may depend on.
MAX_DEPENDENCIES = 1000

#: Lengths of an idempotency key; the anonymous are told apart by address only, which a whole site
#: may share, so that their keys must be hard to guess.
MAX_KEY = 64
MIN_ANONYMOUS_KEY = 22

DEPENDENCY_TYPES = ("afterany", "afterok", "afternotok")

OWN_FIELDS = ("task_name", "task_description", "parent_task", "dependencies", "dependency_type")


@dataclass(frozen=True, slots=True)
class Order:
    """What a complete and valid draft asks for."""

    script: Script
    checked: Checked
    description: str
    parent: Task | None
    depends_on: tuple[str, ...]
    dependency_type: str


def canonical_uuid(text: str) -> str | None:
    """The UUID in its canonical form, None if it is none. Only the form with hyphens is taken."""
    try:
        parsed = str(uuids.UUID(text))
    except ValueError:
        return None
    return parsed if parsed == text.lower() else None


def check_key(caller: Caller, key: str | None) -> None:
    """Raise `InvalidInput` for an idempotency key that is too long, or too short to be unguessable."""
    if key is None:
        return
    least = MIN_ANONYMOUS_KEY if caller.user is None else 1
    if not least <= len(key) <= MAX_KEY:
        raise InvalidInput(
            "The idempotency key is refused.",
            errors=[
                FieldError("Idempotency-Key", f"has {len(key)} characters; {least} to {MAX_KEY} are allowed")
            ],
        )


class Draft:
    """One ``POST /task/`` under way. Methods are awaited one after the other."""

    def __init__(
        self,
        intake: Intake,
        caller: Caller,
        key: str | None,
        present: Callable[[Task], dict[str, Any]],
        *,
        holds_place: bool,
        room: Room | None = None,
    ) -> None:
        self.uuid = str(uuids.uuid4())
        self.caller = caller
        self.key = key
        self.holds_place = holds_place
        self._room = room
        self._kept = False
        self.incoming: Incoming | None = None
        self._unfiled: Unfiled | None = None
        self._intake = intake
        self._present = present
        self._fields: dict[str, list[str]] = {}
        self._text = 0
        self._files: dict[str, list[Upload]] = {}
        self._open: tuple[str, str, IncomingFile] | None = None
        self._written = 0
        self._kept_bytes = 0
        self._keeps: dict[str, list[tuple[str, str]]] = {}
        """By field, the files of earlier tasks that were asked for: the task, and the stored name."""
        self._kept_tokens: set[int] = set()
        self._lost: list[FieldError] = []
        """What could not be taken over from earlier tasks."""
        self._over = False
        self._finishing: asyncio.Task[tuple[Task, bool]] | None = None
        self._lock = asyncio.Lock()

    # -- as it arrives -------------------------------------------------------------------------

    def field(self, name: str, value: str) -> None:
        """Take a text field. Raises `TooLarge`."""
        self._text += len(name) + len(value)
        if self._text > MAX_TEXT:
            raise TooLarge(f"The text fields together are larger than {MAX_TEXT} bytes.")
        self._fields.setdefault(name, []).append(value)

    async def open_file(self, name: str, client_name: str) -> None:
        """Begin a file, whose content comes by `write`. Raises `StorageFull`."""
        async with self._turn():
            if self.incoming is None:
                self.incoming = await self._intake.files.run(self._intake.workspace.incoming, self.uuid)
            handle = await self._intake.files.run(self.incoming.create)
            self._open = (name, client_name, handle)
            self._written = 0

    async def write(self, data: bytes) -> None:
        """Append to the open file; returns when the system has taken it. Raises `StorageFull`."""
        async with self._turn():
            _, _, handle = self._current()
            if self._room is not None:
                self._room.take(len(data))
            await self._intake.files.run(handle.write, data)
            self._written += len(data)

    async def close_file(self) -> None:
        """End the open file."""
        async with self._turn():
            name, client_name, handle = self._current()
            self._open = None
            await self._intake.files.run(handle.close)
            upload = Upload(client_name=client_name, size=self._written, token=handle.token)
            self._files.setdefault(name, []).append(upload)

    async def keep_file(self, name: str, uuid: str, stored_name: str) -> None:
        """Take over an input file of an earlier task that the caller may use.

        It is copied, since either task's job may write to its own. What is not there any more is told
        by `finish`, at its field. Raises `TooLarge`, `StorageFull`, `Unavailable`, `TooManyRequests`.
        """
        self._keeps.setdefault(name, []).append((uuid, stored_name))
        try:
            client_name, opened = await self._intake.open_input(self.caller, uuid, stored_name)
        except (NotFound, Forbidden):
            self._lost.append(
                FieldError(name, f"{stored_name[:80]!r} of the earlier task is gone; choose a file")
            )
            return
        try:
            self._kept_bytes += opened.size
            if self._kept_bytes > self._intake.config.server.max_upload:
                raise TooLarge(f"The files are larger than {self._intake.config.server.max_upload} bytes.")
            self._intake.hold_place(self)
            await self.open_file(name, client_name)
            self._kept_tokens.add(self._current()[2].token)
            while self._written < opened.size and await self._copy(opened):
                pass
            await self.close_file()
        finally:
            await self._intake.files.run(opened.close)

    async def _copy(self, source: OpenedFile) -> int:
        """Append the next piece of `source` to the open file; how many bytes it had."""
        async with self._turn():
            _, _, handle = self._current()
            length = min(COPY_BYTES, source.size - self._written)
            if self._room is not None:
                self._room.take(length)
            copied = await self._intake.files.run(handle.copy, source.fd, self._written, length)
            self._written += copied
            return copied

    async def finish(self) -> tuple[dict[str, Any], bool]:
        """Make a task of it: (the task as JSON, whether it is new).

        Raises everything that the REST contract names for ``POST /task/``; nothing remains on disk
        then, but for a task that the DRM rejected. What has begun is finished, even if the caller
        is gone: between files and record there is no place to stop.
        """
        self._finishing = asyncio.get_running_loop().create_task(self._finish())
        self._intake.under_way(self._finishing)
        task, new = await asyncio.shield(self._finishing)
        return self._present(task), new

    async def _finish(self) -> tuple[Task, bool]:
        try:
            async with self._turn():
                task, self._kept = await self._intake.accept(self)
                return task, self._kept
        finally:
            await self._give_up()

    async def abort(self) -> None:
        """Give up: nothing of it remains on disk. May be called at any time, and again.

        A draft that is being finished cleans up by itself.
        """
        if self._finishing is None:
            await self._give_up()

    async def _give_up(self) -> None:
        async with self._lock:  # not while a thread still writes to what is to be closed
            if self._over:
                return
            self._over = True
            try:
                if self._open is not None:
                    await self._intake.files.run(self._open[2].close)
                if self.incoming is not None:
                    await self._intake.files.run(self.incoming.discard)
                if self._unfiled is not None:
                    self._intake.discard_later(self._unfiled)
            finally:
                if self._room is not None:
                    self._room.close(kept=self._kept)
                self._intake.release(self)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One step at a time, and none after the end. Raises `Unavailable` then."""
        async with self._lock:
            if self._over:
                raise Unavailable("The request was given up.")
            yield

    def _current(self) -> tuple[str, str, IncomingFile]:
        """The file that is open: its field, the client's name for it, and the file itself."""
        if self._open is None:
            raise RuntimeError("no file is open in this draft")
        return self._open

    # -- onto the disk, in a thread -----------------------------------------------------------------

    def place_files(self, order: Order, folder: str) -> Checked:
        """Give the files their names in the task's folder: the parameters as they are to be recorded.

        In a parent's folder a name that is taken is preceded by the task's first 8 characters.
        Blocks. Raises `StorageFull`, `Conflict`, `NotFound`, `InvalidInput`.
        """
        workspace = self._intake.workspace
        place: Incoming | Unfiled | None = self.incoming
        if place is None:
            place = self._unfiled = workspace.unfiled(self.uuid)
        checked = order.checked
        if order.parent is None:
            place.commit({file.token: file.stored_name for file in checked.files})
            return checked
        taken = workspace.taken(folder, [file.stored_name for file in checked.files])
        checked = checked.renamed({name: f"{self.uuid[:8]}_{name}" for name in taken})
        place.commit_into(folder, {file.token: file.stored_name for file in checked.files})
        return checked

    def sync(self) -> None:
        """Return when the files' places are on the disk. Blocks. Raises `StorageFull`."""
        if self._unfiled is not None:  # with files, they have been since they were placed
            self._intake.workspace.sync_folders()

    def take_back(self) -> None:
        """Remove everything that was placed for a task that could not be recorded. Blocks."""
        if self.incoming is not None:
            self.incoming.undo()
        if self._unfiled is not None:
            self._unfiled.undo()
        self._intake.workspace.remove_control(self.uuid)

    # -- when it is complete ---------------------------------------------------------------------

    def fingerprint(self) -> str:
        """What makes two requests the same: fields, file names and sizes.

        A file of an earlier task is the same whatever its job has made of it meanwhile.
        """
        files = {
            name: sent
            for name, uploads in self._files.items()
            if (
                sent := [[one.client_name, one.size] for one in uploads if one.token not in self._kept_tokens]
            )
        }
        content = json.dumps([self._fields, files, *([self._keeps] if self._keeps else [])], sort_keys=True)
        return hashlib.sha256(content.encode("ascii")).hexdigest()

    def order(self) -> Order:
        """What is asked for. Raises `InvalidInput` naming every wrong field, or else `NotFound`."""
        errors = list(self._lost)
        name = self._one("task_name", errors)
        if not name and not any(error.name == "task_name" for error in errors):
            errors.append(FieldError("task_name", "is required: the name of a script"))
        description = self._description(errors)
        parent = self._uuids("parent_task", 1, errors)
        depends_on = self._uuids("dependencies", MAX_DEPENDENCIES, errors)
        dependency_type = self._dependency_type(errors)
        missing: list[DrmaaticdError] = []
        script, checked = self._script(name, errors, missing)
        parents = self._visible(parent, "parent_task", missing)
        needed = self._visible(depends_on, "dependencies", missing)
        if errors:
            raise InvalidInput("The task is not valid.", errors=errors)
        if missing or script is None or checked is None:
            raise missing[0]
        return Order(
            script=script,
            checked=checked,
            description=description,
            parent=parents[0] if parents else None,
            depends_on=tuple(task.uuid for task in needed),
            dependency_type=dependency_type,
        )

    def _script(
        self, name: str, errors: list[FieldError], missing: list[DrmaaticdError]
    ) -> tuple[Script | None, Checked | None]:
        """The script and its checked parameters; without a script they cannot be checked."""
        if not name:
            return None, None
        script = self._intake.find_script(self.caller, name)
        if script is None:
            missing.append(NotFound(f"There is no script {name!r}."))
            return None, None
        fields: Mapping[str, Sequence[str]] = {
            field: values for field, values in self._fields.items() if field not in OWN_FIELDS
        }
        for own in OWN_FIELDS:
            if any(upload.client_name or upload.size for upload in self._files.get(own, ())):
                errors.append(FieldError(own, "is text, not a file"))
        files = {field: uploads for field, uploads in self._files.items() if field not in OWN_FIELDS}
        try:
            checked = script.check(fields, files, ignore_unknown=self._intake.config.compat.ignore_unknown)
        except InvalidInput as error:
            lost = {gone.name for gone in self._lost}  # that it is missing is said already
            errors.extend(wrong for wrong in error.errors if wrong.name not in lost)
            return script, None
        return script, checked

    def _one(self, field: str, errors: list[FieldError]) -> str:
        values = [value for value in self._fields.get(field, ()) if value]
        if len(values) > 1:
            errors.append(FieldError(field, f"is given {len(values)} times; once is allowed"))
        return values[0] if values else ""

    def _description(self, errors: list[FieldError]) -> str:
        description = self._one("task_description", errors)
        if len(description) > MAX_DESCRIPTION:
            errors.append(
                FieldError(
                    "task_description",
                    f"has {len(description)} characters; at most {MAX_DESCRIPTION} are allowed",
                )
            )
        if "\0" in description or any("\ud800" <= char <= "\udfff" for char in description):
            errors.append(FieldError("task_description", "holds a character that is no text"))
        return description

    def _dependency_type(self, errors: list[FieldError]) -> str:
        value = self._one("dependency_type", errors) or DEPENDENCY_TYPES[0]
        if value not in DEPENDENCY_TYPES:
            errors.append(FieldError("dependency_type", f"is none of {', '.join(DEPENDENCY_TYPES)}"))
        return value

    def _uuids(self, field: str, most: int, errors: list[FieldError]) -> list[str]:
        texts = [part.strip() for value in self._fields.get(field, ()) for part in value.split(",")]
        found: dict[str, None] = {}  # in the order given, each once
        for text in filter(None, texts):
            canonical = canonical_uuid(text)
            if canonical is None:
                errors.append(FieldError(field, f"{text[:40]!r} is no UUID of a task"))
            else:
                found[canonical] = None
        if len(found) > most:
            errors.append(FieldError(field, f"names {len(found)} tasks; at most {most} allowed"))
        return list(found)

    def _visible(self, wanted: Sequence[str], field: str, missing: list[DrmaaticdError]) -> list[Task]:
        tasks = []
        for uuid in wanted:
            try:
                task = self._intake.usable_task(self.caller, uuid)
            except DrmaaticdError:
                task = None
            if task is not None and task.deleted is None:
                tasks.append(task)
            else:
                missing.append(NotFound(f"{field}: there is no task {uuid} that you can use."))
        return tasks
