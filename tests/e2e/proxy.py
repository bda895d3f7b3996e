"""A TCP proxy on loopback whose connections break off when a test says so.

with Proxy(service.url) as proxy:
    proxy.cut_answers = [100_000]     # the next connection breaks after so many bytes from the service
    requests.get(proxy.url, timeout=10)
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self
from urllib.parse import urlsplit

BLOCK = 64 * 1024


class Proxy:
    """Hands bytes on in both directions. Connections that are cut are reset (RST), as by a lost host."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self.cut_requests: list[int] = []
        """Bytes to the service after which the next connections break, one each; then none does."""
        self.cut_answers: list[int] = []
        """The same for bytes from the service."""
        self.cuts = 0
        """How many connections were broken so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the end of the listener is the end of this
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open |= {near, far}
                for source, sink, cuts in ((near, far, self.cut_requests), (far, near, self.cut_answers)):
                    threading.Thread(target=self._pump, args=(source, sink, cuts), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, cuts: list[int]) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                if cuts and passed + len(data) > cuts[0]:
                    sink.sendall(data[: max(0, cuts.pop(0) - passed)])
                    self.cuts += 1
                    for one in (source, sink):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                sink.sendall(data)
                passed += len(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)
