"""A script's parameters as fields of a form: which control, what stands in it, what it takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado.escape import xhtml_escape

from drmaaticd.units import format_size

JSON = dict[str, Any]

#: The name of a field that keeps a file of an earlier task: this and the parameter's name.
KEEP = "keep:"

#: From this many allowed characters on a text is offered several lines.
LONG_TEXT = 200

#: As the service reads them (API.md, Tasks).
_BOOLS = {
    "true": "true", "1": "true", "yes": "true", "on": "true",
    "false": "false", "0": "false", "no": "false", "off": "false",
}  # fmt: skip

#: The task's own fields that people may fill in, in the order of the form.
OWN_LABELS = {
    "task_description": "Note",
    "dependencies": "Start after these tasks",
    "parent_task": "Work in the folder of",
    "dependency_type": "Start when they",
}
OWN_FIELDS = tuple(OWN_LABELS)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of an earlier task that the form offers to take over."""

    uuid: str
    stored_name: str
    client_name: str
    size: int | None = None

    @property
    def value(self) -> str:
        """What the form sends for it."""
        return f"{self.uuid}/{self.stored_name}"


@dataclass(slots=True)
class Field:
    """One parameter on the page."""

    name: str
    kind: str
    """``text``, ``area``, ``lines`` (a value each), ``select``, ``ticks``, ``yesno``, ``file``."""
    label: str
    description: str
    hint: str
    required: bool
    multiple: bool
    rules: JSON
    values: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    optional: bool = False
    """Whether nothing at all may be chosen."""
    accept: str = ""
    mode: str | None = None
    """The keys that a telephone shows (HTML's ``inputmode``)."""
    kept: list[Kept] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def id(self) -> str:
        """The control's id; those of its help and its error begin with it."""
        return f"f-{self.name}"

    @property
    def text(self) -> str:
        """What a single control holds."""
        return "\n".join(self.values) if self.kind == "lines" else (self.values[0] if self.values else "")

    @property
    def described_by(self) -> str:
        """The ids of what describes the control (WAI-ARIA's ``aria-describedby``)."""
        found = [f"{self.id}-help"] if self.description or self.hint or self.notes else []
        return " ".join([*found, f"{self.id}-wrong"] if self.error else found)


def public_params(script: JSON) -> list[JSON]:
    """The parameters that people may send; administrators are told of the others too."""
    return [param for param in script["param"] if "private" not in param]


def fields_of(script: JSON, values: Mapping[str, Sequence[str]] | None, typed: bool) -> list[Field]:
    """The fields of a script. What `values` does not name has its default, unless it was `typed`."""
    return [field_of(param, (values or {}).get(param["name"]), typed) for param in public_params(script)]


def field_of(param: JSON, given: Sequence[str] | None, typed: bool) -> Field:
    """One field; `given` is what stands in it, None for nothing."""
    default = texts_of(param.get("default"))
    several = bool(param.get("multiple"))
    made = Field(
        name=param["name"],
        kind=_kind(param, given),
        label=label_of(param["name"]),
        description=param.get("description", ""),
        hint=hint_of(param, default),
        required=bool(param.get("required")),
        multiple=several,
        rules=rules_of(param),
        optional=not param.get("required") and not default,
        accept=",".join(param.get("extensions", ())),
        mode=_mode(param),
    )
    if param["type"] == "bool":
        made.options = ["true", "false"]
    else:
        made.options = texts_of(param.get("choices"))
    if param["type"] != "file":
        made.values = list(given) if given is not None else ([] if typed else default)
        _match_options(made, param, default)
    return made


def _match_options(made: Field, param: JSON, default: list[str]) -> None:
    """Turn values into options, and say which ones are none."""
    if not made.options:
        return
    found = []
    for value in filter(None, made.values):
        option = _option(value, made.options, param["type"])
        if option is None:
            made.notes.append(f"“{value[:60]}” is not one of the choices.")
        else:
            found.append(option)
    made.values = found or (default if made.notes else [])


def _option(value: str, options: Sequence[str], kind: str) -> str | None:
    if kind == "bool":
        return _BOOLS.get(value.lower())
    if kind in ("int", "float"):
        try:
            return next((option for option in options if float(option) == float(value)), None)
        except ValueError:
            return None
    return value if value in options else None


