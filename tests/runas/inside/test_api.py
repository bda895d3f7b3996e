"""The API's end-to-end tests once more, with the jobs under a second account."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.test_api import *  # noqa: F403  # every test in it is collected here again
from tests.e2e.test_api import SLOTS, drop_scripts
from tests.runas.places import with_jobs_apart


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with with_jobs_apart(
        tmp_path_factory.mktemp("api"), drm={"slots": SLOTS}, groups={"staff": {}}
    ) as running:
        drop_scripts(running)
        yield running.start()
