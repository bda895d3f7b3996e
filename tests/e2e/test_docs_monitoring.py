"""The session in docs/monitoring.md, and that its table names the metrics that there are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests import consoles
from tests.e2e.daemon import ROOT, Daemon, daemon

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("monitoring")
    with daemon(folder, server={"metrics_allow": ["127.0.0.1"]}) as running:
        yield running


def test_the_session(service: Daemon) -> None:
    commands = consoles.session(PAGE)
    assert len(commands) == 4
    for command, expected in commands:
        done = subprocess.run(
            ["sh", "-c", f"URL={service.url}\n{command}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert consoles.says(expected, done.stdout), (command, done.stdout)


def test_the_table_names_the_metrics_and_their_labels(service: Daemon) -> None:
    requests.get(f"{service.url}/health", timeout=30)  # so that something was counted
    told = requests.get(f"{service.url}/metrics", timeout=30).text
    found = {}
    for family in text_string_to_metric_families(told):
        if family.name.startswith("drmaaticd_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert family.documentation, name
    rows = re.findall(r"^\| `(drmaaticd_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == found
