"""The sessions in docs/events.md, run command by command against a real daemon."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from pathlib import Path

from drmaaticd.web.app import ROUTES
from tests import consoles
from tests.accounts import Clock, office
from tests.e2e.daemon import daemon

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text(encoding="utf-8")


async def token(folder: Path) -> str:
    async with office(folder, clock=Clock(time.time())) as place:
        told = await place.accounts.issue_token("anna", group="registered", by="test")
        return str(told["access_token"])


def test_the_sessions(tmp_path: Path) -> None:
    bearer = asyncio.run(token(tmp_path))
    commands = consoles.session(PAGE)
    assert len(commands) >= 10
    script = consoles.in_one_shell(commands)
    with daemon(tmp_path, scripts={"hello": "echo hello"}) as service:
        done = subprocess.run(
            ["sh", "-c", f"URL={service.url}\nTOKEN={bearer}\n{script}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    for (command, expected), output in zip(commands, consoles.outputs(done.stdout), strict=True):
        assert output.strip() == expected, command


def test_the_paths_are_routes() -> None:
    for path in ("/task/events", "/task/u/events", "/task/u/link"):
        assert any(re.fullmatch(pattern, path) for pattern, _ in ROUTES)
        assert path.replace("/u/", "/{uuid}/") in PAGE
