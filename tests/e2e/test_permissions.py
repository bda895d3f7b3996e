"""Who may do what: every route with every method for every kind of caller, on a real daemon.

The rows are looked up for the routes that the application has: a new route, or a new method of one,
without a row here fails. `python -m pytest tests/e2e/test_permissions.py -s -k shown` prints the table.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from drmaaticd.web.app import API_ROUTES
from tests.accounts import Clock, office
from tests.e2e.daemon import Daemon, daemon, wait_until

CALLERS = ("anonymous", "owner", "other", "member", "admin", "disabled", "expired")

#: Groups of the callers with a token.
GROUPS = {
    "owner": "registered",
    "other": "registered",
    "member": "lab",
    "admin": "admins",
    "disabled": "registered",
    "expired": "registered",
}

#: Where any token counts and none is needed, and where one is needed.
OPEN = "200 200 200 200 200 403 401"
SIGNED_IN = "401 204 204 204 204 403 401"

#: What callers may do with a task: their own alone; that of nobody; files that all may see.
OWNED = "403 200 403 403 200 403 401"
UNOWNED = "200 200 200 200 200 403 401"

#: Actions on an ended task: who may is told that it has ended.
OWNED_ENDED = "403 409 403 403 409 403 401"
UNOWNED_ENDED = "409 409 409 409 409 403 401"


def task_row(visible: str = OWNED) -> dict[str, str]:
    return {"owned": OWNED, "unowned": UNOWNED, "visible": visible}


ENDED = {"owned": OWNED_ENDED, "unowned": UNOWNED_ENDED, "visible": OWNED_ENDED}
ACTIONS = r"/task/([^/]+)/(stop|hold|release|suspend|resume)/?"

#: (method, route) → expected statuses in the order of `CALLERS`; for tasks, by kind of task.
ROWS: dict[tuple[str, str], str | dict[str, str]] = {
    ("GET", r"/"): OPEN,
    ("GET", r"/health/?"): OPEN,
    ("GET", r"/ready/?"): OPEN,
    ("GET", r"/metrics/?"): "401 403 403 403 200 403 401",
    ("GET", r"/openapi\.json/?"): OPEN,
    ("GET", r"/docs/?"): OPEN,
    ("DELETE", r"/token/?"): SIGNED_IN,
    # The bearer here is a provider's, and none of these is: 401 before anything is asked.
    ("GET", r"/token/([^/]+)/?"): "401 400 400 400 400 400 400",
    ("GET", r"/me/?"): OPEN,
    ("GET", r"/cpu-credit/?"): OPEN,
    ("GET", r"/script/?"): OPEN,
    ("GET", r"/script/([^/]+)/?"): "404 404 404 200 200 403 401",
    ("GET", r"/task/?"): OPEN,
    ("POST", r"/task/?"): "404 404 404 201 201 403 401",
    ("GET", r"/task/([^/]+)/?"): task_row(),
    ("DELETE", r"/task/([^/]+)/?"): {
        "owned": "403 204 403 403 204 403 401",
        "unowned": "204 204 204 204 204 403 401",
        "visible": "403 204 403 403 204 403 401",
    },
    ("GET", r"/task/([^/]+)/status/?"): task_row(),
    # Nothing of the anonymous to watch: 204.
    ("GET", r"/task/events/?"): "204 200 200 200 200 403 401",
    ("GET", r"/task/([^/]+)/events/?"): task_row(),
    ("POST", r"/task/([^/]+)/link/?"): {
        "owned": "403 201 403 403 201 403 401",
        "unowned": "201 201 201 201 201 403 401",
        "visible": "403 201 403 403 201 403 401",
    },
    ("PUT", ACTIONS): ENDED,
    ("PUT", r"/task/([^/]+)/get_ownership/?"): {
        "owned": "401 409 403 403 403 403 401",
        "unowned": "401 200 200 200 200 403 401",
        "visible": "401 409 403 403 403 403 401",
    },
    ("GET", r"/task/([^/]+)/file/?"): task_row(visible=UNOWNED),
    ("GET", r"/task/([^/]+)/file/(.+)"): task_row(visible=UNOWNED),
    ("GET", r"/task/([^/]+)/download/?"): task_row(visible=UNOWNED),
}

#: What is open also where there are no anonymous callers.
OPEN_TO_ALL = {("GET", r"/health/?"), ("GET", r"/openapi\.json/?"), ("GET", r"/docs/?")}


def routes() -> list[tuple[str, str]]:
    return [
        (method, pattern)
        for pattern, handler in API_ROUTES
        for method in handler.allowed_methods()
        if method not in ("HEAD", "OPTIONS")
    ]


class Place:
    """A daemon, a token for each kind of caller, and tasks of each kind."""

    def __init__(self, service: Daemon, tokens: dict[str, str]) -> None:
        self.service = service
        self.tokens = tokens

    def ask(self, caller: str, method: str, path: str, **options: Any) -> requests.Response:
        headers = {} if caller == "anonymous" else {"Authorization": f"Bearer {self.tokens[caller]}"}
        with requests.request(
            method,
            self.service.url + path,
            headers=headers,
            timeout=60,
            allow_redirects=False,
            stream=path == "/task/events",  # has no end of its own
            **options,
        ) as answer:
            return answer

    def task(self, kind: str) -> str:
        """A task that has ended: the owner's, nobody's, or the owner's with output for all."""
        script = "shown" if kind == "visible" else "hidden"
        caller = "anonymous" if kind == "unowned" else "owner"
        made = self.ask(caller, "POST", "/task/", data={"task_name": script})
        assert made.status_code == 201, made.text
        uuid: str = made.json()["uuid"]
        wait_until(lambda: self.ask("admin", "GET", f"/task/{uuid}").json()["state"] == "done", "the end")
        return uuid

    def status(self, caller: str, method: str, pattern: str, uuid: str, action: str = "stop") -> int:
        path = pattern.replace("/task/([^/]+)", f"/task/{uuid}").replace("/script/([^/]+)", "/script/special")
        path = path.replace("(stop|hold|release|suspend|resume)", action)
        path = path.replace("(.+)", f"{uuid[:8]}_out.txt").replace("/token/([^/]+)", "/token/somebody")
        path = path.removesuffix("/?").replace("\\.", ".")
        assert re.fullmatch(pattern, path)
        data = {"task_name": "special"} if method == "POST" else None
        return self.ask(caller, method, path, data=data).status_code


