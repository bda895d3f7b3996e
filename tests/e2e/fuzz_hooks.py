"""Hooks of Schemathesis for `test_openapi`: real tasks, files and scripts among what is made up.

The environment variable ``FUZZ_KNOWN`` holds them: {"uuid": […], "path": […], "name": […]}.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from typing import Any

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(os.environ["FUZZ_KNOWN"])

#: Characters of a URL; a request's head over the daemon's limit is answered by closing the connection.
LONGEST_URL = 12_000

_ANY_UUID = str(uuid.UUID(int=0))

_numbers = itertools.count()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Two of three times what there is; what is wrong on purpose stays so."""
    number = next(_numbers)
    if number % 3 == 0 or not path_parameters or not _is_uuid(path_parameters.get("uuid", _ANY_UUID)):
        return path_parameters
    known = {name: KNOWN[name][number % len(KNOWN[name])] for name in path_parameters if name in KNOWN}
    return {**path_parameters, **known}


def _is_uuid(value: Any) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except (ValueError, AttributeError, TypeError):
        return False


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out two things that are valid by the schema: URLs over the limit, and ``7.0`` as an integer.

    JSON Schema takes the latter for one, but a number is passed on as it was written, and the
    program would not.
    """
    query = json.dumps(case.query or {}, default=str, ensure_ascii=True)
    return len(query) < LONGEST_URL and not (isinstance(case.body, dict) and _has_whole_float(case.body))


def _has_whole_float(body: dict[str, Any]) -> bool:
    values = [body.get("whole"), *(many if isinstance(many := body.get("many"), list) else [many])]
    return any(isinstance(value, float) and value.is_integer() for value in values)
