"""Files from the service to this machine: whole or not at all under their name, and resumed.

What has arrived waits beside its target as ``.NAME.<digest>.part``; the digest holds the service, the
path and the entity tag, so that a part is only ever continued with the rest of the same content
(``If-Range``, RFC 9110, section 13.1.5). Names come from the service and are not believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

import requests

from drmaaticd.client.failures import ApiError, ClientError, Refused, Unreachable
from drmaaticd.client.upload import Progress
from drmaaticd.client.wire import Schedule, Wire, reason
from drmaaticd.client.wording import File

#: Bytes of a download held at a time, and lost when a connection breaks: urllib3 hands on full blocks.
BLOCK = 64 * 1024

#: Characters of a target's name that its part repeats: file systems bound a name to 255 bytes.
_SHOWN = 50

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,20})-[0-9]{1,20}|\*)/([0-9]{1,20})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Download:
    """One file on its way from `path` of the service to `target`."""

    def __init__(self, wire: Wire, path: str, target: Path, progress: Progress | None = None) -> None:
        self._wire = wire
        self._path = path
        self._target = target
        self._progress = progress or (lambda done, total: None)
        self._etag: str | None = None

    def fetch(self) -> Path:
        """Do it, or what is left of it, and return the target, which is replaced if it is there.

        Raises `Unreachable` when the connection is not back in time; what has arrived is kept for the
        next time. Raises `Refused` if another process is at it.
        """
        if self._parts():
            with self._wire.call("HEAD", self._path, headers=_plain({})) as response:
                self._etag = _strong(response)
        schedule = Schedule(self._wire.patience, self._wire.notice)
        while True:
            before = self._arrived()
            try:
                part = self._attempt()
            except Unreachable as error:
                if self._arrived() > before:
                    schedule.renew()
                if not schedule.again(error):
                    raise
            else:
                part.replace(self._target)
                for stale in self._parts():
                    stale.unlink(missing_ok=True)
                return self._target

    def _attempt(self) -> Path:
        offset = self._arrived()
        headers = {"Range": f"bytes={offset}-", "If-Range": str(self._etag)} if offset else {}
        try:
            response = self._wire.call("GET", self._path, headers=_plain(headers), stream=True)
        except ApiError as error:
            if error.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
                raise
            # The tag is the same, or the whole would have come: all of it has arrived before.
            if content_range(error.content_range)[1] != offset:
                raise ClientError(f"{self._path}: the service forgot how long the file is") from error
            return self._part(self._etag)
        with response:
            return self._take(response, offset)

    def _take(self, response: requests.Response, offset: int) -> Path:
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            if content_range(response.headers.get("Content-Range", ""))[0] != offset:
                raise ClientError(f"{self._path}: the service sent another part than was asked for")
        else:
            offset, self._etag = 0, _strong(response)
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        part = self._part(self._etag)
        with _alone(part) as file:
            try:
                file.truncate(offset)
                file.seek(offset)
                for block in blocks(response):
                    self._progress(offset, total)
                    file.write(block)
                    offset += len(block)
            except BaseException:
                if self._etag is None:  # nobody could ever go on with it
                    part.unlink(missing_ok=True)
                raise
            if total is not None and offset != total:
                raise Unreachable(f"the download broke off after {offset} of {total} bytes")
        self._progress(offset, total)
        return part

    def _arrived(self) -> int:
        if self._etag is None:
            return 0
        try:
            return self._part(self._etag).stat().st_size
        except FileNotFoundError:
            return 0

    def _part(self, etag: str | None) -> Path:
        what = "\0".join((self._wire.url, self._path, etag or "")).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(what).hexdigest()[:16]
        return self._target.with_name(f".{self._shown}.{digest}.part")

    @property
    def _shown(self) -> str:
        return self._target.name[:_SHOWN]

    def _parts(self) -> list[Path]:
        """What earlier tries have left for this target."""
        fits = re.compile(rf"\.{re.escape(self._shown)}\.[0-9a-f]{{16}}\.part")
        with contextlib.suppress(FileNotFoundError):
            return [path for path in self._target.parent.iterdir() if fits.fullmatch(path.name)]
        return []


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The part, opened for this process alone and never through a link."""
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{part}: another process is downloading the same") from None
        yield file


def blocks(response: requests.Response) -> Iterator[bytes]:
    """The answer's body. Raises `Unreachable` if it breaks off."""
    try:
        yield from response.iter_content(BLOCK)
    except requests.RequestException as error:
        raise Unreachable(f"the download broke off: {reason(error)}") from error


def content_range(header: str) -> tuple[int | None, int | None]:
    """First byte and size of a ``Content-Range``; None for what it does not say."""
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None:
        return None, None
    return None if found[1] is None else int(found[1]), int(found[2])


def place(folder: Path, served: str) -> Path:
    """Where in `folder` a file with this percent-encoded path belongs.

    Control characters become ``_``, as in the service's archives: they would be obeyed by a terminal.
    Raises `Refused` for what would be outside of the folder, also by a link that is there already.
    """
    path = os.fsdecode(unquote_to_bytes(served))
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise Refused(f"the service names a file outside of the folder: {path}")
    target = folder / _CONTROL.sub("_", path)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"{target} is outside of {folder}: a link leads there")
    return target


def places(folder: Path, files: Sequence[File]) -> list[tuple[File, Path]]:
    """Each file and where it belongs. Raises `Refused` where two would be one."""
    found: dict[Path, File] = {}
    for file in files:
        target = place(folder, file["path"])
        if target in found:
            raise Refused(f"two files would be {target}: fetch one of them alone, or the archive")
        found[target] = file
    return [(file, target) for target, file in found.items()]


def is_there(file: File, target: Path) -> bool:
    """Whether the target is this file already, as an earlier download left it: by size and time."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return False
    moment = modified(file)
    return moment is not None and found.st_size == file["size"] and found.st_mtime_ns == moment


def stamp(file: File, target: Path) -> None:
    """Give the target the file's time, so that `is_there` knows it again."""
    moment = modified(file)
    if moment is not None:
        os.utime(target, ns=(moment, moment))


def modified(file: File) -> int | None:
    """When the file was modified, in nanoseconds since the epoch; None if the service says nonsense."""
    try:
        moment = datetime.fromisoformat(file["modified"])
    except (KeyError, TypeError, ValueError):
        return None
    return round(moment.timestamp() * 1000) * 1_000_000


def _strong(response: requests.Response) -> str | None:
    """The entity tag, if ranges may be asked for with it."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def _plain(headers: dict[str, str]) -> dict[str, str]:
    """With these, bytes come as they are: offsets in a compressed answer mean nothing."""
    return {"Accept-Encoding": "identity", **headers}
