"""The document's making: every route is described, and a script's parameters become true schemas."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest

from drmaaticd import errors
from drmaaticd.openapi import forms, words
from drmaaticd.openapi.document import Site, document, operations, paths_of
from drmaaticd.openapi.operations import OPERATIONS, TAGS
from drmaaticd.openapi.parts import JSON
from drmaaticd.params import Param
from drmaaticd.web.app import API_ROUTES

METHODS = [(pattern, handler.allowed_methods()) for pattern, handler in API_ROUTES]


def made(*scripts: dict[str, Any], **site: Any) -> JSON:
    return document(METHODS, scripts, Site("https://jobs.example.org", **site))


def script(name: str, *params: Param) -> dict[str, Any]:
    return {
        "name": name,
        "description": "",
        "required_tokens": 1,
        "param": [param.public() for param in params],
    }


def test_every_route_is_described_and_nothing_else() -> None:
    found = {(method, path) for path, method, _ in operations(METHODS)}
    assert found == set(OPERATIONS)
    ids = [operation.id for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    assert {operation.tag for operation in OPERATIONS.values()} == set(TAGS)


def test_a_route_that_is_not_described_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(operations([(r"/new/?", ["GET", "HEAD", "OPTIONS"])]))


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        (r"/", ["/"]),
        (r"/task/([^/]+)/file/(.+)", ["/task/{}/file/{}"]),
        (r"/task/([^/]+)/(stop|hold)/?", ["/task/{}/stop", "/task/{}/hold"]),
        (r"/openapi\.json/?", ["/openapi.json"]),
    ],
)
def test_paths_of_patterns(pattern: str, paths: list[str]) -> None:
    assert list(paths_of(pattern)) == paths


def test_path_parameters_are_those_of_the_path() -> None:
    for path, _, operation in operations(METHODS):
        named = re.findall(r"\{(\w+)\}", path)
        described = [parameter.name for parameter in operation.parameters if parameter.where == "path"]
        assert described == named, path


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere() -> None:
    whole = made(script("a", Param(name="x", type="file", required=True)), script("b.c-d"))
    for reference in references(whole):
        _, components, kind, name = reference.split("/")
        assert name in whole[components][kind], reference


def test_errors_are_described_as_they_are_answered() -> None:
    responses = made()["components"]["responses"]
    problem = responses["Rejected"]["content"]["application/problem+json"]["schema"]["allOf"][1]
    assert problem["properties"]["status"] == {"const": errors.Rejected.status}
    assert problem["properties"]["title"] == {"const": errors.Rejected.title}
    assert "WWW-Authenticate" in responses["NotAuthenticated"]["headers"]


def test_without_anonymous_callers_a_token_is_asked_for() -> None:
    def security(anonymous: bool) -> dict[str, list[JSON]]:
        paths = made(anonymous=anonymous)["paths"]
        return {path: item["get"]["security"] for path, item in paths.items() if "get" in item}

    assert security(True)["/task"] == [{}, {"token": []}]
    assert security(False)["/task"] == [{"token": []}]
    assert security(False)["/health"] == security(False)["/openapi.json"] == [{}, {"token": []}]
    assert security(True)["/token/{username}"] == [{"provider": []}]


def test_the_settings_are_told() -> None:
    whole = made(page_size=7, max_page_size=9, max_upload=12345)
    (page_size,) = [p for p in whole["paths"]["/task"]["get"]["parameters"] if p.get("name") == "page_size"]
    assert page_size["schema"]["default"] == 7
    assert "`9`" in page_size["description"]
    assert "12345 bytes" in whole["info"]["description"]


def test_the_forms_of_a_script() -> None:
    names = set(made(script("a", Param(name="x", type="file")))["components"]["schemas"])
    assert {"form.a", "plain.a", "json.a"} <= names
    names = set(made(script("a", Param(name="x", type="file", required=True)))["components"]["schemas"])
    assert "form.a" in names
    assert not {"plain.a", "json.a"} & names
    body = made(script("a"), script("b"))["paths"]["/task"]["post"]["requestBody"]["content"]
    schema = body["application/json"]["schema"]
    assert schema["discriminator"]["mapping"] == {
        "a": "#/components/schemas/json.a",
        "b": "#/components/schemas/json.b",
    }
    none = made()["paths"]["/task"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert none["required"] == ["task_name"]


@pytest.mark.parametrize("ignore_unknown", [False, True])
def test_unknown_fields(ignore_unknown: bool) -> None:
    schema = made(script("a"), ignore_unknown=ignore_unknown)["components"]["schemas"]["json.a"]
    valid = jsonschema_rs.validator_for(schema).is_valid
    assert valid({"task_name": "a", "task_description": None})
    assert valid({"task_name": "a", "other": 1}) is ignore_unknown
    assert not valid({"task_name": "b"})


#: A parameter, texts that it takes, and texts that it refuses.
CASES: list[tuple[Param, list[Any], list[Any]]] = [
    (Param(name="p", type="int", min=-1, max=5), [-1, 5], [-2, 6, 1.5, "x"]),
    (Param(name="p", type="float", min=0), [0, 1.5], [-0.1, "x"]),
    (Param(name="p", type="bool"), [True, False], ["x", 1]),
    (Param(name="p", type="string", max_length=3), ["", "äöü"], ["four", "a\0b", 7]),
    (Param(name="p", type="string", flag="-p", pattern="[a-c]+"), ["abc"], ["d", "", "abcd"]),
    (Param(name="p", type="string", choices=("a", "b")), ["a"], ["c", ""]),
    (Param(name="p", type="int", choices=(1, 2)), [1], [3]),
    (Param(name="p", type="int", multiple=True, max=3), [[1, 2], []], [[4], 1]),
    (Param(name="p", type="int", multiple=True, required=True), [[1]], [[]]),
]


@pytest.mark.parametrize(("param", "right", "wrong"), CASES)
def test_parameters(param: Param, right: list[Any], wrong: list[Any]) -> None:
    valid = jsonschema_rs.validator_for(forms.parameter(param.public())).is_valid
    assert all(map(valid, right))
    assert not any(map(valid, wrong))


@pytest.mark.parametrize("pattern", [r"\pL+", "(?i)a", r"[[:alpha:]]", r"\Qa\E", r"a\z"])
def test_patterns_that_mean_something_else_elsewhere_are_told_in_words(pattern: str) -> None:
    schema = forms.parameter(Param(name="p", type="string", flag="-p", pattern=pattern).public())
    assert pattern not in schema["pattern"]
    assert pattern in schema["description"]


def test_words() -> None:
    whole = made(script("a", Param(name="x", type="int", min=1, max=9, default=3)))
    (shape,) = [shape for shape in words.shapes(whole) if shape.name == "form.a"]
    row = shape.rows[-1]
    assert (row.name, row.kind, row.default) == ("x", [("whole number ≥ 1, ≤ 9", "")], "3")
    described = [operation for section in words.sections(whole) for operation in section.operations]
    assert len(described) == len(OPERATIONS)
    stop = next(operation for operation in described if operation.id == "stopTask")
    assert stop.example.startswith("curl -X PUT https://jobs.example.org/task/")
    assert [reply.status for reply in stop.replies] == [
        *("200", "401", "403", "404", "409", "429", "503", "507")
    ]
