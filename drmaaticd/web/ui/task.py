"""A task's page: its state, output, files, and what can be done to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from drmaaticd.errors import Forbidden, NotAuthenticated, NotFound
from drmaaticd.web.interface import Caller, FileAnswer
from drmaaticd.web.jsontext import clean
from drmaaticd.web.paths import task_uuid
from drmaaticd.web.ui import words
from drmaaticd.web.ui.logtail import last_lines
from drmaaticd.web.ui.page import POLICY, PageHandler
from drmaaticd.web.ui.session import LINK_COOKIE, cookie_attributes
from drmaaticd.web.ui.timeline import timeline

#: Bytes of a log's end that stand in the page itself, for browsers without JavaScript.
TAIL = 4096

#: Files that are listed; all of them are in the archive.
MOST_FILES = 500

#: Other tasks that are named, and that are offered for a comparison.
MOST_RELATED = 20
MOST_COMPARED = 10

#: Sent instead of a log that is shown only from its index on: arrays have one for each.
_INDEX = "<index>"


@dataclass(frozen=True, slots=True)
class Log:
    """The end of one output stream. `size` in bytes, None while there is no such file."""

    key: str
    title: str
    file: str
    size: int | None
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class File:
    """A row of the list of files. `path` is percent-encoded, `modified` RFC 3339."""

    path: str
    folder: str
    name: str
    size: int
    modified: str
    note: str


class TaskPage(PageHandler):
    """``/ui/task/{uuid}``; ``?index=`` chooses an array's member.

    ``?part=live`` leaves out what the page's script cares for itself, ``?part=state`` the files too: an
    array's folder may hold very many, and its state changes often.
    """

    section = "tasks"
    policy = POLICY.replace("frame-src 'self'", "frame-src 'self' blob:")  # a PDF: see files.js

    async def get(self, uuid: str) -> None:
        """Write the page."""
        uuid = task_uuid(uuid)
        if (link := self.query.text("link")) is not None:
            await self._follow(uuid, link)
            return
        caller = await self.caller(uuid)
        try:
            task = self.service.task(caller, uuid)
        except Forbidden as refusal:
            await self._write_visible(caller, uuid, refusal)
            return
        extra = self.service.particulars.task(caller, uuid)
        index = self._index(task)
        part = self.query.choice("part", ("all", "live", "state"))
        names = {key: task[key].replace(_INDEX, str(index)) for key in ("stdout", "stderr")}
        files, more, any_files = ([], 0, False) if part == "state" else await self._list(caller, task)
        said = words.state(task)
        self.write_page(
            "task.html",
            title=f"{said} · {task['task_name']}",
            task=task,
            extra=extra,
            said="Stopping" if extra["stopping"] else said,
            tone=words.tone(task),
            now=datetime.now(UTC).isoformat(timespec="milliseconds"),
            final=task["state"] in words.FINAL,
            steps=timeline(task, extra["submitted"]),
            usually=self._usually(task),
            index=index,
            logs=[]
            if part != "all"
            else [await self._output(caller, uuid, key, names[key]) for key in names],
            names=names,
            files=files,
            more_files=more,
            any_files=any_files,
            part=part,
            params=[_shown(param, task["files_name"]) for param in task["params"]],
            related=self._related(caller, task),
            others=[] if part != "all" else self._others(caller, task),
            **self._links(uuid),
        )

    def _usually(self, task: Mapping[str, Any]) -> str:
        """How long tasks like this one wait and run, as long as that is of interest."""
        if task["state"] in words.FINAL:
            return ""
        return words.usually(self.service.history.expected(task["task_name"]), "start_date" in task)

    def _links(self, uuid: str) -> dict[str, Callable[[str], str]]:
        """How templates address a file, by its percent-encoded path, and an archive, by its kind."""
        return {
            "file_link": lambda path: f"{self.root}/ui/api/task/{uuid}/file/{path}",
            "download": lambda kind: self.link("api", "task", uuid, "download", format=kind),
        }

    async def _write_visible(self, caller: Caller, uuid: str, refusal: Forbidden) -> None:
        """Write the files of somebody else's task whose output all may read; else raise the refusal."""
        try:
            entries = await self.service.files(caller, uuid, details=True)
        except Forbidden:
            raise refusal from None
        self.write_page(
            "task_visible.html",
            title=f"Files of the task {uuid[:8]}",
            files=[_file(entry, {}) for entry in entries[:MOST_FILES]],
            more_files=max(0, len(entries) - MOST_FILES),
            **self._links(uuid),
        )

    async def _follow(self, uuid: str, link: str) -> None:
        """Take a link's secret out of the address: it goes on as a cookie of this one task."""
        anyone = await self.service.authenticate(None, self.address)
        try:
            self.service.follow(anyone, uuid, link)
        except NotAuthenticated as error:
            raise Forbidden(
                "This link is not valid, or not any more. Ask for a new one where you have it from."
            ) from error
        for place in ("task", "api/task"):  # one name, two paths: Tornado's set_cookie keeps one a name
            cookie: SimpleCookie = SimpleCookie({LINK_COOKIE: link})
            attributes = cookie_attributes(self.service.config.public_url)
            attributes["path"] = f"{attributes['path'].rstrip('/')}/{place}/{uuid}"
            cookie[LINK_COOKIE].update(attributes)
            self.add_header("Set-Cookie", cookie[LINK_COOKIE].OutputString())
        self.redirect_to(self.link("task", uuid))

    def _index(self, task: Mapping[str, Any]) -> int | None:
        """The member of the array whose output is shown; the first unless told."""
        array = task.get("array")
        if array is None:
            return None
        index = self.query.number("index", array["begin"])
        if index not in range(array["begin"], array["end"] + 1, array["step"]):
            raise NotFound(f"The task has no member {index}.")
        return index

    async def _output(self, caller: Caller, uuid: str, key: str, file: str) -> Log:
        title = "Standard output" if key == "stdout" else "Standard error"
        try:
            answer = await self.service.open_file(caller, uuid, file.encode())
        except NotFound:
            return Log(key, title, file, None, "", cut=False)
        size = answer.opened.size
        read = asyncio.get_running_loop().run_in_executor
        data = await read(self.common.readers, _read_end, answer)
        whole = size <= TAIL
        return Log(key, title, file, size, last_lines(data, whole), cut=not whole)

    async def _list(self, caller: Caller, task: Mapping[str, Any]) -> tuple[list[File], int, bool]:
        """The files that are listed, how many are not, and whether there are any at all."""
        try:
            entries = await self.service.files(caller, task["uuid"], details=True)
        except NotFound:
            return [], 0, False
        any_files = bool(entries)
        notes = {name: f"uploaded as “{client}”" for name, client in task["files_name"].items()}
        if "array" in task:  # the map leads to the members' output
            output = re.compile(rf"{task['uuid'][:8]}_(out|err)\.\d+\.txt")
            entries = [entry for entry in entries if not output.fullmatch(entry["path"])]
        else:
            notes |= _output_notes(task["uuid"], "")
        for other in (task.get("parent_task", ""), *task["descendants"]):
            notes |= _output_notes(other, f" of the task {other[:8]}") if other else {}
        files = [_file(entry, notes) for entry in entries]
        files.sort(key=lambda file: bool(file.note))  # what the job made comes first
        return files[:MOST_FILES], max(0, len(files) - MOST_FILES), any_files

    def _related(self, caller: Caller, task: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
        """The tasks that this one belongs with, by kind: what is known of each, at least its UUID."""
        kinds = {
            "Works in the folder of": [task["parent_task"]] if "parent_task" in task else [],
            f"Waits for ({_WAITS[task.get('dependency_type', 'afterany')]})": task["depends_on"],
            "Tasks in its folder": task["descendants"],
        }
        return [(kind, self._known(caller, uuids)) for kind, uuids in kinds.items() if uuids]

    def _known(self, caller: Caller, uuids: list[str]) -> list[dict[str, Any]]:
        shown = uuids[:MOST_RELATED]
        _, tasks = self.service.tasks(caller, {"ids": ",".join(shown)}, 1, len(shown))
        known = {task["uuid"]: task for task in tasks}
        return [known.get(uuid, {"uuid": uuid}) for uuid in shown]

    def _others(self, caller: Caller, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The caller's latest other tasks of the same script."""
        found = self.service.history.latest(caller, task["task_name"], MOST_COMPARED + 1)
        return [one for one in found if one["uuid"] != task["uuid"]][:MOST_COMPARED]


_WAITS = {
    "afterany": "until they have ended",
    "afterok": "until they are done",
    "afternotok": "until they have failed",
}


def _read_end(answer: FileAnswer) -> bytes:
    """The last bytes of a file, which is closed. Blocking."""
    opened = answer.opened
    try:
        start = max(0, opened.size - TAIL)
        return opened.pread(start, opened.size - start)
    finally:
        opened.close()


def _file(entry: Mapping[str, Any], notes: Mapping[str, str]) -> File:
    shown = clean(unquote(entry["path"], errors="replace"))
    folder, slash, name = shown.rpartition("/")
    return File(
        path=entry["path"],
        folder=folder + slash,
        name=name,
        size=entry["size"],
        modified=entry["modified"],
        note=notes.get(shown, ""),
    )


def _output_notes(uuid: str, whose: str) -> dict[str, str]:
    """What is said of the output files of a task that shares this folder."""
    titles = {"out": "standard output", "err": "standard error"}
    return {f"{uuid[:8]}_{key}.txt": title + whose for key, title in titles.items()}


def _shown(param: Mapping[str, Any], files_name: Mapping[str, str]) -> dict[str, Any]:
    """A parameter with its values: what is shown, and the file it names if it is one."""
    value = param["value"]
    values = value if isinstance(value, list) else [value]
    return {
        "name": param["name"],
        "values": [
            {"text": files_name.get(one, one), "file": quote(one) if one in files_name else ""}
            for one in map(str, values)
        ],
    }


class MembersHandler(PageHandler):
    """``/ui/task/{uuid}/members``: the states of an array's members, as JSON."""

    async def get(self, uuid: str) -> None:
        """Write them."""
        uuid = task_uuid(uuid)
        self.write_json(self.service.particulars.members(await self.caller(uuid), uuid))


class TaskActionPage(PageHandler):
    """``/ui/task/{uuid}/{action}``: asks first (GET), acts (POST) and leads back."""

    section = "tasks"

    QUESTIONS: ClassVar[dict[str, tuple[str, str, str]]] = {
        "stop": ("Stop this task?", "Its job is ended; the files so far remain.", "Stop the task"),
        "delete": (
            "Delete this task?",
            "Its job is ended if it still runs, and its files are removed. There is no way back.",
            "Delete the task",
        ),
    }

    async def get(self, uuid: str, action: str) -> None:
        """Ask; without JavaScript this is where the buttons lead."""
        caller = await self.caller()
        task = self.service.task(caller, task_uuid(uuid))
        if action not in self.QUESTIONS:
            raise NotFound("There is no such page.")
        question, consequence, yes = self.QUESTIONS[action]
        self.write_page(
            "task_sure.html", title=question, task=task, action=action, consequence=consequence, yes=yes
        )

    async def post(self, uuid: str, action: str) -> None:
        """Do it."""
        caller = await self.caller()
        uuid = task_uuid(uuid)
        if action == "delete":
            await self.service.delete(caller, uuid)
            self.redirect_to(self.link("tasks"))
            return
        if action == "own":
            await self.service.take_ownership(caller, uuid)
        else:
            await self.service.control(caller, uuid, action)
        self.redirect_to(self.link("task", uuid))
