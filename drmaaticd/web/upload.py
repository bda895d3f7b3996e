"""``POST /task/``: who may is decided before the first byte, then the body streams into a draft."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Protocol

from drmaaticd.errors import FieldError, InvalidInput, TooLarge, UnsupportedMediaType
from drmaaticd.web import contenttype, forms
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import JSON, Draft
from drmaaticd.web.parts import MultipartForm

log = logging.getLogger(__name__)

#: Seconds without any byte of the body after which the client is given up.
PROGRESS_SECONDS = 60.0

#: Bytes of a form from which on it is parsed in a thread.
LARGE_FORM = 16 * 1024

_KEY = re.compile(r"[\x21-\x7e]{1,64}")


class Form(Protocol):
    """What a body is fed into."""

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    async def end(self) -> None:
        """The body is complete."""

    async def settle(self) -> None:
        """Wait for what is under way; nothing is fed any more."""


class UploadHandler(Handler):
    """Creates tasks."""

    _draft: Draft | None = None
    _form: Form
    _finishing = False
    _received = 0
    _last_byte = 0.0
    _busy = False

    async def admit_body(self) -> None:
        """Decide by headers and caller alone; the service keeps a place for the upload."""
        if self.request.method != "POST":
            await super().admit_body()
            return
        await self._admit()
        self._watch()

    async def _admit(self) -> Draft:
        caller = await self.caller()
        self._check_form()
        length = self.body_length
        largest = self.service.config.server.max_upload
        if length is not None and length > largest:
            raise _too_large(largest)
        draft = await self.service.draft(
            caller, length=length, key=self._idempotency_key(), chunked=length is None
        )
        self._draft = draft = self.dressed(draft)
        self._form = self._make_form(draft)
        return draft

    def dressed(self, draft: Draft) -> Draft:
        """The draft that the form is fed into; another one may stand before it."""
        return draft

    def _check_form(self) -> None:
        """Refuse what is no form, before anyone is asked for anything."""
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("The body must come without a Content-Encoding.")
        header = self.request.headers.get("Content-Type")
        if header is None and self.body_length == 0:
            # No body at all: an empty form, whose answer names what is missing.
            header = contenttype.URLENCODED
        self._kind, self._boundary = contenttype.form_kind(header)
        if self._kind != contenttype.MULTIPART and (self.body_length or 0) > forms.MAX_BODY:
            raise _too_large(forms.MAX_BODY)

    def _idempotency_key(self) -> str | None:
        keys = self.request.headers.get_list("Idempotency-Key")
        if not keys:
            return None
        if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
            raise InvalidInput(
                "A header is wrong.",
                errors=[FieldError("Idempotency-Key", "must be 1 to 64 visible ASCII characters")],
            )
        return keys[0]

    def _make_form(self, draft: Draft) -> Form:
        if self._kind == contenttype.MULTIPART:
            return MultipartForm(self._boundary, draft)
        parse = forms.parse_json if self._kind == contenttype.JSON else forms.parse_urlencoded
        return _SmallForm(draft, self._in_thread(parse))

    def _in_thread(self, parse: Callable[[bytes], forms.Pairs]) -> _Parse:
        async def parse_aside(body: bytes) -> forms.Pairs:
            if len(body) < LARGE_FORM:
                return parse(body)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.common.readers, parse, body)

        return parse_aside

    async def take(self, chunk: bytes) -> None:
        """Count a piece of the body and feed it to the form."""
        if self.request.method != "POST":
            await super().take(chunk)
            return
        self._received += len(chunk)
        largest = self.service.config.server.max_upload
        if self._received > largest:
            raise _too_large(largest)
        self._busy = True
        try:
            await self._form.feed(chunk)
        finally:
            self._busy = False
            self._last_byte = asyncio.get_running_loop().time()

    async def post(self) -> None:
        """Finish the draft: 201 for a new task, 200 for one that its key made before."""
        task, created = await self.complete()
        self.answer(task, created)

    async def complete(self) -> tuple[JSON, bool]:
        """The task that the form makes, and whether it is new."""
        self.stop_timer()
        try:
            draft = self._draft or await self._admit()  # there may be no body at all
            self._finishing = True
            await self._form.end()
            task, created = await draft.finish()
            self._draft = None
            return task, created
        finally:
            self._finishing = False
            await self.give_up_body()

    def answer(self, task: JSON, created: bool) -> None:
        """Write the task as the API does."""
        self.set_status(201 if created else 200)
        self.set_header("Location", f"{self.service.config.public_url}/task/{task['uuid']}")
        self.write_json(task)

    async def give_up_body(self) -> None:
        """Abort the draft, unless it is being finished: what has arrived whole is not undone because
        its client did not wait for the answer."""
        if self._finishing:
            return
        draft, self._draft = self._draft, None
        if draft is not None:
            try:
                await self._form.settle()
            finally:
                await draft.abort()

    # -- progress ------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._last_byte = asyncio.get_running_loop().time()
        self.start_timer(PROGRESS_SECONDS, self._check_progress)

    def _check_progress(self) -> None:
        quiet = 0.0 if self._busy else asyncio.get_running_loop().time() - self._last_byte
        if quiet < PROGRESS_SECONDS:
            self.start_timer(PROGRESS_SECONDS - quiet, self._check_progress)
            return
        log.info("request %s: no byte of the body for %d s, closing", self.request_id, PROGRESS_SECONDS)
        self.stop_timer()
        self._connection.close()


class _Parse(Protocol):
    async def __call__(self, body: bytes) -> forms.Pairs: ...


class _SmallForm:
    """A form that is collected, parsed as a whole, and then handed over field by field."""

    def __init__(self, draft: Draft, parse: _Parse) -> None:
        self._draft = draft
        self._parse = parse
        self._body = bytearray()

    async def feed(self, chunk: bytes) -> None:
        if len(self._body) + len(chunk) > forms.MAX_BODY:
            raise _too_large(forms.MAX_BODY)
        self._body += chunk

    async def end(self) -> None:
        for name, value in await self._parse(bytes(self._body)):
            self._draft.field(name, value)

    async def settle(self) -> None:
        """Nothing is ever under way."""


def _too_large(largest: int) -> TooLarge:
    return TooLarge(f"The body may have at most {largest} bytes.")
