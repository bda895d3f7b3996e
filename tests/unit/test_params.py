"""Parameters: which values are taken, what the answer to the others is, and the command line."""

from __future__ import annotations

import errno
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drmaaticd.checked import MAX_ARGUMENT, MAX_ARGUMENTS, RESERVED, Checked, check
from drmaaticd.errors import InvalidInput
from drmaaticd.params import MAX_VALUES, Param, Upload, extensions_of, stored_names

INT = Param(name="n", type="int")
FLOAT = Param(name="x", type="float")
STRING = Param(name="s", type="string", flag="--s")
BOOL = Param(name="b", type="bool")
FILE = Param(name="f", type="file")
FILES = Param(name="f", type="file", multiple=True)


def _errors(
    params: Sequence[Param],
    fields: Mapping[str, Sequence[str]] | None = None,
    files: Mapping[str, Sequence[Upload]] | None = None,
    **options: Any,
) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        check(params, fields or {}, files or {}, **options)
    return {error.name: error.detail for error in caught.value.errors}


def _upload(name: str, size: int = 1, token: Any = None) -> Upload:
    return Upload(name, size, token)


# -- one value -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "7", "-7", "+7", "007", "9" * 64])
def test_whole_numbers_are_taken(text: str) -> None:
    assert INT.problem(text) is None


@pytest.mark.parametrize("text", ["0", "-1.5", ".5", "5.", "1e-5", "1E+22", "-0", "1e308", "007.50"])
def test_numbers_are_taken(text: str) -> None:
    assert FLOAT.problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", " 1", "1 ", "1_000", "٣", "１", "0x10", "1,5", "one", "nan", "inf", "-", "+", "--1", "1\n", "²",
        "9" * 65, "1\u200b", "-inf", "infinity", "1__0", "1e", "e5", "1e1e1", "1.2.3", "\u22121",
    ],
)  # fmt: skip
def test_what_is_no_decimal_is_refused_for_both_kinds_of_number(text: str) -> None:
    assert str(INT.problem(text)).startswith("must be a whole number")
    assert str(FLOAT.problem(text)).startswith("must be a number")


def test_a_whole_number_has_no_point() -> None:
    assert INT.problem("1.0") == "must be a whole number (got '1.0')"
    assert INT.problem("1e3") is not None


def test_a_number_that_is_too_large_for_a_float_is_not_finite() -> None:
    assert FLOAT.problem("1e999") == "must be a finite number (got '1e999')"
    assert FLOAT.problem("1e99999") is not None


@given(st.integers(-(10**30), 10**30), st.integers(-100, 100), st.integers(0, 100))
def test_a_range_is_inclusive_and_exact(number: int, low: int, width: int) -> None:
    param = Param(name="n", type="int", min=low, max=low + width)
    assert (param.problem(str(number)) is None) == (low <= number <= low + width)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_as_python_writes_it_is_taken(number: float) -> None:
    assert FLOAT.problem(repr(number)) is None


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[+-]?[0-9_.eE ]{1,8}")))
@example("1_0")
@example("1\n")
def test_a_number_that_is_taken_is_ascii_and_finite(text: str) -> None:
    if FLOAT.problem(text) is None:
        assert re.fullmatch(r"[0-9eE.+-]+", text)
        assert math.isfinite(float(text))
    if INT.problem(text) is None:
        assert re.fullmatch(r"[+-]?[0-9]+", text)


@pytest.mark.parametrize(
    ("limits", "text", "words"),
    [
        ({"min": 1, "max": 10}, "11", "must be a whole number from 1 to 10 (got '11')"),
        ({"min": 1}, "0", "must be a whole number of at least 1 (got '0')"),
        ({"max": 1}, "2", "must be a whole number of at most 1 (got '2')"),
        ({"choices": (1, 2)}, "3", "must be one of 1, 2 (got '3')"),
    ],
)
def test_what_is_allowed_is_said(limits: dict[str, Any], text: str, words: str) -> None:
    assert Param(name="n", type="int", **limits).problem(text) == words


