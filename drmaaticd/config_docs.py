"""The configuration's reference page and its commented sample file, made from the models.

Both say what `settings` says and nothing else, so that documents and code cannot differ.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drmaaticd.settings import ORCID, SECTIONS, Auth, Drm, Group, Native, Provider, default_groups
from drmaaticd.units import Unit
from drmaaticd.validation import unit_of

#: Columns of the sample file's comments.
WIDTH = 100

_UNITS_EXPLAINED = (
    "Durations are written as `0.25 s`, `10 min`, `3 hours`, `90 days` or `1 h 30 min`; sizes as `2 GiB` "
    "(1024) or `512 MB` (1000); rates as `30/s` or `1 per 30 s`. Bare numbers are seconds, bytes and times "
    "per second. Unknown keys are errors."
)
_SAMPLE_EXPLAINED = (
    "Configuration of drmaaticd. Every key is here: set to its default, or commented out, with an example, "
    "where it has none. Durations are written as 0.25 s, 10 min, 3 hours or 90 days; sizes as 2 GiB or "
    '512 MB; rates as 30/s or 1 per 30 s. "drmaaticd check --config FILE" reports all that is wrong in it.'
)

#: The tables inside sections, which have a part of their own.
_NESTED = ("native", "providers")


def reference() -> str:
    """Return the reference page: Markdown, a table for each section."""
    parts = [f"# Configuration reference\n\n{_UNITS_EXPLAINED}\n"]
    for title, model in _tables():
        parts.append(f"## `{title}`\n\n{_summary(model)}\n\n{_markdown_table(model)}")
    return "\n".join(parts)


def sample(
    *, state_dir: str = "var/state", tasks_dir: str = "var/tasks", scripts_dir: str = "scripts.d"
) -> str:
    """Return a commented configuration file with all defaults, and these paths.

    Relative paths are relative to wherever the file is put.
    """
    paths = {"state_dir": state_dir, "tasks_dir": tasks_dir, "scripts_dir": scripts_dir}
    lines = _comment(_SAMPLE_EXPLAINED)
    for title, model in _tables():
        if title == "[groups.NAME]":
            lines += _sample_groups()
            continue
        values = paths if title == "[paths]" else ORCID.model_dump() if model is Provider else {}
        lines += ["", "", *_comment(_summary(model)), title, *_sample_keys(model, values)]
    return "\n".join(lines) + "\n"


def _tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Each table of the file, with its heading."""
    for name, model in SECTIONS.items():
        yield (f"[{name}.NAME]" if model is Group else f"[{name}]"), model
        if model is Drm:
            yield "[drm.native]", Native
        if model is Auth:
            yield "[[auth.providers]]", Provider


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _fields(model: type[BaseModel]) -> Iterable[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in model.model_fields.items() if name not in _NESTED)


def _markdown_table(model: type[BaseModel]) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in _fields(model):
        cells = (f"`{name}`", _allowed(field), _default_cell(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default_cell(field: FieldInfo) -> str:
    default = _default(field)
    if default is None:
        example = field.examples[0] if field.examples else None
        return f"–, e.g. `{_toml(example, None)}`" if example is not None else "–"
    return f"`{_toml(default, _unit(field))}`"


def _default(field: FieldInfo) -> Any:
    """The default, None if there is none or if it depends on the machine."""
    return None if field.default_factory is not None or field.is_required() else field.default


def _unit(field: FieldInfo) -> Unit | None:
    return unit_of(field.annotation, field.metadata)


def _allowed(field: FieldInfo) -> str:
    """What a field takes, in words: its kind and its bounds."""
    unit = _unit(field)
    bounds = []
    for item in _metadata(field):
        for kind, key, words in ((Ge, "ge", "from"), (Gt, "gt", "more than"), (Le, "le", "to")):
            if isinstance(item, kind):
                value = getattr(item, key)
                bounds.append(f"{words} {unit.format(value) if unit else value}")
        if isinstance(item, MaxLen):
            bounds.append(f"at most {item.max_length} entries")
    return " ".join([unit.name if unit else _kind(field.annotation), *bounds])


def _metadata(field: FieldInfo) -> Iterator[Any]:
    for item in field.metadata:
        # Field(ge=…, le=…) on an optional field keeps its bounds inside one more wrapper.
        yield from getattr(item, "metadata", None) or [item]


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    plain = [inner for inner in (get_args(annotation) or (annotation,)) if inner is not type(None)]
    if get_origin(annotation) is tuple:
        return "list of texts"
    names = {bool: "`true` or `false`", int: "whole number", Path: "path"}
    return names.get(plain[0], "text")


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]


def _sample_keys(model: type[BaseModel], values: dict[str, Any], *, explain: bool = True) -> Iterator[str]:
    for name, field in _fields(model):
        if explain:
            yield from ("", *_comment(field.description or ""))
        value = values.get(name)
        value = _default(field) if value is None else value
        example = field.examples[0] if field.examples else None
        if value is None:
            yield f"# {name} = {_toml(example, None)}"
            continue
        yield f"{name} = {_toml(value, _unit(field))}"
        if value == () and example is not None:
            yield f"# for example: {name} = {_toml(example, None)}"


def _sample_groups() -> Iterator[str]:
    yield from ("", "", *_comment(_summary(Group) + " A further table makes a further group."))
    for index, (name, group) in enumerate(default_groups().items()):
        yield from ("", f"[groups.{name}]")
        yield from _sample_keys(Group, group.model_dump(), explain=index == 0)
    yield from ("", "# [groups.administrators]", "# admin = true")


def _toml(value: Any, unit: Unit | None) -> str:
    """Return a value as TOML."""
    if unit is not None and not isinstance(value, str):
        value = unit.format(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item, None) for item in value)}]"
    if isinstance(value, str):
        return f"'{value}'" if "\\" in value and "'" not in value else json.dumps(value, ensure_ascii=False)
    return str(value)
