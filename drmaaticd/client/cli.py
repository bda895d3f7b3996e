"""``drmaatic``: run the cluster's scripts from a terminal.

Exit status: 0 fine; 1 the service refused, cannot be reached, or the task that was waited for did
not end as ``done``; 2 a wrong command line. What the commands do is the business of `api`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from drmaaticd.client import arguments as script_arguments
from drmaaticd.client.api import FINAL, JSON, Client, ClientError, store

DEFAULT_URL = "http://127.0.0.1:8300"
URL_VARIABLE = "DRMAATIC_URL"
TOKEN_VARIABLE = "DRMAATIC_TOKEN"  # noqa: S105 - the name of a variable
#: Seconds between two looks at a log that is followed.
FOLLOW_PAUSE = 0.5


class Refused(Exception):
    """The command cannot do what was asked, for a reason on this side."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    with Client(arguments.url, os.environ.get(TOKEN_VARIABLE)) as client:
        try:
            return int(arguments.run(client, arguments))
        except (ClientError, Refused, OSError) as error:
            for line in str(error).splitlines():
                print(f"drmaatic: {printable(line)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("drmaatic: interrupted; tasks go on", file=sys.stderr)
            return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="drmaatic", description="Run the cluster's scripts.", parents=[_common()], allow_abbrev=False
    )
    parser.set_defaults(url=os.environ.get(URL_VARIABLE) or DEFAULT_URL, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[_common()], allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    sub = command("scripts", show_scripts, "list what can be run, or the parameters of one script")
    sub.add_argument("script", nargs="?", metavar="SCRIPT")

    sub = command("run", run_script, "run a script; its parameters are options: run SCRIPT --help")
    sub.add_argument("script", metavar="SCRIPT")
    sub.add_argument("rest", nargs=argparse.REMAINDER, metavar="--parameter value …")

    sub = command("status", show_status, "show tasks, or list one's own")
    sub.add_argument("task", nargs="*", metavar="TASK")

    sub = command("logs", show_log, "print what a task wrote to its standard output")
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("-e", "--stderr", action="store_true", help="its standard error instead")
    sub.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")

    sub = command("files", list_files, "list the files of a task")
    sub.add_argument("task", metavar="TASK")

    sub = command("download", download, "store all files of an ended task as one archive")
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("-o", "--output", type=Path, default=Path(), metavar="PLACE", help="folder or file")
    sub.add_argument("--format", choices=("zip", "tar.gz"), default="zip")

    for name, run, text in (
        ("stop", stop, "stop tasks"),
        ("rm", remove, "stop tasks and remove them with their files"),
    ):
        command(name, run, text).add_argument("task", nargs="+", metavar="TASK")
    return parser


def _common() -> argparse.ArgumentParser:
    """What may stand before and after the command. Made anew each time: parsers share what they are
    given, and a default set in one would hide what was said before the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=argparse.SUPPRESS, help=f"the service (else ${URL_VARIABLE})")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    return common


def show_scripts(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic scripts``."""
    if arguments.script:
        script = client.script(arguments.script)
        if arguments.json:
            print_json(script)
        else:
            _run_parser(script).print_help()
        return 0
    scripts = list(client.scripts())
    if arguments.json:
        print_json(scripts)
    else:
        table((script["name"], script.get("description", "")) for script in scripts)
    return 0


def run_script(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic run``: submit, and with ``--wait`` see it through."""
    script = client.script(arguments.script)
    parser = _run_parser(script)
    options = parser.parse_args(arguments.rest, argparse.Namespace(json=arguments.json))
    try:
        given = script_arguments.inputs(options, script)
    except ValueError as error:
        parser.error(str(error))
    task = client.run(
        script["name"],
        given.values,
        given.files,
        description=options.description,
        dependencies=options.after,
    )
    if not (options.wait or options.output):
        _print_tasks([task], options.json)
        return 0
    print(f"task {task['uuid']}", file=sys.stderr)
    task = client.wait(task["uuid"], changed=_tell)
    if options.output:
        save_files(client, task["uuid"], options.output, force=options.force)
    if options.json:
        print_json(task)
    return 0 if task["state"] == "done" else 1


def _run_parser(script: Mapping[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"drmaatic run {script['name']}", description=script.get("description"), allow_abbrev=False
    )
    parser.add_argument("--wait", action="store_true", help="wait until the task has ended")
    parser.add_argument("--output", type=Path, metavar="DIR", help="wait, then store the task's files there")
    parser.add_argument("--force", action="store_true", help="let --output replace files")
    parser.add_argument("--description", default="", metavar="TEXT", help="a note for the list of tasks")
    parser.add_argument("--after", action="append", default=[], metavar="TASK", help="start after this task")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    script_arguments.add_parameters(parser, script)
    return parser


def show_status(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic status``."""
    tasks = [client.task(task) for task in arguments.task] if arguments.task else list(client.tasks())
    _print_tasks(tasks, arguments.json)
    return 0


def show_log(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic logs``: bytes as they are; following it is asking for what comes after them."""
    position = 0
    while True:
        # The state is asked for first: what the task wrote before it ended is then all there.
        task = client.task(arguments.task)
        ended = task["state"] in FINAL
        name = task.get("stderr" if arguments.stderr else "stdout")
        if name is None:
            raise Refused("this task has no such file; `drmaatic files` lists what there is")
        position += _copy_log(client, arguments.task, name, position, missing_is_error=not arguments.follow)
        if ended or not arguments.follow:
            return 0
        time.sleep(FOLLOW_PAUSE)


def _copy_log(client: Client, task: str, name: str, start: int, *, missing_is_error: bool) -> int:
    """Print the file from `start` on; the number of bytes."""
    written = 0
    try:
        for block in client.read(task, name, start):
            sys.stdout.buffer.write(block)
            written += len(block)
    except ClientError as error:
        if missing_is_error or getattr(error, "status", None) != 404:
            raise
    sys.stdout.buffer.flush()
    return written


def list_files(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic files``."""
    files = client.files(arguments.task)
    if arguments.json:
        print_json(files)
    else:
        table((file["size"], file["modified"], _local_name(file["path"])) for file in files)
    return 0


def download(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic download``."""
    path = client.download(arguments.task, arguments.output, arguments.format)
    if arguments.json:
        print_json({"path": str(path)})
    else:
        print(printable(str(path)))
    return 0


def stop(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic stop``."""
    return _each(arguments, lambda task: client.stop(task).get("detail", "stopped"))


def remove(client: Client, arguments: argparse.Namespace) -> int:
    """``drmaatic rm``."""

    def one(task: str) -> str:
        client.delete(task)
        return "removed"

    return _each(arguments, one)


def _each(arguments: argparse.Namespace, act: Any) -> int:
    """Do something with each task; one that fails does not keep the others from it."""
    results, failed = [], False
    for task in arguments.task:
        try:
            results.append({"uuid": task, "detail": act(task)})
        except ClientError as error:
            failed = True
            results.append({"uuid": task, "error": str(error)})
    if arguments.json:
        print_json(results)
    else:
        for result in results:
            text = f"{result['uuid']}: {result.get('detail') or result['error']}"
            print(printable(text), file=sys.stderr if "error" in result else sys.stdout)
    return int(failed)


def save_files(client: Client, task: str, folder: Path, *, force: bool = False) -> None:
    """Store each file of a task below `folder`. Raises `Refused` rather than leave it or replace one."""
    targets = []
    for file in client.files(task):
        name = PurePosixPath(_local_name(file["path"]))
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise Refused(f"the service names a file outside of the folder: {name}")
        target = folder / name
        if not force and (target.exists() or target.is_symlink()):
            raise Refused(f"{target} exists already (--force replaces it)")
        targets.append((file["path"], target))
    for path, target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        store(client.read(task, path), target)


def _local_name(path: str) -> str:
    return os.fsdecode(unquote_to_bytes(path))


def _print_tasks(tasks: Sequence[JSON], as_json: bool) -> None:
    if as_json:
        print_json(tasks[0] if len(tasks) == 1 else tasks)
    else:
        table((task["uuid"], task["state"], task["task_name"], _outcome(task)) for task in tasks)


def _outcome(task: JSON) -> str:
    """How it ended, or why it has not: ``exit 3``, ``SIGKILL``, the detail."""
    words = []
    if task.get("signal"):
        words.append(str(task["signal"]))
    elif task.get("exit_status"):
        words.append(f"exit {task['exit_status']}")
    if task.get("detail"):
        words.append(str(task["detail"]))
    return ", ".join(words)


def _tell(task: JSON) -> None:
    outcome = _outcome(task)
    print(printable(f"{task['state']}{f': {outcome}' if outcome else ''}"), file=sys.stderr)


def table(rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in columns as wide as they need."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """Print JSON for another program to read."""
    print(json.dumps(value, indent=2))


def printable(text: str) -> str:
    """The text without what a terminal would obey: names come from others."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