def test_a_number_is_a_choice_by_its_value() -> None:
    param = Param(name="x", type="float", choices=(0.5, 1))
    assert [param.problem(text) is None for text in ("0.50", "5e-1", "1.0", "1", "2")] == [True] * 4 + [False]


@pytest.mark.parametrize("text", ["true", "false", "1", "0", "yes", "no", "on", "off", "True", "OFF"])
def test_the_words_for_true_and_false(text: str) -> None:
    assert BOOL.problem(text) is None


@pytest.mark.parametrize("text", ["", "2", "truth", "y", " true", "ｔrue"])
def test_other_words_are_neither_true_nor_false(text: str) -> None:
    assert str(BOOL.problem(text)).startswith("must be true or false")


def test_a_text_has_5000_characters_unless_told() -> None:
    assert STRING.problem("é" * 5000) is None
    assert STRING.problem("é" * 5001) == "must have at most 5000 characters (has 5001)"
    assert Param(name="s", type="string", max_length=6000).problem("x" * 5001) is None
    assert Param(name="s", type="string", max_length=3).problem("😀😀😀") is None


@pytest.mark.parametrize("param", [INT, FLOAT, STRING, BOOL], ids=lambda param: param.type)
@pytest.mark.parametrize("text", ["a\0b", "\0", "a\ud800", "\udfff"])
def test_nul_and_lone_surrogates_are_refused(param: Param, text: str) -> None:
    assert str(param.problem(text)).startswith("must not hold NUL or half a character")


def test_a_pattern_matches_the_whole_text() -> None:
    param = Param(name="s", type="string", flag="--s", pattern="[a-z]{2}|x")
    assert [param.problem(text) is None for text in ("ab", "x", "abc", "ab\n", "")] == [True, True] + [
        False
    ] * 3
    assert param.problem("abc") == "must match [a-z]{2}|x as a whole (got 'abc')"
    assert Param(name="s", type="string", flag="--s", pattern=r"\p{L}{1,100}").problem("Åsa") is None


def test_a_pattern_that_would_stall_other_engines_is_answered() -> None:
    param = Param(name="s", type="string", flag="--s", pattern="(x+x+)+y")
    assert param.problem("x" * 5000) is not None


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{1,1000}{1,1000}", "x" * 1001])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="must be a pattern"):
        Param(name="s", type="string", pattern=pattern)


def test_a_positional_text_does_not_look_like_an_option() -> None:
    positional = Param(name="s", type="string")
    assert positional.problem("-rf") == "must not begin with - (got '-rf')"
    assert positional.problem("a-b") is None
    assert positional.problem("-rf", trusted=True) is None
    assert STRING.problem("-rf") is None
    assert Param(name="s", type="string", allow_dash=True).problem("-rf") is None
    assert Param(name="s", type="string", choices=("-1", "-9")).problem("-9") is None
    assert INT.problem("-5") is None


# -- a whole request -----------------------------------------------------------------------------


def test_every_wrong_field_is_named_at_once() -> None:
    params = [
        INT,
        Param(name="needed", type="string", required=True),
        Param(name="file", type="file", required=True),
        Param(name="fixed", type="int", private=3),
        BOOL,
    ]
    found = _errors(
        params,
        {"n": ["x"], "fixed": ["4"], "b": ["true", "no"], "neded": ["a"], "file": ["t"]},
        {"q": [_upload("a")]},
    )
    assert found == {
        "n": "must be a whole number (got 'x')",
        "needed": "is required",
        "file": "must be a file, not text",
        "fixed": "must not be sent: the administrator has set it",
        "b": "must be given once (was given 2 times)",
        "neded": "is no parameter; did you mean 'needed'? (the script has n, needed, file, b)",
        "q": "is no parameter (the script has n, needed, file, b)",
    }


def test_a_private_parameter_is_not_hinted_at() -> None:
    assert _errors([Param(name="secret_path", type="string", private="/x")], {"secret_pat": ["a"]}) == {
        "secret_pat": "is no parameter (the script has none)"
    }


