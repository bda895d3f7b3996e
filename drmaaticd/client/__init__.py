"""The user's side: `Client` for Python programs, `drmaatic` for the command line (`client.cli`).

It speaks the REST API and shares no code with the daemon. What is named here is loaded when it is
first used: ``drmaatic --help`` needs neither requests nor a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drmaaticd.client.api import Client
    from drmaaticd.client.failures import ApiError, ClientError, Refused, Unreachable, WaitTimeout
    from drmaaticd.client.wording import File, Me, Script, Task

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "File",
    "Me",
    "Refused",
    "Script",
    "Task",
    "Unreachable",
    "WaitTimeout",
]

_HOMES = {"Client": "api", "File": "wording", "Me": "wording", "Script": "wording", "Task": "wording"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'failures')}"), name)
