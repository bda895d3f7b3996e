"""The catalogue of scripts: reads `scripts.d/*.toml`, and reads it anew when something changes.

A broken definition does no harm: it is reported, and its last good version stays in service.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drmaaticd import script_file
from drmaaticd.checked import Checked, StoredFile
from drmaaticd.errors import Finding
from drmaaticd.params import Param, Upload
from drmaaticd.program import Stamp, stamp
from drmaaticd.script import Resources, Script

__all__ = ["Catalogue", "Checked", "Param", "Resources", "Script", "StoredFile", "Upload"]


@dataclass(frozen=True)
class _Loaded:
    """What one reading of the folder came to."""

    scripts: Mapping[str, Script] = field(default_factory=dict)
    findings: Mapping[Path, tuple[Finding, ...]] = field(default_factory=dict)
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    """Every file that mattered; whether it has changed tells whether to read anew."""


class Catalogue:
    """The scripts of one folder. `load` and `changed` block and belong into a thread; the rest does not.

    `known_groups` are the configuration's groups: a script that names another gets a warning.
    """

    def __init__(self, scripts_dir: Path, known_groups: Collection[str] | None = None) -> None:
        self.scripts_dir = Path(os.path.abspath(scripts_dir))  # noqa: PTH100  (absolute() keeps "..")
        self._known_groups = known_groups
        self._loaded = _Loaded()
        self._loading = threading.Lock()
        self.version = 0
        """How often the definitions were read."""

    def load(self) -> list[Finding]:
        """Read all definitions, and put them in service at once when all are read.

        Returns the findings that the reading before did not have. A definition that is broken keeps
        its last good version; one that is gone is gone; if the folder itself cannot be read,
        everything stays.
        """
        with self._loading:
            before = self._loaded
            self._loaded = after = self._read(before)
            self.version += 1
        return [
            finding
            for file, findings in after.findings.items()
            for finding in findings
            if finding not in before.findings.get(file, ())
        ]

    def changed(self) -> bool:
        """Whether a definition or a program has come, gone or changed since the last reading."""
        stamps = self._loaded.stamps
        try:
            files = _definitions(self.scripts_dir)
        except OSError:
            files = [self.scripts_dir]
        return not stamps.keys() >= set(files) or any(stamp(file) != seen for file, seen in stamps.items())

    def get(self, name: str) -> Script | None:
        """The script of this name, if there is one."""
        return self._loaded.scripts.get(name)

    def all(self) -> list[Script]:
        """All scripts, by name."""
        return sorted(self._loaded.scripts.values(), key=lambda script: script.name)

    @property
    def findings(self) -> list[Finding]:
        """Everything that is wrong at present."""
        return [finding for findings in self._loaded.findings.values() for finding in findings]

    def _read(self, before: _Loaded) -> _Loaded:
        try:
            files = _definitions(self.scripts_dir)
        except OSError as error:
            message = f"the folder of the scripts cannot be read: {error.strerror}"
            finding = Finding(self.scripts_dir, message, "paths.scripts_dir")
            return _Loaded(
                before.scripts, {self.scripts_dir: (finding,)}, {self.scripts_dir: stamp(self.scripts_dir)}
            )
        scripts: dict[str, Script] = {}
        findings: dict[Path, tuple[Finding, ...]] = {}
        stamps: dict[Path, Stamp] = {}
        for file in files:
            stamps[file] = stamp(file)  # before it is read, so that a later change is not missed
            result = script_file.read(file, self.scripts_dir, self._known_groups)
            stamps |= result.programs
            findings[file] = result.findings
            script = result.script or before.scripts.get(file.stem)
            if script is not None:
                scripts[file.stem] = script
        return _Loaded(scripts, findings, stamps)


def _definitions(folder: Path) -> list[Path]:
    """The definitions, by name; editors' backups and temporary files are none. Raises `OSError`."""
    return sorted(
        file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith(".")
    )
