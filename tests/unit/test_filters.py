"""The filters of the task list."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.errors import InvalidInput
from drmaaticd.filters import MAX_IDS, Filters, parse_filters
from drmaaticd.states import State


def test_nothing_asked_is_no_filter() -> None:
    assert parse_filters({"page": "3", "nonsense": "x"}) == Filters()


@pytest.mark.parametrize("name", ["state", "status", "task_name", "description", "search", "updated_since"])
def test_what_a_form_leaves_empty_is_no_filter(name: str) -> None:
    assert parse_filters({name: ""}) == Filters()


def test_no_ids_are_no_tasks() -> None:
    assert parse_filters({"ids": ""}).uuids == ()


@given(st.lists(st.sampled_from(list(State)), min_size=1))
def test_status_texts_are_found_though_some_hold_a_comma(states: list[State]) -> None:
    assert parse_filters({"status": ",".join(state.text for state in states)}).states == frozenset(states)
    assert parse_filters({"state": ", ".join(states)}).states == frozenset(states)


def test_unknown_states_match_nothing() -> None:
    assert parse_filters({"state": "nonsense"}).states == frozenset()
    assert parse_filters({"state": "nonsense,done"}).states == {State.DONE}


def test_state_and_status_narrow_each_other() -> None:
    query = {"state": "done,failed", "status": "job finished normally"}
    assert parse_filters(query).states == {State.DONE}


def test_bad_ids_are_ignored() -> None:
    good = str(uuid.uuid4())
    assert parse_filters({"ids": f"x,{good.upper()},,{{{good}}}"}).uuids == (good,)


def test_too_many_ids_are_an_error() -> None:
    many = ",".join(str(uuid.uuid4()) for _ in range(MAX_IDS + 1))
    with pytest.raises(InvalidInput) as caught:
        parse_filters({"ids": many})
    assert [error.name for error in caught.value.errors] == ["ids"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01T01:00:01 01:00", 1000),  # the plus of a query string that was not encoded
        ("1970-01-01T00:00:01.250", 1250),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01T00:00:60.5Z", 59_500),  # a leap second
    ],
)
def test_updated_since(text: str, expected: int) -> None:
    assert parse_filters({"updated_since": text}).updated_since == expected


@pytest.mark.parametrize("text", ["yesterday", "1", "0000-01-01T00:00:00Z"])
def test_updated_since_must_be_a_time(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_filters({"updated_since": text})


def test_the_time_of_creation_and_the_very_script() -> None:
    filters = parse_filters(
        {
            "created_since": "1970-01-01T00:00:01Z",
            "created_before": "1970-01-01T00:00:02Z",
            "exact_script": "blast",
        }
    )
    assert (filters.created_since, filters.created_before, filters.exact_script) == (1000, 2000, "blast")
    query = filters.query(None)
    assert (query.owner, query.created_since, query.exact_script, query.include_deleted) == (
        *(None, 1000, "blast"),
        False,
    )
    with pytest.raises(InvalidInput) as caught:
        parse_filters({"created_since": "x", "created_before": "y"})
    assert [error.name for error in caught.value.errors] == ["created_since", "created_before"]
