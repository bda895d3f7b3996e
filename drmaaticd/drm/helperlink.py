"""How the daemon and the helper under the jobs' account speak: lines of JSON over a stream socket.

One question, one answer, in turn; descriptors travel with a question's first byte (``SCM_RIGHTS``,
unix(7)). Neither side believes the other: lengths are bounded, and the daemon takes no descriptor.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

#: Bytes of a question and of an answer at most; an answer may list every process of the machine.
MAX_QUESTION = 4 * 1024 * 1024
MAX_ANSWER = 32 * 1024 * 1024

#: Descriptors that come with one question.
MAX_DESCRIPTORS = 3

_CHUNK = 64 * 1024


class BrokenLink(OSError):
    """The other side has gone, does not answer in time, or talks nonsense."""


def ask(link: socket.socket, question: dict[str, Any], descriptors: Sequence[int], seconds: float) -> Any:
    """Put a question and return what was answered. Raises `BrokenLink`."""
    deadline = time.monotonic() + seconds
    line = json.dumps(question).encode("ascii") + b"\n"
    try:
        link.settimeout(seconds)
        sent = socket.send_fds(link, [line], descriptors) if descriptors else 0
        link.sendall(line[sent:])
        answer = bytearray()
        while not answer.endswith(b"\n"):
            link.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = link.recv(_CHUNK)
            if not chunk or len(answer) + len(chunk) > MAX_ANSWER:
                raise BrokenLink("the helper under the jobs' account broke off")
            answer += chunk
        return json.loads(answer)
    except TimeoutError:
        raise BrokenLink("the helper under the jobs' account does not answer") from None
    except (ConnectionError, ValueError, RecursionError) as error:
        raise BrokenLink(f"the helper under the jobs' account failed: {error}") from None


def next_question(link: socket.socket) -> tuple[Any, list[int]] | None:
    """The next question with its descriptors, which are the caller's to close; None at the end.

    Raises ValueError for what is no question.
    """
    line = bytearray()
    descriptors: list[int] = []
    try:
        while not line.endswith(b"\n"):
            chunk, come, _, _ = socket.recv_fds(link, _CHUNK, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
            descriptors += come
            if not chunk:
                close(descriptors)
                return None
            line += chunk
            if len(line) > MAX_QUESTION:
                raise ValueError("the question is too long")
        return json.loads(line), descriptors
    except BaseException:
        close(descriptors)
        raise


def close(descriptors: Sequence[int]) -> None:
    """Close them all."""
    for descriptor in descriptors:
        os.close(descriptor)