def label_of(name: str) -> str:
    """A parameter's name for people: ``min_length`` is “Min length”."""
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def texts_of(value: Any) -> list[str]:
    """A default or choices, as a client would send them."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [text for one in value for text in texts_of(one)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value if isinstance(value, str) else repr(value)]


def _kind(param: JSON, given: Sequence[str] | None) -> str:
    if param["type"] in ("file", "bool"):
        return "file" if param["type"] == "file" else "yesno"
    if param.get("choices"):
        return "ticks" if param.get("multiple") else "select"
    if param.get("multiple"):
        return "lines"
    lined = "\n" in "".join([*(given or ()), *texts_of(param.get("default"))])
    long = param["type"] == "string" and (param.get("max_length") or 0) > LONG_TEXT
    return "area" if lined or long else "text"


def _mode(param: JSON) -> str | None:
    """Not where a minus may be needed: some telephones' number keys have none."""
    if param["type"] not in ("int", "float") or param.get("min", -1) < 0:
        return None
    return "numeric" if param["type"] == "int" else "decimal"


def range_words(param: JSON) -> str:
    """The range of a number, as the service words it; empty without one."""
    least, most = param.get("min"), param.get("max")
    if least is None:
        return "" if most is None else f"of at most {most}"
    return f"of at least {least}" if most is None else f"from {least} to {most}"


def hint_of(param: JSON, default: Sequence[str]) -> str:
    """What the field takes, for people."""
    kind, several = param["type"], bool(param.get("multiple"))
    parts = []
    if kind in ("int", "float") and not param.get("choices"):
        noun = ("Whole numbers" if several else "A whole number") if kind == "int" else (
            "Numbers" if several else "A number"
        )  # fmt: skip
        parts.append(f"{noun} {range_words(param)}".strip())
    if param.get("pattern"):
        parts.append(f"Must match {param['pattern']}")
    if param.get("max_length"):
        parts.append(f"At most {param['max_length']} characters")
    if several and kind != "file" and not param.get("choices"):
        parts.append("One value a line")
    if kind == "file":
        if param.get("extensions"):
            parts.append(f"{'Files' if several else 'A file'} ending in {', '.join(param['extensions'])}")
        if param.get("max_size"):
            parts.append(f"At most {format_size(param['max_size'])}{' each' if several else ''}")
    if default:
        parts.append(f"Default: {', '.join(_shown_default(kind, default))}")
    return ". ".join(parts) + ("." if parts else "")


def _shown_default(kind: str, default: Iterable[str]) -> list[str]:
    if kind == "bool":
        return ["yes" if text == "true" else "no" for text in default]
    return [text if text else "empty" for text in default]


def rules_of(param: JSON) -> JSON:
    """What the page's script checks a field by; the words in it are the service's own."""
    keys = ("type", "min", "max", "max_length", "pattern", "multiple", "extensions", "max_size", "required")
    rules = {key: param[key] for key in keys if param.get(key) not in (None, False)}
    if words := range_words(param):
        rules["range"] = words
    if param.get("max_size") is not None:
        rules["max_size_words"] = format_size(param["max_size"])
    return rules


def is_left_out(param: JSON) -> bool:
    """Whether an empty field means that the parameter is not sent.

    The service takes an empty text for a text. A form cannot help sending it, so that it means one only
    where somebody has taken a default away.
    """
    cleared = param["type"] == "string" and any(texts_of(param.get("default")))
    return not cleared or bool(param.get("choices")) or bool(param.get("required"))


def attributes(pairs: Mapping[str, str | None]) -> str:
    """Attributes for a tag, those that are None left out, escaped."""
    return "".join(f' {name}="{xhtml_escape(text)}"' for name, text in pairs.items() if text is not None)


def refill(task: JSON, script: JSON) -> tuple[dict[str, list[str]], dict[str, list[Kept]], list[str]]:
    """A task's values for its script's form: texts, files to keep, and names that are no parameters now."""
    values: dict[str, list[str]] = {}
    kept: dict[str, list[Kept]] = {}
    params = {param["name"]: param for param in public_params(script)}
    hidden = {param["name"] for param in script["param"]} - params.keys()
    gone = []
    for record in task["params"]:
        name, value = record["name"], record["value"]
        texts = value if isinstance(value, list) else [value]
        if name not in params:
            gone += [name] if name not in hidden else []
        elif params[name]["type"] == "file":
            names = task["files_name"]
            kept[name] = [Kept(task["uuid"], text, names[text]) for text in texts if text in names]
        else:
            values[name] = texts
    for name, param in params.items():
        if param["type"] != "file" and name not in values:
            values[name] = []  # it was not sent, and a default there is now was none then
    own = {
        "task_description": [task.get("task_description", "")],
        "parent_task": [task.get("parent_task", "")],
        "dependencies": [",".join(task.get("depends_on", ()))],
        "dependency_type": [task.get("dependency_type", "")],
    }
    return values | {name: texts for name, texts in own.items() if texts[0]}, kept, gone
