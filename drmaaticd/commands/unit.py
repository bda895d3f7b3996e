"""The systemd unit for one installation in one place, made from the unit that the package ships.

Where the files of a place are is decided by `init`; what each line is for, the unit itself says.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drmaaticd.config import samples_dir

#: The account for a unit that root writes: a service does not need root.
SERVICE_ACCOUNT = "drmaaticd"


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs between places. `state_directory` is systemd's own name below /var/lib, if it fits."""

    command: Sequence[str]
    account: str
    config: Path
    writable: Path
    """The folder with state and tasks."""
    state_directory: str | None = None

    def render(self, template: str) -> str:
        """The unit's text: the template with its lines for these keys replaced."""
        path = quote(str(self.writable))
        managed = self.state_directory
        lines = {
            "RequiresMountsFor": path,
            "ExecStart": command_line([*self.command, "serve", "--config", str(self.config)]),
            "User": self.account,
            "Group": None if self.account != SERVICE_ACCOUNT else self.account,
            # Taken to the end of the line: no quotes here.
            "WorkingDirectory": str(self.writable).replace("%", "%%"),
            "StateDirectory": managed,
            "StateDirectoryMode": "0750" if managed else None,
            "ReadWritePaths": "/tmp /var/tmp" if managed else f"/tmp /var/tmp {path}",  # noqa: S108
        }
        return "".join(_replaced(line, lines) for line in template.splitlines(keepends=True))


def _replaced(line: str, lines: Mapping[str, str | None]) -> str:
    key, equals, _ = line.partition("=")
    if not equals or key not in lines:
        return line
    value = lines[key]
    return "" if value is None else f"{key}={value}\n"


def quote(word: str) -> str:
    """A word as systemd.syntax(7) reads it back: specifiers doubled, in quotes if it needs them."""
    word = word.replace("%", "%%")
    if word and not set(word) & set(" \"'\\;"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def command_line(words: Sequence[str]) -> str:
    """The words for ``ExecStart=``, where ``$`` begins a variable in all but the first."""
    first, *others = words
    return " ".join([quote(first), *(quote(word.replace("$", "$$")) for word in others)])


def template() -> str:
    """The text of the unit that travels with the package, or that of the checkout."""
    beside = samples_dir().parent
    places = (beside / "drmaaticd.service", beside / "systemd" / "drmaaticd.service")
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def program() -> list[str]:
    """How this very installation is started."""
    script = Path(sysconfig.get_path("scripts")) / "drmaaticd"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "drmaaticd"]