def test_unknown_fields_can_be_ignored_private_ones_not() -> None:
    params = [INT, Param(name="fixed", type="int", private=3)]
    checked = check(params, {"n": ["1"], "other": ["x"]}, {"f": [_upload("a")]}, ignore_unknown=True)
    assert checked.arguments() == ["1", "3"]
    assert checked.files == ()
    assert set(_errors(params, {"fixed": ["3"]}, ignore_unknown=True)) == {"fixed"}


def test_the_services_own_fields_are_no_parameters() -> None:
    assert check([INT], {name: ["x"] for name in RESERVED}, {}).params == ()


def test_what_browsers_send_for_empty_fields_counts_as_left_out() -> None:
    params = [Param(name="n", type="int", default=4), BOOL, FILE]
    checked = check(params, {"n": [""], "b": [""]}, {"f": [_upload("", 0)]})
    assert checked.params == ({"name": "n", "value": "4"},)
    assert set(_errors([Param(name="n", type="int", required=True)], {"n": [""]})) == {"n"}
    assert set(
        _errors([Param(name="f", type="file", required=True)], {"f": [""]}, {"f": [_upload("", 0)]})
    ) == {"f"}


def test_an_empty_text_is_a_value_and_an_empty_file_with_a_name_is_a_file() -> None:
    checked = check([STRING, FILE], {"s": [""]}, {"f": [_upload("empty.txt", 0)]})
    assert checked.arguments() == ["--s", "", "f.txt"]


def test_a_default_is_passed_and_what_has_none_is_left_out() -> None:
    params = [
        Param(name="a", type="int", default=0, flag="--a"),
        Param(name="b", type="string", flag="--b"),
        Param(name="c", type="float", default=1e-05, flag="--c="),
        Param(name="d", type="bool", default=True, flag="--d"),
        Param(name="e", type="int", multiple=True, default=(1, 2)),
    ]
    checked = check(params, {}, {})
    assert checked.arguments() == ["--a", "0", "--c=1e-05", "--d", "1", "2"]
    assert [record["value"] for record in checked.params] == ["0", "1e-05", "true", ["1", "2"]]


def test_values_are_kept_as_they_were_sent() -> None:
    checked = check([INT, BOOL], {"n": ["+007"], "b": ["Yes"]}, {})
    assert checked.params == ({"name": "n", "value": "+007"}, {"name": "b", "value": "Yes"})
    assert checked.arguments() == ["+007", "true"]


def test_private_values_are_passed_and_marked() -> None:
    checked = check([Param(name="p", type="string", private="--verbose")], {}, {})
    assert checked.params == ({"name": "p", "value": "--verbose", "private": True},)
    assert checked.arguments() == ["--verbose"]


def test_a_file_for_a_text_parameter_is_refused() -> None:
    assert _errors([STRING], {}, {"s": [_upload("a")]}) == {"s": "must be text, not a file"}


def test_files_are_checked_by_name_and_size() -> None:
    param = Param(name="f", type="file", extensions=(".fasta", ".fa.gz"), max_size=1024**2)
    assert (
        check([param], {}, {"f": [_upload("My.Genes.FASTA", 1024**2)]}).files[0].stored_name
        == "f.Genes.FASTA"
    )
    assert check([param], {}, {"f": [_upload(r"C:\x\a.fa.gz")]}).files[0].stored_name == "f.fa.gz"
    assert _errors([param], {}, {"f": [_upload("a.fa")]}) == {
        "f": "must be a file with a name that ends in .fasta, .fa.gz (got 'a.fa')"
    }
    assert _errors([param], {}, {"f": [_upload("a.fasta", 1024**2 + 1)]}) == {
        "f": "must be a file of at most 1 MiB (has 1048577 bytes)"
    }
    assert _errors([param], {}, {"f": [_upload("a.fasta"), _upload("b.fasta")]}) == {
        "f": "must be given once (was given 2 times)"
    }


def test_several_values_are_all_checked_and_bounded() -> None:
    param = Param(name="n", type="int", multiple=True, max=9)
    assert check([param], {"n": ["1", "", "2"]}, {}).arguments() == ["1", "2"]
    assert _errors([param], {"n": ["1", "10"]})["n"].endswith("(got '10')")
    assert "at most 1000 times" in _errors([param], {"n": ["1"] * (MAX_VALUES + 1)})["n"]


