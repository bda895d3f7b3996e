"""``drmaatic run``, ``rerun`` and ``wait``: submit a task, and see it through to its files."""

from __future__ import annotations

import argparse
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drmaaticd.client import arguments as script_arguments
from drmaaticd.client import status, transfers
from drmaaticd.client.failures import ApiError, Unreachable, WaitTimeout
from drmaaticd.client.options import add_run_options
from drmaaticd.client.session import Interrupted, Session
from drmaaticd.client.terminal import outcome, print_json, printable
from drmaaticd.client.upload import Progress
from drmaaticd.client.wording import Script, Task

#: Fields of the API that are options of another name here.
_OPTIONS = {
    "task_description": "--description",
    "parent_task": "--parent",
    "dependencies": "--after",
    "dependency_type": "--after-type",
    "task_name": "SCRIPT",
    "Idempotency-Key": "--idempotency-key",
}


def run_script(session: Session) -> int:
    """``drmaatic run``."""
    script = session.client.script(session.arguments.script)
    parser = script_parser(script, f"drmaatic run {script['name']}")
    options, given = _parse(parser, session.arguments, script)

    def submit(progress: Any) -> Task:
        return session.client.run(
            script["name"], given.values, given.files, progress=progress, **_common(options)
        )

    return _submitted(session, options, script, parser, submit, _label(given.files))


def rerun(session: Session) -> int:
    """``drmaatic rerun``."""
    old = session.client.task(session.arguments.task)
    script = session.client.script(old["task_name"])
    parser = script_parser(script, f"drmaatic rerun {session.arguments.task}")
    options, given = _parse(parser, session.arguments, script)

    def submit(progress: Any) -> Task:
        common = _common(options)
        if not common["description"]:
            del common["description"]
        with tempfile.TemporaryDirectory(prefix="drmaatic-") as folder:
            return session.client.rerun(
                old["uuid"],
                Path(folder),
                params=given.values,
                files=given.files,
                progress=progress,
                **common,
            )

    return _submitted(session, options, script, parser, submit, "the files")


def wait(session: Session) -> int:
    """``drmaatic wait``: the exit status is that of the first task that did not end well."""
    ended = [see_through(session, task, session.arguments) for task in session.arguments.task]
    if session.as_json:
        print_json(ended[0] if len(ended) == 1 else ended)
    return next((number for task in ended if (number := status.of_task(task))), status.FINE)


def see_through(session: Session, task: str, options: argparse.Namespace) -> Task:
    """Wait until the task has ended and, if asked for, store its files. Raises `Interrupted`."""
    try:
        with session.screen.waiting() as changed:
            ended = session.client.wait(task, options.timeout, changed)
        if options.output:
            folder = options.output if len(_several(options)) < 2 else options.output / task
            transfers.store_files(session, task, folder, replace=options.force)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {_how_to_go_on(task, options)}") from None
    except WaitTimeout as error:
        raise WaitTimeout(f"{error}; {_how_to_go_on(task, options)}") from None
    return ended


def _several(options: argparse.Namespace) -> Sequence[str]:
    task = getattr(options, "task", None)
    return task if isinstance(task, list) else []


def _how_to_go_on(task: str, options: argparse.Namespace) -> str:
    output = f" --output {options.output}" if options.output else ""
    return (
        f"task {task} goes on\n  drmaatic wait {task}{output}\nwaits for it again, and\n"
        f"  drmaatic stop {task}\nends it"
    )


def _submitted(
    session: Session,
    options: argparse.Namespace,
    script: Script,
    parser: argparse.ArgumentParser,
    submit: Callable[[Any], Task],
    label: str,
) -> int:
    sent = _Sent()
    try:
        with session.screen.transfer(f"sending {label}") as progress:
            task = submit(sent.then(progress))
    except ApiError as error:
        if not error.errors:
            raise
        session.say(error.text(script_arguments.flags(script, parser) | _OPTIONS))
        return status.of_error(error)
    except Unreachable as error:
        raise Unreachable(f"{error}\n{_unknown(options)}") from error
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted\n{_unknown(options) if sent.all else 'nothing was run'}") from None
    waits = options.wait or options.output
    if not options.json:
        print(task["uuid"], flush=True)  # at once: whoever waits may want to look meanwhile
    elif waits:
        session.screen.say(f"task {task['uuid']}")  # its JSON comes at the end
    else:
        print_json(task)
    if not waits:
        return status.FINE
    task = see_through(session, task["uuid"], options)
    if options.json:
        print_json(task)
    return status.of_task(task)


#: Bytes that the last piece of a body has at the most.
LAST_PIECE = 1024


class _Sent:
    """Whether the whole request has ever been on its way: before that no task can come of it."""

    def __init__(self) -> None:
        self.all = True
        """True where nobody counts: a request without files is gone in a moment."""
        self._ever = False

    def then(self, progress: Progress | None) -> Progress:
        """What counts, and hands on to `progress`."""

        def count(done: int, total: int | None) -> None:
            # Told before the last piece, a boundary: what comes after its last byte is too late.
            self._ever = self._ever or total is None or total - done < LAST_PIECE
            self.all = self._ever
            if progress is not None:
                progress(done, total)

        return count


def _unknown(options: argparse.Namespace) -> str:
    return (
        "whether the task was taken is not known: the same command with\n"
        f"  --idempotency-key {options.idempotency_key}\nfinds it, or makes it, and never a second one"
    )


def _label(files: Mapping[str, Sequence[Path]]) -> str:
    names = [path.name for paths in files.values() for path in paths]
    return names[0] if len(names) == 1 else f"{len(names)} files"


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "description": options.description,
        "parent": options.parent,
        "dependencies": options.after,
        "dependency_type": options.after_type,
        "idempotency_key": options.idempotency_key,
    }


def _parse(
    parser: argparse.ArgumentParser, before: argparse.Namespace, script: Script
) -> tuple[argparse.Namespace, script_arguments.Inputs]:
    """The options before and after the script's name, and what is for the script itself."""
    options = parser.parse_args(before.rest, argparse.Namespace(**vars(before)))
    options.idempotency_key = options.idempotency_key or uuid.uuid4().hex
    try:
        given = script_arguments.inputs(options, script)
    except ValueError as error:
        parser.error(printable(str(error)))
    called = script_arguments.flags(script, parser)
    for name, paths in given.files.items():
        for path in paths:
            if not path.is_file():
                what = "is no regular file" if path.exists() else "there is no such file"
                parser.error(printable(f"{called[name]}: {path}: {what}"))
    return options, given


def script_parser(script: Script, prog: str) -> argparse.ArgumentParser:
    """The command line of one script."""
    description = printable(script.get("description", ""))
    if "%(prog)" in description:  # argparse replaces it, and fails on any other % then
        description = description.replace("%", "%%")
    parser = argparse.ArgumentParser(prog=printable(prog), description=description, allow_abbrev=False)
    add_run_options(parser)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    script_arguments.add_parameters(parser, script)
    return parser


def summary(task: Task) -> Sequence[str]:
    """A task as a row: UUID, state, script, when, how it ended."""
    when = task.get("creation_date", "")[:19].replace("T", " ")
    return task["uuid"], task["state"], task["task_name"], when, outcome(task) or task["task_description"]
