"""The page's start, and what all pages share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon

SCRIPTS = {"align": "true", "assemble": "true", "blast": "true"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("home")
    with daemon(folder, start=False) as made:
        for name, body in SCRIPTS.items():
            made.inline(name, body, f'description = "Does {name} <b>well</b>"')
        made.start()
        yield made


def test_scripts_are_cards_with_a_search(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/")
    cards = page.get_by_role("list").filter(has=page.locator(".card")).get_by_role("listitem")
    expect(cards).to_have_count(3)
    expect(cards.first).to_contain_text("Does align <b>well</b>")
    page.get_by_role("searchbox").fill("as")
    expect(cards.filter(visible=True)).to_have_text([re.compile("assemble"), re.compile("blast")])
    expect(page.locator("#found")).to_have_text("2 scripts")


def test_looks(service: Daemon, page: Page) -> None:
    for path in ("/ui/", "/ui/?search=nothing+fits", "/ui/there-is-no-such-page"):
        page.goto(service.url + path)
        check_looks(page)


def test_the_first_key_skips_to_the_content(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_without_javascript_the_search_is_a_form(service: Daemon, profile) -> None:
    page = profile(java_script_enabled=False).new_page()
    page.goto(f"{service.url}/ui/")
    page.get_by_role("searchbox").fill("assem")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".card")).to_have_count(1)


def test_static_files_are_kept_for_good_and_packed(service: Daemon) -> None:
    text = requests.get(f"{service.url}/ui/", timeout=20).text
    sheet = re.search(r'href="([^"]+page\.css)"', text)
    assert sheet
    answer = requests.get(service.url + sheet[1], timeout=20)
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"
    old = requests.get(re.sub("static/[^/]+", "static/old", service.url + sheet[1]), timeout=20)
    assert old.text == answer.text
    assert "immutable" not in old.headers["Cache-Control"]
    again = requests.get(
        service.url + sheet[1], headers={"If-None-Match": answer.headers["ETag"]}, timeout=20
    )
    assert again.status_code == 304
