"""The documents that are made from the code are up to date, links lead somewhere, settings are valid."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from drmaaticd import script_file
from drmaaticd.config import load
from drmaaticd.script_file import ArrayTable, ParamTable, ResourcesTable, ScriptTable
from tests.consoles import blocks

ROOT = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location("tools_docs", ROOT / "tools" / "docs.py")
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", tool.DOCUMENTS, ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == tool.DOCUMENTS[path](), "run `make docs`"


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeated = 1
        while name in found:
            name, repeated = f"{name}-{repeated}", repeated + 1
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            assert fragment in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_are_valid(page: Path, tmp_path: Path) -> None:
    sections = re.compile(r"^\[\[?(?:server|paths|drm|auth|groups|retention|compat)\b", re.MULTILINE)
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "toml")):
        if sections.search(block):
            file = tmp_path / f"{number}.toml"
            file.write_text(block, encoding="utf-8")
            load(file)


def test_each_page_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [
        page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in readme
    ] == []


DEFINITIONS = {
    "The script": ScriptTable,
    "`[resources]`": ResourcesTable,
    "`[array]`": ArrayTable,
    "`[[param]]`": ParamTable,
}
"""The headings of docs/scripts.md that have a table of keys, and whose keys those are."""


def test_every_key_of_a_script_is_in_its_reference() -> None:
    text = (ROOT / "docs" / "scripts.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    for heading, model in DEFINITIONS.items():
        rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", parts[heading], re.MULTILINE)
        named = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
        tables = {"environment", "resources", "array", "param"}
        assert sorted(named) == sorted(set(model.model_fields) - tables), heading
    assert {"`[environment]`", "`[resources]`", "`[array]`", "`[[param]]`"} <= set(parts)


def test_the_examples_of_scripts_are_valid(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    examples = blocks((ROOT / "docs" / "scripts.md").read_text(encoding="utf-8"), "toml")
    assert examples
    for number, example in enumerate(examples):
        file = tmp_path / f"example-{number}.toml"
        file.write_text(example, encoding="utf-8")
        program = tmp_path / re.findall(r'^command = "(.*)"', example, re.MULTILINE)[0]
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        assert script_file.read(file, tmp_path).findings == ()
