"""The session and the Python program in docs/client.md, run against a real daemon with the sample scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd.client import status
from drmaaticd.settings import ORCID_PATTERN
from tests import consoles
from tests.e2e.daemon import ROOT, Daemon, daemon
from tests.provider import Provider

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")

#: States that a task may or may not be seen in on its way.
PASSING = ("received", "created", "queued_active", "running")


def plain(text: str) -> str:
    """Without what is another at each run."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\b[0-9a-f]{8}_(out|err)", r"SHORT_\1", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME", text)
    text = re.sub(r"http://127\.0\.0\.1:\d+", "URL", text)
    text = re.sub(r"\S+/credentials\.json", "CREDENTIALS", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines() if line.strip() not in PASSING)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Daemon]:
    with Provider() as provider:
        provider.people["theirs"] = {"sub": "0000-0002-1825-0097", "name": "Josiah Carberry"}
        orcid = {"name": "ORCID", "userinfo_url": f"{provider.url}/userinfo", "pattern": ORCID_PATTERN}
        registered = {"cpu_credit_max": 200, "cpu_credit_regen": "1 per 30 s"}
        folder = tmp_path / "daemon"
        shutil.copytree(ROOT / "scripts.d", folder / "scripts.d")
        with daemon(folder, auth={"providers": [orcid]}, groups={"registered": registered}) as running:
            yield running


def run(service: Daemon, folder: Path, *command: str) -> str:
    """What a command writes, in a folder as the page has it."""
    folder.mkdir()
    shutil.copy(ROOT / "scripts.d" / "examples" / "phix174-puc19.fasta", folder / "genes.fasta")
    (folder / "notes.txt").write_text("to be or not to be\n")
    (folder / "orcid-token.txt").write_text("theirs\n")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DRMAATIC_")}
    environ |= {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder / "config")}
    return subprocess.run(
        command,
        cwd=folder,
        env=environ | {"DRMAATIC_URL": service.url, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=True,
    ).stdout


def outputs(service: Daemon, folder: Path) -> list[str]:
    """What each command of the session writes."""
    client = f'drmaatic() {{ {sys.executable} -m drmaaticd.client.cli "$@"; }}\n'
    script = consoles.in_one_shell(consoles.session(PAGE))
    return consoles.outputs(run(service, folder, "sh", "-c", client + script))


def test_the_session(service: Daemon, tmp_path: Path) -> None:
    commands = consoles.session(PAGE)
    assert len(commands) >= 12
    for (command, expected), output in zip(commands, outputs(service, tmp_path / "session"), strict=True):
        assert plain(output) == plain(expected), command


def test_the_program(service: Daemon, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    printed = run(service, tmp_path / "program", sys.executable, "-c", program)
    assert plain(printed).splitlines() == ["SHORT_err.txt", "SHORT_out.txt", "input.fasta"]


def test_the_table_of_statuses() -> None:
    assert status.__doc__ is not None
    table = status.__doc__.partition("|---|---|\n")[2].strip()
    assert len(table.splitlines()) >= 10
    assert table in PAGE
