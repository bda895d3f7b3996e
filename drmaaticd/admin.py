"""The daemon's side of the administrator's socket: who may ask, what may be asked.

The protocol is `admin_protocol`'s, what is done is `auth.accounts`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from drmaaticd.admin_protocol import MAX_REQUEST, SOCKET, short_path
from drmaaticd.auth.accounts import Accounts
from drmaaticd.errors import DrmaaticdError, InvalidInput

log = logging.getLogger(__name__)

#: Seconds in which a request must have come, and an answer been taken.
REQUEST_SECONDS = 10.0
WRITE_SECONDS = 60.0

#: Connections at the same time.
MAX_CONNECTIONS = 32

#: struct ucred of unix(7): pid, uid, gid.
_CREDENTIALS = struct.Struct("3i")

#: What may be asked, and which arguments of which types go with it.
_NUMBER = (int, float)
_ARGUMENTS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "user.list": {},
    "user.show": {"name": str},
    "user.set": {"name": str, "group": str, "disabled": bool},
    "token.issue": {"name": str, "group": str, "lifetime": _NUMBER},
    "token.revoke": {"jti": str, "user": str},
    "token.list": {"user": str},
    "token.rotate-key": {"overlap": _NUMBER},
}
_REQUIRED = ("name",)


class AdminSocket:
    """Listens from `start` to `close`. The caller holds the state folder's lock."""

    def __init__(self, state_dir: Path, accounts: Accounts) -> None:
        self._state_dir = state_dir
        self._accounts = accounts
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, in place of a socket that a killed daemon has left. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            (self._state_dir / SOCKET).unlink(missing_ok=True)
            with short_path(self._state_dir) as path:
                sock.bind(path)
            (self._state_dir / SOCKET).chmod(0o600)  # before it listens
            sock.setblocking(False)
            self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=MAX_REQUEST)
        except BaseException:
            sock.close()
            raise

    async def close(self) -> None:
        """Take nothing more, end what is under way, remove the socket. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        with contextlib.suppress(OSError):  # it is replaced at the next start
            (self._state_dir / SOCKET).unlink(missing_ok=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer(writer.get_extra_info("socket"))
            async with asyncio.timeout(REQUEST_SECONDS):  # a refusal too comes after the request
                line = await reader.readuntil(b"\n")
            if uid not in (0, os.geteuid()):
                log.warning("the account with uid %d was refused at the admin socket", uid)
                answer: dict[str, Any] = {"error": "only root and the daemon's own account may ask"}
            else:
                answer = await self._answer(line, f"uid {uid}")
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(WRITE_SECONDS):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.debug("a connection to the admin socket came to nothing: %r", error)
        finally:
            writer.transport.abort()

    async def _answer(self, line: bytes, by: str) -> dict[str, Any]:
        try:
            function, arguments = self._parse(line, by)
            result = function(**arguments)
            return {"result": await result if isinstance(result, Awaitable) else result}
        except DrmaaticdError as error:
            details = [f"{one.name}: {one.detail}" for one in error.errors]
            return {"error": " ".join([error.detail or error.title, *details])}
        except OSError as error:
            return {"error": f"the daemon could not do it: {error.strerror or error}"}
        except Exception:
            log.exception("a request at the admin socket failed")
            return {"error": "the daemon failed; its log says why"}

    def _parse(self, line: bytes, by: str) -> tuple[Callable[..., Any], dict[str, Any]]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidInput("The request is not JSON.") from None
        do = request.pop("do", None) if isinstance(request, dict) else None
        if not isinstance(do, str) or do not in _ARGUMENTS:
            raise InvalidInput("The daemon does not know this request: it may be of another version.")
        _check(request, _ARGUMENTS[do])
        accounts = self._accounts
        readers: dict[str, Callable[..., Any]] = {
            "user.list": accounts.list_users,
            "user.show": accounts.show_user,
            "token.list": accounts.list_tokens,
        }
        writers: dict[str, Callable[..., Any]] = {
            "user.set": accounts.set_user,
            "token.issue": accounts.issue_token,
            "token.revoke": accounts.revoke_token,
            "token.rotate-key": accounts.rotate_key,
        }
        if do in readers:
            return readers[do], request
        return writers[do], {**request, "by": by}


def _check(arguments: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]) -> None:
    for name, value in arguments.items():
        kind = types.get(name)
        if kind is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidInput(f"The request's {name} is not known or of the wrong type.")
    for name in _REQUIRED:
        if name in types and name not in arguments:
            raise InvalidInput(f"The request needs {name}.")


def _peer(connection: socket.socket) -> int:
    """The user id of the process at the other end (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)
