"""The main job, over HTTP with `requests`, against a real daemon on the embedded engine."""

from __future__ import annotations

import contextlib
import io
import re
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.e2e.daemon import PATIENCE, Daemon, daemon, wait_until

FASTA = b">a\nACGT\n>b\nGGCC\n"

COUNT = """
description = "Counts the lines of a file"
inline = '''#!/bin/sh
wc -l < "$1"
cp "$1" copy.txt
mkdir -p sub && echo nested > "sub/a b.txt"
echo warned >&2
exit "${2:-0}"
'''
[[param]]
name = "input"
type = "file"
required = true
extensions = [".fasta", ".fa"]
[[param]]
name = "exit"
type = "int"
default = 0
min = 0
max = 9
"""

SLEEP = """
inline = '''#!/bin/sh
echo started
sleep "$1"
'''
[[param]]
name = "seconds"
type = "float"
default = 0
"""

ARRAY = """
inline = '''#!/bin/sh
echo "member $DRMAATICD_TASK_INDEX"
[ "$DRMAATICD_TASK_INDEX" != "$1" ]
'''
[array]
begin = 1
end = 7
step = 3
[[param]]
name = "failing"
type = "int"
default = 0
"""


LIMITED = """
inline = "sleep 600"
[resources]
max_clock_time = "2 s"
"""

#: Jobs that run at a time.
SLOTS = 4


@pytest.fixture(scope="module")
def slots() -> int:
    return SLOTS


@pytest.fixture(scope="module")
def limit_patience() -> float:
    """Seconds after which a job with a short time limit has been ended."""
    return PATIENCE


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("api")
    with daemon(folder, start=False, drm={"slots": SLOTS}, groups={"staff": {}}) as running:
        drop_scripts(running)
        yield running.start()


def drop_scripts(running: Daemon) -> None:
    """The scripts that these tests use; they run over a real cluster too."""
    running.script("count", COUNT)
    running.script("sleep", SLEEP)
    running.script("array", ARRAY)
    running.script("limited", LIMITED)
    running.script("secret", 'groups = ["staff"]\ninline = "true"\n')


