"""The list of tasks: filters, counts, pages, states as they change, who sees which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Locator, Page, expect

from drmaaticd import admin_protocol
from tests.browser.conftest import watch
from tests.browser.looks import check_looks
from tests.browser.people import fill, signed_in, token
from tests.e2e.daemon import Daemon, daemon, wait_until

COUNT = 1000
SCRIPTS = ("align", "blast")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("list")
    fill(folder / "state", COUNT, ("internal:anna", "internal:anna", "internal:ben"), SCRIPTS)
    groups = {"admins": {"admin": True}}
    with daemon(folder, start=False, groups=groups, drm={"slots": 16}) as made:
        for name in SCRIPTS:
            made.inline(name, "echo hello")
        made.inline("wait", 'until [ -e "$DRMAATICD_TASK_ID.go" ]; do sleep 0.05; done')
        made.start()
        yield made


@pytest.fixture(scope="module")
def tokens(service: Daemon) -> dict[str, str]:
    groups = {"anna": "registered", "ben": "registered", "cleo": "registered", "root": "admins"}
    return {name: token(service, name, group) for name, group in groups.items()}


@pytest.fixture
def annas(service: Daemon, tokens: dict[str, str], page: Page) -> Page:
    signed_in(page.context, service, tokens["anna"])
    return page


def rows(page: Page) -> Locator:
    return page.locator("tr[data-uuid]")


def chip(page: Page, label: str) -> Locator:
    return page.get_by_role("navigation", name="States").get_by_role("link", name=re.compile(label))


def submit(service: Daemon, who: str | None, script: str = "wait", **fields: str) -> str:
    headers = {} if who is None else {"Authorization": f"Bearer {who}"}
    data = {"task_name": script, **fields}
    made = requests.post(f"{service.url}/task/", data=data, headers=headers, timeout=20)
    assert made.status_code == 201, made.text
    return str(made.json()["uuid"])


def let_go(service: Daemon, uuid: str) -> None:
    """Have a task of the script `wait` end well."""
    (service.tasks / uuid / f"{uuid}.go").touch()


def until_running(service: Daemon, who: str, *uuids: str) -> None:
    def states() -> set[str]:
        query = f"?ids={','.join(uuids)}"
        headers = {"Authorization": f"Bearer {who}"}
        answer = requests.get(f"{service.url}/task/{query}", headers=headers, timeout=20).json()
        return {task["state"] for task in answer["results"]}

    wait_until(lambda: states() == {"running"}, "the tasks to run")


def test_pages_of_a_long_list(service: Daemon, annas: Page) -> None:
    page = annas
    page.goto(f"{service.url}/ui/tasks")
    expect(rows(page)).to_have_count(25)
    expect(rows(page).first).to_contain_text("sample 999")
    pages = page.get_by_role("navigation", name="Pages")
    expect(pages).to_contain_text("1 to 25 of 667 · page 1 of 27")
    pages.get_by_role("link", name="Older").click()
    expect(page).to_have_url(re.compile(r"[?&]page=2"))
    expect(pages).to_contain_text("26 to 50 of 667")
    pages.get_by_role("link", name="Newer").click()
    expect(pages).to_contain_text("1 to 25")
    page.goto(f"{service.url}/ui/tasks?page=27")
    expect(rows(page)).to_have_count(17)
    expect(pages.get_by_role("link")).to_have_count(1)
    assert requests.get(f"{service.url}/ui/tasks?page=28", timeout=20).status_code == 404


def test_counts_by_state_are_links(service: Daemon, annas: Page) -> None:
    page = annas
    page.goto(f"{service.url}/ui/tasks")
    counts = {label: int(chip(page, label).locator("b").inner_text()) for label in ("All", "Done", "Failed")}
    assert counts["All"] == 667
    assert counts["Done"] == 400
    chip(page, "Failed").click()
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text(f"of {counts['Failed']}")
    for state in rows(page).locator(".state").all_inner_texts():
        assert state == "Failed (exit 3)"
    expect(chip(page, "Failed")).to_have_attribute("aria-current", "true")
    expect(chip(page, "Done").locator("b")).to_have_text(str(counts["Done"]))
    chip(page, "All").click()
    expect(rows(page).first).to_contain_text("sample 999")


def test_filters_go_together(service: Daemon, annas: Page) -> None:
    page = annas
    page.goto(f"{service.url}/ui/tasks?state=done")
    page.get_by_label("Script").select_option("blast")
    page.get_by_label("Search").fill("SAMPLE 99")
    page.get_by_role("button", name="Filter").click()
    texts = rows(page).all_inner_texts()
    assert texts
    assert all("blast" in text and "sample 99" in text and "Done" in text for text in texts)
    expect(page.get_by_label("Script")).to_have_value("blast")
    expect(chip(page, "Done")).to_have_attribute("aria-current", "true")
    page.get_by_label("Search").fill("nothing fits")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No task fits.")).to_be_visible()
    page.get_by_role("link", name="Show all of them").click()
    expect(rows(page)).to_have_count(25)


def test_days_are_the_readers_own(
    service: Daemon, tokens: dict[str, str], profile: Callable[..., BrowserContext]
) -> None:
    """The tasks were created one a minute from 2026-09-21 14:13:20 UTC on."""
    found = {}
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        page = signed_in(profile(timezone_id=zone), service, tokens["root"]).new_page()
        page.goto(f"{service.url}/ui/tasks")
        page.get_by_label("Created from").fill("2026-09-22")
        page.get_by_label("to", exact=True).fill("2026-09-22")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("button", name="Filter")).to_be_visible()
        found[zone] = int(chip(page, "All").locator("b").inner_text())
    total = COUNT
    utc, tokyo = 586 + 1, 46 + 1  # minutes until midnight there, and the task at the start
    assert found == {"UTC": total - utc, "Asia/Tokyo": total - tokyo, "America/New_York": total - utc - 240}


def test_days_without_javascript_are_utc(
    service: Daemon, tokens: dict[str, str], profile: Callable[..., BrowserContext]
) -> None:
    context = profile(java_script_enabled=False, timezone_id="Asia/Tokyo")
    page = signed_in(context, service, tokens["root"]).new_page()
    page.goto(f"{service.url}/ui/tasks")
    page.get_by_label("Created from").fill("2026-09-22")
    page.get_by_role("button", name="Filter").click()
    expect(chip(page, "All").locator("b")).to_have_text(str(COUNT - 587))
    chip(page, "Stopped").click()
    expect(rows(page).first).to_contain_text("Stopped")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("page=0", "page"),
        ("page=x", "page"),
        ("search=a&search=b", "search"),
    ],
)
def test_filters_that_make_no_sense_are_told(service: Daemon, query: str, name: str) -> None:
    answer = requests.get(f"{service.url}/ui/tasks?{query}", timeout=20)
    assert answer.status_code == 400
    assert f"<b>{name}</b>" in answer.text


@pytest.mark.parametrize(
    "query",
    ["from=0001-01-01&tz=840", "to=9999-12-30&tz=0,-840", "to=9999-12-31", "tz=x,y", "state=odd"],
)
def test_filters_that_are_odd_are_taken(service: Daemon, query: str) -> None:
    assert requests.get(f"{service.url}/ui/tasks?{query}", timeout=20).status_code == 200


def test_states_change_while_one_looks(service: Daemon, tokens: dict[str, str], annas: Page) -> None:
    page = annas
    uuids = [submit(service, tokens["anna"], task_description=f"number {number}") for number in (1, 2)]
    until_running(service, tokens["anna"], *uuids)
    page.goto(f"{service.url}/ui/tasks")
    row = page.locator(f"tr[data-uuid='{uuids[0]}']")
    expect(row).to_contain_text("Running")
    running = int(chip(page, "Running").locator("b").inner_text())
    row.get_by_role("link").focus()
    let_go(service, uuids[0])
    expect(row.locator(".state")).to_have_text("Done")
    expect(page.locator("#live")).to_have_text("number 1: Done")
    expect(row.get_by_role("link")).to_be_focused()
    expect(chip(page, "Running").locator("b")).to_have_text(str(running - 1))
    other = page.locator(f"tr[data-uuid='{uuids[1]}']")
    expect(other).to_contain_text("Running")
    let_go(service, uuids[1])
    expect(other.locator(".state")).to_have_text("Done")


def test_one_stream_for_a_page(service: Daemon, tokens: dict[str, str], annas: Page) -> None:
    page = annas
    uuids = [submit(service, tokens["anna"]) for _ in range(3)]
    streams: list[str] = []
    page.on("request", lambda one: streams.append(one.url) if "/events" in one.url else None)
    page.goto(f"{service.url}/ui/tasks?search=wait")
    expect(page.locator("tr[data-live]")).to_have_count(3)
    page.wait_for_function("() => performance.getEntriesByType('resource').length > 0")
    for uuid in uuids:
        let_go(service, uuid)
    expect(page.locator("tr[data-live]")).to_have_count(0)
    assert streams
    assert all(uuid in streams[0] for uuid in uuids)


def test_new_tasks_appear(service: Daemon, page: Page) -> None:
    mine = token(service, "emil")
    signed_in(page.context, service, mine)
    streams: list[str] = []
    page.on("request", lambda one: streams.append(one.url) if "/events" in one.url else None)
    page.goto(f"{service.url}/ui/tasks")
    expect(page.get_by_text("There is no task yet.")).to_be_visible()
    first = submit(service, mine, task_description="the first")
    expect(page.locator(f"tr[data-uuid='{first}'] .state")).to_have_text("Running")
    page.get_by_label("Search").fill("half typed")
    second = submit(service, mine, "align", task_description="the second")
    expect(rows(page)).to_have_count(2)
    expect(rows(page).first).to_contain_text("the second")
    expect(page.locator(f"tr[data-uuid='{second}'] .state")).to_have_text("Done")
    expect(chip(page, "All").locator("b")).to_have_text("2")
    expect(page.get_by_label("Search")).to_have_value("half typed")
    submit(service, token(service, "hanna"), "align")
    let_go(service, first)
    expect(page.locator(f"tr[data-uuid='{first}'] .state")).to_have_text("Done")
    expect(rows(page)).to_have_count(2)
    assert [url.partition("?")[2] for url in streams] == [""]


def test_counts_follow_tasks_that_are_not_on_the_page(service: Daemon, page: Page) -> None:
    mine = token(service, "frida")
    signed_in(page.context, service, mine)
    uuids = [submit(service, mine) for _ in range(3)]
    until_running(service, mine, *uuids)
    page.goto(f"{service.url}/ui/tasks?page_size=1")
    expect(chip(page, "Running").locator("b")).to_have_text("3")
    let_go(service, uuids[0])
    expect(chip(page, "Running").locator("b")).to_have_text("2")
    expect(page.locator(f"tr[data-uuid='{uuids[2]}']")).to_be_visible()
    for uuid in uuids[1:]:
        let_go(service, uuid)


def test_a_hidden_list_holds_no_connection(service: Daemon, page: Page) -> None:
    """A browser has six for a host, whatever the number of its tabs."""
    mine = token(service, "gunnar")
    signed_in(page.context, service, mine)
    page.goto(f"{service.url}/ui/tasks")
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange")); }"""
    with page.expect_event("requestfailed", lambda one: "/events" in one.url):
        page.evaluate(hide, True)
    uuid = submit(service, mine)
    until_running(service, mine, uuid)
    expect(rows(page)).to_have_count(0)
    page.evaluate(hide, False)
    expect(page.locator(f"tr[data-uuid='{uuid}'] .state")).to_have_text("Running")
    let_go(service, uuid)
    expect(page.locator(f"tr[data-uuid='{uuid}'] .state")).to_have_text("Done")


