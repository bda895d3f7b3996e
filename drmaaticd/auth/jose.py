"""PyJWT, loaded when the first token comes into being.

With the cryptography that it brings along it takes 8 MB of memory and 50 ms, which a daemon without
accounts is spared, and the loop of one that gets its first.
"""

from __future__ import annotations

import asyncio
import functools
from types import ModuleType


@functools.cache
def jwt() -> ModuleType:
    """The module; the first call loads it."""
    import jwt as module

    return module


async def load() -> None:
    """Load it in a thread, so that the first use does not hold the loop up."""
    await asyncio.to_thread(jwt)
