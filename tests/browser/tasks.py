"""What the tests of a task's page have in common: jobs that do what the test tells them, and accounts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.daemon import PATIENCE, ROOT, Daemon, wait_until

#: A job that runs until the file ``go`` is in its folder, and ends with the status that it holds.
STEERED = """
echo begun
while [ ! -e go ]; do sleep 0.05; done
exit "$(cat go)"
"""


def submit(service: Daemon, script: str, files: Any = None, token: str = "", **fields: Any) -> str:
    """A new task's UUID."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = {"task_name": script, **fields}
    answer = requests.post(f"{service.url}/task/", data=data, files=files, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


def ask(service: Daemon, uuid: str, rest: str = "", method: str = "GET", token: str = "") -> Any:
    """The API's answer about a task."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.request(method, f"{service.url}/task/{uuid}{rest}", headers=headers, timeout=PATIENCE)


def wait_for(service: Daemon, uuid: str, *states: str, token: str = "") -> None:
    """Wait until the task is in one of these states."""
    wait_until(lambda: ask(service, uuid, token=token).json()["state"] in states, f"{states}")


def folder(service: Daemon, uuid: str) -> Path:
    """The task's folder."""
    return service.tasks / uuid


def begin(service: Daemon, uuid: str) -> None:
    """Wait until a `STEERED` job has written its first line."""
    output = folder(service, uuid) / f"{uuid[:8]}_out.txt"
    wait_until(lambda: output.exists() and output.read_bytes().startswith(b"begun"), "the first line")


def write(service: Daemon, uuid: str, data: bytes, stream: str = "out") -> None:
    """Write to a running job's output, as the job itself would."""
    with (folder(service, uuid) / f"{uuid[:8]}_{stream}.txt").open("ab") as file:
        file.write(data)


def finish(service: Daemon, uuid: str, status: int = 0) -> None:
    """Let a `STEERED` job end."""
    draft = folder(service, uuid) / "go.draft"
    draft.write_text(str(status))
    draft.rename(folder(service, uuid) / "go")


def visit(page: Page, service: Daemon, uuid: str, query: str = "") -> None:
    """Open the task's page, and wait until its script has begun."""
    page.goto(f"{service.url}/ui/task/{uuid}{query}")
    expect(page.get_by_role("tab")).to_have_count(2)


def state(page: Page) -> Any:
    """The words for the task's state."""
    return page.locator("#live-state .state")


def free_port() -> int:
    """A port that a daemon can come back on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def issue(service: Daemon, name: str) -> str:
    """A token of a service account."""
    options = ("--group", "registered", "--config", str(service.config))
    done = subprocess.run(
        [sys.executable, "-m", "drmaaticd", "token", "issue", name, *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return done.stdout.strip()


def sign_in(context: BrowserContext, service: Daemon, token: str) -> None:
    """Give a browser a session with this token."""
    context.add_cookies(
        [{"name": "drmaaticd_session", "value": f"pasted.{token}", "url": f"{service.url}/ui/"}]
    )
