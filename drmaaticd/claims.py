"""The job that claimed a task is its job, whichever id was recorded (or was not).

The answer to a submission may be lost, and the task be submitted again: then the first job's claim
says which of them runs. But a job can forge its claim, and would be out of reach behind another's
id. Where the engine tells whose a job is, it is asked; what it does not confirm is not believed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from drmaaticd.drm.base import Engine, EngineError
from drmaaticd.launcher import Evidence
from drmaaticd.outcome import members_of
from drmaaticd.store import Store

log = logging.getLogger(__name__)

Key = tuple[str, int | None]
"""A job of a task: its UUID, and the index for a member of an array."""


class Claims:
    """Takes claims into the tasks' records. All methods run on the loop."""

    def __init__(self, store: Store, engine: Engine, budget: float) -> None:
        """`budget`: seconds for the engine's answer, as in `Engine.states`."""
        self._store = store
        self._engine = engine
        self._budget = budget

    async def adopt(self, evidence: Mapping[Key, Evidence]) -> set[str]:
        """Record the ids of the jobs that claimed these tasks; the UUIDs of those whose id was another.

        A claim that the engine cannot confirm at present is left for the next look.
        """
        claims = {  # a record is read once, however many of its members have claimed
            (uuid, found.claim.job_id): index
            for (uuid, index), found in evidence.items()
            if found.claim is not None
        }
        news = {
            uuid: (job_id, index) for (uuid, job_id), index in claims.items() if self._is_new(uuid, job_id)
        }
        if news and self._engine.tells_tasks:
            news = await self._confirmed(news)
        return {uuid for uuid, (job_id, _) in news.items() if self._take_on(uuid, job_id)}

    def _is_new(self, uuid: str, job_id: str) -> bool:
        task = self._store.get(uuid)
        return task is not None and not task.final and task.job_id != job_id

    async def _confirmed(
        self, news: Mapping[str, tuple[str, int | None]]
    ) -> dict[str, tuple[str, int | None]]:
        """Those of the claims by jobs that are the task's, as the engine says."""
        asked = {
            uuid: job_id if index is None else self._engine.element(job_id, index)
            for uuid, (job_id, index) in news.items()
        }
        try:
            reports = await self._engine.states(list(asked.values()), self._budget)
        except EngineError as error:
            log.info("the DRM does not say whose the claims of %d tasks are: %s", len(asked), error)
            return {}
        return {
            uuid: news[uuid]
            for uuid, job_id in asked.items()
            if job_id in reports and reports[job_id].task == uuid
        }

    def _take_on(self, uuid: str, job_id: str) -> bool:
        task = self._store.get(uuid)
        if task is None or task.final or task.job_id == job_id:
            return False
        if task.job_id is not None or task.attempt == 0:
            log.info("task %s was claimed by job %s, not by %s", uuid, job_id, task.job_id)
        self._store.update(uuid, lambda known: known.changed(job_id=job_id, members=members_of(known)))
        return True
