"""What every command is handed: its arguments, the screen, and the service once it is needed."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

from drmaaticd.client.api import Client
from drmaaticd.client.failures import ApiError, ClientError
from drmaaticd.client.status import FINE, of_error
from drmaaticd.client.terminal import Screen, print_json, printable

#: Seconds of a pause before a second try that a person is told of.
WORTH_TELLING = 2.0


class Interrupted(Exception):
    """Ctrl-C, at a moment about which there is something to say."""


class Session:
    """One run of ``drmaatic``."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.screen = Screen()

    @functools.cached_property
    def client(self) -> Client:
        """The service that `--url`, the environment or the last sign-in names."""
        return Client.from_environment(self.arguments.url, notice=self._notice)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "client" in vars(self):
            self.client.close()

    @property
    def as_json(self) -> bool:
        """Whether another program reads the output."""
        return bool(self.arguments.json)

    def say(self, text: str) -> None:
        """Tell the user, on standard error."""
        self.screen.say("\n".join(f"drmaatic: {line}" for line in text.splitlines()))

    def _notice(self, error: ClientError, pause: float) -> None:
        if pause >= WORTH_TELLING or self.screen.watched:
            said = str(error).splitlines()[0].rstrip(".")
            self.say(f"{said}; again in {pause:.0f} s" if pause >= 1 else f"{said}; again")

    def each(self, tasks: Sequence[str], act: Callable[[str], str]) -> int:
        """Do something with each task; one that fails does not keep the others from it.

        The exit status is that of the first failure.
        """
        results: list[dict[str, Any]] = []
        status = FINE
        for task in tasks:
            try:
                results.append({"uuid": task, "detail": act(task)})
                line = f"{task}: {results[-1]['detail']}"
                if not self.as_json:
                    print(printable(line), flush=True)
            except ClientError as error:
                status = status or of_error(error)
                results.append({"uuid": task, "error": advised(error)})
                self.say(f"{task}: {results[-1]['error']}")
        if self.as_json:
            print_json(results)
        return status


def advised(error: ClientError) -> str:
    """The error, and what its reader can do about it."""
    text = str(error)
    if isinstance(error, ApiError):
        if error.status == 401:
            return f"{text}\n`drmaatic login` signs in"
        if error.retry_after is not None:
            return f"{text}\ntry again in {error.retry_after:.0f} s"
        if error.uuid is not None:
            return f"{text}\nthe task is kept as {error.uuid}"
        if error.status >= 500 and error.request_id:
            return f"{text}\nthe service's administrators find it in their log as {error.request_id}"
    return text
