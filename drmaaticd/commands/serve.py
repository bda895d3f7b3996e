"""``drmaaticd serve``: the daemon, in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys

from drmaaticd import __version__, logs
from drmaaticd.commands import lookup
from drmaaticd.errors import ConfigurationError, StoreError
from drmaaticd.signals import Signals

log = logging.getLogger(__name__)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="run the daemon in the foreground",
        description="Run the daemon in the foreground; it logs to standard error. SIGTERM ends it "
        "(jobs go on), SIGHUP makes it read scripts.d again.",
    )
    lookup.add_argument(parser)
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="default: info")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="text", help="default: text")
    parser.set_defaults(run=run, prepare=prepare)


def prepare(arguments: argparse.Namespace) -> None:
    """Take the signals that come from now on."""
    arguments.signals = Signals()


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop. 0 after a clean end, 1 if the daemon cannot start or has failed."""
    try:
        return _serve(arguments, arguments.signals)
    finally:
        arguments.signals.ignore()  # until the process is gone


def _serve(arguments: argparse.Namespace, signals: Signals) -> int:
    logs.setup(arguments.log_level, arguments.log_format)
    path = lookup.find(arguments.config)
    try:
        config = lookup.load(path)
    except ConfigurationError as error:
        for finding in error.findings:
            print(finding, file=sys.stderr)
        return 1
    log.info(
        "drmaaticd %s, %s; state in %s, tasks in %s, scripts from %s",
        __version__,
        f"configuration {config.file}" if config.file else "embedded defaults (no configuration file)",
        config.paths.state_dir,
        config.paths.tasks_dir,
        config.paths.scripts_dir,
    )
    # Imported here: it brings Tornado and everything else, which no other command needs.
    from drmaaticd import daemon

    try:
        return daemon.run(config, signals)
    except (ConfigurationError, StoreError) as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        return 1
