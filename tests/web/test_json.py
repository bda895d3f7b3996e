"""The JSON routes, by pytest-tornado's client."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import urlencode

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from tests.web.fakes import ADMIN, TASK, TOKEN, FakeService

Client = AsyncHTTPClient


async def fetch(client: Client, url: str, **options: Any) -> HTTPResponse:
    options.setdefault("follow_redirects", False)
    if options.get("method") in ("PUT", "POST", "PATCH"):
        options.setdefault("body", b"")
    return await client.fetch(url, raise_error=False, **options)


def problem(response: HTTPResponse, status: int) -> dict[str, Any]:
    assert response.code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    document = json.loads(response.body)
    assert document["status"] == status
    assert document["title"]
    assert document["type"]
    return document


@pytest.mark.gen_test
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/health", {"status": "ok"}),
        ("/ready", {"status": "ready"}),
        ("/script/script-3", {"name": "script-3"}),
        (f"/task/{TASK}", {"uuid": TASK, "task_name": "fasta-stats"}),
        (f"/task/{TASK}/status", "job finished normally"),
        (f"/task/{TASK}/file", ["empty", "log.txt"]),
        (f"/task/{TASK.upper()}", {"uuid": TASK, "task_name": "fasta-stats"}),
    ],
)
async def test_get_with_and_without_slash(
    http_client: Client, base_url: str, path: str, expected: Any, slash: str
) -> None:
    response = await fetch(http_client, base_url + path + slash)
    assert response.code == 200
    assert json.loads(response.body) == expected
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.gen_test
async def test_index(http_client: Client, base_url: str) -> None:
    assert json.loads((await fetch(http_client, base_url + "/")).body) == {"name": "drmaaticd"}


@pytest.mark.gen_test
async def test_pages_and_links(http_client: Client, base_url: str) -> None:
    first = json.loads((await fetch(http_client, base_url + "/script?search=script&unknown=1")).body)
    assert first["count"] == 25
    assert len(first["results"]) == 10
    assert first["previous"] is None
    assert first["next"] == ("https://api.example.org/base/script/?search=script&page=2&page_size=10")
    last = json.loads((await fetch(http_client, base_url + "/script/?page=3")).body)
    assert len(last["results"]) == 5
    assert last["next"] is None
    assert last["previous"].endswith("?page=2&page_size=10")
    cut = json.loads((await fetch(http_client, base_url + "/script/?page_size=100000")).body)
    assert len(cut["results"]) == 25


@pytest.mark.gen_test
async def test_filters_of_scripts(http_client: Client, base_url: str) -> None:
    for query, count in (
        ("name=script-1", 1),
        ("name__in=script-1,script-2,nope", 2),
        ("search=script-1", 11),
    ):
        assert json.loads((await fetch(http_client, f"{base_url}/script?{query}")).body)["count"] == count


@pytest.mark.gen_test
async def test_filters_of_tasks_reach_the_service(
    http_client: Client, base_url: str, service: FakeService
) -> None:
    await fetch(http_client, base_url + "/task?state=done&state=failed&search=a%20b&x=1&task_name=n")
    assert service.filters == [{"state": "done,failed", "search": "a b", "task_name": "n"}]
    times = {
        name: f"2026-11-24T10:00:0{number}Z"
        for number, name in enumerate(("updated_since", "created_since", "created_before"))
    }
    await fetch(http_client, f"{base_url}/task?{urlencode(times)}")
    assert service.filters[1] == times


@pytest.mark.gen_test
async def test_an_empty_list_has_page_1_and_no_page_2(
    http_client: Client, base_url: str, service: FakeService
) -> None:
    service.all_tasks.clear()
    empty = json.loads((await fetch(http_client, base_url + "/task/")).body)
    assert empty == {"count": 0, "next": None, "previous": None, "results": []}
    problem(await fetch(http_client, base_url + "/task/?page=2"), 404)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "query",
    ["page=0", "page=x", "page=-1", "page=", "page=%D9%A3", "page_size=0", "page=1&page=2", "page=1e3",
     "page=99999999999999999999", "search=%ff", "search=a&search=b", "name=%c3"],
)  # fmt: skip
async def test_malformed_query(http_client: Client, base_url: str, query: str) -> None:
    document = problem(await fetch(http_client, f"{base_url}/script?{query}"), 400)
    assert [error["name"] for error in document["errors"]] == [query.partition("=")[0]]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["task/", "script"])
async def test_every_wrong_parameter_is_named_at_once(
    http_client: Client, base_url: str, path: str, service: FakeService
) -> None:
    query = "page=x&search=a&search=b&bogus=%ff&page_size=0"
    document = problem(await fetch(http_client, f"{base_url}/{path}?{query}"), 400)
    assert [error["name"] for error in document["errors"]] == ["page", "page_size", "search"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    ["/nothing", "//task", "/task/x", f"/task/{TASK[:-1]}", f"/task/{TASK}x", "/task/%ff", "/script/no",
     "/script/%ff", f"/task/{{{TASK}}}", f"/task/{TASK.replace('-', '')}", f"/task/{TASK}/nothing",
     f"/task/{TASK}/file/nope", "/task/%2e%2e", f"/task/{TASK}%0A"],
)  # fmt: skip
async def test_not_found(http_client: Client, base_url: str, path: str) -> None:
    problem(await fetch(http_client, base_url + path), 404)


@pytest.mark.gen_test
async def test_controls(http_client: Client, base_url: str) -> None:
    for action in ("stop", "hold", "release", "suspend"):
        response = await fetch(http_client, f"{base_url}/task/{TASK}/{action}", method="PUT")
        assert json.loads(response.body) == {"detail": f"{action} done"}
    problem(await fetch(http_client, f"{base_url}/task/{TASK}/resume/", method="PUT"), 409)
    assert (await fetch(http_client, f"{base_url}/task/{TASK}/stop", method="GET")).code == 405


@pytest.mark.gen_test
async def test_ownership(http_client: Client, base_url: str) -> None:
    url = f"{base_url}/task/{TASK}/get_ownership"
    response = await fetch(http_client, url, method="PUT")
    problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    response = await fetch(http_client, url, method="PUT", headers={"Authorization": TOKEN})
    assert response.code == 200


@pytest.mark.gen_test
async def test_delete(http_client: Client, base_url: str) -> None:
    response = await fetch(http_client, f"{base_url}/task/{TASK}/", method="DELETE")
    assert response.code == 204
    assert response.body == b""
    assert "Content-Type" not in response.headers
    problem(await fetch(http_client, f"{base_url}/task/{TASK}"), 404)


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/", "/health", "/script", "/task/", f"/task/{TASK}/file/log.txt"])
async def test_bad_token_is_401_everywhere(http_client: Client, base_url: str, path: str) -> None:
    response = await fetch(http_client, base_url + path, headers={"Authorization": "Bearer bad"})
    problem(response, 401)
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.gen_test
async def test_ready_tells_why_only_to_some(http_client: Client, base_url: str, service: FakeService) -> None:
    service.fault = "the DRM is away"
    document = problem(await fetch(http_client, base_url + "/ready"), 503)
    assert "detail" not in document
    response = await fetch(http_client, base_url + "/ready", headers={"Authorization": ADMIN})
    assert problem(response, 503)["detail"] == "the DRM is away"
    assert response.headers["Retry-After"]


@pytest.mark.gen_test
async def test_health_is_open_where_nothing_else_is(
    http_client: Client, base_url: str, service: FakeService
) -> None:
    service.anonymous = False
    assert (await fetch(http_client, base_url + "/health")).code == 200
    problem(await fetch(http_client, base_url + "/ready"), 401)


@pytest.mark.gen_test
async def test_request_id(http_client: Client, base_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/health", "/nothing"):
        given = await fetch(http_client, base_url + path, headers={"X-Request-ID": "abc.1-_Z"})
        assert given.headers["X-Request-ID"] == "abc.1-_Z"
        for insane in ("", "x" * 65, "a b", "ä"):
            made = await fetch(http_client, base_url + path, headers={"X-Request-ID": insane})
            assert made.headers["X-Request-ID"] not in ("", insane)
    assert any("abc.1-_Z" in record.getMessage() for record in caplog.records if "access" in record.name)


@pytest.mark.gen_test
@pytest.mark.logs("request rid-7: GET '/' failed")
async def test_a_bug_is_a_bare_500(
    http_client: Client, base_url: str, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.bug = RuntimeError("secret /internal/path")
    response = await fetch(http_client, base_url + "/", headers={"X-Request-ID": "rid-7"})
    document = problem(response, 500)
    assert "secret" not in response.body.decode()
    assert set(document) == {"type", "title", "status"}
    assert "secret" in caplog.text


@pytest.mark.gen_test
async def test_lone_surrogates_do_not_break_json(
    http_client: Client, base_url: str, service: FakeService
) -> None:
    service.contents = {b"bad\xff.txt": b""}
    response = await fetch(http_client, f"{base_url}/task/{TASK}/file/")
    assert json.loads(response.body) == ["bad�.txt"]
    details = await fetch(http_client, f"{base_url}/task/{TASK}/file/?details=1")
    assert json.loads(details.body) == [{"path": "bad�.txt"}]
    problem(await fetch(http_client, f"{base_url}/task/{TASK}/file/?details=maybe"), 400)


@pytest.mark.gen_test
async def test_etag_of_json(http_client: Client, base_url: str) -> None:
    first = await fetch(http_client, f"{base_url}/task/{TASK}")
    again = await fetch(
        http_client, f"{base_url}/task/{TASK}", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.code == 304


@pytest.mark.gen_test
async def test_client_address_behind_a_trusted_proxy(
    http_client: Client, base_url: str, service: FakeService
) -> None:
    await fetch(http_client, base_url + "/", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.7, 127.0.0.9"})
    assert service.callers[-1].address == "192.0.2.7"
