"""The requests that make a task: for each script, what its form may hold. Pure.

The scripts come as the API shows them (`Script.public`), so that nothing is told that the caller may
not see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drmaaticd.drafts import DEPENDENCY_TYPES, MAX_DEPENDENCIES, MAX_DESCRIPTION
from drmaaticd.openapi.parts import JSON, JSON_TYPE, MULTIPART_TYPE, URLENCODED_TYPE, schema_ref
from drmaaticd.params import DEFAULT_MAX_LENGTH, MAX_VALUES
from drmaaticd.units import format_size

#: No NUL; a schema's patterns are searched for, not matched as a whole.
_TEXT: JSON = {"type": "string", "pattern": "^[^\\u0000]*$"}

#: What is empty counts as left out: browsers send the fields that nobody has filled in.
_UUID: JSON = {"type": "string", "anyOf": [{"format": "uuid"}, {"const": ""}]}

#: The service's own fields.
OWN_FIELDS: dict[str, JSON] = {
    "task_description": {
        "description": "For people.",
        **_TEXT,
        "maxLength": MAX_DESCRIPTION,
    },
    "parent_task": {"description": "A task in whose folder this one works.", **_UUID},
    "dependencies": {
        "description": "Tasks that must end before this one begins; also comma-separated.",
        "type": "array",
        "items": _UUID,
        "maxItems": MAX_DEPENDENCIES,
    },
    "dependency_type": {
        "description": "How they must end.",
        "type": "string",
        "enum": [*DEPENDENCY_TYPES, ""],
        "default": DEPENDENCY_TYPES[0],
    },
}

#: What of RE2's syntax means the same in ECMA-262's, which JSON Schema's `pattern` has.
_SHARED_SYNTAX = re.compile(r"(?:[^\\(\[]|\((?!\?)|\(\?:|\[(?!\[?:)|\\[dDwWbBnrtfv.*+?^$|()\[\]{}/\\-])*")

_TYPES: dict[str, JSON] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "string": {},
    "file": {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"},
}


def schemas(scripts: Iterable[Mapping[str, Any]], *, ignore_unknown: bool) -> dict[str, JSON]:
    """The schemas of all forms, by name: for each script a form, one without files, and one in JSON."""
    made = {}
    for script in scripts:
        params = [param for param in script["param"] if "private" not in param]
        plain = [param for param in params if param["type"] != "file"]
        made[form_name(script)] = _form(script, params, ignore_unknown)
        if not _needs_file(script):
            if _has_files(params):
                made[plain_name(script)] = _form(script, plain, ignore_unknown)
            made[json_name(script)] = _nullable(_form(script, plain, ignore_unknown))
    return made


def body(scripts: Sequence[Mapping[str, Any]]) -> JSON:
    """The Request Body Object of a new task."""
    plain = [script for script in scripts if not _needs_file(script)]
    contents = {
        MULTIPART_TYPE: _one_of({script["name"]: form_name(script) for script in scripts}),
        URLENCODED_TYPE: _one_of({script["name"]: plain_name(script) for script in plain}),
        JSON_TYPE: _one_of({script["name"]: json_name(script) for script in plain}),
    }
    return {
        "description": "The script and its parameters. Only a multipart form can hold files. What is empty, "
        "or null in JSON, counts as left out, but for an empty text where the parameter is a text.",
        "required": True,
        "content": {kind: {"schema": schema} for kind, schema in contents.items()},
    }


def form_name(script: Mapping[str, Any]) -> str:
    """The name of the schema of a script's form."""
    return f"form.{script['name']}"


def plain_name(script: Mapping[str, Any]) -> str:
    """The name of the schema of a script's form without files."""
    return f"plain.{script['name']}" if _has_files(script["param"]) else form_name(script)


def json_name(script: Mapping[str, Any]) -> str:
    """The name of the schema of a script's form in JSON."""
    return f"json.{script['name']}"


def _nullable(form: JSON) -> JSON:
    """The form with null for whatever may be left out."""
    properties = {
        name: schema if name in form["required"] else _or_null(schema)
        for name, schema in form["properties"].items()
    }
    return form | {"properties": properties}


def _or_null(schema: JSON) -> JSON:
    made = schema | {"type": [schema["type"], "null"]}
    return made | {"enum": [*schema["enum"], None]} if "enum" in schema else made


def _has_files(params: Iterable[Mapping[str, Any]]) -> bool:
    return any(param["type"] == "file" for param in params)


def _needs_file(script: Mapping[str, Any]) -> bool:
    return any(param["type"] == "file" and param["required"] for param in script["param"])


def _one_of(names: Mapping[str, str]) -> JSON:
    if not names:
        # There is no script for this caller: any is 404.
        return {"type": "object", "required": ["task_name"], "properties": {"task_name": {"type": "string"}}}
    if len(names) == 1:
        return schema_ref(next(iter(names.values())))
    mapping = {script: schema_ref(name)["$ref"] for script, name in names.items()}
    return {
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "task_name", "mapping": mapping},
    }


def _form(script: Mapping[str, Any], params: Sequence[Mapping[str, Any]], ignore_unknown: bool) -> JSON:
    required = ["task_name", *(param["name"] for param in params if param["required"])]
    made: JSON = {
        "type": "object",
        "description": script["description"] or f"The script {script['name']}.",
        "required": required,
        "properties": {
            "task_name": {"description": "The script.", "type": "string", "const": script["name"]},
            **OWN_FIELDS,
            **{param["name"]: parameter(param) for param in params},
        },
    }
    return made if ignore_unknown else made | {"additionalProperties": False}


def parameter(param: Mapping[str, Any]) -> JSON:
    """The schema of one parameter, from its public form."""
    one = _value(param)
    if not param.get("multiple"):
        return _told(param) | one
    least = {"minItems": 1} if param["required"] else {}
    return _told(param) | {"type": "array", "items": one, **least, "maxItems": MAX_VALUES}


def _value(param: Mapping[str, Any]) -> JSON:
    """The schema of one value."""
    kind = param["type"]
    schema = dict(_TYPES[kind])
    bounds = {"min": "minimum", "max": "maximum"}
    schema |= {word: param[key] for key, word in bounds.items() if key in param}
    if "choices" in param:
        schema = {"type": schema.get("type", "string"), "enum": param["choices"]}
    elif kind == "string":
        schema |= _TEXT | {"maxLength": param.get("max_length", DEFAULT_MAX_LENGTH)}
        pattern = param.get("pattern")
        if pattern is not None and _SHARED_SYNTAX.fullmatch(pattern):
            schema["pattern"] = f"^(?:{pattern})$"
    return schema


def _told(param: Mapping[str, Any]) -> JSON:
    """The description, with the rules that JSON Schema has no words for, and the default."""
    said = [param["description"]] if param.get("description") else []
    if "extensions" in param:
        said.append(f"Its name must end in {', '.join(param['extensions'])}.")
    if "max_size" in param:
        said.append(f"At most {format_size(param['max_size'])}.")
    if "pattern" in param:
        said.append(f"Must match `{param['pattern']}` as a whole (RE2's syntax).")
    told: JSON = {"description": " ".join(said)} if said else {}
    return told | {"default": param["default"]} if "default" in param else told
