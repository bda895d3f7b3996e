"""A real browser (the system's Chromium) for the page, with a fresh profile for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

#: Milliseconds that the browser waits for anything: only a fault takes so long.
PATIENCE = 30_000

#: A host that is reached without TLS, as in a laboratory's network.
PLAIN_HOST = "jobs.lab.example"

expect.set_options(timeout=PATIENCE)

#: What may stand in the browser's console without being a fault: failed requests that a test provokes.
_NETWORK = "Failed to load resource"


def chromium() -> str:
    """The path of the system's Chromium; skips where there is none (CI fails on a skip)."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a file's tests. While it is there an event loop runs in this thread, so that no
    test of these files can run one itself."""
    arguments = ["--disable-gpu", "--disable-dev-shm-usage"]
    # A name that is none of the loopback's: to it browsers do not send all that they send to a secure site.
    arguments.append(f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1")
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's own does not work for root
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield started
        started.close()


@pytest.fixture
def profile(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """``profile(locale=…)``: a browser context of its own, as somebody else's browser would be."""
    contexts: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC", **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(profile: Callable[..., BrowserContext]) -> Iterator[Page]:
    """A page in a fresh profile; an uncaught error or a complaint of the browser's fails the test."""
    opened = profile().new_page()
    faults = watch(opened)
    yield opened
    assert not faults, faults


def watch(page: Page) -> list[str]:
    """Collect what goes wrong on a page: uncaught errors, and what its console says of faults."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
    page.on(
        "console",
        lambda message: (
            faults.append(f"console: {message.text}")
            if message.type in ("error", "warning") and _NETWORK not in message.text
            else None
        ),
    )
    return faults
