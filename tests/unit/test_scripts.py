"""Definitions: what they may say, every finding with its place, and the catalogue's reloading."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drmaaticd.drm.base import Array
from drmaaticd.errors import Finding
from drmaaticd.program import MAX_CONTENT
from drmaaticd.script_file import MAX_MEMBERS, ScriptTable
from drmaaticd.scripts import Catalogue, Resources, Script, Upload
from drmaaticd.toml_source import Source
from drmaaticd.validation import validate

FULL = """\
description = "Everything"
command = "bin/tool.py"
groups = ["registered", "staff"]
is_output_visible = true
html_scripts = true
rerunnable = true
required_tokens = 3
modules = ["blast/2.15", "python"]
setup = ["ulimit -c 0", '''
if true; then
	export X="$HOME"
fi''']

[environment]
OMP_NUM_THREADS = 4
GREETING = "a b=c 'd'"

[resources]
queue = "all.q@@hosts"
cpus = 2
memory = "1500 KiB"
max_clock_time = "1.5 s"
native = "-l gpu=1"
qos = "web"
licenses = "matlab:2,ansys"
gres = "gpu:a100:2"

[array]
begin = 2
end = 10
step = 3

[[param]]
name = "input"
type = "file"
description = "FASTA"
flag = "--input"
required = true
extensions = [".fasta", ".FA"]
max_size = "1 MiB"

[[param]]
name = "min_length"
type = "int"
flag = "--min-length"
default = 0
min = 0
max = 100

[[param]]
name = "ratio"
type = "float"
flag = "--ratio="
default = 1
choices = [0.5, 1]

[[param]]
name = "words"
type = "string"
multiple = true
separator = ","
max_length = 20
pattern = "[a-z]+"
default = ["a", "b"]
allow_dash = true

[[param]]
name = "fixed"
type = "string"
private = "-v"

[[param]]
name = "quick"
type = "bool"
flag = "--quick"
default = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scripts = tmp_path / "scripts.d"
    (scripts / "bin").mkdir(parents=True)
    _program(scripts / "bin" / "tool.py")
    return scripts


def _program(path: Path, content: bytes = b"#!/usr/bin/env python3\n", mode: int = 0o755) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _write(folder: Path, text: str, name: str = "one") -> Path:
    """Replace a definition as editors do, by a rename, so that each version is another file."""
    file = folder / f"{name}.toml"
    temporary = folder / f".{name}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(file)
    return file


def _load(folder: Path, text: str) -> Script:
    _write(folder, text)
    catalogue = Catalogue(folder)
    assert catalogue.load() == []
    script = catalogue.get("one")
    assert script is not None
    return script


def _findings(folder: Path, text: str) -> list[Finding]:
    _write(folder, text)
    catalogue = Catalogue(folder)
    found = catalogue.load()
    assert found == catalogue.findings
    if any(not finding.warning for finding in found):
        assert catalogue.get("one") is None
    return found


# -- what a definition says ----------------------------------------------------------------------


def test_everything_that_a_definition_may_say(folder: Path) -> None:
    script = _load(folder, FULL)
    assert (script.name, script.file) == ("one", folder / "one.toml")
    assert (script.description, script.required_tokens, script.groups) == (
        "Everything",
        3,
        ("registered", "staff"),
    )
    assert script.is_output_visible
    assert script.html_scripts
    assert script.rerunnable
    assert script.modules == ("blast/2.15", "python")
    assert script.setup[1].startswith("if true; then\n\texport")
    assert dict(script.environment) == {"OMP_NUM_THREADS": "4", "GREETING": "a b=c 'd'"}
    assert script.resources == Resources(
        queue="all.q@@hosts",
        cpus=2,
        memory=1500 * 1024,
        max_clock_time=2,
        native="-l gpu=1",
        qos="web",
        licenses="matlab:2,ansys",
        gres="gpu:a100:2",
    )
    assert script.array == Array(2, 10, 3)
    assert script.command == folder / "bin" / "tool.py"
    assert (script.inline, script.travels) == (None, True)
    assert script.content == b"#!/usr/bin/env python3\n"
    assert [param.name for param in script.params] == [
        "input",
        "min_length",
        "ratio",
        "words",
        "fixed",
        "quick",
    ]
    assert script.params[0].extensions == (".fasta", ".fa")


