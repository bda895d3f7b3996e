"""Signing in and out, against a provider on loopback; what goes wrong there; who sees what."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from drmaaticd.settings import ORCID_PATTERN
from tests.browser.conftest import PLAIN_HOST, watch
from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon, wait_until
from tests.provider import CLIENT, PAGE_SECRET, Provider

CARBERRY = "0000-0002-1825-0097"
OTHER = "0000-0001-5109-3700"
PEOPLE = {
    "token-of-carberry": {"sub": CARBERRY, "name": "Josiah Carberry"},
    "token-of-other": {"sub": OTHER, "name": "Sofia Garcia"},
    "token-of-stranger": {"sub": "not-an-orcid", "name": "Stranger"},
}


def configured(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "name": "ORCID",
        "userinfo_url": f"{provider.url}/userinfo",
        "pattern": ORCID_PATTERN,
        "client_ids": [CLIENT],
        "issuer": provider.url,
        "jwks_url": f"{provider.url}/jwks",
        "client_id": CLIENT,
        "authorize_url": f"{provider.url}/authorize",
        "token_url": f"{provider.url}/token",
    } | more


@pytest.fixture(scope="module")
def one_provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def provider(one_provider: Provider) -> Iterator[Provider]:
    one_provider.people = {key: dict(claims) for key, claims in PEOPLE.items()}
    one_provider.release.clear()
    yield one_provider
    one_provider.release.set()
    one_provider.fault = ""
    one_provider.secret = None
    one_provider.lies = {}
    one_provider.sends_id_token = True
    one_provider.holds = False


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, one_provider: Provider) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("signin")
    plain = {name: configured(one_provider)[name] for name in ("userinfo_url", "authorize_url", "token_url")}
    secret = folder / "page.secret"
    secret.write_text(f"{PAGE_SECRET}\n")
    secret.chmod(0o600)
    others = [
        plain | {"name": "Site", "client_id": CLIENT, "client_secret_file": str(secret)},
        plain
        | {
            "name": "Basic",
            "client_id": CLIENT,
            "client_secret_file": str(secret),
            "client_auth": "basic",
            "jwks_url": f"{one_provider.url}/jwks",
            "issuer": one_provider.url,
            "user_name_claim": "email",
        },
        plain | {"name": "Nowhere", "client_id": CLIENT, "token_url": "http://127.0.0.1:9/token"},
        {"name": "NoPage", "userinfo_url": f"{one_provider.url}/userinfo"},
    ]
    auth = {"providers": [configured(one_provider), *others], "token_rate": "1000/s"}
    allow = ("is empty, so that tokens issued to any client are taken",)
    scripts = {"hello": "echo hello"}
    with daemon(folder, scripts=scripts, auth=auth, allow=allow) as made:
        yield made


def sign_in(page: Page, service: Daemon, name: str = "Josiah Carberry", next: str = "/ui/") -> None:
    """By the provider, as a person does."""
    page.goto(f"{service.url}/ui/sign-in?next={next}")
    page.get_by_role("link", name="Sign in with ORCID").click()
    page.get_by_role("link", name=name).click()


def session(context: BrowserContext) -> Any:
    """The session's cookie, None without one."""
    return next((one for one in context.cookies() if one["name"] == "drmaaticd_session"), None)


def token_of(context: BrowserContext) -> str:
    return str(session(context)["value"].partition(".")[2])


def status_of(service: Daemon, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{service.url}/me", headers=headers, timeout=20).status_code


def test_by_a_provider(service: Daemon, provider: Provider, page: Page) -> None:
    addresses: list[str] = []
    page.on(
        "request",
        lambda request: addresses.append(request.url) if request.url.startswith(service.url) else None,
    )
    page.goto(f"{service.url}/ui/?search=hello")
    page.get_by_role("banner").get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="Sign in with ORCID").click()
    page.get_by_role("link", name="Josiah Carberry").click()
    expect(page).to_have_url(f"{service.url}/ui/?search=hello")
    expect(page.get_by_role("banner")).to_contain_text("Josiah Carberry")
    cookie = session(page.context)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["secure"]) == (
        *(True, "Lax", "/ui"),
        False,
    )
    assert cookie["value"].startswith("issued.")
    token = token_of(page.context)
    assert status_of(service, token) == 200
    assert not [one for one in page.context.cookies() if one["name"].startswith("drmaaticd_flow")]
    secrets = (token, "token-of-carberry")
    assert not [address for address in addresses if any(secret in address for secret in secrets)]
    (code,) = {code for address in addresses for code in parse_qs(urlsplit(address).query).get("code", ())}
    assert not [line for line in service.log if any(one in line for one in (*secrets, code))]
    assert re.search(rf"token.issued user=ORCID:{CARBERRY}", service.text())