def test_a_stopped_task_leaves_the_list_of_running_ones(
    service: Daemon, tokens: dict[str, str], annas: Page
) -> None:
    page = annas
    uuid = submit(service, tokens["anna"])
    until_running(service, tokens["anna"], uuid)
    page.goto(f"{service.url}/ui/tasks?state=running")
    expect(page.locator(f"tr[data-uuid='{uuid}']")).to_be_visible()
    headers = {"Authorization": f"Bearer {tokens['anna']}"}
    requests.put(f"{service.url}/task/{uuid}/stop", headers=headers, timeout=20)
    expect(page.locator(f"tr[data-uuid='{uuid}']")).to_have_count(0)


def test_administrators_see_everyones(
    service: Daemon, tokens: dict[str, str], page: Page, profile: Callable[..., BrowserContext]
) -> None:
    signed_in(page.context, service, tokens["root"])
    page.goto(f"{service.url}/ui/tasks")
    expect(page.get_by_role("columnheader", name="Owner")).to_be_visible()
    rows(page).filter(has_text="internal:ben").first.get_by_role("link", name="internal:ben").click()
    expect(page.get_by_text("Tasks of internal:ben.")).to_be_visible()
    expect(chip(page, "All").locator("b")).to_have_text("333")
    expect(rows(page).filter(has_text="internal:anna")).to_have_count(0)
    # The filter is nobody else's.
    ben = signed_in(profile(), service, tokens["ben"]).new_page()
    ben.goto(f"{service.url}/ui/tasks?owner=internal:anna")
    expect(chip(ben, "All").locator("b")).to_have_text("333")
    expect(ben.get_by_role("columnheader", name="Owner")).to_have_count(0)