def test_a_value_cannot_hold_the_separator() -> None:
    param = Param(name="s", type="string", flag="--s", multiple=True, separator=",", choices=())
    assert check([param], {"s": ["a", "b"]}, {}).arguments() == ["--s", "a,b"]
    assert "which separates the values" in _errors([param], {"s": ["a", "b,c"]})["s"]


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "texts", "words"),
    [
        ({"type": "int"}, ["5"], ["5"]),
        ({"type": "int", "flag": "--k"}, ["5"], ["--k", "5"]),
        ({"type": "int", "flag": "--k="}, ["5"], ["--k=5"]),
        ({"type": "string", "flag": "if="}, ["a b"], ["if=a b"]),
        ({"type": "string", "multiple": True}, ["a", "b"], ["a", "b"]),
        ({"type": "string", "multiple": True, "flag": "-k"}, ["a", "b"], ["-k", "a", "-k", "b"]),
        ({"type": "string", "multiple": True, "flag": "-k="}, ["a", "b"], ["-k=a", "-k=b"]),
        ({"type": "string", "multiple": True, "flag": "-k", "separator": ","}, ["a", "b"], ["-k", "a,b"]),
        ({"type": "string", "multiple": True, "flag": "-k=", "separator": ":"}, ["a", "b"], ["-k=a:b"]),
        ({"type": "string", "multiple": True, "separator": ","}, ["a"], ["a"]),
        ({"type": "bool"}, ["on"], ["true"]),
        ({"type": "bool"}, ["0"], ["false"]),
        ({"type": "bool", "flag": "--b"}, ["1"], ["--b"]),
        ({"type": "bool", "flag": "--b"}, ["NO"], []),
        ({"type": "bool", "flag": "--b="}, ["off"], ["--b=false"]),
        ({"type": "string"}, [], []),
        ({"type": "string", "multiple": True, "separator": ","}, [], []),
    ],
)
def test_words_of_the_command_line(keys: dict[str, Any], texts: list[str], words: list[str]) -> None:
    assert Param(name="k", **keys).words(texts) == words


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(_text, min_size=1, max_size=5), st.sampled_from([None, "--k", "--k="]))
def test_every_text_that_is_taken_reaches_the_command_line_unchanged(
    texts: list[str], flag: str | None
) -> None:
    param = Param(name="k", type="string", multiple=True, flag=flag, allow_dash=True)
    words = check([param], {"k": texts}, {}).arguments()
    expected = {None: texts, "--k=": [f"--k={text}" for text in texts]}
    assert words == expected.get(flag, [word for text in texts for word in ("--k", text)])


@given(_text)
def test_a_positional_text_that_is_taken_is_no_option(text: str) -> None:
    param = Param(name="k", type="string")
    assert (param.problem(text) is None) == (not text.startswith("-"))


def _run(words: list[str]) -> int:
    return subprocess.run(["/bin/true", *words], check=False, stdin=subprocess.DEVNULL).returncode


def test_arguments_are_as_long_as_the_system_takes_them() -> None:
    param = Param(name="k", type="string", flag="--k=", max_length=MAX_ARGUMENT)
    longest = "x" * (MAX_ARGUMENT - 1 - len("--k="))
    assert _run(check([param], {"k": [longest]}, {}).arguments()) == 0
    assert "longer than an argument may be, 128 KiB" in _errors([param], {"k": [longest + "x"]})["k"]
    with pytest.raises(OSError, match="too long") as caught:
        _run(["--k=" + longest + "x"])
    assert caught.value.errno == errno.E2BIG


