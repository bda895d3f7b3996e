"""``drmaaticd``: the administrator's command; each subcommand is a module of `commands`.

Exit status: 0 fine, 1 something was found wrong or the daemon failed, 2 a wrong command line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from drmaaticd import __version__, logs, signals

#: Exit status of a command that failed or found something wrong, and of one that Ctrl-C ended.
FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (argparse itself exits with 2 for a wrong line)."""
    try:
        with signals.held():
            arguments = build_parser().parse_args(argv)
            logs.setup("warning")
            if "prepare" in arguments:  # for signals
                arguments.prepare(arguments)
        return int(arguments.run(arguments))
    except OSError as error:
        # What a command expects it reports itself; this is the disk, the folder's mode, the pipe.
        print(f"drmaaticd: {logs.escape(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    # Imported here: that takes half a second, in which a signal would end the program with a traceback.
    from drmaaticd.commands import accounts, check, init, serve, store

    parser = argparse.ArgumentParser(
        prog="drmaaticd",
        description="A cluster's head node as a self-service job API.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drmaaticd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (serve, check, init, store, accounts):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
