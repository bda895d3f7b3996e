"""The daemon's configuration: from `drmaaticd.toml`, or without any file, to one frozen `Config`.

What a file may say is in `settings`; the reference page and the sample file are made in
`config_docs`. Every finding of a file is reported at once.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from drmaaticd import toml_source
from drmaaticd.config_docs import reference, sample
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.places import is_loopback
from drmaaticd.settings import (
    SECTIONS,
    Auth,
    Compat,
    Drm,
    Group,
    Native,
    Paths,
    Provider,
    Retention,
    Server,
    default_groups,
)
from drmaaticd.toml_source import KeyPath, Source
from drmaaticd.units import parse_duration, parse_rate, parse_size
from drmaaticd.validation import Model, check_group_name, shown, unknown_key, validate

__all__ = [
    "Auth",
    "Compat",
    "Config",
    "Drm",
    "Group",
    "Native",
    "Paths",
    "Provider",
    "Retention",
    "Server",
    "default_base",
    "defaults",
    "load",
    "parse_duration",
    "parse_rate",
    "parse_size",
    "reference",
    "sample",
    "samples_dir",
]

#: Who has no file has no place for a finding either.
NO_FILE = Path("embedded defaults")

#: Paths that every DRM passes on as they are; slurm-drmaa, for one, writes them unquoted into a
#: shell script, and others expand ``%`` and ``$`` or split at ``:`` and blanks.
HARMLESS_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


class Config(Model):
    """Everything that is configured. Paths are absolute, durations seconds, sizes bytes."""

    file: Path | None = None
    server: Server = Server()
    paths: Paths
    drm: Drm = Drm()
    auth: Auth = Auth()
    groups: dict[str, Group] = default_groups()
    retention: Retention = Retention()
    compat: Compat = Compat()

    @property
    def public_url(self) -> str:
        """The base URL of links, without a trailing slash."""
        if self.server.url is not None:
            return self.server.url
        address = self.server.address
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self.server.port}"

    def listening_on(self, port: int) -> Config:
        """Return this configuration with the port that was bound, where 0 (any) was asked for."""
        return self.model_copy(update={"server": self.server.model_copy(update={"port": port})})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together across sections."""
        tasks_dir = str(self.paths.tasks_dir)
        if self.drm.backend != "local" and not HARMLESS_PATH.fullmatch(tasks_dir):
            yield (
                ("paths", "tasks_dir"),
                f'must be a path of letters, digits and /._+- alone with backend "{self.drm.backend}", since '
                f"a DRM passes it on unquoted (got {shown(tasks_dir)})",
            )

    def warnings(self) -> list[Finding]:
        """Return what works but is likely not meant, or not safe. Blocking: looks at files."""
        source = _source_for_lines(self.file)
        return [
            source.finding(path, message, warning=True)
            for part in (_server_warnings(self.server), _auth_warnings(self.auth))
            for path, message in part
        ]


def load(path: Path) -> Config:
    """Read a configuration file. Raises `ConfigurationError` with everything that is wrong."""
    source = toml_source.read(path.absolute())
    findings = [
        source.finding((key,), unknown_key(key, SECTIONS)) for key in source.data if key not in SECTIONS
    ]
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        table = source.data.get(name, {})
        value: Any
        value, found = _groups(table, source) if name == "groups" else _section(name, model, table, source)
        findings += found
        if value is not None:
            sections[name] = value
    made = _assemble(sections, source, findings)
    if made is None or findings:
        raise ConfigurationError(sorted(findings, key=lambda finding: finding.line or 0))
    return made


def defaults() -> Config:
    """Return the configuration for no file at all: embedded engine, state in the account's place."""
    return Config(paths=Paths(**_default_paths(samples_dir())))


