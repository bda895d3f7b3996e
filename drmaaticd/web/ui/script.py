"""A script's page: its form, which starts tasks, and what is known of earlier ones."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping, Sequence
from typing import Any

from drmaaticd.errors import DrmaaticdError, Forbidden, NotAuthenticated, NotFound
from drmaaticd.web import problem
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import JSON, Caller, Draft
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.ui import refusals
from drmaaticd.web.ui.fields import KEEP, OWN_FIELDS, OWN_LABELS, Kept, attributes, fields_of, refill
from drmaaticd.web.ui.page import PageHandler
from drmaaticd.web.ui.typed import Refused, Typed
from drmaaticd.web.upload import UploadHandler

#: Tasks of the caller's that a script's page lists.
LATEST = 5

#: A form up to this many bytes is read although it is refused already, for the texts in it.
READ_ON = 256 * 1024

#: Refusals after which the form is shown again.
_FORM_AGAIN = frozenset({400, 404, 409, 413, 422, 429, 500, 503, 507})


class FormPage(PageHandler):
    """What writes a script's form: empty, filled in, or as it was refused."""

    section = "scripts"

    @property
    def here(self) -> str:
        """The form's address; the one that it is sent to has tokens in it."""
        return super().here if self.request.method != "POST" else f"{self.root}{self.request.path}"

    def write_form(
        self,
        script: JSON,
        values: Mapping[str, Sequence[str]],
        *,
        typed: bool = False,
        kept: Mapping[str, list[Kept]] | None = None,
        errors: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """Write the page; `values` stand in the fields, `errors` beside them."""
        caller = self._caller
        fields = fields_of(script, values, typed)
        wrong = dict(errors or {})
        for one in fields:
            one.error = wrong.pop(one.name, "")
            one.kept = (kept or {}).get(one.name, [])
        own = {name: (values.get(name) or [""])[0] for name in OWN_FIELDS}
        known: dict[str, Any] = {
            "notice": "",
            "notes": [],
            "chosen": {},
            "rejected": None,
            "source": None,
        }
        self.write_page(
            "script.html",
            title=script["name"],
            script=script,
            fields=fields,
            own=own,
            own_labels=OWN_LABELS,
            wrong_own={name: wrong.pop(name) for name in OWN_FIELDS if name in wrong},
            wrong_other=wrong,
            credit=self.service.cpu_credit(caller, script["required_tokens"]),
            expected=self.service.history.expected(script["name"]),
            latest=self.service.history.latest(caller, script["name"], LATEST),
            largest=self.service.config.server.max_upload,
            key=str(uuids.uuid4()),
            KEEP=KEEP,
            attributes=attributes,
            first_wrong=next(
                (name for name in [*(one.name for one in fields), *OWN_FIELDS] if name in (errors or {})), ""
            ),
            **known | more,
        )

    async def earlier(self, caller: Caller, uuid: str, script: JSON | None = None) -> _Earlier:
        """A task to run again. Raises `NotFound`, also if it is no task of the script."""
        task = self.service.task(caller, task_uuid(uuid))
        if script is None:
            try:
                script = self.service.script(caller, task["task_name"])
            except NotFound as error:
                raise NotFound(f"The script {task['task_name']} is no longer there.") from error
        if task["task_name"] != script["name"]:
            raise NotFound(f"This task is none of {script['name']}.")
        return await self._earlier(caller, task, script)

    async def _earlier(self, caller: Caller, task: JSON, script: JSON) -> _Earlier:
        values, kept, gone = refill(task, script)
        notes = [f"The script no longer has the parameter {name}." for name in gone]
        for param, files in kept.items():
            present = []
            for file in files:
                size = await self._size(caller, file)
                if size is None:
                    notes.append(f"{file.client_name} of the earlier task is gone: choose it again.")
                else:
                    present.append(Kept(file.uuid, file.stored_name, file.client_name, size))
            kept[param] = present
        self._forget_gone_tasks(caller, values)
        return _Earlier(task, script, values, kept, notes)

    async def _size(self, caller: Caller, file: Kept) -> int | None:
        """The size of a task's file in bytes, None if it is not there."""
        try:
            answer = await self.service.open_file(caller, file.uuid, file.stored_name.encode())
        except (NotFound, Forbidden):
            return None
        answer.opened.close()
        return answer.opened.size

    def _forget_gone_tasks(self, caller: Caller, values: dict[str, list[str]]) -> None:
        """Leave out the tasks that an earlier one depended on and that are deleted: they had ended."""
        for name in ("parent_task", "dependencies"):
            uuids = [uuid for text in values.get(name, ()) for uuid in text.split(",") if uuid]
            values[name] = [",".join(uuid for uuid in uuids if self._is_there(caller, uuid))]

    def _is_there(self, caller: Caller, uuid: str) -> bool:
        try:
            self.service.task(caller, uuid)
        except (NotFound, Forbidden):
            return False
        return True


class _Earlier:
    """A task that is to run again, as its script's form holds it."""

    def __init__(
        self,
        task: JSON,
        script: JSON,
        values: dict[str, list[str]],
        kept: dict[str, list[Kept]],
        notes: list[str],
    ) -> None:
        self.task = task
        self.script = script
        self.values = values
        self.kept = kept
        self.notes = notes


class ScriptPage(FormPage, UploadHandler):
    """``/ui/script/{name}``: GET shows the form, POST (multipart) starts a task.

    POST answers 303 to the task's page, or with the form again; for the page's script, which asks for
    JSON, as the API does. The address's ``_xsrf`` is the token against forgery, ``key`` the
    idempotency key.
    """

    _script: JSON = {}  # noqa: RUF012 - replaced, never changed
    """The script, once it is known that the caller may run it."""
    _typed: Typed | None = None

    async def get(self, name: str) -> None:
        """Write the form, filled in from the address: ``?k=7``, ``?from=UUID`` of a task to run again."""
        caller = await self.caller()
        script = self.service.script(caller, name)
        values = {
            key: [text.decode("utf-8", "replace") for text in texts]
            for key, texts in self.request.query_arguments.items()
        }
        source = values.get("from", [""])[0]
        is_parameter = any(param["name"] == "from" for param in script["param"])
        if not source or (is_parameter and not _is_uuid(source)):
            self.write_form(script, values)
            return
        earlier = await self.earlier(caller, source, script)
        self.write_form(
            script,
            earlier.values | values,
            kept=earlier.kept,
            notes=earlier.notes,
            source=earlier.task,
        )

    async def post(self, *_: str) -> None:
        """Start the task."""
        task, created = await self.complete()
        if self._wants_json:
            self.answer(task, created)
        else:
            self.redirect_to(self.link("task", task["uuid"]))

    @property
    def _wants_json(self) -> bool:
        accept = self.request.headers.get("Accept", "")
        return "application/json" in accept and "text/html" not in accept

    async def _admit(self) -> Draft:
        caller = await self.caller()
        self._script = self.service.script(caller, self.path_args[0])
        try:
            return await super()._admit()
        except DrmaaticdError as error:
            if self._wants_json or (self.body_length or 0) > READ_ON or not self._boundary:
                raise
            # The texts are in the body: they stand in the form that is shown again.
            self._draft = draft = self.dressed(Refused(error))
            self._form = self._make_form(draft)
            return draft

    def _check_form(self) -> None:
        self._boundary = ""
        super()._check_form()

    def dressed(self, draft: Draft) -> Draft:
        """The draft with what is particular about a browser's form."""
        self._typed = Typed(draft, self._script)
        return self._typed

    def _idempotency_key(self) -> str | None:
        return super()._idempotency_key() or self.query.text("key") or None

    # -- refusals ------------------------------------------------------------------------------

    def _write_problem(self, error: BaseException | None, status: int = 500) -> bytes:
        if self.request.method != "POST" or not self._wants_json:
            return super()._write_problem(error, status)
        body = Handler._write_problem(self, error, status)
        answer = problem.problem_of(error, status)
        if answer.status not in _FORM_AGAIN and not isinstance(error, NotAuthenticated):
            return body
        answer.members["told"] = refusals.told(answer, self.service.config.server.max_upload)
        answer.members.setdefault(
            "errors", [{"name": name, "detail": text} for name, text in refusals.field_errors(answer).items()]
        )
        return answer.body()

    def write_error_page(self, answer: problem.Problem, detail: str) -> None:
        """The form again, where there was one."""
        if self.request.method != "POST" or not self._script or answer.status not in _FORM_AGAIN:
            super().write_error_page(answer, detail)
            return
        typed = self._typed
        texts = typed.texts if typed is not None else {}
        self.write_form(
            self._script,
            texts,
            typed=typed is not None,
            kept=self._kept_again(texts),
            chosen=typed.files if typed is not None else {},
            errors=refusals.field_errors(answer),
            notice=refusals.told(answer, self.service.config.server.max_upload)
            + ("" if typed is not None else " Go back in your browser: what you had typed is there."),
            rejected=answer.members.get("uuid"),
        )

    def _kept_again(self, texts: Mapping[str, Sequence[str]]) -> dict[str, list[Kept]]:
        """The files of earlier tasks that the refused form would have kept."""
        kept: dict[str, list[Kept]] = {}
        for name, values in texts.items():
            if not name.startswith(KEEP):
                continue
            for value in values:
                uuid, _, stored_name = value.partition("/")
                if client_name := self._client_name(uuid, stored_name):
                    kept.setdefault(name.removeprefix(KEEP), []).append(Kept(uuid, stored_name, client_name))
        return kept

    def _client_name(self, uuid: str, stored_name: str) -> str | None:
        try:
            task = self.service.task(self._caller, task_uuid(uuid))
        except (NotFound, Forbidden):
            return None
        name: str | None = task["files_name"].get(stored_name)
        return name


class RerunPage(FormPage):
    """``/ui/task/{uuid}/rerun``: POST runs a task again at once, GET shows its form filled in.

    The address may hold a ``key``, by which a second click makes no second task.
    """

    async def get(self, uuid: str) -> None:
        """Go to the form."""
        task = self.service.task(await self.caller(), task_uuid(uuid))
        self.redirect_to(self.link("script", task["task_name"], **{"from": task["uuid"]}))

    async def post(self, uuid: str) -> None:
        """Start the same again; if it cannot be, the form says why."""
        caller = await self.caller()
        earlier = await self.earlier(caller, uuid)
        try:
            task = await self._run(caller, earlier)
        except DrmaaticdError as error:
            answer = problem.problem_of(error)
            self.set_status(answer.status)
            for name, value in answer.headers.items():
                self.set_header(name, value)
            self.write_form(
                earlier.script,
                earlier.values,
                kept=earlier.kept,
                notes=earlier.notes,
                source=earlier.task,
                errors=refusals.field_errors(answer),
                notice=refusals.told(answer, self.service.config.server.max_upload),
                rejected=answer.members.get("uuid"),
            )
            return
        self.redirect_to(self.link("task", task["uuid"]))

    async def admit_body(self) -> None:
        """Refuse a forgery before its body is read; there is nothing in it."""
        await self.caller()
        await super().admit_body()

    async def _run(self, caller: Caller, earlier: _Earlier) -> JSON:
        key = self.query.text("key") or None
        draft = await self.service.draft(caller, length=0, key=key, chunked=False)
        try:
            draft.field("task_name", earlier.script["name"])
            for name, texts in earlier.values.items():
                for text in texts:
                    draft.field(name, text)
            for name, files in earlier.kept.items():
                for file in files:
                    await draft.keep_file(name, file.uuid, file.stored_name)
            task, _ = await draft.finish()
            return task
        finally:
            await draft.abort()


def _is_uuid(text: str) -> bool:
    try:
        task_uuid(text)
    except NotFound:
        return False
    return True
