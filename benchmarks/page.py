"""The figures as a part of `docs/performance.md`: everything between two marks is written anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure
from drmaaticd import __version__

BEGIN = "<!-- figures:begin: written by `make bench` -->"
END = "<!-- figures:end -->"

_PART = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)


Machine = Sequence[tuple[str, str]]
"""What `machine.describe` tells."""


def write(page: Path, figures: Sequence[Figure], machine: Machine) -> None:
    """Put the figures and their machine into the page, which is replaced; it may be missing.

    Raises ValueError for a page that does not hold the marks once.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    part = "\n".join([BEGIN, *_part(figures, machine), END])
    changed, count = _PART.subn(lambda _: part, text)
    if count != 1:
        raise ValueError(f"{page} must hold the marks once: {BEGIN} … {END}")
    new = page.with_name(page.name + ".new")
    new.write_text(changed, encoding="utf-8")
    new.replace(page)


def _part(figures: Sequence[Figure], machine: Machine) -> Iterator[str]:
    yield ""
    yield f"drmaaticd {__version__}, {datetime.now(UTC):%Y-%m-%d}."
    yield ""
    yield "| The machine | |"
    yield "|---|---|"
    for name, value in machine:
        yield f"| {name} | {value} |"
    yield ""
    yield "| What | Measured | Goal | | Details |"
    yield "|---|---|---|---|---|"
    for figure in figures:
        goal = figure.goal.text if figure.goal else ""
        yield f"| {figure.what} | {figure.shown} | {goal} | {figure.verdict} | {figure.note} |"
    yield ""
