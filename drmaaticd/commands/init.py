"""``drmaaticd init``: a place to begin: configuration, sample scripts, systemd unit.

No file that exists is touched, so it can be run again at any time. The configuration is written last:
while it is missing the place is unfinished, and a second run completes it; once it is there, the
place's scripts are the administrator's, and no sample is added to them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from drmaaticd import config
from drmaaticd.commands import unit
from drmaaticd.logs import escape

CONFIG_FILE = "drmaaticd.toml"
UNIT_FILE = "drmaaticd.service"
SCRIPTS = "scripts.d"

#: A place below this folder keeps its state in /var/lib, as the Filesystem Hierarchy Standard wants.
SYSTEM_CONFIGURATION = Path("/etc")
SYSTEM_STATE = Path("/var/lib")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "init",
        allow_abbrev=False,
        help="write a configuration, sample scripts and a systemd unit for a new place",
        description="Write a commented configuration, scripts.d with samples, and a systemd unit for "
        "this place and this installation. A file that exists is left alone and named; where there is "
        "a configuration already, scripts.d is left alone as a whole. A place below /etc keeps its "
        "state in /var/lib, any other in its own folder var.",
    )
    parser.add_argument("place", type=Path, metavar="DIR", help="the folder; it is made if it is missing")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class Place:
    """A folder that is being furnished, and what was done there."""

    folder: Path
    state: Path
    """Where state and tasks go."""
    written: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path) -> Place:
        """The place in this folder."""
        folder = folder.absolute()
        system = SYSTEM_CONFIGURATION in folder.parents
        return cls(folder, SYSTEM_STATE / folder.name if system else folder / "var")

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / CONFIG_FILE

    @property
    def managed(self) -> bool:
        """Whether systemd makes the folder for the state."""
        return self.state.parent == SYSTEM_STATE

    def furnish(self) -> None:
        """Write everything that is missing. Raises OSError; what is there by then is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config.exists():
            self.left.append(self.folder / SCRIPTS)
        else:
            self._write_scripts()
        if not self.managed:
            self.state.mkdir(mode=0o750, exist_ok=True)
        self._write(self.folder / UNIT_FILE, self._unit().encode("utf-8"))
        self._write(self.config, self._configuration().encode("utf-8"))

    def _configuration(self) -> str:
        state = self.state if self.managed else self.state.relative_to(self.folder)
        return config.sample(
            state_dir=str(state / "state"), tasks_dir=str(state / "tasks"), scripts_dir=SCRIPTS
        )

    def _unit(self) -> str:
        account = unit.SERVICE_ACCOUNT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        return unit.Unit(
            command=unit.program(),
            account=account,
            config=self.config,
            writable=self.state,
            state_directory=self.state.name if self.managed else None,
        ).render(unit.template())

    def _write_scripts(self) -> None:
        samples = config.samples_dir()
        for source in _sample_files(samples):
            executable = os.access(source, os.X_OK)
            target = self.folder / SCRIPTS / source.relative_to(samples)
            self._write(target, source.read_bytes(), 0o755 if executable else 0o644)

    def _write(self, path: Path, content: bytes, mode: int = 0o644) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # O_EXCL also refuses a symbolic link that leads nowhere.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:
            self.left.append(path)
            return
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # Half a file would be left alone by the next run, and believed.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.written.append(path)


def _sample_files(samples: Path) -> Iterator[Path]:
    for source in sorted(samples.rglob("*")):
        # Installing compiles Python files, the samples' programs too.
        if source.is_file() and "__pycache__" not in source.parts:
            yield source


def run(arguments: argparse.Namespace) -> int:
    """Furnish the place and say what was done and what comes next. 1 if something cannot be written."""
    if not str(arguments.place).isprintable():
        print(f"drmaaticd init: no such name for a folder: {escape(str(arguments.place))}", file=sys.stderr)
        return 2
    place = Place.at(arguments.place)
    try:
        place.furnish()
    except OSError as error:
        _report(place)
        print(f"drmaaticd init: {escape(str(error))}; run it again once that is mended", file=sys.stderr)
        return 1
    _report(place)
    print(next_steps(place))
    return 0


def _report(place: Place) -> None:
    for path in place.written:
        print(f"wrote {path}")
    for path in place.left:
        print(f"exists, left alone: {path}")


def next_steps(place: Place) -> str:
    """What to do now, as commands to copy."""
    command = shlex.join(unit.program())
    file = shlex.quote(str(place.config))
    lines = [
        "",
        "Next:",
        f"  {command} check --config {file}",
        f"  {command} serve --config {file}",
        "As a service, as root:",
    ]
    if os.geteuid() == 0:
        lines.append(f"  useradd --system {unit.SERVICE_ACCOUNT}")
        if not place.managed:
            account = unit.SERVICE_ACCOUNT
            lines.append(f"  chown -R {account}: {shlex.quote(str(place.state))}")
    lines += [
        f"  cp {shlex.quote(str(place.folder / UNIT_FILE))} /etc/systemd/system/",
        "  systemctl daemon-reload && systemctl enable --now drmaaticd",
    ]
    return "\n".join(lines)