def test_signing_out_ends_the_token(service: Daemon, provider: Provider, page: Page) -> None:
    sign_in(page, service)
    token = token_of(page.context)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert session(page.context) is None
    assert status_of(service, token) == 401


def test_signing_in_again_ends_the_former_session(service: Daemon, provider: Provider, page: Page) -> None:
    sign_in(page, service)
    first = token_of(page.context)
    page.goto(f"{service.url}/ui/sign-in")
    expect(page.get_by_text("You are signed in as Josiah Carberry.")).to_be_visible()
    sign_in(page, service, "Sofia Garcia")
    expect(page.get_by_role("banner")).to_contain_text("Sofia Garcia")
    assert token_of(page.context) != first
    assert status_of(service, first) == 401


def issued(service: Daemon, provider: Provider) -> str:
    """A token by the API, as a program gets it."""
    bearer = {"Authorization": f"Bearer {provider.id_token()}"}
    return str(
        requests.get(f"{service.url}/token/{CARBERRY}", headers=bearer, timeout=20).json()["access_token"]
    )


def test_by_a_pasted_token(service: Daemon, provider: Provider, page: Page) -> None:
    token = issued(service, provider)
    page.goto(f"{service.url}/ui/sign-in?next=/ui/?search=x")
    page.get_by_text("Use a token instead").click()
    page.get_by_label("Token").fill(f" {token[:20]}\n{token[20:]} ")
    page.get_by_role("button", name="Sign in with the token").click()
    expect(page).to_have_url(f"{service.url}/ui/?search=x")
    cookie = session(page.context)
    assert cookie["value"] == f"pasted.{token}"
    assert cookie["expires"] == -1  # until the browser is closed
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert session(page.context) is None
    assert status_of(service, token) == 200


@pytest.mark.parametrize("pasted", ["nonsense", "a.b.c", "é", "x" * 5000])
def test_a_wrong_token_is_told_at_its_field(
    service: Daemon, provider: Provider, page: Page, pasted: str
) -> None:
    page.goto(f"{service.url}/ui/sign-in")
    page.get_by_text("Use a token instead").click()
    page.get_by_label("Token").fill(pasted)
    page.get_by_role("button", name="Sign in with the token").click()
    field = page.get_by_label("Token")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("no token of this service"))
    expect(field).to_be_focused()
    assert session(page.context) is None


def test_next_is_a_page_of_this_service(service: Daemon, provider: Provider, page: Page) -> None:
    for next in ("https://evil.example/", "//evil.example/ui/", "/ui/%2e%2e/%2e%2e//evil.example", "/task/"):
        sign_in(page, service, next=next)
        expect(page).to_have_url(f"{service.url}/ui/")
        page.get_by_role("button", name="Sign out").click()


def back_from(page: Page, service: Daemon, provider: Provider, person: str = "Josiah Carberry") -> str:
    """Sign in up to the moment when the browser is sent back; the address that it is sent to."""
    provider.holds = True
    sign_in(page, service, person)
    address = page.get_by_role("link", name="Go back").get_attribute("href")
    provider.holds = False
    assert address is not None
    return address


def test_another_persons_answer_signs_nobody_in(
    service: Daemon, provider: Provider, profile: Callable[..., BrowserContext]
) -> None:
    """Login CSRF: an attacker has the victim's browser open the end of the attacker's own sign-in."""
    theirs, victims = profile().new_page(), profile().new_page()
    address = back_from(theirs, service, provider, "Sofia Garcia")
    victims.goto(address)
    expect(victims.get_by_role("alert")).to_contain_text("This sign-in was not begun in this browser")
    assert session(victims.context) is None
    # Nor where the victim is on the way themselves.
    back_from(victims, service, provider)
    victims.goto(address)
    expect(victims.get_by_role("alert")).to_be_visible()
    assert session(victims.context) is None


