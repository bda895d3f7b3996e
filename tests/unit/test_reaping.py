"""Ended jobs that the embedded engine keeps until it was asked about them, through a crash of the daemon."""

from __future__ import annotations

from pathlib import Path

from drmaaticd.drm.base import Action
from drmaaticd.drm.local import LocalEngine
from tests.launching import in_loop, until
from tests.unit.test_sync import House

ARRAY = {"begin": 1, "end": 3, "step": 1}


def records(folder: Path) -> list[str]:
    """The engine's files of jobs."""
    return [path.name for path in (folder / "local").glob("*.json")]


async def crash_before_reaping(folder: Path, *, array: bool, cut: bool = False) -> str:
    """A task that has ended, in the store as with the engine, which nobody has asked about it since."""
    engine = LocalEngine(folder, slots=0 if cut else 3)
    async with House(folder, engine) as house:  # type: ignore[arg-type]
        house.reaping.cancel()
        await engine.start()
        uuid = await house.add("exit 3", array=ARRAY if array else None)
        job_id = await house.submitted(uuid)
        if cut:
            await engine.control(job_id, Action.TERMINATE)
            house.store.update(uuid, lambda task: task.changed(stop=True))

        async def final() -> bool:
            await house.sync.spool_pass()
            return house.get(uuid).final

        await until(final)
        await engine.close()
    assert records(folder)
    return uuid


async def next_daemon(folder: Path, uuid: str) -> None:
    """The records of the task's job go, and what is known of it stays."""
    engine = LocalEngine(folder, slots=3)
    async with House(folder, engine) as house:  # type: ignore[arg-type]
        before = house.get(uuid)
        await engine.start()

        async def forgotten() -> bool:
            await house.sync.spool_pass()
            return not records(folder)

        await until(forgotten)
        assert house.get(uuid).state is before.state
        assert house.get(uuid).exit_status == before.exit_status
        await engine.close()


@in_loop
async def test_a_job_that_was_not_asked_about_before_a_crash_is_forgotten_after_it(tmp_path: Path) -> None:
    uuid = await crash_before_reaping(tmp_path, array=False)
    await next_daemon(tmp_path, uuid)


@in_loop
async def test_so_is_an_array(tmp_path: Path) -> None:
    uuid = await crash_before_reaping(tmp_path, array=True)
    await next_daemon(tmp_path, uuid)


@in_loop
async def test_so_is_an_array_of_which_no_member_ran(tmp_path: Path) -> None:
    uuid = await crash_before_reaping(tmp_path, array=True, cut=True)
    await next_daemon(tmp_path, uuid)
