"""The exchange of a provider's token, against a real provider on loopback with all its faults."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drmaaticd.auth import providers
from drmaaticd.auth.accounts import Accounts
from drmaaticd.errors import DrmaaticdError
from drmaaticd.settings import ORCID_PATTERN, Auth
from drmaaticd.settings import Provider as Settings
from tests.accounts import Office, office
from tests.provider import CLIENT, FAULTS, SECRET, Provider

CARBERRY = "0000-0002-1825-0097"
OTHER = "0000-0001-5109-3700"
ADDRESS = "192.0.2.1"


@pytest.fixture(scope="module")
def one_provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def provider(one_provider: Provider) -> Iterator[Provider]:
    one_provider.people = {
        "carberry": {"sub": CARBERRY, "name": "Josiah Carberry"},
        "other": {"sub": OTHER},
    }
    one_provider.clients = {"other": "APP-THEIRS"}
    one_provider.asked.clear()
    one_provider.kid = "first"
    yield one_provider
    one_provider.fault = ""


def settings(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "name": "ORCID",
        "userinfo_url": f"{provider.url}/userinfo",
        "pattern": ORCID_PATTERN,
    } | more


def in_office(
    tmp_path: Path, asked: list[dict[str, Any]], visit: Callable[[Office], Awaitable[None]], **more: Any
) -> None:
    async def main() -> None:
        async with office(tmp_path, providers=asked, token_rate=1000.0, **more) as place:
            await visit(place)

    asyncio.run(main())


async def exchange(accounts: Accounts, token: str, name: str = CARBERRY, scheme: str = "Bearer") -> Any:
    """The answer, or the status and text of the refusal."""
    try:
        return await accounts.exchange(f"{scheme} {token}".strip() or None, name, ADDRESS)
    except DrmaaticdError as error:
        return error.status, error.detail


def test_an_exchange(tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def visit(place: Office) -> None:
        answer = await exchange(place.accounts, "carberry")
        assert answer.pop("access_token").count(".") == 2
        assert answer == {
            "user_source": "ORCID",
            "user_name": CARBERRY,
            "token_type": "Bearer",
            "expires_in": 432_000,
        }
        (user,) = place.accounts.list_users()
        assert (user["user"], user["name"], user["group"]) == (
            f"ORCID:{CARBERRY}",
            "Josiah Carberry",
            "registered",
        )
        again = await exchange(place.accounts, "carberry", scheme="bEARER")
        caller = place.caller(again["access_token"])
        assert place.accounts.me(caller)["name"] == "Josiah Carberry"
        assert len(place.accounts.list_users()) == 1
        assert len(place.accounts.list_tokens()) == 2

    in_office(tmp_path, [settings(provider)], visit)
    assert "carberry" not in caplog.text
    assert all(b'"carberry"' not in file.read_bytes() for file in (tmp_path / "state").iterdir())


def test_refusals(tmp_path: Path, provider: Provider) -> None:
    async def visit(place: Office) -> None:
        accounts = place.accounts

        async def status(token: str, name: str = CARBERRY, scheme: str = "Bearer") -> int:
            return int((await exchange(accounts, token, name, scheme))[0])

        assert await status("unknown") == 401
        assert await status("other") == 403  # another person's
        assert await status("carberry", OTHER) == 403
        assert provider.asked == ["/userinfo"] * 3
        for token, scheme in (("", ""), ("carberry", "Basic"), ("", "Bearer"), ("a b", "Bearer")):
            assert await status(token, scheme=scheme) == 401
        assert await status("a\r\nX: y") == 401
        assert await status("x" * 9000) == 401
        for name in (
            "0000-0002-1825-0098",
            "somebody",
            "",
            CARBERRY + "\n",
            CARBERRY.lower() + " ",
            "é" * 500,
        ):
            assert await status("carberry", name) == 400
        assert provider.asked == ["/userinfo"] * 3  # none of these was worth a question
        assert accounts.list_users() == []
        assert accounts.list_tokens() == []
        provider.people["bytes"] = {"sub": CARBERRY.encode().hex()}
        provider.people["number"] = {"sub": 7}
        provider.people["list"] = {"sub": [CARBERRY]}
        provider.people["empty"] = {"sub": ""}
        provider.people["surrogate"] = {"sub": "\ud800"}
        assert [await status(token) for token in ("bytes", "number", "list", "empty", "surrogate")] == [
            403,
            502,
            502,
            502,
            403,
        ]
        await accounts.set_user(CARBERRY, disabled=True, by="test")
        assert await status("carberry") == 403
        assert accounts.list_tokens() == []

    in_office(tmp_path, [settings(provider)], visit)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, provider: Provider, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault in ("never ends", "slow"):
        # What these take; a machine under load must have sent the request by then.
        monkeypatch.setattr(providers, "REQUEST_SECONDS", 2.0)

    async def visit(place: Office) -> None:
        provider.fault = fault
        status, detail = await exchange(place.accounts, "carberry")
        assert status == 502
        assert detail.startswith("ORCID ")
        assert "127.0.0.1" not in detail
        assert provider.asked == ["/userinfo"]  # not elsewhere, however it was redirected
        assert place.accounts.list_users() == []
        provider.fault = ""
        monkeypatch.undo()
        assert (await exchange(place.accounts, "carberry"))["user_name"] == CARBERRY

    in_office(tmp_path, [settings(provider)], visit)


def test_a_slow_provider_holds_up_nobody_else(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "REQUEST_SECONDS", 0.5)

    async def visit(place: Office) -> None:
        provider.fault = "slow"
        waiting = asyncio.create_task(exchange(place.accounts, "carberry"))
        turns = 0
        while not waiting.done():
            place.accounts.authenticate(None, str(turns))
            turns += 1
            await asyncio.sleep(0.001)
        assert (await waiting)[0] == 502
        assert turns > 20

    in_office(tmp_path, [settings(provider)], visit)


def test_connection_refused_and_no_tls(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    asked = [
        settings(provider, name="gone", userinfo_url=f"http://127.0.0.1:{port}/userinfo", pattern="a"),
        settings(
            provider, name="plain", userinfo_url=provider.url.replace("http", "https", 1) + "/u", pattern="b"
        ),
    ]

    async def visit(place: Office) -> None:
        assert await exchange(place.accounts, "x", "a") == (502, "gone cannot be reached.")
        assert await exchange(place.accounts, "x", "b") == (502, "plain cannot be reached.")

    in_office(tmp_path, asked, visit)


def test_the_first_provider_whose_pattern_fits_answers(tmp_path: Path, provider: Provider) -> None:
    provider.people["employee"] = {"sub": "f3a1", "preferred_username": "jc"}
    provider.people["successor"] = {"sub": "9b77", "preferred_username": "jc"}
    provider.people["renamed"] = {"sub": "9b77", "preferred_username": "0000-0002-1825-0097x"}
    asked = [
        settings(provider),
        settings(provider, name="Site", pattern=None, user_name_claim="preferred_username"),
    ]

    async def visit(place: Office) -> None:
        assert (await exchange(place.accounts, "carberry"))["user_source"] == "ORCID"
        assert (await exchange(place.accounts, "employee", "jc"))["user_source"] == "Site"
        assert await exchange(place.accounts, "employee", "f3a1") == (
            403,
            "The token belongs to somebody else.",
        )
        # A name that has changed hands does not bring its former holder's tasks along.
        status, detail = await exchange(place.accounts, "successor", "jc")
        assert (status, "another account" in detail) == (403, True)
        assert (await exchange(place.accounts, "employee", "jc"))["user_name"] == "jc"
        assert [user["user"] for user in place.accounts.list_users()] == [f"ORCID:{CARBERRY}", "Site:jc"]

    in_office(tmp_path, asked, visit)


def id_tokens(provider: Provider) -> dict[str, Any]:
    return settings(provider, client_ids=[CLIENT], issuer=provider.url, jwks_url=f"{provider.url}/jwks")


def test_id_tokens(tmp_path: Path, provider: Provider) -> None:
    now = int(time.time())
    make = provider.id_token
    hmac_key = "the public key, taken for a shared secret " * 2
    good = {
        "plain": make(),
        "several audiences": make(aud=["x", CLIENT], azp=CLIENT),
        "another curve": make(key=provider.ec_key, algorithm="ES256", kid="curve"),
        "just expired": make(exp=now - 20),
    }
    bad = {
        "another client": make(aud="APP-THEIRS"),
        "issued to another": make(aud=["APP-THEIRS", CLIENT], azp="APP-THEIRS"),
        "expired": make(exp=now - 120),
        "another issuer": make(iss="https://evil.example.org"),
        "another key": make(key=provider.other_key),
        "unknown kid": make(kid="unknown"),
        "shared secret": make(key=hmac_key, algorithm="HS256"),
        "kid of a shared secret": make(key=hmac_key, algorithm="HS256", kid="shared"),
        "no signature": make(key="", algorithm="none"),
        "no exp": make(exp=None),
        "no sub": make(sub=None),
        "no aud": make(aud=None),
        "an access token": "carberry",
        "nonsense": "a.b.c",
        "cut": make()[:-6],
    }

    async def visit(place: Office) -> None:
        for what, token in good.items():
            assert (await exchange(place.accounts, token))["user_name"] == CARBERRY, what
        assert provider.asked == ["/jwks"]  # kept
        for what, token in bad.items():
            status, _ = await exchange(place.accounts, token)
            assert status == 401, what
        assert (await exchange(place.accounts, make(sub=OTHER)))[0] == 403
        assert "/userinfo" not in provider.asked

    in_office(tmp_path, [id_tokens(provider)], visit)


def test_a_providers_new_key_is_found_but_not_asked_for_each_time(tmp_path: Path, provider: Provider) -> None:
    async def visit(place: Office) -> None:
        await exchange(place.accounts, provider.id_token())
        provider.kid = "second"
        token = provider.id_token()
        assert (await exchange(place.accounts, token))[0] == 401  # asked only just now
        place.clock.at += providers.KEYS_PAUSE + 1
        assert (await exchange(place.accounts, token))["user_name"] == CARBERRY
        assert provider.asked == ["/jwks"] * 2
        for number in range(5):
            assert (await exchange(place.accounts, provider.id_token(kid=str(number))))[0] == 401
        assert provider.asked == ["/jwks"] * 2
        provider.fault = "no object"
        place.clock.at += providers.KEYS_SECONDS + 1
        assert await exchange(place.accounts, token) == (502, "ORCID answered nonsense.")

    in_office(tmp_path, [id_tokens(provider)], visit)


def introspection(provider: Provider, tmp_path: Path, **more: Any) -> dict[str, Any]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    return settings(
        provider,
        client_ids=[CLIENT],
        introspection_url=f"{provider.url}/introspect",
        introspection_client_id=CLIENT,
        introspection_secret_file=secret,
        **more,
    )


def test_introspection(tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def visit(place: Office) -> None:
        assert (await exchange(place.accounts, "carberry"))["user_name"] == CARBERRY
        assert provider.asked == ["/introspect", "/userinfo"]
        # Token substitution: a token of the right person, that another site was given.
        assert await exchange(place.accounts, "other", OTHER) == (
            401,
            "The token was issued to another client.",
        )
        assert (await exchange(place.accounts, "unknown"))[0] == 401
        assert provider.asked == ["/introspect", "/userinfo", "/introspect", "/introspect"]
        provider.fault = "500"
        assert await exchange(place.accounts, "carberry") == (502, "ORCID answered with status 500.")

    in_office(tmp_path, [introspection(provider, tmp_path)], visit)
    assert SECRET not in caplog.text


def test_id_tokens_and_introspection_together(tmp_path: Path, provider: Provider) -> None:
    both = introspection(provider, tmp_path, issuer=provider.url, jwks_url=f"{provider.url}/jwks")
    access = provider.id_token(aud="account")  # an access token that looks like an ID token
    provider.people[access] = {"sub": CARBERRY}

    async def visit(place: Office) -> None:
        for token in (provider.id_token(), access, "carberry"):
            assert (await exchange(place.accounts, token))["user_name"] == CARBERRY
        assert (await exchange(place.accounts, provider.id_token(aud="APP-THEIRS")))[0] == 401

    in_office(tmp_path, [both], visit)


@pytest.mark.logs("the secret for ORCID cannot be read")
def test_a_secret_that_is_gone(tmp_path: Path, provider: Provider) -> None:
    asked = introspection(provider, tmp_path)
    (tmp_path / "secret").unlink()

    async def visit(place: Office) -> None:
        assert await exchange(place.accounts, "carberry") == (502, "ORCID cannot be asked.")

    in_office(tmp_path, [asked], visit)


def test_plain_http_is_for_loopback_alone(provider: Provider) -> None:
    for key in ("userinfo_url", "jwks_url", "introspection_url"):
        with pytest.raises(ValidationError, match="must be an https URL"):
            Settings(**settings(provider) | {"issuer": "https://x.example", key: "http://x.example/"})
    with pytest.raises(ValidationError) as refused:
        Auth(providers=(Settings(**settings(provider, name="Internal")),))
    ((_, message),) = refused.value.errors()[0]["ctx"]["problems"]
    assert "service accounts" in message