def test_a_request_is_checked_and_becomes_a_command_line(folder: Path) -> None:
    script = _load(folder, FULL)
    files = {"input": [Upload("my genes.fasta", 10, "token")]}
    checked = script.check({"min_length": ["5"], "quick": ["off"]}, files)
    assert checked.arguments() == ["--input", "input.fasta", "--min-length", "5", "--ratio=1", "a,b", "-v"]
    assert checked.params == (
        {"name": "input", "value": "input.fasta"},
        {"name": "min_length", "value": "5"},
        {"name": "ratio", "value": "1"},
        {"name": "words", "value": ["a", "b"]},
        {"name": "fixed", "value": "-v", "private": True},
        {"name": "quick", "value": "off"},
    )


def test_what_everyone_sees(folder: Path) -> None:
    assert _load(folder, FULL).public() == {
        "name": "one",
        "description": "Everything",
        "required_tokens": 3,
        "param": [
            {"name": "input", "type": "file", "description": "FASTA", "required": True}
            | {"extensions": [".fasta", ".fa"], "max_size": 1024**2},
            {"name": "min_length", "type": "int", "default": 0, "required": False, "min": 0, "max": 100},
            {"name": "ratio", "type": "float", "default": 1, "required": False, "choices": [0.5, 1]},
            {"name": "words", "type": "string", "default": ["a", "b"], "required": False}
            | {"max_length": 20, "pattern": "[a-z]+", "multiple": True},
            {"name": "quick", "type": "bool", "default": True, "required": False},
        ],
    }


def test_what_an_administrator_sees(folder: Path) -> None:
    shown = _load(folder, FULL).public(admin=True)
    params = {param["name"]: param for param in shown.pop("param")}
    assert params["fixed"] == {"name": "fixed", "type": "string", "required": False, "private": "-v"}
    assert params["ratio"]["flag"] == "--ratio="
    assert shown == {
        "name": "one",
        "description": "Everything",
        "required_tokens": 3,
        "command": str(folder / "bin" / "tool.py"),
        "groups": ["registered", "staff"],
        "queue": "all.q@@hosts",
        "cpus": 2,
        "memory_mb": 2,
        "max_clock_time": 2,
        "is_array": True,
        "begin_index": 2,
        "end_index": 10,
        "step_index": 3,
        "is_output_visible": True,
    }


def test_the_least_that_a_definition_says(folder: Path) -> None:
    script = _load(folder, 'command = "bin/tool.py"')
    assert script.public() == {"name": "one", "description": "", "required_tokens": 1, "param": []}
    assert script.public(admin=True).keys() == {
        "name", "description", "required_tokens", "param", "command", "groups", "cpus", "is_array",
        "is_output_visible",
    }  # fmt: skip
    assert (script.resources, script.array) == (Resources(), None)
    assert script.check({}, {}).arguments() == []


# -- programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("inline = '''\n#!/bin/bash\necho $1\n'''", b"#!/bin/bash\necho $1\n"),
        ("inline = 'echo \"$1\"'", b'#!/bin/sh\necho "$1"'),
        ("inline = '''\necho é\n'''", "#!/bin/sh\necho é\n".encode()),
    ],
)
def test_an_inline_script_begins_with_its_interpreter(folder: Path, text: str, content: bytes) -> None:
    script = _load(folder, text)
    assert (script.content, script.command, script.travels) == (content, None, True)


def test_an_inline_script_of_a_file_with_windows_line_ends_has_none(folder: Path) -> None:
    assert _load(folder, "inline = '''\r\n#!/bin/sh\r\necho\r\n'''").content == b"#!/bin/sh\necho\n"


