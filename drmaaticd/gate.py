"""The one gate through which work that blocks on files leaves the loop.

A bounded pool of named threads. The DRM has threads of its own, in its engine; the journal too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for file work. More than a few gain nothing on one disk, and a file system that hangs
#: must not be able to take them all from one caller at once.
FILE_THREADS = 8


class FileGate:
    """Runs blocking functions in threads; `close` waits for what is under way."""

    def __init__(self, threads: int = FILE_THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="files")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``function(*args, **kwargs)``, run in a thread.

        The thread finishes its work even if the awaiting task is cancelled.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Let what is under way finish, and end the threads."""
        self._pool.shutdown(wait=True)
