"""What the daemon is compared with: handlers of plain Tornado that do nothing but the thing itself.

``python -m benchmarks.bare FOLDER [JSON]``: GET ``/json`` writes the bytes of the file JSON, POST
``/upload`` and ``/upload-synced`` write their body into FOLDER as it comes, ``/static/`` sends what is
in FOLDER. POST ``/sbatch`` submits a job to Slurm, held, and ``/sbatch-synced`` has a record and the job's
script on the disk before that, as somebody would who wants to lose nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler, stream_request_body

LARGEST_BODY = 1 << 40

#: The jobs of all that is compared wait in the queue: they would take the processors that are measured.
HOLD = "--hold"

#: A job's script and a task's record, about as long as the daemon's.
SCRIPT = b"#!/bin/sh\nexit 0\n" + b"#" * 4096
RECORD = b"#" * 800 + b"\n"


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


class Sbatch(RequestHandler):
    """Submits a job under the name that the form has, and answers with its id."""

    def initialize(self, folder: Path, sync: bool) -> None:
        """Take the folder, and whether a record and the script are to be on the disk before."""
        self.folder = folder
        self.sync = sync

    async def post(self) -> None:
        """Submit, in a thread, and answer."""
        self.set_status(201)
        self.write({"job": await asyncio.to_thread(self._submit, self.get_body_argument("task_name"))})

    def _submit(self, name: str) -> str:
        if self.sync:
            self._write_down()
        return sbatch(name).decode().strip()

    def _write_down(self) -> None:
        place = self.folder / str(uuid4())
        place.mkdir()
        synced(place / "run.sh", SCRIPT)
        for folder in (place, self.folder):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(fd)
            os.close(fd)
        synced(self.folder / "journal", RECORD)


def synced(path: Path, data: bytes) -> None:
    """Append to a file, until it is on the disk."""
    with path.open("ab", buffering=0) as file:
        file.write(data)
        os.fdatasync(file.fileno())


def sbatch(name: str) -> bytes:
    """Submit a job that is held; its id. Raises CalledProcessError."""
    return subprocess.run(
        ["sbatch", "--parsable", HOLD, "--output=/dev/null", f"--job-name={name}"],
        input=b"#!/bin/sh\nexit 0\n",
        stdout=subprocess.PIPE,
        check=True,
        cwd="/",
    ).stdout


async def serve(folder: Path, body: bytes) -> None:
    """Serve until SIGTERM."""
    app = Application(
        [
            ("/json", Json, {"body": body}),
            ("/upload", Upload, {"folder": folder, "sync": False}),
            ("/upload-synced", Upload, {"folder": folder, "sync": True}),
            ("/sbatch", Sbatch, {"folder": folder, "sync": False}),
            ("/sbatch-synced", Sbatch, {"folder": folder, "sync": True}),
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
