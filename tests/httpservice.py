"""A small HTTP server that answers what a test tells it, for the client's tests."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import multipart

TASK = "6f1c3d1e-8a52-4b9e-9b5e-1c2d3e4f5a6b"

#: As a status: read the request, and close the connection without an answer.
CUT = 0

Answer = tuple[int, dict[str, str], bytes]
Made = Callable[[dict[str, str]], Answer]
"""An answer that is made from the request's headers."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go when it has seen enough; anything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Service:
    """Answers from a table and remembers what it was asked: method, path, headers, body."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer | Made]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.command, self.path, dict(self.headers), body))
                queue = service.answers.get(f"{self.command} {self.path}", [(404, {}, b"{}")])
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                status, headers, content = answer(service.requests[-1][2]) if callable(answer) else answer
                if status == CUT:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                length = "0" if self.command == "HEAD" else str(len(content))
                if status != 204:
                    self.send_header("Content-Length", headers.get("X-Length", length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.close_connection = "X-Length" in headers

            do_HEAD = do_GET = do_POST = do_PUT = do_DELETE = _answer

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, request: str, *answers: Any, status: int = 200, **headers: str) -> None:
        """Answer a request ("GET /path") with these one after the other, the last one for ever."""
        self.answers[request] = [
            (status, headers, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            for answer in answers
        ]

    def asked(self, method: str) -> list[str]:
        """The paths of the requests with this method, so far."""
        return [path for asked, path, _, _ in self.requests if asked == method]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def task(state: str = "done", **more: Any) -> dict[str, Any]:
    """A task as the service shows it."""
    return {
        "uuid": TASK,
        "task_name": "stats",
        "task_description": "",
        "status": state,
        "state": state,
        "creation_date": "2026-11-24T10:00:00.123Z",
        "update_date": "2026-11-24T10:00:00.123Z",
        "descendants": [],
        "depends_on": [],
        "has_owner": False,
        "files_name": {},
        "params": [],
        "is_mine": False,
        "is_output_visible": False,
        "stdout": f"{TASK[:8]}_out.txt",
        "stderr": f"{TASK[:8]}_err.txt",
        **more,
    }


class Content:
    """A file with an entity tag that honours ranges (RFC 9110, section 14), and may break off.

    `breaks` are the bytes after which an answer each breaks off; when they are used up none does.
    """

    def __init__(self, data: bytes, etag: str = '"one"', breaks: tuple[int, ...] = ()) -> None:
        self.data = data
        self.etag = etag
        self.breaks = list(breaks)
        self.ranges: list[str | None] = []
        """The ``Range`` of each request so far."""

    def __call__(self, headers: dict[str, str]) -> Answer:
        asked = headers.get("Range")
        self.ranges.append(asked)
        same = headers.get("If-Range") in (None, self.etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same else 0
        if start and start >= len(self.data):
            return 416, {"Content-Range": f"bytes */{len(self.data)}"}, b"{}"
        found = {"ETag": self.etag}
        if start:
            found["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        rest = self.data[start:]
        if self.breaks:
            found["X-Length"] = str(len(rest))
            rest = rest[: self.breaks.pop(0)]
        return 206 if start else 200, found, rest


def parts_of(content_type: str, data: bytes) -> list[tuple[str, str | None, bytes]]:
    """Name, file name and content of each part, by a parser that is not ours."""
    options = multipart.parse_options_header(content_type)[1]
    parts = multipart.MultipartParser(io.BytesIO(data), options["boundary"], content_length=len(data))
    found = []
    for part in parts:
        found.append((part.name, part.filename, part.raw))
        part.close()
    return found
