"""The options of ``run``, ``rerun`` and ``wait`` that are the same for every script."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that a task's submission has, whatever the script. They set no default here: they
    may stand before the script's name and after it."""

    def option(*names: str, **settings: Any) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS, **settings)

    option("--wait", action="store_true", help="wait until the task has ended; its exit status is this one's")
    add_wait_options(parser)
    option("--description", metavar="TEXT", help="a note for the list of tasks")
    option("--after", action="append", metavar="TASK", help="start when this task has ended")
    option(
        "--after-type",
        choices=("afterany", "afterok", "afternotok"),
        help="how those tasks must have ended (afterany unless told)",
    )
    option("--parent", metavar="TASK", help="work in this task's folder")
    option("--idempotency-key", metavar="KEY", help="the same key never makes a second task")


def add_wait_options(parser: argparse.ArgumentParser) -> None:
    """The options of everything that waits."""

    def option(*names: str, **settings: Any) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS, **settings)

    option("--output", "-o", type=Path, metavar="DIR", help="wait, then store the task's files there")
    option("--force", action="store_true", help="let --output replace files")
    option("--timeout", type=float, metavar="SECONDS", help="wait no longer; the task goes on")


RUN_DEFAULTS: dict[str, Any] = {
    "wait": False,
    "output": None,
    "force": False,
    "timeout": None,
    "description": "",
    "after": [],
    "after_type": None,
    "parent": None,
    "idempotency_key": None,
}
