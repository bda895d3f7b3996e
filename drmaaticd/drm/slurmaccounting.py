"""Slurm's accounting, where it runs: how jobs ended that the controller has forgotten, and what they used."""

from __future__ import annotations

import asyncio
import logging
import pwd
from collections.abc import Sequence
from typing import TypeVar

from drmaaticd.drm import slurmanswers as answers
from drmaaticd.drm.base import PassingFault, Report
from drmaaticd.drm.slurmcommands import ALL_INDICES, Commands, Kind

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Jobs that one sacct is asked about: their ids must fit a command line.
MOST_AT_ONCE = 1000


class Accounting:
    """What ``sacct`` tells. `running`: whether there is accounting, None until that is known."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.running: bool | None = None

    def learn(self, config: str) -> None:
        """Read from ``scontrol show config`` whether there is accounting."""
        storage = answers.setting(config, "AccountingStorageType") or ""
        self.running = "slurmdbd" in storage and self._commands.has("sacct")
        version = answers.setting(config, "SLURM_VERSION") or "of unknown version"
        log.info("Slurm %s, %s accounting", version, "with" if self.running else "without")

    async def ask(self, job_ids: Sequence[str]) -> dict[str, Report]:
        """What accounting says of these jobs; nothing where there is none. Raises `EngineError`."""
        found: dict[str, Report] = {}
        if self.running:
            for start in range(0, len(job_ids), MOST_AT_ONCE):
                found |= await self._ask(job_ids[start : start + MOST_AT_ONCE])
        return found

    async def _ask(self, job_ids: Sequence[str]) -> dict[str, Report]:
        arguments = ["--parsable2", "--noheader", f"--format={answers.SACCT_FORMAT}"]
        arguments += ["--user", self._commands.user, "--jobs", ",".join(job_ids)]
        output = await self._commands.run(Kind.QUESTION, "sacct", arguments, variables=ALL_INDICES)
        if output.status != 0:
            raise answers.error_of("sacct", output.status, output.err)
        return answers.sacct_reports(output.out, _account_name)


def _account_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def keep(memory: dict[str, T], key: str, value: T, most: int) -> None:
    """Remember the latest; what was remembered first is forgotten first."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > most:
        del memory[next(iter(memory))]


def settle(future: asyncio.Future[Report], answer: Report | PassingFault) -> None:
    """Tell whoever asked about an ended job."""
    if future.done():
        return
    if isinstance(answer, PassingFault):
        future.set_exception(answer)
        future.exception()  # whoever asked may have gone away
    else:
        future.set_result(answer)
