"""Which engine the configuration means, and what it must know before anything else is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from drmaaticd import runas
from drmaaticd.config import Config
from drmaaticd.drm.base import Engine
from drmaaticd.drm.dialects import Dialect
from drmaaticd.drm.otheraccount import OtherAccount
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.script import Script


def make_engine(config: Config, state_dir: Path | None = None, account: OtherAccount | None = None) -> Engine:
    """The engine that the configuration names, not started yet. Raises `ConfigurationError`.

    `state_dir` is where it keeps what it must remember, instead of the daemon's own state folder;
    `account` is whom its jobs run under, where that is not the daemon's own (`runas.account`).
    """
    drm = config.drm
    state_dir = config.paths.state_dir if state_dir is None else state_dir
    if drm.backend == "local":
        from drmaaticd.drm.local import LocalEngine

        return LocalEngine(state_dir, drm.slots, account=account)
    if drm.backend == "drmaa":
        from drmaaticd.drm.drmaa import DrmaaEngine

        return DrmaaEngine(
            state_dir,
            library=drm.library,
            dialect=drm.dialect,
            native=native_settings(config),
            config_file=_file(config),
        )
    from drmaaticd.drm.slurm import SlurmEngine
    from drmaaticd.drm.slurmcommands import Commands

    commands = Commands(account=account)
    return SlurmEngine(native=native_settings(config), config_file=_file(config), commands=commands)


def findings(config: Config) -> list[Finding]:
    """What is wrong with the backend, as far as that is known without asking the DRM."""
    try:
        make_engine(config)
        if config.drm.run_as is not None:
            return runas.findings(config)
        return _dialect(config)[1] if config.drm.backend == "drmaa" else []
    except ConfigurationError as error:
        return list(error.findings)


def _dialect(config: Config) -> tuple[Dialect, list[Finding]]:
    from drmaaticd.drm import library

    drm = config.drm
    return library.examine(_file(config), drm.library, drm.dialect, native_settings(config), os.environ)


def native_settings(config: Config) -> Mapping[str, str]:
    """The site's own templates of ``[drm.native]``."""
    return config.drm.native.model_dump(exclude_none=True)


def script_findings(config: Config, scripts: Iterable[Script]) -> list[Finding]:
    """What of these scripts the configured DRM cannot be told, or would refuse if it can be asked.

    Accounts and queues that groups bring along are tried with Slurm. Raises `ConfigurationError` where
    `findings` has some.
    """
    scripts = list(scripts)
    unreachable = list(runas.script_findings(config, scripts))
    if config.drm.backend == "drmaa":
        dialect = _dialect(config)[0]
        return [finding for script in scripts for finding in _inexpressible(script, dialect, config)]
    if config.drm.backend != "slurm":
        return unreachable
    from drmaaticd.drm.slurmcheck import Wanted
    from drmaaticd.drm.slurmcheck import findings as asked
    from drmaaticd.drm.slurmcommands import Commands

    callers = {(group.account, group.queue): None for group in config.groups.values()}
    wanted = [
        Wanted(script.file, script.resources, script.array, account, queue)
        for script in scripts
        for account, queue in callers
    ]
    account = runas.account(config)
    try:
        commands = Commands(account=account)
        return [
            *unreachable,
            *dict.fromkeys(asked(wanted, native_settings(config), _file(config), commands)),
        ]
    finally:
        if account is not None:
            account.close()


def _inexpressible(script: Script, dialect: Dialect, config: Config) -> Iterator[Finding]:
    """What of a script's demands the DRM cannot be told: its tasks would be rejected."""
    for problem in dialect.problems(script.resources, native_settings(config), array=script.array):
        key, colon, message = problem.partition(": ")
        section = "array" if key == "array" else f"resources.{key}"
        yield Finding(script.file, message if colon else problem, section if colon else "resources")


def environment_to_start_anew(config: Config) -> dict[str, str] | None:
    """The environment with which this process must be started anew before all else, None if it need not.

    See `drm.library.needs_reexec`.
    """
    if config.drm.backend != "drmaa":
        return None
    from drmaaticd.drm.library import needs_reexec

    return needs_reexec(os.environ, config.drm.library)


def _file(config: Config) -> Path:
    return config.file or config.paths.state_dir
