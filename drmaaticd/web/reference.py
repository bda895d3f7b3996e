"""``/docs`` as HTML: the OpenAPI document for people. No JavaScript, nothing from other hosts."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from html import escape
from pathlib import Path

from tornado.template import Loader, Template

from drmaaticd.openapi import words
from drmaaticd.openapi.parts import JSON

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_STYLE = (_TEMPLATES / "docs.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: The page's own style, and nothing else: no script, no frame, no form, no other host.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def page(document: JSON) -> bytes:
    """The page, in UTF-8."""
    return _template().generate(
        document=document,
        sections=words.sections(document),
        shapes=words.shapes(document),
        headers=words.headers(document),
        style=_STYLE,
        prose=prose,
        inline=inline,
        pieces=pieces,
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    return Loader(str(_TEMPLATES)).load("docs.html")


def prose(text: str) -> str:
    """Paragraphs and lists of what the document's descriptions have of Markdown, as HTML."""
    return "\n".join(_block(block) for block in text.strip().split("\n\n") if block)


def _block(block: str) -> str:
    if not block.startswith("- "):
        return f"<p>{inline(block)}</p>"
    items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
    return "<ul>" + "".join(f"<li>{inline(item.strip())}</li>" for item in items) + "</ul>"


def inline(text: str) -> str:
    """A line, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def pieces(parts: words.Pieces) -> str:
    """A kind, with links to the schemas that it names."""
    return "".join(
        f'<a href="#schema-{escape(name)}">{escape(text)}</a>' if name else escape(text)
        for text, name in parts
    )
