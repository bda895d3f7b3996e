"""Administration: health, scripts and what is wrong with them, groups, users."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Locator, Page, expect

from drmaaticd import admin_protocol
from tests.browser.looks import check_looks
from tests.browser.people import fill, signed_in, token
from tests.e2e.daemon import Daemon, daemon

GROUPS = {
    "admins": {"admin": True},
    "lab": {"max_live": 7, "max_disk": "20 GiB", "queue": "lab.q", "account": "biology"},
}
ORCIDS = ("0000-0002-1825-0097", "0000-0001-5109-3700", "0000-0002-9079-593X")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("admin")
    fill(folder / "state", 10, ("internal:user-000", None), ("good",))
    allow = (r"scripts\.d/(broken|later)\.toml",)
    with daemon(folder, start=False, groups=GROUPS, allow=allow) as made:
        made.inline("good", "echo hello", 'groups = ["lab"]\ndescription = "Works"')
        made.script("broken", 'command = "nothing"\n[[param]]\nname = "x"\ntype = "number"\n')
        made.start()
        yield made


@pytest.fixture(scope="module")
def tokens(service: Daemon) -> dict[str, str]:
    made = {f"user-{number:03}": token(service, f"user-{number:03}") for number in range(60)}
    return made | {"root": token(service, "root", "admins")}


@pytest.fixture
def admins(service: Daemon, tokens: dict[str, str], page: Page) -> Page:
    signed_in(page.context, service, tokens["root"])
    return page


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


def test_health(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Administration").click()
    expect(page.get_by_text("Tasks are taken and run.")).to_be_visible()
    expect(page.get_by_text("auth.providers[0].client_ids")).to_be_visible()
    facts = page.locator("dl.facts")
    expect(facts).to_contain_text("this machine")
    expect(facts).to_contain_text("0, of which 0 wait to be submitted")
    page.get_by_role("link", name=re.compile("Failed")).click()
    expect(page.locator("tr[data-uuid]")).to_have_count(2)


def test_scripts_with_their_findings(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin")
    scripts = page.get_by_role("region", name="Scripts")
    good, broken = row(page, "Works"), row(page, "broken")
    expect(good).to_contain_text("lab")
    expect(good).to_contain_text("none")
    expect(broken).to_contain_text("Not in service")
    expect(broken).to_contain_text("param[0].type")
    expect(broken).to_contain_text("line 4")
    expect(scripts.get_by_role("link", name="broken")).to_have_count(0)


def test_scripts_are_read_anew(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin")
    service.script("later", "inline = 1\n")
    page.get_by_role("button", name="Reload scripts").click()
    expect(page.get_by_text("The scripts have been read anew.")).to_be_visible()
    expect(row(page, "later")).to_contain_text("must be a text")
    (service.scripts / "later.toml").unlink()
    page.get_by_role("button", name="Reload scripts").click()
    expect(page.get_by_text("The scripts have been read anew.")).to_be_visible()
    expect(row(page, "later")).to_have_count(0)


def test_groups(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin")
    lab = page.get_by_role("region", name="Groups").get_by_role("row").filter(has_text="lab.q")
    expect(lab).to_contain_text("7 live tasks, 20 GiB")
    expect(lab).to_contain_text("queue lab.q, account biology")
    registered = page.get_by_role("region", name="Groups").get_by_role("row").filter(has_text="registered")
    expect(registered).to_contain_text(re.compile(r"registered\s*6\d"))


def test_users_have_pages_and_a_search(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin/users")
    expect(row(page, "internal:user-")).to_have_count(49)
    page.get_by_role("link", name="Next").click()
    expect(row(page, "internal:user-059")).to_be_visible()
    expect(page.get_by_role("link", name="Next")).to_have_count(0)
    page.get_by_role("searchbox").fill("USER-03")
    page.get_by_role("button", name="Search").click()
    expect(row(page, "internal:user-")).to_have_count(10)
    page.get_by_role("searchbox").fill("nobody at all")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No user fits.")).to_be_visible()
    page.goto(f"{service.url}/ui/admin/users?page=99")
    expect(page.get_by_text("The list has no such page.")).to_be_visible()


def test_a_user_is_put_into_another_group(service: Daemon, tokens: dict[str, str], admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin/users?page=2")
    page.get_by_label("Group of internal:user-058").select_option("lab")
    page.get_by_role("button", name="Change the group of internal:user-058").click()
    expect(page.get_by_text("internal:user-058 is in the group lab.")).to_be_visible()
    expect(page.get_by_label("Group of internal:user-058")).to_have_value("lab")
    headers = {"Authorization": f"Bearer {tokens['user-058']}"}
    assert requests.get(f"{service.url}/me", headers=headers, timeout=20).json()["group"] == "lab"
    assert re.search(r"user\.set user=internal:user-058 group=lab .*by=internal:root", service.text())


def test_a_user_is_disabled_and_enabled(
    service: Daemon, tokens: dict[str, str], admins: Page, profile: Callable[..., BrowserContext]
) -> None:
    page = admins
    theirs = signed_in(profile(), service, tokens["user-007"]).new_page()
    theirs.goto(f"{service.url}/ui/tasks")
    page.goto(f"{service.url}/ui/admin/users?search=user-007")
    page.get_by_role("button", name="Disable internal:user-007").click()
    expect(page.get_by_text("internal:user-007 is in the group registered, and disabled.")).to_be_visible()
    theirs.reload()
    expect(theirs.get_by_text("This account is disabled.")).to_be_visible()
    check_looks(page)
    page.get_by_role("button", name="Enable internal:user-007").click()
    expect(page.get_by_role("button", name="Disable internal:user-007")).to_be_visible()
    theirs.goto(f"{service.url}/ui/tasks")
    expect(theirs.get_by_role("heading", name="Tasks")).to_be_visible()


def test_somebody_who_has_not_come_yet(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin/users")
    page.get_by_label("Name", exact=True).fill("no ORCID iD")
    page.get_by_label("Group", exact=True).select_option("admins")
    page.get_by_role("button", name="Put into the group").click()
    expect(page.get_by_role("alert")).to_contain_text("no user name of any provider")
    expect(page.get_by_label("Name", exact=True)).to_have_value("no ORCID iD")
    page.get_by_label("Name", exact=True).fill(ORCIDS[0])
    page.get_by_label("Group", exact=True).select_option("admins")
    page.get_by_role("button", name="Put into the group").click()
    expect(page.get_by_text(f"ORCID:{ORCIDS[0]} is in the group admins.")).to_be_visible()
    known = {user["user"]: user["group"] for user in admin_protocol.ask(service.state, "user.list")}
    assert known[f"ORCID:{ORCIDS[0]}"] == "admins"


def test_nobody_shuts_themselves_out(service: Daemon, admins: Page) -> None:
    page = admins
    page.goto(f"{service.url}/ui/admin/users?search=root")
    expect(row(page, "internal:root")).to_contain_text("This is you.")
    for name in ("root", "internal:root"):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Put into the group").click()
        expect(page.get_by_role("alert")).to_contain_text("This is your own account")


def test_for_administrators_alone(
    service: Daemon, tokens: dict[str, str], page: Page, profile: Callable[..., BrowserContext]
) -> None:
    signed_in(page.context, service, tokens["user-001"])
    for path in ("/ui/admin", "/ui/admin/users"):
        response = page.goto(service.url + path)
        assert response is not None
        assert response.status == 403
        expect(page.get_by_text("Only administrators may see this.")).to_be_visible()
        expect(page.get_by_role("link", name="Administration")).to_have_count(0)
    nobody = profile().new_page()
    nobody.goto(f"{service.url}/ui/admin")
    expect(nobody).to_have_url(re.compile(r"/ui/sign-in\?next=%2Fui%2Fadmin"))


def test_without_javascript(
    service: Daemon, tokens: dict[str, str], profile: Callable[..., BrowserContext]
) -> None:
    page = signed_in(profile(java_script_enabled=False), service, tokens["root"]).new_page()
    page.goto(f"{service.url}/ui/admin/users?search=user-008")
    page.get_by_role("button", name="Disable internal:user-008").click()
    expect(page.get_by_text("and disabled.")).to_be_visible()


def test_looks(service: Daemon, admins: Page) -> None:
    page = admins
    for path in ("/ui/admin", "/ui/admin/users", "/ui/admin/users?search=nobody"):
        page.goto(service.url + path)
        check_looks(page)