def test_an_answer_counts_once(service: Daemon, provider: Provider, page: Page) -> None:
    address = back_from(page, service, provider)
    page.goto(address)
    expect(page.get_by_role("banner")).to_contain_text("Josiah Carberry")
    token = token_of(page.context)
    page.goto(address)  # as the browser's Back and reload do
    expect(page).to_have_url(f"{service.url}/ui/")
    assert token_of(page.context) == token
    page.get_by_role("button", name="Sign out").click()
    response = page.goto(address)
    assert response is not None
    assert response.status == 400
    expect(page.get_by_role("alert")).to_contain_text("has been used already")


def test_a_changed_answer(service: Daemon, provider: Provider, page: Page) -> None:
    address = back_from(page, service, provider)
    for changed in (
        re.sub("state=.", "state=~", address),
        re.sub("state=[^&]*", "", address),
        address.replace("/ORCID/", "/Site/"),
    ):
        page.goto(changed)
        expect(page.get_by_role("alert")).to_contain_text("not begun in this browser")
    page.goto(f"{address}&iss=https%3A%2F%2Fevil.example")
    expect(page.get_by_role("alert")).to_contain_text("an answer that this service does not understand")
    address = back_from(page, service, provider)
    page.goto(re.sub("code=[^&]*", "code=another", address))
    expect(page.get_by_role("alert")).to_contain_text("ORCID refuses")
    assert session(page.context) is None


def test_two_tabs(service: Daemon, provider: Provider, page: Page) -> None:
    second = page.context.new_page()
    for tab, next in ((page, "/ui/?search=first"), (second, "/ui/?search=second")):
        tab.goto(f"{service.url}/ui/sign-in?next={next}")
        tab.get_by_role("link", name="Sign in with ORCID").click()
    for tab, next in ((page, "/ui/?search=first"), (second, "/ui/?search=second")):
        tab.get_by_role("link", name="Josiah Carberry").click()
        expect(tab).to_have_url(service.url + next)
        expect(tab.get_by_role("banner")).to_contain_text("Josiah Carberry")


def test_sign_ins_that_are_given_up_do_not_pile_up(service: Daemon, provider: Provider, page: Page) -> None:
    for _ in range(7):
        page.goto(f"{service.url}/ui/sign-in/ORCID")
    flows = [one for one in page.context.cookies() if one["name"].startswith("drmaaticd_flow")]
    assert len(flows) == 4
    page.get_by_role("link", name="Josiah Carberry").click()
    expect(page.get_by_role("banner")).to_contain_text("Josiah Carberry")


def test_who_denies_is_not_signed_in(service: Daemon, provider: Provider, page: Page) -> None:
    page.goto(f"{service.url}/ui/sign-in")
    page.get_by_role("link", name="Sign in with ORCID").click()
    page.get_by_role("link", name="Deny").click()
    expect(page.get_by_role("alert")).to_have_text(
        "ORCID was not allowed to tell who you are, so you are not signed in."
    )
    expect(page.get_by_text("evil")).to_have_count(0)
    expect(page.get_by_role("link", name="Sign in with ORCID")).to_be_visible()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("500", "ORCID answered with status 500."),
        ("wrong JSON", "ORCID answered nonsense."),
        ("redirect", "ORCID answered with status 302."),
        ("cut off", "ORCID cannot be reached."),
        ("huge", "ORCID cannot be reached."),
    ],
)
def test_a_provider_that_fails(
    service: Daemon, provider: Provider, page: Page, fault: str, words: str
) -> None:
    address = back_from(page, service, provider)
    provider.fault = fault
    response = page.goto(address)
    assert response is not None
    assert response.status == 502
    expect(page.get_by_role("alert")).to_have_text(words)
    assert session(page.context) is None