async def prepare(folder: Path) -> dict[str, str]:
    """Make the accounts in the daemon's state folder, before it starts."""
    groups: dict[str, Any] = {"lab": {}, "admins": {"admin": True}}
    tokens = {}
    past = Clock(time.time() - 10_000)
    async with office(folder, clock=past, groups=_groups(groups)) as place:
        for name, group in GROUPS.items():
            lifetime = 100 if name == "expired" else 86_400
            told = await place.accounts.issue_token(name, group=group, lifetime=lifetime, by="test")
            tokens[name] = told["access_token"]
        await place.accounts.set_user("disabled", disabled=True, by="test")
    return tokens


def _groups(tables: dict[str, Any]) -> dict[str, Any]:
    from drmaaticd.config import Group

    return {name: Group(**table) for name, table in tables.items()}


def scripts(service: Daemon) -> None:
    service.inline("hidden", "echo here")
    service.inline("shown", "echo here", "is_output_visible = true")
    service.inline("special", "echo here", 'groups = ["lab"]')


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("permissions")
    tokens = asyncio.run(prepare(folder))
    groups = {"lab": {}, "admins": {"admin": True}}
    with daemon(folder, start=False, groups=groups) as service:
        scripts(service)
        service.start()
        yield Place(service, tokens)


def test_every_route_has_a_row() -> None:
    assert set(routes()) == set(ROWS)


def expected(method: str, pattern: str, kind: str) -> dict[str, int]:
    row = ROWS[method, pattern]
    text = row if isinstance(row, str) else row[kind]
    return dict(zip(CALLERS, map(int, text.split()), strict=True))


CELLS = [
    (method, pattern, kind)
    for (method, pattern), row in ROWS.items()
    for kind in ([""] if isinstance(row, str) else row)
    if (method, pattern) != ("DELETE", r"/token/?")  # last: it ends the tokens
]


@pytest.mark.parametrize(("method", "pattern", "kind"), CELLS)
def test_the_matrix(place: Place, method: str, pattern: str, kind: str) -> None:
    changes = method == "DELETE" or "get_ownership" in pattern
    uuid = place.task(kind) if kind else ""
    found = {}
    for caller in CALLERS:
        if kind and changes and found and max(found.values()) < 300:
            uuid = place.task(kind)
        status = place.status(caller, method, pattern, uuid)
        if kind and changes and status < 300:
            uuid = place.task(kind)
        found[caller] = status
    assert found == expected(method, pattern, kind)
    print(f"{method:6} {pattern:55} {kind:8} {' '.join(map(str, found.values()))}")


@pytest.mark.parametrize("action", ["hold", "release", "suspend", "resume"])
def test_the_other_actions(place: Place, action: str) -> None:
    uuid = place.task("owned")
    found = {caller: place.status(caller, "PUT", ACTIONS, uuid, action) for caller in CALLERS}
    assert found == expected("PUT", ACTIONS, "owned")


def test_what_only_administrators_see(place: Place) -> None:
    uuid = place.task("owned")
    of_owner = place.ask("owner", "GET", f"/task/{uuid}").json()
    of_admin = place.ask("admin", "GET", f"/task/{uuid}").json()
    assert set(of_admin) - set(of_owner) == {"user", "drm_job_id", "sender_ip_addr", "deleted"}
    assert (of_admin["user"], of_admin["is_mine"], of_owner["is_mine"]) == ("internal:owner", False, True)
    script = place.ask("admin", "GET", "/script/special").json()
    assert script["groups"] == ["lab"]
    assert "groups" not in place.ask("member", "GET", "/script/special").json()
    names = {one["name"] for one in place.ask("anonymous", "GET", "/script/").json()["results"]}
    assert names == {"hidden", "shown"}


