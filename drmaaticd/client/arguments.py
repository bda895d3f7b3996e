"""The arguments of ``drmaatic run SCRIPT``: the script's own definition makes its options.

Only what is a file and what is a flag is decided here; values are checked by the service, which
names every wrong one at once.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drmaaticd.client.terminal import printable

_PREFIX = "param:"


@dataclass(slots=True)
class Inputs:
    """The values and files for one task, by parameter."""

    values: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)


def add_parameters(parser: argparse.ArgumentParser, script: Mapping[str, Any]) -> None:
    """Give the parser an option for each parameter of the script, and ``-p NAME=VALUE`` for any.

    A parameter whose name is an option of the command already is reached by ``-p`` alone.
    """
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest=f"{_PREFIX}",
        help="a parameter by its name, whatever that is",
    )
    group = parser.add_argument_group("parameters of the script")
    for param in script.get("param", ()):
        if str(param["name"]).isprintable():  # it is shown as it is
            _add(group, param)


def _add(group: argparse._ArgumentGroup, param: Mapping[str, Any]) -> None:
    name, kind = str(param["name"]), param.get("type")
    options: dict[str, Any] = {"action": "append", "metavar": str(kind).upper()}
    if kind == "bool":
        options |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    options["help"] = _help(param)
    for flag in (f"--{name.replace('_', '-')}", f"--{name}"):
        # A flag may be taken by the command; or the two are the same word.
        with contextlib.suppress(argparse.ArgumentError):
            group.add_argument(flag, dest=_PREFIX + name, **options)
            options["help"] = argparse.SUPPRESS


def flags(script: Mapping[str, Any], parser: argparse.ArgumentParser) -> dict[str, str]:
    """What each parameter is called on the command line of this parser."""
    called = {}
    for param in script.get("param", ()):
        name = str(param["name"])
        own = [
            flag
            for action in parser._actions
            if action.dest == _PREFIX + name
            for flag in action.option_strings
        ]
        called[name] = own[0] if own else f"-p {name}"
    return called


def _help(param: Mapping[str, Any]) -> str:
    """What the definition says of a parameter, in a line."""
    words = [str(param["description"])] if param.get("description") else []
    facts = ["required"] if param.get("required") and "default" not in param else []
    facts += [
        f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key in ("default", "min", "max", "choices", "extensions", "max_size")
        if (value := param.get(key)) is not None
    ]
    if param.get("multiple"):
        facts.append("may be repeated")
    if facts:
        words.append(f"({'; '.join(facts)})")
    return printable(" ".join(words)).replace("%", "%%")


def inputs(arguments: argparse.Namespace, script: Mapping[str, Any]) -> Inputs:
    """What was given, told apart into values and files. Raises ValueError for a bad ``-p``."""
    given: list[tuple[str, str]] = []
    for key, values in vars(arguments).items():
        if key.startswith(_PREFIX) and values:
            given += _named(values) if key == _PREFIX else [(key.removeprefix(_PREFIX), v) for v in values]
    kinds = {param["name"]: param.get("type") for param in script.get("param", ())}
    result = Inputs()
    for name, value in given:
        if kinds.get(name) == "file":
            result.files.setdefault(name, []).append(Path(value))
        else:
            result.values.setdefault(name, []).append(value)
    return result


def _named(pairs: Sequence[str]) -> list[tuple[str, str]]:
    result = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"-p {pair}: NAME=VALUE is expected")
        result.append((name, value))
    return result
