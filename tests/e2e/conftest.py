"""The fixture `daemon`: real daemons, gone at the end of the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.daemon import daemon as context


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """`tests.e2e.daemon.daemon` as a function: ``service = daemon(scripts={…}, drm={"slots": 2})``.

    Its first daemon lives in ``tmp_path / "daemon"``; a further one needs a `folder` of its own.
    """
    with contextlib.ExitStack() as stack:

        def start(folder: Path | None = None, **options: Any) -> Daemon:
            folder = tmp_path / "daemon" if folder is None else folder
            folder.mkdir(exist_ok=True)
            return stack.enter_context(context(folder, **options))

        yield start
