"""`Client`: the REST API as Python calls, over one kept connection.

Uploads and downloads are streamed. What is printed and how a command ends is the business of `cli`.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests

from drmaaticd.client.upload import MultipartBody

JSON = dict[str, Any]
Value = str | int | float | bool
Params = Mapping[str, Value | Sequence[Value]]
Files = Mapping[str, Path | Sequence[Path]]

#: Seconds for connecting, and of silence while an answer is awaited.
TIMEOUT = (10.0, 120.0)
#: Seconds between two questions of `Client.wait`: the first, the longest, the factor.
FIRST_POLL, LONGEST_POLL, POLL_GROWTH = 0.2, 5.0, 1.5
#: Seconds for which `Client.wait` bears a daemon that cannot be reached (a restart).
PATIENCE = 60.0
#: Tasks asked for at a time.
PAGE_SIZE = 100
#: Bytes of a download held at a time.
BLOCK = 256 * 1024

FINAL = frozenset({"rejected", "stopped", "done", "failed"})
"""The states in which a task has ended."""

_FILENAME = re.compile(r'filename="([A-Za-z0-9._-]+)"')


class ClientError(Exception):
    """The root of what a call of `Client` raises."""


class Unreachable(ClientError):
    """There is no answer: nobody listens, the connection broke, or time ran out."""


class WaitTimeout(ClientError):
    """The task had not ended when the time was up."""


class ApiError(ClientError):
    """The service said no; `errors` maps the name of each wrong field to what is wrong with it."""

    def __init__(self, status: int, title: str, detail: str = "", errors: Mapping[str, str] | None = None):
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = dict(errors or {})
        lines = [f"{title}: {detail}" if detail else title]
        lines += [f"  {name}: {text}" for name, text in self.errors.items()]
        super().__init__("\n".join(lines))

    @classmethod
    def from_response(cls, response: requests.Response) -> Self:
        """What a refusal says (RFC 9457), or its status line if it is none of the daemon's."""
        title = f"HTTP {response.status_code} {response.reason or ''}".rstrip()
        try:
            problem = response.json()
        except (ValueError, requests.RequestException):
            problem = None
        if not isinstance(problem, dict):
            return cls(response.status_code, title)
        wrong = problem.get("errors") or ()
        return cls(
            response.status_code,
            str(problem.get("title") or title),
            str(problem.get("detail") or ""),
            {str(entry.get("name")): str(entry.get("detail")) for entry in wrong if isinstance(entry, dict)},
        )


