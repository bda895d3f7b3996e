"""Two tasks side by side: rows of what they were given and what became of them, lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from drmaaticd.web.ui import words
from drmaaticd.web.ui.fields import label_of

JSON = dict[str, Any]

#: Of a file so many bytes are looked at; of a text so many lines, and characters of a line, are shown.
HEAD = 64 * 1024
LINES = 100
LINE = 300

#: Characters of all texts on one page.
PAGE_TEXT = 40_000


@dataclass(frozen=True, slots=True)
class Row:
    """One thing and what it is with either task; empty where it is nothing."""

    name: str
    one: str
    other: str

    @property
    def differs(self) -> bool:
        """Whether it is not the same with both."""
        return self.one != self.other


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and whether the other file has it in this place."""

    text: str
    differs: bool


def param_rows(one: JSON, other: JSON) -> list[Row]:
    """The parameters, files by the names that their senders gave, in the order of the first task."""
    left, right = _values(one), _values(other)
    return [Row(label_of(name), left.get(name, ""), right.get(name, "")) for name in {**left, **right}]


def _values(task: JSON) -> dict[str, str]:
    names: Mapping[str, str] = task["files_name"]
    found = {}
    for record in task["params"]:
        value = record["value"]
        texts = value if isinstance(value, list) else [value]
        found[record["name"]] = ", ".join(names.get(text, text) for text in texts)
    return found


def fact_rows(one: JSON, other: JSON) -> list[Row]:
    """What became of the tasks: states, spans, usage."""
    left, right = dict(_facts(one)), dict(_facts(other))
    return [Row(name, left.get(name, ""), right.get(name, "")) for name in {**left, **right}]


def _facts(task: JSON) -> Iterator[tuple[str, str]]:
    yield "State", words.state(task)
    if task.get("detail"):
        yield "Why", task["detail"]
    if task.get("task_description"):
        yield "Note", task["task_description"]
    created, started, ended = (
        _moment(task.get(name)) for name in ("creation_date", "start_date", "end_date")
    )
    if created and started:
        yield "Waited", words.duration(max(0.0, (started - created).total_seconds()))
    if started and ended:
        yield "Ran for", words.duration(max(0.0, (ended - started).total_seconds()))
    usage = task.get("resource_usage", {})
    if "cpu_seconds" in usage:
        yield "Processor time", words.duration(usage["cpu_seconds"])
    if "max_rss_bytes" in usage:
        yield "Most memory", words.size(usage["max_rss_bytes"])


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def output_key(task: JSON, path: str) -> str:
    """By what a file is found with the other task: names that hold the UUID are made the same."""
    return path.replace(task["uuid"], "<uuid>").replace(task["uuid"][:8], "<task>")


def output_title(key: str) -> str:
    """What a pair of files is called."""
    names = {"<task>_out.txt": "Standard output", "<task>_err.txt": "Standard error"}
    return names.get(key, key.replace("<task>", "…").replace("<uuid>", "…"))


def side_by_side(
    one: Sequence[str], other: Sequence[str], one_keys: Sequence[str], other_keys: Sequence[str]
) -> list[tuple[Line | None, Line | None]]:
    """The lines of two texts, such that equal ones stand beside each other; None where one has none.

    Lines are equal if their keys are: what they hold apart from their task's own name.
    """
    pairs: list[tuple[Line | None, Line | None]] = []
    for kind, from_one, to_one, from_other, to_other in SequenceMatcher(
        None, one_keys, other_keys, autojunk=False
    ).get_opcodes():
        differs = kind != "equal"
        left = [Line(text, differs) for text in one[from_one:to_one]]
        right = [Line(text, differs) for text in other[from_other:to_other]]
        pairs += zip_longest(left, right)
    return pairs


def lines_of(data: bytes, room: int = PAGE_TEXT) -> tuple[list[str] | None, bool]:
    """The first lines of a text, of `room` characters together at most, and whether that is not all.

    None for what is no text.
    """
    if b"\0" in data:
        return None, False
    shown: list[str] = []
    lines = data.decode("utf-8", "replace").splitlines()
    for line in lines[:LINES]:
        room -= min(len(line), LINE)
        if room < 0:
            break
        shown.append(line if len(line) <= LINE else f"{line[:LINE]}…")
    return shown, len(shown) < len(lines) or any(len(line) > LINE for line in lines)
