"""What is beside the API: the document, its page, the figures, and where `/` leads."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
import requests

from drmaaticd.web.accept import prefers
from drmaaticd.web.app import API_ROUTES
from drmaaticd.web.documents import KEPT
from tests.web.fakes import ADMIN, TOKEN, FakeService
from tests.web.running import Running

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("header", "html"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        (BROWSER, True),
        ("TEXT/HTML", True),
        ("text/*", True),
        ("text/html;q=0.5, application/json", False),
        ("text/html;level=1;q=0.9, application/json;q=0.8", True),
        ("text/html, application/json", False),
        ("application/*, text/html;q=0", False),
        ("text/html;q=nonsense", True),
        (";;,,", False),
    ],
)
def test_prefers(header: str | None, html: bool) -> None:
    assert prefers(header, "text/html", "application/json") is html


def test_a_browser_is_sent_on(running: Running) -> None:
    def ask(**headers: str) -> requests.Response:
        return requests.get(f"{running.url}/", headers=headers, timeout=20, allow_redirects=False)

    sent = ask(Accept=BROWSER)
    assert sent.status_code == 303
    assert sent.headers["Location"] == "https://api.example.org/base/ui/"
    assert sent.headers["Vary"] == "Accept, Authorization, Origin"
    running.service.anonymous = False
    assert ask(Accept=BROWSER).status_code == 303
    assert ask(Accept="application/json").status_code == 401
    assert ask(Accept=BROWSER, Authorization="Bearer bad").status_code == 401
    assert ask(Accept=BROWSER, Authorization=TOKEN).json()["name"] == "drmaaticd"


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_texts_are_made_once_for_the_same_scripts(running: Running, path: str) -> None:
    def ask(**headers: str) -> requests.Response:
        return requests.get(running.url + path, headers=headers, timeout=20)

    first = ask()
    assert ask(**{"If-None-Match": first.headers["ETag"]}).status_code == 304
    assert ask().content == first.content
    running.service.all_scripts = running.service.all_scripts[:3]
    running.service.version += 1
    assert ask().headers["ETag"] != first.headers["ETag"]
    for number in range(KEPT + 5):  # scripts of which each caller may run others
        running.service.all_scripts[-1] = {"name": f"own-{number}"}
        assert f"own-{number}" in ask().text
    running.service.anonymous = False
    assert ask().status_code == 200
    assert ask(Authorization="Bearer bad").status_code == 401


class Page(HTMLParser):
    """What matters of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.resources: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                (self.links if tag == "a" else self.resources).append(value or "")
            elif name == "src":
                self.resources.append(value or "")
            elif name.startswith("on") or name == "style":
                self.handlers.append(name)


def test_the_page_of_the_documentation(running: Running) -> None:
    running.service.all_scripts[0]["description"] = "<script>alert(1)</script> & `code`"
    answer = requests.get(f"{running.url}/docs", timeout=20)
    page = Page()
    page.feed(answer.text)
    assert page.tags["h1"] == page.tags["main"] == page.tags["nav"] == page.tags["header"] == 1
    assert page.tags["script"] == page.tags["iframe"] == page.tags["form"] == page.tags["img"] == 0
    assert page.handlers == []
    assert page.resources == ["data:,"]
    assert len(page.ids) == len(set(page.ids))
    inner = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inner) <= set(page.ids)
    assert len(inner) > len(API_ROUTES)
    assert [link for link in page.links if not link.startswith("#")] == [
        "https://api.example.org/base/openapi.json"
    ]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>code</code>" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy


def test_the_style_is_the_one_that_the_policy_allows(running: Running) -> None:
    answer = requests.get(f"{running.url}/docs", timeout=20)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["Content-Security-Policy"]


def test_figures(running: Running) -> None:
    def ask(**headers: str) -> requests.Response:
        return requests.get(f"{running.url}/metrics", headers=headers, timeout=20)

    assert ask().status_code == 401
    assert ask(Authorization=TOKEN).status_code == 403
    requests.get(f"{running.url}/script/script-1", timeout=20)
    requests.get(f"{running.url}/nothing", timeout=20)
    told = ask(Authorization=ADMIN)
    assert told.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = told.text.splitlines()
    assert 'drmaaticd_tasks{state="running"} 2.0' in lines
    assert "drmaaticd_uploads 3.0" in lines
    assert "drmaaticd_streams 4.0" in lines
    assert "drmaaticd_drm_up 1.0" in lines
    assert 'drmaaticd_http_requests_total{method="GET",route="/script/{}",status="200"} 1.0' in lines
    assert 'drmaaticd_http_requests_total{method="GET",route="none",status="404"} 1.0' in lines
    assert "_created" not in told.text
    running.service.fault = "away"
    assert "drmaaticd_drm_up 0.0" in ask(Authorization=ADMIN).text.splitlines()


def test_an_address_may_read_the_figures() -> None:
    service = FakeService()
    service.anonymous = False
    service.config.server.metrics_allow = ("127.0.0.0/8",)
    server = Running(service)
    try:
        assert requests.get(f"{server.url}/metrics", timeout=20).status_code == 200
        elsewhere = {"X-Forwarded-For": "192.0.2.7"}
        assert requests.get(f"{server.url}/metrics", headers=elsewhere, timeout=20).status_code == 401
        bad = {"Authorization": "Bearer bad"}
        assert requests.get(f"{server.url}/metrics", headers=bad, timeout=20).status_code == 401
    finally:
        server.stop()
