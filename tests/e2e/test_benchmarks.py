"""The benchmarks work, in sizes that tell nothing: figures are for `make bench`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Figure, alternate, at_least, below, percentile, ratio, spread
from benchmarks.page import BEGIN, END, write
from benchmarks.run import BENCHMARKS

ROOT = Path(__file__).resolve().parents[2]

#: A part of the name of each figure that must be there.
MEASURED = (
    "GET /task/{uuid},",
    "GET /task/{uuid} with a token",
    "Tasks accepted",
    "share of a bare streaming handler's rate",
    "share of StaticFileHandler's rate",
    "memory by the uploads and downloads",
    "as a zip",
    "Memory of the idle, empty daemon",
    "Start with",
    "A job's end",
    "Longest block of the loop",
    "From a change to the last of",
    "Store: insert",
)


def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\nold figures\n{END}\n\nafter\n", encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--output", str(page), "--folder", str(work)),
            # Those on clusters would use, and clear, the queues of the tests that run beside this one.
            *("--only", *[name for name in BENCHMARKS if name not in ("gridengine", "slurm")]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n\n" + BEGIN)
    assert text.endswith(END + "\n\nafter\n")
    assert "old figures" not in text
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*\d[^|]*) \|", text, re.MULTILINE)
    for part in MEASURED:
        assert any(part in what for what, _ in rows), f"no figure of {part!r} in\n{text}"
    assert not list(work.iterdir())


def test_the_page_is_ready_for_its_figures() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold the marks once"):
        write(page, [], [])
    assert page.read_text(encoding="utf-8") == "no marks"


def test_rounds_take_turns() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value

    values = alternate(3, lambda: measure("a", 1.0), lambda: measure("b", 2.0))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert values == [[1.0] * 3, [2.0] * 3]


def test_values_are_summed_up() -> None:
    assert ratio([1.0, 9.0, 3.0], [2.0, 3.0, 3.0]) == 1.0
    assert spread([3.0, 1.0, 2.0], ".1f") == "2.0 (1.0 to 3.0)"
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 3.0
    assert percentile([1.0], 0.999) == 1.0


def test_goals_are_judged() -> None:
    def verdict(value: float, **options: object) -> str:
        return Figure(what="w", value=value, shown="s", **options).verdict  # type: ignore[arg-type]

    assert verdict(0.5, goal=at_least(0.5)) == "met"
    assert verdict(0.49, goal=at_least(0.5)) == "**missed**"
    assert verdict(60.0, goal=below(60, " MB")) == "**missed**"
    assert verdict(1.0) == ""