def test_a_program_in_the_folder_travels_whatever_it_is(folder: Path) -> None:
    _program(folder / "bin" / "binary", b"\x7fELF rest")
    _program(folder / "bin" / "plain", b"#!/bin/sh\n", mode=0o644)
    for name in ("binary", "plain"):
        script = _load(folder, f'command = "bin/{name}"')
        assert (script.travels, script.content) == (True, (folder / "bin" / name).read_bytes())


def test_a_program_elsewhere_travels_if_it_is_a_script(folder: Path, tmp_path: Path) -> None:
    text = _program(tmp_path / "elsewhere.sh", b"#!/bin/sh\n")
    binary = _program(tmp_path / "binary", b"\x7fELF rest")
    assert _load(folder, f'command = "{text}"').content == b"#!/bin/sh\n"
    for command in (str(binary), "../binary"):
        script = _load(folder, f'command = "{command}"')
        assert (script.command, script.travels, script.content) == (binary, False, b"")


def test_a_large_program_runs_in_its_own_place(folder: Path, tmp_path: Path) -> None:
    for place, mode, words in (
        (tmp_path / "large.sh", 0o755, None),
        (tmp_path / "large.sh", 0o644, "must be executable, since it runs in its own place"),
        (folder / "bin" / "large.sh", 0o755, "must be at most 16 MiB"),
    ):
        _program(place, b"#!/bin/sh\n", mode)
        os.truncate(place, MAX_CONTENT + 1)
        if words is None:
            assert not _load(folder, f'command = "{place}"').travels
            continue
        (finding,) = _findings(folder, f'command = "{place}"')
        assert words in finding.message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bin/missing", "cannot be read: No such file"),
        ("bin", "must be a regular file"),
        ("fifo", "must be a regular file"),
        ("bin/tool.py/x", "cannot be read: Not a directory"),
        ("plain.txt", "must be executable or begin with #!"),
        ("empty", "must not be empty"),
        ("windows.sh", "has Windows line ends"),
    ],
)
def test_a_command_that_cannot_run_is_a_finding(folder: Path, command: str, words: str) -> None:
    os.mkfifo(folder / "fifo")
    _program(folder / "plain.txt", b"echo", 0o644)
    _program(folder / "empty", b"")
    _program(folder / "windows.sh", b"#!/bin/sh\r\necho\r\n")
    (finding,) = _findings(folder, f'# comment\ncommand = "{command}"')
    assert (finding.key, finding.line) == ("command", 2)
    assert words in finding.message


# -- findings ------------------------------------------------------------------------------------

