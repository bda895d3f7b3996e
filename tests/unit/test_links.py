"""Links: one task, for a while, for reading."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from drmaaticd.callers import Caller
from drmaaticd.errors import Forbidden, InvalidInput, NotAuthenticated
from drmaaticd.states import State
from drmaaticd.tasks import Task
from drmaaticd.view import view
from tests.accounts import Office, office

pytestmark = pytest.mark.gen_test

NOBODY = Caller.anonymous("192.0.2.9")
TASK = Task(uuid="u1", script="s", state=State.DONE, created=1, updated=1, owner="internal:anna")


def refused(place: Office, task: Task | None, text: str) -> None:
    with pytest.raises(NotAuthenticated):
        place.accounts.links.follow(NOBODY, task, text)


async def test_a_link_lets_read_one_task_until_its_time_is_up(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        text, seconds = place.accounts.links.make(TASK, None)
        assert seconds == 300
        caller = place.accounts.links.follow(NOBODY, TASK, text)
        other = replace(TASK, uuid="u2")
        assert (caller.may_see(TASK), caller.may_use(TASK), caller.may_see(other)) == (True, False, False)
        caller.check_may_read_files(TASK)
        for check in (caller.check_may_read_files, caller.check_may_see, caller.check_may_use):
            with pytest.raises(Forbidden):
                check(other)
        place.clock.at += 299
        assert place.accounts.recheck(caller) == caller
        place.clock.at += 1
        assert place.accounts.recheck(caller) is None
        refused(place, TASK, text)


async def test_a_link_that_was_changed_is_none(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        text, _ = place.accounts.links.make(TASK, 60)
        kid, expires, signature = text.split(".")
        wrong = [
            f"{kid}.{int(expires) + 1}.{signature}",
            f"{'0' * len(kid)}.{expires}.{signature}",
            f"{kid}.{expires}.{'A' * 43}",
            f"{kid}.{expires}.{signature[:-1]}",
            *(f"{text}{more}" for more in ("x", "\n", " ", ".")),
            "",
            "x" * 100_000,
            "\ud800",
            f"{kid}.{expires}.{signature.swapcase()}",
        ]
        for one in wrong:
            refused(place, TASK, one)
        for position in range(len(text) - 1):  # the last character has two bits that mean nothing
            changed = "b" if text[position] == "a" else "a"
            refused(place, TASK, text[:position] + changed + text[position + 1 :])
        place.accounts.links.follow(NOBODY, TASK, text)


async def test_a_link_is_for_its_own_task_owner_and_installation(tmp_path: Path) -> None:
    async with office(tmp_path / "a") as place, office(tmp_path / "b") as elsewhere:
        text, _ = place.accounts.links.make(TASK, 60)
        refused(place, replace(TASK, uuid="u2"), text)
        refused(place, replace(TASK, owner="internal:bert"), text)
        refused(place, replace(TASK, owner=None), text)
        refused(place, replace(TASK, deleted=5), text)
        refused(place, None, text)
        refused(elsewhere, TASK, text)


async def test_a_link_outlives_the_daemon_but_not_the_key_that_signed_it(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        text, _ = place.accounts.links.make(TASK, 3600)
    async with office(tmp_path, clock=place.clock) as place:
        caller = place.accounts.links.follow(NOBODY, TASK, text)
        await place.accounts.rotate_key(overlap=60, by="test")
        assert place.accounts.recheck(caller) == caller
        await place.accounts.rotate_key(overlap=0, by="test")
        assert place.accounts.recheck(caller) is None
        refused(place, TASK, text)


async def test_a_link_ends_with_its_owners_account(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        await place.accounts.issue_token("anna", group="registered", by="test")
        text, _ = place.accounts.links.make(TASK, 60)
        caller = place.accounts.links.follow(NOBODY, TASK, text)
        await place.accounts.set_user("anna", disabled=True, by="test")
        assert place.accounts.recheck(caller) is None
        refused(place, TASK, text)


async def test_the_lifetime_is_bounded(tmp_path: Path) -> None:
    async with office(tmp_path, max_link_lifetime=100.0) as place:
        assert place.accounts.links.make(TASK, 100)[1] == 100
        assert place.accounts.links.make(TASK, None)[1] == 100
        with pytest.raises(InvalidInput) as wrong:
            place.accounts.links.make(TASK, 101)
        assert wrong.value.errors[0].name == "lifetime"
        assert "100 seconds" in wrong.value.errors[0].detail


async def test_a_link_to_what_nobody_owns_ends_when_it_gets_an_owner(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        unowned = replace(TASK, owner=None)
        text, _ = place.accounts.links.make(unowned, 60)
        caller = place.accounts.links.follow(NOBODY, unowned, text)
        assert place.accounts.links.holds(caller)
        with pytest.raises(NotAuthenticated):
            place.accounts.links.follow(NOBODY, TASK, text)


async def test_a_link_tells_nothing_of_other_tasks(tmp_path: Path) -> None:
    task = replace(
        TASK, parent="p", depends_on=("d",), params=({"name": "n", "value": "v", "private": True},)
    )
    by_link = view(task, replace(NOBODY, link="u1"), below=["c"], keep_seconds=None)
    assert (by_link["descendants"], by_link["depends_on"], by_link["params"]) == ([], [], [])
    assert not {"parent_task", "dependency_type", "user", "sender_ip_addr"} & set(by_link)
    of_owner = view(task, replace(NOBODY, user="internal:anna"), below=["c"], keep_seconds=None)
    assert (of_owner["descendants"], of_owner["depends_on"], of_owner["parent_task"]) == (["c"], ["d"], "p")


async def test_rights_that_last_are_asked_anew(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        told = await place.accounts.issue_token("anna", group="staff", lifetime=100, by="test")
        caller = place.caller(told["access_token"])
        assert place.accounts.recheck(caller) == caller
        assert place.accounts.recheck(NOBODY) == NOBODY
        await place.accounts.set_user("anna", group="registered", by="test")
        assert not place.accounts.recheck(caller).is_admin  # type: ignore[union-attr]
        await place.accounts.set_user("anna", disabled=True, by="test")
        assert place.accounts.recheck(caller) is None
        await place.accounts.set_user("anna", disabled=False, by="test")
        await place.accounts.rotate_key(overlap=0, by="test")
        assert place.accounts.recheck(caller) is None
        told = await place.accounts.issue_token("anna", lifetime=100, by="test")
        caller = place.caller(told["access_token"])
        place.clock.at += 100
        assert place.accounts.recheck(caller) is None
        told = await place.accounts.issue_token("anna", lifetime=100, by="test")
        caller = place.caller(told["access_token"])
        await place.accounts.revoke_token(jti=told["jti"], by="test")
        assert place.accounts.recheck(caller) is None


async def test_the_text_needs_no_quoting_in_a_url(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", place.accounts.links.make(TASK, None)[0])
