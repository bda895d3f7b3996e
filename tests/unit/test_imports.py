"""Imports go up the table of rooms only, and each outside package stays in the rooms meant for it.

A new module needs a row: put it below everything that it imports, and name in its second column
what it may import, or `ALL` if it is there to bring the others together.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "drmaaticd"
ALL = "*"

#: Room, and what it may import of the rooms above it. A package stands for everything in it.
TABLE: tuple[tuple[str, str], ...] = (
    ("errors", ""),
    ("states", "errors"),
    ("tasks", "states"),
    ("drm.base", "states"),
    # The configuration and the scripts.
    ("units", ""),
    ("toml_source", "errors"),
    ("validation", "errors toml_source units"),
    ("places", ""),
    ("provider_settings", "places toml_source validation"),
    ("settings", "errors places provider_settings toml_source units validation"),
    ("config_docs", "settings units validation"),
    ("config", "config_docs errors places settings toml_source units validation"),
    ("params", "errors units validation"),
    ("checked", "errors params validation"),
    ("program", "errors"),
    ("script", "checked drm.base errors params"),
    ("script_file", "checked drm.base errors params program script toml_source validation"),
    ("scripts", "checked errors params program script script_file"),
    # What is on the disk.
    ("journal", "errors"),
    ("store", "errors journal states tasks"),
    ("folder", "errors"),
    ("removal", "errors folder"),
    ("sharing", "folder"),
    ("incoming", "errors folder removal"),
    ("copies", "folder incoming removal"),
    ("mime", ""),
    ("archive", "errors folder"),
    ("syncing", ""),
    ("unfiled", "errors folder incoming removal"),
    ("workspace", "archive copies errors folder incoming removal syncing unfiled"),
    ("evidence", ""),
    ("runscript", ""),
    ("launcher", "evidence runscript"),
    # The engines.
    ("drm", "drm.base errors evidence states"),
    # A program of its own, which nothing imports.
    ("jobhelper", "drm removal sharing"),
    ("runas", "config drm errors script"),
    ("engines", "config drm drm.base errors runas script"),
    ("probe", "config drm.base engines errors launcher runas workspace"),
    # What moves tasks on.
    ("gate", ""),
    ("ticker", ""),
    ("doubts", ""),
    ("faults", ""),
    ("notify", ""),
    ("signals", ""),
    ("logs", ""),
    ("verdict", "drm.base launcher states"),
    ("changes", "tasks"),
    ("callers", "errors tasks"),
    ("view", "callers launcher tasks"),
    ("context", ""),
    (
        "auth",
        "callers config context errors gate settings states store tasks units validation view workspace",
    ),
    ("outcome", "drm.base states tasks verdict"),
    ("reaping", "drm.base errors outcome states store"),
    ("strangers", ""),
    ("claims", "drm.base launcher outcome store"),
    ("starts", "claims launcher outcome states tasks verdict"),
    (
        "sync",
        "claims config doubts drm.base gate launcher outcome reaping starts states store strangers tasks"
        " verdict workspace",
    ),
    ("submission", "config drm.base errors faults gate launcher states store sync tasks workspace"),
    ("controls", "drm.base errors gate launcher states store submission sync tasks workspace"),
    ("particulars", "callers controls drm.base tasks view"),
    ("pruning", "copies errors gate launcher scripts store workspace"),
    ("housekeeping", "config errors gate pruning store tasks workspace"),
    ("drafts", "auth callers errors scripts tasks workspace"),
    ("intake", ALL),
    ("filters", "drafts errors states store"),
    ("openapi", "drafts errors filters params states units"),
    ("about", "config openapi"),
    ("watching", "callers errors states store tasks"),
    ("history", "callers store tasks"),
    ("administration", "auth callers config drm.base errors gate scripts settings states store units"),
    ("desk", "administration auth callers config errors filters store tasks view"),
    ("service", ALL),
    # Handlers never see the store, the engine or a path.
    ("web", "callers context errors mime openapi service units"),
    ("admin_protocol", ""),
    ("admin", "admin_protocol auth errors"),
    ("daemon", ALL),
    ("commands", ALL),
    ("cli", ALL),
    # The user's side, which may be installed where there is no daemon: nothing of it.
    ("client", ""),
    ("__main__", "cli"),
)

#: Outside package → the rooms that may import it.
OUTSIDE: dict[str, str] = {
    "PyJWT": "auth",
    "cryptography": "auth",
    "drmaa": "drm",
    "google-re2": "validation",
    "multipart": "web",
    "orjson": "journal store web",
    "prometheus_client": "web",
    "pydantic": "config config_docs openapi places provider_settings script_file settings validation",
    "requests": "client",
    "shtab": "client",
    "sortedcontainers": "store",
    "tinydb": "journal store",
    "tornado": "auth daemon ticker web",
    "tqdm": "client",
    "zipstream-ng": "archive",
}

#: Distribution → the name that is imported, where they differ.
IMPORTED_AS = {"PyJWT": "jwt", "google-re2": "re2", "zipstream-ng": "zipstream"}

#: What pydantic brings along and offers for use with it.
WITH_PYDANTIC = {"annotated_types", "pydantic_core"}

ROOMS = [room for room, _ in TABLE]


def module_name(path: Path) -> str:
    """The dotted name below the package; the empty string for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str | None:
    """The most exact row for a module, None if there is none."""
    fitting = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def imported(module: str) -> Iterator[str]:
    """Everything that a module imports, at any depth of its code, by full name.

    What it names for the type checker alone does not count: a type is no dependency.
    """
    for node in running(ast.parse(MODULES[module].read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports are not used here"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def running(node: ast.AST) -> Iterator[ast.AST]:
    """The node and everything in it but the bodies of ``if TYPE_CHECKING:``."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from running(child)


def inside(module: str) -> set[str]:
    """The package's own modules that a module imports."""
    found = set()
    for name in imported(module):
        top, _, rest = name.partition(".")
        if top == PACKAGE.name:
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found - {""}


def outside(module: str) -> set[str]:
    """The top-level names of what a module imports from elsewhere, the standard library left out."""
    tops = {name.partition(".")[0] for name in imported(module)}
    own = {PACKAGE.name} | sys.stdlib_module_names
    return {"pydantic" if top in WITH_PYDANTIC else top for top in tops - own}


def requirements() -> set[str]:
    """The names in setup.py's list of what is needed at run time."""
    for node in ast.parse((ROOT / "setup.py").read_bytes()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RUNTIME":
            return {text.partition(">")[0] for text in ast.literal_eval(node.value)}
    raise AssertionError("setup.py has no list RUNTIME")


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_go_up(module: str) -> None:
    room = room_of(module)
    assert room is not None, f"{module} has no row in the table of {Path(__file__).name}"
    allowed = dict(TABLE)[room]
    above = ROOMS[: ROOMS.index(room)]
    for other in sorted(inside(module)):
        target = room_of(other)
        if target == room:
            continue
        assert target in above, f"{module} imports {other}, which stands below it"
        assert allowed == ALL or target in allowed.split(), f"{module} may not import {other}"


@pytest.mark.parametrize("module", list(MODULES))
def test_outside_packages(module: str) -> None:
    names = {IMPORTED_AS.get(name, name): name for name in OUTSIDE}
    for top in sorted(outside(module)):
        assert top in names, f"{module} imports {top}, which the table does not know"
        rooms = OUTSIDE[names[top]].split()
        assert room_of(module) in rooms, f"{module} imports {top}, which is for {rooms} alone"


def test_what_may_be_imported_is_required() -> None:
    assert set(OUTSIDE) == requirements()


def test_no_cycles() -> None:
    TopologicalSorter({module: inside(module) for module in MODULES}).prepare()


def test_the_table_is_sound() -> None:
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) <= set(MODULES), "a row without a module"
    for index, (room, allowed) in enumerate(TABLE):
        if allowed != ALL:
            assert set(allowed.split()) <= set(ROOMS[:index]), f"{room} names a row that is not above it"


def test_the_package_itself_imports_nothing() -> None:
    assert not list(imported(""))