def default_base() -> Path:
    """Where state and tasks are unless told: ``/var/lib/drmaaticd`` for root, else XDG's state home.

    Source: XDG Base Directory Specification, ``XDG_STATE_HOME``, which counts only if absolute.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/drmaaticd")
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "drmaaticd"


def samples_dir() -> Path:
    """The sample scripts that travel with the package, or those of the checkout it runs from."""
    package = Path(__file__).resolve().parent
    installed = package / "share" / "scripts.d"
    return installed if installed.is_dir() else package.parent / "scripts.d"


def _default_paths(scripts_dir: Path) -> dict[str, Path]:
    base = default_base()
    return {"state_dir": base / "state", "tasks_dir": base / "tasks", "scripts_dir": scripts_dir}


S = TypeVar("S", bound=Model)


def _section(name: str, model: type[S], table: Any, source: Source) -> tuple[S | None, list[Finding]]:
    if name == "paths" and isinstance(table, dict):
        # A file without `scripts_dir` means the folder beside it, not the samples.
        table = _default_paths(source.file.parent / "scripts.d") | table
    return validate(model, table, source, (name,))


def _groups(tables: Any, source: Source) -> tuple[dict[str, Group] | None, list[Finding]]:
    if not isinstance(tables, dict):
        return None, [source.finding(("groups",), f"must be a table (got {shown(tables)})")]
    groups = default_groups()
    findings = []
    for name, table in tables.items():
        path = ("groups", name)
        if not isinstance(table, dict) and name in Group.model_fields:
            findings.append(
                source.finding(path, "belongs into a table of a group, such as [groups.registered]")
            )
            continue
        try:
            check_group_name(name)
        except ValueError as error:
            findings.append(source.finding(path, str(error)))
        group, found = validate(Group, table, source, path)
        findings += found
        if group is not None:
            groups[name] = group
            if group.admin and name == "anonymous":
                findings.append(
                    source.finding((*path, "admin"), "must be false: the anonymous may be anyone")
                )
    return (None if findings else groups), findings


def _assemble(sections: Mapping[str, Any], source: Source, findings: list[Finding]) -> Config | None:
    """Make the whole of its sections, with defaults for the broken ones so that the rest is checked."""
    try:
        given = dict(sections)
        given.setdefault("paths", Paths(**_default_paths(source.file.parent / "scripts.d")))
        return Config(file=source.file, **given)
    except ValidationError as error:
        for item in error.errors():
            for key, message in item["ctx"]["problems"]:
                findings.append(source.finding(key, message))
        return None


def _source_for_lines(file: Path | None) -> Source:
    """The file once more, for the lines of its keys; if it has gone, findings have no lines."""
    if file is None:
        return Source(NO_FILE, {})
    try:
        return toml_source.read(file)
    except ConfigurationError:
        return Source(file, {})


def _server_warnings(server: Server) -> Iterator[tuple[KeyPath, str]]:
    if (
        not is_loopback(server.address)
        and not server.trusted_proxies
        and not (server.url or "").startswith("https:")
    ):
        yield (
            ("server", "address"),
            f"{server.address} is reached from other machines without https: tokens and data travel in the "
            "clear; put a reverse proxy with TLS before it, and name it in trusted_proxies and url",
        )
    if server.url is None and server.address in ("0.0.0.0", "::"):  # noqa: S104
        yield (
            ("server", "url"),
            f"is not set: links begin with http://{server.address}, which no client can follow",
        )
    url = urlsplit(server.url or "")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        yield ("server", "url"), "is no https URL: tokens and data travel in the clear"
    for key in ("trusted_proxies", "metrics_allow"):
        for index, network in enumerate(getattr(server, key)):
            if ipaddress.ip_network(network).prefixlen == 0:
                yield ("server", key, index), "means every address there is"


def _auth_warnings(auth: Auth) -> Iterator[tuple[KeyPath, str]]:
    if not auth.anonymous and not auth.providers:
        yield ("auth", "providers"), "there are none, and anonymous is false: nobody can sign in"
    for index, provider in enumerate(auth.providers):
        place: KeyPath = ("auth", "providers", index)
        if not provider.client_ids:
            yield (
                (*place, "client_ids"),
                f"{provider.name}: is empty, so that tokens issued to any client are taken: any site that a "
                "person has signed in to could act for them",
            )
        for key in ("introspection_secret_file", "client_secret_file"):
            if (secret := getattr(provider, key)) is not None:
                yield from _secret_warnings((*place, key), secret)


def _secret_warnings(place: KeyPath, secret: Path) -> Iterator[tuple[KeyPath, str]]:
    try:
        mode = secret.stat().st_mode
    except OSError as error:
        yield place, f"{secret} cannot be read: {error.strerror}"
        return
    if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        yield place, f"{secret} is readable or writable for others (mode {stat.S_IMODE(mode):04o})"
