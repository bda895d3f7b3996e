"""Large transfers: an upload, a download and an archive, and what they take in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.figures import Figure, Goal, alternate, at_least, below, ratio, spread
from benchmarks.programs import Bare, Daemon, Program
from benchmarks.scale import MIB, Scale
from benchmarks.wire import BOUNDARY, RECEIVE_SIZE, Connection, Unexpected, head, multipart

UPLOAD_GOAL = at_least(0.7)
DOWNLOAD_GOAL = at_least(0.9)
MEMORY_GOAL = below(32, " MiB")

#: Bytes of the content that is sent again and again: no compression, no boundary by chance.
PIECE = MIB

#: Small requests before the memory is looked at.
REQUESTS = 20

SEED = 1

#: A script that takes a file and leaves it as it is.
SCRIPTS = {"keep": ("exit 0", '[[param]]\nname = "input"\ntype = "file"\nrequired = true')}

#: Where the task is looked for until it has ended.
PAUSE = 0.02


@dataclass(slots=True)
class _Sender:
    """Sends a multipart form with one file, from memory."""

    size: int
    piece: memoryview = field(default_factory=lambda: memoryview(Random(SEED).randbytes(PIECE)))

    def send(self, program: Program, path: str) -> tuple[float, dict[str, Any]]:
        """Post it; the seconds until the answer is there, and the answer."""
        begin, end = multipart({"task_name": "keep"}, "input")
        length = len(begin) + self.size + len(end)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        request = head("POST", path, Content_Type=kind, Content_Length=length)
        started = time.perf_counter()
        with program.connect() as connection:
            answer = connection.exchange(request, begin, *self._content(), end)
        seconds = time.perf_counter() - started
        if answer.status not in (200, 201):
            raise Unexpected(f"{answer.status}: {answer.body!r}")
        return seconds, answer.json()

    def _content(self) -> Iterator[memoryview]:
        for left in range(self.size, 0, -PIECE):
            yield self.piece[: min(left, PIECE)]


class _Transfers:
    """The daemon and the bare handlers on one file system, and the transfers with both."""

    def __init__(self, place: Path, daemon: Daemon, bare: Bare, size: int) -> None:
        self._place = place
        self._daemon = daemon
        self._bare = bare
        self._sender = _Sender(size)
        self._buffer = bytearray(RECEIVE_SIZE)
        self._size = size
        self._uuid = self._name = ""

    # Each returns the bytes a second.

    def upload(self) -> float:
        """To the daemon; the task goes again."""
        seconds, task = self._sender.send(self._daemon, "/task/")
        self._delete(str(task["uuid"]))
        return self._size / seconds

    def bare_upload(self) -> float:
        """To the bare handler."""
        return self._bare_upload("/upload")

    def synced_upload(self) -> float:
        """To the bare handler, which answers when the file is on the disk."""
        return self._bare_upload("/upload-synced")

    def _bare_upload(self, path: str) -> float:
        seconds, answer = self._sender.send(self._bare, path)
        if answer["size"] < self._size:
            raise Unexpected(f"only {answer['size']} bytes were written")
        return self._size / seconds

    def download(self) -> float:
        """The task's file, by the daemon."""
        return self._receive(self._daemon, f"/task/{self._uuid}/file/{self._name}")

    def bare_download(self) -> float:
        """The same file, by Tornado."""
        return self._receive(self._bare, f"/static/{self._name}")

    def archive(self) -> float:
        """All files of the task in a zip, by the daemon."""
        return self._receive(self._daemon, f"/task/{self._uuid}/download")

    # Preparing.

    def keep(self) -> None:
        """Upload what is downloaded, where the bare handler sees it too."""
        _, task = self._sender.send(self._daemon, "/task/")
        self._uuid, files = str(task["uuid"]), task["files_name"]
        (self._name,) = files
        file = self._daemon.tasks / self._uuid / self._name
        if file.stat().st_size != self._size:
            raise Unexpected(f"the file has {file.stat().st_size} bytes")
        (self._place / "bare" / self._name).hardlink_to(file)
        self._wait(self._uuid)
        self.download()
        self.bare_download()  # which makes Tornado's hash of the content, once

    def _wait(self, uuid: str) -> None:
        with self._daemon.connect() as connection:
            while (state := connection.exchange(head("GET", f"/task/{uuid}")).json()["state"]) != "done":
                if state in ("failed", "stopped", "rejected"):
                    raise Unexpected(f"the task is {state}")
                time.sleep(PAUSE)

    def _delete(self, uuid: str) -> None:
        self._wait(uuid)
        with self._daemon.connect() as connection:
            if connection.exchange(head("DELETE", f"/task/{uuid}")).status != 204:
                raise Unexpected("the task was not deleted")

    def _receive(self, program: Program, path: str) -> float:
        started = time.perf_counter()
        with Connection(program.port) as connection:
            answer = connection.receive(head("GET", path), self._buffer)
        seconds = time.perf_counter() - started
        if answer.status != 200 or answer.length < self._size:
            raise Unexpected(f"{path}: {answer.header!r}")
        return answer.length / seconds


