"""The command line: `check`, `init`, the lookup of the configuration, exit statuses."""

from __future__ import annotations

import asyncio
import configparser
import errno
import json
import os
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drmaaticd
from drmaaticd import cli, config
from drmaaticd.commands import check, init, lookup, unit
from drmaaticd.drm import library
from drmaaticd.errors import ConfigurationError, StoreError
from drmaaticd.states import State
from drmaaticd.store import Store
from drmaaticd.tasks import Task
from tests.unit.drmaa_double import Drm, DrmaaModule

ROOT = Path(__file__).resolve().parents[2]
GOOD_SCRIPT = "inline = '#!/bin/sh'\ndescription = 'says nothing'\n"


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cli.main` sets logging up for a process of its own; the tests keep pytest's."""
    monkeypatch.setattr("drmaaticd.logs.setup", lambda *_, **__: None)
    monkeypatch.delenv(lookup.VARIABLE, raising=False)
    monkeypatch.setattr(lookup, "SYSTEM_FILE", Path("/nonexistent/drmaaticd.toml"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a right configuration, which gives no warning, and one script."""
    (tmp_path / "scripts.d").mkdir()
    (tmp_path / "scripts.d" / "quiet.toml").write_text(GOOD_SCRIPT)
    (tmp_path / "drmaaticd.toml").write_text(
        '[paths]\nstate_dir = "var/state"\ntasks_dir = "var/tasks"\n[auth]\nproviders = []\n'
    )
    return tmp_path


def run_check(place: Path, *arguments: str) -> int:
    return cli.main(["check", "--config", str(place / "drmaaticd.toml"), *arguments])


# check


def test_check_nothing_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(place) == 0
    output = capsys.readouterr()
    assert output.out == "1 script, no findings\n"
    assert "scripts are trusted" in output.err
    assert not (place / "var").exists()


def test_check_reports_everything_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "drmaaticd.toml"
    file.write_text('[server]\nprot = 8300\nmax_upload = "2 elephants"\n[paths]\nscripts_dir = "scripts.d"\n')
    (place / "scripts.d" / "broken.toml").write_text("inline = 3\n[[param]]\nname = 'x'\ntype = 'tree'\n")
    assert run_check(place) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{file}:2: server.prot: ") and "port" in line for line in lines)
    assert any(line.startswith(f"{file}:3: server.max_upload: ") for line in lines)
    broken = [line for line in lines if line.startswith(f"{place / 'scripts.d' / 'broken.toml'}")]
    assert len(broken) >= 2
    assert not any("no findings" in line for line in lines)


def test_check_names_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(tmp_path) == 1
    assert str(tmp_path / "drmaaticd.toml") in capsys.readouterr().out


def test_check_of_no_toml_still_looks_at_the_scripts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "drmaaticd.toml").write_text("[server\n")
    (place / "scripts.d" / "broken.toml").write_text("inline = 3\n")
    assert run_check(place) == 1
    assert "broken.toml" in capsys.readouterr().out


def test_check_says_that_there_is_no_scripts_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scripts.d").rename(place / "elsewhere")
    assert run_check(place) == 1
    assert f"{place / 'scripts.d'}: paths.scripts_dir: is no folder" in capsys.readouterr().out


def test_check_a_warning_is_no_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "drmaaticd.toml").open("a") as file:
        file.write('[server]\naddress = "127.0.0.1"\nurl = "http://jobs.example.org"\n')
    assert run_check(place) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "warning: server.url" in lines[0]
    assert lines[-1] == "1 script, 1 warning"


def test_check_knows_what_serve_would_refuse(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "drmaaticd.toml").open("a") as file:
        file.write('[drm]\nrun_as = "jobs"\n')
    assert run_check(place) == 1
    assert "drm.run_as: " in capsys.readouterr().out


def test_check_knows_what_the_drm_cannot_be_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "load", lambda *_: DrmaaModule(Drm()))
    with (place / "drmaaticd.toml").open("a") as file:
        file.write('[drm]\nbackend = "drmaa"\ndialect = "htcondor"\n')
    (place / "scripts.d" / "many.toml").write_text(
        "inline = '#!/bin/sh'\n[array]\nbegin = 1\nend = 3\n[resources]\nqueue = 'long'\n"
    )
    assert run_check(place) == 1
    lines = capsys.readouterr().out.splitlines()
    many = place / "scripts.d" / "many.toml"
    assert any(line.startswith(f"{many}: array: HTCondor's") for line in lines), lines
    assert any(line.startswith(f"{many}: resources.queue: HTCondor has none") for line in lines), lines


def test_check_runs_no_probe_where_something_is_wrong(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "scripts.d" / "broken.toml").write_text("inline = 3\n")
    assert run_check(place, "--probe") == 1
    assert "probe: " not in capsys.readouterr().out
    assert not (place / "var").exists()


def test_check_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scripts.d" / "broken.toml").write_text("inline = 3\n")
    assert run_check(place, "--json") == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings[0]["file"] == str(place / "scripts.d" / "broken.toml")
    assert findings[0]["level"] == "error"


def test_check_of_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    """What `serve` offers without any configuration is right."""
    findings, scripts, found = check.examine(None)
    assert [str(finding) for finding in findings if not finding.warning] == []
    assert scripts >= 3
    assert found is not None


# Where the configuration comes from


def test_lookup_order(tmp_path: Path) -> None:
    given_file, named, system = (tmp_path / name for name in ("given", "named", "system"))
    system.touch()
    environ = {lookup.VARIABLE: str(named)}
    assert lookup.find(given_file, environ, system) == given_file
    assert lookup.find(None, environ, system) == named
    assert lookup.find(None, {}, system) == system
    assert lookup.find(None, {}, tmp_path / "missing") is None


@pytest.mark.logs("is not readable for this account")
def test_an_unreadable_system_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    (tmp_path / "system").touch()
    assert lookup.find(None, {}, tmp_path / "system") is None


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        lookup.load(tmp_path / "missing.toml")


# init


def test_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new" / "place"
    assert cli.main(["init", str(place)]) == 0
    made = config.load(place / "drmaaticd.toml")
    assert made.paths.state_dir == place / "var" / "state"
    assert made.paths.scripts_dir == place / "scripts.d"
    samples = config.samples_dir()
    for source in samples.rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            target = place / "scripts.d" / source.relative_to(samples)
            assert target.read_bytes() == source.read_bytes()
            assert os.access(target, os.X_OK) == os.access(source, os.X_OK)
    output = capsys.readouterr().out
    assert f"wrote {place / 'drmaaticd.toml'}" in output
    assert f"check --config {place / 'drmaaticd.toml'}" in output
    findings, scripts, _ = check.examine(place / "drmaaticd.toml")
    assert not [finding for finding in findings if not finding.warning]
    assert scripts >= 3


def test_init_leaves_alone_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drmaaticd.service").write_text("mine")
    dangling = tmp_path / "scripts.d" / next(config.samples_dir().glob("*.toml")).name
    dangling.parent.mkdir()
    dangling.symlink_to(tmp_path / "elsewhere")
    assert cli.main(["init", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert f"exists, left alone: {tmp_path / 'drmaaticd.service'}" in output
    assert f"exists, left alone: {dangling}" in output
    assert (tmp_path / "drmaaticd.service").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_init_again_brings_no_sample_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path)]) == 0
    removed = next((tmp_path / "scripts.d").glob("*.toml"))
    removed.unlink()
    (tmp_path / "drmaaticd.toml").write_text("# mine\n")
    (tmp_path / "drmaaticd.service").unlink()
    capsys.readouterr()
    assert cli.main(["init", str(tmp_path)]) == 0
    assert not removed.exists()
    assert (tmp_path / "drmaaticd.toml").read_text() == "# mine\n"
    output = capsys.readouterr().out
    assert [line for line in output.splitlines() if line.startswith("wrote ")] == [
        f"wrote {tmp_path / 'drmaaticd.service'}"
    ]
    assert f"exists, left alone: {tmp_path / 'scripts.d'}" in output


def test_init_that_fails_half_way_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main(["init", str(tmp_path / "place")]) == 1
    output = capsys.readouterr()
    assert output.out.count("wrote ") == 2
    assert "No space left on device" in output.err
    assert sum(path.is_file() for path in (tmp_path / "place").rglob("*")) == 2
    assert cli.main(["init", str(tmp_path / "place")]) == 0
    assert not [
        finding for finding in check.examine(tmp_path / "place" / "drmaaticd.toml")[0] if not finding.warning
    ]


def test_init_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["init", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_init_refuses_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path / "a\nb")]) == 2
    assert "a\\nb" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_init_below_etc_keeps_its_state_in_var_lib() -> None:
    place = init.Place.at(Path("/etc/drmaaticd"))
    assert (place.state, place.managed) == (Path("/var/lib/drmaaticd"), True)


# store repair


def repair(place: Path) -> int:
    return cli.main(["store", "repair", "--config", str(place / "drmaaticd.toml")])


def keep(place: Path, *tasks: Task) -> None:
    """A store with these tasks."""

    async def run() -> None:
        store = Store.open(place / "var" / "state")
        for task in tasks:
            store.insert(task)
        await store.durable()
        await store.close()

    asyncio.run(run())


def test_repair(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
    keep(place, *(Task(uuid=name, script="x", state=State.DONE, created=1, updated=1) for name in names))
    assert repair(place) == 0
    assert "holds 3 tasks" in capsys.readouterr().out
    snapshot = place / "var" / "state" / "store.json"
    text = snapshot.read_bytes()
    assert text.count(b'"done"') == 3
    snapshot.write_bytes(text.replace(b'"done"', b'"gone"', 1))
    with pytest.raises(StoreError, match="store repair"):
        Store.open(place / "var" / "state")
    assert repair(place) == 0
    output = capsys.readouterr().out
    assert str(snapshot) in output.splitlines()[0]
    assert "holds 2 tasks" in output
    keep(place)  # it opens


def test_repair_of_what_is_not_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert repair(place) == 1
    assert "no store to repair" in capsys.readouterr().err
    (place / "drmaaticd.toml").write_text("[server\n")
    assert repair(place) == 1
    assert f"{place / 'drmaaticd.toml'}:1" in capsys.readouterr().out


# The unit


def parse(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("file", ["drmaaticd.service", "run-as.conf"])
def test_the_units_keys_parse(file: str) -> None:
    parser = parse((ROOT / "systemd" / file).read_text())
    assert set(parser.sections()) <= {"Unit", "Service", "Install"}
    for section in parser.sections():
        for key in parser[section]:
            assert key.isalpha()
            assert key[0].isupper()


def test_the_unit_suits_jobs_that_outlive_the_daemon() -> None:
    service = parse(unit.template())["Service"]
    wanted = {
        "Type": "notify",
        "KillMode": "process",
        "PrivateTmp": "no",
        "OOMPolicy": "continue",
        "Delegate": "yes",
        "UMask": "0027",
        "Environment": "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096",
    }
    assert {key: service[key] for key in wanted} == wanted
    # Each of these would break honest jobs, which inherit it.
    for key in ("SystemCallFilter", "MemoryDenyWriteExecute", "PrivateDevices", "ProtectClock"):
        assert key not in service


def test_run_as_undoes_whatever_forbids_sudo() -> None:
    """systemd.exec(5), NoNewPrivileges: these imply it for a service that is not root."""
    implying = {
        *("NoNewPrivileges", "SystemCallFilter", "SystemCallArchitectures", "RestrictAddressFamilies"),
        *("RestrictNamespaces", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules"),
        *("ProtectKernelLogs", "ProtectClock", "MemoryDenyWriteExecute", "RestrictRealtime"),
        *("RestrictSUIDSGID", "DynamicUser", "LockPersonality", "ProtectHostname"),
    }
    unit_keys = implying & set(parse(unit.template())["Service"])
    undone = parse((ROOT / "systemd" / "run-as.conf").read_text())["Service"]
    assert {key for key in undone if undone[key] == "no"} == unit_keys


def test_init_writes_a_unit_for_the_place(tmp_path: Path) -> None:
    place = tmp_path / "a place with 100% $HOME"
    assert cli.main(["init", str(place)]) == 0
    service = parse((place / "drmaaticd.service").read_text())["Service"]
    file = str(place / "drmaaticd.toml").replace("%", "%%").replace("$", "$$")
    assert service["ExecStart"].endswith(f'serve --config "{file}"')
    assert f'"{str(place / "var").replace("%", "%%")}"' in service["ReadWritePaths"]
    assert "StateDirectory" not in service
    assert service["WorkingDirectory"].endswith("100%% $HOME/var")


def test_the_unit_for_etc_is_the_shipped_one_but_for_the_program() -> None:
    made = unit.Unit(
        command=["/opt/drmaaticd/bin/drmaaticd"],
        account="drmaaticd",
        config=Path("/etc/drmaaticd/drmaaticd.toml"),
        writable=Path("/var/lib/drmaaticd"),
        state_directory="drmaaticd",
    )
    assert made.render(unit.template()) == unit.template()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("C",)), min_size=1))
def test_quoting(word: str) -> None:
    """Read back by the rules of systemd.syntax(7), which are those of a POSIX shell for what is used."""
    quoted = unit.quote(word)
    assert shlex.split(quoted.replace("%%", "%"), posix=True)[0] == word or not quoted.startswith('"')
    if not quoted.startswith('"'):
        assert quoted.replace("%%", "%") == word


# The command itself


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"drmaaticd {drmaaticd.__version__}\n"


@pytest.mark.parametrize(
    "line", ["", "serve --nonsense", "check --conf x", "store", "serve --log-level loud"]
)
def test_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == 2
    assert "usage: drmaaticd" in capsys.readouterr().err


def test_serve_with_a_broken_configuration(place: Path) -> None:
    """A process of its own, as systemd starts it: every finding on standard error, status 1."""
    (place / "drmaaticd.toml").write_text('[server]\nprot = 8300\n[drm]\nbackend = "lokal"\n')
    done = subprocess.run(
        [sys.executable, "-m", "drmaaticd", "serve", "--config", "drmaaticd.toml"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{place / 'drmaaticd.toml'}:2: server.prot" in done.stderr
    assert f"{place / 'drmaaticd.toml'}:4: drm.backend" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sample_configuration_is_what_the_code_says() -> None:
    """`make docs` writes it anew."""
    file = ROOT / "etc" / "drmaaticd.toml"
    assert file.read_text() == config.sample(
        state_dir="../var/state", tasks_dir="../var/tasks", scripts_dir="../scripts.d"
    )
    assert config.load(file).paths.scripts_dir == ROOT / "scripts.d"


def test_check_knows_the_groups(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scripts.d" / "mine.toml").write_text('inline = "#!/bin/sh"\ngroups = ["staf"]\n')
    with (place / "drmaaticd.toml").open("a") as file:
        file.write("[groups.staff]\n")
    assert run_check(place) == 0
    assert "mine.toml:2: warning: groups" in capsys.readouterr().out
    (place / "scripts.d" / "mine.toml").write_text('inline = "#!/bin/sh"\ngroups = ["staff"]\n')
    assert run_check(place) == 0
    assert "mine.toml" not in capsys.readouterr().out