def test_a_slow_provider_holds_up_nobody_else(service: Daemon, provider: Provider, page: Page) -> None:
    address = back_from(page, service, provider)
    provider.fault = "slow"
    cookies = {str(one["name"]): str(one["value"]) for one in page.context.cookies()}
    answers: list[requests.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            requests.get(address, cookies=cookies, timeout=60, allow_redirects=False)
        )
    )
    asked = len(provider.asked)
    waiting.start()
    wait_until(lambda: len(provider.asked) > asked, "the provider to be asked")
    assert requests.get(f"{service.url}/health", timeout=20).status_code == 200
    assert not answers
    waiting.join()
    assert answers[0].status_code == 502
    assert "ORCID cannot be reached." in answers[0].text


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"nonce": "another"}, "made for another sign-in"),
        ({"nonce": None}, "made for another sign-in"),
        ({"aud": "APP-THEIRS"}, "issued to another client"),
        ({"iss": "https://evil.example"}, "issued by somebody else"),
        ({"exp": 1}, "has expired"),
    ],
)
def test_an_id_token_that_is_not_ours(
    service: Daemon, provider: Provider, page: Page, lies: dict[str, Any], words: str
) -> None:
    provider.lies = lies
    sign_in(page, service)
    expect(page.get_by_role("alert")).to_contain_text(words)
    assert session(page.context) is None


def test_without_an_id_token(service: Daemon, provider: Provider, page: Page) -> None:
    provider.sends_id_token = False
    sign_in(page, service)
    expect(page.get_by_role("alert")).to_have_text("ORCID sent no ID token.")


def test_who_has_no_name_that_fits(service: Daemon, provider: Provider, page: Page) -> None:
    sign_in(page, service, "Stranger")
    expect(page.get_by_role("alert")).to_have_text("This is no user name of ORCID.")


def test_other_providers(service: Daemon, provider: Provider, page: Page) -> None:
    """By the access token alone; with a secret in the body, or by HTTP Basic; a name of userinfo's."""
    provider.people["token-of-carberry"]["email"] = "carberry@example.org"
    provider.secret = PAGE_SECRET
    for name in ("Site", "Basic"):
        page.goto(f"{service.url}/ui/sign-in")
        page.get_by_role("link", name=f"Sign in with {name}").click()
        page.get_by_role("link", name="Josiah Carberry").click()
        expect(page.get_by_role("banner")).to_contain_text("Josiah Carberry")
        page.get_by_role("button", name="Sign out").click()
    assert "Site:0000-0002-1825-0097" in service.text()
    assert "Basic:carberry@example.org" in service.text()
    provider.secret = "another"
    page.goto(f"{service.url}/ui/sign-in/Site")
    page.get_by_role("link", name="Josiah Carberry").click()
    expect(page.get_by_role("alert")).to_have_text("Site answered with status 401.")
    page.goto(f"{service.url}/ui/sign-in/Nowhere")
    page.get_by_role("link", name="Josiah Carberry").click()
    expect(page.get_by_role("alert")).to_have_text("Nowhere cannot be reached.")
    for name in ("NoPage", "Unheard"):
        expect(page.get_by_role("link", name=f"Sign in with {name}")).to_have_count(0)
        assert requests.get(f"{service.url}/ui/sign-in/{name}", timeout=20).status_code == 404


def test_two_people_do_not_see_each_others_tasks(
    service: Daemon, provider: Provider, profile: Callable[..., BrowserContext]
) -> None:
    first, second = profile().new_page(), profile().new_page()
    faults = [watch(page) for page in (first, second)]
    sign_in(first, service)
    sign_in(second, service, "Sofia Garcia")
    made = requests.post(
        f"{service.url}/task/",
        data={"task_name": "hello"},
        headers={"Authorization": f"Bearer {token_of(first.context)}"},
        timeout=20,
    ).json()
    asked = [f"{service.url}/ui/api/task/{made['uuid']}{rest}" for rest in ("", "/file/", "/status")]
    for address in asked:
        assert first.context.request.get(address).status == 200
        assert second.context.request.get(address).status == 403
    for page, count in ((first, 1), (second, 0)):
        assert page.context.request.get(f"{service.url}/ui/api/task/").json()["count"] == count
    assert faults == [[], []]