def test_all_arguments_together_are_as_long_as_the_system_takes_them() -> None:
    first = Param(name="first", type="string", multiple=True, flag="--k=", max_length=MAX_ARGUMENT)
    last = Param(name="last", type="int")
    texts = ["x" * (MAX_ARGUMENT - 1 - len("--k=") - 8)] * (MAX_ARGUMENTS // MAX_ARGUMENT)
    assert _run(check([first, last], {"first": texts}, {}).arguments()) == 0
    assert set(_errors([first, last], {"first": texts, "last": ["1"]})) == {"last"}


def test_bytes_count_not_characters() -> None:
    param = Param(name="k", type="string", flag="--k", max_length=MAX_ARGUMENT)
    assert set(_errors([param], {"k": ["é" * (MAX_ARGUMENT // 2)]})) == {"k"}


# -- stored names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_name", "extensions"),
    [
        ("my genes.fasta", ".fasta"),
        ("a.tar.gz", ".tar.gz"),
        ("noext", ""),
        ("", ""),
        (".bashrc", ".bashrc"),
        ("a.", ""),
        ("a.b c", ""),
        ("v1.2 final.txt", ""),
        ("../../etc/passwd", ""),
        ("../x.y/z.txt", ".txt"),
        (r"C:\dir.d\a.csv", ".csv"),
        ("a..", ".."),
        ("a." + "x" * 32, "." + "x" * 32),
        ("a." + "x" * 33, ""),
        ("a.é", ""),
        ("a.b\n", ""),
        ("a.b\0", ""),
        ("a.$(id)", ""),
    ],
)
def test_extensions_that_are_kept(client_name: str, extensions: str) -> None:
    assert extensions_of(client_name) == extensions


def test_several_files_are_numbered() -> None:
    assert stored_names("f", ["a.txt"]) == ["f.txt"]
    assert stored_names("f", ["a.txt", "b", "c.tar.gz"]) == ["f_0.txt", "f_1", "f_2.tar.gz"]


@given(st.lists(st.text(max_size=50), min_size=1, max_size=4))
def test_stored_names_are_safe_and_differ(client_names: list[str]) -> None:
    names = stored_names("in-put_1", client_names)
    assert len(set(names)) == len(client_names)
    assert all(re.fullmatch(r"in-put_1[A-Za-z0-9._]{0,40}", name) for name in names)


def _two_files() -> Checked:
    files = {"f": [_upload("a.x", token="t1"), _upload("b\udcff.y", token="t2")]}
    return check([Param(name="s", type="string", flag="-s"), FILES], {"s": ["f_0.x"]}, files)


def test_stored_files_carry_the_clients_name_and_the_token() -> None:
    first, second = _two_files().files
    assert (first.param, first.stored_name, first.client_name, first.token) == ("f", "f_0.x", "a.x", "t1")
    assert (second.stored_name, second.token) == ("f_1.y", "t2")
    assert second.client_name.encode().startswith(b"b\xef\xbf\xbd")


def test_names_that_are_taken_are_replaced_everywhere_but_in_texts() -> None:
    checked = _two_files().renamed({"f_0.x": "12345678_f_0.x"})
    assert [file.stored_name for file in checked.files] == ["12345678_f_0.x", "f_1.y"]
    assert checked.arguments() == ["-s", "f_0.x", "12345678_f_0.x", "f_1.y"]
    assert checked.params[1]["value"] == ["12345678_f_0.x", "f_1.y"]


# -- the API -------------------------------------------------------------------------------------


def test_a_parameter_as_the_api_shows_it() -> None:
    param = Param(
        name="n",
        type="int",
        description="N",
        default=0,
        flag="--n",
        choices=(0, 1),
        min=0,
        max=9,
        multiple=False,
    )
    public = {"name": "n", "type": "int", "description": "N", "default": 0, "required": False}
    public |= {"choices": [0, 1], "min": 0, "max": 9}
    assert param.public() == public
    assert param.public(admin=True) == public | {"flag": "--n"}


def test_false_and_lists_as_defaults_are_shown() -> None:
    assert Param(name="b", type="bool", default=False).public()["default"] is False
    assert Param(name="s", type="string", multiple=True, default=("a",)).public()["default"] == ["a"]


@given(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3), max_size=5))
def test_whatever_is_sent_the_answer_is_a_command_line_or_errors_that_are_text(
    fields: dict[str, list[str]],
) -> None:
    params = [INT, FLOAT, STRING, BOOL, FILE]
    try:
        checked = check(params, fields, {})
    except InvalidInput as error:
        texts = [text for one in error.errors for text in (one.name, one.detail)]
    else:
        texts = checked.arguments()
    assert all(isinstance(text.encode(), bytes) for text in texts)
