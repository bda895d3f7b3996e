"""``drmaatic files`` and ``download``."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from drmaaticd.client import status
from drmaaticd.client.failures import Refused
from drmaaticd.client.session import Session
from drmaaticd.client.terminal import print_json, printable, table
from drmaaticd.client.wording import File


def list_files(session: Session) -> int:
    """``drmaatic files``."""
    files = session.client.files(session.arguments.task)
    if session.as_json:
        print_json(files)
    else:
        table((file["size"], file["modified"], shown(file["path"])) for file in files)
    return status.FINE


def download(session: Session) -> int:
    """``drmaatic download``: the files, or one archive of all."""
    arguments = session.arguments
    if arguments.archive:
        if arguments.path:
            raise Refused("an archive holds all files: name none, or leave --archive out")
        stored = [_archive(session)]
    else:
        folder = arguments.output or Path(quote(arguments.task, safe=""))
        stored = store_files(session, arguments.task, folder, arguments.path, replace=arguments.force)
    if session.as_json:
        print_json([os.fsdecode(path) for path in stored])
    else:
        for path in stored:
            print(printable(str(path)))
    return status.FINE


def store_files(
    session: Session, task: str, folder: Path, names: Sequence[str] = (), *, replace: bool = False
) -> list[Path]:
    """Store a task's files (those with these names or patterns) below `folder`, with a bar for each."""
    paths = _chosen(session.client.files(task), names) if names else ()
    with ExitStack() as stack:
        bar = ExitStack()
        stack.push(lambda *details: bar.__exit__(*details))

        def progress(file: File) -> Any:
            bar.close()
            return bar.enter_context(session.screen.transfer(shown(file["path"]))) or _ignore

        return session.client.download(task, folder, paths, replace=replace, progress=progress)


def _ignore(done: int, total: int | None) -> None:
    """Nobody looks."""


def _chosen(files: Sequence[File], names: Sequence[str]) -> list[str]:
    """The paths that are meant: a name as it is, else a pattern. Raises `Refused` for one without any."""
    found: dict[str, None] = {}
    for name in names:
        exact = [file["path"] for file in files if unquote_to_bytes(file["path"]) == os.fsencode(name)]
        fitting = exact or [file["path"] for file in files if fnmatch.fnmatchcase(shown(file["path"]), name)]
        if not fitting:
            raise Refused(f"the task has no file {name}; `drmaatic files` lists what there is")
        found.update(dict.fromkeys(fitting))
    return list(found)


def _archive(session: Session) -> Path:
    arguments = session.arguments
    target = arguments.output or Path()
    if target.is_dir():
        target = target / f"{quote(arguments.task, safe='')}.{arguments.archive}"
    if os.path.lexists(target) and not arguments.force:
        raise Refused(f"{target} exists already (--force replaces it)")
    with session.screen.transfer(target.name) as progress:
        return session.client.archive(arguments.task, target, arguments.archive, progress=progress)


def shown(path: str) -> str:
    """A percent-encoded path as people know it."""
    return os.fsdecode(unquote_to_bytes(path))
