"""The reference page ``docs/api.md``: the document as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drmaaticd.openapi import words
from drmaaticd.openapi.parts import JSON


def reference(document: JSON, introduction: str) -> str:
    """The page; `introduction` follows its title."""
    parts = [f"# API reference\n\n{introduction}\n\n{document['info']['description']}\n"]
    for section in words.sections(document):
        parts.append(f"## {section.name}\n\n{section.description}\n")
        parts += ["\n".join(_operation(operation)) for operation in section.operations]
    parts.append("## Headers of every answer\n\n" + _table(("name", "meaning"), _headers(document)))
    parts.append("## Schemas\n")
    parts += ["\n".join(_shape(shape)) for shape in words.shapes(document)]
    return "\n".join(parts)


def _operation(operation: words.Described) -> Iterator[str]:
    yield f"### {operation.summary}\n\n`{operation.method} {operation.path}`\n"
    yield from (f"{text}\n" for text in (operation.description, operation.who) if text)
    yield f"```sh\n{operation.example}\n```\n"
    if operation.rows:
        yield _table(("parameter", "in", "value", "meaning"), map(_parameter, operation.rows))
    if operation.body:
        yield _table(("body", "schema"), ((f"`{media}`", _kind(kind)) for media, kind in operation.body))
    yield _table(("status", "meaning", "content", "headers"), map(_reply, operation.replies))


def _shape(shape: words.Shape) -> Iterator[str]:
    yield f"### {shape.name}\n\n{shape.description}\n"
    rows = (
        (f"`{row.name}`", "yes" if row.required else "", _with_default(row), row.description)
        for row in shape.rows
    )
    yield _table(("key", "always", "value", "meaning"), rows)


def _parameter(row: words.Row) -> tuple[str, ...]:
    return f"`{row.name}`", row.where, _with_default(row), row.description


def _reply(reply: words.Reply) -> tuple[str, ...]:
    contents = ", ".join(
        f"`{media}`" + (f": {_kind(kind)}" if kind else "") for media, kind in reply.contents
    )
    return reply.status, reply.description, contents, ", ".join(f"`{name}`" for name in reply.headers)


def _headers(document: JSON) -> Iterator[tuple[str, ...]]:
    return ((f"`{row.name}`", row.description) for row in words.headers(document))


def _with_default(row: words.Row) -> str:
    return _kind(row.kind) + (f"; default `{row.default}`" if row.default else "")


def _kind(pieces: words.Pieces) -> str:
    return "".join(f"[{text}](#{_anchor(name)})" if name else text for text, name in pieces)


def _anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    return "".join(char for char in heading.lower() if char.isalnum() or char in "-_")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"
    )
