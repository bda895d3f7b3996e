"""How the page says things: states, times, sizes. Pure; templates call these as ``words.…``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: State → what people read, and the tone (``wait``, ``run``, ``good``, ``bad``, ``off``) that colours it.
STATES: dict[str, tuple[str, str]] = {
    "received": ("Received", "wait"),
    "rejected": ("Refused by the cluster", "bad"),
    "created": ("Submitted", "wait"),
    "undetermined": ("Unknown to the cluster", "wait"),
    "queued_active": ("Queued", "wait"),
    "system_on_hold": ("Waiting", "wait"),
    "user_on_hold": ("Held", "wait"),
    "user_system_on_hold": ("Held", "wait"),
    "running": ("Running", "run"),
    "system_suspended": ("Suspended by the cluster", "wait"),
    "user_suspended": ("Suspended", "wait"),
    "stopped": ("Stopped", "off"),
    "done": ("Done", "good"),
    "failed": ("Failed", "bad"),
}

#: The final ones among them (API.md's table of states).
FINAL = frozenset({"rejected", "stopped", "done", "failed"})


_UNITS = ("KiB", "MiB", "GiB", "TiB")


def state(task: Mapping[str, Any]) -> str:
    """The state in words: ``Failed (exit 3)``, ``Ended by SIGKILL``, ``Time limit reached``."""
    name = str(task.get("state", ""))
    if name == "failed":
        if "time limit" in str(task.get("detail", "")).lower():
            return "Time limit reached"
        if task.get("signal"):
            return f"Ended by {task['signal']}"
        if task.get("exit_status"):
            return f"Failed (exit {task['exit_status']})"
    return STATES.get(name, (name, "off"))[0]


def tone(task: Mapping[str, Any]) -> str:
    """Which colour the state has."""
    return STATES.get(str(task.get("state", "")), ("", "off"))[1]


def size(count: int) -> str:
    """Bytes for people, in binary units (IEC 80000-13): ``1.5 MiB``."""
    if count < 1024:
        return f"{count} byte{'' if count == 1 else 's'}"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    value, unit = count / 1024**power, _UNITS[power - 1]
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """A span for people, two units at most: ``1 h 5 min``."""
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def about(span: Mapping[str, float]) -> str:
    """What a sample of spans tells: ``about 5 min (2 min to 1 h)``, ``less than a second``."""
    median, low, high = span["median"], span["low"], span["high"]
    if high < 1:
        return "less than a second"
    if median < 1:
        return f"less than a second (up to {duration(high)})"
    said = f"about {duration(median)}"
    if low == high:
        return said
    return f"{said} (up to {duration(high)})" if low < 1 else f"{said} ({duration(low)} to {duration(high)})"


def time(text: str | None) -> str:
    """An RFC 3339 time for people, in UTC to the second; the page's script turns it into local time."""
    return f"{text[:10]} {text[11:19]} UTC" if text else ""


def usually(expected: Mapping[str, Mapping[str, float]], started: bool = False) -> str:
    """How long tasks of a script wait and run, from `history.expected`; empty where nothing is known."""
    said = []
    if "wait" in expected and not started:
        said.append(f"start after {about(expected['wait'])}")
    if "run" in expected:
        said.append(f"run for {about(expected['run'])}")
    if not said:
        return ""
    count = int(max(span["count"] for span in expected.values()))
    sample = "the one task that is" if count == 1 else f"the last {count} tasks that are"
    return f"Tasks of this script {' and '.join(said)}, by {sample} done."
