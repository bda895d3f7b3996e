"""Who may do what on the page: every route below ``/ui/``, with the session's cookie, on a real daemon.

What the page takes from ``/ui/api/…`` is answered as by the API's own path; what the pages answer is in
`PAGE_ROWS`. A new route, or a new method of one, without a row fails. Nothing that changes anything is
done without the token against forgery, or for another origin.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from drmaaticd.web.app import API_ROUTES, ROUTES
from tests.e2e.daemon import daemon
from tests.e2e.test_permissions import CALLERS, CELLS, GROUPS, Place, expected, prepare, scripts

#: Pages for everyone; an expired session is none. For administrators alone: others are asked to sign in.
OPEN = "200 200 200 200 200 403 200"
ANYBODY = "200 200 200 200 200 200 200"
ADMINS = "303 403 403 403 200 403 303"
CHANGES = "401 403 403 403 303 403 401"

#: Pages of a task: what others may not see, who is not signed in (any more) may not either.
OWNED = "403 200 403 403 200 403 403"
UNOWNED = OPEN


def task_rows(owned: str = OWNED, unowned: str = UNOWNED, visible: str = "") -> dict[str, str]:
    return {"owned": owned, "unowned": unowned, "visible": visible or owned}


ACTIONS = r"/ui/task/([^/]+)/(stop|hold|release|suspend|resume|delete|own)"

#: (method, route) → expected statuses in the order of `CALLERS`; for tasks, by kind of task.
PAGE_ROWS: dict[tuple[str, str], str | dict[str, str]] = {
    ("GET", r"/ui/?"): OPEN,
    ("GET", r"/ui/sign-in/?"): ANYBODY,
    ("POST", r"/ui/sign-in/?"): "400 400 400 400 400 400 400",
    ("GET", r"/ui/sign-in/([^/]+)/?"): "303 303 303 303 303 303 303",
    ("GET", r"/ui/sign-in/([^/]+)/back/?"): "400 303 303 303 303 400 400",
    ("GET", r"/ui/signed-in/?"): ANYBODY,
    ("POST", r"/ui/sign-out/?"): "303 303 303 303 303 303 303",
    ("GET", r"/ui/script/([^/]+)/?"): "404 404 404 200 200 403 404",
    ("POST", r"/ui/script/([^/]+)/?"): "404 404 404 303 303 403 401",
    ("GET", r"/ui/task/([^/]+)/?"): task_rows(visible=OPEN),
    ("GET", r"/ui/task/([^/]+)/members"): task_rows(),
    ("GET", ACTIONS): task_rows(),
    # The task has ended.
    ("POST", ACTIONS): task_rows("403 409 403 403 409 403 401", "409 409 409 409 409 403 401"),
    ("GET", r"/ui/task/([^/]+)/rerun/?"): task_rows(
        "403 303 403 403 303 403 403", "303 303 303 303 303 403 303"
    ),
    ("POST", r"/ui/task/([^/]+)/rerun/?"): task_rows(
        "403 303 403 403 303 403 401", "303 303 303 303 303 403 401"
    ),
    ("GET", r"/ui/compare/?"): OPEN,
    ("GET", r"/ui/tasks/?"): OPEN,
    ("GET", r"/ui/admin/?"): ADMINS,
    ("POST", r"/ui/admin/reload/?"): CHANGES,
    ("GET", r"/ui/admin/users/?"): ADMINS,
    ("POST", r"/ui/admin/users/?"): CHANGES,
    ("GET", r"/ui/static/([^/]+)/([^/]+)"): ANYBODY,
    ("GET", r"/ui/.*"): "404 404 404 404 404 403 404",
}

#: Which of the pages are open also where there are no anonymous callers.
OPEN_TO_ALL = re.compile(r"/ui/(sign-|signed-in|static/)")

#: Fields of the forms, by route.
FIELDS = {r"/ui/admin/users/?": {"user": "internal:member", "do": "enable"}}

EXAMPLES = {
    r"/ui/sign-in/([^/]+)/?": "/ui/sign-in/ORCID",
    r"/ui/sign-in/([^/]+)/back/?": "/ui/sign-in/ORCID/back",
    r"/ui/static/([^/]+)/([^/]+)": "/ui/static/0/page.css",
    r"/ui/.*": "/ui/there/is/no/such/page",
}

ORCID = {
    "name": "ORCID",
    "userinfo_url": "http://127.0.0.1:9/userinfo",
    "client_id": "APP-OURS",
    "authorize_url": "http://127.0.0.1:9/authorize",
    "token_url": "http://127.0.0.1:9/token",
}


def page_routes() -> list[tuple[str, str]]:
    """The pages' methods and routes."""
    return [(method, pattern) for method, pattern in all_routes() if not pattern.startswith("/ui/api/")]