PARAM = "[[param]]\nname = 'p'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"one.toml: command: is missing: a script has a command or is inline"),
        ("inline = 'x'\ncommand = 'bin/tool.py'", ":1: inline: must be left out"),
        ("comand = 'x'\ninline = 'x'", r":1: comand: is not known; did you mean 'command'\?"),
        ("inline = ''", "must not be empty"),
        ("inline = \"a\\u0000b\"", "must be a text of printable characters"),
        ("inline = 'x'\ngroups = ['a b']", r":2: groups\[0\]: must be a name"),
        ("inline = 'x'\ngroups = 'a'", r"groups: must be a list \(got 'a'\)"),
        ("inline = 'x'\nrequired_tokens = -1", "required_tokens: must be at least 0"),
        ("inline = 'x'\nmodules = ['a b']", r"modules\[0\]: must be a module's name"),
        ("inline = 'x'\n[environment]\n1A = 'x'", ":3: environment.1A: must be a variable's name"),
        ("inline = 'x'\n[environment]\nDRMAATICD_X = 'x'", "must not begin with DRMAATICD_"),
        ("inline = 'x'\n[environment]\nA = true", ":3: environment.A: must be a text or a number"),
        ("inline = 'x'\n[environment]\nA = \"\\u0000\"", "must not hold NUL"),
        ("inline = 'x'\n[resources]\ncpus = 0", r":3: resources.cpus: must be at least 1 \(got 0\)"),
        ("inline = 'x'\n[resources]\nmemory = '2 G'", ":3: resources.memory: has an unknown unit 'G'"),
        ("inline = 'x'\n[resources]\nmemory = '1 KiB'", "must be at least 1 MiB"),
        ("inline = 'x'\n[resources]\nqueue = 'a b'", "resources.queue: must be a name of letters"),
        ("inline = 'x'\n[resources]\nnative = '''a\nb'''", "must be one line"),
        ("inline = 'x'\n[resources]\nmax_clock_time = '0.5 s'", "must be at least 1 s"),
        ("inline = 'x'\n[array]\nbegin = 0\nend = 1", ":3: array.begin: must be at least 1"),
        ("inline = 'x'\n[array]\nbegin = 3\nend = 2", ":4: array.end: must be at least begin, which is 3"),
        ("inline = 'x'\n[array]\nend = 2\nstep = 0", ":4: array.step: must be at least 1"),
        ("inline = 'x'\n[array]\nbegin = 2", ":2: array.end: is missing"),
        (f"inline = 'x'\n[array]\nend = {MAX_MEMBERS + 1}", "must make at most 75000 members"),
        ("inline = 'x'\n[array]\nend = 3000000000", "must be at most 2147483647"),
        ("inline = 'x'\nparam = 1", "param: must be a list"),
    ],
)  # fmt: skip
def test_a_finding_says_where_what_and_what_is_allowed(folder: Path, text: str, words: str) -> None:
    (finding,) = _findings(folder, text)
    assert re.search(words, str(finding))
    assert finding.file == folder / "one.toml"


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ("", "type", "is missing"),
        ("type = 'integer'", "type", r"must be one of 'int', 'float', .*; did you mean 'int'"),
        ("type = 'int'\nmn = 1", "mn", r"is not known; did you mean 'min'\?"),
        ("type = 'int'\nmin = 'a'", "min", "must be a finite number"),
        ("type = 'float'\nmin = nan", "min", "must be a finite number"),
        ("type = 'int'\nmin = 1.5", "min", "must be a whole number, as the type is int"),
        ("type = 'int'\nmin = 2\nmax = 1", "max", "must be at least min, which is 2"),
        ("type = 'string'\nmin = 0", "min", "is only for int, float, not for string"),
        ("type = 'file'\ndefault = 0", "default", "is only for int, float, string, bool, not"),
        ("type = 'file'\nprivate = 'x'", "private", "is only for int, float"),
        ("type = 'bool'\nmultiple = true", "multiple", "is only for int, float"),
        ("type = 'bool'\nchoices = [true]", "choices", "is only for int, float"),
        ("type = 'int'\npattern = 'a'", "pattern", "is only for string, not for int"),
        ("type = 'int'\nextensions = ['.a']", "extensions", "is only for file, not"),
        ("type = 'int'\nallow_dash = true", "allow_dash", "is only for string, not"),
        ("type = 'string'\npattern = '(a'", "pattern", r"must be a pattern in RE2's syntax: missing \): \(a"),
        ("type = 'string'\npattern = '(?!a)'", "pattern", "must be a pattern in RE2's syntax"),
        ("type = 'string'\npattern = 'a{1000}{1000}'", "pattern", "must be a pattern in RE2's syntax"),
        ("type = 'string'\nmax_length = 0", "max_length", "must be at least 1"),
        ("type = 'string'\nflag = '--a b'", "flag", "printable characters without blanks"),
        ("type = 'string'\nflag = ''", "flag", "printable characters without blanks"),
        ("type = 'string'\nseparator = ','", "separator", "is only for parameters with multiple = true"),
        ("type = 'string'\nmultiple = true\nseparator = ''", "separator", "must not be empty"),
        ("type = 'file'\nmultiple = true\nseparator = '.'", "separator", "characters that stored names have"),
        ("type = 'file'\nextensions = ['fasta']", "extensions[0]", r"must be a dot, then .* \(got 'fasta'\)"),
        ("type = 'file'\nmax_size = '0 B'", "max_size", "must be at least 1 bytes"),
        ("type = 'int'\nchoices = []", "choices", "must not be empty"),
        ("type = 'int'\nchoices = [1, 'a']", "choices[1]", r"must be a whole number \(got 'a'\)"),
        ("type = 'int'\nchoices = [1, 9]\nmax = 5", "choices[1]", "must be a whole number of at most 5"),
        ("type = 'int'\ndefault = true", "default", r"as the type is int \(got true\)"),
        ("type = 'int'\ndefault = 1.0", "default", r"must be a whole number, as the type is int \(got 1.0\)"),
        ("type = 'int'\ndefault = '1'", "default", r"must be a whole number, as the type is int \(got '1'\)"),
        ("type = 'float'\ndefault = inf", "default", "must be a finite number, as the type is float"),
        ("type = 'bool'\ndefault = 1", "default", "must be true or false, as the type is bool"),
        ("type = 'string'\ndefault = 1", "default", "must be a text, as the type is string"),
        ("type = 'string'\ndefault = 1979-05-27", "default", "must be a number, a text, true, false, or"),
        ("type = 'int'\ndefault = 0\nmin = 1", "default", "must be a whole number of at least 1"),
        ("type = 'string'\ndefault = 'x'\nchoices = ['a']", "default", "must be one of a"),
        ("type = 'string'\ndefault = '-x'", "default", "must not begin with -"),
        ("type = 'string'\ndefault = 'abc'\nmax_length = 2", "default", "must have at most 2 characters"),
        ("type = 'string'\ndefault = ['a']", "default", "must be one value, since multiple is not true"),
        ("type = 'string'\nmultiple = true\ndefault = 'a'", "default", "must be a list, since"),
        ("type = 'string'\nmultiple = true\ndefault = []", "default", "must have at least one value"),
        ("type = 'string'\nmultiple = true\nseparator = ','\ndefault = ['a,b']", "default", "separates"),
        ("type = 'string'\nprivate = true", "private", "must be a text, as the type is string"),
        ("type = 'int'\nprivate = 1\ndefault = 2", "default", "must be left out, since private"),
        ("type = 'int'\nprivate = 1\nrequired = true", "required", "must be left out, since private"),
    ],
)  # fmt: skip
def test_a_parameter_is_checked_with_its_values(folder: Path, keys: str, key: str, words: str) -> None:
    found = _findings(folder, f"inline = 'x'\n{PARAM}{keys}")
    assert [finding.key for finding in found] == [f"param[0].{key}"]
    assert re.search(words, found[0].message)


