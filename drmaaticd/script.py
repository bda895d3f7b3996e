"""One script as it is offered: what it runs, what it asks for, and which parameters it takes.

How it is read from a file is said in `script_file`; who may run it is decided by the service.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drmaaticd.checked import Checked, check
from drmaaticd.drm.base import Array
from drmaaticd.params import Param, Upload


@dataclass(frozen=True, slots=True)
class Resources:
    """What each of a script's jobs asks the DRM for."""

    queue: str | None = None
    cpus: int = 1
    memory: int | None = None
    """Bytes for the whole job."""
    max_clock_time: int | None = None
    """Seconds of wall-clock time."""
    native: str = ""
    """The administrator's own words, appended to the DRM's native specification."""
    qos: str | None = None
    licenses: str | None = None
    """With their numbers, in the DRM's own form."""
    gres: str | None = None
    """Generic resources such as GPUs, in the DRM's own form."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """One script; immutable, so that a task is checked and started by the same version."""

    name: str
    file: Path
    description: str = ""
    required_tokens: int = 1
    """CPU credit that a task costs."""
    groups: tuple[str, ...] = ()
    """Groups whose members may run it; empty: everyone."""
    is_output_visible: bool = False
    html_scripts: bool = False
    rerunnable: bool = False
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    """Shell lines that run before the command."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resources: Resources = Resources()
    array: Array | None = None
    params: tuple[Param, ...] = ()
    command: Path | None = None
    """The absolute path of the program, None for an inline script."""
    inline: str | None = None
    content: bytes = b""
    """The program as it was when the definition was read; empty if it does not travel."""
    travels: bool = True
    """Whether `content` is what runs, wherever it is put; else the program runs in its own place."""

    def check(
        self,
        fields: Mapping[str, Sequence[str]],
        files: Mapping[str, Sequence[Upload]],
        *,
        ignore_unknown: bool = False,
    ) -> Checked:
        """Check a request's text fields and files against the parameters.

        Raises `InvalidInput` with a `FieldError` for every wrong field.
        """
        return check(self.params, fields, files, ignore_unknown=ignore_unknown)

    def public(self, admin: bool = False) -> dict[str, Any]:
        """The script as the API shows it (API.md, Scripts)."""
        shown: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "required_tokens": self.required_tokens,
            "param": [param.public(admin=admin) for param in self.params if admin or param.private is None],
        }
        return shown | self._inside() if admin else shown

    def _inside(self) -> dict[str, Any]:
        """What an administrator sees beside."""
        resources, array = self.resources, self.array
        inside = {
            "command": str(self.command) if self.command else None,
            "groups": list(self.groups),
            "queue": resources.queue,
            "cpus": resources.cpus,
            "memory_mb": math.ceil(resources.memory / 1024**2) if resources.memory else None,
            "max_clock_time": resources.max_clock_time,
            "is_array": array is not None,
            "begin_index": array.begin if array else None,
            "end_index": array.end if array else None,
            "step_index": array.step if array else None,
            "is_output_visible": self.is_output_visible,
        }
        return {key: value for key, value in inside.items() if value is not None}
