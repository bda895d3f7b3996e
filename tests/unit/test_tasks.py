"""The task record: every record survives its way to JSON and back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.errors import IllegalMove
from drmaaticd.states import State
from drmaaticd.tasks import MEMBER_LETTERS, MEMBER_STATES, Task, now_ms

# What JSON can carry: no lone surrogates (refused at the door), integers of 64 bits.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
moments = st.none() | st.integers(0, 2**53)

records = st.builds(
    Task,
    uuid=st.uuids(version=4).map(str),
    script=text,
    state=st.sampled_from(list(State)),
    created=st.integers(0, 2**53),
    updated=st.integers(0, 2**53),
    started=moments,
    ended=moments,
    description=text,
    params=st.lists(st.fixed_dictionaries({"name": text, "value": text | st.lists(text)}), max_size=3).map(
        tuple
    ),
    files_name=st.dictionaries(text, text, max_size=3),
    parent=st.none() | text,
    folder=text,
    depends_on=st.lists(text, max_size=3).map(tuple),
    owner=st.none() | text,
    visible=st.booleans(),
    resources=st.dictionaries(text, st.integers(0, 2**53) | text, max_size=3),
    array=st.none() | st.just({"begin": 1, "end": 3, "step": 1}),
    members=st.text("".join(MEMBER_STATES), max_size=5),
    attempt=st.integers(0, 5),
    job_id=st.none() | text,
    exit_status=st.none() | st.integers(0, 255),
    signal=st.none() | text,
    detail=text,
    usage=st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    stop=st.booleans(),
    wanted=text,
    deleted=moments,
    purged=st.booleans(),
)


@given(records)
def test_a_record_survives_its_way_to_json_and_back(task: Task) -> None:
    assert Task.from_json(orjson.loads(orjson.dumps(task.to_json()))) == task


def test_defaults_are_left_out_but_for_the_state() -> None:
    task = Task(uuid="u", script="s", state=State.RECEIVED, created=1, updated=2)
    assert task.to_json() == {"uuid": "u", "script": "s", "state": "received", "created": 1, "updated": 2}


@pytest.mark.parametrize(
    "document", [{}, {"uuid": "u"}, {"state": "nonsense"}, {"state": "done", "other": 1}]
)
def test_what_is_no_record_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Task.from_json(document)


def test_a_change_sets_the_time_and_checks_the_move() -> None:
    task = Task(uuid="u", script="s", state=State.RUNNING, created=1, updated=2)
    done = task.changed(state=State.DONE)
    assert done.updated >= now_ms() - 10_000
    assert done.ended == done.updated
    with pytest.raises(IllegalMove):
        done.changed(state=State.RUNNING)
    assert done.changed(detail="more").state is State.DONE


def test_times_never_go_back() -> None:
    future = now_ms() + 10**9
    task = Task(uuid="u", script="s", state=State.RUNNING, created=1, updated=future)
    assert task.changed(detail="x").updated == future


def test_each_state_has_its_letter() -> None:
    assert set(MEMBER_LETTERS) == set(State)
    assert len(MEMBER_STATES) == len(State)
