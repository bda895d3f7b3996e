"""The client against a real daemon, as a user has it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from drmaaticd.client import Client
from tests.e2e.daemon import ROOT, Daemon, daemon, wait_until

#: A file that would be seen in the client's memory if it were held there.
LARGE = 192 * 1024**2

KEEP = """
inline = '''#!/bin/sh
wc -c < "$1"
echo "$2" > note.txt
'''
[[param]]
name = "input"
type = "file"
required = true
[[param]]
name = "note"
type = "string"
allow_dash = true
default = ""
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("drmaatic"), start=False, drm={"slots": 4}) as running:
        running.script("keep", KEEP)
        running.inline("fails", "echo why >&2; exit 3")
        running.inline("sleeps", "echo begun; sleep 600")
        yield running.start()


def drmaatic(
    service: Daemon, *words: str | Path, program: Sequence[str] = ("-m", "drmaaticd.client.cli")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DRMAATIC_URL": service.url},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_run_from_file_to_file(service: Daemon, tmp_path: Path) -> None:
    source = tmp_path / "my 'genes' ü.fasta"
    source.write_bytes(b">a\nACGT\n")
    out = tmp_path / "results"
    done = drmaatic(service, "run", "keep", "--input", source, "--note", "it's $HOME", "--output", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "done"
    files = {path.name: path.read_text() for path in out.iterdir()}
    assert files["note.txt"] == "it's $HOME\n"
    assert files["input.fasta"] == ">a\nACGT\n"
    uuid = done.stderr.splitlines()[0].removeprefix("task ")
    assert files[f"{uuid[:8]}_out.txt"].strip() == "8"

    logged = drmaatic(service, "logs", uuid)
    assert logged.stdout.strip() == "8"
    listed = json.loads(drmaatic(service, "--json", "files", uuid).stdout)
    assert {file["path"] for file in listed} == set(files)
    packed = drmaatic(service, "download", uuid, "-o", tmp_path)
    assert packed.stdout == f"{tmp_path / f'{uuid}.zip'}\n"
    with zipfile.ZipFile(tmp_path / f"{uuid}.zip") as archive:
        assert archive.read(f"{uuid}/note.txt") == b"it's $HOME\n"
    assert json.loads(drmaatic(service, "status", uuid, "--json").stdout)["files_name"] == {
        "input.fasta": source.name
    }
    assert drmaatic(service, "rm", uuid).returncode == 0
    gone = drmaatic(service, "status", uuid)
    assert gone.returncode == 1
    assert gone.stderr.startswith("drmaatic: Not found")


def test_a_failure_is_told(service: Daemon) -> None:
    done = drmaatic(service, "run", "fails", "--wait")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("failed: exit 3")
    uuid = done.stderr.splitlines()[0].removeprefix("task ")
    assert drmaatic(service, "logs", "--stderr", uuid).stdout == "why\n"


def test_wrong_fields_are_all_named(service: Daemon) -> None:
    done = drmaatic(service, "run", "keep", "-p", "nonsense=1")
    assert done.returncode == 1
    assert "  input: " in done.stderr
    assert "  nonsense: " in done.stderr


def test_stop(service: Daemon) -> None:
    uuid = json.loads(drmaatic(service, "run", "sleeps", "--json").stdout)["uuid"]
    wait_until(lambda: "begun" in drmaatic(service, "logs", uuid).stdout, "the job to begin")
    assert drmaatic(service, "stop", uuid).returncode == 0
    followed = drmaatic(service, "logs", "--follow", uuid)
    assert followed.stdout == "begun\n"
    assert "stopped" in drmaatic(service, "status", uuid).stdout


def test_a_wait_outlives_a_restart(tmp_path: Path) -> None:
    with daemon(
        tmp_path, scripts={"waits": 'while [ ! -e "$1" ]; do sleep 0.1; done'}, start=False
    ) as service:
        definition = service.scripts / "waits.toml"
        definition.write_text(definition.read_text() + '[[param]]\nname = "flag"\ntype = "string"\n')
        service.start()
        with Client(service.url) as client:
            task = client.run("waits", {"flag": str(tmp_path / "flag")})
            service.restart()
            client.url = service.url  # another free port
            (tmp_path / "flag").touch()
            assert client.wait(task["uuid"])["state"] == "done"


#: The command, and at its end its peak memory in kilobytes (proc(5), VmHWM: that of this program alone;
#: getrusage may count what its parent had before the exec).
MEASURED = """
import sys
from pathlib import Path
from drmaaticd.client.cli import main
status = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(status)
"""


def test_transfers_are_not_held_in_memory(service: Daemon, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    out = tmp_path / "out"
    words = ("run", "keep", "--input", tmp_path / "large", "--output", out)
    done = drmaatic(service, *words, program=("-c", MEASURED))
    assert done.returncode == 0, done.stderr
    assert (out / "input").stat().st_size == LARGE
    assert int(done.stderr.splitlines()[-1]) * 1024 < LARGE / 2
