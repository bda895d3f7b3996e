"""What a request's path names: a task's UUID, the bytes of a file's path. Pure.

A path is percent-decoded exactly once and component by component, so that ``%2F`` makes no folder.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from drmaaticd.errors import NotFound

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_NAMES = frozenset({b"", b".", b".."})


def task_uuid(text: str) -> str:
    """The UUID in lower case (RFC 9562, section 4). Anything else raises `NotFound`."""
    uuid = text.lower()
    if not _UUID.fullmatch(uuid):
        raise NotFound("There is no such task.")
    return uuid


def file_path(raw: str) -> bytes:
    """The bytes of a relative path, from the percent-encoded text of a request's path.

    `raw` is as it came over the wire, decoded as Latin-1; one slash at its end is dropped. An empty
    component, ``.``, ``..``, and an encoded slash or NUL name nothing: `NotFound`.
    """
    names = [unquote_to_bytes(part.encode("latin-1")) for part in raw.removesuffix("/").split("/")]
    if any(name in _NOT_NAMES or b"/" in name or b"\0" in name for name in names):
        raise NotFound("There is no such file.")
    return b"/".join(names)
