"""The states: their words, and which move may follow which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.errors import IllegalMove
from drmaaticd.states import LIVE, MOVES, State, check_move

states = st.sampled_from(list(State))


@given(states, states)
def test_a_final_state_never_changes(before: State, after: State) -> None:
    if before.final and after is not before:
        with pytest.raises(IllegalMove):
            check_move(before, after)


@given(st.sampled_from(sorted(LIVE)))
def test_every_live_state_leads_to_every_ending_a_job_can_have(state: State) -> None:
    for ending in (State.DONE, State.FAILED, State.STOPPED):
        check_move(state, ending)


@given(states)
def test_a_state_may_stay(state: State) -> None:
    check_move(state, state)


def test_only_what_has_not_run_can_be_rejected() -> None:
    assert {state for state in State if State.REJECTED in MOVES[state]} == {
        State.RECEIVED,
        State.SYSTEM_ON_HOLD,
        State.USER_ON_HOLD,
        State.USER_SYSTEM_ON_HOLD,
    }


def test_the_words_are_those_of_the_contract() -> None:
    assert [(state.value, state.text, state.final) for state in State] == [
        ("received", "task has been received from the ws", False),
        ("rejected", "task has been rejected from the ws", True),
        ("created", "task has been created and sent to the DRM", False),
        ("undetermined", "process status cannot be determined", False),
        ("queued_active", "job is queued and active", False),
        ("system_on_hold", "job is queued and in system hold", False),
        ("user_on_hold", "job is queued and in user hold", False),
        ("user_system_on_hold", "job is queued and in user and system hold", False),
        ("running", "job is running", False),
        ("system_suspended", "job is system suspended", False),
        ("user_suspended", "job is user suspended", False),
        ("stopped", "job was stopped by the user", True),
        ("done", "job finished normally", True),
        ("failed", "job finished, but failed", True),
    ]
