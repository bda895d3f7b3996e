"""A service that answers what a test tells it, a client and a command for it; and no pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drmaaticd.client import Client, cli, logs, watching, wire
from tests.httpservice import Service


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own configuration, and short pauses."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("DRMAATIC_URL", "DRMAATIC_TOKEN", "DRMAATIC_PROVIDER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.001)
    for module in (watching, logs):
        monkeypatch.setattr(module, "FIRST_POLL", 0.001)
        monkeypatch.setattr(module, "LONGEST_POLL", 0.001)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url + "/") as made:
        yield made


@pytest.fixture
def drmaatic(service: Service) -> Callable[..., int]:
    """The command, in this process."""
    return lambda *words: cli.main(["--url", service.url, *map(str, words)])
