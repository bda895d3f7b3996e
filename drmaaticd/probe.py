"""One real job, run to see that the cluster and this machine fit together: ``check --probe``.

It looks at what cannot be read from a configuration: whether the job sees the tasks' folder, under
which account and umask it runs, how far the clocks are apart, and how late its ending is seen.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drmaaticd import launcher, runas
from drmaaticd.config import Config
from drmaaticd.drm.base import Engine, EngineError, Job, JobState, PassingFault, Report
from drmaaticd.engines import make_engine
from drmaaticd.launcher import Evidence, LaunchSpec
from drmaaticd.workspace import Workspace

#: Seconds that the job may queue and run, and between two looks whether it has ended.
PATIENCE = 300.0
LOOK = 0.05

#: Seconds between two questions to the DRM, and the time for one.
ASK = 5.0

#: Seconds by which clocks and endings may be off before it is worth a warning.
CLOCK_LIMIT = 2.0
LATE_LIMIT = 5.0

COMMAND = """#!/bin/sh
echo "host $(hostname)"
echo "user $(id -un) $(id -u)"
echo "umask $(umask)"
echo "time $(date +%s)"
echo "folder $(pwd -P)"
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found: lines for people, and whether anything is wrong."""

    lines: tuple[str, ...]
    failed: bool


async def probe(config: Config, patience: float = PATIENCE) -> Answer:
    """Run one job and report. Raises `ConfigurationError` if there is no engine to run it."""
    state_dir = Path(tempfile.mkdtemp(prefix="drmaaticd-probe-"))
    account = runas.account(config)
    workspace = Workspace(config.paths.tasks_dir, jobs=account)
    workspace.make_places()
    task = str(uuid.uuid4())
    engine = make_engine(config, state_dir, account)
    try:
        await engine.start()
        try:
            return await _run(config, workspace, engine, task, patience)
        finally:
            await engine.close()
    finally:
        _clear(workspace, task)
        if account is not None:
            account.close()
        shutil.rmtree(state_dir, ignore_errors=True)


def _clear(workspace: Workspace, task: str) -> None:
    workspace.trash(task)
    workspace.empty_trash(task)
    workspace.remove_control(task)


async def _run(config: Config, workspace: Workspace, engine: Engine, task: str, patience: float) -> Answer:
    spec = _spec(workspace, task)
    _make_folder(workspace, task)
    spec.spool.mkdir(mode=0o750)
    if workspace.shared:
        spec.spool.chmod(0o2770)
    script = launcher.write(workspace.make_control(task), spec)
    job = Job(
        task=task,
        name=f"t-probe-{task}",
        run_script=script,
        folder=spec.folder,
        account=config.groups["registered"].account,
        queue=config.groups["registered"].queue,
    )
    submitted = time.time()
    try:
        job_id = await _submit(engine, job, patience)
    except EngineError as error:
        return Answer((f"the job was not taken: {error}",), failed=True)
    rung, report = await _wait(spec, engine, job_id, patience)
    evidence = launcher.read(workspace.control(task))
    if evidence.ending is None:
        said = "nothing" if report is None else f"{report.state}, {report.reason or 'no reason'}"
        return Answer(
            (
                f"job {job_id} left no report; the DRM says of it: {said}",
                f"most often the job does not see {config.paths.tasks_dir} on its node under the same path, "
                "or its account may not write there",
            ),
            failed=True,
        )
    lines = list(_findings(config, workspace, task, evidence, rung, submitted))
    return Answer((f"job {job_id} ran", *lines), failed=evidence.ending.status != 0)


def _make_folder(workspace: Workspace, task: str) -> None:
    """The task's folder, as a submission makes it."""
    incoming = workspace.incoming(task)
    try:
        incoming.commit({})
    finally:
        incoming.discard()


def _spec(workspace: Workspace, task: str) -> LaunchSpec:
    return LaunchSpec(
        task=task,
        folder=workspace.folder(task),
        control=workspace.control(task),
        # Its own: a daemon on the same folder would wonder about the doorbell of an unknown task.
        spool=workspace.folder(task) / ".spool",
        command=workspace.store_script(COMMAND.encode(), "probe"),
        shared=workspace.shared,
    )


async def _submit(engine: Engine, job: Job, patience: float) -> str:
    deadline = time.monotonic() + patience
    while True:
        try:
            return await engine.submit(job)
        except PassingFault:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(1.0)


async def _wait(
    spec: LaunchSpec, engine: Engine, job_id: str, patience: float
) -> tuple[float | None, Report | None]:
    """When the doorbell of the ending was seen, and the last that the DRM said."""
    bell = spec.spool / f"{spec.task}.ended"
    deadline = time.monotonic() + patience
    report: Report | None = None
    ask = time.monotonic() + ASK
    gone: float | None = None
    while time.monotonic() < deadline and (gone is None or time.monotonic() < gone):
        launcher.refresh(spec.spool)
        if bell.exists():
            return time.time(), report
        if time.monotonic() >= ask:
            ask = time.monotonic() + ASK
            try:
                report = (await engine.states([job_id], ASK)).get(job_id, report)
            except PassingFault:
                continue
            if gone is None and report is not None and report.state is JobState.ENDED:
                gone = time.monotonic() + 90.0  # a network file system may hide the ending for a minute
        await asyncio.sleep(LOOK)
    return None, report


def _findings(
    config: Config,
    workspace: Workspace,
    task: str,
    evidence: Evidence,
    rung: float | None,
    submitted: float,
) -> Iterator[str]:
    if evidence.reason:
        yield f"warning: {evidence.reason}"
    output = workspace.folder(task) / launcher.output_names(task)[0]
    told = dict(line.partition(" ")[::2] for line in output.read_text().splitlines())
    yield f"node: {told.get('host', '?')}"
    yield from _account(told.get("user", ""), config)
    yield f"umask: {told.get('umask', '?')}"
    if evidence.started is not None:
        yield f"started {max(evidence.started - submitted, 0.0):.1f} s after the submission"
    if "time" in told and rung is not None and evidence.ending is not None:
        skew = int(told["time"]) + 0.5 - evidence.ending.time
        note = "" if abs(skew) <= CLOCK_LIMIT else ", warning: times of tasks will be wrong by this"
        yield f"clocks: the node's differs from the file server's by about {skew:+.0f} s{note}"
        late = rung - evidence.ending.time
        note = "" if late <= LATE_LIMIT else ", warning: see docs/clusters.md on attribute caching"
        yield f"its ending was seen {max(late, 0.0):.2f} s after it{note}"


def _account(told: str, config: Config) -> Iterator[str]:
    name, _, number = told.partition(" ")
    own = pwd.getpwuid(os.geteuid())
    wanted = own if config.drm.run_as is None else pwd.getpwnam(config.drm.run_as)
    note = ""
    if number != str(wanted.pw_uid):
        note = f", warning: it should be {wanted.pw_name}, who is able to write to the tasks' folder"
    yield f"account: {name} ({number}){note}"
