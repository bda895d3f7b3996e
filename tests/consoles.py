"""The sessions that a page of the documentation shows: commands, and whether they write what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_MARK = "====\n"

#: What is another at each run, and what stands for it.
_OTHER = (
    (UUID, "UUID"),
    (re.compile(r"\b[0-9a-f]{8}(?=_(?:out|err)|-…)"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
)


def blocks(page: str, language: str) -> list[str]:
    """The texts of the fences of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def session(page: str) -> list[tuple[str, str]]:
    """The commands of all consoles, continuation lines and all, and what they are said to write."""
    parts = re.split(r"^\$ ", "".join(blocks(page, "console")), flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        command, output = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL).groups()
        found.append((command, output.strip()))
    return found


def in_one_shell(commands: Sequence[tuple[str, str]]) -> str:
    """The shell text that runs a session's commands one after the other; see `outputs`."""
    return "\n".join(f"{command}\necho; echo {_MARK.strip()}" for command, _ in commands)


def outputs(written: str) -> list[str]:
    """What each of the commands of `in_one_shell` wrote."""
    return written.split(_MARK)[:-1]


def says(expected: str, output: str) -> bool:
    """Whether an output is as shown: blanks do not count, ``…`` stands for anything."""
    parts = [re.escape(_plain(part)) for part in expected.split("…")]
    return re.fullmatch(".*".join(parts), _plain(output), re.DOTALL) is not None


def _plain(text: str) -> str:
    for pattern, word in _OTHER:
        text = pattern.sub(word, text)
    return re.sub(r"\s+", "", text)
