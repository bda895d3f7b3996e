"""The keys that sign the daemon's own tokens: one file, made on first start, for its account alone.

The newest key signs; older ones verify until their time is up, so that a rotation ends no token
unasked.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from drmaaticd.errors import StoreError

log = logging.getLogger(__name__)

FILE = "token.key"
MODE = 0o600

#: Bytes of a key: as many as the hash has (RFC 7518, section 3.2).
KEY_BYTES = 32

#: Largest file that is read.
MAX_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Times are seconds since 1970."""

    kid: str
    secret: bytes
    created: float
    until: float | None = None
    """When it stops verifying; None while it is the one that signs."""

    def __repr__(self) -> str:
        return f"Key({self.kid!r})"


class KeyRing:
    """All keys in force. The methods that write block; one instance, owned by the accounts."""

    def __init__(self, path: Path, instance: str, keys: list[Key]) -> None:
        self._path = path
        self.instance = instance
        """Names this installation, so that another one's tokens are not for it."""
        self._keys = {key.kid: key for key in keys}
        self._current = next(key for key in keys if key.until is None)

    @classmethod
    def open(cls, state_dir: Path, now: float) -> Self:
        """Read the key file, or make it. Blocks. Raises `StoreError` for one that cannot be used."""
        path = state_dir / FILE
        try:
            text = _read(path)
        except FileNotFoundError:
            ring = cls(path, str(uuid.uuid4()), [_new(now)])
            ring._write()
            log.info("made the key that signs tokens: %s", path)
            return ring
        except OSError as error:
            raise StoreError(f"the key that signs tokens cannot be read: {error}") from error
        try:
            document = json.loads(text)
            return cls(path, _text(document["instance"]), [_key(one) for one in document["keys"]])
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            # The text of the error could hold a piece of the file, which is secret.
            raise StoreError(
                f"{path} is damaged: put it back from a copy, or remove it, which ends every token"
            ) from error.with_traceback(None)

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self._current

    def get(self, kid: str, now: float) -> Key | None:
        """The key of this id, if it still verifies."""
        key = self._keys.get(kid)
        return key if key is not None and (key.until is None or now < key.until) else None

    def __len__(self) -> int:
        return len(self._keys)

    def rotate(self, until: float, now: float) -> None:
        """Sign with a new key from now on; the others verify until then at most. Blocks.

        Raises OSError; the old keys are in force then.
        """
        old = [
            replace(key, until=until if key.until is None else min(key.until, until))
            for key in self._keys.values()
        ]
        new = _new(now)
        keys = [key for key in old if key.until is not None and key.until > now] + [new]
        changed = type(self)(self._path, self.instance, keys)
        changed._write()
        self._keys, self._current = changed._keys, new

    def _write(self) -> None:
        document = {"instance": self.instance, "keys": [_document(key) for key in self._keys.values()]}
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        temporary = f".{FILE}.{secrets.token_hex(4)}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE, dir_fd=folder)
            try:
                with os.fdopen(fd, "w", encoding="ascii") as file:
                    json.dump(document, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, FILE, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o077:
            log.warning(
                "%s was open to other accounts (mode %04o) and is closed now: if one of them may have read "
                "it, run drmaaticd token rotate-key",
                path,
                mode,
            )
            os.fchmod(fd, MODE)
        return file.read(MAX_FILE)


def _new(now: float) -> Key:
    return Key(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES), now)


def _document(key: Key) -> dict[str, Any]:
    secret = base64.b64encode(key.secret).decode("ascii")
    return {"kid": key.kid, "secret": secret, "created": key.created, "until": key.until}


def _key(document: Mapping[str, Any]) -> Key:
    secret = base64.b64decode(document["secret"], validate=True)
    if len(secret) < KEY_BYTES:
        raise ValueError("a key is too short")
    until = document["until"]
    return Key(
        _text(document["kid"]), secret, float(document["created"]), None if until is None else float(until)
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("no text")
    return value
