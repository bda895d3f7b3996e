"""What every test has: a check that nothing unexpected was logged."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.disks import small_disk  # noqa: F401  # a fixture for all

_SKIPPED = pytest.StashKey[bool]()


def pytest_configure() -> None:
    """Have no event loop but those that tests make and close, and no test judged by its time.

    The first question for a loop, which pytest-tornado asks, would make one that nobody closes.
    """
    asyncio.set_event_loop(None)
    # How long an example takes says more about the machine than about the code.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which tests were skipped, in their set-up or later. With ``CI=true`` no test may be."""
    report = yield
    if report.skipped:
        item.stash[_SKIPPED] = True
        if os.environ.get("CI") == "true":
            report.outcome = "failed"
            report.longrepr = f"CI must run every test, but this one was skipped: {report.longrepr}"
    return report


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
    if request.node.stash.get(_SKIPPED, False):
        return
    assert not missing, f"expected log records that did not come: {missing}"