@pytest.mark.parametrize("name", ["", "1a", "a b", "é", "a" * 65, "task_name", "dependencies", "a.b"])
def test_names_that_a_parameter_cannot_have(folder: Path, name: str) -> None:
    (finding,) = _findings(folder, f"inline = 'x'\n[[param]]\nname = '{name}'\ntype = 'int'")
    assert (finding.key, finding.line) == ("param[0].name", 3)


def test_names_differ_and_stored_names_too(folder: Path) -> None:
    def param(name: str, keys: str = "type = 'file'") -> str:
        return f"[[param]]\nname = '{name}'\n{keys}\n"

    (finding,) = _findings(folder, "inline = 'x'\n" + param("a") + param("b") + param("a"))
    assert (finding.key, finding.line) == ("param[2].name", 9)
    several = param("a", "type = 'file'\nmultiple = true")
    (finding,) = _findings(folder, "inline = 'x'\n" + several + param("a_0"))
    assert "could be the stored name of one of the files of a" in finding.message
    assert _load(folder, "inline = 'x'\n" + several + param("a_0", "type = 'int'") + param("a_x")).params


def test_everything_wrong_is_reported_at_once(folder: Path) -> None:
    text = """\
command = "bin/missing"
descripton = "x"
[resources]
cpus = "2"
[[param]]
name = "a b"
type = "int"
[[param]]
name = "p"
type = "int"
default = 5
max = 4
[array]
begin = 5
end = 4
"""
    found = [(finding.line, finding.key) for finding in _findings(folder, text)]
    assert found == [
        (1, "command"),
        (2, "descripton"),
        (4, "resources.cpus"),
        (6, "param[0].name"),
        (11, "param[1].default"),
        (15, "array.end"),
    ]


