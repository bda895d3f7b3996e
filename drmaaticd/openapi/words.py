"""The document for people to read: what both the page and the Markdown file show of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drmaaticd.openapi.parts import ALWAYS, JSON

#: A piece of text, and the name of the schema that it stands for, if it does.
Piece = tuple[str, str]
Pieces = list[Piece]

_FORMATS = {"date-time": "time", "uuid": "UUID", "uri": "URL", "binary": "file"}
_TYPES = {"string": "text", "integer": "whole number", "boolean": "true or false"}


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter, or a property of a schema."""

    name: str
    where: str
    kind: Pieces
    required: bool
    description: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A status of an operation."""

    status: str
    description: str
    contents: list[tuple[str, Pieces]]
    headers: list[str]
    """Those beside what every answer has."""


@dataclass(frozen=True, slots=True)
class Described:
    """An operation."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    who: str
    rows: list[Row]
    body: list[tuple[str, Pieces]]
    """Media type and schema of each kind of body."""
    replies: list[Reply]
    example: str
    """A command line with curl."""


@dataclass(frozen=True, slots=True)
class Section:
    """A tag and its operations."""

    name: str
    description: str
    operations: list[Described]


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema."""

    name: str
    description: str
    rows: list[Row]


def sections(document: JSON) -> list[Section]:
    """The operations, by tag."""
    found: dict[str, list[Described]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                found[operation["tags"][0]].append(_described(document, path, method, operation))
    return [Section(tag["name"], tag["description"], found[tag["name"]]) for tag in document["tags"]]


def shapes(document: JSON) -> list[Shape]:
    """The schemas."""
    return [
        Shape(name, schema.get("description", ""), list(_properties(schema)))
        for name, schema in document["components"]["schemas"].items()
    ]


def headers(document: JSON) -> list[Row]:
    """The headers of every answer."""
    known = document["components"]["headers"]
    return [Row(name, "", kind(known[name]["schema"]), True, known[name]["description"]) for name in ALWAYS]


def kind(schema: JSON) -> Pieces:
    """What a schema takes, in few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [(name, name)]
    for word in ("oneOf", "anyOf"):
        if word in schema:
            alternatives = [kind(one) for one in schema[word]]
            return _joined(
                [pieces for n, pieces in enumerate(alternatives) if pieces not in alternatives[:n]]
            )
    if "allOf" in schema:
        return kind(schema["allOf"][0])
    if "const" in schema:
        return [(json.dumps(schema["const"]), "")]
    if "enum" in schema:
        return [(", ".join(json.dumps(value) for value in schema["enum"]), "")]
    if schema.get("type") == "array":
        return [("list of ", ""), *kind(schema.get("items", {}))]
    if isinstance(schema.get("additionalProperties"), dict):
        return [("object of ", ""), *kind(schema["additionalProperties"])]
    return [(_plain(schema), "")]


def _joined(alternatives: list[Pieces]) -> Pieces:
    pieces: Pieces = []
    for alternative in alternatives:
        pieces += [*([(" or ", "")] if pieces else []), *alternative]
    return pieces


def _plain(schema: JSON) -> str:
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    text = _FORMATS.get(schema.get("format", ""), "") or " or ".join(_TYPES.get(name, name) for name in names)
    bounds = [
        f"{sign} {schema[word]}"
        for word, sign in (("minimum", "≥"), ("maximum", "≤"))
        if word in schema and abs(schema[word]) < 10**15
    ]
    if "maxLength" in schema:
        bounds.append(f"at most {schema['maxLength']} characters")
    return " ".join([text or "anything", ", ".join(bounds)]).strip()


def _properties(schema: JSON) -> Iterator[Row]:
    required = schema.get("required", [])
    for name, property_ in schema.get("properties", {}).items():
        yield Row(
            name,
            "",
            kind(property_),
            name in required,
            property_.get("description", ""),
            _default(property_),
        )


def _default(schema: JSON) -> str:
    return json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""


def _resolved(document: JSON, value: JSON) -> JSON:
    """The component that a reference means, with what stands beside the reference."""
    if "$ref" not in value:
        return value
    found: Any = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return {**found, **{key: beside for key, beside in value.items() if key != "$ref"}}


def _described(document: JSON, path: str, method: str, operation: JSON) -> Described:
    parameters = [_resolved(document, parameter) for parameter in operation.get("parameters", [])]
    rows = [
        Row(
            parameter["name"],
            parameter["in"],
            kind(parameter["schema"]),
            parameter.get("required", False),
            parameter["description"],
            _default(parameter["schema"]),
        )
        for parameter in parameters
    ]
    content = operation.get("requestBody", {}).get("content", {})
    return Described(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        who=_who(operation["security"]),
        rows=rows,
        body=[(media, kind(told["schema"])) for media, told in content.items()],
        replies=[
            _reply(status, _resolved(document, answer)) for status, answer in operation["responses"].items()
        ],
        example=_example(document, path, method.upper(), operation, parameters),
    )


def _who(security: list[Mapping[str, Any]]) -> str:
    link = " Or by a link to the task (`?link=…`)." if {"link": []} in security else ""
    if {} in security:
        return f"Anybody.{link}"
    return "With a token of the provider." if "provider" in security[0] else f"With a token.{link}"


def _reply(status: str, answer: JSON) -> Reply:
    contents = [
        (media, kind(told["schema"]) if "schema" in told else [])
        for media, told in answer.get("content", {}).items()
    ]
    own = [name for name in answer.get("headers", {}) if name not in ALWAYS]
    return Reply(status, answer["description"], contents, own)


def _example(document: JSON, path: str, method: str, operation: JSON, parameters: list[JSON]) -> str:
    url = document["servers"][0]["url"] + path
    for parameter in parameters:
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "NAME")))
    words = ["curl"]
    if {} not in operation["security"]:
        words += ["-H", "'Authorization: Bearer TOKEN'"]
    if "requestBody" in operation:
        words += ["-F", "task_name=SCRIPT", "-F", "PARAMETER=VALUE", "-F", "FILE_PARAMETER=@FILE"]
    elif method != "GET":
        words += ["-X", method]
    return " ".join([*words, url])
