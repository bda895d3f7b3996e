"""The user's side: `Client` for Python programs, `drmaatic` for the command line (`client.cli`).

It speaks the REST API and shares no code with the daemon.
"""

from drmaaticd.client.api import ApiError, Client, ClientError, Unreachable, WaitTimeout

__all__ = ["ApiError", "Client", "ClientError", "Unreachable", "WaitTimeout"]
