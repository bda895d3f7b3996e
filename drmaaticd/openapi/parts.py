"""What operations are described with: parameters, bodies, answers and their headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drmaaticd.errors import DrmaaticdError

JSON = dict[str, Any]

#: The media types that the service reads and writes.
JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
URLENCODED_TYPE = "application/x-www-form-urlencoded"
MULTIPART_TYPE = "multipart/form-data"
HTML_TYPE = "text/html"
EVENTS_TYPE = "text/event-stream"
ANY_TYPE = "*/*"

#: Who may call: anybody, also with a token; somebody with a token; somebody with a provider's token.
ANYBODY, SOMEBODY, PROVIDER = "anybody", "somebody", "provider"

#: The tags.
SERVICE, ACCOUNTS, SCRIPTS, TASKS, FILES = "Service", "Accounts", "Scripts", "Tasks", "Files"

#: Largest whole number of a query parameter.
MAX_NUMBER = 10**18 - 1


def ref(kind: str, name: str) -> JSON:
    """A reference to one of the document's components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schema_ref(name: str) -> JSON:
    """A reference to a schema."""
    return ref("schemas", name)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, the path or a header."""

    name: str
    description: str
    schema: JSON = field(default_factory=lambda: {"type": "string"})
    where: str = "query"
    example: Any = None

    def as_json(self) -> JSON:
        """The Parameter Object; lists are comma-separated."""
        made: JSON = {"name": self.name, "in": self.where, "description": self.description}
        if self.where == "path":
            made["required"] = True
        if self.schema.get("type") == "array":
            made |= {"style": "form", "explode": False}
        made["schema"] = self.schema
        if self.example is not None:
            made["example"] = self.example
        return made


def whole_number(name: str, description: str, default: int | None = None, least: int = 1) -> Parameter:
    """A whole number in the query."""
    schema: JSON = {"type": "integer", "minimum": least, "maximum": MAX_NUMBER}
    return Parameter(name, description, schema if default is None else schema | {"default": default})


def comma_separated(name: str, description: str, most: int | None = None) -> Parameter:
    """A list of texts in the query."""
    schema: JSON = {"type": "array", "items": {"type": "string"}}
    return Parameter(name, description, schema if most is None else schema | {"maxItems": most})


@dataclass(frozen=True, slots=True)
class Answer:
    """One status of an operation that is no error."""

    description: str
    content: Mapping[str, JSON] = field(default_factory=dict)
    """Media type → schema; an empty schema where the content is anything."""
    headers: tuple[str, ...] = ()
    """Names in `HEADERS`, beside those that every answer has."""
    links: Mapping[str, JSON] = field(default_factory=dict)


def json_answer(description: str, schema: str | JSON, *headers: str, etag: bool = True) -> Answer:
    """An answer in JSON; by the name of its schema, or a schema."""
    made = schema_ref(schema) if isinstance(schema, str) else schema
    return Answer(description, {JSON_TYPE: made}, (*headers, *(["ETag"] if etag else [])))


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one route does."""

    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    errors: Mapping[type[DrmaaticdError], str] = field(default_factory=dict)
    """The errors beside `COMMON_ERRORS`, with what they mean here; empty: as always."""
    who: str = ANYBODY
    takes_task: bool = False
    """Whether the body is a new task."""
    by_link: bool = False
    """Whether a link to the task will do instead of a token."""
    writes: bool = False
    """Whether it changes what is stored, so that the disk may be full."""

    @property
    def conditional(self) -> bool:
        """Whether ``If-None-Match`` counts, and 304 may come."""
        return any("ETag" in answer.headers for answer in self.answers.values())


#: What lists take beside their filters.
PAGE = (
    whole_number("page", "Which page, from 1. Page 1 always exists; one past the end is 404.", 1),
    whole_number("page_size", "Entries on a page; a larger number than `{max_page_size}` is cut to that."),
)

#: What `search` looks for.
SEARCH = "A part of the name or the description, in any case."


def header(description: str, schema: JSON | None = None, *, always: bool = True) -> JSON:
    """A Header Object."""
    return {"description": description, "required": always, "schema": schema or {"type": "string"}}


#: Every header of the answers that means something to a client.
HEADERS: dict[str, JSON] = {
    "X-Request-ID": header(
        "The request's own, if it is 1 to 64 of `[A-Za-z0-9._-]`, else a new one; it is in the log too.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    ),
    "Cache-Control": header("`private, no-cache`; of tokens, `no-store`."),
    "Vary": header("What the answer depends on beside the URL."),
    "Referrer-Policy": header("Always `no-referrer`.", {"type": "string", "const": "no-referrer"}),
    "X-Content-Type-Options": header("Always `nosniff`.", {"type": "string", "const": "nosniff"}),
    "ETag": header("The entity tag, for `If-None-Match`.", {"type": "string", "pattern": '^(W/)?".*"$'}),
    "Location": header("The task's URL.", {"type": "string", "format": "uri"}),
    "X-Accel-Buffering": header("Always `no`: nginx passes events on at once.", {"const": "no"}),
    "Location-page": header("The page's URL.", {"type": "string", "format": "uri"}),
    "Retry-After": header("Whole seconds after which it is worth trying again.", {"type": "integer"}),
    "Retry-After-if-ever": header(
        "Whole seconds after which it is worth trying again; absent if it never is.",
        {"type": "integer", "minimum": 0},
        always=False,
    ),
    "WWW-Authenticate": header(
        '`Bearer`, or `Bearer error="invalid_token"` where a token came (RFC 6750).',
        {"type": "string", "pattern": "^Bearer"},
    ),
    "Accept-Ranges": header("Always `bytes`.", {"type": "string", "const": "bytes"}),
    "Content-Range": header(
        "The range that is sent, and the size (RFC 9110, section 14.4).",
        {"type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$"},
    ),
    "Content-Range-refused": header(
        "The size of the file.", {"type": "string", "pattern": r"^bytes \*/[0-9]+$"}
    ),
    "Content-Disposition": header("Inline or attachment, and the file's name (RFC 6266, RFC 8187)."),
    "Content-Security-Policy": header("Keeps a page from acting as this site."),
    "Content-Length": header("Bytes; absent where they are not known beforehand.", always=False),
}

#: What each answer has.
ALWAYS = ("X-Request-ID", "Cache-Control", "Vary", "Referrer-Policy", "X-Content-Type-Options")


def header_refs(*names: str) -> dict[str, JSON]:
    """The ``headers`` of an answer; the part of a name after the header's own tells variants apart."""
    return {_field_name(name): ref("headers", name) for name in (*ALWAYS, *names)}


def _field_name(name: str) -> str:
    for suffix in ("-refused", "-if-ever", "-page"):
        name = name.removesuffix(suffix)
    return name
