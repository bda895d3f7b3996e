"""The package as others get it: sdist, wheel, a fresh environment, `init`, a daemon that serves."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import requests

import drmaaticd
from tests.e2e.daemon import Daemon, toml

ROOT = Path(__file__).resolve().parents[2]
TREE = ("drmaaticd", "etc", "scripts.d", "systemd", "tests", "tools", "docs", "benchmarks")
TOP = ("setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "README.md", "LICENSE", "CHANGELOG.md")


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command outside of the source tree's reach; its output."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package, made from a copy: a build leaves files in its tree."""
    tree = tmp_path_factory.mktemp("source")
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in TOP:
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", "made", cwd=tree)
    (made,) = (tree / "made").iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source package alone."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"),
        *("--no-build-isolation", "-w", folder, sdist),
        cwd=folder,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel, and what it needs by reference."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    # A .pth file adds the folder alone: its own .pth files, an editable installation's, do not count.
    (site / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"),
        *("install", "-q", "--no-deps", "--no-index", "--ignore-installed", wheel),
        cwd=folder,
    )
    return folder / "bin"


def samples() -> dict[str, bool]:
    """Path below scripts.d → whether it is executable."""
    folder = ROOT / "scripts.d"
    return {
        str(path.relative_to(folder)): os.access(path, os.X_OK)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_source_package_is_whole(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {*TOP, "tests/conftest.py", "tools/venv.sh", "systemd/drmaaticd.service", "etc/drmaaticd.toml"}
    wanted |= {f"scripts.d/{name}" for name in samples()}
    assert wanted <= names
    assert not [name for name in names if name.endswith(".pyc") or "/var/" in name]


def test_the_wheel_holds_the_samples(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        share = "drmaaticd/share"
        assert archive.read(f"{share}/drmaaticd.toml") == (ROOT / "etc" / "drmaaticd.toml").read_bytes()
        unit = (ROOT / "systemd" / "drmaaticd.service").read_bytes()
        assert archive.read(f"{share}/drmaaticd.service") == unit
    assert "drmaaticd/py.typed" in infos
    assert not [name for name in infos if name.startswith(("tests", "benchmarks"))]
    for name, executable in samples().items():
        mode = infos[f"{share}/scripts.d/{name}"].external_attr >> 16
        assert bool(mode & stat.S_IXUSR) == executable, name
    modules = {
        f"drmaaticd/{path.relative_to(ROOT / 'drmaaticd')}" for path in (ROOT / "drmaaticd").rglob("*.py")
    }
    assert modules <= set(infos)


def test_the_commands(installed: Path, tmp_path: Path) -> None:
    version = run(installed / "drmaaticd", "--version", cwd=tmp_path)
    assert version == f"drmaaticd {drmaaticd.__version__}\n"
    assert "usage: drmaatic " in run(installed / "drmaatic", "--help", cwd=tmp_path)


def test_init_check_serve(installed: Path, tmp_path: Path) -> None:
    """What an administrator does first, from the wheel alone."""
    place = tmp_path / "place"
    run(installed / "drmaaticd", "init", place, cwd=tmp_path)
    made = {
        str(path.relative_to(place / "scripts.d")): os.access(path, os.X_OK)
        for path in (place / "scripts.d").rglob("*")
        if path.is_file()
    }
    assert made == samples()
    unit = (place / "drmaaticd.service").read_text()
    assert f"ExecStart={installed / 'drmaaticd'} serve --config {place / 'drmaaticd.toml'}\n" in unit
    checked = run(installed / "drmaaticd", "check", "--config", place / "drmaaticd.toml", cwd=tmp_path)
    assert checked.splitlines()[-1].startswith(f"{len(list((place / 'scripts.d').glob('*.toml')))} scripts, ")
    (tmp_path / "daemon").mkdir()
    config = {"paths": {"scripts_dir": str(place / "scripts.d")}}
    service = Daemon(tmp_path / "daemon", config, command=[str(installed / "drmaaticd")])
    try:
        service.start()
        listed = requests.get(f"{service.url}/script", timeout=30).json()
        assert listed["count"] == len(list((place / "scripts.d").glob("*.toml")))
        assert service.stop() == 0
    finally:
        service.close()
    service.check()


def test_without_a_configuration(installed: Path, tmp_path: Path) -> None:
    """Embedded defaults: the samples of the wheel, and a word on where the state is."""
    program = (
        "from drmaaticd.config import defaults; paths = defaults().paths;"
        "print(paths.scripts_dir, len(list(paths.scripts_dir.glob('*.toml'))))"
    )
    folder, count = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert Path(folder).parts[-3:] == ("drmaaticd", "share", "scripts.d")
    assert int(count) >= 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(installed: Path, tmp_path: Path) -> None:
    place = tmp_path / "a place"
    run(installed / "drmaaticd", "init", place, cwd=tmp_path)
    run("systemd-analyze", "verify", "--man=no", place / "drmaaticd.service", cwd=tmp_path)


def test_the_toml_of_the_tests_is_toml() -> None:
    import tomllib

    sections = {
        "server": {"port": 0, "url": None, "cors_origins": ["a", 'b"\\']},
        "drm": {"native": {"queue": "-q {queue}"}, "sync_interval": 0.25},
        "auth": {"providers": [{"name": "x"}, {"name": "y"}], "anonymous": True},
    }
    assert tomllib.loads(toml(sections)) == {**sections, "server": {"port": 0, "cors_origins": ["a", 'b"\\']}}
