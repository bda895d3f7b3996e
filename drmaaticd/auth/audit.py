"""The audit trail: one structured line for each decision that matters, on a logger of its own.

A line holds who, from where, by which request and about what; never a token, a secret or the content
of a file. As text it reads ``event key=value …``; with ``--log-format json`` every value is a member of
the record.
"""

from __future__ import annotations

import json
import logging
import re

from drmaaticd import context

log = logging.getLogger("drmaaticd.audit")

#: Values that need no quotes to be told apart.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@/+-]+")


def record(
    event: str,
    *,
    user: str | None = None,
    address: str | None = None,
    task: str | None = None,
    **more: object,
) -> None:
    """Write one line. `event` is a noun and what happened to it (``token.issued``).

    `user` is the key of a user, None for the anonymous; what is None is left out.
    """
    given = {"user": user, "address": address, "task": task, **more, "request_id": context.request_id.get()}
    fields = {name: value for name, value in given.items() if value is not None}
    words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    log.info("%s %s", event, words, extra={"event": event, **fields})


def _word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=True)
