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

from drmaaticd.commands import lookup
from drmaaticd.config import Config
from drmaaticd.engines import environment_to_start_anew, make_engine
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
    findings, scripts, config = examine(lookup.find(arguments.config))
    if arguments.json:
        print(json.dumps([_as_json(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding)
    errors = sum(not finding.warning for finding in findings)
    if errors == 0 and not arguments.json:
        print(summary(scripts, len(findings)))
        if config is not None and (note := trust(config)):
            print(f"note: {note}", file=sys.stderr)
    if arguments.probe and config is not None and errors == 0:
        return _probe(config)
    return 1 if errors else 0


def _probe(config: Config) -> int:
    """Run one job; 1 if it did not do what it should."""
    environment = environment_to_start_anew(config)
    if environment is not None:
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  # ourselves
    from drmaaticd.probe import probe

    answer = asyncio.run(probe(config))
    for line in answer.lines:
        print(f"probe: {line}")
    return 1 if answer.failed else 0


def examine(path: Path | None) -> tuple[list[Finding], int, Config | None]:
    """All findings, the number of scripts that load, and the configuration if it can be used."""
    config = None
    findings: list[Finding] = []
    try:
        config = lookup.load(path)
        findings.extend(config.warnings())
        findings.extend(_engine_findings(config))
        scripts_dir = config.paths.scripts_dir
    except ConfigurationError as error:
        findings.extend(error.findings)
        if path is None:  # the defaults themselves, on a machine that they do not fit
            return findings, 0, None
        scripts_dir = _scripts_of_broken(path)
    if not scripts_dir.is_dir():
        if config is not None:
            findings.append(Finding(scripts_dir, "is no folder: there are no scripts", "paths.scripts_dir"))
        return findings, 0, config
    catalogue = Catalogue(scripts_dir, None if config is None else config.groups)
    catalogue.load()
    findings.extend(catalogue.findings)
    return findings, len(catalogue.all()), config


def _engine_findings(config: Config) -> tuple[Finding, ...]:
    """Why `serve` would not take this backend. The DRM itself is not asked."""
    try:
        make_engine(config)
    except ConfigurationError as error:
        return error.findings
    return ()


def summary(scripts: int, warnings: int) -> str:
    """The closing line where nothing is wrong."""
    found = {0: "no findings", 1: "1 warning"}.get(warnings, f"{warnings} warnings")
    return f"{scripts} {'script' if scripts == 1 else 'scripts'}, {found}"


def trust(config: Config) -> str:
    """What the administrator should know of whom they trust, empty if there is nothing to say."""
    if config.drm.run_as:
        return ""
    return "scripts are trusted: jobs run under the daemon's own account and can read what it can"


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
