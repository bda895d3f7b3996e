"""``/openapi.json`` and ``/docs``: what the API is, for programs and for people.

Both differ from caller to caller by the scripts that each may run, and are kept until these change.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from drmaaticd.openapi.document import document
from drmaaticd.openapi.parts import JSON
from drmaaticd.web import jsontext, reference
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Caller, Service

#: Callers with different scripts for whom the texts are kept.
KEPT = 32

Key = tuple[str, bool, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is sent."""

    content: bytes
    etag: str

    @classmethod
    def of(cls, content: bytes) -> Text:
        """With the entity tag that its content gives it."""
        return cls(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Documents:
    """The texts for the application's routes, made when they are first asked for."""

    def __init__(self, service: Service, routes: Sequence[tuple[str, Sequence[str]]]) -> None:
        self._service = service
        self._routes = routes
        self._version = -1
        self._kept: OrderedDict[Key, Text] = OrderedDict()

    def openapi(self, caller: Caller) -> Text:
        """The OpenAPI document, as JSON."""
        return self._text("openapi", caller, jsontext.dumps)

    def page(self, caller: Caller) -> Text:
        """The page of the documentation, as HTML."""
        return self._text("page", caller, reference.page)

    def _text(self, kind: str, caller: Caller, write: Callable[[JSON], bytes]) -> Text:
        version, scripts = self._service.offer(caller)
        if version != self._version:
            self._kept.clear()
            self._version = version
        signed_in = caller.user is not None
        key = (kind, signed_in, tuple(script["name"] for script in scripts))
        text = self._kept.get(key)
        if text is None:
            site = replace(self._service.site, signed_in=signed_in)
            text = self._kept[key] = Text.of(write(document(self._routes, scripts, site)))
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return text


class _DocumentHandler(Handler):
    """Open to everyone: what there is for the anonymous is shown to them."""

    open_to_all = True
    _etag: str | None = None

    def compute_etag(self) -> str | None:
        """The text's own."""
        return self._etag

    def send(self, text: Text, kind: str) -> None:
        """Write a text, or that it is still the same."""
        self._etag = text.etag
        self.set_header("Content-Type", kind)
        self.write(text.content)


class OpenapiHandler(_DocumentHandler):
    """``/openapi.json``."""

    async def get(self) -> None:
        """Write the OpenAPI document."""
        self.send(self.common.documents.openapi(await self.caller()), "application/json")


class DocsHandler(_DocumentHandler):
    """``/docs``."""

    async def get(self) -> None:
        """Write the page."""
        text = self.common.documents.page(await self.caller())
        self.set_header("Content-Security-Policy", reference.POLICY)
        self.send(text, "text/html; charset=utf-8")