def all_routes() -> list[tuple[str, str]]:
    return [
        (method, pattern)
        for pattern, handler in ROUTES
        if pattern.startswith("/ui")
        for method in handler.allowed_methods()
        if method not in ("HEAD", "OPTIONS")
    ]


def as_path(pattern: str, uuid: str) -> str:
    """A path of this route, about this task."""
    path = EXAMPLES.get(pattern, pattern.removesuffix("/?"))
    path = path.replace("/task/([^/]+)", f"/task/{uuid}").replace("/script/([^/]+)", "/script/special")
    path = re.sub(r"\((\w+)[^()]*\)(?=/|$)", r"\1", path).replace("(.+)", "x")
    assert re.fullmatch(pattern, path), (pattern, path)
    return path


class Browsers(Place):
    """The same people at their browsers: with a cookie, and what a page of ours sends along."""

    def learn(self) -> None:
        """Take the token against forgery from a page."""
        answer = requests.get(f"{self.service.url}/ui/sign-in", timeout=60)
        self.xsrf_cookie = answer.cookies["drmaaticd_xsrf"]
        found = re.search(r'<meta name="xsrf" content="([^"]+)">', answer.text)
        assert found
        self.xsrf = found[1]

    def ask(self, caller: str, method: str, path: str, **options: Any) -> requests.Response:
        cookies = {"drmaaticd_xsrf": self.xsrf_cookie}
        if caller != "anonymous":
            cookies["drmaaticd_session"] = f"pasted.{self.tokens[caller]}"
        if not path.startswith("/ui"):
            path = f"/ui/api{path}"
        headers = {"X-Xsrftoken": self.xsrf, "Sec-Fetch-Site": "same-origin"}
        with requests.request(
            method,
            self.service.url + path,
            cookies=cookies,
            headers=headers | options.pop("headers", {}),
            timeout=60,
            allow_redirects=False,
            stream=path.endswith("/task/events"),  # has no end of its own
            **options,
        ) as answer:
            return answer

    def page_status(self, caller: str, method: str, pattern: str, uuid: str) -> int:
        path = as_path(pattern, uuid)
        data = FIELDS.get(pattern, {}) if method == "POST" else None
        return self.ask(caller, method, path, data=data).status_code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsers]:
    folder = tmp_path_factory.mktemp("pages")
    tokens = asyncio.run(prepare(folder))
    groups = {"lab": {}, "admins": {"admin": True}}
    with daemon(folder, start=False, groups=groups, auth={"providers": [ORCID]}) as service:
        scripts(service)
        service.start()
        made = Browsers(service, tokens)
        made.learn()
        yield made


def test_every_page_has_a_row() -> None:
    assert set(page_routes()) == set(PAGE_ROWS)


def kinds(method: str, pattern: str) -> list[str]:
    row = PAGE_ROWS.get((method, pattern), "")
    return [""] if isinstance(row, str) else list(row)


PAGE_CELLS = [(method, pattern, kind) for method, pattern in page_routes() for kind in kinds(method, pattern)]


@pytest.mark.parametrize(("method", "pattern", "kind"), PAGE_CELLS)
def test_pages(place: Browsers, method: str, pattern: str, kind: str) -> None:
    row = PAGE_ROWS[method, pattern]
    wanted = dict(zip(CALLERS, map(int, (row if isinstance(row, str) else row[kind]).split()), strict=True))
    found = {}
    uuid = ""
    for caller in CALLERS:
        if kind and (not uuid or method == "POST"):
            uuid = place.task(kind)
        found[caller] = place.page_status(caller, method, pattern, uuid)
    assert found == wanted
    print(f"{method:6} {pattern:55} {kind:8} {' '.join(map(str, found.values()))}")


DATA_CELLS = [
    (method, pattern, kind)
    for method, pattern, kind in CELLS
    if (method, f"/ui/api{pattern}") in set(all_routes())
]


def test_the_data_are_the_apis() -> None:
    """What of the API the page has no use for is no path of the page's."""
    data = {pattern.removeprefix("/ui/api") for _, pattern in all_routes() if pattern.startswith("/ui/api")}
    left_out = {pattern for pattern, _ in API_ROUTES} - data
    assert left_out == {
        *(r"/", r"/health/?", r"/ready/?", r"/metrics/?", r"/openapi\.json/?", r"/docs/?"),
        *(r"/token/?", r"/token/([^/]+)/?"),
    }


