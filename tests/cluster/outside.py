"""Root's side of the cluster tests: a pytest of its own under the ordinary account for each part."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = os.environ.get("DRM_ACCOUNT", "drmtest")
HOME = Path("/var/lib") / ACCOUNT

#: Seconds for one test within.
TEST_TIMEOUT = 400


def need_root(what: str) -> None:
    """Skip, loudly, where such a cluster cannot be made; with ``CI=true`` fail."""
    missing = None
    if os.geteuid() != 0:
        missing = f"making a {what} for the tests needs root"
    elif shutil.which("apt-get") is None:
        missing = f"a {what} for the tests is made of Debian's packages, and this is no Debian"
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test the real {what}, but {missing}")
        pytest.skip(f"NOT TESTED on a real {what}: {missing}")


def copy_tree(tree: Path) -> None:
    """Give the account its own copy of what is tested: it may not be able to enter this tree's folders."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("drmaaticd", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    # The account cannot write there, so that every daemon would compile it anew.
    subprocess.run([str(HOME / "venv/bin/python"), "-m", "compileall", "-q", str(tree)], check=True)
    subprocess.run(["chmod", "-R", "u+rwX,go+rX", str(tree)], check=True)


def command(
    script: Path,
    tree: Path,
    part: str,
    *,
    variables: Sequence[str] = (),
    options: Sequence[str] = (),
    name: str | None = None,
) -> list[str]:
    """How a part is run under the account; `variables` are ``NAME=value``, `options` are pytest's."""
    return [
        "/bin/sh",
        str(script),
        "as",
        *variables,
        str(HOME / "venv/bin/python"),
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--durations=15",
        "-o",
        f"timeout={TEST_TIMEOUT}",
        f"--rootdir={tree}",
        f"--config-file={tree / 'pyproject.toml'}",
        "--basetemp",
        str(HOME / f"tmp-{name or Path(part).stem}"),
        str(tree / part),
        *options,
    ]
