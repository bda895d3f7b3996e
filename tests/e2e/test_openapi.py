"""The OpenAPI document is true: Schemathesis asks a running daemon everything that it promises.

Also that no answer has a key that is not described, and what makes the document change.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs  # comes with Schemathesis
import pytest
import requests

from drmaaticd.settings import ORCID_PATTERN
from tests.accounts import Clock, office
from tests.e2e.daemon import ROOT, Daemon, daemon, wait_until
from tests.e2e.test_permissions import _groups
from tests.provider import Provider

#: Seconds for one run of Schemathesis, which is busy for twenty: only a hang takes so long.
PATIENCE = 540

EVERY_TYPE = """
description = "One parameter of each type"
inline = "true"
[[param]]
name = "whole"
type = "int"
required = true
min = -3
max = 1000
[[param]]
name = "real"
type = "float"
flag = "--real"
default = 0.5
[[param]]
name = "yes"
type = "bool"
flag = "--yes"
[[param]]
name = "text"
type = "string"
flag = "--text"
max_length = 20
[[param]]
name = "code"
type = "string"
flag = "--code"
pattern = "[a-z]{2,4}"
[[param]]
name = "choice"
type = "string"
choices = ["one", "two"]
[[param]]
name = "many"
type = "int"
multiple = true
[[param]]
name = "hidden"
type = "string"
private = "not for you"
"""

FILES = """
inline = "true"
[[param]]
name = "input"
type = "file"
required = true
max_size = "1 MiB"
[[param]]
name = "more"
type = "file"
multiple = true
"""

ARRAY = 'inline = "true"\n[array]\nend = 3\n'

#: 413 refuses what is wrong as well, and which names a provider knows no schema can say.
CHECKS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 422, 429]
[[operations]]
include-operation-id = "exchangeToken"
[operations.checks.positive_data_acceptance]
expected-statuses = [200, 400, 401, 403, 429]
[[operations]]
include-operation-id = "submitTask"
[operations.checks.positive_data_acceptance]
expected-statuses = [200, 201, 404, 409, 413, 422, 429]
"""

GROUPS: dict[str, Any] = {"admins": {"admin": True}, "staff": {}}


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with an administrator's account in it, and their token."""
    folder = tmp_path_factory.mktemp("openapi")

    async def make() -> str:
        async with office(folder, clock=Clock(time.time()), groups=_groups(GROUPS)) as place:
            told = await place.accounts.issue_token("root", group="admins", lifetime=86_400, by="test")
            return str(told["access_token"])

    return folder, asyncio.run(make())


@pytest.fixture(scope="module")
def service(token: tuple[Path, str]) -> Iterator[Daemon]:
    server = {"metrics_allow": ["127.0.0.1"]}
    with (
        Provider() as provider,
        daemon(
            token[0],
            start=False,
            server=server,
            drm={"slots": 2},
            auth={"providers": [orcid(provider)], "token_rate": "1000/s"},
            groups=GROUPS,
        ) as running,
    ):
        running.script("every-type", EVERY_TYPE)
        running.script("files", FILES)
        running.script("array", ARRAY)
        running.inline("staff-only", "true", 'groups = ["staff"]')
        yield running.start()


def orcid(provider: Provider) -> dict[str, Any]:
    """The sample's provider, on this machine."""
    provider.people["theirs"] = {"sub": "0000-0002-1825-0097", "name": "Josiah Carberry"}
    return {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}


def described(service: Daemon, **headers: str) -> dict[str, Any]:
    answer = requests.get(f"{service.url}/openapi.json", headers=headers, timeout=30)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def tightened(document: dict[str, Any], *, multipart: Sequence[str]) -> dict[str, Any]:
    """The document without room for keys that it does not name, and with these scripts in multipart forms.

    Schemathesis gives a file no name, and so makes a field of it, where there is a choice of forms.
    """
    forms = [{"$ref": f"#/components/schemas/form.{script}"} for script in multipart]
    content = document["paths"]["/task"]["post"]["requestBody"]["content"]
    content["multipart/form-data"]["schema"] = forms[0] if len(forms) == 1 else {"oneOf": forms}
    for schema in document["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return document


def tasks(service: Daemon, count: int) -> list[str]:
    """Tasks of the anonymous; all have ended."""
    made = []
    for number in range(count):
        fields = {"task_name": "array"} if number % 2 else {"task_name": "every-type", "whole": "7"}
        answer = requests.post(f"{service.url}/task/", data=fields, timeout=30)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["uuid"])
    for uuid in made:
        wait_until(
            lambda uuid=uuid: requests.get(f"{service.url}/task/{uuid}", timeout=30).json().get("end_date"),
            "the end",
        )
    return made