def test_what_works_but_is_likely_not_meant_is_a_warning(folder: Path) -> None:
    text = "inline = 'x'\ngroups = ['registred']\n" + PARAM + "type = 'int'\nrequired = true\ndefault = 1"
    _write(folder, text)
    catalogue = Catalogue(folder, known_groups={"registered", "anonymous"})
    found = catalogue.load()
    assert [(finding.key, finding.line, finding.warning) for finding in found] == [
        ("groups[0]", 2, True),
        ("param[0].default", 7, True),
    ]
    assert "did you mean 'registered'" in found[0].message
    assert catalogue.get("one") is not None


@pytest.mark.parametrize("name", ["-a", "a b", "_a", "é", "a" * 65])
def test_names_that_a_script_cannot_have(folder: Path, name: str) -> None:
    _write(folder, "inline = 'x'", name)
    (finding,) = Catalogue(folder).load()
    assert "the name must be a letter or digit" in finding.message


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
_params = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b"]),
        "type": st.sampled_from(["int", "float", "string", "bool", "file"]),
    },
    optional={
        key: st.one_of(_values, st.sampled_from([1, 0, "a", True, [1], ["a"]]))
        for key in (
            "default",
            "private",
            "choices",
            "min",
            "max",
            "pattern",
            "multiple",
            "separator",
            "required",
        )
    },
)


@settings(max_examples=150)
@given(
    st.lists(_params, max_size=2), st.dictionaries(st.sampled_from(list(ScriptTable.model_fields)), _values)
)
def test_whatever_a_definition_holds_the_answer_is_a_script_or_findings(
    params: list[dict[str, Any]], rest: dict[str, Any]
) -> None:
    table, findings = validate(
        ScriptTable, {"inline": "x", "param": params} | rest, Source(Path("/x.toml"), {})
    )
    assert (table is None) == bool(findings)
    for one in table.param if table else ():
        param = one.param()
        if param.fixed_texts:
            assert param.texts_problem(param.fixed_texts, trusted=True) is None
            assert all("\0" not in word for word in param.words(param.fixed_texts))


# -- the catalogue -------------------------------------------------------------------------------


def test_scripts_are_listed_by_name_and_other_files_are_none(folder: Path) -> None:
    for name in ("b", "a.x", "C"):
        _write(folder, "inline = 'x'", name)
    for other in (".x.toml.swp", ".x.toml", "x.toml~", "#x.toml#", "README.md", "x.TOML.bak"):
        (folder / other).write_text("not [ toml")
    catalogue = Catalogue(folder)
    assert catalogue.load() == []
    assert [script.name for script in catalogue.all()] == ["C", "a.x", "b"]
    assert catalogue.get("x") is None


def test_a_broken_file_is_reported_once_and_its_last_good_version_stays(folder: Path) -> None:
    _write(folder, "inline = 'first'")
    _write(folder, "inline = 'other'", "two")
    catalogue = Catalogue(folder)
    catalogue.load()
    _write(folder, "inline = 5")
    _write(folder, "inline = 'changed'", "two")
    assert catalogue.changed()
    assert [finding.key for finding in catalogue.load()] == ["inline"]
    one, two = catalogue.get("one"), catalogue.get("two")
    assert one is not None
    assert two is not None
    assert (one.inline, two.inline) == ("first", "changed")
    assert catalogue.load() == []
    assert [finding.key for finding in catalogue.findings] == ["inline"]
    _write(folder, "inline = 5\ndescription = 6")  # broken in another way: the new finding alone
    assert [finding.key for finding in catalogue.load()] == ["description"]
    _write(folder, "inline = 'mended'")
    assert catalogue.load() == []
    assert catalogue.findings == []
    mended = catalogue.get("one")
    assert mended is not None
    assert mended.inline == "mended"


def test_a_file_that_breaks_again_is_reported_again(folder: Path) -> None:
    _write(folder, "inline = 5")
    catalogue = Catalogue(folder)
    assert len(catalogue.load()) == 1
    _write(folder, "inline = 'x'")
    catalogue.load()
    _write(folder, "inline = 5")
    assert len(catalogue.load()) == 1


