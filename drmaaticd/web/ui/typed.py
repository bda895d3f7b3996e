"""What a page's form sends, on its way into a draft: a browser's habits are evened out, files are kept.

`Typed` also remembers the texts, so that a form that is refused can be shown again as it was.
"""

from __future__ import annotations

from drmaaticd.errors import DrmaaticdError
from drmaaticd.web.interface import JSON, Draft
from drmaaticd.web.ui.fields import KEEP, is_left_out, public_params


class Typed:
    """Stands before the draft of a task of `script`."""

    def __init__(self, draft: Draft, script: JSON) -> None:
        self._draft = draft
        self._params = {param["name"]: param for param in public_params(script)}
        self._keeps: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        """The text fields as they stood in the form."""
        self.files: dict[str, list[str]] = {}
        """The names of the files that were chosen."""
        draft.field("task_name", script["name"])

    def field(self, name: str, value: str) -> None:
        """Take a field; what a browser sends for an untouched one is left out."""
        value = value.replace("\r\n", "\n")  # a form sends all line breaks so (HTML, section 4.10.22.4)
        if name == "task_name":
            return  # the address says it
        self.texts.setdefault(name, []).append(value)
        if name.startswith(KEEP):
            uuid, _, stored_name = value.partition("/")
            self._keeps.append((name.removeprefix(KEEP), uuid, stored_name))
            return
        param = self._params.get(name)
        if param is not None and param.get("multiple") and not param.get("choices"):
            for line in filter(None, value.split("\n")):
                self._draft.field(name, line)
        elif value or param is None or not is_left_out(param):
            self._draft.field(name, value)

    async def open_file(self, name: str, client_name: str) -> None:
        """Begin a file. It takes the place of the one that was kept, or follows those that are."""
        self.files.setdefault(name, []).append(client_name)
        mine = [keep for keep in self._keeps if keep[0] == name]
        self._keeps = [keep for keep in self._keeps if keep[0] != name]
        if self._params.get(name, {}).get("multiple"):
            for keep in mine:
                await self._draft.keep_file(*keep)
        await self._draft.open_file(name, client_name)

    async def write(self, data: bytes) -> None:
        """Append to the file that is open."""
        await self._draft.write(data)

    async def close_file(self) -> None:
        """End the file that is open."""
        await self._draft.close_file()

    async def keep_file(self, name: str, uuid: str, stored_name: str) -> None:
        """Take a file over, once the form is complete."""
        self._keeps.append((name, uuid, stored_name))

    async def finish(self) -> tuple[JSON, bool]:
        """Take over the files that are kept, and make the task."""
        while self._keeps:
            await self._draft.keep_file(*self._keeps.pop(0))
        return await self._draft.finish()

    async def abort(self) -> None:
        """Give up."""
        await self._draft.abort()


class Refused:
    """Takes the place of a draft that is refused: the form is read for its texts alone."""

    def __init__(self, error: DrmaaticdError) -> None:
        self._error = error

    def field(self, name: str, value: str) -> None:
        """Drop it."""

    async def open_file(self, name: str, client_name: str) -> None:
        """Drop it."""

    async def write(self, data: bytes) -> None:
        """Drop it."""

    async def close_file(self) -> None:
        """Drop it."""

    async def keep_file(self, name: str, uuid: str, stored_name: str) -> None:
        """Drop it."""

    async def finish(self) -> tuple[JSON, bool]:
        """Raise why it is refused."""
        raise self._error

    async def abort(self) -> None:
        """There is nothing to give up."""
