"""From `scripts.d/*.toml` to a `Script`: what a definition may say, and everything wrong with it.

Keeping the scripts and reading them anew is the business of `scripts`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from drmaaticd import program, toml_source
from drmaaticd.checked import RESERVED
from drmaaticd.drm.base import Array
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.params import Param, Value, text_of
from drmaaticd.script import Resources, Script
from drmaaticd.toml_source import KeyPath, Source
from drmaaticd.validation import (
    DrmName,
    Duration,
    GroupName,
    Line,
    Model,
    Pattern,
    Size,
    did_you_mean,
    matching,
    shown,
    validate,
)

#: Members of an array job; Grid Engine's own default bound (``max_aj_tasks``).
MAX_MEMBERS = 75_000
#: What fits every DRM's index.
MAX_INDEX = 2**31 - 1
MAX_PARAMS = 200
MAX_CHOICES = 1000
#: Characters; a value that is longer could not be one argument in any alphabet.
MAX_MAX_LENGTH = 128 * 1024

_SCRIPT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Keys of a parameter that only some types have.
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "min": ("int", "float"),
    "max": ("int", "float"),
    "choices": ("int", "float", "string"),
    "max_length": ("string",),
    "pattern": ("string",),
    "allow_dash": ("string",),
    "extensions": ("file",),
    "max_size": ("file",),
    "multiple": ("int", "float", "string", "file"),
    "default": ("int", "float", "string", "bool"),
    "private": ("int", "float", "string", "bool"),
}
_VALUE_WORDS = {
    "int": "a whole number",
    "float": "a finite number",
    "string": "a text",
    "bool": "true or false",
}


def _printable(value: str) -> str:
    if any(not (c.isprintable() or c in "\n\t") for c in value):
        raise ValueError("must be a text of printable characters")
    return value


def _param_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", value):
        raise ValueError("must be a letter, then up to 63 letters, digits, _ and -")
    if value in RESERVED:
        raise ValueError("must be another name: this field is the service's own")
    return value


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("must be a variable's name: letters, digits and _, no digit first")
    if value.startswith("DRMAATICD_"):
        raise ValueError("must not begin with DRMAATICD_: these variables are the launcher's own")
    return value


def _variable_value(value: Any) -> str:
    """Take a text, or a number as it would be written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a text or a number")
    text = str(value)
    if "\0" in text:
        raise ValueError("must not hold NUL")
    return text


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _value(value: Any) -> Any:
    """Take a value of any type, or a list of such; the parameter's type is looked at later."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, int | float | str):
            raise ValueError("must be a number, a text, true, false, or a list of these")
    return tuple(value) if isinstance(value, list) else value


Text = Annotated[str, AfterValidator(_printable)]
AnyValue = Annotated[Any, BeforeValidator(_value)]
Number = Annotated[Any, BeforeValidator(_number)]
Choices = Annotated[tuple[AnyValue, ...], Strict(False), Field(min_length=1, max_length=MAX_CHOICES)]
Extension = Annotated[
    str, matching(r"\.[A-Za-z0-9.]{1,32}", 'a dot, then 1 to 32 letters and digits: ".fasta"')
]
Extensions = Annotated[tuple[Extension, ...], Strict(False), Field(max_length=100)]
Flag = Annotated[str, matching(r"[!-~]{1,64}", "1 to 64 printable characters without blanks")]
Module = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9_.+/:@-]{0,127}", "a module's name, such as blast/2.15")
]


class ParamTable(Model):
    """A ``[[param]]`` of a definition."""

    name: Annotated[str, AfterValidator(_param_name)]
    type: Literal["int", "float", "string", "bool", "file"]
    description: Annotated[Text, Field(max_length=2000)] = ""
    required: bool = False
    default: AnyValue = None
    private: AnyValue = None
    flag: Flag | None = None
    choices: Choices = ()
    min: Number = None
    max: Number = None
    max_length: int | None = Field(default=None, ge=1, le=MAX_MAX_LENGTH)
    pattern: Pattern | None = None
    multiple: bool = False
    separator: Annotated[Line, Field(min_length=1, max_length=8)] | None = None
    extensions: Extensions = ()
    max_size: Size | None = Field(default=None, ge=1)
    allow_dash: bool = False

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together; values only once the rules for them are right."""
        rules = [*self._rule_problems()]
        yield from rules
        if not rules:
            yield from self._value_problems()

    def _rule_problems(self) -> Iterator[tuple[KeyPath, str]]:
        for key, types in _ONLY_FOR.items():
            if key in self.model_fields_set and self.type not in types:
                yield (key,), f"is only for {', '.join(types)}, not for {self.type}"
        for key in ("min", "max"):
            if self.type == "int" and isinstance(getattr(self, key), float):
                yield (key,), "must be a whole number, as the type is int"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield ("max",), f"must be at least min, which is {self.min}"
        if self.separator is not None and not self.multiple:
            yield ("separator",), "is only for parameters with multiple = true"
        if (
            self.separator is not None
            and self.type == "file"
            and re.search(r"[A-Za-z0-9._-]", self.separator)
        ):
            yield (
                ("separator",),
                "must not be made of characters that stored names have: letters, digits, . _ -",
            )
        if self.private is not None and (self.default is not None or self.required):
            key = "default" if self.default is not None else "required"
            yield (key,), "must be left out, since private fixes the value"

    def _value_problems(self) -> Iterator[tuple[KeyPath, str]]:
        for index, choice in enumerate(self.choices):
            if not self._is_typed(choice):
                yield ("choices", index), f"must be {_VALUE_WORDS[self.type]} (got {shown(choice)})"
            elif problem := self.param(choices=()).problem(text_of(choice), trusted=True):
                yield ("choices", index), problem
        for key in ("default", "private"):
            value = getattr(self, key)
            if value is not None and (problem := self._fixed_problem(value, trusted=key == "private")):
                yield (key,), problem

    def _fixed_problem(self, value: Value | tuple[Value, ...], *, trusted: bool) -> str | None:
        if isinstance(value, tuple) is not self.multiple:
            words = (
                "a list, since multiple is true" if self.multiple else "one value, since multiple is not true"
            )
            return f"must be {words} (got {shown(value)})"
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            return "must have at least one value, or be left out"
        for one in values:
            if not self._is_typed(one):
                return f"must be {_VALUE_WORDS[self.type]}, as the type is {self.type} (got {shown(one)})"
        return self.param().texts_problem([text_of(one) for one in values], trusted=trusted)

    def _is_typed(self, value: Value) -> bool:
        if self.type == "bool" or isinstance(value, bool):
            return self.type == "bool" and isinstance(value, bool)
        if self.type == "string":
            return isinstance(value, str)
        if self.type == "int":
            return isinstance(value, int)
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))

    def param(self, **changes: Any) -> Param:
        """The parameter that this table describes."""
        values = {key: getattr(self, key) for key in type(self).model_fields} | changes
        values["extensions"] = tuple(extension.lower() for extension in self.extensions)
        return Param(**values)


