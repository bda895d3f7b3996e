"""The document: routes, operations, scripts and settings put together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from drmaaticd import __version__, errors
from drmaaticd.errors import (
    DrmaaticdError,
    Forbidden,
    InvalidInput,
    NotAuthenticated,
    StorageFull,
    TooManyRequests,
    Unavailable,
)
from drmaaticd.openapi import forms, models
from drmaaticd.openapi.operations import OPERATIONS, TAGS
from drmaaticd.openapi.parts import (
    ANYBODY,
    HEADERS,
    JSON,
    PROBLEM_TYPE,
    PROVIDER,
    Answer,
    Operation,
    header_refs,
    ref,
    schema_ref,
)
from drmaaticd.openapi.task_operations import ANONYMOUS_KEY

VERSION = "3.1.1"

#: The errors of every operation.
COMMON_ERRORS: tuple[type[DrmaaticdError], ...] = (NotAuthenticated, Forbidden, TooManyRequests)
#: Those of every operation that changes what is stored.
WRITE_ERRORS: tuple[type[DrmaaticdError], ...] = (Unavailable, StorageFull)

#: Headers of the errors, beside those of every answer.
_ERROR_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range-refused",),
    429: ("Retry-After-if-ever",),
    500: ("Location",),
    503: ("Retry-After",),
}

_DESCRIPTION = """\
Runs the scripts of a cluster's administrators over HTTP.

- Every path answers with and without a slash at its end.
- `HEAD` works wherever `GET` does, except for tokens and event streams. `OPTIONS` answers everywhere, as do
  preflights of the origins that are let in (CORS). Any other method is 405 with `Allow`; no path is 404.
- JSON is UTF-8; times are RFC 3339 in UTC. Keys whose value is null are left out, but for a page's `next`
  and `previous`. Later versions may add keys.
- An error is `application/problem+json` (RFC 9457); for bad input `errors` names every wrong field at once.
- A request that is framed wrongly is 400, and a large body where none is read is 413, on every path.
- The largest request, with all its files, has {max_upload} bytes; its request line and headers, 16 KiB
  (431 if they are larger).
- A connection is closed where for 60 s no request comes, no byte of an upload, or nothing of an answer is
  taken."""

_GROUP = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Site:
    """What the document tells of the configuration."""

    url: str
    """The public base URL."""
    signed_in: bool = False
    """Whether the caller has a token."""
    anonymous: bool = True
    ignore_unknown: bool = False
    page_size: int = 10
    max_page_size: int = 100
    max_upload: int = 2 * 1024**3
    max_link_lifetime: int = 86_400


def paths_of(pattern: str) -> Iterator[str]:
    """The paths of a route's pattern, with ``{}`` for what is free; a choice makes several."""
    plain = pattern.removesuffix("/?").replace("\\.", ".")
    parts = _GROUP.split(plain)
    choices = [
        parts[at].split("|") if re.fullmatch(r"[\w|]+", parts[at]) else ["{}"]
        for at in range(1, len(parts), 2)
    ]
    for chosen in product(*choices):
        yield "".join(part for pair in zip(parts[::2], (*chosen, ""), strict=True) for part in pair)


def operations(routes: Iterable[tuple[str, Sequence[str]]]) -> Iterator[tuple[str, str, Operation]]:
    """(path, method, operation) for each route's patterns and methods.

    Raises KeyError for one that `OPERATIONS` does not have. HEAD and OPTIONS are told in words.
    """
    known = {(method, re.sub(r"\{\w+\}", "{}", path)): path for method, path in OPERATIONS}
    for pattern, methods in routes:
        for path in paths_of(pattern):
            for method in methods:
                if method not in ("HEAD", "OPTIONS"):
                    named = known[method, path]
                    yield named, method, OPERATIONS[method, named]