def test_lists_hold_ones_own_and_an_administrators_all(place: Place) -> None:
    mine, nobodys = place.task("owned"), place.task("unowned")

    def listed(caller: str, query: str = "?page_size=100") -> set[str]:
        return {task["uuid"] for task in place.ask(caller, "GET", f"/task/{query}").json()["results"]}

    assert mine in listed("owner")
    assert nobodys not in listed("owner")
    assert not {mine, nobodys} & listed("other")
    assert listed("anonymous") == set()
    assert listed("anonymous", f"?ids={mine},{nobodys}") == {nobodys}
    both = f"?ids={mine},{nobodys}"
    assert listed("admin", both) == {mine, nobodys}
    assert listed("other", both) == set()


def test_a_deleted_task_is_there_for_administrators_alone(place: Place) -> None:
    uuid = place.task("owned")
    assert place.ask("owner", "DELETE", f"/task/{uuid}").status_code == 204
    assert [place.ask(caller, "GET", f"/task/{uuid}").status_code for caller in CALLERS] == [
        *(404, 404, 404, 404, 200, 403, 401)
    ]
    assert place.ask("admin", "GET", f"/task/{uuid}").json()["deleted"] is True
    for method, path in (("DELETE", ""), ("PUT", "/stop"), ("PUT", "/get_ownership")):
        assert place.ask("admin", method, f"/task/{uuid}{path}").status_code == 404
    for field in ("parent_task", "dependencies"):
        refused = place.ask("admin", "POST", "/task/", data={"task_name": "hidden", field: uuid})
        assert refused.status_code == 404


@pytest.mark.parametrize("field", ["parent_task", "dependencies"])
def test_relatives_must_be_visible_as_tasks(place: Place, field: str) -> None:
    def status(caller: str, kind: str) -> int:
        data = {"task_name": "shown", field: tasks[kind]}
        return place.ask(caller, "POST", "/task/", data=data).status_code

    tasks = {kind: place.task(kind) for kind in ("owned", "unowned", "visible")}
    table = {kind: [status(caller, kind) for caller in CALLERS] for kind in tasks}
    mine = [404, 201, 404, 404, 201, 403, 401]
    assert table == {"owned": mine, "visible": mine, "unowned": [201, 201, 201, 201, 201, 403, 401]}


def test_output_is_never_more_visible_than_its_ancestors(place: Place) -> None:
    parent = place.task("owned")
    child = place.ask("owner", "POST", "/task/", data={"task_name": "shown", "parent_task": parent}).json()
    assert child["is_output_visible"] is False
    assert place.ask("other", "GET", f"/task/{child['uuid']}/file/").status_code == 403


def test_ownership_takes_the_unowned_descendants_along(place: Place) -> None:
    parent = place.task("unowned")
    data = {"task_name": "hidden", "parent_task": parent}
    child = place.ask("anonymous", "POST", "/task/", data=data).json()["uuid"]
    others = place.ask("other", "POST", "/task/", data=data).json()["uuid"]
    assert place.ask("owner", "PUT", f"/task/{parent}/get_ownership").status_code == 200
    assert place.ask("owner", "GET", f"/task/{child}").json()["is_mine"]
    assert place.ask("anonymous", "GET", f"/task/{child}").status_code == 403
    assert place.ask("owner", "GET", f"/task/{others}").status_code == 403
    assert place.ask("other", "GET", f"/task/{others}").json()["is_mine"]


def test_without_anonymous_callers(tmp_path: Path) -> None:
    tokens = asyncio.run(prepare(tmp_path))
    groups = {"lab": {}, "admins": {"admin": True}}
    with daemon(tmp_path, start=False, groups=groups, auth={"anonymous": False}) as service:
        scripts(service)
        service.start()
        place = Place(service, tokens)
        made = place.ask("owner", "POST", "/task/", data={"task_name": "shown"}).json()["uuid"]
        for method, pattern in routes():
            status = place.status("anonymous", method, pattern, made)
            assert (status == 401) != ((method, pattern) in OPEN_TO_ALL), (method, pattern, status)
            assert place.status("expired", method, pattern, made) in (401, 400)
        for path in ("/nothing", f"/task/{made}/download?format=wrong", "/task/?page=0", "/script/?page=x"):
            assert place.ask("anonymous", "GET", path).status_code == 401
        assert place.ask("owner", "GET", f"/task/{made}").status_code == 200
        preflight = {"Origin": "https://x.example", "Access-Control-Request-Method": "GET"}
        assert requests.options(f"{service.url}/task/", headers=preflight, timeout=60).status_code == 204


def test_zz_sign_out_ends_a_token_for_good(place: Place) -> None:
    """The last of this file: it ends the tokens that the others use."""
    pattern = r"/token/?"
    found = {caller: place.status(caller, "DELETE", pattern, "") for caller in CALLERS}
    assert found == expected("DELETE", pattern, "")
    assert place.ask("owner", "GET", "/me").status_code == 401
    place.service.restart()
    for caller in ("owner", "other", "member", "admin"):
        answer = place.ask(caller, "GET", "/health")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
