"""Pages whose forms are small: a body of plain fields, read whole once the request was let in."""

from __future__ import annotations

from drmaaticd.errors import UnsupportedMediaType
from drmaaticd.web import contenttype, forms
from drmaaticd.web.ui.page import PageHandler


class FormPage(PageHandler):
    """A page with a form of fields alone; what is over `base.MAX_IGNORED_BODY` is refused."""

    _body: bytearray

    async def admit_body(self) -> None:
        """Nobody's fields are read but those of our own forms' senders."""
        await self.admit_form()
        header = self.request.headers.get("Content-Type", contenttype.URLENCODED)
        if contenttype.parse(header)[0] != contenttype.URLENCODED:
            raise UnsupportedMediaType(f"A form here is sent as {contenttype.URLENCODED}.")
        self._body = bytearray()
        await super().admit_body()

    async def admit_form(self) -> None:
        """Raise what speaks against the sender; by default as `caller` does."""
        await self.caller()

    async def take(self, chunk: bytes) -> None:
        """Collect the body, which `super` bounds."""
        await super().take(chunk)
        self._body += chunk

    @property
    def fields(self) -> dict[str, str]:
        """The form's fields, of repeated ones the last. Raises `InvalidInput`, `TooLarge`."""
        return dict(forms.parse_urlencoded(bytes(getattr(self, "_body", b""))))
