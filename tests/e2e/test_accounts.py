"""Accounts on a real daemon: exchange, limits, credit, proxies and the audit trail, by HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from drmaaticd.auth.keys import KeyRing
from drmaaticd.config import load
from drmaaticd.daemon import Daemon as InProcess
from drmaaticd.drm.base import Refused
from drmaaticd.drm.memory import MemoryEngine
from drmaaticd.notify import Notifier
from drmaaticd.settings import ORCID_PATTERN, Group
from drmaaticd.store import Store
from tests.accounts import Clock, office
from tests.e2e.daemon import PATIENCE, Daemon, daemon, wait_until
from tests.provider import Provider

CARBERRY = "0000-0002-1825-0097"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as made:
        made.people = {"the provider's": {"sub": CARBERRY, "name": "Josiah Carberry"}}
        made.people["theirs"] = made.people["the provider's"]
        yield made


def auth(provider: Provider, **more: Any) -> dict[str, Any]:
    orcid = {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}
    return {"providers": [orcid], "token_rate": 1000, **more}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def sign_in(service: Daemon, name: str = CARBERRY) -> dict[str, str]:
    answer = requests.get(f"{service.url}/token/{name}", headers=bearer("theirs"), timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return bearer(answer.json()["access_token"])


def get(service: Daemon, path: str, headers: dict[str, str] | None = None) -> requests.Response:
    return requests.get(service.url + path, headers=headers, timeout=PATIENCE)


def post(service: Daemon, headers: dict[str, str] | None = None, **fields: str) -> requests.Response:
    data = {"task_name": "work"} | fields
    return requests.post(f"{service.url}/task/", data=data, headers=headers, timeout=PATIENCE)


def credit(service: Daemon, headers: dict[str, str] | None = None) -> int:
    return int(get(service, "/cpu-credit/", headers).json()["available_cpu_credit"])


def service_token(folder: Path, group: str, settings: dict[str, Any]) -> dict[str, str]:
    """A token of a service account in a group, made before the daemon starts."""

    async def main() -> str:
        groups = {name: Group(**table) for name, table in settings.items()}
        async with office(folder, clock=Clock(time.time()), groups=groups) as place:
            told = await place.accounts.issue_token("portal", group=group, by="test")
            return str(told["access_token"])

    return bearer(asyncio.run(main()))


# -- tokens ----------------------------------------------------------------------------------------


def test_from_sign_in_to_sign_out(tmp_path: Path, provider: Provider) -> None:
    with daemon(tmp_path, scripts={"work": "true"}, auth=auth(provider)) as service:
        headers = sign_in(service)
        me = get(service, "/me", headers).json()
        expires = me.pop("expires")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", expires)
        assert me == {
            "user_source": "ORCID",
            "user_name": CARBERRY,
            "name": "Josiah Carberry",
            "group": "registered",
            "is_admin": False,
        }
        assert get(service, "/me").json() == {"group": "anonymous", "is_admin": False}
        uuid = post(service, headers).json()["uuid"]
        service.kill()
        service.start()  # the key and the token outlive the daemon
        assert get(service, f"/task/{uuid}", headers).json()["is_mine"] is True
        second = sign_in(service)
        assert requests.delete(f"{service.url}/token", headers=headers, timeout=PATIENCE).status_code == 204
        service.kill()
        service.start()  # and so does a revocation, whatever ended the daemon
        refused = get(service, f"/task/{uuid}", headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert get(service, f"/task/{uuid}", second).json()["is_mine"] is True
        mode = (tmp_path / "state" / "token.key").stat().st_mode & 0o777
        assert mode == 0o600
        told = "".join(service.log) + "".join(
            file.read_bytes().decode("utf-8", "replace")
            for file in (tmp_path / "state").rglob("*")
            if file.is_file()
        )
        for token in (headers, second):
            assert token["Authorization"].rpartition(".")[2] not in told
        assert "theirs" not in told


def test_attacks_by_http(tmp_path: Path, provider: Provider) -> None:
    with daemon(tmp_path, scripts={"work": "true"}, auth=auth(provider)) as service:
        good = sign_in(service)["Authorization"].removeprefix("Bearer ")
        head, body, signature = good.split(".")
        none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
        tries = {
            "alg none": f"Bearer {none}.{body}.",
            "tampered": f"Bearer {head}.{body[:-4]}AAAA.{signature}",
            "twice": f"Bearer {good}, Bearer {good}",
            "Basic": f"Basic {good}",
            "no scheme": good,
            "the provider's": "Bearer theirs",
            "empty": "",
        }
        assert get(service, "/me", {"Authorization": f"bearer   {good} "}).status_code == 200
        for what, header in tries.items():
            for path in ("/me", "/", "/health", "/ready", "/script", "/nothing"):
                answer = get(service, path, {"Authorization": header})
                assert answer.status_code == 401, (what, path)
                assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), PATIENCE) as sock:
            line = f"Authorization: Bearer {good}\r\n"
            sock.sendall(f"GET /me HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n".encode())
            assert sock.recv(64).startswith(b"HTTP/1.1 401 ")  # two headers: which one would count?
        for address in ("0000-0002-1825-0098", "0000-0002-1825-0097%0A", "%2E%2E", "%00", "a%2Fb", "é"):
            answer = get(service, f"/token/{address}", bearer("theirs"))
            assert answer.status_code in (400, 404, 405), address
        assert get(service, "/token/0000-0001-5109-3700", bearer("theirs")).status_code == 403


# -- limits ------------------------------------------------------------------------------------------


def test_rates_for_real(tmp_path: Path, provider: Provider) -> None:
    groups = {"anonymous": {"rate": "2/s"}, "registered": {"rate": "2/s"}}
    with daemon(tmp_path, auth=auth(provider), groups=groups) as service:
        headers = sign_in(service)
        for caller in (None, headers):
            assert [get(service, "/me", caller).status_code for _ in range(10)] == [200] * 10
            refused = wait_until(lambda caller=caller: _refusal(get(service, "/me", caller)), "a refusal")
            assert refused["Retry-After"] == "1"
            assert refused["Content-Type"] == "application/problem+json"
            time.sleep(int(refused["Retry-After"]))
            assert get(service, "/me", caller).status_code == 200
        assert get(service, "/health").status_code == 200  # nobody is counted there


def _refusal(answer: requests.Response) -> dict[str, str] | None:
    """The headers of a refusal."""
    assert answer.status_code in (200, 429)
    return dict(answer.headers) if answer.status_code == 429 else None


def test_a_refusal_comes_before_the_body(tmp_path: Path) -> None:
    with daemon(tmp_path, scripts={"work": "true"}, groups={"anonymous": {"cpu_credit_max": 0}}) as service:
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.sendall(
                b"POST /task/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            )
            answer = sock.recv(4096).decode()
        assert answer.startswith("HTTP/1.1 429 ")
        assert "Connection: close" in answer
        assert not list((tmp_path / "tasks").glob("[0-9a-f]*"))


def test_credit_is_charged_once_and_outlives_the_daemon(tmp_path: Path, provider: Provider) -> None:
    groups = {
        "registered": {"cpu_credit_max": 10, "cpu_credit_regen": "1 per hour"},
        "anonymous": {"cpu_credit_max": 5, "cpu_credit_regen": 0},
    }
    with daemon(tmp_path, start=False, auth=auth(provider), groups=groups) as service:
        service.inline("work", "true", "required_tokens = 4")
        service.start()
        headers = sign_in(service)
        once = headers | {"Idempotency-Key": "the-same"}
        assert post(service, once).status_code == 201
        assert [post(service, once).status_code for _ in range(3)] == [200] * 3
        assert credit(service, headers) == 6
        assert post(service, headers, nonsense="1").status_code == 400
        assert post(service, headers, task_name="nothing").status_code == 404
        assert credit(service, headers) == 6
        assert post(service, headers).status_code == 201
        refused = post(service, headers)
        assert refused.status_code == 429
        assert 3500 < int(refused.headers["Retry-After"]) <= 7200
        assert post(service, once).status_code == 200  # what was made costs nothing more
        wait = get(service, "/cpu-credit/?required=3", headers).json()
        assert wait["available_cpu_credit"] == 2
        assert 3500 < wait["wait_time"] <= 3600
        assert get(service, "/cpu-credit/?required=11", headers).json()["wait_time"] == "infinite"
        assert get(service, "/cpu-credit/?required=-1", headers).status_code == 400
        service.kill()
        service.start()
        assert credit(service, headers) == 2
        assert credit(service) == 5
        assert post(service).status_code == 201
        never = post(service)
        assert never.status_code == 429
        assert "Retry-After" not in never.headers


class Ready(Notifier):
    """Says in this process that the daemon is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def ready(self, status: str = "") -> None:
        super().ready(status)
        self.event.set()