def test_a_disabled_account(service: Daemon, provider: Provider, page: Page) -> None:
    provider.people["token-of-late"] = {"sub": "0000-0002-9079-593X", "name": "Late"}
    sign_in(page, service, "Late")
    token = token_of(page.context)
    from drmaaticd import admin_protocol

    admin_protocol.ask(service.state, "user.set", name="ORCID:0000-0002-9079-593X", disabled=True)
    response = page.goto(f"{service.url}/ui/")
    assert response is not None
    assert response.status == 403
    expect(page.get_by_text("This account is disabled.")).to_be_visible()
    page.context.clear_cookies()
    sign_in(page, service, "Late")
    expect(page.get_by_role("alert")).to_have_text("This account is disabled.")
    assert status_of(service, token) == 403


def test_looks(service: Daemon, provider: Provider, page: Page) -> None:
    page.goto(f"{service.url}/ui/sign-in?signed_out=1")
    check_looks(page)
    page.get_by_text("Use a token instead").click()
    page.get_by_label("Token").fill("wrong")
    page.get_by_label("Token").press("Enter")
    check_looks(page)
    page.goto(f"{service.url}/ui/sign-in/ORCID/back?code=1&state=2")
    check_looks(page)
    sign_in(page, service, next="/ui/signed-in")
    check_looks(page)
    page.goto(f"{service.url}/ui/sign-in")
    check_looks(page)


def test_without_javascript(
    service: Daemon, provider: Provider, profile: Callable[..., BrowserContext]
) -> None:
    page = profile(java_script_enabled=False).new_page()
    sign_in(page, service)
    expect(page.get_by_role("banner")).to_contain_text("Josiah Carberry")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()


def test_forms_where_there_is_no_tls(service: Daemon, provider: Provider, page: Page) -> None:
    """There browsers tell the origin alone, and not even that under ``Referrer-Policy: no-referrer``."""
    sent: list[dict[str, str]] = []
    page.on("request", lambda one: sent.append(one.all_headers()) if one.method == "POST" else None)
    base = service.url.replace("127.0.0.1", PLAIN_HOST)
    page.goto(f"{base}/ui/sign-in?next=/ui/tasks")
    page.get_by_text("Use a token instead").click()
    page.get_by_label("Token").fill(issued(service, provider))
    page.get_by_role("button", name="Sign in with the token").click()
    expect(page).to_have_url(f"{base}/ui/tasks")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert [("sec-fetch-site" in headers, headers["origin"]) for headers in sent] == [(False, base)] * 2


def test_where_nobody_is_anonymous(
    tmp_path: Path, provider: Provider, profile: Callable[..., BrowserContext]
) -> None:
    auth = {"anonymous": False, "providers": [configured(provider)]}
    with daemon(tmp_path, scripts={"hello": "echo hello"}, auth=auth) as closed:
        page = profile().new_page()
        page.goto(f"{closed.url}/ui/?search=hello")
        expect(page).to_have_url(re.compile("/ui/sign-in"))
        expect(page.get_by_text("go on without signing in")).to_have_count(0)
        page.get_by_role("link", name="Sign in with ORCID").click()
        page.get_by_role("link", name="Josiah Carberry").click()
        expect(page).to_have_url(f"{closed.url}/ui/?search=hello")
        expect(page.get_by_role("heading", name="hello")).to_be_visible()


def test_cookies_are_secure_where_the_page_is_reached_by_https(tmp_path: Path, provider: Provider) -> None:
    server = {"url": "https://jobs.example.org/drm"}
    with daemon(tmp_path, server=server, auth={"providers": [configured(provider)]}) as proxied:
        answer = requests.get(
            f"{proxied.url}/ui/sign-in/ORCID?next=/drm/ui/tasks", timeout=20, allow_redirects=False
        )
        cookie = answer.headers["Set-Cookie"]
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/drm/ui/sign-in", "Max-Age=600"} <= set(
            cookie.split("; ")
        )
        asked = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert asked["redirect_uri"] == ["https://jobs.example.org/drm/ui/sign-in/ORCID/back"]
        page = requests.get(f"{proxied.url}/ui/sign-in", timeout=20)
        assert "Secure" in page.headers["Set-Cookie"]
        assert 'href="/drm/ui/sign-in/ORCID?next=%2Fdrm%2Fui%2F"' in page.text
