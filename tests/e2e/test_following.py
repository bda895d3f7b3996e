"""Streams of events and links on a real daemon: kills, restarts, slow readers, two people, revocations."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.accounts import Clock, office
from tests.e2e.daemon import Daemon, daemon, wait_until
from tests.web.wire import read_chunk, read_line

GATED = """
inline = '''#!/bin/sh
until [ -e "$1" ]; do sleep 0.02; done
echo out
'''
[[param]]
name = "until"
type = "string"
[[param]]
name = "padding"
type = "string"
default = ""
"""


class Stream:
    """A stream that is read in a thread: the events so far, and whether it has ended."""

    def __init__(self, url: str, **headers: str) -> None:
        self.events: list[dict[str, str]] = []
        self.over = False
        self.answer = requests.get(url, headers=headers, stream=True, timeout=60)
        self.status = self.answer.status_code
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        event: dict[str, str] = {}
        try:
            for line in self.answer.iter_lines(chunk_size=1):
                if line:
                    name, _, value = line.decode().partition(": ")
                    event[name] = value
                elif event:
                    self.events.append(event)
                    event = {}
        except requests.RequestException:
            pass  # the daemon was killed: the stream is over
        finally:
            self.over = True

    @property
    def told(self) -> list[str]:
        """The names of events, or the states that they tell."""
        told = [event for event in self.events if "data" in event]
        return [event.get("event") or json.loads(event["data"])["state"] for event in told]

    @property
    def last_id(self) -> str:
        return next(event["id"] for event in reversed(self.events) if "id" in event)

    def wait(self, what: str) -> None:
        wait_until(lambda: what in self.told, f"{what} among {self.told}")

    def end(self) -> list[str]:
        wait_until(lambda: self.over, f"the end after {self.told}")
        return self.told


def submit(service: Daemon, gate: Path, token: str = "", padding: str = "") -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = {"task_name": "gated", "until": str(gate), "padding": padding}
    answer = requests.post(f"{service.url}/task/", data=data, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    uuid: str = answer.json()["uuid"]
    return uuid


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def people(folder: Path) -> dict[str, dict[str, Any]]:
    async with office(folder, clock=Clock(time.time())) as place:
        return {
            name: await place.accounts.issue_token(name, group="registered", by="test")
            for name in ("anna", "bert")
        }


@pytest.fixture
def signed_in(tmp_path: Path) -> Iterator[tuple[Daemon, dict[str, dict[str, Any]]]]:
    tokens = asyncio.run(people(tmp_path))
    with daemon(tmp_path, start=False) as service:
        service.script("gated", GATED)
        service.start()
        yield service, tokens


def test_a_job_is_followed_to_its_end_and_the_browser_told_to_stay_away(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with daemon(tmp_path, start=False) as service:
        service.script("gated", GATED)
        service.start()
        uuid = submit(service, gate)
        one = Stream(f"{service.url}/task/{uuid}/events")
        many = Stream(f"{service.url}/task/events?ids={uuid},nonsense")
        one.wait("running")
        many.wait("running")
        gate.touch()
        assert one.end()[-2:] == many.end()[-2:] == ["done", "end"]
        known = requests.get(f"{service.url}/task/{uuid}", timeout=60).json()
        final = next(event for event in one.events if '"done"' in event.get("data", ""))
        later = {"resource_usage", "update_date"}  # what the job has used may be known a moment later
        shown = json.loads(final["data"])
        assert {key for key in known if known[key] != shown.get(key)} <= later
        for last in (one.last_id, final["id"]):
            heard = {"Last-Event-ID": last}
            assert Stream(f"{service.url}/task/{uuid}/events", **heard).status == 204
        assert Stream(f"{service.url}/task/{uuid}/events").end() == ["done", "end"]


def test_after_a_kill_the_client_hears_what_it_missed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with daemon(tmp_path, start=False, server={"port": free_port()}) as service:
        service.script("gated", GATED)
        service.start()
        uuid, other = submit(service, gate), submit(service, tmp_path / "never")
        stream = Stream(f"{service.url}/task/events?ids={uuid},{other}")
        wait_until(lambda: stream.told.count("running") == 2, "both to run")
        service.kill()
        stream.end()
        gate.touch()
        control = service.tasks / ".control" / uuid
        wait_until(lambda: list(control.glob("ended.*")), "the job to end meanwhile")
        service.start()
        again = Stream(f"{service.url}/task/events?ids={uuid},{other}", **{"Last-Event-ID": stream.last_id})
        again.wait("done")
        assert not again.over
        assert requests.put(f"{service.url}/task/{other}/stop", timeout=60).status_code == 200
        assert again.end()[-2:] == ["stopped", "end"]


def test_sigterm_ends_open_streams_at_once_and_the_state_is_not_final(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("gated", GATED)
        service.start()
        uuid = submit(service, tmp_path / "never")
        streams = [Stream(f"{service.url}/task/{uuid}/events") for _ in range(20)]
        for stream in streams:
            stream.wait("running")
        service.signal(signal.SIGTERM)
        service.wait_for_log("stopping")
        assert service.wait() == 0
        for stream in streams:
            assert "end" not in stream.end()
        stopped = [line for line in service.log if "stopping" in line or ": stopped" in line]
        assert len(stopped) == 2


def test_two_people_hear_of_their_own_alone(
    signed_in: tuple[Daemon, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    service, tokens = signed_in
    anna, bert = (tokens[name]["access_token"] for name in ("anna", "bert"))
    gate = tmp_path / "gate"
    of_anna = Stream(f"{service.url}/task/events", **bearer(anna))
    of_bert = Stream(f"{service.url}/task/events", **bearer(bert))
    mine, theirs = submit(service, gate, anna), submit(service, gate, bert)
    assert Stream(f"{service.url}/task/{theirs}/events", **bearer(anna)).status == 403
    assert Stream(f"{service.url}/task/events?ids={theirs}", **bearer(anna)).status == 204
    assert Stream(f"{service.url}/task/events").status == 204
    gate.touch()
    of_anna.wait("done")
    of_bert.wait("done")
    for stream, uuid in ((of_anna, mine), (of_bert, theirs)):
        assert {json.loads(event["data"])["uuid"] for event in stream.events if "data" in event} == {uuid}
        assert not stream.over
    assert requests.delete(f"{service.url}/task/{mine}", headers=bearer(anna), timeout=60).status_code == 204
    of_anna.wait("gone")
    assert "gone" not in of_bert.told


def test_a_revoked_token_is_told_nothing_more(
    signed_in: tuple[Daemon, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    service, tokens = signed_in
    gate, token = tmp_path / "gate", tokens["anna"]["access_token"]
    uuid = submit(service, gate, token)
    stream = Stream(f"{service.url}/task/{uuid}/events", **bearer(token))
    stream.wait("running")
    assert requests.delete(f"{service.url}/token", headers=bearer(token), timeout=60).status_code == 204
    gate.touch()
    assert "done" not in stream.end()
    again = Stream(f"{service.url}/task/{uuid}/events", **bearer(token), **{"Last-Event-ID": stream.last_id})
    assert again.status == 401


def test_a_deleted_task_ends_its_streams(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False) as service:
        service.script("gated", GATED)
        service.start()
        uuid = submit(service, tmp_path / "never")
        stream = Stream(f"{service.url}/task/{uuid}/events")
        stream.wait("running")
        assert requests.delete(f"{service.url}/task/{uuid}", timeout=60).status_code == 204
        assert stream.end()[-2:] == ["gone", "end"]
        assert Stream(f"{service.url}/task/{uuid}/events", **{"Last-Event-ID": stream.last_id}).status == 404


def test_who_reads_nothing_keeps_nobody_waiting_and_costs_little(tmp_path: Path) -> None:
    settings = {"server": {"max_streams_per_caller": 100}, "drm": {"slots": 20}}
    with daemon(tmp_path, start=False, **settings) as service:
        service.script("gated", GATED)
        service.start()
        gate = tmp_path / "gate"
        uuids = [submit(service, gate, padding="x" * 5000) for _ in range(20)]
        path = f"/task/events?ids={','.join(uuids)}"
        host, port = service.url.removeprefix("http://").split(":")
        idle = []
        for _ in range(50):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect((host, int(port)))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            idle.append(sock)
        reader = Stream(f"{service.url}{path}")
        wait_until(lambda: reader.told.count("running") == 20, "all to run")
        process = psutil.Process(service.pid)
        before = process.memory_info().rss
        for uuid in uuids[:10]:
            assert requests.put(f"{service.url}/task/{uuid}/stop", timeout=60).status_code == 200
        gate.touch()
        told = reader.end()
        assert (told.count("stopped"), told.count("done"), told[-1]) == (10, 10, "end")
        assert process.memory_info().rss - before < 16 * 1024 * 1024
        for sock in idle:
            sock.close()


def test_streams_are_bounded_and_places_come_back(tmp_path: Path) -> None:
    with daemon(tmp_path, start=False, server={"max_streams": 3, "max_streams_per_caller": 2}) as service:
        service.script("gated", GATED)
        service.start()
        uuid = submit(service, tmp_path / "never")
        streams = [Stream(f"{service.url}/task/{uuid}/events") for _ in range(2)]
        over = requests.get(f"{service.url}/task/{uuid}/events", timeout=60)
        assert over.status_code == 429
        assert int(over.headers["Retry-After"]) > 0
        streams[0].answer.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: Stream(f"{service.url}/task/{uuid}/events").status == 200, "a free place")


def test_a_link_from_its_making_to_its_end(
    signed_in: tuple[Daemon, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    service, tokens = signed_in
    gate, token = tmp_path / "gate", tokens["anna"]["access_token"]
    uuid, other = submit(service, gate, token), submit(service, gate, token)
    made = requests.post(f"{service.url}/task/{uuid}/link", headers=bearer(token), timeout=60)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert made.json()["expires_in"] == 300
    url = made.json()["url"]
    page, _, link = url.partition("?link=")
    assert page == f"{service.url}/task/{uuid}"
    seen = requests.get(url, timeout=60)
    assert seen.status_code == 200
    assert seen.json()["is_mine"] is False
    stream = Stream(f"{page}/events?link={link}")
    gate.touch()
    assert stream.end()[-2:] == ["done", "end"]
    out = f"{uuid[:8]}_out.txt"
    for rest in ("/status", "/file/", f"/file/{out}", "/download", "/download?format=tar.gz"):
        joint = "&" if "?" in rest else "?"
        assert requests.get(f"{page}{rest}", timeout=60).status_code == 403
        assert requests.get(f"{page}{rest}{joint}link={link}", timeout=60).status_code == 200, rest
    for method, path in (
        ("DELETE", f"/task/{uuid}"),
        ("PUT", f"/task/{uuid}/stop"),
        ("POST", f"/task/{uuid}/link"),
    ):
        assert requests.request(method, f"{service.url}{path}?link={link}", timeout=60).status_code == 403
    child = {"task_name": "gated", "until": str(gate), "parent_task": uuid}
    assert requests.post(f"{service.url}/task/?link={link}", data=child, timeout=60).status_code == 404
    assert requests.get(f"{service.url}/task/{other}?link={link}", timeout=60).status_code == 401
    assert requests.get(f"{url}x", timeout=60).status_code == 401
    bert = bearer(tokens["bert"]["access_token"])
    assert requests.get(page, headers=bert, timeout=60).status_code == 403
    assert requests.get(url, headers=bert, timeout=60).status_code == 200
    assert (
        requests.post(f"{page}/link?lifetime=99999999", headers=bearer(token), timeout=60).status_code == 400
    )
    service.restart()
    url = url.replace(page, f"{service.url}/task/{uuid}")
    assert requests.get(url, timeout=60).status_code == 200
    assert requests.delete(url.partition("?")[0], headers=bearer(token), timeout=60).status_code == 204
    assert requests.get(url, timeout=60).status_code == 401
    assert link not in service.text()
    assert link.rpartition(".")[2] not in service.text()
    assert "task.linked" in service.text()


def test_a_link_that_ends_while_its_stream_is_open(
    signed_in: tuple[Daemon, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    service, tokens = signed_in
    gate, token = tmp_path / "gate", tokens["anna"]["access_token"]
    uuid = submit(service, gate, token)
    made = requests.post(f"{service.url}/task/{uuid}/link?lifetime=3", headers=bearer(token), timeout=60)
    page, _, link = made.json()["url"].partition("?")
    stream = Stream(f"{page}/events?{link}")
    stream.wait("running")
    wait_until(lambda: requests.get(f"{page}?{link}", timeout=60).status_code == 401, "the link to expire")
    gate.touch()
    assert "done" not in stream.end()


def test_a_raw_stream_starts_at_once(tmp_path: Path) -> None:
    """Headers and the present state come without any further change, chunk by chunk."""
    with daemon(tmp_path, start=False) as service:
        service.script("gated", GATED)
        service.start()
        uuid = submit(service, tmp_path / "never")
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as sock:
            sock.sendall(f"GET /task/{uuid}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert read_line(sock) == b"HTTP/1.1 200 OK"
            while read_line(sock):
                pass
            assert read_chunk(sock).startswith(b"retry: ")
            assert uuid.encode() in read_chunk(sock)
