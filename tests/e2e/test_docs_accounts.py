"""The session in docs/accounts.md, run command by command against a real daemon and provider."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import requests

from drmaaticd.config import load
from drmaaticd.settings import ORCID_PATTERN
from tests import consoles
from tests.e2e.daemon import ROOT, daemon
from tests.provider import Provider

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "accounts.md").read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Without what is another at each run."""
    text = re.sub(r"eyJ[\w.…-]+", "TOKEN", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text).strip()


def test_the_session(tmp_path: Path) -> None:
    with Provider() as provider:
        provider.people["theirs"] = {"sub": "0000-0002-1825-0097", "name": "Josiah Carberry"}
        orcid = {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}
        credit = {"cpu_credit_max": 200}
        with daemon(tmp_path, auth={"providers": [orcid]}, groups={"registered": credit}) as service:
            commands = consoles.session(PAGE)
            assert len(commands) >= 8
            script = consoles.in_one_shell(commands)
            done = subprocess.run(
                ["sh", "-c", f"URL={service.url}\nORCID_TOKEN=theirs\n{script}"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
    for (command, expected), output in zip(commands, consoles.outputs(done.stdout), strict=True):
        assert plain(output) == plain(expected), command


def test_the_configurations_are_valid(tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        load(file)


def administration() -> list[list[str]]:
    """The administrator's commands that the page spells, in its order."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`(drmaaticd (?:user|token) [^`\n]+)`", PAGE)
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words for words in commands if words[:1] == ["drmaaticd"]]


def test_the_administrators_commands(tmp_path: Path) -> None:
    (groups,) = [
        block for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "[groups.operators]" in block
    ]
    with Provider() as provider:
        person = {"sub": "0000-0001-5109-3700", "name": "Somebody"}
        provider.people["hers"] = person
        orcid = {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}
        with daemon(tmp_path, auth={"providers": [orcid]}, groups=tomllib.loads(groups)["groups"]) as service:
            exchange = f"{service.url}/token/{person['sub']}"
            requests.get(exchange, headers={"Authorization": "Bearer hers"}, timeout=30).raise_for_status()
            said = ""
            commands = administration()
            assert len(commands) >= 7
            for words in commands:
                # The id that is to be revoked is what the list before it shows.
                shown = [found["jti"] for found in json.loads(said)] if said.startswith("[") else []
                given = [shown[0] if word == "ID" else word for word in words[1:]]
                listing = ["--json"] if words[1:3] == ["token", "list"] else []
                done = subprocess.run(
                    [sys.executable, "-m", "drmaaticd", *given, *listing, "--config", str(service.config)],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    check=False,
                )
                assert done.returncode == 0, f"{words}: {done.stderr}"
                said = done.stdout
