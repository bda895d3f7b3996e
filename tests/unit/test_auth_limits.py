"""Rates, CPU credit, users' names: under clocks that stand until they are moved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.auth.orcid import is_orcid
from drmaaticd.auth.rates import LEAST_BURST, SWEEP_AT, Rates, network_of
from drmaaticd.callers import Caller
from drmaaticd.config import Group
from drmaaticd.errors import NotAuthenticated, TooManyRequests
from drmaaticd.states import State
from drmaaticd.tasks import Task
from tests.accounts import Clock, Office, office

ADDRESS = "192.0.2.1"
ANONYMOUS = Caller.anonymous(ADDRESS)


def in_office(tmp_path: Path, visit: Callable[[Office], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with office(tmp_path, **options) as place:
            await visit(place)

    asyncio.run(main())


# -- ORCID iDs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["0000-0002-1825-0097", "0000-0001-5109-3700", "0000-0002-1694-233X", "0000-0003-1415-9269"]
)
def test_orcid(text: str) -> None:
    assert is_orcid(text)
    for digit in "0123456789X":  # no other check character is right
        assert is_orcid(text[:-1] + digit) == (digit == text[-1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0000-0002-1694-233x",
        "0000000218250097",
        "https://orcid.org/0000-0002-1825-0097",
        "0000-0002-1825-0097\n",
        "٠٠٠٠-0002-1825-0097",
        "X000-0002-1825-0097",
    ],
)
def test_no_orcid(text: str) -> None:
    assert not is_orcid(text)


@given(st.integers(0, 10**15 - 1), st.integers(0, 14), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(number: int, place: int, by: int) -> None:
    digits = f"{number:015d}"
    right = next(text for last in "0123456789X" if is_orcid(text := grouped(digits + last)))
    wrong = digits[:place] + str((int(digits[place]) + by) % 10) + digits[place + 1 :]
    assert not is_orcid(grouped(wrong + right[-1]))


def grouped(digits: str) -> str:
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


# -- rates -----------------------------------------------------------------------------------------


def refused(rates: Rates, key: str, rate: float) -> int | None:
    """The Retry-After of a refusal, None if there was none."""
    try:
        rates.take(key, rate)
    except TooManyRequests as error:
        return int(error.headers["Retry-After"])
    return None


@given(st.floats(0.001, 1000), st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_never_more_than_rate_and_burst(rate: float, pauses: list[float]) -> None:
    clock = Clock(0.0)
    rates = Rates(clock)
    taken = 0
    for pause in pauses:
        clock.at += pause
        for _ in range(5):
            taken += refused(rates, "a", rate) is None
    assert taken <= max(LEAST_BURST, 2 * rate) + rate * clock.at + 1e-6


@given(st.floats(0.001, 1000))
def test_retry_after_is_true(rate: float) -> None:
    clock = Clock(0.0)
    rates = Rates(clock)
    while (wait := refused(rates, "a", rate)) is None:
        pass
    assert wait >= 1
    assert refused(rates, "b", rate) is None
    clock.at += wait + 1e-9
    assert refused(rates, "a", rate) is None
    if wait > 1:  # and no whole second less would have done
        assert wait - 1 < 1 / rate


def test_quiet_callers_are_forgotten() -> None:
    clock = Clock(0.0)
    rates = Rates(clock)
    for number in range(SWEEP_AT):
        rates.take(str(number), 1.0)
    clock.at += 60
    for number in range(SWEEP_AT):
        rates.take(f"new {number}", 1.0)
    assert len(rates._buckets) <= SWEEP_AT + 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("a socket", "a socket"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


def test_rates_are_by_user_and_by_address(tmp_path: Path) -> None:
    groups = {"anonymous": Group(rate=1), "registered": Group(rate=1), "staff": Group(rate=100)}

    async def visit(place: Office) -> None:
        accounts = place.accounts
        slow = (await accounts.issue_token("slow", group="registered", by="test"))["access_token"]
        quick = (await accounts.issue_token("quick", group="staff", by="test"))["access_token"]
        for _ in range(10):
            place.caller(slow)
            accounts.authenticate(None, ADDRESS)
        with pytest.raises(TooManyRequests) as error:
            place.caller(slow, address="192.0.2.99")  # wherever the user is
        assert error.value.headers == {"Retry-After": "1"}
        with pytest.raises(TooManyRequests):
            accounts.authenticate(None, ADDRESS)
        accounts.authenticate(None, "192.0.2.2")
        for _ in range(100):
            place.caller(quick)
        for _ in range(10):  # who tries tokens is slowed down, and locks out nobody
            with pytest.raises(NotAuthenticated):
                place.caller("guess", address="192.0.2.3")
        with pytest.raises(TooManyRequests):
            place.caller("guess", address="192.0.2.3")
        place.caller(quick, address="192.0.2.3")
        accounts.authenticate(None, "192.0.2.3")
        place.clock.at += 1
        place.caller(slow)
        with pytest.raises(TooManyRequests):
            place.caller(slow)

    in_office(tmp_path, visit, groups=groups)


# -- CPU credit --------------------------------------------------------------------------------------

SMALL = {"anonymous": Group(cpu_credit_max=10, cpu_credit_regen=0.5)}


def spend(place: Office, cost: int, caller: Caller = ANONYMOUS) -> None:
    place.accounts.charge(caller, cost)


def test_credit_is_spent_comes_back_and_never_passes_its_maximum(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        def has(required: int | None = None) -> tuple[Any, ...]:
            return tuple(place.accounts.cpu_credit(ANONYMOUS, required).values())

        assert has() == (10,)
        assert has(0) == (10, 0)
        assert has(11) == (10, "infinite")
        spend(place, 7)
        assert has(3) == (3, 0)
        assert has(4) == (3, 2)
        assert has(10) == (3, 14)
        with pytest.raises(TooManyRequests, match="4 needed, 3 available") as error:
            spend(place, 4)
        assert error.value.headers == {"Retry-After": "2"}
        place.clock.at += 1.9
        assert has(4) == (3, 1)
        place.clock.at += 0.1
        assert has(4) == (4, 0)
        spend(place, 4)
        assert has() == (0,)
        spend(place, 0)
        place.clock.at -= 1000  # a clock that was set back takes nothing
        assert has() == (0,)
        place.clock.at += 1_000_000
        assert has() == (10,)
        with pytest.raises(TooManyRequests, match="never") as never:
            spend(place, 11)
        assert never.value.headers == {}
        await place.store.durable()

    in_office(tmp_path, visit, groups=SMALL)


def test_without_regeneration_the_wait_is_infinite(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        spend(place, 6)
        assert place.accounts.cpu_credit(ANONYMOUS, 5) == {
            "available_cpu_credit": 4,
            "wait_time": "infinite",
        }
        await place.store.durable()

    in_office(tmp_path, visit, groups={"anonymous": Group(cpu_credit_max=10, cpu_credit_regen=0)})


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10)), max_size=20))
def test_the_wait_that_is_told_is_enough(steps: list[tuple[float, int]]) -> None:
    from drmaaticd.auth.credit import Credit

    class Table(dict[str, dict[str, Any]]):
        def put(self, key: str, value: dict[str, Any], *, revocable: bool = True) -> None:
            self[key] = value

    class Memory:
        def side(self, name: str) -> Table:
            return Table()

    clock = Clock()
    credit = Credit(Memory(), clock)  # type: ignore[arg-type]
    group = Group(cpu_credit_max=10, cpu_credit_regen=0.3)
    for pause, cost in steps:
        clock.at += pause
        wait = credit.wait_time("a", group, cost)
        assert wait is not None
        clock.at += wait
        credit.charge("a", group, cost)
        assert credit.available("a", group) >= -1e-5


def test_credit_outlives_a_restart_and_full_accounts_are_forgotten(tmp_path: Path) -> None:
    clock = Clock()

    async def before(place: Office) -> None:
        spend(place, 10)
        await place.store.durable()

    async def after(place: Office) -> None:
        clock.at += 2
        assert place.accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 1}
        await place.accounts.prune()
        assert len(place.store.side("credit")) == 1
        clock.at += 18
        await place.accounts.prune()
        assert len(place.store.side("credit")) == 0
        assert place.accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 10}

    in_office(tmp_path, before, clock=clock, groups=SMALL)
    in_office(tmp_path, after, clock=clock, groups=SMALL)


def rejected(**changes: Any) -> Task:
    fields = {"uuid": "u", "script": "s", "state": State.REJECTED, "created": 1, "updated": 1, "cost": 6}
    return Task(**(fields | {"payer": f"address:{ADDRESS}"} | changes))


def test_what_a_rejected_task_cost_is_given_back_once(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        accounts, store = place.accounts, place.store
        spend(place, 6)
        for number, state in enumerate((State.FAILED, State.DONE, State.STOPPED)):
            task = rejected(uuid=str(number), state=state)
            store.insert(task)
            accounts.settled(task)
        assert accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 4}
        store.insert(rejected())
        accounts.settled(store.get("u") or rejected())
        assert accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 10}
        spend(place, 6)
        accounts.settled(store.get("u") or rejected())
        accounts.recover()
        assert accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 4}
        store.insert(rejected(uuid="w"))
        accounts.recover()  # a daemon that died before it came to it
        assert accounts.cpu_credit(ANONYMOUS, None) == {"available_cpu_credit": 10}
        await store.durable()

    in_office(tmp_path, visit, groups=SMALL)


def test_exchanges_have_a_rate_of_their_own(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        async def attempt() -> None:
            await place.accounts.exchange(None, "0000-0002-1825-0097", ADDRESS)

        for _ in range(10):
            with pytest.raises(NotAuthenticated):
                await attempt()
        with pytest.raises(TooManyRequests) as error:
            await attempt()
        assert error.value.headers == {"Retry-After": "10"}
        place.accounts.authenticate(None, ADDRESS)

    in_office(tmp_path, visit, token_rate="6 per minute")
