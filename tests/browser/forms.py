"""Scripts with every kind of parameter, and what tests of their forms do again and again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import BrowserContext, Page

from tests.e2e.daemon import Daemon, wait_until

#: The script of these tests: it tells its arguments and the size of each of its files.
ALIGN = """
description = 'Aligns "reads" <b>fast</b>'
inline = '''#!/bin/sh
for one in "$@"; do printf '[%s]\\n' "$one"; done
for file in reads* reference*; do test -e "$file" && wc -c "$file"; done
exit 0
'''
required_tokens = 3
[[param]]
name = "reads"
type = "file"
description = "Reads in FASTQ format"
required = true
multiple = true
extensions = [".fastq", ".fq"]
max_size = "128 MiB"
[[param]]
name = "reference"
type = "file"
extensions = [".fa"]
max_size = "1 KiB"
[[param]]
name = "k"
type = "int"
flag = "-k"
description = "Length of a word"
default = 5
min = 1
max = 31
[[param]]
name = "cutoff"
type = "float"
flag = "--cutoff"
min = 0.5
[[param]]
name = "format"
type = "string"
flag = "--format="
choices = ["tsv", "json"]
default = "tsv"
[[param]]
name = "sets"
type = "string"
flag = "--set"
choices = ["a", "b", "c d"]
multiple = true
[[param]]
name = "sample"
type = "string"
flag = "--sample"
pattern = "[A-Z]{2}[0-9]+"
required = true
[[param]]
name = "names"
type = "string"
flag = "--name"
multiple = true
[[param]]
name = "verbose"
type = "bool"
flag = "--verbose"
[[param]]
name = "comment"
type = "string"
flag = "--comment="
max_length = 1000
[[param]]
name = "secret"
type = "string"
flag = "--secret="
private = "xyzzy"
"""

UUID = re.compile(r"/ui/task/([0-9a-f-]{36})$")


def upload(name: str, content: bytes = b"ACGT\n") -> dict[str, Any]:
    """A file as Playwright's `set_input_files` takes it."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def fill(page: Page, service: Daemon, **query: str) -> None:
    """Open the form with what is required."""
    address = requests.Request("GET", f"{service.url}/ui/script/align", params=query).prepare().url
    assert address is not None
    page.goto(address)
    page.locator("#f-reads").set_input_files([upload("a.fastq")])
    page.locator("#f-sample").fill("AB1")


def start(page: Page) -> str:
    """Send the form; the new task's UUID."""
    page.get_by_role("button", name="Start", exact=True).click()
    return started(page)


def started(page: Page) -> str:
    """The UUID of the task whose page has been reached."""
    page.wait_for_url(UUID, wait_until="commit")
    found = UUID.search(page.url)
    assert found is not None
    return found[1]


def task(context: BrowserContext, service: Daemon, uuid: str) -> dict[str, Any]:
    """A task as the page's own session sees it."""
    answer = context.request.get(f"{service.url}/ui/api/task/{uuid}")
    assert answer.ok, answer.text()
    document: dict[str, Any] = answer.json()
    return document


def ended(context: BrowserContext, service: Daemon, uuid: str) -> dict[str, Any]:
    """The same, once it has ended."""
    final = {"done", "failed", "stopped", "rejected"}
    return wait_until(  # type: ignore[no-any-return]
        lambda: (found := task(context, service, uuid))["state"] in final and found, "the task to end"
    )


def params(document: dict[str, Any]) -> dict[str, Any]:
    """A task's parameters by name."""
    return {param["name"]: param["value"] for param in document["params"]}


def output(service: Daemon, document: dict[str, Any]) -> str:
    """What the task's job has printed."""
    return (service.tasks / document["uuid"] / document["stdout"]).read_text(encoding="utf-8")


def tokens(service: Daemon, *names: str, group: str = "registered") -> list[str]:
    """A token for each of these service accounts."""
    made = []
    for name in names:
        words = ["token", "issue", name, "--group", group, "--config", str(service.config)]
        done = subprocess.run(
            [sys.executable, "-m", "drmaaticd", *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        made.append(done.stdout.strip())
    return made


def sign_in(context: BrowserContext, service: Daemon, token: str) -> None:
    """Give the browser a session with this token."""
    context.add_cookies(
        [{"name": "drmaaticd_session", "value": f"pasted.{token}", "url": f"{service.url}/ui/"}]
    )


def leftovers(service: Daemon) -> list[str]:
    """What lies where uploads arrive."""
    return [path.name for path in (service.tasks / ".incoming").iterdir() if path.name != ".mark"]
