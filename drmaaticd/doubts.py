"""Evidence against jobs that is not acted on yet, and for how long the DRM has upheld it."""

from __future__ import annotations

import time
from dataclasses import dataclass

Key = tuple[str, int | None]
"""A job of a task: its UUID, and the index for a member of an array."""


@dataclass(slots=True)
class _Doubt:
    name: str
    seconds: float
    since: float


class Doubts:
    """What is held against jobs at present; each doubt's clock runs while the same one lasts."""

    def __init__(self, step: float) -> None:
        """`step`: the most seconds that count from one answer of the DRM to the next."""
        self._step = step
        self._known: dict[str, dict[int | None, _Doubt]] = {}

    def upheld(self, key: Key, *, answered: bool) -> tuple[str | None, float]:
        """The doubt about a job and the seconds it has lasted; `answered`: the DRM has just spoken of it."""
        doubt = self._known.get(key[0], {}).get(key[1])
        if doubt is None:
            return None, 0.0
        if answered:
            now = time.monotonic()
            # A pause in which the DRM did not answer, or the daemon did not ask, does not count.
            doubt.seconds += min(now - doubt.since, self._step)
            doubt.since = now
        return doubt.name, doubt.seconds

    def keep(self, key: Key, name: str | None) -> None:
        """From now on this is the doubt about the job; None: there is none."""
        uuid, index = key
        doubts = self._known.get(uuid, {})
        if name is None:
            doubts.pop(index, None)
            if not doubts:
                self._known.pop(uuid, None)
        elif index not in doubts or doubts[index].name != name:
            self._known.setdefault(uuid, doubts)[index] = _Doubt(name, 0.0, time.monotonic())

    def forget(self, uuid: str) -> None:
        """Drop what is held against any job of a task."""
        self._known.pop(uuid, None)
