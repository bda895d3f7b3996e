"""What the daemon is compared with: handlers of plain Tornado that do nothing but the thing itself.

``python -m benchmarks.bare FOLDER [JSON]``: GET ``/json`` writes the bytes of the file JSON, POST
``/upload`` and ``/upload-synced`` write their body into FOLDER as it comes, ``/static/`` sends what is
in FOLDER.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler, stream_request_body

LARGEST_BODY = 1 << 40


class Json(RequestHandler):
    """Writes bytes that were made before."""

    def initialize(self, body: bytes) -> None:
        """Take the bytes."""
        self.body = body

    def get(self) -> None:
        """Write them."""
        self.set_header("Content-Type", "application/json")
        self.write(self.body)


@stream_request_body
class Upload(RequestHandler):
    """Writes each chunk to a file, which nobody reads: it is removed at the end."""

    def initialize(self, folder: Path, sync: bool) -> None:
        """Take the folder, and whether the file is to be on the disk before the answer."""
        self.folder = folder
        self.sync = sync

    def prepare(self) -> None:
        """Open the file."""
        self.path = self.folder / f"upload-{id(self):x}"
        self.file: BinaryIO = self.path.open("wb", buffering=0)

    def data_received(self, chunk: bytes) -> None:
        """Write a chunk."""
        self.file.write(chunk)

    def post(self) -> None:
        """Answer."""
        if self.sync:
            os.fdatasync(self.file.fileno())
        self.file.close()
        self.write({"size": self.path.stat().st_size})

    def on_finish(self) -> None:
        """Remove the file: this is not part of what is measured."""
        self.path.unlink()


async def serve(folder: Path, body: bytes) -> None:
    """Serve until SIGTERM."""
    app = Application(
        [
            ("/json", Json, {"body": body}),
            ("/upload", Upload, {"folder": folder, "sync": False}),
            ("/upload-synced", Upload, {"folder": folder, "sync": True}),
            ("/static/(.*)", StaticFileHandler, {"path": str(folder)}),
        ]
    )
    server = HTTPServer(app, max_body_size=LARGEST_BODY)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    json = Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else b"{}"
    asyncio.run(serve(Path(sys.argv[1]), json))
