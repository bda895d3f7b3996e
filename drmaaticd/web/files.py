"""A task's files: the list, one of them, and all of them as an archive."""

from __future__ import annotations

from drmaaticd import mime
from drmaaticd.errors import Forbidden
from drmaaticd.web import conditions
from drmaaticd.web.base import Handler
from drmaaticd.web.disposition import content_disposition
from drmaaticd.web.interface import FileAnswer
from drmaaticd.web.jsontext import clean
from drmaaticd.web.paths import file_path, task_uuid
from drmaaticd.web.transfer import Blocks, file_reader, iterator_reader

#: What our own pages take from nowhere but their static files (W3C Fetch Metadata, ``Sec-Fetch-Dest``): were
#: markup ever smuggled into one, a job's file must not become its script. A report's own may, in its sandbox:
#: these come from an opaque origin.
_NOT_FOR_PAGES = frozenset(
    {"script", "style", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "xslt"}
)

_ARCHIVE_TYPES = {"zip": "application/zip", "tar.gz": "application/gzip"}


class FilesHandler(Handler):
    """``/task/{uuid}/file/``."""

    async def get(self, uuid: str) -> None:
        """Write the paths, or with ``?details=1`` also sizes and times."""
        caller = await self.caller(uuid)
        details = self.query.flag("details")
        self.write_json(await self.service.files(caller, task_uuid(uuid), details))


class FileHandler(Handler):
    """``/task/{uuid}/file/{path}``."""

    async def get(self, uuid: str, _path: str) -> None:
        """Send the file, or the one range of it that is asked for."""
        headers = self.request.headers
        if headers.get("Sec-Fetch-Site") == "same-origin" and headers.get("Sec-Fetch-Dest") in _NOT_FOR_PAGES:
            raise Forbidden("A task's files are no part of a page of this service.")
        caller = await self.caller(uuid)
        # From the request's own text: what Tornado hands over has lost the difference of / and %2F.
        path = file_path(self.request.path.partition("/file/")[2])
        answer = await self.service.open_file(caller, task_uuid(uuid), path)
        blocks: Blocks | None = None
        try:
            blocks = self._begin(answer)
        finally:
            if blocks is None:
                answer.opened.close()
        if blocks is not None:
            await self.transmit(blocks)

    def _begin(self, answer: FileAnswer) -> Blocks | None:
        """Write the headers; None if nothing is to be sent after them."""
        opened = answer.opened
        headers = self.request.headers
        etag = conditions.quoted(opened.etag)
        self.set_header("ETag", etag)
        self.set_header("Accept-Ranges", "bytes")
        if conditions.none_match(headers.get("If-None-Match"), etag):
            self.set_status(304)
            return None
        start, end = 0, opened.size
        # A range has a meaning for GET alone (RFC 9110, section 14.2).
        if self.request.method == "GET" and conditions.if_range(headers.get("If-Range"), etag):
            part = conditions.byte_range(headers.get("Range"), opened.size)
            if part is not None:
                start, end = part.start, part.end
                self.set_status(206)
                self.set_header("Content-Range", part.header)
        self.set_header("Content-Type", mime.content_type(clean(answer.name)))
        self.set_header("Content-Disposition", content_disposition("inline", answer.name))
        self.set_header(
            "Content-Security-Policy", "sandbox allow-scripts" if answer.html_scripts else "sandbox"
        )
        self.set_header("Content-Length", end - start)
        if self.request.method == "HEAD" or start == end:
            return None
        return Blocks(self.common.readers, file_reader(opened, start, end), opened.close)

    def compute_etag(self) -> str | None:
        """None: the file's own is set."""
        return None


class DownloadHandler(Handler):
    """``/task/{uuid}/download``."""

    async def get(self, uuid: str) -> None:
        """Send all files as one archive, made on the way."""
        caller = await self.caller(uuid)
        kind = self.query.choice("format", tuple(_ARCHIVE_TYPES))
        answer = await self.service.archive(caller, task_uuid(uuid), kind)
        archive = answer.archive
        blocks = Blocks(self.common.readers, iterator_reader(iter(archive)), archive.close)
        self.set_header("Content-Type", _ARCHIVE_TYPES[kind])
        self.set_header("Content-Disposition", content_disposition("attachment", answer.filename))
        if archive.length is not None:
            self.set_header("Content-Length", archive.length)
        if self.request.method == "HEAD":
            blocks.close()
            # At once: at the end Tornado would tell 0 where the length is not known (RFC 9110, section 8.6).
            await self.flush()
            return
        await self.transmit(blocks)

    def compute_etag(self) -> str | None:
        """None: an archive is never the same twice for certain."""
        return None
