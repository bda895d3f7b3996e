"""How the page says states, sizes and spans."""

from __future__ import annotations

import pytest

from drmaaticd.states import State
from drmaaticd.web.ui import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under 0.1 s"),
        (0.04, "under 0.1 s"),
        (0.25, "0.2 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (3905, "1 h 5 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1024 KiB"),
        (5 * 1024**4, "5 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


def test_every_state_has_words_and_a_tone() -> None:
    assert set(words.STATES) == {state.value for state in State}
    assert {state.value for state in State if state.final} == words.FINAL


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ({"state": "failed", "exit_status": 3}, "Failed (exit 3)"),
        ({"state": "failed", "exit_status": 137, "signal": "SIGKILL"}, "Ended by SIGKILL"),
        ({"state": "failed", "detail": "The time limit was reached."}, "Time limit reached"),
        ({"state": "failed"}, "Failed"),
        ({"state": "done", "exit_status": 0}, "Done"),
    ],
)
def test_an_end_is_worded(task: dict[str, object], text: str) -> None:
    assert words.state(task) == text
