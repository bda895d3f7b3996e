"""What people see: text that a terminal cannot be made to obey, tables, JSON, and progress bars.

Bars are for people who watch: they are drawn on standard error, and only if that is a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drmaaticd.client.upload import Progress
    from drmaaticd.client.wording import Task

#: Seconds that a transfer takes before it gets a bar, and between two strokes of a waiting clock.
DELAY, TICK = 0.5, 1.0
#: Columns and lines of a terminal that does not know.
WIDTH, HEIGHT = 80, 24


def printable(text: str, keep: str = "") -> str:
    """The text without what a terminal would obey, `keep` excepted: names and logs come from others."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def table(rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in columns as wide as they need."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """Print JSON for another program to read."""
    print(json.dumps(value, indent=2))


class Screen:
    """Standard error: lines, and at most one bar below them."""

    def __init__(self) -> None:
        self._bar: Any = None

    @property
    def watched(self) -> bool:
        """Whether somebody may be looking."""
        return sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print lines, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        for line in text.splitlines():
            print(printable(line), file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    @contextlib.contextmanager
    def transfer(self, text: str) -> Iterator[Progress | None]:
        """A bar for bytes; None where nobody looks."""
        if not self.watched:
            yield None
            return
        with self._shown(desc=printable(text), unit="B", unit_scale=True, unit_divisor=1024) as bar:

            def progress(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)  # less than before: it began anew

            yield progress

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Callable[[Task], None]]:
        """What is to be called with a task that is waited for: a clock, or a line for each state."""
        if not self.watched:
            yield lambda task: self.say(told(task))
            return
        with self._shown(desc="waiting", bar_format="{desc}  {elapsed}") as bar, _ticking(bar):

            def changed(task: Task) -> None:
                ended, jobs = _jobs(task.get("array"))
                if jobs and bar.total != jobs:
                    bar.bar_format = "{desc} |{bar}| {n}/{total} jobs  {elapsed}"
                bar.total, bar.n = jobs or None, ended
                bar.set_description_str(printable(told(task)))

            yield changed

    @contextlib.contextmanager
    def _shown(self, **options: Any) -> Iterator[Any]:
        from tqdm import tqdm  # nobody but a person at a terminal should wait for it

        tqdm.monitor_interval = 0  # no thread of its own
        delay = 0 if "bar_format" in options else DELAY
        # A terminal that does not know its size says 0.
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
        width: dict[str, Any] = {"dynamic_ncols": True} if known else {"ncols": WIDTH, "nrows": HEIGHT}
        with tqdm(file=sys.stderr, delay=delay, **width, **options) as bar:
            self._bar = bar
            try:
                yield bar
            finally:
                self._bar = None


@contextlib.contextmanager
def _ticking(bar: Any) -> Iterator[None]:
    """The bar drawn anew every second while the program waits for something else."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _jobs(array: Mapping[str, Any] | None) -> tuple[int, int]:
    """How many jobs of an array have ended, and how many there are."""
    if array is None:
        return 0, 0
    states = array["states"]
    ended = sum(states.get(state, 0) for state in ("done", "failed", "stopped", "rejected"))
    return ended, len(range(array["begin"], array["end"] + 1, array["step"]))


def told(task: Task) -> str:
    """A task's state and what is known of its end: ``failed: exit 3``."""
    how = outcome(task)
    return f"{task['state']}: {how}" if how else task["state"]


def outcome(task: Task) -> str:
    """How it ended, or why it has not: ``exit 3``, ``SIGKILL``, the detail."""
    words = []
    if task.get("signal"):
        words.append(task["signal"])
    elif task.get("exit_status"):
        words.append(f"exit {task['exit_status']}")
    if task.get("detail"):
        words.append(task["detail"])
    return ", ".join(words)
