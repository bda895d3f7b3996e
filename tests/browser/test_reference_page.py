"""The API's documentation, `/docs`, in a browser: by keyboard, on a telephone, without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon

PARAMETERS = """
[[param]]
name = "a-name-that-is-nearly-as-long-as-a-name-may-be-and-has-no-blank"
type = "string"
flag = "--long"
pattern = "[a-z]{1,9}"
description = "What it means"
[[param]]
name = "input"
type = "file"
required = true
extensions = [".fasta"]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("reference")
    with daemon(folder, start=False) as made:
        made.inline("align", "true", PARAMETERS)
        yield made.start()


def test_looks(service: Daemon, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.url}/docs")
    for answers in page.locator("summary").all()[:3]:
        answers.click()
    check_looks(page)
    assert asked == [f"{service.url}/docs"]


def test_by_keyboard(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/docs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the text")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    answers = page.locator("#submitTask details")
    answers.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(answers.get_by_role("row", name="507")).to_be_visible()


def test_without_javascript(service: Daemon, profile: Callable[..., BrowserContext]) -> None:
    page = profile(java_script_enabled=False).new_page()
    page.goto(f"{service.url}/docs/")
    page.get_by_role("navigation").get_by_role("link", name="Submit a task").click()
    submit = page.locator("#submitTask")
    expect(submit.get_by_role("heading", name="Submit a task")).to_be_in_viewport()
    submit.get_by_role("link", name="form.align").click()
    expect(page.get_by_role("article", name="form.align")).to_contain_text("Its name must end in .fasta.")
