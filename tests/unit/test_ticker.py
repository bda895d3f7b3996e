"""What is done every so often: through changes of the clock, failures and runs that take long."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from tornado.gen import with_timeout
from tornado.ioloop import IOLoop, PeriodicCallback

from drmaaticd.ticker import SteadyLoop, Timer
from tests.launching import in_loop, until

#: Seconds between two runs.
OFTEN = 0.01


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
@in_loop
async def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    runs: list[None] = []
    calls: list[None] = []

    async def run() -> None:
        runs.append(None)

    SteadyLoop()
    timer, ticker = Timer("the run", OFTEN, run), PeriodicCallback(lambda: calls.append(None), OFTEN * 1000)
    timer.start()
    ticker.start()
    await until(lambda: runs and calls)
    told = time.time
    monkeypatch.setattr(time, "time", lambda: told() + jump)
    runs.clear()
    calls.clear()
    await until(lambda: len(runs) > 2 and len(calls) > 2)
    await timer.stop()
    ticker.stop()


@in_loop
async def test_tornados_time_outs_go_by_the_same_clock() -> None:
    SteadyLoop()
    loop = IOLoop.current()
    assert isinstance(loop, SteadyLoop)
    assert abs(loop.time() - asyncio.get_running_loop().time()) < 60
    with pytest.raises(TimeoutError):
        await with_timeout(timedelta(seconds=OFTEN), asyncio.get_running_loop().create_future())


@pytest.mark.logs("the run failed; it is tried again")
@in_loop
async def test_one_run_at_a_time_and_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    runs, under_way = 0, 0

    async def run() -> None:
        nonlocal runs, under_way
        assert not under_way
        runs += 1
        under_way += 1
        await asyncio.sleep(2 * OFTEN)
        under_way -= 1
        raise OSError("the disk is full")

    timer = Timer("the run", OFTEN, run)
    timer.start()
    await until(lambda: runs > 3)
    await timer.stop()
    assert not under_way
    assert len(caplog.records) == 1
