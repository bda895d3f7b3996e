"""Would Slurm take the jobs that scripts ask for? What can be said without it, and what it says itself.

For ``drmaaticd check``: blocking, bounded, and without a job (``sbatch --test-only``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.drm import slurmanswers as answers
from drmaaticd.drm import slurmwords
from drmaaticd.drm.base import Array, Job, PassingFault
from drmaaticd.drm.dialects import Resources
from drmaaticd.drm.slurmcommands import Commands
from drmaaticd.errors import ConfigurationError, Finding

#: Seconds after which no further script is asked about.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one script asks for, where that is written, and the account and queue of who calls it."""

    file: Path
    resources: Resources
    array: Array | None = None
    account: str | None = None
    queue: str | None = None

    @property
    def job(self) -> Job:
        """A job that asks for it."""
        resources = self.resources
        return Job(
            task="check",
            name="drmaaticd-check",
            run_script=Path("/bin/true"),
            folder=Path("/"),
            cpus=resources.cpus,
            memory=resources.memory,
            max_clock_time=resources.max_clock_time,
            queue=resources.queue or self.queue,
            account=self.account,
            qos=resources.qos,
            licenses=resources.licenses,
            gres=resources.gres,
            native=resources.native,
            array=self.array,
        )


def findings(
    wanted: Iterable[Wanted],
    native: Mapping[str, str],
    config_file: Path,
    commands: Commands | None = None,
) -> Iterator[Finding]:
    """Everything that Slurm would not take; a warning if it cannot be asked. `native` is ``[drm.native]``."""
    commands = Commands() if commands is None else commands
    for text in slurmwords.setting_problems(native):
        yield Finding(config_file, text, "drm.native")
    askable = []
    for one in wanted:
        problems = slurmwords.problems(one.job, native, account=one.account, array=one.array)
        yield from (Finding(one.file, text, "resources") for text in problems)
        if not problems:
            askable.append(one)
    try:
        commands.find(config_file)
        yield from _asked(askable, native, commands)
    except ConfigurationError as error:
        yield from error.findings
    except PassingFault as fault:
        yield Finding(config_file, f"Slurm could not be asked about the scripts: {fault}", warning=True)


def _asked(wanted: Iterable[Wanted], native: Mapping[str, str], commands: Commands) -> Iterator[Finding]:
    """What the controller says. Raises `PassingFault`."""
    ping = commands.call("scontrol", ["ping"])
    if not answers.a_controller_is_up(ping.out):
        raise PassingFault(answers.text_of(ping.out + ping.err) or "no controller answers")
    deadline = time.monotonic() + PATIENCE
    for one in wanted:
        if time.monotonic() > deadline:
            raise PassingFault(f"its answers took more than {PATIENCE:g} s in all")
        options = ["--test-only", *slurmwords.submission(one.job, native)]
        said = commands.call("sbatch", options, slurmwords.batch_script(one.job))
        if said.status != 0:
            error = answers.error_of("sbatch", said.status, said.err)
            if isinstance(error, PassingFault):
                raise error
            who = f" (for account {one.account})" if one.account else ""
            yield Finding(one.file, f"Slurm would refuse its jobs{who}: {error}", "resources")
