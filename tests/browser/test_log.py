"""A job's output on its task's page: followed, searched backwards, and shown safely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.tasks import STEERED, begin, finish, state, submit, visit, wait_for, write
from tests.e2e.daemon import Daemon, daemon

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("log"), start=False, drm={"slots": 40}) as made:
        made.inline("steered", STEERED)
        made.inline("array", 'echo "I am $DRMAATICD_TASK_INDEX"', "[array]\nbegin = 1\nend = 3")
        made.start()
        yield made


@pytest.fixture
def running(service: Daemon) -> Iterator[str]:
    """A task whose output the test writes."""
    uuid = submit(service, "steered")
    begin(service, uuid)
    yield uuid
    finish(service, uuid)


def shown(page: Page) -> Any:
    return page.get_by_role("tabpanel").locator(".text")


def lines(page: Page) -> list[str]:
    return [line for line in shown(page).text_content().split("\n") if line]


def nodes(page: Page) -> int:
    """All nodes of the page."""
    return int(
        page.evaluate(
            """() => { const walk = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
                       let count = 0; while (walk.nextNode()) count += 1; return count; }"""
        )
    )


def test_new_lines_come_by_themselves(service: Daemon, page: Page, running: str) -> None:
    visit(page, service, running)
    expect(shown(page)).to_have_text("begun\n")
    for number in range(3):
        write(service, running, b"line %d\n" % number)
        expect(shown(page)).to_contain_text(f"line {number}")
    write(service, running, b"half a li")
    expect(shown(page)).to_contain_text("half a li")
    write(service, running, b"ne\n")
    expect(shown(page)).to_contain_text("half a line")
    expect(page.get_by_role("tab", selected=True)).to_have_text("Standard output · 39 bytes")


def test_who_was_cut_off_loses_no_line(service: Daemon, page: Page, running: str) -> None:
    visit(page, service, running)
    expect(shown(page)).to_contain_text("begun")
    page.context.set_offline(True)
    expect(page.locator("#link-state")).to_be_visible()
    for number in range(1000):
        write(service, running, b"number %d\n" % number)
    page.context.set_offline(False)
    expect(shown(page)).to_contain_text("number 999")
    assert lines(page) == ["begun", *(f"number {number}" for number in range(1000))]
    expect(page.locator("#link-state")).to_be_hidden()


def test_a_large_log_shows_its_end_and_leads_back(service: Daemon, page: Page, running: str) -> None:
    line = b"%09d " + b"x" * 89 + b"\n"
    for start in range(0, 1_000_000, 50_000):  # 100 MB
        write(service, running, b"".join(line % number for number in range(start, start + 50_000)))
    visit(page, service, running)
    expect(shown(page)).to_contain_text("000999999")
    assert nodes(page) < 2000
    wanted = 999_999
    for _ in range(12):
        numbers = [int(one[:9]) for one in lines(page)]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        wanted = min(wanted, numbers[0])
        page.get_by_role("button", name="Earlier lines").click()
        expect(shown(page)).to_contain_text(f"{wanted - 1:09d}")
    assert nodes(page) < 2000
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Later lines").click()
    last = int(lines(page)[-1][:9])
    expect(shown(page)).to_contain_text(f"{last:09d}")
    page.get_by_role("button", name="Follow").click()
    expect(shown(page)).to_contain_text("000999999")
    write(service, running, b"the newest\n")
    expect(shown(page)).to_contain_text("the newest")


def test_a_log_that_has_grown_since_the_last_visit(service: Daemon, page: Page, running: str) -> None:
    """The browser has parts of it in its cache, and must not fetch the rest for their sake."""
    write(service, running, b"early\n" * 10_000)
    visit(page, service, running)
    expect(shown(page)).to_contain_text("early")
    write(service, running, b"middle\n" * 1_000_000)
    write(service, running, b"late\n")
    fetched: list[int] = []
    page.on("response", lambda answer: fetched.append(int(answer.headers.get("content-length", 0))))
    visit(page, service, running)
    expect(shown(page)).to_contain_text("late")
    assert max(fetched) < 100_000


def test_much_that_comes_is_let_go_at_the_top(service: Daemon, page: Page, running: str) -> None:
    visit(page, service, running)
    expect(shown(page)).to_contain_text("begun")
    for number in range(8):
        write(service, running, (b"\x1b[3%dmcoloured %d\x1b[0m plain\n" % (number % 7 + 1, number)) * 2500)
        expect(shown(page)).to_contain_text(f"coloured {number} plain")
    assert nodes(page) < 2000
    expect(page.get_by_role("button", name="Earlier lines")).to_be_attached()


def test_scrolling_up_stays_there_and_down_follows_again(service: Daemon, page: Page, running: str) -> None:
    write(service, running, b"".join(b"row %d\n" % number for number in range(300)))
    visit(page, service, running)
    expect(shown(page)).to_contain_text("row 299")
    box = page.get_by_role("region", name="Standard output")
    follow = page.get_by_role("button", name="Follow")
    at_end = "one => one.scrollHeight - one.scrollTop - one.clientHeight < 24"
    assert box.evaluate(at_end)
    box.evaluate("one => { one.scrollTop = 100; }")
    expect(follow).to_have_attribute("aria-pressed", "false")
    write(service, running, b"more\n")
    expect(shown(page)).to_contain_text("more")
    assert box.evaluate("one => one.scrollTop") == 100
    box.evaluate("one => { one.scrollTop = one.scrollHeight; }")
    expect(follow).to_have_attribute("aria-pressed", "true")
    write(service, running, b"and more\n")
    expect(shown(page)).to_contain_text("and more")
    assert box.evaluate(at_end)


def test_what_a_terminal_would_do(service: Daemon, page: Page, running: str) -> None:
    visit(page, service, running)
    for percent in (b"10", b"20", b"99"):
        write(service, running, b"\r" + percent + b" %")
        expect(shown(page)).to_have_text(f"begun\n{percent.decode()} %")
    write(
        service,
        running,
        b"\rdone\r\n\x1b[1;31mbad\x1b[0m \x1b[38;5;46mgood\x1b[m \x1b]0;title\x07\x1b[2Kend\n",
    )
    expect(shown(page)).to_have_text("begun\ndone\nbad good end\n")
    expect(shown(page).locator(".fg-red.bold")).to_have_text("bad")
    expect(shown(page).locator(".fg-green")).to_have_text("good")


def test_what_is_no_text_breaks_nothing(service: Daemon, page: Page, running: str) -> None:
    visit(page, service, running)
    write(service, running, b"\xff\xfe \xe2\x82")
    expect(shown(page)).to_contain_text("�� ")
    write(service, running, b"\xac \x00\x01\x7f\x08 <b>no</b><script>document.title = 1</script>\n")
    expect(shown(page)).to_have_text("begun\n�� € ␀␁␡␈ <b>no</b><script>document.title = 1</script>\n")
    write(service, running, bytes(range(256)) * 2000 + b"\nafter it\n")
    expect(shown(page)).to_contain_text("after it")
    expect(shown(page).locator("b, script")).to_have_count(0)
    assert nodes(page) < 2000
    expect(page).to_have_title("Running · steered · drmaaticd")


def test_a_log_that_is_begun_anew(service: Daemon, page: Page, running: str) -> None:
    write(service, running, b"old\n" * 100)
    visit(page, service, running)
    expect(shown(page)).to_contain_text("old")
    (service.tasks / running / f"{running[:8]}_out.txt").write_bytes(b"new\n")
    expect(shown(page)).to_have_text("new\n")


def test_the_tabs_by_keyboard_and_wrapping(service: Daemon, page: Page, running: str) -> None:
    write(service, running, b"on stderr\n", "err")
    visit(page, service, running)
    first, second = page.get_by_role("tab").all()
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    expect(second).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel")).to_have_accessible_name("Standard error · 10 bytes")
    expect(shown(page)).to_have_text("on stderr\n")
    page.keyboard.press("Home")
    expect(shown(page)).to_contain_text("begun")
    wrap = page.get_by_role("button", name="Wrap lines")
    wrap.click()
    expect(wrap).to_have_attribute("aria-pressed", "false")
    expect(page.locator("pre.lines").first).to_have_css("white-space", "pre")
    visit(page, service, running)
    expect(wrap).to_have_attribute("aria-pressed", "false")


def test_the_last_lines_of_an_end_are_there(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    visit(page, service, uuid)
    expect(shown(page)).to_contain_text("begun")
    write(service, uuid, b"the very last")
    finish(service, uuid)
    expect(state(page)).to_have_text("Done")
    expect(shown(page)).to_contain_text("the very last")


def test_an_empty_output_is_said(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    finish(service, uuid)
    wait_for(service, uuid, "done")
    visit(page, service, uuid)
    page.get_by_role("tab", name="Standard error").click()
    expect(page.get_by_role("tabpanel").get_by_text("Nothing was written.")).to_be_visible()
    expect(page.get_by_role("region", name="Standard error")).to_have_count(0)
