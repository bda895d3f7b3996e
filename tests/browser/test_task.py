"""A task's page: its state in words and while it changes, what can be done to it, and for whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.conftest import watch
from tests.browser.looks import check_looks
from tests.browser.tasks import (
    STEERED,
    ask,
    begin,
    finish,
    folder,
    free_port,
    issue,
    sign_in,
    state,
    submit,
    visit,
    wait_for,
    write,
)
from tests.e2e.daemon import Daemon, daemon

SCRIPTS = {
    "steered": STEERED,
    "three": "echo out; echo why >&2; exit 3",
    "killed": "kill -9 $$",
    "good": "echo fine",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("task"), start=False, drm={"slots": 40}) as made:
        for name, body in SCRIPTS.items():
            made.inline(name, body, f'description = "{name}"')
        made.inline("slow", "sleep 1000", '[resources]\nmax_clock_time = "1 s"')
        made.inline(
            "fed", "cat data*", '[[param]]\nname = "data"\ntype = "file"\n[[param]]\nname = "k"\ntype = "int"'
        )
        made.start()
        yield made


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("three", "Failed (exit 3)"),
        ("killed", "Ended by SIGKILL"),
        ("slow", "Time limit reached"),
        ("good", "Done"),
    ],
)
def test_an_end_is_worded(service: Daemon, page: Page, script: str, words: str) -> None:
    uuid = submit(service, script)
    visit(page, service, uuid)
    expect(state(page)).to_have_text(words)
    expect(page).to_have_title(f"{words} · {script} · drmaaticd")
    steps = page.locator(".steps li")
    expect(steps.last).to_contain_text(words)
    expect(steps.last).to_contain_text("ran for")
    expect(page.locator("#do-stop")).to_have_count(0)


def test_a_failed_task_shows_why_at_once(service: Daemon, page: Page) -> None:
    uuid = submit(service, "three")
    wait_for(service, uuid, "failed")
    visit(page, service, uuid)
    expect(page.get_by_role("tab", selected=True)).to_contain_text("Standard error")
    expect(page.get_by_role("tabpanel")).to_contain_text("why")


def test_a_change_is_on_the_page_by_itself(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    visit(page, service, uuid)
    expect(state(page)).to_have_text("Running")
    expect(page.locator("[data-since]")).to_have_text(re.compile(r"\d"))
    icon = page.locator('link[rel="icon"]').get_attribute("href")
    expect(page.locator(".steps li.next")).to_have_text(re.compile("Ended"))
    finish(service, uuid)
    expect(state(page)).to_have_text("Done")
    expect(page.locator("#live")).to_have_text("Done")
    expect(page).to_have_title(re.compile("^Done"))
    assert page.locator('link[rel="icon"]').get_attribute("href") != icon
    expect(page.get_by_role("link", name="Download all zip")).to_be_visible()


def test_a_stream_of_events_brings_it(service: Daemon, page: Page) -> None:
    """The page asks nothing about the state while nothing changes."""
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visit(page, service, uuid)
    with page.expect_request(re.compile("part=live")):
        finish(service, uuid)
    assert any(url.endswith("/events") for url in asked)


def test_without_a_stream_the_page_looks_now_and_then(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    page.route("**/events", lambda route: route.fulfill(status=503, body=""))
    visit(page, service, uuid)
    finish(service, uuid)
    expect(state(page)).to_have_text("Done")


def test_a_tab_in_the_background_keeps_no_stream(service: Daemon, page: Page) -> None:
    """Browsers open six connections to a host: as many such tabs would stop all others."""
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    hide = """on => { Object.defineProperty(document, "hidden", {value: on, configurable: true});
                      document.dispatchEvent(new Event("visibilitychange")); }"""
    events = re.compile(f"{uuid}/events$")
    visit(page, service, uuid)
    with page.expect_event("requestfailed", lambda request: bool(events.search(request.url))):
        page.evaluate(hide, True)
    with page.expect_request(events):
        page.evaluate(hide, False)
    page.evaluate(hide, True)
    finish(service, uuid)
    expect(state(page)).to_have_text("Done")


def test_a_session_that_ends_is_said(tmp_path: Path, profile: Any) -> None:
    with daemon(tmp_path, scripts=SCRIPTS) as service:
        token = issue(service, "portal")
        context = profile()
        sign_in(context, service, token)
        page = context.new_page()
        uuid = submit(service, "steered", token=token)
        wait_for(service, uuid, "running", token=token)
        visit(page, service, uuid)
        expect(state(page)).to_have_text("Running")
        bearer = {"Authorization": f"Bearer {token}"}
        assert requests.delete(f"{service.url}/token", headers=bearer, timeout=20).status_code == 204
        finish(service, uuid)
        expect(page.get_by_role("alert")).to_contain_text("You may not see this task any more")


def test_stop_asks_once_and_every_tab_shows_it(service: Daemon, page: Page, profile: Any) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    other = profile().new_page()
    faults = watch(other)
    visit(page, service, uuid)
    visit(other, service, uuid)
    page.get_by_role("button", name="Stop…").click()
    dialog = page.get_by_role("dialog", name="Stop this task?")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    check_looks(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#do-stop")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Stop the task").click()
    for one in (page, other):
        expect(state(one)).to_have_text("Stopped")
        expect(one.locator("#do-stop")).to_have_count(0)
    assert not faults


def test_what_is_not_possible_any_more_is_said(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    page.route("**/events", lambda route: route.abort())
    visit(page, service, uuid)
    page.get_by_role("button", name="Stop…").click()
    finish(service, uuid)
    wait_for(service, uuid, "done")
    page.get_by_role("button", name="Stop the task").click()
    expect(page.get_by_role("alert")).to_have_text("The task has ended: job finished normally.")
    expect(state(page)).to_have_text("Done")


def test_suspend_and_resume(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    visit(page, service, uuid)
    page.get_by_role("button", name="Suspend").click()
    expect(state(page)).to_have_text("Suspended")
    page.get_by_role("button", name="Resume").click()
    expect(state(page)).to_have_text("Running")
    finish(service, uuid)
    expect(state(page)).to_have_text("Done")


def test_hold_and_release(tmp_path: Path, page: Page) -> None:
    with daemon(tmp_path, scripts={"steered": STEERED}, drm={"slots": 1}) as service:
        first, second = submit(service, "steered"), submit(service, "steered")
        wait_for(service, second, "queued_active")
        visit(page, service, second)
        expect(state(page)).to_have_text("Queued")
        page.get_by_role("button", name="Hold").click()
        expect(state(page)).to_have_text("Held")
        check_looks(page)
        page.get_by_role("button", name="Release").click()
        expect(state(page)).to_have_text("Queued")
        finish(service, first)
        expect(state(page)).to_have_text("Running")
        finish(service, second)
        expect(state(page)).to_have_text("Done")


def test_delete_asks_and_another_tab_is_told(service: Daemon, page: Page, profile: Any) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    other = profile().new_page()
    visit(other, service, uuid)
    visit(page, service, uuid)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete the task").click()
    page.wait_for_url(f"{service.url}/ui/tasks")
    expect(other.get_by_role("alert")).to_have_text("This task was deleted.")
    expect(other.locator("[data-since]")).to_have_count(0)
    expect(other.locator("[data-final='1']")).to_have_count(1)
    assert ask(service, uuid).status_code == 404


def test_the_address_opens_it_after_a_restart_and_a_crash(tmp_path: Path, page: Page, profile: Any) -> None:
    port = free_port()
    with daemon(tmp_path, scripts=SCRIPTS, server={"port": port}) as service:
        ended, running = submit(service, "three"), submit(service, "steered")
        wait_for(service, ended, "failed")
        wait_for(service, running, "running")
        visit(page, service, running)
        service.stop()
        expect(page.locator("#link-state")).to_be_visible()
        check_looks(page)
        service.start()
        expect(page.locator("#link-state")).to_be_hidden()
        expect(state(page)).to_have_text("Running")
        other = profile().new_page()
        visit(other, service, ended)
        expect(state(other)).to_have_text("Failed (exit 3)")
        expect(other.get_by_role("tabpanel")).to_contain_text("why")
        service.kill()
        expect(page.locator("#link-state")).to_be_visible()
        write(service, running, b"written while nobody served\n")
        service.start()
        expect(page.locator("#link-state")).to_be_hidden()
        expect(page.get_by_role("tabpanel")).to_contain_text("written while nobody served")
        expect(state(page)).to_have_text("Running")
        visit(other, service, running)
        expect(state(other)).to_have_text("Running")
        finish(service, running, 4)
        for one in (page, other):
            expect(state(one)).to_have_text("Failed (exit 4)")


def test_parameters_with_their_files(service: Daemon, page: Page) -> None:
    uuid = submit(service, "fed", files={"data": ("my genes.fasta", b">a\nACGT\n")}, k="7")
    wait_for(service, uuid, "done")
    visit(page, service, uuid)
    facts = page.locator("#live-about")
    expect(facts).to_contain_text("k")
    expect(facts.get_by_role("definition").filter(has_text=re.compile("^7$"))).to_have_count(1)
    facts.get_by_role("link", name="my genes.fasta").click()
    expect(page.get_by_role("dialog")).to_contain_text("ACGT")
    page.keyboard.press("Escape")
    expect(page.locator("#files")).to_contain_text("uploaded as “my genes.fasta”")
    again = page.get_by_role("link", name="Run again")
    assert again.get_attribute("href") == f"/ui/script/fed?from={uuid}"


def test_relations_lead_to_the_other_tasks(service: Daemon, page: Page) -> None:
    parent = submit(service, "good")
    child = submit(service, "good", parent_task=parent, dependencies=parent, dependency_type="afterok")
    wait_for(service, child, "done")
    visit(page, service, child)
    links = page.locator("#live-about").get_by_role("link", name=f"good {parent[:8]}")
    expect(links).to_have_count(2)
    links.first.click()
    page.wait_for_url(f"**/ui/task/{parent}")
    expect(page.get_by_role("link", name=f"good {child[:8]}")).to_be_visible()


def test_what_is_to_be_expected_and_a_comparison(tmp_path: Path, profile: Any) -> None:
    with daemon(tmp_path, scripts={"steered": STEERED}, drm={"slots": 1}) as service:
        token = issue(service, "portal")
        context = profile()
        sign_in(context, service, token)
        page = context.new_page()
        faults = watch(page)
        first = submit(service, "steered", token=token)
        visit(page, service, first)
        expect(page.locator("#usually")).to_have_count(0)
        for uuid in (first, submit(service, "steered", token=token)):
            wait_for(service, uuid, "running", token=token)
            finish(service, uuid)
            wait_for(service, uuid, "done", token=token)
        running, waiting = submit(service, "steered", token=token), submit(service, "steered", token=token)
        wait_for(service, running, "running", token=token)
        visit(page, service, waiting)
        said = page.locator("#usually")
        expect(said).to_have_text(re.compile(r"start after .+ and run for .+, by the last 2 tasks"))
        visit(page, service, running)
        expect(said).to_have_text(
            re.compile(r"^Tasks of this script run for .+, by the last 2 tasks that are done\.$")
        )
        check_looks(page)
        page.get_by_label("Another task of steered").select_option(first)
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url(f"**/ui/compare?a={running}&b={first}")
        expect(page.get_by_role("heading", level=1)).to_have_text("Two tasks compared")
        page.go_back()
        page.get_by_role("link", name="Run again").click()
        page.wait_for_url(f"**/ui/script/steered?from={running}")
        assert not faults


def test_a_notice_when_it_ends(service: Daemon, profile: Any) -> None:
    context = profile()
    context.grant_permissions(["notifications"], origin=service.url)
    page = context.new_page()
    page.add_init_script(
        """window.told = []; window.asked = 0;
        class Told { constructor(title, options) { window.told.push([title, options.body]); }
                     static get permission() { return window.asked ? "granted" : "default"; }
                     static async requestPermission() { window.asked += 1; return "granted"; } }
        window.Notification = Told;"""
    )
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    visit(page, service, uuid)
    button = page.get_by_role("button", name="Tell me when it ends")
    assert page.evaluate("window.asked") == 0
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    finish(service, uuid, 3)
    expect(state(page)).to_have_text("Failed (exit 3)")
    assert page.evaluate("[window.asked, window.told]") == [
        1,
        [["steered: Failed (exit 3)", f"Task {uuid[:8]} has ended."]],
    ]


def test_without_javascript(service: Daemon, profile: Any) -> None:
    page = profile(java_script_enabled=False).new_page()
    uuid = submit(service, "steered")
    begin(service, uuid)
    wait_for(service, uuid, "running")
    write(service, uuid, b"\x1b[31mred\x1b[0m and\rover and done\n" + b"\xff<b>bold</b>\n")
    (folder(service, uuid) / "made.txt").write_text("x" * 2048)
    page.goto(f"{service.url}/ui/task/{uuid}")
    expect(state(page)).to_have_text("Running")
    expect(page.get_by_role("region", name="Standard output")).to_have_text(
        "begun\nover and done\n�<b>bold</b>\n", use_inner_text=True
    )
    row = page.get_by_role("row").filter(has_text="made.txt")
    expect(row).to_contain_text("2 KiB")
    page.get_by_role("button", name="Stop…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop this task?")
    page.get_by_role("button", name="Stop the task").click()
    page.wait_for_url(f"**/ui/task/{uuid}")
    page.reload()
    expect(state(page)).to_have_text("Stopped")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete the task").click()
    page.wait_for_url("**/ui/tasks")
    assert ask(service, uuid).status_code == 404


def test_a_forged_form_does_nothing(service: Daemon) -> None:
    uuid = submit(service, "steered")
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-origin"}):
        answer = requests.post(f"{service.url}/ui/task/{uuid}/stop", headers=headers, timeout=20)
        assert answer.status_code == 403
    assert ask(service, uuid).json()["state"] in ("created", "queued_active", "running")
    finish(service, uuid)


# -- owners, and those who have a link


def test_taking_ownership_and_sharing(service: Daemon, profile: Any) -> None:
    token = issue(service, "portal")
    uuid = submit(service, "steered", task_description="a secret plan")
    wait_for(service, uuid, "running")
    context = profile()
    sign_in(context, service, token)
    page = context.new_page()
    faults = watch(page)
    visit(page, service, uuid)
    expect(page.get_by_role("button", name="Share…")).to_have_count(0)
    page.get_by_role("button", name="Take ownership").click()
    expect(page.locator("#live-about")).to_contain_text("Owneryou", use_inner_text=False)
    page.get_by_role("button", name="Share…").click()
    page.get_by_label("It is valid for").select_option("1 hour")
    page.get_by_role("button", name="Make a link").click()
    field = page.get_by_label("The link")
    expect(field).to_have_value(re.compile(rf"/ui/task/{uuid}\?link="))
    check_looks(page)
    link = field.input_value()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link
    page.get_by_role("dialog").get_by_role("button", name="Close").click()

    stranger = profile().new_page()
    stranger.goto(f"{service.url}/ui/task/{uuid}")
    expect(stranger.locator("main")).to_contain_text("belongs to somebody else")
    members = f"{service.url}/ui/task/{uuid}/members"
    assert stranger.request.get(members).status == 403
    stranger.goto(link)
    assert urlsplit(stranger.url).query == ""
    assert stranger.request.get(members).status == 200
    expect(stranger.locator("main")).to_contain_text("shared this task with you")
    expect(stranger.get_by_role("tabpanel")).to_contain_text("begun")
    expect(stranger.locator("#live-actions").get_by_role("button")).to_have_text("Tell me when it ends")
    check_looks(stranger)
    write(service, uuid, b"more for everybody\n")
    expect(stranger.get_by_role("tabpanel")).to_contain_text("more for everybody")
    finish(service, uuid)
    for one in (stranger, page):
        expect(state(one)).to_have_text("Done")
    refused = stranger.evaluate(
        f"""async () => (await fetch("/ui/api/task/{uuid}", {{method: "DELETE", headers: {{
            "X-Xsrftoken": document.querySelector('meta[name="xsrf"]').content}}}})).status"""
    )
    assert refused == 403
    stranger.goto(f"{service.url}/ui/task/{uuid}?link=wrong")
    expect(stranger.locator("main")).to_contain_text("This link is not valid")
    assert "link=" not in service.text()
    assert not faults


def test_a_link_longer_than_allowed_is_refused_in_words(tmp_path: Path, profile: Any) -> None:
    with daemon(tmp_path, scripts=SCRIPTS, auth={"max_link_lifetime": "2 hours"}) as service:
        token = issue(service, "portal")
        context = profile()
        sign_in(context, service, token)
        page = context.new_page()
        visit(page, service, submit(service, "good", token=token))
        page.get_by_role("button", name="Share…").click()
        page.get_by_role("button", name="Make a link").click()
        expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("must be at most 7200 seconds")


# -- how it looks, what it weighs, what it withstands


def test_looks(service: Daemon, page: Page) -> None:
    running, failed = submit(service, "steered"), submit(service, "three")
    wait_for(service, running, "running")
    wait_for(service, failed, "failed")
    for uuid in (running, failed):
        visit(page, service, uuid)
        check_looks(page)
    page.goto(f"{service.url}/ui/task/{running}/stop")
    check_looks(page)
    finish(service, running)


def test_the_first_load_is_light(service: Daemon, page: Page) -> None:
    uuid = submit(service, "steered")
    wait_for(service, uuid, "running")
    sizes: dict[str, int] = {}

    def note(response: Any) -> None:
        sizes[response.url] = int(response.headers.get("content-length", 0))

    page.on("response", note)
    visit(page, service, uuid)
    expect(page.get_by_role("tabpanel")).to_contain_text("begun")
    first = {url: size for url, size in sizes.items() if "part=live" not in url}
    assert len(first) <= 8, first
    assert sum(first.values()) <= 60_000, first
    finish(service, uuid)


HOSTILE = '"><img src=x onerror="document.title=1">\u202e</script><script>document.title=2</script>\'{{7*7}}'


def test_hostile_texts_are_texts(service: Daemon, page: Page) -> None:
    data = {"data": (HOSTILE + ".fasta", b">a\n")}
    uuid = submit(service, "fed", files=data, task_description=HOSTILE)
    wait_for(service, uuid, "done")
    visit(page, service, uuid)
    expect(page.locator(".lede")).to_have_text(HOSTILE)
    expect(page.locator("#live-about")).to_contain_text(HOSTILE)
    expect(page.locator("main img")).to_have_count(0)
    expect(page).to_have_title(re.compile("^Done"))
    assert page.locator("main script").count() == 0
    check_looks(page)


def test_what_is_not_there_is_said(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/task/00000000-0000-4000-8000-000000000000")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    page.goto(f"{service.url}/ui/task/nothing")
    expect(page.locator("main")).to_contain_text("There is no such task.")
