"""What README.md shows is so: its session, its client's commands, its Python, its script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from drmaaticd import script_file
from tests import consoles
from tests.e2e.daemon import ROOT, Daemon, daemon, wait_until

README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8300"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my.fasta").write_bytes((ROOT / "scripts.d/examples/phix174-puc19.fasta").read_bytes())
    with daemon(folder, paths={"scripts_dir": str(ROOT / "scripts.d")}) as running:
        yield running


def run(service: Daemon, command: str, **variables: str) -> str:
    """What a command of the page writes."""
    done = subprocess.run(
        ["sh", "-c", command.replace(URL, service.url)],
        cwd=service.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DRMAATIC_URL": service.url} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_the_session(service: Daemon) -> None:
    commands = consoles.session(README)
    assert len(commands) >= 8
    task = ""
    for command, expected in commands:
        if command.startswith("task="):  # which names the page's own
            continue
        command = command.replace("@scripts.d", f"@{ROOT}/scripts.d").replace("e940cdaa", task[-36:-28])
        output = run(service, command, task=task)
        shown = f"{expected}…" if "_out.txt" in command else expected  # of a table the first lines
        if found := consoles.UUID.search(output):
            task = task or f"{service.url}/task/{found[0]}"
            wait_until(lambda task=task: "end_date" in requests.get(task, timeout=30).json(), "the end")
        assert consoles.says(shown, output), (command, output)
    assert requests.get(task, timeout=30).status_code == 404
    assert list(service.folder.glob(f"{task[-36:]}.zip"))


def test_the_clients_commands(service: Daemon) -> None:
    (block,) = [text for text in consoles.blocks(README, "sh") if "drmaatic scripts" in text]
    lines = [line for line in block.splitlines() if line]
    assert len(lines) == 2
    outputs = [
        run(service, line.replace(".venv/bin/drmaatic", f"{sys.executable} -m drmaaticd.client.cli"))
        for line in lines
    ]
    assert "fasta-stats" in outputs[0]
    assert any("NC_001422" in file.read_text() for file in service.folder.glob("results/**/*_out.txt"))


def test_the_python(service: Daemon) -> None:
    (code,) = consoles.blocks(README, "python")
    file = service.folder / "example.py"
    file.write_text(code.replace(URL, service.url), encoding="utf-8")
    assert run(service, f"{sys.executable} example.py").startswith("done ")


def test_the_script(tmp_path: Path) -> None:
    (definition,) = [text for text in consoles.blocks(README, "toml") if "[[param]]" in text]
    file = tmp_path / "fasta-stats.toml"
    file.write_text(definition, encoding="utf-8")
    (tmp_path / "bin").symlink_to(ROOT / "scripts.d" / "bin")
    read = script_file.read(file, tmp_path)
    assert read.findings == ()