def _answered(daemon: Daemon) -> None:
    """Let it answer a few small requests."""
    with daemon.connect() as connection:
        for _ in range(REQUESTS):
            connection.exchange(head("GET", "/script/"))


class _Memory:
    """How far a program's memory rises above what it was when it was idle."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._before = program.memory

    def rise(self) -> float:
        """MiB at most so far, by the kernel's own high-water mark, which forgets nothing."""
        return (self._program.peak - self._before) / MIB


def transfers(place: Path, scale: Scale) -> list[Figure]:
    """Everything that is large, each against its bare counterpart, in turns."""
    with Daemon(place / "daemon", SCRIPTS) as daemon, Bare(place / "bare") as bare:
        _answered(daemon)
        memory = _Memory(daemon)
        runs = _Transfers(place, daemon, bare, scale.file_size)
        uploads = alternate(scale.transfers, runs.upload, runs.bare_upload, runs.synced_upload)
        rise_up = memory.rise()
        runs.keep()
        downloads = alternate(scale.transfers, runs.download, runs.bare_download)
        rise_down = memory.rise()
        plain, zipped = alternate(scale.transfers, runs.download, runs.archive)
    return [
        *_upload_figures(scale, *uploads),
        _compared("Download of a task's file, share of StaticFileHandler's rate", DOWNLOAD_GOAL, *downloads),
        _memory("the uploads", rise_up),
        _memory("the uploads and downloads", rise_down),
        Figure(
            what="Download of the same as a zip, share of the plain file's rate",
            value=ratio(zipped, plain),
            shown=f"{ratio(zipped, plain):.2f}",
            note=f"{_rate(zipped)}; plain: {_rate(plain)}",
        ),
    ]


def _upload_figures(
    scale: Scale, ours: list[float], bare: list[float], synced: list[float]
) -> Iterator[Figure]:
    size = f"{scale.file_size / MIB:,.0f} MiB"
    what = f"Upload of {size} (multipart), share of a bare streaming handler's rate"
    yield _compared(what, UPLOAD_GOAL, ours, bare)
    yield Figure(
        what="The same against a bare handler that, like the daemon, answers when the file is on the disk",
        value=ratio(ours, synced),
        shown=f"{ratio(ours, synced):.2f}",
        note=f"bare, synced: {_rate(synced)}",
    )


def _compared(what: str, goal: Goal, ours: list[float], theirs: list[float]) -> Figure:
    value = ratio(ours, theirs)
    return Figure(
        what=what, value=value, shown=f"{value:.2f}", goal=goal, note=f"{_rate(ours)}; bare: {_rate(theirs)}"
    )


def _memory(what: str, rise: float) -> Figure:
    return Figure(
        what=f"Rise of the daemon's memory by {what}",
        value=rise,
        shown=f"{rise:.1f} MiB",
        goal=MEMORY_GOAL,
        note="the highest resident size (VmHWM), above the resident size of the daemon that had answered "
        "a few requests",
    )


def _rate(values: list[float]) -> str:
    return f"{spread([value / MIB for value in values], ',.0f')} MiB/s"


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"transfers": transfers}