def test_a_file_that_has_gone_takes_its_script_and_its_findings_with_it(folder: Path) -> None:
    file = _write(folder, "inline = 'x'")
    catalogue = Catalogue(folder)
    catalogue.load()
    kept = catalogue.get("one")
    file.write_text("inline = 5")
    catalogue.load()
    file.unlink()
    assert catalogue.changed()
    assert catalogue.load() == []
    assert catalogue.get("one") is None
    assert catalogue.findings == []
    assert kept is not None  # a task that has it goes on with it
    assert kept.content == b"#!/bin/sh\nx"


def test_changes_are_noticed(folder: Path) -> None:
    _write(folder, 'command = "bin/tool.py"')
    catalogue = Catalogue(folder)
    assert catalogue.changed()
    catalogue.load()
    assert not catalogue.changed()
    (folder / "notes.txt").write_text("nothing to do with it")
    assert not catalogue.changed()
    for change in (
        lambda: _write(folder, "inline = 'x'", "two"),
        lambda: _write(folder, 'command = "bin/tool.py"\ndescription = "new"'),
        lambda: _program(folder / "bin" / "tool.py", b"#!/bin/sh\necho changed\n"),
        lambda: (folder / "bin" / "tool.py").unlink(),
        lambda: _program(folder / "bin" / "tool.py", b"#!/bin/sh\necho back\n"),
        lambda: (folder / "two.toml").unlink(),
    ):
        change()
        assert catalogue.changed()
        catalogue.load()
        assert not catalogue.changed()
    script = catalogue.get("one")
    assert script is not None
    assert script.content == b"#!/bin/sh\necho back\n"


def test_a_program_that_has_gone_is_a_finding_and_the_script_stays(folder: Path) -> None:
    _write(folder, 'command = "bin/tool.py"')
    catalogue = Catalogue(folder)
    catalogue.load()
    (folder / "bin" / "tool.py").unlink()
    assert [finding.key for finding in catalogue.load()] == ["command"]
    script = catalogue.get("one")
    assert script is not None
    assert script.content


def test_a_folder_that_is_missing_is_a_finding_and_nothing_is_taken_away(folder: Path) -> None:
    _write(folder, "inline = 'x'")
    catalogue = Catalogue(folder)
    catalogue.load()
    folder.rename(folder.with_name("away"))
    assert catalogue.changed()
    (finding,) = catalogue.load()
    assert (finding.file, finding.key) == (folder, "paths.scripts_dir")
    assert "No such file" in finding.message
    assert not catalogue.changed()
    assert catalogue.load() == []
    assert catalogue.get("one") is not None
    folder.with_name("away").rename(folder)
    assert catalogue.changed()
    assert catalogue.load() == []
    assert catalogue.findings == []


def test_an_empty_folder_that_goes_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    catalogue = Catalogue(folder)
    assert catalogue.load() == []
    assert not catalogue.changed()
    folder.rmdir()
    assert catalogue.changed()
    assert len(catalogue.load()) == 1


def test_what_is_no_file_does_not_stop_the_others(folder: Path) -> None:
    _write(folder, "inline = 'x'")
    (folder / "dir.toml").mkdir()
    (folder / "dangling.toml").symlink_to("nowhere")
    os.mkfifo(folder / "fifo.toml")
    (folder / "bytes.toml").write_bytes(b"inline = '\xff'")
    catalogue = Catalogue(folder)
    assert [finding.file.name for finding in catalogue.load()] == [
        "bytes.toml",
        "dangling.toml",
        "dir.toml",
        "fifo.toml",
    ]
    assert [script.name for script in catalogue.all()] == ["one"]


def test_a_relative_folder_is_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, 'command = "bin/tool.py"')
    monkeypatch.chdir(folder.parent)
    catalogue = Catalogue(Path("./x/../scripts.d"))
    assert catalogue.load() == []
    script = catalogue.get("one")
    assert script is not None
    assert script.command == folder / "bin" / "tool.py"
    assert script.travels