@pytest.mark.logs("runs as root|scripts are trusted|ORCID: is empty")
def test_what_the_drm_refuses_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon in this process, over an engine that refuses when told to."""
    engine = MemoryEngine()
    monkeypatch.setattr("drmaaticd.daemon.make_engine", lambda config, account: engine)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    (tmp_path / "scripts.d").mkdir()
    (tmp_path / "scripts.d" / "work.toml").write_text('inline = "#!/bin/sh"\nrequired_tokens = 4\n')
    file = tmp_path / "drmaaticd.toml"
    file.write_text(
        f"[server]\nport = {port}\n[paths]\nstate_dir = 'state'\ntasks_dir = 'tasks'\n"
        "[groups.anonymous]\ncpu_credit_max = 10\ncpu_credit_regen = 0\n"
    )
    url = f"http://127.0.0.1:{port}"

    def visit() -> list[tuple[int, int]]:
        found = []
        for refuse in (True, True, True, False, True, True):
            if refuse:
                engine.fail_next("submit", Refused("no such queue"))
            answer = requests.post(f"{url}/task/", data={"task_name": "work"}, timeout=PATIENCE)
            left = requests.get(f"{url}/cpu-credit/", timeout=PATIENCE).json()["available_cpu_credit"]
            found.append((answer.status_code, left))
        return found

    async def main() -> list[tuple[int, int]]:
        ready = Ready()
        made = InProcess(load(file), ready)
        serving = asyncio.create_task(made.serve())
        await asyncio.wait_for(ready.event.wait(), PATIENCE)
        try:
            return await asyncio.to_thread(visit)
        finally:
            made.stop()
            assert await serving == 0

    found = asyncio.run(main())
    assert found == [(500, 10), (500, 10), (500, 10), (201, 6), (500, 6), (500, 6)]


def test_live_tasks_and_disk(tmp_path: Path) -> None:
    groups = {"anonymous": {"max_live": 2, "max_disk": "300 KiB"}}
    with daemon(tmp_path, start=False, groups=groups) as service:
        service.inline("work", "sleep 600")
        service.inline(
            "keep", "true", '[[param]]\nname = "file"\ntype = "file"\nrequired = true\nmultiple = true'
        )
        service.start()

        def upload(size: int, *, chunked: bool = False) -> requests.Response:
            head = (
                b'--x\r\nContent-Disposition: form-data; name="task_name"\r\n\r\nkeep\r\n--x\r\n'
                b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
            )
            body = head + b"x" * size + b"\r\n--x--\r\n"
            pieces = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
            return requests.post(
                f"{service.url}/task/",
                data=pieces if chunked else body,
                headers={"Content-Type": "multipart/form-data; boundary=x"},
                timeout=PATIENCE,
            )

        def folders() -> list[str]:
            return sorted(path.name for path in (tmp_path / "tasks").glob("[0-9a-f]*"))

        kept = upload(200_000)
        assert kept.status_code == 201
        uuid = kept.json()["uuid"]
        wait_until(lambda: get(service, f"/task/{uuid}/status").json() == "job finished normally", "its end")
        before = folders()
        for chunked in (False, True):
            refused = upload(150_000, chunked=chunked)
            assert refused.status_code == 507, refused.text
            assert "300 KiB" in refused.json()["detail"]
        assert folders() == before
        assert upload(20_000).status_code == 201
        assert requests.delete(f"{service.url}/task/{uuid}", timeout=PATIENCE).status_code == 204
        last = upload(150_000)
        assert last.status_code == 201
        uuid = last.json()["uuid"]
        wait_until(lambda: get(service, f"/task/{uuid}/status").json() == "job finished normally", "its end")
        wait_until(lambda: post(service).status_code == 201, "room for a live task")
        assert post(service).status_code == 201
        third = post(service)
        assert third.status_code == 409
        assert "2 are allowed" in third.json()["detail"]


def test_two_at_once_do_not_pass_a_bound_of_one(tmp_path: Path) -> None:
    groups = {"anonymous": {"max_live": 1, "cpu_credit_max": 1, "cpu_credit_regen": 0}}
    with daemon(tmp_path, scripts={"work": "sleep 600"}, groups=groups) as service:
        port = int(service.url.rpartition(":")[2])
        body = b"task_name=work"
        head = (
            f"POST /task/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        ).encode()
        socks = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(8)]
        for sock in socks:
            sock.sendall(head + body[:5])  # all are admitted
        for sock in socks:
            sock.sendall(body[5:])
        statuses = sorted(sock.recv(12)[9:] for sock in socks)
        for sock in socks:
            sock.close()
        assert statuses.count(b"201") == 1
        assert set(statuses) <= {b"201", b"409", b"429"}


def test_the_clients_address_behind_a_proxy(tmp_path: Path) -> None:
    groups = {"anonymous": {"cpu_credit_max": 9, "cpu_credit_regen": 0}}
    with daemon(
        tmp_path, scripts={"work": "true"}, groups=groups, server={"trusted_proxies": ["127.0.0.1"]}
    ) as service:
        first = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
        assert post(service, first).status_code == 201
        assert credit(service, first) == 8
        assert credit(service, {"X-Forwarded-For": "198.51.100.7"}) == 9  # what the client says itself
        assert credit(service, {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"}) == 8
        assert credit(service, {"X-Real-Ip": "203.0.113.9"}) == 9
        six = {"X-Forwarded-For": "2001:db8:0:1::5"}
        assert post(service, six).status_code == 201
        assert credit(service, {"X-Forwarded-For": "2001:db8:0:1:ffff::1"}) == 8  # one /64, one site
        service.wait_for_log(r"task\.submitted address=203\.0\.113\.9 ")


def test_no_proxy_is_trusted_unasked(tmp_path: Path) -> None:
    groups = {"anonymous": {"cpu_credit_max": 9, "cpu_credit_regen": 0}}
    with daemon(tmp_path, scripts={"work": "true"}, groups=groups) as service:
        for name in ("X-Forwarded-For", "X-Real-Ip", "Forwarded"):
            assert post(service, {name: "203.0.113.9"}).status_code == 201
        assert credit(service) == 6


# -- groups and the audit trail ------------------------------------------------------------------------


def test_a_groups_queue_and_account_reach_its_jobs(tmp_path: Path) -> None:
    groups = {"lab": {"queue": "lab.q", "account": "lab-account"}}
    headers = service_token(tmp_path, "lab", groups)
    with daemon(tmp_path, start=False, groups=groups) as service:
        service.inline("work", "true")
        service.inline("own", "true", '[resources]\nqueue = "own.q"')
        service.start()
        uuids = [
            post(service, headers).json()["uuid"],
            post(service, headers, task_name="own").json()["uuid"],
            post(service).json()["uuid"],
        ]
        assert service.stop() == 0
        store = Store.open(service.state)
        try:
            found = [store.get(uuid) for uuid in uuids]
            told = [
                (task.resources.get("queue"), task.resources.get("account"), task.payer)
                for task in found
                if task
            ]
        finally:
            asyncio.run(store.close())
    assert told == [
        ("lab.q", "lab-account", "internal:portal"),
        ("own.q", "lab-account", "internal:portal"),
        (None, None, "address:127.0.0.1"),
    ]


def test_a_group_that_is_gone_leaves_its_members_among_the_registered(tmp_path: Path) -> None:
    headers = service_token(tmp_path, "lab", {"lab": {"admin": True}})
    with daemon(tmp_path, allow=["in the group 'lab'"]) as service:
        assert "1 user is in the group 'lab', which the configuration does not have" in service.text()
        caller = requests.get(f"{service.url}/me", headers=headers, timeout=30).json()
        assert (caller["group"], caller["is_admin"]) == ("registered", False)


def test_the_audit_trail_as_json(tmp_path: Path, provider: Provider) -> None:
    service = Daemon(
        tmp_path,
        {"auth": auth(provider), "groups": {"anonymous": {"cpu_credit_max": 1, "cpu_credit_regen": 0}}},
        arguments=("--log-format", "json"),
    )
    service.inline("work", "true")
    try:
        service.start()
        headers = sign_in(service) | {"X-Request-ID": "my-request"}
        uuid = post(service, headers).json()["uuid"]
        get(service, f"/task/{uuid}", {"X-Request-ID": "nosy"})
        get(service, "/me", bearer("wrong") | {"X-Request-ID": "guess"})
        post(service, {"X-Request-ID": "first"})
        post(service, {"X-Request-ID": "second"})
        requests.delete(f"{service.url}/task/{uuid}", headers=headers, timeout=PATIENCE)
        requests.delete(f"{service.url}/token", headers=headers, timeout=PATIENCE)
        assert service.stop() == 0
    finally:
        service.close()
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    trail = [line for line in lines if line["logger"] == "drmaaticd.audit"]
    told = [(one["event"], one.get("user"), one.get("task"), one["address"]) for one in trail]
    user, here = f"ORCID:{CARBERRY}", "127.0.0.1"
    unowned = told[4][2]
    assert told == [
        ("token.issued", user, None, here),
        ("task.submitted", user, uuid, here),
        ("permission.refused", None, uuid, here),
        ("token.refused", None, None, here),
        ("task.submitted", None, unowned, here),
        ("limit.hit", None, None, here),
        ("task.deleted", user, uuid, here),
        ("token.revoked", user, None, here),
    ]
    assert [one["request_id"] for one in trail[1:]] == [
        *("my-request", "nosy", "guess", "first", "second", "my-request", "my-request")
    ]
    assert headers["Authorization"].rpartition(".")[2] not in service.text()


def test_a_broken_key_file_ends_the_start(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False, allow=[r"token\.key is damaged"]) as service:
        KeyRing.open(_made(service.state), time.time())
        (service.state / "token.key").write_text("{}")
        service.launch()
        assert service.wait() == 1
        assert "token.key is damaged" in service.text()
        assert "Traceback" not in service.text()


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def test_signals_do_not_matter_to_accounts(tmp_path: Path, provider: Provider) -> None:
    with daemon(tmp_path, auth=auth(provider)) as service:
        headers = sign_in(service)
        service.signal(signal.SIGHUP)
        assert get(service, "/me", headers).status_code == 200