def test_who_has_none(service: Daemon, tokens: dict[str, str], page: Page) -> None:
    signed_in(page.context, service, tokens["cleo"])
    page.goto(f"{service.url}/ui/tasks")
    expect(page.get_by_text("There is no task yet.")).to_be_visible()
    check_looks(page)


def test_without_signing_in_a_browser_knows_its_own(
    service: Daemon, page: Page, profile: Callable[..., BrowserContext]
) -> None:
    page.goto(f"{service.url}/ui/tasks")
    expect(page.get_by_text("belongs to whoever knows its address")).to_be_visible()
    check_looks(page)
    uuids = [submit(service, None, task_description=f"mine {number}") for number in (1, 2)]
    strangers = submit(service, None)
    remember = """async ([mine, uuids]) => {
      const { remember } = await import(mine);
      return uuids.map((uuid) => remember(uuid)); }"""
    script = page.locator("link[rel=modulepreload]").get_attribute("href")
    assert page.evaluate(remember, [script, [*uuids, "no UUID"]]) == [True, True, False]
    page.goto(f"{service.url}/ui/tasks")
    expect(rows(page)).to_have_count(2)
    expect(page.locator(f"tr[data-uuid='{strangers}']")).to_have_count(0)
    let_go(service, uuids[0])
    expect(page.locator(f"tr[data-uuid='{uuids[0]}'] .state")).to_have_text("Done")
    chip(page, "Done").click()
    expect(rows(page)).to_have_count(1)
    assert uuids[0] not in page.url
    other = profile().new_page()
    other.goto(f"{service.url}/ui/tasks")
    expect(other.get_by_text("belongs to whoever knows its address")).to_be_visible()


