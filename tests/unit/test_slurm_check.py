"""`drmaaticd check` with Slurm: what is said without it, and what Slurm itself says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from drmaaticd.drm.slurmcheck import Wanted, findings
from drmaaticd.drm.slurmcommands import Commands

CONFIG = Path("/etc/drmaaticd.toml")
SCRIPT = Path("/scripts.d/x.toml")


@dataclass(frozen=True)
class Resources:
    """What a script asks for."""

    queue: str | None = None
    cpus: int = 1
    memory: int | None = None
    max_clock_time: int | None = None
    native: str = ""
    qos: str | None = None
    licenses: str | None = None
    gres: str | None = None


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A controller that knows the partition `main` and the account `lab` only."""
    for name, body in {
        "scontrol": f"[ ! -e {tmp_path}/down ] || {{ echo 'Slurmctld(primary) at a is DOWN'; exit 1; }}\n"
        "echo 'Slurmctld(primary) at a is UP'",
        "sbatch": 'case "$*" in *--test-only*) ;; *) exit 9 ;; esac\n'
        'case "$*" in *--partition=*) case "$*" in *--partition=main*) ;;'
        " *) echo 'allocation failure: Invalid partition name specified' >&2; exit 1 ;; esac ;; esac\n"
        "case \"$*\" in *--account=other*) echo 'allocation failure: Invalid account' >&2; exit 1 ;; esac",
        "squeue": ":",
        "scancel": ":",
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return Commands({"PATH": f"{tmp_path}:{os.defpath}"})


def texts(commands: Commands, *wanted: Wanted, **native: str) -> list[str]:
    return [str(finding) for finding in findings(wanted, native, CONFIG, commands)]


def test_nothing_is_wrong(commands: Commands) -> None:
    assert texts(commands, Wanted(SCRIPT, Resources(queue="main", cpus=2)), always="--qos=x") == []


def test_slurm_is_asked_about_each_script_and_account(commands: Commands) -> None:
    found = texts(
        commands,
        Wanted(SCRIPT, Resources(queue="nosuch")),
        Wanted(SCRIPT, Resources(queue="main"), account="other"),
        Wanted(SCRIPT, Resources(), queue="nosuch"),
        Wanted(SCRIPT, Resources(queue="main"), account="lab"),
    )
    assert found == [
        "/scripts.d/x.toml: resources: Slurm would refuse its jobs: "
        "allocation failure: Invalid partition name specified",
        "/scripts.d/x.toml: resources: Slurm would refuse its jobs (for account other): "
        "allocation failure: Invalid account",
        "/scripts.d/x.toml: resources: Slurm would refuse its jobs: "
        "allocation failure: Invalid partition name specified",
    ]


def test_what_may_not_be_said_is_found_without_slurm(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    found = texts(commands, Wanted(SCRIPT, Resources(native="--wrap=x")), always="--output=y")
    assert found[0].startswith("/etc/drmaaticd.toml: drm.native: native.always: '--output=y' may not")
    assert any("'--wrap=x' may not be given" in text for text in found)


def test_a_controller_that_is_away_is_a_warning(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    [finding] = findings([Wanted(SCRIPT, Resources())], {}, CONFIG, commands)
    assert finding.warning
    assert "could not be asked" in finding.message
    assert "is DOWN" in finding.message


def test_missing_commands_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drmaaticd.drm.slurmcommands.MORE_PLACES", "/nowhere")
    commands = Commands({"PATH": str(tmp_path)})
    [finding] = findings([Wanted(SCRIPT, Resources())], {}, CONFIG, commands)
    assert not finding.warning
    assert "sbatch" in finding.message