class Client:
    """One service at `url`, for the bearer of `token` (None: the anonymous caller).

    Every method raises `ApiError` where the service refuses and `Unreachable` where it does not
    answer. Not for several threads at once. Use as a context manager, or `close` it.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: tuple[float, float] = TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json, */*;q=0.5"
        # Always set: without it requests would send what ~/.netrc holds for this host.
        self._session.auth = _Bearer(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    # Scripts

    def scripts(self, search: str | None = None) -> Iterator[JSON]:
        """The scripts that the caller may run."""
        return self._pages("/script", {"search": search} if search else {})

    def script(self, name: str) -> JSON:
        """One script with its parameters."""
        return self._json("GET", f"/script/{quote(name, safe='')}")

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
    ) -> JSON:
        """Submit a task and return it. Files are read while they are sent.

        Give an `idempotency_key` (22 to 64 characters) to be able to send the same again after an
        `Unreachable` without a second task.
        """
        fields = [("task_name", script), *_pairs(params or {})]
        optional = {
            "task_description": description,
            "parent_task": parent,
            "dependencies": ",".join(dependencies),
            "dependency_type": dependency_type,
        }
        fields += [(name, value) for name, value in optional.items() if value]
        paths = [(name, path) for name, given in (files or {}).items() for path in _listed(given)]
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        if not paths:
            return self._json("POST", "/task/", data=fields, headers=headers)
        body = MultipartBody(fields, paths)
        headers["Content-Type"] = body.content_type
        return self._json("POST", "/task/", data=body, headers=headers)

    def task(self, task: str) -> JSON:
        """The task with this UUID."""
        return self._json("GET", _task_path(task))

    def tasks(self, **filters: str) -> Iterator[JSON]:
        """The caller's tasks, newest first; the filters are the API's (`state`, `search`, `ids`, …)."""
        return self._pages("/task/", filters)

    def wait(
        self, task: str, timeout: float | None = None, changed: Callable[[JSON], None] | None = None
    ) -> JSON:
        """The task once it has ended. `changed` is called with it whenever its state is a new one.

        A daemon that is away for less than `PATIENCE` seconds is borne. Raises `WaitTimeout` after
        `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, state = FIRST_POLL, None
        answered = time.monotonic()
        while True:
            try:
                now = self.task(task)
                answered = time.monotonic()
            except ClientError as error:
                if not _passing(error) or time.monotonic() - answered > PATIENCE:
                    raise
            else:
                if now["state"] != state:
                    state, pause = now["state"], FIRST_POLL
                    if changed is not None:
                        changed(now)
                if state in FINAL:
                    return now
            if deadline is not None and time.monotonic() + pause > deadline:
                raise WaitTimeout(f"task {task} has not ended after {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, LONGEST_POLL)

    def control(self, task: str, action: str) -> JSON:
        """Carry out `stop`, `hold`, `release`, `suspend` or `resume`; 409 where that cannot be."""
        return self._json("PUT", f"{_task_path(task)}/{quote(action, safe='')}")

    def stop(self, task: str) -> JSON:
        """Stop the task."""
        return self.control(task, "stop")

    def delete(self, task: str) -> None:
        """Stop the task and remove it with its files."""
        self._call("DELETE", _task_path(task)).close()

    # Files

    def files(self, task: str) -> list[JSON]:
        """``{"path", "size", "modified"}`` of each file; `path` is percent-encoded, as `read` wants it."""
        with self._call("GET", f"{_task_path(task)}/file/", params={"details": "1"}) as response:
            listing: list[JSON] = _decoded(response)
            return listing

    def read(self, task: str, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of one file from `start` on, block by block; nothing if there are no more yet.

        `path` is percent-encoded.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self._call("GET", f"{_task_path(task)}/file/{path}", headers=headers, stream=True)
        except ApiError as error:
            if error.status == requests.codes.requested_range_not_satisfiable:
                return
            raise
        with response:
            yield from _blocks(response)

    def download(self, task: str, into: Path, archive: str = "zip") -> Path:
        """Store all files of an ended task as ``zip`` or ``tar.gz`` and return where.

        `into` is a folder, in which the service names the file, or the file itself.
        """
        path = f"{_task_path(task)}/download"
        params = {} if archive == "zip" else {"format": archive}
        with self._call("GET", path, params=params, stream=True) as response:
            if into.is_dir():
                found = _FILENAME.search(response.headers.get("Content-Disposition", ""))
                into = into / (found[1].lstrip(".") if found else f"{task}.{archive}")
            return store(_blocks(response), into)

    # The wire

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[JSON]:
        page = 1
        while True:
            answer = self._json(
                "GET", path, params={**params, "page": str(page), "page_size": str(PAGE_SIZE)}
            )
            yield from answer["results"]
            if answer.get("next") is None:
                return
            page += 1

    def _json(self, method: str, path: str, **options: Any) -> JSON:
        with self._call(method, path, **options) as response:
            answer: JSON = _decoded(response)
            return answer

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            response = self._session.request(
                method, self.url + path, timeout=self.timeout, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} does not answer: {_reason(error)}") from error
        if response.ok and not response.is_redirect:
            return response
        with response:
            raise ApiError.from_response(response)


def store(blocks: Iterable[bytes], path: Path) -> Path:
    """Write the blocks to a file that appears under its name only when it is whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with open(handle, "wb") as file:
            for block in blocks:
                file.write(block)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _task_path(task: str) -> str:
    return f"/task/{quote(task, safe='')}"


def _decoded(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(f"{response.url} answered no JSON: is it drmaaticd?") from error
    except requests.RequestException as error:
        raise Unreachable(f"the answer broke off: {_reason(error)}") from error


def _blocks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(BLOCK)
    except requests.RequestException as error:
        raise Unreachable(f"the download broke off: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The innermost cause in words: requests and urllib3 each wrap it once or twice."""
    cause = error
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    return str(getattr(cause, "reason", None) or cause)


def _passing(error: ClientError) -> bool:
    return isinstance(error, Unreachable) or (
        isinstance(error, ApiError) and error.status in (429, 502, 503, 504)
    )


def _listed(given: Any) -> Sequence[Any]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _pairs(params: Params) -> Iterator[tuple[str, str]]:
    for name, given in params.items():
        for value in _listed(given):
            yield name, str(value).lower() if isinstance(value, bool) else str(value)
