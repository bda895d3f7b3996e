"""What `check` and `serve` say of a second account, and what they refuse."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd import config, runas
from drmaaticd.drm import otheraccount
from tests.e2e.daemon import ROOT, Daemon
from tests.runas.places import with_jobs_apart

JOBS = os.environ["RUNAS_JOBS"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Daemon]:
    with with_jobs_apart(tmp_path, allow=[r"drm\.run_as"]) as made:
        made.inline("fine", "true")
        yield made


def run(service: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drmaaticd", *words, "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def refused(service: Daemon, text: str) -> None:
    """Both `check` and `serve` name this, and nothing is started."""
    checked = run(service, "check")
    assert checked.returncode == 1, checked.stderr
    assert text in checked.stdout
    served = run(service, "serve")
    assert served.returncode == 1, served.stderr
    assert text in served.stderr
    assert "listening" not in served.stderr


def set_account(service: Daemon, name: str) -> None:
    before = service.config.read_text()
    assert f'"{JOBS}"' in before
    service.config.write_text(before.replace(f'"{JOBS}"', f'"{name}"'))


def test_nothing_is_wrong(service: Daemon) -> None:
    checked = run(service, "check")
    assert (checked.returncode, "trusted" in checked.stderr) == (0, False), checked.stdout
    assert "drm.run_as" not in checked.stdout


def test_a_probe_says_who_it_ran_as(service: Daemon) -> None:
    probed = run(service, "check", "--probe")
    assert probed.returncode == 0, probed.stdout + probed.stderr
    assert f"probe: account: {JOBS} (" in probed.stdout
    assert "should be" not in probed.stdout
    assert not [place for place in service.tasks.iterdir() if not place.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nosuchaccount", "there is no account nosuchaccount; as root: useradd --system"),
        ("root", "must not be root"),
        (os.environ.get("USER", ""), "is the daemon's own account"),
        ("nobody", "is not in the group nogroup of nobody"),
    ],
)
def test_the_wrong_account(service: Daemon, name: str, text: str) -> None:
    set_account(service, name)
    refused(service, text)


def test_a_folder_that_jobs_cannot_come_through(service: Daemon) -> None:
    (service.folder / "closed").mkdir(mode=0o700)
    text = service.config.read_text().replace('"tasks"', '"closed/tasks"')
    service.config.write_text(text)
    refused(service, f"cannot come through {service.folder / 'closed'}")


@pytest.mark.parametrize("place", ["scripts", "config", "folder"])
def test_what_jobs_could_change(service: Daemon, place: str) -> None:
    path: Path = getattr(service, place)
    path.chmod(0o666 if place == "config" else 0o777)
    refused(service, f"{JOBS} can write to {path}")


def test_a_program_that_jobs_cannot_run(service: Daemon) -> None:
    """On the compute nodes nobody would say so before the first task failed."""
    program = service.folder / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o700)
    service.script("closed", f'command = "{program}"\n')
    checked = run(service, "check")
    assert checked.returncode == 1
    assert f"closed.toml: command: {program} cannot be run by {JOBS}" in checked.stdout
    program.chmod(0o755)
    assert run(service, "check").returncode == 0


def test_sudo_says_no(service: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = config.load(service.config)
    assert runas.findings(loaded) == []
    monkeypatch.setattr(otheraccount, "helper_command", lambda: ["/bin/true"])
    (finding,) = runas.findings(loaded)
    assert "sudo does not start the helper: sudo: " in finding.message
    assert f"{os.environ['USER']} ALL=({JOBS}) NOPASSWD: {sys.executable} -I " in finding.message
    assert finding.message.endswith("/drmaaticd/jobhelper.py")


def test_the_rule_that_is_shown_is_the_one_that_works_here() -> None:
    rule = runas.sudoers_line(JOBS)
    program = f"{sys.executable} -I {Path(runas.__file__).parent / 'jobhelper.py'}"
    assert rule == f"{os.environ['USER']} ALL=({JOBS}) NOPASSWD: {program}"


def test_strangers_in_the_shared_group_are_told(service: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = grp.getgrgid(pwd.getpwnam(JOBS).pw_gid)
    members = [os.environ["USER"], "somebody"]
    told = grp.struct_group((entry.gr_name, entry.gr_passwd, entry.gr_gid, members))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: told)
    (finding,) = runas.findings(config.load(service.config))
    assert finding.warning
    assert finding.message.endswith("can change what tasks wrote: somebody")
