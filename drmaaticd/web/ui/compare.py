"""The page that puts two tasks side by side."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from drmaaticd import mime
from drmaaticd.errors import Forbidden, InvalidInput, NotFound
from drmaaticd.web.interface import JSON, Caller
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.ui import comparison
from drmaaticd.web.ui.comparison import Line
from drmaaticd.web.ui.page import PageHandler

#: Pairs of files that are shown; the rest is named.
MOST_PAIRS = 12

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(slots=True)
class Side:
    """One task's file of a pair."""

    task: JSON
    path: str
    """As the API's ``?details=1`` writes it: percent-encoded."""
    name: str
    size: int
    kind: str = ""
    text: list[str] | None = None
    cut: bool = False
    """Whether there is more than `text`."""
    head: bytes = b""
    lines: list[Line | None] = field(default_factory=list)


@dataclass(slots=True)
class Pair:
    """A file of either task, or of one alone."""

    title: str
    sides: list[Side | None]
    verdict: str = ""


class ComparePage(PageHandler):
    """``/ui/compare?a=UUID&b=UUID``, or with ``task`` twice; without them it asks for them."""

    section = "tasks"
    _room = comparison.PAGE_TEXT

    async def get(self) -> None:
        """Write the comparison."""
        caller = await self.caller()
        asked = self._asked()
        problem, tasks = "", list[JSON]()
        if any(asked):
            try:
                tasks = self._tasks(caller, asked)
            except (InvalidInput, NotFound, Forbidden) as error:
                problem = error.detail or error.title
                self.set_status(error.status)
        if not tasks:
            self.write_page("compare_ask.html", title="Compare two tasks", asked=asked, problem=problem)
            return
        one, other = tasks
        pairs, left_out = await self._pairs(caller, one, other)
        self.write_page(
            "compare.html",
            title="Two tasks compared",
            one=one,
            other=other,
            params=comparison.param_rows(one, other),
            facts=comparison.fact_rows(one, other),
            pairs=pairs,
            left_out=left_out,
            file_link=self._file_link,
        )

    def _asked(self) -> list[str]:
        """The two UUIDs as they were asked for; empty where one is missing."""
        chosen = [text.decode("utf-8", "replace") for text in self.request.query_arguments.get("task", ())]
        if chosen:
            return chosen if len(chosen) > 1 else [*chosen, ""]
        return [(self.query.text(name) or "").strip() for name in ("a", "b")]

    def _tasks(self, caller: Caller, asked: list[str]) -> list[JSON]:
        """Both tasks. People paste addresses, so that the UUID is taken from wherever it stands."""
        if len(asked) != 2 or not all(asked):
            raise InvalidInput(
                f"Two tasks are compared, and {len([one for one in asked if one])} were chosen."
            )
        found = []
        for text in asked:
            uuid = _UUID.search(text)
            if uuid is None:
                raise InvalidInput(f"“{text[:60]}” holds no UUID of a task.")
            try:
                found.append(self.service.task(caller, task_uuid(uuid[0])))
            except (NotFound, Forbidden) as error:
                raise type(error)(f"{uuid[0]}: {error.detail}") from error
        if found[0]["uuid"] == found[1]["uuid"]:
            raise InvalidInput("These are one and the same task.")
        if found[0]["task_name"] != found[1]["task_name"]:
            raise InvalidInput(
                f"These are tasks of two scripts, {found[0]['task_name']} and {found[1]['task_name']}."
            )
        return found

    # -- outputs -------------------------------------------------------------------------------

    def _file_link(self, side: Side) -> str:
        return f"{self.root}/ui/api/task/{side.task['uuid']}/file/{side.path}"

    async def _pairs(self, caller: Caller, one: JSON, other: JSON) -> tuple[list[Pair], list[str]]:
        """The outputs, and the names of those that are too many to be shown."""
        left, right = [await self._outputs(caller, task) for task in (one, other)]
        keys = sorted({**left, **right}, key=lambda key: (not key.startswith("<task>_out"), key))
        pairs = [
            Pair(comparison.output_title(key), [left.get(key), right.get(key)]) for key in keys[:MOST_PAIRS]
        ]
        for pair in pairs:
            await self._look_at(caller, pair)
        return pairs, [comparison.output_title(key) for key in keys[MOST_PAIRS:]]

    async def _outputs(self, caller: Caller, task: JSON) -> dict[str, Side]:
        """A task's files but those that were sent, by what they are called with both tasks."""
        try:
            listed = await self.service.files(caller, task["uuid"], True)
        except NotFound:
            return {}
        found = {}
        for entry in listed:
            name = unquote_to_bytes(entry["path"]).decode("utf-8", "replace")
            if name not in task["files_name"]:
                side = Side(task, entry["path"], name, entry["size"], mime.content_type(name))
                found[comparison.output_key(task, name)] = side
        return found

    async def _look_at(self, caller: Caller, pair: Pair) -> None:
        for side in pair.sides:
            if side is not None and not side.kind.startswith("image/"):
                side.head = await self._head(caller, side)
                side.text, side.cut = comparison.lines_of(side.head, self._room // 2)
                side.cut |= side.size > len(side.head)
                self._room -= sum(map(len, side.text or ()))
        one, other = pair.sides
        if one is None or other is None:
            present = one or other
            if present is not None:
                present.lines = [Line(text, False) for text in present.text or ()]
            return
        pair.verdict = _verdict(one, other)
        texts = one.text or [], other.text or []
        keys = [
            [comparison.output_key(side.task, line) for line in text]
            for side, text in zip((one, other), texts, strict=True)
        ]
        rows = comparison.side_by_side(*texts, keys[0], keys[1])
        one.lines = [left for left, _ in rows]
        other.lines = [right for _, right in rows]

    async def _head(self, caller: Caller, side: Side) -> bytes:
        """The first bytes of a file; none where it has gone meanwhile."""
        try:
            answer = await self.service.open_file(caller, side.task["uuid"], unquote_to_bytes(side.path))
        except (NotFound, Forbidden):
            return b""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.common.readers, answer.opened.pread, 0, comparison.HEAD)
        finally:
            answer.opened.close()


def _verdict(one: Side, other: Side) -> str:
    """What is known of the two files from their sizes and beginnings."""
    if one.size != other.size or one.head != other.head:
        return "these differ"
    if one.kind.startswith("image/"):
        return "of the same size"
    return "the same with both" if one.size <= len(one.head) else "of the same size, with the same beginning"
