"""What a task's page is made of: its particulars, its timeline, and the end of a log as text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.callers import Caller
from drmaaticd.drm.base import Action
from drmaaticd.errors import Forbidden
from drmaaticd.particulars import Particulars, members
from drmaaticd.states import State
from drmaaticd.tasks import MEMBER_LETTERS, MEMBER_STATES, Task
from drmaaticd.web.ui import words
from drmaaticd.web.ui.logtail import last_lines, plain
from drmaaticd.web.ui.timeline import timeline

UUID = "0f5f1a1e-0000-4000-8000-000000000000"
ANYONE = Caller.anonymous("127.0.0.1")
OWNER = Caller(user="ORCID:a", name="a", group="registered", is_admin=False, address="127.0.0.1")


def task(**fields: Any) -> Task:
    return Task(
        **{"uuid": UUID, "script": "demo", "state": State.RUNNING, "created": 0, "updated": 0, **fields}
    )


class Allows:
    """Controls that allow these."""

    def __init__(self, *actions: Action) -> None:
        self.actions = list(actions)

    def allowed(self, _task: Task) -> list[Action]:
        return self.actions


def shown(known: Task, caller: Caller, *actions: Action) -> dict[str, Any]:
    return Particulars(lambda _caller, _uuid: known, Allows(*actions)).task(caller, UUID)  # type: ignore[arg-type]


# -- particulars


def test_who_may_is_told_what_is_possible() -> None:
    told = shown(task(owner="ORCID:a"), OWNER, Action.TERMINATE, Action.SUSPEND)
    assert (told["usable"], told["actions"]) == (True, ["stop", "suspend"])
    assert told["link_expires"] == ""


def test_who_came_by_a_link_is_told_until_when_and_of_nothing_to_do() -> None:
    reader = Caller(
        user=None, name="", group="anonymous", is_admin=False, address="", link=UUID, link_expires=90
    )
    told = shown(task(owner="ORCID:a"), reader, Action.TERMINATE)
    assert (told["usable"], told["actions"]) == (False, [])
    assert told["link_expires"] == "1970-01-01T00:01:30.000Z"


def test_a_deleted_task_can_be_asked_for_nothing() -> None:
    told = shown(task(deleted=5), ANYONE, Action.TERMINATE)
    assert (told["usable"], told["actions"], told["deleted"]) == (False, [], True)


def test_what_was_asked_for_without_the_administrators_words() -> None:
    resources = {"queue": "", "cpus": 2, "memory": None, "max_clock_time": 60, "native": "-l secret"}
    told = shown(task(resources=resources, cost=7), ANYONE)
    assert told["requested"] == {"cpus": 2, "max_clock_time": 60}
    assert told["credit"] == 7


def test_what_is_under_way_is_nothing_any_more_when_it_has_ended() -> None:
    told = shown(task(stop=True, wanted="hold"), ANYONE)
    assert (told["stopping"], told["wanted"]) == (True, "hold")
    told = shown(task(stop=True, wanted="hold", state=State.DONE), ANYONE)
    assert (told["stopping"], told["wanted"]) == (False, "")


def test_the_rule_of_who_may_see_is_the_services() -> None:
    def refuse(_caller: Caller, _uuid: str) -> Task:
        raise Forbidden("no")

    questions = Particulars(refuse, Allows())  # type: ignore[arg-type]
    for question in (questions.task, questions.members):
        with pytest.raises(Forbidden):
            question(ANYONE, UUID)


@given(st.text(alphabet=sorted(MEMBER_STATES), min_size=1, max_size=200))
def test_runs_are_the_members(letters: str) -> None:
    told = members(task(array={"begin": 1, "end": len(letters), "step": 1}, members=letters))
    assert "".join(MEMBER_LETTERS[State(state)] * count for state, count in told["runs"]) == letters
    neighbours = [state for state, _ in told["runs"]]
    assert all(one != other for one, other in pairwise(neighbours))


def test_members_before_there_are_any_and_of_no_array() -> None:
    array = {"begin": 2, "end": 9, "step": 3}
    assert members(task(array=array, state=State.RECEIVED)) == {**array, "runs": [["received", 3]]}
    assert members(task()) == {}


# -- the timeline

CREATED, STARTED, ENDED = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z", "2026-01-01T01:05:05.000Z"


def steps(state: str, submitted: bool = False, **more: Any) -> list[tuple[str, str, str, str]]:
    record = {"state": state, "creation_date": CREATED, **more}
    return [(step.name, step.phase, step.time, step.note) for step in timeline(record, submitted)]


RECEIVED = ("Received", "past", CREATED, "")
SUBMITTED = ("Submitted", "past", "", "")
BEGUN = ("Started", "past", STARTED, "after 5.0 s")


def test_a_task_that_waits() -> None:
    later = [("Submitted", "next", "", ""), ("Started", "next", "", ""), ("Ended", "next", "", "")]
    assert steps("received") == [RECEIVED, ("Waiting to be submitted", "now", "", ""), *later]
    assert steps("system_on_hold") == [RECEIVED, ("Waiting", "now", "", ""), *later]
    assert steps("queued_active", submitted=True) == [
        RECEIVED,
        SUBMITTED,
        ("Queued", "now", "", ""),
        *later[1:],
    ]


def test_a_task_that_runs_and_one_that_has_ended() -> None:
    assert steps("running", submitted=True, start_date=STARTED) == [
        RECEIVED,
        SUBMITTED,
        BEGUN,
        ("Running", "now", "", ""),
        ("Ended", "next", "", ""),
    ]
    assert steps("failed", start_date=STARTED, end_date=ENDED, exit_status=3)[-2:] == [
        BEGUN,
        ("Failed (exit 3)", "now", ENDED, "ran for 1 h 5 min"),
    ]


def test_what_is_not_known_is_not_claimed() -> None:
    assert steps("stopped", end_date=ENDED) == [RECEIVED, ("Stopped", "now", ENDED, "")]
    assert steps("rejected") == [RECEIVED, ("Refused by the cluster", "now", "", "")]
    assert steps("failed", submitted=True, end_date=ENDED) == [
        RECEIVED,
        SUBMITTED,
        ("Failed", "now", ENDED, ""),
    ]


@given(st.sampled_from([state.value for state in State]), st.booleans(), st.booleans())
def test_exactly_one_step_is_now(state: str, submitted: bool, started: bool) -> None:
    found = steps(state, submitted, **({"start_date": STARTED} if started else {}))
    phases = [phase for _, phase, _, _ in found]
    assert phases.count("now") == 1
    assert phases == sorted(phases, key=("past", "now", "next").index)


# -- a log's end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n", "a\nb\n"),
        ("10 %\r20 %\rdone\r\nnext", "done\nnext"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b[2K\x1b(B", "red x"),
        ("tab\t\x00\x07\x7f", "tab\t␀␇␡"),
        ("cut \x1b[3", "cut "),
        ("\x1b", ""),
    ],
)
def test_plain_text(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.text())
def test_nothing_that_does_not_show_is_left(text: str) -> None:
    assert all(character in "\t\n" or (" " <= character != "\x7f") for character in plain(text))


def test_a_cut_log_begins_with_a_line_or_at_least_a_character() -> None:
    assert last_lines(b"half\nwhole\n", whole=False) == "whole\n"
    assert last_lines(b"half\nwhole\n", whole=True) == "half\nwhole\n"
    assert last_lines("€".encode()[1:] + b" and on", whole=False) == " and on"
    assert last_lines(b"\xff", whole=True) == "�"


def test_what_a_sample_tells() -> None:
    told = {"low": 120.0, "median": 300.0, "high": 3600.0}
    assert words.about(told) == "about 5 min (2 min to 1 h)"
    assert words.about({**told, "low": 0.01}) == "about 5 min (up to 1 h)"
    assert words.about({**told, "low": 300.0, "high": 300.0}) == "about 5 min"
    assert words.about({"low": 0.01, "median": 0.2, "high": 90.0}) == "less than a second (up to 1 min 30 s)"
    assert words.about({"low": 0.01, "median": 0.2, "high": 0.4}) == "less than a second"
