"""What a benchmark found: one figure, its goal, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be, worded, and whether it is."""

    text: str
    met: Callable[[float], bool]


def at_least(limit: float, unit: str = "") -> Goal:
    """The figure should be this or more."""
    return Goal(f"≥ {limit:g}{unit}", lambda value: value >= limit)


def below(limit: float, unit: str = "") -> Goal:
    """The figure should be less than this."""
    return Goal(f"< {limit:g}{unit}", lambda value: value < limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value. `value` is in the unit that `shown` and the goal use."""

    what: str
    value: float
    shown: str
    goal: Goal | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal was met; empty without a goal."""
        if self.goal is None:
            return ""
        return "met" if self.goal.met(self.value) else "**missed**"


def alternate(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Run the measures in turn, so that whatever slows the machine meets all of them: A B, B A, A B …

    Returns the values of each measure, in the order of the rounds.
    """
    values: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        order = list(range(len(measures)))
        for position in order if number % 2 == 0 else reversed(order):
            values[position].append(measures[position]())
    return values


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios: each compares what ran one right after the other."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def spread(values: Sequence[float], form: str) -> str:
    """``median (least to most)``, each value in this format."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
