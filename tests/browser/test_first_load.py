"""FACE's bound for the first load of every screen: bytes and requests, and nothing from other hosts.

    python -m tests.browser.test_first_load

measures what a test must not assert: when each screen is usable at 1.6 Mbit/s and 150 ms.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.browser.conftest import chromium
from tests.browser.people import fill, signed_in, token
from tests.e2e.daemon import Daemon, daemon, wait_until

MOST_BYTES = 60_000
MOST_REQUESTS = 8

#: The line on which the time is measured: bytes a second each way, and milliseconds to and fro.
SLOW = {"offline": False, "downloadThroughput": 200_000, "uploadThroughput": 200_000, "latency": 150}

SCRIPT = """
description = "Length and GC content of every sequence"
inline = "#!/bin/sh\\necho length,gc; echo 12,0.5"

[[param]]
name = "input"
type = "file"
extensions = [".fasta"]

[[param]]
name = "min_length"
type = "int"
default = 0
min = 0

[[param]]
name = "format"
type = "string"
choices = ["tsv", "csv"]
"""


@dataclass
class Load:
    """What one screen's first load took, as the browser's network stack tells it."""

    asked: dict[str, str] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    bytes: int = 0
    """On the wire: headers and bodies of the answers, as they were packed."""

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked over the network: the icon, wanted twice, is asked once."""
        return [url for number, url in self.asked.items() if number not in self.cached]


@contextmanager
def place(folder: Path) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """A daemon with a thousand tasks, and where its screens are."""
    fill(folder / "state", 1000, ("internal:root",), ("fasta-stats",))
    with daemon(folder, start=False, groups={"admins": {"admin": True}}) as service:
        service.script("fasta-stats", SCRIPT)
        service.inline("hello", "echo hello")
        service.start()
        headers = {"Authorization": f"Bearer {token(service, 'root', 'admins')}"}
        made = requests.post(
            f"{service.url}/task/", data={"task_name": "hello"}, headers=headers, timeout=20
        ).json()["uuid"]
        task = f"{service.url}/task/{made}"
        wait_until(
            lambda: requests.get(task, headers=headers, timeout=20).json()["state"] == "done", "the end"
        )
        yield (
            service,
            {
                "sign-in": "/ui/sign-in",
                "scripts": "/ui/",
                "form": "/ui/script/fasta-stats",
                "task": f"/ui/task/{made}",
                "list": "/ui/tasks",
                "administration": "/ui/admin",
                "users": "/ui/admin/users",
                "no such page": "/ui/there-is-no-such-page",
            },
        )


def watched(page: Page) -> Load:
    """Count everything that the page loads from now on."""
    load = Load()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def asked(event: dict[str, Any]) -> None:
        if not event["request"]["url"].startswith("data:"):
            load.asked[event["requestId"]] = event["request"]["url"]

    def answered(event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            load.cached.append(event["requestId"])

    def finished(event: dict[str, Any]) -> None:
        load.bytes += int(event["encodedDataLength"])

    session.on("Network.requestWillBeSent", asked)
    session.on("Network.responseReceived", answered)
    session.on("Network.loadingFinished", finished)
    return load


SCREENS = ("sign-in", "scripts", "form", "task", "list", "administration", "users", "no such page")


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, dict[str, str]]]:
    with place(tmp_path_factory.mktemp("load")) as made:
        yield made


@pytest.mark.parametrize("name", SCREENS)
def test_a_screens_first_load(
    screens: tuple[Daemon, dict[str, str]], profile: Callable[..., BrowserContext], name: str
) -> None:
    service, addresses = screens
    context = profile()
    if name != "sign-in":
        signed_in(context, service, token(service, "root", "admins"))
    page = context.new_page()
    load = watched(page)
    page.goto(service.url + addresses[name], wait_until="networkidle")
    assert {urlsplit(url).netloc for url in load.requests} == {urlsplit(service.url).netloc}
    assert len(load.requests) <= MOST_REQUESTS, load.requests
    assert 0 < load.bytes <= MOST_BYTES


def measure() -> None:
    """Print, for each screen, what its first load takes on a slow line."""
    print(f"{'screen':16} {'requests':>8} {'bytes':>8} {'usable after, ms (median of 5)':>32}")
    with (
        tempfile.TemporaryDirectory() as folder,
        place(Path(folder)) as (service, addresses),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        mine = token(service, "root", "admins")
        for name, address in addresses.items():
            times = []
            for _ in range(5):
                context = browser.new_context()
                if name != "sign-in":
                    signed_in(context, service, mine)
                page = context.new_page()
                load = watched(page)
                context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
                page.goto(service.url + address, wait_until="load")
                # The modules have run by then: they are deferred, and `load` waits for them.
                times.append(
                    page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
                )
                page.wait_for_load_state("networkidle")
                context.close()
            print(f"{name:16} {len(load.requests):8} {load.bytes:8} {sorted(times)[2]:32.0f}")
        browser.close()


if __name__ == "__main__":
    sys.exit(measure())
