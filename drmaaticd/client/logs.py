"""What a task writes, as it writes it: both streams, and each job's of an array.

Following a log is asking for the bytes after those that have come (``Range``): a connection that
breaks loses nothing and repeats nothing.
"""

from __future__ import annotations

import codecs
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import IO, Protocol
from urllib.parse import quote

from drmaaticd.client.api import Client
from drmaaticd.client.download import content_range
from drmaaticd.client.failures import ApiError, Unreachable
from drmaaticd.client.terminal import printable
from drmaaticd.client.wire import PATIENCE, Schedule
from drmaaticd.client.wording import FINAL, Task

#: Seconds between two looks: the first, the longest, the factor.
FIRST_POLL, LONGEST_POLL, POLL_GROWTH = 0.2, 2.0, 1.5

INDEX = "<index>"
"""What stands for a job's index in the names of an array's logs."""


class Sink(Protocol):
    """Where a log goes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """There are no more."""


class Raw:
    """Bytes as they are."""

    def __init__(self, stream: IO[str]) -> None:
        self._buffer = stream.buffer  # type: ignore[attr-defined]  # as TextIOWrapper has it

    def write(self, data: bytes) -> None:
        """Write them at once."""
        self._buffer.write(data)
        self._buffer.flush()

    def finish(self) -> None:
        """Nothing is held back."""


class Shown:
    """Text for a terminal, which is to show control characters and not to obey them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def write(self, data: bytes) -> None:
        """Write what is complete: characters, and line ends of two characters."""
        self._put(self._held + self._decoder.decode(data), last=False)

    def finish(self) -> None:
        """Write the rest."""
        self._put(self._held + self._decoder.decode(b"", final=True), last=True)

    def _put(self, text: str, *, last: bool) -> None:
        self._held = "\r" if text.endswith("\r") and not last else ""
        text = text.removesuffix(self._held) if self._held else text
        self._stream.write(printable(text.replace("\r\n", "\n"), keep="\n\t"))
        self._stream.flush()


class Labelled:
    """Whole lines, each with the index of the job that wrote it."""

    def __init__(self, sink: Sink, label: str) -> None:
        self._sink = sink
        self._label = f"{label}: ".encode()
        self._held = b""

    def write(self, data: bytes) -> None:
        """Hand on the lines that are complete."""
        *lines, self._held = (self._held + data).split(b"\n")
        if lines:
            self._sink.write(b"".join(self._label + line + b"\n" for line in lines))

    def finish(self) -> None:
        """Hand on what is left as the last line."""
        if self._held:
            self._sink.write(self._label + self._held + b"\n")
        self._sink.finish()


@dataclass(slots=True)
class Log:
    """One file of one task, and how far it has been copied."""

    client: Client
    task: str
    path: str
    sink: Sink
    notice: Callable[[str], None]
    position: int = field(default=0)

    def copy(self) -> int:
        """Copy what is new; the number of bytes. A file that is not there yet has none."""
        before, schedule = self.position, Schedule(PATIENCE)
        while True:
            try:
                self._copy()
            except Unreachable as error:
                if not schedule.again(error):
                    raise
            except ApiError as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return 0
                if error.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
                if not self._is_shorter(error):
                    return self.position - before
                before = self.position = 0
            else:
                return self.position - before

    def _copy(self) -> None:
        for block in self.client.read(self.task, self.path, self.position):
            self.sink.write(block)
            self.position += len(block)

    def _is_shorter(self, error: ApiError) -> bool:
        """Whether the file has less than was copied: a job that ran again began it anew."""
        size = content_range(error.content_range)[1]
        if size is None or size >= self.position:
            return False
        self.notice(f"{self.path} began anew")
        return True


class Follower:
    """The logs of one task. `streams` are of ``stdout`` and ``stderr``; `index` is one job's of an array."""

    def __init__(
        self,
        client: Client,
        task: str,
        streams: list[str],
        notice: Callable[[str], None],
        *,
        index: int | None = None,
        raw: bool = False,
    ) -> None:
        self._client = client
        self._task = task
        self._streams = streams
        self._notice = notice
        self._index = index
        self._raw = raw
        self._logs: dict[str, Log] = {}

    def run(self, *, follow: bool) -> tuple[Task, int]:
        """Copy what there is, or, to follow, until the task has ended; the task, and how many bytes."""
        pause, total = FIRST_POLL, 0
        while True:
            # The state is asked for first: what the task wrote before it ended is then all there.
            task = self._client.task(self._task)
            self._find(task)
            copied = sum(log.copy() for log in self._logs.values())
            total += copied
            if task["state"] in FINAL or not follow:
                for log in self._logs.values():
                    log.sink.finish()
                return task, total
            pause = FIRST_POLL if copied else min(pause * POLL_GROWTH, LONGEST_POLL)
            time.sleep(pause)

    def _find(self, task: Task) -> None:
        for stream in self._streams:
            name = task["stdout"] if stream == "stdout" else task["stderr"]
            target = sys.stdout if stream == "stdout" else sys.stderr
            if INDEX not in name or self._index is not None:
                self._add(name.replace(INDEX, str(self._index)), target)
            else:
                self._find_jobs(name, target)

    def _find_jobs(self, name: str, target: IO[str]) -> None:
        before, _, after = name.partition(INDEX)
        fits = re.compile(f"{re.escape(quote(before))}([0-9]+){re.escape(quote(after))}")
        found = [match for file in self._client.files(self._task) if (match := fits.fullmatch(file["path"]))]
        for match in sorted(found, key=lambda match: int(match[1])):
            self._add(match[0], target, match[1])

    def _add(self, name: str, target: IO[str], label: str | None = None) -> None:
        if name in self._logs:
            return
        sink: Sink = Raw(target) if self._raw or not target.isatty() else Shown(target)
        if label is not None:
            sink = Labelled(sink, label)
        path = quote(name, safe="")
        self._logs[name] = Log(self._client, self._task, path, sink, self._notice)
