"""Where a sign-in may lead, and what of it a browser keeps."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.web.ui.flow import MOST, SECONDS, Flow, cookie_of, safe_next, to_forget

STATE = "PozOemF15IXuBv4Bk_Hs4nbGnauORR6eC5fiGWblScA"


def flow(state: str = STATE, started: int = 1000) -> Flow:
    return Flow("ORCID", state, "verifier", "nonce", "/ui/", started)


@pytest.mark.parametrize(
    "address",
    [
        "/ui/",
        "/ui/tasks?state=failed&page=2",
        "/ui/script/a%20b?k=7",
        "/ui/task/0#log",
        "/ui/?a=//b",
        "/ui/signed-in",
    ],
)
def test_pages_of_ours(address: str) -> None:
    assert safe_next(address, "") == address
    assert safe_next(f"/drm{address}", "/drm") == f"/drm{address}"


@pytest.mark.parametrize(
    "address",
    [
        *(None, "", "/", "ui/", "/task/", "/ui", "/uix/", "/drm/ui/"),
        *("https://evil.example/ui/", "//evil.example/ui/", r"/\evil.example/ui/"),
        *("javascript:alert(1)//ui/", "/ui/../task/1", "/ui/%2e%2e/task", "/ui/./x", "/ui/%2E/x"),
        *("/ui//evil.example", r"/ui/\evil.example", "/ui/%5c%5cevil.example", "/ui/a b", "/ui/\tx"),
        *("/ui/\r\nSet-Cookie: a=b", "/ui/é", "/ui/" + "x" * 2000),
        *("/ui/sign-in", "/ui/sign-out", "/ui/sign-in/ORCID/back?code=1", "/ui/api/me"),
    ],
)  # fmt: skip
def test_everything_else_leads_to_the_first_page(address: str | None) -> None:
    assert safe_next(address, "") == "/ui/"


@given(st.text())
def test_whatever_is_asked_stays_here(text: str) -> None:
    for address in (text, f"/ui/{text}"):
        assert re.fullmatch(r"/ui/([!-\[\]-~]*)", safe_next(address, ""))


def test_a_sign_in_survives_its_cookie() -> None:
    assert Flow.parse(flow().text()) == flow()
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", flow().text())
    assert re.fullmatch(r"[A-Za-z0-9_-]+", flow().cookie)


@given(st.text() | st.builds(lambda data: base64.urlsafe_b64encode(data).decode(), st.binary()))
def test_what_is_no_cookie_of_ours_is_none(text: str) -> None:
    assert Flow.parse(text) is None


@pytest.mark.parametrize(
    "value", [1, [], {}, {"provider": "A"}, {**json.loads(base64.b64decode(flow().text())), "started": "1"}]
)
def test_nor_is_other_json(value: object) -> None:
    assert Flow.parse(base64.urlsafe_b64encode(json.dumps(value).encode()).decode()) is None


def test_an_answer_fits_one_sign_in_for_a_while() -> None:
    assert flow().fits("ORCID", STATE, 1000)
    assert flow().fits("ORCID", STATE, 999 + SECONDS)
    assert not flow().fits("ORCID", STATE, 1000 + SECONDS)
    assert not flow().fits("Site", STATE, 1000)
    assert not flow().fits("ORCID", STATE + "x", 1000)
    assert not flow().fits("ORCID", "é", 1000)


@pytest.mark.parametrize("state", ["", "short", "a b" * 20, "é" * 30, "x" * 200])
def test_no_cookie_is_named_after_what_cannot_be_a_state(state: str) -> None:
    assert cookie_of(state) == "drmaaticd_flow_"


def test_the_oldest_sign_ins_are_forgotten() -> None:
    cookies = [(f"drmaaticd_flow_{number}", flow(started=1000 + number).text()) for number in range(MOST)]
    assert to_forget(cookies[1:]) == []
    assert to_forget([*cookies, ("drmaaticd_session", "issued.x")]) == [cookies[0][0]]
    assert to_forget([*cookies, ("drmaaticd_flow_broken", "x")]) == ["drmaaticd_flow_broken", cookies[0][0]]
