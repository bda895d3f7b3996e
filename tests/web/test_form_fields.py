"""A script's parameters as fields, what forms send, tasks compared: the pure parts of the page's forms."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drmaaticd.errors import (
    FieldError,
    InvalidInput,
    KeyReused,
    NotFound,
    Rejected,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from drmaaticd.web import problem
from drmaaticd.web.ui import comparison, refusals, words
from drmaaticd.web.ui.fields import Kept, attributes, field_of, fields_of, hint_of, is_left_out, refill
from drmaaticd.web.ui.typed import Refused, Typed
from tests.web.fakes import TASK, FakeCaller, FakeDraft, FakeService


def script(*params: dict[str, Any]) -> dict[str, Any]:
    return {"name": "align", "param": [{"required": False, **param} for param in params]}


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ({"type": "int"}, "text"),
        ({"type": "int", "multiple": True}, "lines"),
        ({"type": "string"}, "text"),
        ({"type": "string", "max_length": 201}, "area"),
        ({"type": "string", "default": "a\nb"}, "area"),
        ({"type": "string", "choices": ["a"]}, "select"),
        ({"type": "float", "choices": [0.5], "multiple": True}, "ticks"),
        ({"type": "bool"}, "yesno"),
        ({"type": "file"}, "file"),
    ],
)
def test_each_parameter_has_its_control(param: dict[str, Any], kind: str) -> None:
    assert field_of({"name": "x", **param}, None, False).kind == kind


def test_values_stand_as_the_service_reads_them() -> None:
    choice = {"name": "x", "type": "float", "choices": [0.5, 1.0], "default": 1.0}
    assert field_of(choice, None, False).values == ["1.0"]
    assert field_of(choice, ["5e-1"], False).values == ["0.5"]
    unknown = field_of(choice, ["7"], False)
    assert (unknown.values, unknown.notes) == (["1.0"], ["“7” is not one of the choices."])
    assert field_of(choice, ["abc"], False).notes
    assert field_of({"name": "x", "type": "bool"}, ["On"], False).values == ["true"]
    assert field_of({"name": "x", "type": "bool", "default": False}, None, False).values == ["false"]
    assert field_of({"name": "x", "type": "int", "default": 0}, None, False).text == "0"
    # A form that was typed has no defaults but what stood in it.
    assert field_of({"name": "x", "type": "int", "default": 5}, None, True).text == ""


def test_what_only_the_administrator_sets_is_no_field() -> None:
    known = script({"name": "a", "type": "int"}, {"name": "b", "type": "bool", "private": False})
    assert [one.name for one in fields_of(known, {"b": ["true"]}, False)] == ["a"]


def test_hints_say_what_is_allowed() -> None:
    assert hint_of({"type": "int", "min": 1}, []) == "A whole number of at least 1."
    assert (
        hint_of({"type": "float", "max": 0.5, "multiple": True}, [])
        == "Numbers of at most 0.5. One value a line."
    )
    files = {"type": "file", "extensions": [".fa", ".fasta"], "max_size": 1024**3, "multiple": True}
    assert hint_of(files, []) == "Files ending in .fa, .fasta. At most 1 GiB each."
    assert hint_of({"type": "bool"}, ["true"]) == "Default: yes."
    assert hint_of({"type": "string"}, [""]) == "Default: empty."
    assert hint_of({"type": "string"}, []) == ""


def test_an_empty_text_is_sent_where_it_takes_a_default_away() -> None:
    assert is_left_out({"type": "string"})
    assert is_left_out({"type": "string", "default": ""})
    assert is_left_out({"type": "int", "default": 5})
    assert not is_left_out({"type": "string", "default": "x"})
    assert is_left_out({"type": "string", "default": "x", "required": True})
    assert is_left_out({"type": "string", "default": "x", "choices": ["x"]})


def test_attributes_are_escaped() -> None:
    assert attributes({"id": "a", "title": '"><b>', "required": "", "hidden": None}) == (
        ' id="a" title="&quot;&gt;&lt;b&gt;" required=""'
    )


def test_a_task_fills_its_scripts_form() -> None:
    task = {
        "uuid": TASK,
        "task_description": "mine",
        "depends_on": ["one", "two"],
        "dependency_type": "afterok",
        "files_name": {"reads_0.fq": "a.fq", "reads_1.fq": "b.fq"},
        "params": [
            {"name": "reads", "value": ["reads_0.fq", "reads_1.fq"]},
            {"name": "k", "value": "7"},
            {"name": "old", "value": "1"},
            {"name": "hidden", "value": "2"},
        ],
    }
    known = script(
        {"name": "reads", "type": "file", "multiple": True},
        {"name": "k", "type": "int"},
        {"name": "new", "type": "int", "default": 3},
        {"name": "hidden", "type": "int", "private": 2},
    )
    values, kept, gone = refill(task, known)
    assert values == {
        "k": ["7"],
        "new": [],
        "task_description": ["mine"],
        "dependencies": ["one,two"],
        "dependency_type": ["afterok"],
    }
    assert kept == {"reads": [Kept(TASK, "reads_0.fq", "a.fq"), Kept(TASK, "reads_1.fq", "b.fq")]}
    assert gone == ["old"]


def test_what_is_usual_is_said_with_its_sample() -> None:
    wait = {"count": 9, "low": 1.0, "median": 2.0, "high": 65.0}
    run = {"count": 12, "low": 600.0, "median": 600.0, "high": 600.0}
    assert words.usually({"wait": wait, "run": run}) == (
        "Tasks of this script start after about 2.0 s (1.0 s to 1 min 5 s) and run for about 10 min, "
        "by the last 12 tasks that are done."
    )
    once = {"run": run | {"count": 1}}
    assert words.usually(once, True) == (
        "Tasks of this script run for about 10 min, by the one task that is done."
    )
    soon = {"wait": {"count": 2, "low": 0.01, "median": 0.2, "high": 0.4}}
    assert words.usually(soon) == (
        "Tasks of this script start after less than a second, by the last 2 tasks that are done."
    )
    assert words.usually({"wait": wait}, True) == ""
    assert words.usually({}) == ""


# -- what a form sends ---------------------------------------------------------------------------


def typed(*params: dict[str, Any]) -> tuple[Typed, FakeDraft]:
    draft = FakeDraft(FakeService(), FakeCaller(None, False, ""), None)
    return Typed(draft, script(*params)), draft


def test_a_browsers_habits_are_evened_out() -> None:
    form, draft = typed(
        {"name": "text", "type": "string"},
        {"name": "cleared", "type": "string", "default": "x"},
        {"name": "many", "type": "string", "multiple": True},
    )
    form.field("task_name", "another")  # the address says which script it is
    form.field("text", "")
    form.field("text", "a\r\nb")
    form.field("cleared", "")
    form.field("many", "one\r\n\r\ntwo")
    form.field("unknown", "")
    assert draft.fields == [
        ("task_name", "align"),
        ("text", "a\nb"),
        ("cleared", ""),
        ("many", "one"),
        ("many", "two"),
        ("unknown", ""),
    ]
    assert form.texts["text"] == ["", "a\nb"]


def test_kept_files_come_first_or_make_room() -> None:
    form, draft = typed({"name": "one", "type": "file"}, {"name": "many", "type": "file", "multiple": True})

    async def fill() -> None:
        form.field("keep:one", f"{TASK}/one.fa")
        form.field("keep:many", f"{TASK}/many_0.fa")
        form.field("keep:many", f"{TASK}/many_1.fa")
        for name in ("one", "many"):
            await form.open_file(name, "new.fa")
            await form.write(b"N")
            await form.close_file()
        form.field("keep:late", f"{TASK}/x")
        await form.finish()

    asyncio.run(fill())
    assert [(name, client) for name, client, _ in draft.files] == [
        ("one", "new.fa"),
        ("many", "many_0.fa"),
        ("many", "many_1.fa"),
        ("many", "new.fa"),
        ("late", "x"),
    ]
    assert draft.finished


def test_a_refused_form_is_read_for_its_texts() -> None:
    form = Typed(Refused(Unavailable("No tasks are taken at present.")), script({"name": "k", "type": "int"}))

    async def fill() -> None:
        form.field("k", "7")
        await form.open_file("k", "a")
        await form.write(b"x")
        await form.close_file()
        await form.keep_file("k", TASK, "x")
        with pytest.raises(Unavailable):
            await form.finish()
        await form.abort()

    asyncio.run(fill())
    assert (form.texts, form.files) == ({"k": ["7"]}, {"k": ["a"]})


# -- refusals ------------------------------------------------------------------------------------


NOTHING = "Nothing was started"
WRONG = InvalidInput("x", errors=[FieldError("k", "is required")])
LARGE = TooLarge("The body may have at most 5 bytes.")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WRONG, f"{NOTHING}: one field needs another value."),
        (InvalidInput("the form is broken"), f"{NOTHING}. The form is broken."),
        (LARGE, f"{NOTHING}: a form with its files may have at most 1 MiB. {LARGE}"),
        (
            KeyReused("x"),
            "This form was sent before, with other values. Send it again to start another task.",
        ),
        (TooManyRequests("Not enough.", retry_after=3600), f"{NOTHING}. Not enough. Try again in 1 h."),
        (
            TooManyRequests("Never enough.", retry_after=None),
            f"{NOTHING}. Never enough. Ask the administrators for more credit.",
        ),
        (Unavailable("Too many uploads."), f"{NOTHING}. Too many uploads. Try again in 5.0 s."),
        (StorageFull("the disk is full"), f"{NOTHING}. The disk is full."),
        (Rejected("The cluster refused it", extra={"uuid": TASK}), "The cluster refused it."),
        (
            ValueError("a bug"),
            f"{NOTHING}: the service has failed. Its administrators find the reason in its log.",
        ),
    ],
)
def test_refusals_are_worded(error: Exception, told: str) -> None:
    assert refusals.told(problem.problem_of(error), 1024**2) == told


def test_a_task_that_is_not_there_is_told_at_its_field() -> None:
    answer = problem.problem_of(NotFound("dependencies: there is no task X that you can use."))
    assert refusals.field_errors(answer) == {"dependencies": "there is no task X that you can use."}
    several = InvalidInput("x", errors=[FieldError("k", "first"), FieldError("k", "second")])
    assert refusals.field_errors(problem.problem_of(several)) == {"k": "first"}


# -- two tasks -----------------------------------------------------------------------------------


def test_lines_stand_beside_their_equals() -> None:
    one, other = ["a", "b", "c"], ["a", "x", "y", "c"]
    rows = comparison.side_by_side(one, other, one, other)
    shown = [
        (left and (left.text, left.differs), right and (right.text, right.differs)) for left, right in rows
    ]
    assert shown == [
        (("a", False), ("a", False)),
        (("b", True), ("x", True)),
        (None, ("y", True)),
        (("c", False), ("c", False)),
    ]


def test_only_text_has_lines() -> None:
    assert comparison.lines_of(b"a\nb") == (["a", "b"], False)
    assert comparison.lines_of(b"\xff") == (["\ufffd"], False)
    assert comparison.lines_of(b"a\0b") == (None, False)
    assert comparison.lines_of(b"") == ([], False)
    assert comparison.lines_of(b"ab\ncd\nef", 5) == (["ab", "cd"], True)
    long, cut = comparison.lines_of(b"x" * 1000 + b"\n" * 1000)
    assert long is not None
    assert cut
    assert len(long) == comparison.LINES
    assert long[0] == "x" * comparison.LINE + "…"


def test_facts_are_those_that_are_known() -> None:
    one = {
        "state": "done",
        "creation_date": "2026-11-24T10:00:00.000Z",
        "start_date": "2026-11-24T10:00:05.000Z",
    }
    other = one | {
        "end_date": "2026-11-24T10:01:05.000Z",
        "resource_usage": {"cpu_seconds": 12.0, "max_rss_bytes": 2048},
    }
    rows = {row.name: (row.one, row.other, row.differs) for row in comparison.fact_rows(one, other)}
    assert rows == {
        "State": ("Done", "Done", False),
        "Waited": ("5.0 s", "5.0 s", False),
        "Ran for": ("", "1 min", True),
        "Processor time": ("", "12 s", True),
        "Most memory": ("", "2 KiB", True),
    }