class ResourcesTable(Model):
    """The ``[resources]`` of a definition."""

    queue: DrmName | None = None
    cpus: int = Field(default=1, ge=1, le=100_000)
    memory: Size | None = Field(default=None, ge=1024**2)
    max_clock_time: Duration | None = Field(default=None, ge=1)
    qos: DrmName | None = None
    licenses: DrmName | None = None
    gres: DrmName | None = None
    native: Line = ""


class ArrayTable(Model):
    """The ``[array]`` of a definition."""

    begin: int = Field(default=1, ge=1, le=MAX_INDEX)
    end: int = Field(ge=1, le=MAX_INDEX)
    step: int = Field(default=1, ge=1, le=MAX_INDEX)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together."""
        members = len(Array(self.begin, self.end, self.step).indices)
        if self.end < self.begin:
            yield ("end",), f"must be at least begin, which is {self.begin} (got {self.end})"
        elif members > MAX_MEMBERS:
            yield ("end",), f"must make at most {MAX_MEMBERS} members (makes {members})"


class ScriptTable(Model):
    """A definition as a whole."""

    description: Annotated[Text, Field(max_length=5000)] = ""
    command: Annotated[Line, Field(min_length=1)] | None = None
    inline: Annotated[Text, Field(min_length=1)] | None = None
    required_tokens: int = Field(default=1, ge=0, le=1_000_000)
    groups: Annotated[tuple[GroupName, ...], Strict(False)] = ()
    is_output_visible: bool = False
    html_scripts: bool = False
    rerunnable: bool = False
    modules: Annotated[tuple[Module, ...], Strict(False)] = ()
    setup: Annotated[tuple[Text, ...], Strict(False)] = ()
    environment: dict[
        Annotated[str, AfterValidator(_variable)], Annotated[str, BeforeValidator(_variable_value)]
    ] = Field(default={})
    resources: ResourcesTable = ResourcesTable()
    array: ArrayTable | None = None
    param: Annotated[tuple[ParamTable, ...], Strict(False), Field(max_length=MAX_PARAMS)] = ()

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together."""
        if self.command is None and self.inline is None:
            yield ("command",), "is missing: a script has a command or is inline"
        if self.command is not None and self.inline is not None:
            yield ("inline",), "must be left out, since there is a command"
        first: dict[str, int] = {}
        for index, param in enumerate(self.param):
            if first.setdefault(param.name, index) != index:
                yield ("param", index, "name"), f"is the name of param[{first[param.name]}] already"
        yield from self._file_name_problems()

    def _file_name_problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Several files of `a` are stored as ``a_0``, ``a_1``: no file parameter may be called so."""
        files = [(index, param) for index, param in enumerate(self.param) if param.type == "file"]
        several = {param.name for _, param in files if param.multiple}
        for index, param in files:
            base, _, number = param.name.rpartition("_")
            if base in several and number.isdecimal():
                yield ("param", index, "name"), f"could be the stored name of one of the files of {base}"


@dataclass(frozen=True, slots=True)
class Read:
    """What came of reading a definition: a script unless it is broken, and the findings.

    `programs` has the stamp of the command's file, which is worth watching even if there is none yet.
    """

    script: Script | None
    findings: tuple[Finding, ...]
    programs: Mapping[Path, program.Stamp] = field(default_factory=dict)


def read(file: Path, scripts_dir: Path, known_groups: Collection[str] | None = None) -> Read:
    """Read a definition. Blocking. Groups that are not among the known ones are a warning."""
    errors: list[Finding] = []
    if not _SCRIPT_NAME.fullmatch(file.stem):
        words = "the name must be a letter or digit, then up to 63 letters, digits, ., _ and -"
        errors.append(Finding(file, f"{words} (got {shown(file.stem)})"))
    try:
        source = toml_source.read(file)
    except ConfigurationError as error:
        return Read(None, (*errors, *error.findings))
    table, found = validate(ScriptTable, source.data, source)
    errors += found
    path = _program_path(source, scripts_dir)
    programs = {} if path is None else {path: program.stamp(path)}
    ready = None
    if path is not None:  # even if other keys are wrong, so that everything is reported at once
        try:
            ready = program.read(path, scripts_dir)
        except program.NoProgram as error:
            errors.append(source.finding(("command",), str(error)))
    warnings = [*_group_warnings(source, known_groups), *_table_warnings(table, source)]
    findings = sorted([*errors, *warnings], key=lambda finding: finding.line or 0)
    script = _script(file, table, ready) if table is not None and not errors else None
    return Read(script, tuple(findings), programs)


def _program_path(source: Source, scripts_dir: Path) -> Path | None:
    command = source.data.get("command")
    if not isinstance(command, str) or not command or not command.isprintable():
        return None
    return program.path_of(command, scripts_dir)


def _group_warnings(source: Source, known: Collection[str] | None) -> Iterator[Finding]:
    groups = source.data.get("groups")
    if known is None or not isinstance(groups, list):
        return
    for index, group in enumerate(groups):
        if isinstance(group, str) and group not in known:
            message = f"there is no group {group!r} in the configuration{did_you_mean(group, known)}"
            yield source.finding(("groups", index), message, warning=True)


def _table_warnings(table: ScriptTable | None, source: Source) -> Iterator[Finding]:
    for index, param in enumerate(table.param if table else ()):
        if param.required and param.default is not None:
            message = "is never used, since the parameter is required"
            yield source.finding(("param", index, "default"), message, warning=True)


def _script(file: Path, table: ScriptTable, ready: program.Program | None) -> Script:
    resources, array = table.resources, table.array
    seconds = resources.max_clock_time
    return Script(
        name=file.stem,
        file=file,
        description=table.description,
        required_tokens=table.required_tokens,
        groups=table.groups,
        is_output_visible=table.is_output_visible,
        html_scripts=table.html_scripts,
        rerunnable=table.rerunnable,
        modules=table.modules,
        setup=table.setup,
        environment=MappingProxyType(dict(table.environment)),
        resources=Resources(
            queue=resources.queue,
            cpus=resources.cpus,
            memory=resources.memory,
            max_clock_time=None if seconds is None else math.ceil(seconds),
            qos=resources.qos,
            licenses=resources.licenses,
            gres=resources.gres,
            native=resources.native,
        ),
        array=None if array is None else Array(array.begin, array.end, array.step),
        params=tuple(param.param() for param in table.param),
        command=ready.path if ready else None,
        inline=table.inline,
        content=ready.content if ready else program.inline(table.inline or ""),
        travels=ready.travels if ready else True,
    )
