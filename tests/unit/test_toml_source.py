"""Reading TOML: each key has its line, and each way a file can be unreadable is one finding."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.toml_source import MAX_FILE_SIZE, KeyPath, Source, _locate, dotted, read

EXAMPLE = '''\
# a comment with [brackets] and = signs
top = "x"

[server] # a table
port = 1   # ] } ,
"quoted key" = 2
'literal.key' = { a = 1, "b" = [1, { deep = "}" }] }

long = """
[not.a.table]
key = "no"\\"""
still"""""
raw = \'\'\'
[[no]]
\'\'\'\'
dotted.name . here = 1979-05-27 07:32:00
empty = []
list = [ # comment, with ]
  "a]", # one
  """
two""",
  [[], [ 3 ,],
  ],
]

[[auth.providers]]
name = "one"

[auth.providers.inner]
x = 1
[[auth.providers]]

name = "two"
[[auth.providers.sub]]
y = 1
[[auth.providers.sub]]
y = 2
[auth]
anonymous = true
'''


def _read(tmp_path: Path, text: str | bytes) -> Source:
    file = tmp_path / "x.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(file)


def _refused(tmp_path: Path, text: str | bytes) -> Finding:
    with pytest.raises(ConfigurationError) as caught:
        _read(tmp_path, text)
    (finding,) = caught.value.findings
    return finding


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_key_has_its_line(tmp_path: Path, newline: str) -> None:
    source = _read(tmp_path, EXAMPLE.replace("\n", newline))
    expected: dict[KeyPath, int] = {
        ("top",): 2,
        ("server",): 4,
        ("server", "port"): 5,
        ("server", "quoted key"): 6,
        ("server", "literal.key"): 7,
        ("server", "literal.key", "a"): 7,
        ("server", "literal.key", "b", 1, "deep"): 7,
        ("server", "long"): 9,
        ("server", "raw"): 13,
        ("server", "dotted", "name", "here"): 16,
        ("server", "empty"): 17,
        ("server", "list"): 18,
        ("server", "list", 0): 19,
        ("server", "list", 1): 20,
        ("server", "list", 2): 22,
        ("server", "list", 2, 1, 0): 22,
        ("auth", "providers"): 26,
        ("auth", "providers", 0): 26,
        ("auth", "providers", 0, "name"): 27,
        ("auth", "providers", 0, "inner", "x"): 30,
        ("auth", "providers", 1): 31,
        ("auth", "providers", 1, "name"): 33,
        ("auth", "providers", 1, "sub", 0, "y"): 35,
        ("auth", "providers", 1, "sub", 1, "y"): 37,
        ("auth",): 38,
        ("auth", "anonymous"): 39,
    }
    assert {path: source.lines[path] for path in expected} == expected


def test_a_missing_key_has_the_line_of_its_table(tmp_path: Path) -> None:
    source = _read(tmp_path, EXAMPLE)
    assert source.line(("auth", "providers", 1, "userinfo_url")) == 31
    assert source.line(("nowhere",)) is None
    assert source.line(()) is None


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    assert _read(tmp_path, "\ufeffa = 1").data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = 1\nb = ", 2, "Invalid value"),
        ("a = 1\n\nb = 2\na = 3\n", 4, "Cannot overwrite a value"),
        ("a = [1,\n2", 2, "at the end"),
        (b"a = 1\nb = '\xff'", 2, "byte 0xff"),
        ("a = " + "9" * 5000, None, "not valid TOML"),
        ("a = " + "[" * 20_000, None, "nested too deeply"),
        (b"#" * (MAX_FILE_SIZE + 1), None, "larger than 1024 KiB"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, line: int | None, words: str
) -> None:
    finding = _refused(tmp_path, text)
    assert (finding.line, finding.file) == (line, tmp_path / "x.toml")
    assert words in finding.message


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    no_file = "not a regular file"
    for name, words in (("missing", "No such file"), (".", no_file), ("fifo", no_file)):
        with pytest.raises(ConfigurationError, match=words):
            read(tmp_path / name)


_names = st.one_of(st.sampled_from(["a", "b", "c-1", "_"]), st.text(st.characters(codec="utf-8"), max_size=5))
_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)
_values = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), _texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


def _quoted(text: str) -> str:
    body = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{body}"'


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[\n" + "".join(f"{_written(item)} , # ]\n" for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_written(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path} | {deeper for key, item in inside for deeper in _paths(item, (*path, key))}


@given(st.dictionaries(_names, _values, max_size=4), st.dictionaries(_names, st.lists(_values), max_size=2))
def test_the_scan_finds_the_keys_that_tomllib_reads(top: dict[str, Any], tables: dict[str, Any]) -> None:
    lines = [f"{_quoted(key)} = {_written(value)}" for key, value in top.items()]
    for name, values in tables.items():
        for value in values:
            lines += [f'[[ "t". {_quoted(name)} ]]  # x', f"'k' = {_written(value)}"]
    text = "\n".join(lines)
    assume("t" not in top)
    assert set(_locate(text)) | {()} == _paths(tomllib.loads(text))


def test_paths_are_written_as_people_do() -> None:
    assert dotted(("param", 1, "min")) == "param[1].min"
    assert dotted(("groups", "a b", "rate")) == "groups.'a b'.rate"
    assert dotted(()) == ""
