"""What the daemon and its administrator's commands say to each other over a socket in the state folder.

One connection carries one request and one answer, a line of JSON each: ``{"do": NAME, ARGUMENT: VALUE…}``,
then ``{"result": …}`` or ``{"error": TEXT}``. Both sides bound the length and the time.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: The socket's name in the state folder.
SOCKET = "admin.socket"

#: Bytes of a request at most, the end of the line included.
MAX_REQUEST = 64 * 1024

#: Bytes of an answer at most: a list of half a million tokens.
MAX_ANSWER = 128 * 1024 * 1024

#: Seconds that the client waits for each part of the answer: a change waits for the disk.
ANSWER_SECONDS = 60.0


class AdminError(Exception):
    """The daemon cannot be asked, or has refused; worded for the administrator."""


@contextmanager
def short_path(state_dir: Path) -> Iterator[str]:
    """The socket's path in a form that fits ``sun_path`` (108 bytes, unix(7)), however long it is.

    Raises OSError.
    """
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


def ask(state_dir: Path, do: str, **arguments: Any) -> Any:
    """Ask the daemon that runs on this state folder; its result. Raises `AdminError`."""
    given = {name: value for name, value in arguments.items() if value is not None}
    line = json.dumps({"do": do, **given}).encode() + b"\n"
    if len(line) > MAX_REQUEST:
        raise AdminError("the arguments are too long")
    try:
        answer = json.loads(_exchange(state_dir, line))
    except TimeoutError:
        raise AdminError(
            f"the daemon on {state_dir} does not answer; whether it has done it is unknown"
        ) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise AdminError(f"no daemon runs on {state_dir}") from None
    except PermissionError:
        raise AdminError(
            f"{state_dir} is closed to this account: run this as root or as the daemon's own account"
        ) from None
    except OSError as error:
        raise AdminError(f"the daemon on {state_dir} cannot be asked: {error.strerror or error}") from None
    except ValueError:
        raise AdminError(f"the daemon on {state_dir} broke off; whether it has done it is unknown") from None
    if isinstance(answer, dict) and "result" in answer:
        return answer["result"]
    raise AdminError(str(answer.get("error")) if isinstance(answer, dict) else "the answer is nonsense")


def _exchange(state_dir: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, short_path(state_dir) as path:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        connection.sendall(line)
        with connection.makefile("rb") as answers:
            answer = answers.readline(MAX_ANSWER)
    if not answer.endswith(b"\n"):
        raise ValueError("not a whole line")
    return answer
