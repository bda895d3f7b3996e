"""The runner: one thread, priorities, shares, errors, closing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drmaaticd.drm.runner import BACKGROUND_SHARE, Priority, Runner, RunnerClosed
from tests.launching import in_loop, until


@asynccontextmanager
async def running() -> AsyncIterator[Runner]:
    runner = Runner("test-runner")
    runner.start()
    try:
        yield runner
    finally:
        assert await runner.close(10.0)


@asynccontextmanager
async def blocked(runner: Runner) -> AsyncIterator[None]:
    """The thread is busy with a call that ends when the block does."""
    release = threading.Event()
    blocking = asyncio.create_task(runner.run(release.wait, name="blocking", priority=Priority.CONTROL))
    await until(lambda: runner.busy() is not None)
    try:
        yield
    finally:
        release.set()
        await blocking


@in_loop
async def test_calls_are_made_in_one_named_thread() -> None:
    async with running() as runner:
        names = await asyncio.gather(
            *(runner.run(lambda: threading.current_thread().name) for _ in range(20))
        )
        assert set(names) == {"test-runner"}
        assert await runner.run(divmod, 7, 3) == (2, 1)
        assert runner.busy() is None


@in_loop
async def test_errors_come_out_where_the_call_was_awaited() -> None:
    async with running() as runner:
        with pytest.raises(ZeroDivisionError):
            await runner.run(lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await runner.run(lambda: next(iter(())))
        assert await runner.run(lambda: 5) == 5


@in_loop
async def test_stop_and_hold_come_first_then_submissions() -> None:
    async with running() as runner:
        made: list[Priority] = []
        async with blocked(runner):
            line = [*[Priority.SUBMIT] * 3, *[Priority.CONTROL] * 3]
            waiting = [asyncio.create_task(runner.run(made.append, kind, priority=kind)) for kind in line]
            await until(lambda: runner.waiting == len(line))
        await asyncio.gather(*waiting)
        assert made == sorted(line)


@in_loop
async def test_the_background_gets_its_share_however_many_submissions_wait() -> None:
    async with running() as runner:
        spent = {Priority.SUBMIT: 0.0, Priority.BACKGROUND: 0.0}
        shares: list[float] = []

        def work(kind: Priority) -> None:
            start = time.monotonic()
            time.sleep(0.001)
            spent[kind] += time.monotonic() - start
            if runner.waiting > 20:
                shares.append(spent[Priority.BACKGROUND] / sum(spent.values()))

        async with blocked(runner):
            kinds = [*[Priority.SUBMIT] * 300, *[Priority.BACKGROUND] * 200]
            waiting = [asyncio.create_task(runner.run(work, kind, priority=kind)) for kind in kinds]
            await until(lambda: runner.waiting == len(kinds))
        await asyncio.gather(*waiting)
        # While both wait: at least a fifth, up to one call's length; and no more than a fifth, nearly.
        assert BACKGROUND_SHARE * 0.8 < shares[100] < BACKGROUND_SHARE * 1.5


@in_loop
async def test_one_stuck_sweep_does_not_shut_sweeps_out_for_long() -> None:
    runner = Runner("test-runner")
    for _ in range(100):
        runner._account(Priority.BACKGROUND, 60.0, others_wait=True)
    submissions = 0
    while runner._debt <= 0:
        runner._account(Priority.SUBMIT, 0.1, others_wait=True)
        submissions += 1
    assert submissions * 0.1 < 60.0


@in_loop
async def test_a_call_whose_caller_has_gone_is_not_made() -> None:
    async with running() as runner:
        made: list[int] = []
        async with blocked(runner):
            waiting = asyncio.create_task(runner.run(made.append, 1))
            await until(lambda: runner.waiting == 1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await runner.run(made.append, 2)
        assert made == [2]


@in_loop
async def test_a_call_whose_caller_goes_while_it_is_made_is_finished() -> None:
    async with running() as runner:
        release, made = threading.Event(), []

        def slow() -> None:
            release.wait()
            made.append(1)

        waiting = asyncio.create_task(runner.run(slow))
        await until(lambda: runner.busy() is not None)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        release.set()
        assert await runner.run(lambda: list(made)) == [1]


@in_loop
async def test_how_long_the_present_call_has_lasted() -> None:
    async with running() as runner, blocked(runner):
        busy = runner.busy()
        assert busy is not None
        assert busy[0] == "blocking"
        assert busy[1] >= 0
        again = await until(lambda: runner.busy() if runner.busy() != busy else None)
        assert again[1] > busy[1]


@in_loop
async def test_closing_drops_what_waits_and_leaves_a_stuck_call_behind() -> None:
    runner = Runner("test-runner")
    runner.start()
    release = threading.Event()
    stuck = asyncio.create_task(runner.run(release.wait))
    await until(lambda: runner.busy() is not None)
    waiting = asyncio.create_task(runner.run(lambda: 1))
    await until(lambda: runner.waiting == 1)
    assert not await runner.close(0.0)
    with pytest.raises(RunnerClosed):
        await waiting
    with pytest.raises(RunnerClosed):
        await runner.run(lambda: 1)
    release.set()
    assert await stuck
    assert await runner.close(10.0)


def test_an_answer_for_a_loop_that_is_closed_is_dropped() -> None:
    runner = Runner("test-runner")
    runner.start()
    release = threading.Event()

    async def go_away() -> None:
        task = asyncio.create_task(runner.run(release.wait))
        await until(lambda: runner.busy() is not None)
        task.cancel()

    asyncio.run(go_away())
    release.set()

    async def another() -> int:
        return await runner.run(lambda: 4)

    assert asyncio.run(another()) == 4
    assert asyncio.run(runner.close(10.0))