@pytest.mark.parametrize(("method", "pattern", "kind"), DATA_CELLS)
def test_data(place: Browsers, method: str, pattern: str, kind: str) -> None:
    """As `test_permissions.test_the_matrix`, with the cookie in place of the header."""
    changes = method == "DELETE" or "get_ownership" in pattern
    uuid = place.task(kind) if kind else ""
    found = {}
    for caller in CALLERS:
        found[caller] = place.status(caller, method, pattern, uuid)
        if kind and changes and found[caller] < 300:
            uuid = place.task(kind)
    assert found == expected(method, pattern, kind)


UNSAFE = [(method, pattern) for method, pattern in all_routes() if method != "GET"]


@pytest.mark.parametrize(("method", "pattern"), UNSAFE)
def test_nothing_is_changed_for_somebody_elses_page(place: Browsers, method: str, pattern: str) -> None:
    path = as_path(pattern, place.task("owned") if "/task/" in pattern else "")
    for headers in (
        {"X-Xsrftoken": ""},
        {"X-Xsrftoken": "wrong"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": None, "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": None, "Origin": "null"},
        {"Sec-Fetch-Site": None},
    ):
        for caller in ("anonymous", "owner", "admin"):
            answer = place.ask(caller, method, path, headers=headers, data={"task_name": "hidden"})
            assert answer.status_code == 403, (caller, headers, answer.text)
            assert not any(cookie.name == "drmaaticd_session" for cookie in answer.cookies)


def test_what_our_own_page_sends_is_taken_where_browsers_tell_the_origin_alone(place: Browsers) -> None:
    headers = {"Sec-Fetch-Site": None, "Origin": place.service.url}
    answer = place.ask("owner", "POST", "/task/", headers=headers, data={"task_name": "hidden"})
    assert answer.status_code == 201


def test_below_ui_only_the_cookie_counts(place: Browsers) -> None:
    uuid = place.task("owned")
    for authorization in (f"Bearer {place.tokens['admin']}", "Bearer nonsense", "Basic eDp5"):
        headers = {"Authorization": authorization}
        assert place.ask("anonymous", "GET", "/me", headers=headers).json()["group"] == "anonymous"
        assert place.ask("anonymous", "GET", f"/task/{uuid}", headers=headers).status_code == 403
        assert place.ask("owner", "GET", "/me", headers=headers).json()["user_name"] == "owner"
        assert place.ask("anonymous", "GET", "/ui/admin", headers=headers).status_code == 303


def test_elsewhere_the_cookie_does_not_count(place: Browsers) -> None:
    uuid = place.task("owned")
    for caller in ("owner", "admin", "disabled", "expired"):
        cookies = {"drmaaticd_session": f"pasted.{place.tokens[caller]}"}

        def get(path: str, cookies: dict[str, str] = cookies) -> requests.Response:
            return requests.get(place.service.url + path, cookies=cookies, timeout=60)

        assert get("/me").json()["group"] == "anonymous"
        assert get(f"/task/{uuid}").status_code == 403
        assert get("/task/").json()["count"] == 0
        stopped = requests.put(f"{place.service.url}/task/{uuid}/stop", cookies=cookies, timeout=60)
        assert stopped.status_code == 403


def test_without_anonymous_callers(tmp_path: Path) -> None:
    tokens = asyncio.run(prepare(tmp_path))
    groups = {"lab": {}, "admins": {"admin": True}}
    auth = {"anonymous": False, "providers": [ORCID]}
    with daemon(tmp_path, start=False, groups=groups, auth=auth) as service:
        scripts(service)
        service.start()
        place = Browsers(service, tokens)
        place.learn()
        uuid = place.task("owned")
        for method, pattern in all_routes():
            path = as_path(pattern, uuid)
            answer = place.ask("anonymous", method, path)
            if OPEN_TO_ALL.match(pattern):
                assert answer.status_code != 401, (method, pattern)
                assert "next=" not in answer.headers.get("Location", "")
            elif method == "GET" and not pattern.startswith("/ui/api"):
                assert answer.status_code == 303, (method, pattern, answer.status_code)
                assert answer.headers["Location"].startswith("/ui/sign-in?next=")
            else:
                assert answer.status_code == 401, (method, pattern, answer.status_code)
        for path in ("/ui/", "/ui/tasks", "/ui/api/me"):
            assert place.ask("owner", "GET", path).status_code == 200


def test_the_table_names_every_caller() -> None:
    assert set(GROUPS) | {"anonymous"} == set(CALLERS)
