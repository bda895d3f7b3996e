"""The cluster that the tests in this folder run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.inside.cells import Cell
from tests.cluster.inside.daemons import NAP, Cluster, on_cell
from tests.cluster.warden import ask


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    """The cell; what a test leaves in it is deleted."""
    made = Cell(tmp_path)
    yield made
    for job_id in made.submitted:
        ask("delete", job_id)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with on_cell(tmp_path) as service:
        service.script("nap", NAP)
        service.script("again", "rerunnable = true\n" + NAP)
        service.start()
        made = Cluster(service, tmp_path)
        try:
            yield made
        finally:
            ask("mend")
            ask("delete-all")
