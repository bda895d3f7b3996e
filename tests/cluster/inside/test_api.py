"""The API's end-to-end tests, over the real cell: the same tests, another engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.inside.daemons import LIMIT_PATIENCE, on_cell
from tests.e2e.daemon import Daemon
from tests.e2e.test_api import *  # noqa: F403  # every test in it is collected here again
from tests.e2e.test_api import drop_scripts


@pytest.fixture(scope="module")
def slots() -> int:
    """The slots of the cell's queue."""
    return 8


@pytest.fixture(scope="module")
def limit_patience() -> float:
    return LIMIT_PATIENCE


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with on_cell(tmp_path_factory.mktemp("api")) as running:
        drop_scripts(running)
        yield running.start()
