"""Style sheets, scripts and pictures: read once, addressed by content, kept by browsers for good."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from drmaaticd.errors import NotFound
from drmaaticd.web.base import Handler

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}

#: Characters of a content's hash in its address.
_HASH = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; `packed` is its gzip, empty where that is no smaller."""

    content: bytes
    packed: bytes
    kind: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """All files of ``web/static``, by name."""
    found = {}
    for entry in resources.files("drmaaticd.web").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name[entry.name.rfind(".") :])
        if kind is None:
            continue
        content = entry.read_bytes()
        packed = gzip.compress(content, 9, mtime=0)
        etag = hashlib.sha256(content).hexdigest()[:_HASH]
        found[entry.name] = Asset(content, packed if len(packed) < len(content) else b"", kind, etag)
    return found


@cache
def version() -> str:
    """What changes whenever any of the files does.

    One for all, since scripts import one another by relative names.
    """
    parts = "".join(f"{name} {asset.etag}\n" for name, asset in sorted(assets().items()))
    return hashlib.sha256(parts.encode()).hexdigest()[:_HASH]


class AssetHandler(Handler):
    """``/ui/static/{version}/{name}``; an old version is answered with what there is now."""

    open_to_all = True

    async def get(self, asked: str, name: str) -> None:
        """Send the file."""
        asset = assets().get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        self.set_header("Content-Type", asset.kind)
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("ETag", f'"{asset.etag}"')
        if asked == version():
            self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        if f'"{asset.etag}"' in self.request.headers.get("If-None-Match", ""):
            self.set_status(304)
            return
        body = asset.content
        if asset.packed and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            body = asset.packed
            self.set_header("Content-Encoding", "gzip")
        self.write(body)

    def compute_etag(self) -> str | None:
        """None: the file's own is set."""
        return None
