"""The commands about what there is: scripts, tasks, their state and logs, and what is done to them."""

from __future__ import annotations

from typing import Any, cast

from drmaaticd.client import running, status
from drmaaticd.client.api import Action
from drmaaticd.client.failures import Refused
from drmaaticd.client.logs import Follower
from drmaaticd.client.session import Session
from drmaaticd.client.terminal import outcome, print_json, printable, table
from drmaaticd.client.wording import Task


def show_scripts(session: Session) -> int:
    """``drmaatic scripts``."""
    if session.arguments.script:
        script = session.client.script(session.arguments.script)
        if session.as_json:
            print_json(script)
        else:
            running.script_parser(script, f"drmaatic run {script['name']}").print_help()
        return status.FINE
    scripts = list(session.client.scripts(session.arguments.search))
    if session.as_json:
        print_json(scripts)
    else:
        table((script["name"], script.get("description", "")) for script in scripts)
    return status.FINE


def show_tasks(session: Session) -> int:
    """``drmaatic tasks``."""
    arguments = session.arguments
    named = {
        "state": arguments.state,
        "task_name": arguments.script,
        "search": arguments.search,
        "description": arguments.description,
        "updated_since": arguments.since,
        "ids": ",".join(arguments.task),
    }
    filters = {name: value for name, value in named.items() if value}
    if arguments.all:
        tasks = list(session.client.tasks(**filters))
    else:
        page = session.client.task_page(arguments.page, arguments.limit, **filters)
        tasks = page["results"]
        if page.get("next"):
            last = -(-page["count"] // max(len(tasks), 1))
            session.say(f"page {arguments.page} of {last} ({page['count']} tasks): --page N, or --all")
    if session.as_json:
        print_json(tasks)
    elif tasks:
        table(running.summary(task) for task in tasks)
    elif not arguments.task and session.client.me()["group"] == "anonymous":
        session.say("you are anonymous: only tasks that are named are listed (drmaatic tasks TASK …)")
    return status.FINE


def show_status(session: Session) -> int:
    """``drmaatic status``."""
    tasks = [session.client.task(task) for task in session.arguments.task]
    if session.as_json:
        print_json(tasks[0] if len(tasks) == 1 else tasks)
        return status.FINE
    for number, task in enumerate(tasks):
        if number:
            print()
        for name, value in _described(task):
            print(printable(f"{name + ':':<13}{value}"))
    return status.FINE


def _described(task: Task) -> list[tuple[str, Any]]:
    usage = task.get("resource_usage", {})
    array = task.get("array")
    rows: list[tuple[str, Any]] = [
        ("task", task["uuid"]),
        ("script", task["task_name"]),
        ("description", task["task_description"]),
        ("state", f"{task['state']} ({task['status']})"),
        ("ended by", outcome(task)),
        ("jobs", array and ", ".join(f"{count} {state}" for state, count in array["states"].items())),
        ("created", task["creation_date"]),
        ("started", task.get("start_date")),
        ("ended", task.get("end_date")),
        ("kept until", task.get("expires_date")),
        ("waits for", ", ".join(task["depends_on"])),
        ("parent", task.get("parent_task")),
        ("used", ", ".join(f"{name} {value}" for name, value in usage.items())),
    ]
    for param in task["params"]:
        sent = param["value"]
        values = sent if isinstance(sent, list) else [sent]
        given = [task["files_name"].get(value, value) for value in values]
        rows.append((f"  --{param['name']}", ", ".join(given)))
    return [(name, value) for name, value in rows if value or name.startswith("  ")]


def show_log(session: Session) -> int:
    """``drmaatic logs``."""
    arguments = session.arguments
    only = [name for name in ("stdout", "stderr") if getattr(arguments, name)]
    follower = Follower(
        session.client,
        arguments.task,
        only or ["stdout", "stderr"],
        session.say,
        index=arguments.index,
        raw=arguments.raw,
    )
    task, copied = follower.run(follow=arguments.follow)
    if not copied:
        session.say(f"nothing was written: {task['state']}")
    return status.FINE


def control(session: Session) -> int:
    """``drmaatic stop``, ``hold``, ``release``, ``suspend``, ``resume``."""
    action = cast(Action, session.arguments.action)
    return session.each(session.arguments.task, lambda task: session.client.control(task, action))


def remove(session: Session) -> int:
    """``drmaatic rm``."""

    def one(task: str) -> str:
        session.client.delete(task)
        return "removed"

    return session.each(session.arguments.task, one)


def take(session: Session) -> int:
    """``drmaatic own``: make tasks that were sent anonymously one's own."""

    def one(task: str) -> str:
        session.client.take_ownership(task)
        return "is yours"

    return session.each(session.arguments.task, one)


def share(session: Session) -> int:
    """``drmaatic link``."""
    link = session.client.link(session.arguments.task, session.arguments.lifetime)
    if session.as_json:
        print_json(link)
    else:
        print(printable(link["url"]))
        page = "/ui/task/".join(link["url"].rsplit("/task/", 1))
        session.say(f"whoever has it can read the task for {link['expires_in']} s; in a browser:")
        session.screen.say(page)
    return status.FINE


def complete(session: Session) -> int:
    """``drmaatic completion``: a shell's own words for what can be typed."""
    import shtab

    from drmaaticd.client.cli import build_parser

    shell = session.arguments.shell
    if shell not in shtab.SUPPORTED_SHELLS:
        raise Refused(f"no completion for {shell}")
    print(shtab.complete(build_parser(), shell))
    return status.FINE
