"""``drmaatic``: run the cluster's scripts from a terminal. This is the command line alone.

Exit statuses are told in `status`. What a command needs is imported when it is run, so that
``drmaatic --help`` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

PACKAGE = "drmaaticd.client"

#: More than the service gives for a page is cut by it.
PAGE_SIZE = 20

EPILOG = """\
environment:
  DRMAATIC_URL    the service
  DRMAATIC_TOKEN  the token; else what `drmaatic login` keeps for the service

exit status:
  0 fine; with --wait the task's own, 128+N if signal N ended it; 1 anything else;
  2 wrong command line or values; 66 no such script, task or file; 69 unreachable;
  75 busy, try later; 77 not signed in or not allowed; 124 --timeout; 130 Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding does not have is shown by number.
        with contextlib.suppress(AttributeError):  # a test's stand-in
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = build_parser().parse_args(argv)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from drmaaticd.client import status
    from drmaaticd.client.failures import ClientError
    from drmaaticd.client.session import Interrupted, Session, advised

    session = Session(arguments)
    try:
        module, function = arguments.run
        number = int(getattr(importlib.import_module(f"{PACKAGE}.{module}"), function)(session))
        sys.stdout.flush()
    except ClientError as error:
        session.say(advised(error))
        return status.of_error(error)
    except Interrupted as interruption:
        session.say(str(interruption))
        return status.INTERRUPTED
    except KeyboardInterrupt:
        session.say("interrupted; tasks go on")
        return status.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough (head). Nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status.BROKEN_PIPE
    except OSError as error:
        session.say(str(error))
        return status.WRONG
    except ValueError as error:
        session.say(str(error))
        return status.USAGE
    finally:
        session.close()
    return number


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="drmaatic",
        description="Run the cluster's scripts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
        allow_abbrev=False,
    )
    parser.set_defaults(url=None, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_accounts(commands)
    _add_running(commands)
    _add_looking(commands)
    _add_acting(commands)
    return parser


def _common() -> argparse.ArgumentParser:
    """What may stand before and after the command. Made anew each time: parsers share what they are
    given, and a default set in one would hide what was said before the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=argparse.SUPPRESS, help="the service (else $DRMAATIC_URL)")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    return common


def _command(commands: Any, name: str, run: tuple[str, str], text: str) -> argparse.ArgumentParser:
    """A command: `run` is a module and a function in it."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, parents=[_common()], allow_abbrev=False
    )
    made.set_defaults(run=run)
    return made


def _add_accounts(commands: Any) -> None:
    sub = _command(commands, "login", ("signin", "login"), "sign in: paste a token, which is kept")
    sub.add_argument(
        "--exchange",
        metavar="USER",
        help="paste the identity provider's token of USER (an ORCID iD), to be exchanged for the service's",
    )
    sub.add_argument("--insecure", action="store_true", help="send the token over plain http://")
    _command(commands, "logout", ("signin", "logout"), "revoke the token that is kept, and forget it")
    _command(commands, "whoami", ("signin", "whoami"), "say who the service takes you for")


def _add_running(commands: Any) -> None:
    from drmaaticd.client.options import RUN_DEFAULTS, add_run_options, add_wait_options

    sub = _command(commands, "scripts", ("commands", "show_scripts"), "list what can be run, or explain one")
    sub.add_argument("script", nargs="?", metavar="SCRIPT")
    sub.add_argument("--search", metavar="TEXT", help="only those with this in their name or description")

    text = "run a script; its parameters are options: run SCRIPT --help"
    sub = _command(commands, "run", ("running", "run_script"), text)
    sub.set_defaults(**RUN_DEFAULTS)
    add_run_options(sub)
    sub.add_argument("script", metavar="SCRIPT")
    sub.add_argument("rest", nargs=argparse.REMAINDER, metavar="--parameter value …")

    text = "run the same again, but for the parameters that are given"
    sub = _command(commands, "rerun", ("running", "rerun"), text)
    sub.set_defaults(**RUN_DEFAULTS)
    add_run_options(sub)
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("rest", nargs=argparse.REMAINDER, metavar="--parameter value …")

    text = "wait until tasks have ended; their exit status is this one's"
    sub = _command(commands, "wait", ("running", "wait"), text)
    sub.set_defaults(**RUN_DEFAULTS)
    add_wait_options(sub)
    sub.add_argument("task", nargs="+", metavar="TASK")


def _add_looking(commands: Any) -> None:
    sub = _command(commands, "tasks", ("commands", "show_tasks"), "list your tasks, newest first")
    sub.add_argument("task", nargs="*", metavar="TASK", help="only these")
    sub.add_argument("--state", metavar="STATE,…", help="only those in these states")
    sub.add_argument("--script", metavar="NAME", help="only those whose script's name holds this")
    sub.add_argument("--search", metavar="TEXT", help="only those with this anywhere")
    sub.add_argument("--description", metavar="TEXT", help="only those with this in their description")
    sub.add_argument("--since", metavar="TIME", help="only those that changed since (RFC 3339)")
    sub.add_argument("--page", type=int, default=1, metavar="N")
    sub.add_argument("--limit", type=int, default=PAGE_SIZE, metavar="N", help="tasks of a page")
    sub.add_argument("--all", action="store_true", help="every page")

    sub = _command(commands, "status", ("commands", "show_status"), "show all about tasks")
    sub.add_argument("task", nargs="+", metavar="TASK")

    sub = _command(commands, "logs", ("commands", "show_log"), "print what a task writes, both streams")
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")
    sub.add_argument("--stdout", action="store_true", help="its standard output alone")
    sub.add_argument("-e", "--stderr", action="store_true", help="its standard error alone")
    sub.add_argument("--index", type=int, metavar="N", help="one job of an array (else all, labelled)")
    sub.add_argument("--raw", action="store_true", help="let a terminal obey control characters")

    sub = _command(commands, "files", ("transfers", "list_files"), "list the files of a task")
    sub.add_argument("task", metavar="TASK")

    text = "store a task's files in a folder; what broke off is continued"
    sub = _command(commands, "download", ("transfers", "download"), text)
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("path", nargs="*", metavar="FILE", help="only these; may be patterns ('*.tsv')")
    sub.add_argument(
        "-o", "--output", metavar="PLACE", type=_path, help="folder (else one named as the task)"
    )
    sub.add_argument("--archive", choices=("zip", "tar.gz"), help="one archive of all files instead")
    sub.add_argument("--force", action="store_true", help="replace files that are there")


def _add_acting(commands: Any) -> None:
    for name, text in (
        ("stop", "stop tasks"),
        ("hold", "keep tasks that wait from starting"),
        ("release", "let held tasks start"),
        ("suspend", "halt running tasks"),
        ("resume", "let halted tasks run on"),
    ):
        sub = _command(commands, name, ("commands", "control"), text)
        sub.set_defaults(action=name)
        sub.add_argument("task", nargs="+", metavar="TASK")
    text = "stop tasks and remove them with their files"
    _command(commands, "rm", ("commands", "remove"), text).add_argument("task", nargs="+", metavar="TASK")
    text = "make tasks that were sent without signing in your own"
    _command(commands, "own", ("commands", "take"), text).add_argument("task", nargs="+", metavar="TASK")
    sub = _command(commands, "link", ("commands", "share"), "make a link with which others can read a task")
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("--lifetime", type=int, metavar="SECONDS", help="how long it is good")
    sub = _command(commands, "completion", ("commands", "complete"), "print a shell's completion of all this")
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