@pytest.fixture(params=["", "/"], ids=["no-slash", "slash"])
def slash(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def post(service: Daemon, fields: Any = None, files: Any = None, **arguments: Any) -> requests.Response:
    return requests.post(
        f"{service.url}/task/", data=fields, files=files, timeout=30, allow_redirects=False, **arguments
    )


def get(service: Daemon, path: str, **arguments: Any) -> requests.Response:
    return requests.get(f"{service.url}{path}", timeout=30, allow_redirects=False, **arguments)


def ended(service: Daemon, name: str, patience: float = PATIENCE) -> dict[str, Any]:
    """The task, once it has ended."""

    def look() -> dict[str, Any] | None:
        task: dict[str, Any] = get(service, f"/task/{name}").json()
        return task if task["state"] in ("done", "failed", "stopped", "rejected") else None

    task: dict[str, Any] = wait_until(look, f"task {name} to end", patience)
    return task


def run(
    service: Daemon, fields: dict[str, Any], files: Any = None, patience: float = PATIENCE
) -> dict[str, Any]:
    """Submit and wait for the end."""
    answer = post(service, fields, files)
    assert answer.status_code == 201, answer.text
    return ended(service, answer.json()["uuid"], patience)


def problem(answer: requests.Response, status: int) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    return body


def wrong(answer: requests.Response) -> set[str]:
    """The names of the wrong fields of a 400."""
    return {error["name"] for error in problem(answer, 400)["errors"]}


def test_the_old_services_usage_guide(service: Daemon, tmp_path: Path, slash: str) -> None:
    """The calls that clients of that service make, unchanged."""
    path = tmp_path / "my genes.fasta"
    path.write_bytes(FASTA)
    assert requests.request("GET", f"{service.url}/script{slash}", timeout=30).ok
    payload = {"task_name": "count"}
    with path.open("rb") as stream:
        files = [("input", ("my genes.fasta", stream, "application/octet-stream"))]
        created = requests.request(
            "POST", f"{service.url}/task{slash}", data=payload, files=files, timeout=30, allow_redirects=False
        )
    assert created.status_code == 201
    name = created.json()["uuid"]
    assert created.headers["Location"].endswith(f"/task/{name}")
    assert created.json()["files_name"] == {"input.fasta": "my genes.fasta"}
    task = ended(service, name)
    assert (task["state"], task["status"], task["exit_status"]) == ("done", "job finished normally", 0)
    assert get(service, f"/task/{name}/status{slash}").json() == "job finished normally"
    listing = get(service, f"/task/{name}/file{slash}")
    prefix = name[:8]
    assert listing.json() == sorted(
        ["copy.txt", "input.fasta", "sub/a b.txt", f"{prefix}_err.txt", f"{prefix}_out.txt"]
    )
    assert get(service, f"/task/{name}/file/{prefix}_out.txt").text.strip() == "4"
    assert get(service, f"/task/{name}/file/sub/a%20b.txt").text == "nested\n"
    download = get(service, f"/task/{name}/download{slash}")
    assert int(download.headers["Content-Length"]) == len(download.content)
    with zipfile.ZipFile(io.BytesIO(download.content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"{name}/copy.txt") == FASTA
    gone = requests.request("DELETE", f"{service.url}/task/{name}{slash}", timeout=30, allow_redirects=False)
    assert (gone.status_code, gone.content) == (204, b"")
    problem(get(service, f"/task/{name}{slash}"), 404)
    assert not (service.tasks / name).exists()
    assert not (service.tasks / ".control" / name).exists()


def test_a_failing_script_is_a_failed_task(service: Daemon) -> None:
    task = run(service, {"task_name": "count", "exit": "3"}, {"input": ("x.fa", FASTA)})
    assert (task["state"], task["status"], task["exit_status"]) == ("failed", "job finished, but failed", 3)
    error = get(service, f"/task/{task['uuid']}/file/{task['stderr']}")
    assert error.text == "warned\n"
    assert task["start_date"] <= task["end_date"]


def test_the_task_as_json(service: Daemon) -> None:
    task = run(service, {"task_name": "sleep", "task_description": "a nap ☾"})
    assert task["task_description"] == "a nap ☾"
    assert task["params"] == [{"name": "seconds", "value": "0"}]
    assert task["has_owner"] is False
    assert task["is_mine"] is False
    assert task["descendants"] == []
    assert task["depends_on"] == []
    assert "parent_task" not in task
    for key in ("creation_date", "update_date", "start_date", "end_date", "expires_date"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", task[key]), key
    assert None not in task.values()


def test_form_and_json_bodies(service: Daemon) -> None:
    form = requests.post(f"{service.url}/task", data={"task_name": "sleep", "seconds": "0"}, timeout=30)
    body = requests.post(f"{service.url}/task", json={"task_name": "sleep", "seconds": 0}, timeout=30)
    assert (form.status_code, body.status_code) == (201, 201)
    assert body.json()["params"] == [{"name": "seconds", "value": "0"}]


def test_every_wrong_field_is_named_at_once(service: Daemon) -> None:
    answer = post(
        service,
        {"task_name": "count", "exit": "12", "nonsense": "1", "parent_task": "x", "dependency_type": "y"},
        {"input": ("x.png", b"1")},
    )
    assert wrong(answer) == {"exit", "nonsense", "parent_task", "dependency_type", "input"}


def test_a_missing_parameter_and_a_missing_script(service: Daemon) -> None:
    assert wrong(post(service, {"task_name": "count"})) == {"input"}
    assert wrong(post(service, {"other": "x"})) == {"task_name"}
    problem(post(service, {"task_name": "nonsense"}), 404)
    problem(post(service, {"task_name": "secret"}), 404)  # there is one, but not for this caller


def test_scripts(service: Daemon, slash: str) -> None:
    page = get(service, f"/script{slash}").json()
    assert [script["name"] for script in page["results"]] == ["array", "count", "limited", "sleep"]
    assert (page["count"], page["next"], page["previous"]) == (4, None, None)
    script = get(service, f"/script/count{slash}").json()
    assert script["description"] == "Counts the lines of a file"
    assert [param["name"] for param in script["param"]] == ["input", "exit"]
    assert "command" not in script
    problem(get(service, f"/script/secret{slash}"), 404)
    assert get(service, "/script?name__in=count,sleep,zzz").json()["count"] == 2
    assert get(service, "/script?search=LINES").json()["count"] == 1


def test_a_task_list_of_the_anonymous_is_what_they_name(service: Daemon) -> None:
    tasks = [run(service, {"task_name": "sleep"})["uuid"] for _ in range(3)]
    assert get(service, "/task/").json() == {"count": 0, "next": None, "previous": None, "results": []}
    ids = ",".join([*tasks, "nonsense", str(uuid.uuid4())])
    page = get(service, f"/task/?ids={ids}&page_size=2").json()
    assert page["count"] == 3
    assert [task["uuid"] for task in page["results"]] == [tasks[2], tasks[1]]
    assert page["next"].startswith(f"{service.url}/task/?")
    second = requests.get(page["next"], timeout=30).json()
    assert [task["uuid"] for task in second["results"]] == [tasks[0]]
    problem(get(service, f"/task/?ids={ids}&page=9"), 404)
    problem(get(service, "/task/?page=x"), 400)
    assert get(service, f"/task/?ids={ids}&state=failed").json()["count"] == 0


def test_a_task_list_by_time(service: Daemon) -> None:
    first = last = post(service, {"task_name": "sleep"}).json()
    while last["creation_date"] == first["creation_date"]:
        last = post(service, {"task_name": "sleep"}).json()

    def found(**times: str) -> list[str]:
        page = get(service, "/task/", params={"ids": f"{first['uuid']},{last['uuid']}", **times}).json()
        return [task["uuid"] for task in page["results"]]

    both = [last["uuid"], first["uuid"]]
    assert found(created_since=first["creation_date"]) == both
    assert found(created_since=last["creation_date"]) == both[:1]
    assert found(created_before=last["creation_date"]) == both[1:]
    assert found(created_before=first["creation_date"]) == []
    assert found(created_since=first["creation_date"], created_before=last["creation_date"]) == both[1:]
    assert found(created_since="", created_before="") == both
    wrong_ones = {"created_since": "yesterday", "created_before": "noon", "updated_since": "1", "page": "0"}
    assert wrong(get(service, "/task/", params=wrong_ones)) == set(wrong_ones)


def test_a_time_limit_ends_a_task_and_says_so(service: Daemon, limit_patience: float) -> None:
    task = run(service, {"task_name": "limited"}, patience=limit_patience)
    assert task["state"] == "failed"
    assert "time limit" in task["detail"].lower()


def test_a_signal_is_named(service: Daemon) -> None:
    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    wait_until(lambda: get(service, f"/task/{name}").json()["state"] == "running", "the task to run")
    wait_until(lambda: sleepers(name), "the command to run")
    for process in sleepers(name):
        process.terminate()
    task = ended(service, name)
    assert (task["state"], task["exit_status"], task["signal"]) == ("failed", 143, "SIGTERM")


def sleepers(name: str) -> list[psutil.Process]:
    """The ``sleep`` of a task's script."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "sleep":
            with contextlib.suppress(psutil.Error):
                if process.environ().get("DRMAATICD_TASK_ID") == name:
                    found.append(process)
    return found


def test_stop_ends_a_running_task(service: Daemon, slash: str) -> None:
    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    wait_until(lambda: get(service, f"/task/{name}").json()["state"] == "running", "the task to run")
    answer = requests.put(f"{service.url}/task/{name}/stop{slash}", timeout=30)
    assert (answer.status_code, list(answer.json())) == (200, ["detail"])
    assert ended(service, name)["state"] == "stopped"
    again = requests.put(f"{service.url}/task/{name}/stop", timeout=30)
    problem(again, 409)


def test_hold_release_suspend_resume(service: Daemon, slots: int) -> None:
    def put(name: str, action: str) -> int:
        return requests.put(f"{service.url}/task/{name}/{action}", timeout=30).status_code

    def state(name: str) -> str:
        found: str = get(service, f"/task/{name}").json()["state"]
        return found

    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    wait_until(lambda: state(name) == "running", "the task to run")
    assert put(name, "release") == 409
    assert put(name, "suspend") == 200
    wait_until(lambda: state(name) == "user_suspended", "the task to be suspended")
    assert put(name, "resume") == 200
    wait_until(lambda: state(name) == "running", "the task to run again")
    blockers = [
        post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"] for _ in range(slots - 1)
    ]
    queued = post(service, {"task_name": "sleep"}).json()["uuid"]
    wait_until(lambda: state(queued) == "queued_active", "the task to queue")
    assert put(queued, "hold") == 200
    wait_until(lambda: state(queued) == "user_on_hold", "the task to be held")
    for blocker in [name, *blockers]:
        assert put(blocker, "stop") == 200
    assert state(queued) == "user_on_hold"
    assert put(queued, "release") == 200
    assert ended(service, queued)["state"] == "done"


def test_deleting_a_running_task_ends_it_and_removes_its_files(service: Daemon) -> None:
    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    wait_until(lambda: get(service, f"/task/{name}").json()["state"] == "running", "the task to run")
    assert requests.delete(f"{service.url}/task/{name}", timeout=30).status_code == 204
    problem(get(service, f"/task/{name}"), 404)
    problem(get(service, f"/task/{name}/file/"), 404)
    wait_until(lambda: not (service.tasks / name).exists(), "the folder to go")
    wait_until(lambda: not (service.tasks / ".control" / name).exists(), "the control folder to go")
    problem(requests.delete(f"{service.url}/task/{name}", timeout=30), 404)


def test_what_is_logged_of_a_request_carries_its_id(service: Daemon) -> None:
    name = run(service, {"task_name": "sleep"})["uuid"]
    answer = requests.delete(
        f"{service.url}/task/{name}", headers={"X-Request-ID": "front-end.17"}, timeout=30
    )
    assert answer.headers["X-Request-ID"] == "front-end.17"
    service.wait_for_log(rf"audit: task\.deleted .*task={name} request_id=front-end\.17")


def test_an_array_has_counts_and_an_output_each(service: Daemon) -> None:
    task = run(service, {"task_name": "array"})
    assert task["array"] == {"begin": 1, "end": 7, "step": 3, "states": {"done": 3}}
    assert (task["state"], task["exit_status"]) == ("done", 0)
    prefix = task["uuid"][:8]
    for index in (1, 4, 7):
        assert get(service, f"/task/{task['uuid']}/file/{prefix}_out.{index}.txt").text == f"member {index}\n"
    failed = run(service, {"task_name": "array", "failing": "4"})
    assert failed["array"]["states"] == {"done": 2, "failed": 1}
    assert (failed["state"], failed["exit_status"]) == ("failed", 1)
    assert "index 4" in failed["detail"]


def test_a_child_works_in_its_parents_folder(service: Daemon) -> None:
    parent = run(service, {"task_name": "count"}, {"input": ("x.fa", FASTA)})["uuid"]
    child = run(service, {"task_name": "count", "parent_task": parent}, {"input": ("y.fa", b">c\nA\n")})
    assert child["parent_task"] == parent
    assert child["files_name"] == {f"{child['uuid'][:8]}_input.fa": "y.fa"}
    grandchild = run(service, {"task_name": "sleep", "parent_task": child["uuid"]})["uuid"]
    assert get(service, f"/task/{parent}").json()["descendants"] == [child["uuid"], grandchild]
    files = get(service, f"/task/{parent}/file/").json()
    assert files == get(service, f"/task/{grandchild}/file/").json()
    assert {"input.fa", f"{child['uuid'][:8]}_input.fa", f"{grandchild[:8]}_out.txt"} <= set(files)
    assert requests.delete(f"{service.url}/task/{grandchild}", timeout=30).status_code == 204
    assert get(service, f"/task/{parent}/file/").json() == files
    problem(post(service, {"task_name": "sleep", "parent_task": str(uuid.uuid4())}), 404)


def test_an_ancestor_with_live_descendants_is_not_deleted(service: Daemon) -> None:
    parent = run(service, {"task_name": "sleep"})["uuid"]
    child = post(service, {"task_name": "sleep", "seconds": "600", "parent_task": parent}).json()["uuid"]
    problem(requests.delete(f"{service.url}/task/{parent}", timeout=30), 409)
    requests.put(f"{service.url}/task/{child}/stop", timeout=30)
    ended(service, child)
    assert requests.delete(f"{service.url}/task/{parent}", timeout=30).status_code == 204


def test_nor_if_a_task_between_was_deleted(service: Daemon) -> None:
    ancestor = run(service, {"task_name": "sleep"})["uuid"]
    between = run(service, {"task_name": "sleep", "parent_task": ancestor})["uuid"]
    below = run(service, {"task_name": "sleep", "parent_task": between})["uuid"]
    assert requests.delete(f"{service.url}/task/{between}", timeout=30).status_code == 204
    fields = {"task_name": "sleep", "seconds": "600", "parent_task": below}
    live = post(service, fields).json()["uuid"]
    assert get(service, f"/task/{ancestor}").json()["descendants"] == [below, live]
    problem(requests.delete(f"{service.url}/task/{ancestor}", timeout=30), 409)
    assert get(service, f"/task/{live}/file/").status_code == 200
    assert requests.delete(f"{service.url}/task/{live}", timeout=30).status_code == 204


def test_a_task_that_waits_for_another_is_not_held(service: Daemon) -> None:
    endless = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    waiting = post(service, {"task_name": "sleep", "dependencies": endless}).json()["uuid"]
    refused = problem(requests.put(f"{service.url}/task/{waiting}/hold", timeout=30), 409)
    assert refused["detail"] == "The task cannot be held in this state: job is queued and in system hold."
    for uuid_ in (waiting, endless):
        assert requests.delete(f"{service.url}/task/{uuid_}", timeout=30).status_code == 204


def test_dependencies(service: Daemon) -> None:
    def after(needed: list[str], kind: str) -> str:
        fields = {"task_name": "sleep", "dependencies": ",".join(needed), "dependency_type": kind}
        answer = post(service, fields)
        assert answer.status_code == 201, answer.text
        name: str = answer.json()["uuid"]
        return name

    slow = post(service, {"task_name": "sleep", "seconds": "0.5"}).json()["uuid"]
    chain = [slow]
    for _ in range(10):
        chain.append(after([chain[-1]], "afterok"))
    assert get(service, f"/task/{chain[-1]}").json()["state"] == "system_on_hold"
    assert ended(service, chain[-1])["state"] == "done"
    failing = run(service, {"task_name": "count", "exit": "1"}, {"input": ("x.fa", FASTA)})["uuid"]
    task = ended(service, after([failing, slow], "afterok"))
    assert task["state"] == "failed"
    assert failing in task["detail"]
    assert "start_date" not in task
    assert ended(service, after([failing], "afternotok"))["state"] == "done"
    assert ended(service, after([failing, slow], "afterany"))["state"] == "done"


def test_an_idempotency_key_makes_one_task(service: Daemon) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = post(service, {"task_name": "sleep"}, headers=key)
    again = post(service, {"task_name": "sleep"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["uuid"] == again.json()["uuid"]
    problem(post(service, {"task_name": "sleep", "seconds": "1"}, headers=key), 422)
    problem(post(service, {"task_name": "sleep"}, headers={"Idempotency-Key": "short"}), 400)


def test_a_growing_log_is_followed_by_ranges(service: Daemon) -> None:
    name = post(service, {"task_name": "sleep", "seconds": "600"}).json()["uuid"]
    log = f"/task/{name}/file/{name[:8]}_out.txt"
    wait_until(lambda: get(service, log).text == "started\n", "the first line")
    part = get(service, log, headers={"Range": "bytes=3-"})
    assert (part.status_code, part.text) == (206, "rted\n")
    assert part.headers["Content-Range"] == "bytes 3-7/8"
    nothing_new = get(service, log, headers={"Range": "bytes=8-"})
    assert nothing_new.status_code == 416
    assert nothing_new.headers["Content-Range"] == "bytes */8"
    tag = get(service, log).headers["ETag"]
    assert get(service, log, headers={"If-None-Match": tag}).status_code == 304
    problem(get(service, f"/task/{name}/download"), 404)
    requests.put(f"{service.url}/task/{name}/stop", timeout=30)


def test_any_token_is_refused_as_long_as_none_is_issued(service: Daemon, slash: str) -> None:
    answer = get(service, f"/script{slash}", headers={"Authorization": "Bearer x"})
    problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_index_health_and_ready(service: Daemon) -> None:
    index = get(service, "/").json()
    assert index["name"] == "drmaaticd"
    assert index["links"]["scripts"] == f"{service.url}/script/"
    assert get(service, "/health").json()["status"] == "ok"
    assert get(service, "/ready").status_code == 200


def test_a_job_that_ends_is_seen_at_once(service: Daemon) -> None:
    """No time is asserted: a poll of ten seconds would make this test last ten times as long."""
    for _ in range(10):
        run(service, {"task_name": "sleep"})


def test_an_ended_task_keeps_its_state(service: Daemon) -> None:
    task = run(service, {"task_name": "sleep"})
    time.sleep(0.6)  # some passes of the sync
    later = get(service, f"/task/{task['uuid']}").json()
    assert {key: later[key] for key in later if key not in ("update_date", "resource_usage")} == {
        key: task[key] for key in task if key not in ("update_date", "resource_usage")
    }
