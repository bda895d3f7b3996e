"""The members of an array on its page: a map by state, by keyboard too, each leading to its output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.looks import check_looks
from tests.browser.tasks import state, submit, visit, wait_for
from tests.e2e.daemon import Daemon, daemon

BODY = """
echo "I am member $DRMAATICD_TASK_INDEX"
[ "$DRMAATICD_TASK_INDEX" != 11 ] || exit 3
case $DRMAATICD_TASK_INDEX in 5|9) while [ ! -e go ]; do sleep 0.05; done;; esac
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("array"), start=False, drm={"slots": 40}) as made:
        made.inline("array", BODY, "[array]\nbegin = 3\nend = 21\nstep = 2")
        made.start()
        yield made


def members(service: Daemon, uuid: str) -> Any:
    return requests.get(f"{service.url}/ui/task/{uuid}/members", timeout=20).json()


@pytest.fixture(scope="module")
def ended(service: Daemon) -> str:
    """An array of which member 11 failed."""
    uuid = submit(service, "array")
    wait_for(service, uuid, "running")
    (service.tasks / uuid / "go").touch()
    wait_for(service, uuid, "failed")
    return uuid


def test_the_map_and_a_members_output(service: Daemon, page: Page, ended: str) -> None:
    visit(page, service, ended)
    expect(state(page)).to_have_text("Failed (exit 3)")
    assert members(service, ended)["runs"] == [["done", 4], ["failed", 1], ["done", 5]]
    box = page.get_by_role("listbox")
    option = box.get_by_role("option")
    expect(option).to_have_text("Member 3: Done")
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 3\n")
    page.get_by_role("button", name="Failed 1").click()
    expect(option).to_have_text("Member 11: Failed")
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 11\n")
    expect(page.locator("#member-state")).to_have_text("Failed")
    assert page.url.endswith("?index=11")
    page.reload()
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 11\n")
    check_looks(page)


def test_by_keyboard(service: Daemon, page: Page, ended: str) -> None:
    visit(page, service, ended)
    box = page.get_by_role("listbox")
    option = box.get_by_role("option")
    expect(option).to_have_text("Member 3: Done")
    box.focus()
    for key, text in (
        ("ArrowRight", "5"),
        ("End", "21"),
        ("ArrowLeft", "19"),
        ("Home", "3"),
        ("ArrowUp", "3"),
    ):
        page.keyboard.press(key)
        expect(option).to_have_text(f"Member {text}: Done")
    expect(option).to_have_attribute("aria-setsize", "10")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 21\n")


def test_a_cell_that_is_clicked_opens_its_output(service: Daemon, page: Page, ended: str) -> None:
    visit(page, service, ended)
    page.locator("canvas").click(position={"x": 36 * 2 + 18, "y": 18})
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 7\n")


def test_states_change_on_the_map(service: Daemon, page: Page) -> None:
    uuid = submit(service, "array")
    visit(page, service, uuid)
    expect(page.locator("#legend")).to_contain_text("Running 2")
    option = page.get_by_role("listbox").get_by_role("option")
    page.get_by_role("button", name="Running 2").click()
    expect(option).to_have_text("Member 5: Running")
    expect(page.get_by_role("tabpanel")).to_contain_text("I am member 5")
    expect(page.locator("#live-line")).to_contain_text("Note: index 11: failed")
    expect(page.locator("[data-since]")).to_have_text(re.compile(r"\d"))
    (service.tasks / uuid / "go").touch()
    expect(option).to_have_text("Member 5: Done")
    expect(page.locator("#legend")).to_contain_text("Done 9")
    expect(page.get_by_role("link", name="Download all zip")).to_be_visible()


def test_a_member_by_its_number_without_javascript(service: Daemon, profile: Any, ended: str) -> None:
    page = profile(java_script_enabled=False).new_page()
    page.goto(f"{service.url}/ui/task/{ended}")
    expect(page.locator("#legend")).to_contain_text(re.compile(r"Done\s+9"))
    page.get_by_label("Output of member").fill("11")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("region", name="Standard output")).to_have_text("I am member 11\n")
    page.goto(f"{service.url}/ui/task/{ended}?index=4")
    expect(page.locator("main")).to_contain_text("The task has no member 4.")


def test_75_000_members_are_drawn_as_far_as_they_are_seen(service: Daemon, page: Page, ended: str) -> None:
    runs = [["done", 40_000], ["failed", 1], ["running", 9_999], ["queued_active", 25_000]]
    answer = {"begin": 1, "end": 75_000, "step": 1, "runs": runs}
    page.route("**/members", lambda route: route.fulfill(json=answer))
    visit(page, service, ended)
    box = page.get_by_role("listbox")
    option = box.get_by_role("option")
    expect(option).to_have_attribute("aria-setsize", "75000")
    box.focus()
    page.keyboard.press("End")
    expect(option).to_have_text("Member 75000: Queued")
    assert box.evaluate("one => one.scrollTop") > 1000
    assert page.evaluate("document.querySelectorAll('*').length") < 500
    canvas = page.locator("canvas")
    assert json.loads(canvas.evaluate("one => JSON.stringify(one.height * one.width)")) < 2_000_000
    drawn = canvas.evaluate(
        """one => { const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
                    let count = 0; for (let at = 3; at < data.length; at += 4) count += data[at] ? 1 : 0;
                    return count / (data.length / 4); }"""
    )
    assert drawn > 0.1
    page.keyboard.press("Home")
    expect(option).to_have_text("Member 1: Done")