def test_a_session_that_ends_while_one_looks(service: Daemon, tokens: dict[str, str], page: Page) -> None:
    mine = token(service, "dora")
    signed_in(page.context, service, mine)
    uuid = submit(service, mine)
    page.goto(f"{service.url}/ui/tasks")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Search").fill("typed")
    admin_protocol.ask(service.state, "token.revoke", user="dora")
    let_go(service, uuid)
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended.")
    expect(page.get_by_label("Search")).to_have_value("typed")
    check_looks(page)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Sign in in another tab").click()
    tab = opened.value
    tab.get_by_label("Token").fill(token(service, "dora"))
    tab.get_by_role("button", name="Sign in with the token").click()
    expect(tab.get_by_role("heading", name="You are signed in")).to_be_visible()
    tab.close()
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("Search")).to_have_value("typed")


def test_what_one_does_is_not_done_as_somebody_else(
    service: Daemon, tokens: dict[str, str], annas: Page
) -> None:
    """In one tab the page is Anna's; in another of the same browser Ben has signed in since."""
    page = annas
    uuid = submit(service, tokens["anna"])
    page.goto(f"{service.url}/ui/tasks")
    stop = """async ([script, uuid]) => {
      const { api, ask } = await import(script);
      try { await ask(api("task", uuid, "stop"), { method: "PUT" }); } catch (error) { return error.status; }
      return 200; }"""
    script = page.locator("script[src*='page.js']").get_attribute("src")
    signed_in(page.context, service, tokens["ben"])
    assert page.evaluate(stop, [script, uuid]) == 401
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended.")
    page.context.clear_cookies(name="drmaaticd_session")
    assert page.evaluate(stop, [script, uuid]) == 401
    signed_in(page.context, service, tokens["anna"])
    assert page.evaluate(stop, [script, uuid]) == 200


def test_looks(service: Daemon, tokens: dict[str, str], page: Page) -> None:
    faults = watch(page)
    signed_in(page.context, service, tokens["root"])
    for query in ("", "?state=failed&owner=internal:ben&page=2", "?search=nothing"):
        page.goto(f"{service.url}/ui/tasks{query}")
        check_looks(page)
    assert faults == []
