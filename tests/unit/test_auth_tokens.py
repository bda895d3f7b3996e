"""The daemon's own tokens and the key that signs them: what counts, what does not, and until when."""

from __future__ import annotations

import asyncio
import base64
import errno
import hmac
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from drmaaticd.auth.keys import FILE, KeyRing
from drmaaticd.errors import Forbidden, InvalidInput, NotAuthenticated, NotFound, StorageFull, StoreError
from tests.accounts import START, Clock, Office, office

DAY = 86_400


def in_office(tmp_path: Path, visit: Callable[[Office], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with office(tmp_path, **options) as place:
            await visit(place)

    asyncio.run(main())


async def issue(place: Office, name: str = "portal", **options: Any) -> dict[str, Any]:
    return await place.accounts.issue_token(name, **({"group": "registered", "by": "test"} | options))


def parts(token: str) -> list[Any]:
    head, body, _ = token.split(".")
    return [json.loads(base64.urlsafe_b64decode(f"{text}==")) for text in (head, body)]


def test_what_a_token_is(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        told = await issue(place, lifetime=DAY)
        head, body = parts(told["access_token"])
        assert head == {"alg": "HS256", "typ": "JWT", "kid": place.keys.current.kid}
        assert body == {
            "iss": "drmaaticd",
            "sub": "internal:portal",
            "aud": place.keys.instance,
            "iat": START,
            "exp": START + DAY,
            "jti": told["jti"],
        }
        assert told["expires_in"] == DAY
        caller = place.caller(told["access_token"])
        assert (caller.user, caller.group, caller.is_admin) == ("internal:portal", "registered", False)
        assert place.accounts.me(caller) == {
            "user_source": "internal",
            "user_name": "portal",
            "group": "registered",
            "is_admin": False,
            "expires": "2027-01-16T08:00:00.000Z",
        }

    in_office(tmp_path, visit)


def empty_hmac(head: object, body: object) -> str:
    """The signature by a key of no bytes."""
    digest = hmac.digest(b"", f"{encoded(head)}.{encoded(body)}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


async def attacks(place: Office) -> dict[str, str]:
    """What may be tried with a good token at hand, and with other keys."""
    good = (await issue(place))["access_token"]
    head, body = parts(good)
    key = place.keys.current

    def signed(secret: bytes = key.secret, algorithm: str = "HS256", **changed: Any) -> str:
        claims = {name: value for name, value in (body | changed).items() if value is not None}
        return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": key.kid})

    signature = good.rpartition(".")[2]
    return {
        "alg none": f"{encoded(head | {'alg': 'none'})}.{encoded(body)}.",
        "alg None": f"{encoded(head | {'alg': 'None'})}.{encoded(body)}.{signature}",
        "no signature": good.rpartition(".")[0] + ".",
        "another algorithm": signed(secret=key.secret * 2, algorithm="HS512"),
        "wrong key": signed(secret=b"x" * 32),
        "reversed signature": f"{encoded(head)}.{encoded(body)}.{signature[::-1]}",
        "signed with nothing": f"{encoded(head)}.{encoded(body)}.{empty_hmac(head, body)}",
        "unknown kid": jwt.encode(body, key.secret, algorithm="HS256", headers={"kid": "other"}),
        "kid is a path": jwt.encode(body, key.secret, algorithm="HS256", headers={"kid": "../../dev/null"}),
        "no kid": jwt.encode(body, key.secret, algorithm="HS256"),
        "another user": f"{encoded(head)}.{encoded(body | {'sub': 'ORCID:admin'})}.{signature}",
        "another user, signed": signed(sub="internal:other"),
        "longer life": f"{encoded(head)}.{encoded(body | {'exp': body['exp'] + DAY})}.{signature}",
        "expired": signed(exp=int(START) - 1),
        "wrong audience": signed(aud="another installation"),
        "no audience": signed(aud=None),
        "wrong issuer": signed(iss="somebody"),
        "no exp": signed(exp=None),
        "no jti": signed(jti=None),
        "unknown jti": signed(jti="never issued"),
        "jti of another kind": signed(jti=7),
        "critical header": jwt.encode(
            body, key.secret, algorithm="HS256", headers={"kid": key.kid, "crit": ["x"], "x": 1}
        ),
        "own key in the header": jwt.encode(
            body, b"y" * 32, algorithm="HS256", headers={"kid": key.kid, "jwk": {"kty": "oct", "k": "eXl5"}}
        ),
        "tampered": good[:-2] + ("AA" if not good.endswith("AA") else "BB"),
        "cut": good[:-10],
        "no token": "x",
        "two dots": "..",
        "very long": "a" * 100_000,
        "no ASCII": "ä.ö.ü",
        "deep": f"{encoded(head)}.{base64.urlsafe_b64encode(b'[' * 2000).decode()}.{signature}",
        "empty": "",
    }


def test_attacks(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        for what, token in (await attacks(place)).items():
            with pytest.raises(NotAuthenticated) as refused:
                place.caller(token, address=what)  # an address each: tries are counted
            assert refused.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"', what

    in_office(tmp_path, visit)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic eDp5", "Token x", "Bearer a b", "bearer\t"]
)
def test_headers_that_are_none(tmp_path: Path, header: str) -> None:
    async def visit(place: Office) -> None:
        with pytest.raises(NotAuthenticated):
            place.accounts.authenticate(header, "192.0.2.1")

    in_office(tmp_path, visit)


def test_no_id_looks_like_an_option(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        ids = [(await issue(place))["jti"] for _ in range(100)]
        assert all(re.fullmatch(r"[0-9a-f]{32}", jti) for jti in ids)

    in_office(tmp_path, visit)


def test_it_expires_to_the_second_though_it_is_remembered(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        token = (await issue(place, lifetime=100))["access_token"]
        place.clock.at = START + 99.9
        assert place.caller(token).user == "internal:portal"
        place.clock.at = START + 100
        with pytest.raises(NotAuthenticated):
            place.caller(token)

    in_office(tmp_path, visit)


def test_a_revocation_holds_at_once_and_after_a_restart_and_is_forgotten_in_time(tmp_path: Path) -> None:
    clock = Clock()
    told: list[dict[str, Any]] = []

    async def revoke(place: Office) -> None:
        told.extend([await issue(place, lifetime=DAY), await issue(place, lifetime=2 * DAY)])
        caller = place.caller(told[0]["access_token"])
        await place.accounts.sign_out(caller)
        with pytest.raises(NotAuthenticated):
            place.caller(told[0]["access_token"])

    async def after(place: Office) -> None:
        with pytest.raises(NotAuthenticated):
            place.caller(told[0]["access_token"])
        assert place.caller(told[1]["access_token"]).token == told[1]["jti"]
        assert [one["jti"] for one in place.accounts.list_tokens() if "revoked" in one] == [told[0]["jti"]]
        clock.at += DAY
        await place.accounts.prune()
        assert [one["jti"] for one in place.accounts.list_tokens()] == [told[1]["jti"]]
        assert len(place.store.side("tokens")) == 1

    in_office(tmp_path, revoke, clock=clock)
    in_office(tmp_path, after, clock=clock)


def test_the_store_and_the_log_hold_no_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    told: list[str] = []

    async def visit(place: Office) -> None:
        told.append((await issue(place))["access_token"])
        place.caller(told[0])
        for text in (told[0][:-3], "Basic nonsense"):
            with pytest.raises(NotAuthenticated):
                place.caller(text)

    in_office(tmp_path, visit)
    secret = told[0].rpartition(".")[2]
    for file in (tmp_path / "state").iterdir():
        assert secret.encode() not in file.read_bytes(), file
    assert secret[:20] not in caplog.text
    assert "token.issued user=internal:portal" in caplog.text


def test_the_key_file(tmp_path: Path) -> None:
    first = KeyRing.open(tmp_path, START)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = KeyRing.open(tmp_path, START)
    assert again.current == first.current
    assert again.instance == first.instance
    assert len(first.current.secret) == 32
    assert first.current.secret.hex() not in repr(first.current)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.logs("token.key was open to other accounts")
def test_a_key_file_that_was_open_is_closed_and_told_of(tmp_path: Path) -> None:
    KeyRing.open(tmp_path, START)
    (tmp_path / FILE).chmod(0o644)
    KeyRing.open(tmp_path, START)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"instance": "x", "keys": []}', '{"instance": 1, "keys": [{}]}']
)
def test_a_damaged_key_file_ends_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / FILE
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(StoreError, match="is damaged"):
        KeyRing.open(tmp_path, START)
    assert file.read_text() == text


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    KeyRing.open(tmp_path, START)
    file = tmp_path / FILE
    document = json.loads(file.read_text())
    document["keys"][0]["secret"] = base64.b64encode(b"short").decode()
    file.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="is damaged"):
        KeyRing.open(tmp_path, START)


def test_a_link_in_place_of_the_key_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be read"):
        KeyRing.open(tmp_path, START)


def test_rotation_lets_tokens_live_their_time(tmp_path: Path) -> None:
    clock = Clock()
    told: list[str] = []

    async def rotate(place: Office) -> None:
        told.append((await issue(place, lifetime=DAY))["access_token"])
        before = place.keys.current.kid
        answer = await place.accounts.rotate_key(by="test")
        assert answer == {
            "kid": place.keys.current.kid,
            "keys": 2,
            "overlap_until": "2027-01-16T08:00:00.000Z",
        }
        assert place.keys.current.kid != before
        told.append((await issue(place, lifetime=3 * DAY))["access_token"])
        assert {parts(token)[0]["kid"] for token in told} == {before, place.keys.current.kid}
        for token in told:
            place.caller(token)

    async def after(place: Office) -> None:
        for token in told:
            place.caller(token)
        clock.at += DAY
        with pytest.raises(NotAuthenticated):
            place.caller(told[0])
        place.caller(told[1])
        assert (await place.accounts.rotate_key(by="test"))["keys"] == 2  # the first one is gone

    in_office(tmp_path, rotate, clock=clock)
    in_office(tmp_path, after, clock=clock)


def test_rotation_without_overlap_ends_all_at_once(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        token = (await issue(place))["access_token"]
        place.caller(token)
        assert await place.accounts.rotate_key(overlap=0, by="test") == {
            "kid": place.keys.current.kid,
            "keys": 1,
        }
        with pytest.raises(NotAuthenticated):
            place.caller(token)
        with pytest.raises(InvalidInput):
            await place.accounts.rotate_key(overlap=-1, by="test")

    in_office(tmp_path, visit)


def test_service_accounts(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        accounts = place.accounts
        with pytest.raises(InvalidInput, match="needs a group"):
            await accounts.issue_token("portal", by="test")
        with pytest.raises(InvalidInput, match="anonymous"):
            await accounts.issue_token("portal", group="anonymous", by="test")
        for lifetime in (0, 59, 1e12, float("nan")):
            with pytest.raises(InvalidInput, match="lifetime"):
                await accounts.issue_token("portal", group="staff", lifetime=lifetime, by="test")
        for name in ("", "a:b", "a\nb", "x" * 201):
            with pytest.raises(InvalidInput, match="name"):
                await accounts.issue_token(name, group="staff", by="test")
        assert accounts.list_users() == []
        told = await accounts.issue_token("portal", group="staff", by="test")
        assert place.caller(told["access_token"]).is_admin
        again = await accounts.issue_token("internal:portal", by="test")  # keeps its group
        assert place.caller(again["access_token"]).group == "staff"
        await accounts.set_user("portal", group="registered", by="test")
        assert not place.caller(told["access_token"]).is_admin
        await accounts.set_user("internal:portal", disabled=True, by="test")
        for token in (told, again):
            with pytest.raises(Forbidden):
                place.caller(token["access_token"])
        with pytest.raises(Forbidden):
            await accounts.issue_token("portal", by="test")
        await accounts.set_user("portal", disabled=False, by="test")
        place.caller(told["access_token"])
        assert await accounts.revoke_token(user="portal", by="test") == 2
        assert await accounts.revoke_token(user="portal", by="test") == 0
        with pytest.raises(NotFound):
            await accounts.revoke_token(jti=told["jti"], by="test")
        for arguments in ({}, {"jti": "a", "user": "b"}):
            with pytest.raises(InvalidInput):
                await accounts.revoke_token(**arguments, by="test")

    in_office(tmp_path, visit)


def test_users_who_have_not_come_yet(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        accounts = place.accounts
        made = await accounts.set_user("0000-0002-1825-0097", group="staff", by="test")
        assert (made["user"], made["group"], made["disabled"]) == (
            "ORCID:0000-0002-1825-0097",
            "staff",
            False,
        )
        assert accounts.show_user("0000-0002-1825-0097")["available_cpu_credit"] == 200
        for name in ("0000-0002-1825-0098", "ORCID:0000-0002-1825-0098", "somebody", "", "ORCID:"):
            with pytest.raises(InvalidInput):
                await accounts.set_user(name, by="test")
        with pytest.raises(InvalidInput, match="there are: registered, staff"):
            await accounts.set_user("0000-0002-1825-0097", group="nobody", by="test")
        with pytest.raises(NotFound):
            accounts.show_user("0000-0001-5109-3700")
        assert [user["user"] for user in accounts.list_users()] == ["ORCID:0000-0002-1825-0097"]

    in_office(tmp_path, visit)


def test_a_group_that_is_configured_no_more_gives_nothing(tmp_path: Path) -> None:
    told: list[str] = []

    async def before(place: Office) -> None:
        told.append((await issue(place, group="staff"))["access_token"])

    async def after(place: Office) -> None:
        caller = place.caller(told[0])
        assert (caller.group, caller.is_admin) == ("registered", False)

    in_office(tmp_path, before)

    async def main() -> None:
        async with office(tmp_path) as place:
            del place.accounts._config.groups["staff"]
            await after(place)

    asyncio.run(main())


@pytest.mark.logs("disk is full")
def test_a_full_disk_issues_nothing_and_shuts_out_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(fd: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    told: list[str] = []

    async def visit(place: Office) -> None:
        accounts = place.accounts
        tokens = [(await issue(place, name))["access_token"] for name in ("first", "second", "third")]
        caller = place.caller(tokens[0])
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", pwrite)
            with pytest.raises(StorageFull):
                await issue(place, "fourth")
            assert len(accounts.list_users()) == len(accounts.list_tokens()) == 3
            with pytest.raises(StorageFull):
                await accounts.sign_out(caller)
            with pytest.raises(StorageFull):
                await accounts.set_user("second", disabled=True, by="test")
            check(place, tokens)
        await place.store.durable()
        told.extend(tokens)

    async def after(place: Office) -> None:
        check(place, told)

    def check(place: Office, tokens: list[str]) -> None:
        with pytest.raises(NotAuthenticated):
            place.caller(tokens[0])
        with pytest.raises(Forbidden):
            place.caller(tokens[1])
        place.caller(tokens[2])

    in_office(tmp_path, visit)
    in_office(tmp_path, after)


def test_a_token_issued_while_the_key_changes_lives_its_time(tmp_path: Path) -> None:
    async def visit(place: Office) -> None:
        *told, _ = await asyncio.gather(
            *(issue(place, lifetime=DAY + number) for number in range(5)),
            place.accounts.rotate_key(by="test"),
        )
        *more, _, _ = await asyncio.gather(
            *(issue(place, lifetime=2 * DAY) for _ in range(5)),
            place.accounts.rotate_key(by="test"),
            place.accounts.rotate_key(by="test"),
        )
        place.clock.at += DAY - 1
        for one in (*told, *more):
            assert place.caller(one["access_token"]).token == one["jti"]
        place.clock.at += DAY
        for one in more:
            assert place.caller(one["access_token"]).token == one["jti"]

    in_office(tmp_path, visit)
