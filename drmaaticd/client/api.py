"""`Client`: the REST API as Python calls, over one kept connection.

Uploads and downloads are streamed. What is printed and how a command ends is the business of `cli`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote

from drmaaticd.client import credentials
from drmaaticd.client import watching as waiting
from drmaaticd.client.download import Download, blocks, is_there, places, stamp
from drmaaticd.client.failures import ApiError, Refused, Unreachable
from drmaaticd.client.upload import MultipartBody, Progress, Upload
from drmaaticd.client.wire import PATIENCE, TIMEOUT, Notice, Wire
from drmaaticd.client.wording import File, Link, Me, Script, Task, TaskPage, Token

Single = str | int | float | bool
Params = Mapping[str, Single | Sequence[Single]]
Files = Mapping[str, Path | Upload | Sequence[Path | Upload]]
Action = Literal["stop", "hold", "release", "suspend", "resume"]

#: Tasks asked for at a time.
PAGE_SIZE = 100


class Client:
    """One service at `url`, for the bearer of `token` (None: the anonymous caller).

    Every method raises `ApiError` where the service refuses and `Unreachable` where it does not
    answer. What cannot be done twice by that is repeated for up to `patience` seconds while the
    service is away or busy, as ``Retry-After`` says; `notice` is called before each pause with the
    reason and the seconds. Raises ValueError for a URL or token that can be none.

    Not for several threads at once. Use as a context manager, or `close` it.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: tuple[float, float] = TIMEOUT,
        patience: float = PATIENCE,
        notice: Notice | None = None,
    ) -> None:
        self._wire = Wire(url, token, timeout=timeout, patience=patience, notice=notice)

    @classmethod
    def from_environment(cls, url: str | None = None, **options: Any) -> Self:
        """The client that ``drmaatic`` would use: `credentials.resolve` says for whom."""
        return cls(*credentials.resolve(url), **options)

    @property
    def url(self) -> str:
        """Where the service is, without a slash at the end."""
        return self._wire.url

    @url.setter
    def url(self, url: str) -> None:
        self._wire.url = url.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    # The caller

    def me(self) -> Me:
        """Who the caller is."""
        return cast(Me, self._wire.json("GET", "/me"))

    def exchange(self, user_name: str, provider_token: str) -> Token:
        """A token of the service for that of an identity provider (ORCID), which must be `user_name`'s."""
        with Client(self.url, provider_token, timeout=self._wire.timeout) as other:
            return cast(Token, other._wire.json("GET", f"/token/{quote(user_name, safe='')}"))

    def sign_out(self) -> None:
        """Revoke the token."""
        self._wire.call("DELETE", "/token").close()

    def credit(self, required: int | None = None) -> dict[str, Any]:
        """``{"available_cpu_credit": …}``; with `required` also ``"wait_time"``, seconds or "infinite"."""
        params = {} if required is None else {"required": str(required)}
        return cast(dict[str, Any], self._wire.json("GET", "/cpu-credit/", params=params))

    # Scripts

    def scripts(self, search: str | None = None) -> Iterator[Script]:
        """The scripts that the caller may run."""
        return cast(Iterator[Script], self._pages("/script", {"search": search} if search else {}))

    def script(self, name: str) -> Script:
        """One script with its parameters."""
        return cast(Script, self._wire.json("GET", f"/script/{quote(name, safe='')}"))

    # Tasks

    def run(
        self,
        script: str,
        params: Params | None = None,
        files: Files | None = None,
        *,
        description: str = "",
        parent: str | None = None,
        dependencies: Sequence[str] = (),
        dependency_type: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Task:
        """Submit a task and return it. Files are read while they are sent.

        If the connection breaks, all is sent again with the same idempotency key, so that no second
        task can come of it. To go on after an `Unreachable`, give the same request the key that it
        names (22 to 64 characters, if you bring your own).
        """
        fields = [("task_name", script), *_pairs(params or {})]
        optional = {
            "task_description": description,
            "parent_task": parent,
            "dependencies": ",".join(dependencies),
            "dependency_type": dependency_type,
        }
        fields += [(name, value) for name, value in optional.items() if value]
        sent = [(name, file) for name, given in (files or {}).items() for file in _listed(given)]
        key = idempotency_key or uuid.uuid4().hex
        headers = {"Idempotency-Key": key}
        data: Any = fields
        if sent:
            data = MultipartBody(fields, sent, progress)
            headers["Content-Type"] = data.content_type
        try:
            return cast(Task, self._wire.json("POST", "/task/", data=data, headers=headers))
        except Unreachable as error:
            error.idempotency_key = key
            raise

    def rerun(self, task: str, folder: Path, *, progress: Progress | None = None, **options: Any) -> Task:
        """Submit the same again, with the files that were sent; `folder` holds them meanwhile.

        `options` are those of `run`; `params` and `files` in them take the place of what was sent.
        """
        old = self.task(task)
        kinds = {param["name"]: param["type"] for param in self.script(old["task_name"])["param"]}
        params: dict[str, Any] = dict(options.pop("params", None) or {})
        files: dict[str, Any] = dict(options.pop("files", None) or {})
        for sent in old["params"]:
            name = sent["name"]
            if name in params or name in files:
                continue
            if kinds.get(name) == "file":
                files[name] = [self._again(old, file, folder) for file in _listed(sent["value"])]
            else:
                params[name] = sent["value"]
        options.setdefault("description", old["task_description"])
        return self.run(old["task_name"], params, files, progress=progress, **options)

    def _again(self, task: Task, stored: str, folder: Path) -> Upload:
        """A file that a task was sent, fetched to be sent once more under its sender's name."""
        path = f"{_task_path(task['uuid'])}/file/{quote(stored, safe='')}"
        target = folder / uuid.uuid4().hex
        return Upload(Download(self._wire, path, target).fetch(), task["files_name"].get(stored, stored))

    def task(self, task: str) -> Task:
        """The task with this UUID."""
        return cast(Task, self._wire.json("GET", _task_path(task)))

    def tasks(self, **filters: str) -> Iterator[Task]:
        """The caller's tasks, newest first; the filters are the API's (`state`, `search`, `ids`, …)."""
        return cast(Iterator[Task], self._pages("/task/", filters))

    def task_page(self, page: int = 1, page_size: int = PAGE_SIZE, **filters: str) -> TaskPage:
        """One page of `tasks`, with the count of all."""
        params = {**filters, "page": str(page), "page_size": str(page_size)}
        return cast(TaskPage, self._wire.json("GET", "/task/", params=params))

    def wait(
        self, task: str, timeout: float | None = None, changed: Callable[[Task], None] | None = None
    ) -> Task:
        """The task once it has ended. `changed` is called with it whenever its state is a new one.

        Raises `WaitTimeout` after `timeout` seconds. The task goes on whatever happens here.
        """
        return waiting.changes(self.looks(task, timeout), changed)

    def looks(self, task: str, timeout: float | None = None) -> Iterator[Task]:
        """The task, again and again, until it has ended: at each of its events, or by asking."""
        path = _task_path(task)

        def ask(patience: float) -> Task:
            return cast(Task, self._wire.json("GET", path, patience=patience))

        return waiting.Watch(self._wire, path, ask).looks(timeout)

    def control(self, task: str, action: Action) -> str:
        """Carry out an action and return what came of it; 409 where the state does not allow it."""
        answer = self._wire.json("PUT", f"{_task_path(task)}/{action}")
        return str(answer.get("detail", ""))

    def stop(self, task: str) -> str:
        """Stop the task."""
        return self.control(task, "stop")

    def delete(self, task: str) -> None:
        """Stop the task and remove it with its files."""
        try:
            self._wire.call("DELETE", _task_path(task)).close()
        except ApiError as error:
            if not (error.repeated and error.status == HTTPStatus.NOT_FOUND):
                raise

    def link(self, task: str, lifetime: int | None = None) -> Link:
        """A link that lets anyone read this one task, for `lifetime` seconds (else the service's own)."""
        params = {} if lifetime is None else {"lifetime": str(lifetime)}
        return cast(Link, self._wire.json("POST", f"{_task_path(task)}/link", params=params))

    def take_ownership(self, task: str) -> None:
        """Make a task that has no owner, and its descendants, the caller's."""
        self._wire.call("PUT", f"{_task_path(task)}/get_ownership").close()

    # Files

    def files(self, task: str) -> list[File]:
        """``{"path", "size", "modified"}`` of each file; `path` is percent-encoded, as `read` wants it."""
        return cast(list[File], self._wire.json("GET", f"{_task_path(task)}/file/", params={"details": "1"}))

    def read(self, task: str, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of one file from `start` on, block by block.

        `path` is percent-encoded. Raises `ApiError` 416 if there are no more; its `content_range`
        holds the size.
        """
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        address = f"{_task_path(task)}/file/{path}"
        with self._wire.call("GET", address, headers=headers, stream=True) as response:
            if start and response.status_code != HTTPStatus.PARTIAL_CONTENT:
                raise Refused("the service, or what stands before it, cannot send parts of files")
            yield from blocks(response)

    def download(
        self,
        task: str,
        folder: Path,
        paths: Sequence[str] = (),
        *,
        replace: bool = False,
        progress: Callable[[File], Progress] | None = None,
    ) -> list[Path]:
        """Store a task's files below `folder` and return where; `paths` (percent-encoded): those alone.

        What an earlier call has stored is left as it is, and what it has begun is continued. Raises
        `Refused`, before anything is written, for another file that is there (unless `replace`) and
        for a name that would lead out of the folder. `progress` makes each file's own.
        """
        listed = self.files(task)
        if paths:
            missing = set(paths) - {file["path"] for file in listed}
            if missing:
                raise Refused(f"the task has no file {', '.join(sorted(missing))}")
            listed = [file for file in listed if file["path"] in paths]
        wanted = places(folder, listed)
        for file, target in wanted:
            if not replace and os.path.lexists(target) and not is_there(file, target):
                raise Refused(f"{target} exists already, and is another")
        for file, target in wanted:
            if not is_there(file, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                address = f"{_task_path(task)}/file/{file['path']}"
                Download(self._wire, address, target, progress and progress(file)).fetch()
                stamp(file, target)
        return [target for _, target in wanted]

    def archive(
        self,
        task: str,
        target: Path,
        kind: Literal["zip", "tar.gz"] = "zip",
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Store all files of an ended task as one archive, which is made on the way: from the start if it
        breaks off. `target` is replaced."""
        query = "" if kind == "zip" else f"?format={kind}"
        return Download(self._wire, f"{_task_path(task)}/download{query}", target, progress).fetch()

    # The wire

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Any]:
        page = 1
        while True:
            asked = {**params, "page": str(page), "page_size": str(PAGE_SIZE)}
            answer = self._wire.json("GET", path, params=asked)
            yield from answer["results"]
            if answer.get("next") is None:
                return
            page += 1


def _task_path(task: str) -> str:
    return f"/task/{quote(task, safe='')}"


def _listed(given: Any) -> Sequence[Any]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _pairs(params: Params) -> Iterator[tuple[str, str]]:
    for name, given in params.items():
        for value in _listed(given):
            yield name, str(value).lower() if isinstance(value, bool) else str(value)
