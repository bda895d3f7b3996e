"""Ended jobs that the DRM can forget: it is asked about each once more, which tells their usage.

The order of the asking and of the records matters: libraries tell an ending once only.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from dataclasses import dataclass
from typing import Any

from drmaaticd.drm.base import Action, Engine, EngineError, JobState, Report
from drmaaticd.errors import DrmaaticdError
from drmaaticd.outcome import added
from drmaaticd.states import State
from drmaaticd.store import Store

log = logging.getLogger(__name__)

#: Ended jobs that wait to be reaped from the DRM; no more are taken on (the DRM forgets them by itself).
BACKLOG = 100_000

#: Ended jobs that the DRM is asked about together; an engine may answer them all with one command.
AT_ONCE = 200

#: How often the DRM is asked about an ended job, the first pause in seconds, and how often it doubles.
TRIES = 12
FIRST_PAUSE = 0.5
DOUBLINGS = 7


@dataclass(slots=True)
class _Reaping:
    """An ended job that the DRM is to be asked about, and how often it was."""

    uuid: str
    job_id: str
    tries: int = 0


class Reaper:
    """The line of ended jobs. All methods run on the loop."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._line: list[tuple[float, int, _Reaping]] = []
        self._waiting: set[tuple[str, str]] = set()
        """Whom the line holds: task and job."""
        self._order = itertools.count()
        self._ready = asyncio.Event()

    def add(self, uuid: str, job_id: str) -> None:
        """This job of the task has ended, as the store says. Once in the line is enough."""
        if (uuid, job_id) not in self._waiting:
            self._add(0.0, _Reaping(uuid, job_id))

    def _add(self, delay: float, reaping: _Reaping) -> None:
        if len(self._line) >= BACKLOG:
            log.debug("job %s is left for the DRM to forget by itself", reaping.job_id)
            return
        self._waiting.add((reaping.uuid, reaping.job_id))
        heapq.heappush(self._line, (time.monotonic() + delay, next(self._order), reaping))
        self._ready.set()

    async def run_forever(self) -> None:
        """Ask the DRM about each ended job, until it has noticed the end and can forget it.

        Runs until cancelled. A DRM notices later than the launcher tells, so most are asked again.
        """
        while True:
            while self._line:
                wait = self._line[0][0] - time.monotonic()
                if wait > 0:
                    self._ready.clear()
                    await self._sleep(wait)
                    continue
                await self._reap(self._due(AT_ONCE))
            self._ready.clear()
            await self._ready.wait()

    def _due(self, most: int) -> list[_Reaping]:
        """Take those off the line whose time has come, at most so many."""
        now = time.monotonic()
        due: list[_Reaping] = []
        while self._line and self._line[0][0] <= now and len(due) < most:
            due.append(heapq.heappop(self._line)[2])
        self._waiting.difference_update((reaping.uuid, reaping.job_id) for reaping in due)
        return due

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until another job is to be reaped."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), seconds)

    async def _reap(self, due: list[_Reaping]) -> None:
        """Ask about these, once what is known of their ends is on the disk.

        A daemon that dies in between would find neither the reason in the store nor, the library having
        told it, with the DRM.
        """
        try:
            await self._store.durable()
        except DrmaaticdError as error:
            log.debug("ended jobs are not reaped while the store cannot be written: %s", error)
            for reaping in due:
                self._add(FIRST_PAUSE * 2**DOUBLINGS, reaping)
            return
        for reaping, outcome in zip(
            due, await asyncio.gather(*map(self._ask, due), return_exceptions=True), strict=True
        ):
            if isinstance(outcome, Exception):
                log.error("job %s could not be reaped", reaping.job_id, exc_info=outcome)

    async def _ask(self, reaping: _Reaping) -> None:
        try:
            report = (await self._engine.finished(reaping.job_id)).about(reaping.uuid)
        except EngineError as error:
            log.debug("job %s is not reaped yet: %s", reaping.job_id, error)
            report = None
        if report is not None and report.state is JobState.ENDED:
            self._add_usage(reaping.uuid, report)
        elif report is None or report.state is not JobState.UNKNOWN:
            reaping.tries += 1
            if reaping.tries < TRIES:
                self._add(FIRST_PAUSE * 2 ** min(reaping.tries, DOUBLINGS), reaping)
            elif report is not None:
                await self._end(reaping)

    async def _end(self, reaping: _Reaping) -> None:
        """A job that has told its ending and goes on all the same has no task any more: it is ended."""
        log.warning("job %s of the ended task %s goes on; it is ended", reaping.job_id, reaping.uuid)
        try:
            await self._engine.control(reaping.job_id, Action.TERMINATE, reaping.uuid)
        except EngineError as error:
            log.warning("job %s could not be ended: %s", reaping.job_id, error)

    def _add_usage(self, uuid: str, report: Report) -> None:
        task = self._store.get(uuid)
        if task is None:
            return
        changes: dict[str, Any] = {}
        if report.usage is not None:
            told = report.usage.as_json()
            if task.array is None:
                changes["usage"] = {**task.usage, **told}
            elif "max_rss_bytes" in told:  # the times of its members have been added up already
                changes["usage"] = added(task.usage, {"max_rss_bytes": told["max_rss_bytes"]})
        if task.state is State.FAILED and not task.detail and report.reason:
            changes["detail"] = report.reason
        if changes:
            self._store.update(uuid, lambda known: known.changed(**changes))
