"""Which configuration a command works with, and where that was found.

The order: ``--config``, ``$DRMAATICD_CONFIG``, ``/etc/drmaaticd/drmaaticd.toml``, the embedded
defaults. What a file may hold is `config`'s business.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from drmaaticd import config

log = logging.getLogger(__name__)

VARIABLE = "DRMAATICD_CONFIG"
SYSTEM_FILE = Path("/etc/drmaaticd/drmaaticd.toml")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """``--config FILE``, as every command has it."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration (else ${VARIABLE}, then {SYSTEM_FILE}, then embedded defaults)",
    )


def find(
    given: Path | None, environ: Mapping[str, str] | None = None, system_file: Path = SYSTEM_FILE
) -> Path | None:
    """The configuration file to use, None for the embedded defaults.

    A file that was named (by argument or variable) is used even if it is not there: saying so is
    better than serving something else.
    """
    environ = os.environ if environ is None else environ
    if given is not None:
        return given
    if named := environ.get(VARIABLE):
        return Path(named)
    if not system_file.exists():
        return None
    if os.access(system_file, os.R_OK):
        return system_file
    log.warning("%s is not readable for this account: the embedded defaults apply", system_file)
    return None


def load(path: Path | None) -> config.Config:
    """The configuration in this file, or the defaults. Raises `ConfigurationError`."""
    return config.defaults() if path is None else config.load(path.absolute())