def fuzz(service: Daemon, folder: Path, *arguments: str, multipart: Sequence[str], **headers: str) -> str:
    """Run Schemathesis, which exits with 1 if it finds anything; what it said."""
    document = folder / "openapi.json"
    document.write_text(
        json.dumps(tightened(described(service, **headers), multipart=multipart)), encoding="utf-8"
    )
    config = folder / "schemathesis.toml"
    config.write_text(CHECKS, encoding="utf-8")
    uuids = tasks(service, 12)
    known = {
        "uuid": uuids,
        "path": [f"{uuid[:8]}_out.txt" for uuid in uuids[::2]],
        "name": ["array", "files", "every-type"],
    }
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(config),
                "run",
                str(document),
                "--url",
                service.url,
            ),
            *("--seed", "20261124", "--generation-deterministic", "--no-color", "--request-timeout", "60"),
            *("--generation-allow-x00", "false", "--warnings", "off"),
            *arguments,
            *(word for name, value in headers.items() for word in ("--header", f"{name}:{value}")),
        ],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "SCHEMATHESIS_HOOKS": "tests.e2e.fuzz_hooks",
            "FUZZ_KNOWN": json.dumps(known),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(PATIENCE + 60)
def test_schemathesis_as_anybody(service: Daemon, tmp_path: Path) -> None:
    said = fuzz(
        service,
        tmp_path,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "12",
        multipart=["files"],
    )
    assert "Selected: 29/29" in said


@pytest.mark.timeout(PATIENCE + 60)
def test_schemathesis_as_an_administrator(service: Daemon, token: tuple[Path, str], tmp_path: Path) -> None:
    said = fuzz(
        service,
        tmp_path,
        *("--phases", "coverage,fuzzing", "--max-examples", "6"),
        # The first would end the token; tokens of a provider are another matter.
        *("--exclude-operation-id", "revokeToken", "--exclude-operation-id", "exchangeToken"),
        # An administrator's stream has no end.
        *("--exclude-operation-id", "watchTasks"),
        multipart=["every-type", "array", "staff-only"],
        Authorization=f"Bearer {token[1]}",
    )
    assert "Selected: 26/29" in said


def test_what_a_caller_may_run_is_there(service: Daemon, token: tuple[Path, str]) -> None:
    def forms(**headers: str) -> set[str]:
        names = described(service, **headers)["components"]["schemas"]
        return {name.partition(".")[2] for name in names if name.startswith("form.")}

    assert forms() == {"array", "every-type", "files"}
    assert forms(Authorization=f"Bearer {token[1]}") == {"array", "every-type", "files", "staff-only"}
    document = described(service, Authorization=f"Bearer {token[1]}")
    assert "not for you" not in json.dumps(document)
    assert "hidden" not in document["components"]["schemas"]["form.every-type"]["properties"]
    page = requests.get(f"{service.url}/docs", timeout=30)
    assert "form.every-type" in page.text
    assert "staff-only" not in page.text
    wrong = {"Authorization": "Bearer wrong"}
    assert requests.get(f"{service.url}/openapi.json", headers=wrong, timeout=30).status_code == 401


def test_it_changes_with_the_scripts_alone(service: Daemon) -> None:
    def ask(**headers: str) -> requests.Response:
        return requests.get(f"{service.url}/openapi.json", headers=headers, timeout=30)

    before = ask().headers["ETag"]
    assert ask(**{"If-None-Match": before}).status_code == 304
    service.inline("late", "true")
    service.signal(signal.SIGHUP)
    changed = wait_until(lambda: (now := ask()).headers["ETag"] != before and now, "the new script")
    assert "form.late" in changed.json()["components"]["schemas"]
    assert ask(**{"If-None-Match": before}).status_code == 200
    (service.scripts / "late.toml").unlink()
    service.signal(signal.SIGHUP)
    wait_until(lambda: ask().headers["ETag"] == before, "the script to go")


def test_the_schemas_are_valid_and_true(service: Daemon, token: tuple[Path, str]) -> None:
    """Answers that Schemathesis does not get: a token for a provider's, and running and refused tasks."""
    document = tightened(described(service), multipart=["files"])
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema)
        assert name

    def check(name: str, value: Any) -> None:
        whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.validator_for(whole, validate_formats=True).validate(value)

    exchanged = requests.get(
        f"{service.url}/token/0000-0002-1825-0097",
        headers={"Authorization": "Bearer theirs"},
        timeout=30,
    )
    check("Token", exchanged.json())
    own = {"Authorization": f"Bearer {exchanged.json()['access_token']}"}
    check("Me", requests.get(f"{service.url}/me", headers=own, timeout=30).json())
    made = requests.post(
        f"{service.url}/task/", data={"task_name": "every-type", "whole": "x"}, headers=own, timeout=30
    )
    check("Problem", made.json())
    admin = {"Authorization": f"Bearer {token[1]}"}
    check("ScriptPage", requests.get(f"{service.url}/script/", headers=admin, timeout=30).json())
    tasks(service, 2)
    check("TaskPage", requests.get(f"{service.url}/task/?page_size=100", headers=admin, timeout=30).json())
    with pytest.raises(jsonschema_rs.ValidationError):
        check("Me", {"group": "x", "is_admin": True, "unknown": 1})
