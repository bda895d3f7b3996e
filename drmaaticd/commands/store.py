"""``drmaaticd store``: work on the store while no daemon runs.

What a repair does is the business of `store`.
"""

from __future__ import annotations

import argparse
import sys

from drmaaticd.commands import lookup
from drmaaticd.errors import ConfigurationError, StoreError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser("store", help="work on the store while no daemon runs")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    repair = actions.add_parser(
        "repair",
        allow_abbrev=False,
        help="keep what can be read of a damaged store",
        description="Keep what can be read of a store that the daemon refuses to open. What cannot be "
        "read is set aside, not removed, and named.",
    )
    lookup.add_argument(repair)
    repair.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Repair the store and say what was found; 1 if that cannot be done."""
    from drmaaticd.store import repair

    try:
        config = lookup.load(lookup.find(arguments.config))
        report = repair(config.paths.state_dir)
    except ConfigurationError as error:
        print(error)
        return 1
    except StoreError as error:
        print(f"drmaaticd store repair: {error}", file=sys.stderr)
        return 1
    for line in report:
        print(line)
    return 0
