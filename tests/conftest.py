"""What every test has: a check that nothing unexpected was logged."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from tests.disks import small_disk  # noqa: F401  # a fixture for all


@pytest.fixture(autouse=True)
def _no_unexpected_log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that logs a warning or worse, unless ``@pytest.mark.logs(pattern)`` expects it.

    Every expected pattern must occur.
    """
    yield
    patterns = [mark.args[0] for mark in request.node.iter_markers("logs")]
    seen = [
        record.getMessage()
        for phase in ("setup", "call", "teardown")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING and not record.name.startswith("hypothesis")
    ]
    unexpected = [text for text in seen if not any(re.search(pattern, text) for pattern in patterns)]
    missing = [pattern for pattern in patterns if not any(re.search(pattern, text) for text in seen)]
    assert not unexpected, f"unexpected log records: {unexpected}"
    assert not missing, f"expected log records that did not come: {missing}"
