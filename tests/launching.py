"""Helpers for tests that run real launchers: a place with its folders, tasks in it, waiting for things."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmaaticd import launcher
from drmaaticd.drm.base import Action, Array, Engine, Job, JobState
from drmaaticd.launcher import Evidence, LaunchSpec
from drmaaticd.workspace import JobsAccount, Workspace

#: Seconds after which a condition that should come true counts as failed.
PATIENCE = 30.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an ``async def`` test on a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """Wait until `condition` (it may be a coroutine function) gives something true, and return that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert loop.time() < deadline, f"this did not come true: {what or inspect.getsource(condition)}"
        await asyncio.sleep(0.005)


class Place:
    """A tasks folder with its control folders and spool, and tasks whose commands are shell scripts."""

    def __init__(self, root: Path, *, jobs: JobsAccount | None = None) -> None:
        """`jobs` is the account that jobs run under, where it is another."""
        self.root = root
        self.spool = root / ".spool"
        self.workspace = None if jobs is None else Workspace(root, jobs=jobs)
        if self.workspace is None:
            self.spool.mkdir(parents=True)
        else:
            self.workspace.prepare()
        self.common = root / "common"
        """A folder that every job may write to, whosever it is."""
        self.common.mkdir()
        self.common.chmod(0o777)

    def spec(self, body: str = "exit 0", arguments: Iterable[str] = (), **more: Any) -> LaunchSpec:
        """A task with its folder and its written run.sh; `body` is the text of its command."""
        task = str(uuid.uuid4())
        text = f"#!/bin/sh\n{body}\n"
        folder = self.root / task
        if self.workspace is None:
            folder.mkdir()
            command = self.root / ".scripts" / f"{task}.sh"
            command.parent.mkdir(exist_ok=True)
            command.write_text(text)
            command.chmod(0o755)
        else:
            incoming = self.workspace.incoming(task)
            incoming.commit({})
            incoming.discard()
            self.workspace.make_control(task)
            command = self.workspace.store_script(text.encode(), "command")
        spec = LaunchSpec(
            task=task,
            folder=more.pop("folder", folder),
            control=self.root / ".control" / task,
            spool=self.spool,
            command=more.pop("command", command),
            arguments=tuple(arguments),
            shared=self.workspace is not None,
            **more,
        )
        launcher.write(spec.control, spec)
        return spec

    def job(
        self, body: str = "exit 0", *, array: Array | None = None, limit: int | None = None, **more: Any
    ) -> Job:
        """The same as a job for an engine."""
        spec = self.spec(body, array=array is not None, **more)
        return Job(
            task=spec.task,
            name=f"t-{spec.task}",
            run_script=spec.control / launcher.RUN_SCRIPT,
            folder=spec.folder,
            max_clock_time=limit,
            rerunnable=spec.rerunnable,
            array=array,
        )

    def evidence(self, task: str, index: int | None = None) -> Evidence:
        """What the task's launcher left."""
        return launcher.read(self.root / ".control" / task, index)

    def output(self, task: str, index: int | None = None) -> str:
        """Its standard output so far."""
        out = self.root / task / launcher.output_names(task, index)[0]
        return out.read_text() if out.exists() else ""

    def errors(self, task: str, index: int | None = None) -> str:
        """Its standard error so far."""
        return (self.root / task / launcher.output_names(task, index)[1]).read_text()

    def tasks(self) -> list[str]:
        """The UUIDs of all tasks that were made here."""
        return [path.name for path in (self.root / ".control").glob("*")]


@dataclass
class Cluster:
    """A resource manager with room for `slots` jobs, and a place that its nodes share with this machine."""

    place: Place
    make: Callable[[], Engine]
    slots: int
    heard: list[tuple[str, int | None]] = field(default_factory=list)
    """What the engine's listener was told."""
    gives_notice: bool = True
    """Whether a job that is terminated gets a signal first, which its launcher can write down."""
    limit_patience: float = PATIENCE
    """Seconds after which a job with the shortest time limit has been ended."""
    ids: dict[str, str] = field(default_factory=dict)
    """Task → the id of its job, for those that fill the slots."""

    @contextlib.asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """A started engine; the next one made continues where this one stopped."""
        engine = self.make()
        engine.listener = lambda task, index: self.heard.append((task, index))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


async def end_all(engine: Engine, place: Place) -> None:
    """Terminate every job that is left of a place's tasks, and wait until none is."""
    ids = [found for task in place.tasks() if isinstance(found := await engine.find(task), str)]
    for job_id in ids:
        await engine.control(job_id, Action.TERMINATE)

    async def gone() -> bool:
        reports = await engine.states(ids, 5.0)
        return all(report.state in (JobState.ENDED, JobState.UNKNOWN) for report in reports.values())

    await until(gone, "all jobs have ended")
