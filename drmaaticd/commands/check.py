"""``drmaaticd check``: is the configuration right, and is every script?

It reads and reports, and changes nothing but by ``--probe``, which runs a job. What is right is decided
in `config`, `engines`, `scripts` and `probe`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tomllib
from pathlib import Path

from drmaaticd import engines, runas
from drmaaticd.commands import lookup
from drmaaticd.config import Config
from drmaaticd.engines import environment_to_start_anew
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.scripts import Catalogue

#: Where scripts are looked for if the configuration is too broken to say.
SCRIPTS_BESIDE = "scripts.d"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "check",
        allow_abbrev=False,
        help="report everything that is wrong with configuration and scripts",
        description="Report everything that is wrong with the configuration and the scripts, a line "
        "each: FILE:LINE: KEY: what is wrong and what is allowed. Exit status 1 if there is an error; "
        "a warning alone is none.",
    )
    lookup.add_argument(parser)
    parser.add_argument("--json", action="store_true", help="the findings as a JSON array")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="if nothing is wrong, also run one real job and report what it sees: the tasks' folder, "
        "its account and umask, the clocks, how late its ending is noticed",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings on standard output; 1 if one of them is an error."""
    path = lookup.find(arguments.config)
    _start_anew(path)
    findings, scripts, config = examine(path)
    if arguments.json:
        print(json.dumps([_as_json(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding)
    errors = sum(not finding.warning for finding in findings)
    if errors == 0 and not arguments.json:
        print(summary(scripts, len(findings)))
        if config is not None:
            _print_notes(config)
    if arguments.probe and config is not None and errors == 0:
        return _probe(config)
    return 1 if errors else 0


def _print_notes(config: Config) -> None:
    """What is no finding in the files, and to be known all the same."""
    text, warn = runas.trust(config)
    for level, said in (("warning", runas.as_root(config)), ("warning" if warn else "note", text)):
        if said:
            print(f"{level}: {said}", file=sys.stderr)


def _probe(config: Config) -> int:
    """Run one job; 1 if it did not do what it should."""
    from drmaaticd.probe import probe

    answer = asyncio.run(probe(config))
    for line in answer.lines:
        print(f"probe: {line}")
    return 1 if answer.failed else 0


def _start_anew(path: Path | None) -> None:
    """Begin again with the environment that libdrmaa needs, if it needs one (see `engines`)."""
    try:
        environment = environment_to_start_anew(lookup.load(path))
    except ConfigurationError:
        return  # `examine` reports it
    if environment is not None:
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  # ourselves


def examine(path: Path | None) -> tuple[list[Finding], int, Config | None]:
    """All findings, the number of scripts that load, and the configuration if it can be used."""
    config = None
    serviceable = False
    findings: list[Finding] = []
    try:
        config = lookup.load(path)
        findings += config.warnings()
        wrong = engines.findings(config)
        serviceable = not wrong
        findings += wrong
        scripts_dir = config.paths.scripts_dir
    except ConfigurationError as error:
        findings += error.findings
        if path is None:  # the defaults themselves, on a machine that they do not fit
            return findings, 0, None
        scripts_dir = _scripts_of_broken(path)
    if not scripts_dir.is_dir():
        if config is not None:
            findings.append(Finding(scripts_dir, "is no folder: there are no scripts", "paths.scripts_dir"))
        return findings, 0, config
    catalogue = Catalogue(scripts_dir, None if config is None else config.groups)
    catalogue.load()
    findings += catalogue.findings
    scripts = catalogue.all()
    if config is not None and serviceable:
        findings += engines.script_findings(config, scripts)
    return findings, len(scripts), config


def summary(scripts: int, warnings: int) -> str:
    """The closing line where nothing is wrong."""
    found = {0: "no findings", 1: "1 warning"}.get(warnings, f"{warnings} warnings")
    return f"{scripts} {'script' if scripts == 1 else 'scripts'}, {found}"


def _scripts_of_broken(path: Path) -> Path:
    """The scripts folder of a configuration with errors, so that its scripts are checked all the same."""
    path = path.absolute()
    named = SCRIPTS_BESIDE
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8")).get("paths")
    except (OSError, ValueError):
        section = None
    if isinstance(section, dict) and isinstance(section.get("scripts_dir"), str):
        named = section["scripts_dir"]
    return path.parent / named


def _as_json(finding: Finding) -> dict[str, object]:
    fields = {
        "file": str(finding.file),
        "line": finding.line,
        "key": finding.key,
        "message": finding.message,
        "level": "warning" if finding.warning else "error",
    }
    return {key: value for key, value in fields.items() if value is not None}