def document(
    routes: Iterable[tuple[str, Sequence[str]]], scripts: Sequence[Mapping[str, Any]], site: Site
) -> JSON:
    """The OpenAPI document for a caller who may run these scripts."""
    paths: dict[str, JSON] = {}
    for path, method, operation in operations(routes):
        item = paths.setdefault(path, {"parameters": [ref("parameters", "X-Request-ID")]})
        item[method.lower()] = _operation(operation, scripts, site)
    form_schemas = forms.schemas(scripts, ignore_unknown=site.ignore_unknown)
    return {
        "openapi": VERSION,
        "info": {
            "title": "drmaaticd",
            "version": __version__,
            "summary": "A job API",
            "description": _DESCRIPTION.format(max_upload=site.max_upload),
        },
        "servers": [{"url": site.url}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": models.schemas() | form_schemas,
            "responses": {cls.__name__: _problem(cls) for cls in _errors()},
            "parameters": _PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


_PARAMETERS: dict[str, JSON] = {
    "X-Request-ID": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "An id that the answer and the service's log will carry.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "An `ETag`: 304 if the answer would still be the same.",
        "schema": {"type": "string"},
    },
}

_SECURITY: dict[str, JSON] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "The service's own token. Without one, the caller is anonymous.",
    },
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "link",
        "description": "What a link to the task holds; it opens this one task to be read, without a token.",
    },
    "provider": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of the identity provider, for the exchange alone.",
    },
}

#: Operations that are open also where there are no anonymous callers.
OPEN_TO_ALL = {"getHealth", "getOpenapi", "getDocs"}


def _operation(operation: Operation, scripts: Sequence[Mapping[str, Any]], site: Site) -> JSON:
    parameters = [_filled(parameter.as_json(), site) for parameter in operation.parameters]
    if operation.conditional:
        parameters.append(ref("parameters", "If-None-Match"))
    made: JSON = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        made["description"] = operation.description
    made["security"] = _security(operation, site)
    if parameters:
        made["parameters"] = parameters
    if operation.takes_task:
        made["requestBody"] = forms.body(scripts)
    return made | {"responses": dict(_responses(operation))}


def _filled(parameter: JSON, site: Site) -> JSON:
    """The parameter with the settings that it speaks of."""
    if parameter["name"] == "Idempotency-Key" and not site.signed_in:
        return parameter | {"schema": {"type": "string", "pattern": ANONYMOUS_KEY}}
    if parameter["name"] == "lifetime":
        return parameter | {"schema": parameter["schema"] | {"maximum": site.max_link_lifetime}}
    if parameter["name"] != "page_size":
        return parameter
    description = parameter["description"].format(max_page_size=site.max_page_size)
    return parameter | {
        "description": description,
        "schema": parameter["schema"] | {"default": site.page_size},
    }


def _security(operation: Operation, site: Site) -> list[JSON]:
    if operation.who == PROVIDER:
        return [{"provider": []}]
    open_to_all = site.anonymous or operation.id in OPEN_TO_ALL
    free: list[JSON] = [{}] if operation.who == ANYBODY and open_to_all else []
    return [*free, {"token": []}, *([{"link": []}] if operation.by_link else [])]


def _responses(operation: Operation) -> Iterator[tuple[str, JSON]]:
    for status, answer in operation.answers.items():
        yield str(status), _answer(answer)
    if operation.conditional:
        yield (
            "304",
            {"description": "As `If-None-Match` says, nothing has changed.", "headers": header_refs("ETag")},
        )
    queried = operation.by_link or any(parameter.where == "query" for parameter in operation.parameters)
    said = dict.fromkeys(
        (
            *COMMON_ERRORS,
            *(WRITE_ERRORS if operation.writes else ()),
            *((InvalidInput,) if queried else ()),
        ),
        "",
    )
    for cls, description in sorted({**said, **operation.errors}.items(), key=lambda item: item[0].status):
        reference = ref("responses", cls.__name__)
        yield str(cls.status), reference | {"description": description} if description else reference


def _answer(answer: Answer) -> JSON:
    made: JSON = {"description": answer.description, "headers": header_refs(*answer.headers)}
    if answer.content:
        made["content"] = {
            kind: {"schema": schema} if schema else {} for kind, schema in answer.content.items()
        }
    if answer.links:
        made["links"] = dict(answer.links)
    return made


def _errors() -> list[type[DrmaaticdError]]:
    """Every error that is answered as itself, by status."""
    classes = [
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, DrmaaticdError) and cls is not DrmaaticdError
    ]
    return sorted(classes, key=lambda cls: cls.status)


def _problem(cls: type[DrmaaticdError]) -> JSON:
    narrowed = {"properties": {"status": {"const": cls.status}, "title": {"const": cls.title}}}
    return {
        "description": (cls.__doc__ or cls.title).partition(";")[0].partition("\n")[0].rstrip(".") + ".",
        "headers": header_refs(*_ERROR_HEADERS.get(cls.status, ())),
        "content": {PROBLEM_TYPE: {"schema": {"allOf": [schema_ref("Problem"), narrowed]}}},
    }
