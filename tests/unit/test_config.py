"""The configuration: defaults, every section, all findings at once, and the documents made of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from drmaaticd.config import (
    Paths,
    Server,
    default_base,
    defaults,
    load,
    reference,
    sample,
    samples_dir,
)
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.settings import ORCID, SECTIONS, Native, Provider
from drmaaticd.toml_source import Source
from drmaaticd.validation import Model, validate

FULL = """
[server]
address = "::1"
port = 0
url = "https://jobs.example.org/api/"
max_upload = "512 MiB"
max_uploads = 10
max_uploads_per_address = 2
max_streams = 100
max_streams_per_caller = 10
page_size = 20
max_page_size = 50
trusted_proxies = ["127.0.0.1", "10.1.2.3/8", "::1/128"]
cors_origins = ["https://Portal.example.org", "*"]
metrics_allow = ["192.0.2.0/24"]
[paths]
state_dir = "var/state"
tasks_dir = "/shared/tasks"
scripts_dir = "../scripts.d"
[drm]
backend = "drmaa"
slots = 4
library = "/usr/lib/libdrmaa.so"
dialect = "gridengine"
sync_interval = "0.5 s"
sweep_interval = "1 min"
ending_grace = "2 min"
lost_after = "2 hours"
max_live = 5
[drm.native]
queue = "-q {queue}"
cpus = "-pe smp {cpus}"
memory = "-l mem_free={mib}M,h_vmem={mib_per_cpu}M"
max_clock_time = "-l h_rt={seconds}"
account = "-A {account}"
qos = "-q {qos}"
licenses = "-l {licenses}=1"
gres = "-l gpu={gres}"
always = "-b y {{literal}}"
[auth]
anonymous = false
token_lifetime = "1 day"
token_rate = "3/s"
max_link_lifetime = "1 day"
[[auth.providers]]
name = "Site"
userinfo_url = "http://127.0.0.1:9/userinfo"
user_name_claim = "uid"
pattern = "[a-z]{3,8}"
client_ids = ["one", "two"]
issuer = "https://id.example.org"
jwks_url = "https://id.example.org/jwks"
introspection_url = "https://id.example.org/introspect"
introspection_client_id = "drmaaticd"
introspection_secret_file = "secret"
client_id = "one"
client_secret_file = "page.secret"
client_auth = "basic"
authorize_url = "https://id.example.org/authorize"
token_url = "https://id.example.org/token"
scopes = ["openid", "profile"]
[groups.anonymous]
rate = "1/s"
[groups.staff]
admin = true
rate = "100/s"
cpu_credit_max = 1000
cpu_credit_regen = "2/s"
token_lifetime = "2 days"
queue = "staff.q"
account = "lab"
max_live = 7
max_disk = "1 GiB"
[retention]
finished = "30 days"
remove_files_on_delete = false
[compat]
ignore_unknown = true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "drmaaticd.toml"


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def _findings(file: Path, text: str) -> list[Finding]:
    with pytest.raises(ConfigurationError) as caught:
        load(_write(file, text))
    return list(caught.value.findings)


def _warned(file: Path, text: str) -> list[tuple[str | None, int | None]]:
    found = load(_write(file, text)).warnings()
    assert all(finding.warning for finding in found)
    return [(finding.key, finding.line) for finding in found]


def test_every_section_is_read(file: Path) -> None:
    config = load(_write(file, FULL))
    assert config.file == file
    assert config.public_url == "https://jobs.example.org/api"
    assert config.server.trusted_proxies == ("127.0.0.1", "10.0.0.0/8", "::1")
    assert config.server.cors_origins == ("https://portal.example.org", "*")
    assert config.server.max_upload == 512 * 1024**2
    assert config.paths.state_dir == file.parent / "var/state"
    assert config.paths.tasks_dir == Path("/shared/tasks")
    assert config.paths.scripts_dir == file.parent.parent / "scripts.d"
    assert (config.drm.sync_interval, config.drm.sweep_interval, config.drm.ending_grace) == (0.5, 60, 120)
    assert config.drm.native.memory == "-l mem_free={mib}M,h_vmem={mib_per_cpu}M"
    (provider,) = config.auth.providers
    assert provider.client_ids == ("one", "two")
    assert provider.introspection_secret_file == file.parent / "secret"
    assert config.groups["anonymous"].rate == 1
    assert config.groups["registered"].rate == 30
    assert (config.groups["staff"].admin, config.groups["staff"].max_disk) == (True, 1024**3)
    assert (config.retention.finished, config.compat.ignore_unknown) == (30 * 86_400, True)


def test_every_key_of_every_section_can_be_set(file: Path) -> None:
    given = load(_write(file, FULL))

    def same(model: BaseModel, default: BaseModel) -> set[str]:
        return {key for key in type(model).model_fields if getattr(model, key) == getattr(default, key)}

    plain = load(_write(file, ""))
    left = same(given.server, plain.server) | same(given.drm, plain.drm) | same(given.paths, plain.paths)
    left |= same(given.auth, plain.auth) | same(given.retention, plain.retention)
    left |= same(given.drm.native, Native()) | same(given.auth.providers[0], ORCID)
    left |= same(given.groups["staff"], plain.groups["registered"])
    assert left <= {"run_as", "slots"}  # run_as is not for libdrmaa; slots may be this machine's number


def test_an_empty_file_means_the_defaults_with_the_scripts_beside_it(file: Path) -> None:
    config = load(_write(file, ""))
    assert config.model_copy(update={"file": None, "paths": defaults().paths}) == defaults()
    assert config.paths.scripts_dir == file.parent / "scripts.d"


def test_everything_wrong_is_reported_at_once(file: Path) -> None:
    text = """
title = "x"
[sever]
[server]
port = 70000
adress = "0.0.0.0"
max_upload = "2 G"
[drm]
backend = "locla"
slots = true
[drm.native]
cpus = "-pe {cores}"
[[auth.providers]]
name = "A"
userinfo_url = "http://example.org"
[[auth.providers]]
nam = "B"
[groups.staff]
rate = "often"
admn = true
[retention]
finished = 1.5e300
"""
    found = [(finding.line, finding.key) for finding in _findings(file, text)]
    assert found == [
        (2, "title"),
        (3, "sever"),
        (5, "server.port"),
        (6, "server.adress"),
        (7, "server.max_upload"),
        (9, "drm.backend"),
        (10, "drm.slots"),
        (12, "drm.native.cpus"),
        (15, "auth.providers[0].userinfo_url"),
        (16, "auth.providers[1].name"),
        (16, "auth.providers[1].userinfo_url"),
        (17, "auth.providers[1].nam"),
        (19, "groups.staff.rate"),
        (20, "groups.staff.admn"),
        (22, "retention.finished"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sever]", r"^.*:1: sever: is not known; did you mean 'server'\? \(known here: auth, compat"),
        ("[server]\nprot = 1", r":2: server.prot: is not known; did you mean 'port'\?"),
        ("[server]\nport = 70000", r":2: server.port: must be at most 65535 \(got 70000\)"),
        ("[server]\nport = '80'", r"must be a whole number \(got '80'\)"),
        ("[server]\nport = 8.5", r"must be a whole number \(got 8.5\)"),
        ("[server]\naddress = '127.0.0.1:80'", r"the port has a key of its own\) \(got '127.0.0.1:80'\)"),
        ("[server]\naddress = '300.1.1.1'", "must be an IP address or a host name"),
        ("[server]\nurl = 'jobs.example.org'", r"must be a URL such as .* \(got 'jobs.example.org'\)"),
        ("[server]\nurl = 'https://u:p@example.org'", "must be a URL such as"),
        ("[server]\nurl = 'https://example.org:x'", "must be a URL such as"),
        ("[server]\nurl = 'https://example.org/?a=1'", r"without \? and #"),
        ("[server]\ncors_origins = ['https://example.org/']", "must be an origin such as"),
        ("[server]\ncors_origins = 'x'", r"must be a list \(got 'x'\)"),
        ("[server]\nmetrics_allow = ['here']", r"server.metrics_allow\[0\]: must be an IP address or"),
        ("[server]\npage_size = 20\nmax_page_size = 10", "must be at most max_page_size, which is 10"),
        ("[server]\nmax_uploads = 1", "must be at most max_uploads, which is 1"),
        ("server = 1", r"^.*:1: server: must be a table \(got 1\)"),
        ("groups = 1", r"groups: must be a table \(got 1\)"),
        ("[groups]\nrate = '1/s'", r"groups.rate: belongs into a table of a group"),
        ("[groups]\nx = 1", r"groups.x: must be a table \(got 1\)"),
        ("[groups.'a b']", r"groups.'a b': must be a name"),
        ("[groups.anonymous]\nadmin = true", r":2: groups.anonymous.admin: must be false"),
        ("[groups.x]\nqueue = 'a b'", "must be a name of letters"),
        ("[drm]\nbackend = 'slrum'", r"'local', 'drmaa', 'slurm' \(got 'slrum'\); did you mean 'slurm'\?"),
        ("[drm]\nsync_interval = '1 ms'", r"must be at least 0.01 s \(got '1 ms'\)"),
        ("[drm]\nlost_after = '1 min'", "must be at least as long as ending_grace"),
        ("[drm]\nlibrary = 'x'", 'must be left out with backend "local"'),
        ("[drm]\nbackend = 'drmaa'\nrun_as = 'jobs'", r":3: drm.run_as: must be left out"),
        ("[drm]\nrun_as = 'a b'", "must be the name of an account"),
        ("[drm.native]\nqueue = '-q {queue!r}'", r"placeholders \{queue\}, and nothing else in braces"),
        ("[drm.native]\nqueue = '-q {queue:>99}'", "nothing else in braces"),
        ("[drm.native]\nqueue = '-q {queue.x}'", "nothing else in braces"),
        ("[drm.native]\nqueue = '-q {'", "a brace itself is written twice"),
        ("[drm.native]\nalways = '{x}'", "no placeholders"),
        ("[drm.native]\nalways = '''a\nb'''", "must be one line"),
        ("[auth]\nproviders = [{name = 'A'}]", r":2: auth.providers\[0\].userinfo_url: is missing"),
        ("[auth]\ntoken_lifetime = '1 s'", r"must be at least 1 minute \(got '1 s'\)"),
        ("[retention]\nfinished = true", r"must be a duration such as .* \(got true\)"),
        ("[compat]\nignore_unknown = 1", r"must be true or false \(got 1\)"),
        ("[paths]\nstate_dir = ''", r"must be a path \(got ''\)"),
        ("[paths]\nstate_dir = 1", r"must be a path \(got 1\)"),
        ("[paths]\nstate_dir = \"a\\u0000b\"", "must be a path"),
        ("a = 1\na = 2", "^.*:2: is not valid TOML"),
    ],
)  # fmt: skip
def test_a_finding_says_where_what_and_what_is_allowed(file: Path, text: str, words: str) -> None:
    (finding,) = _findings(file, text)
    assert re.search(words, str(finding))


PROVIDER = "[[auth.providers]]\nname = 'A'\nuserinfo_url = 'https://example.org/u'\n"


PAGE = "client_id = 'x'\n"
ENDS = "authorize_url = 'https://a.org/a'\ntoken_url = 'https://a.org/t'\n"
KEYS = "issuer = 'https://a.org'\njwks_url = 'https://a.org/keys'\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (PROVIDER + "client_ids = ['x']", "auth.providers[0].client_ids"),
        (PROVIDER + "issuer = 'https://example.org'", "auth.providers[0].jwks_url"),
        (PROVIDER + "jwks_url = 'https://example.org'", "auth.providers[0].issuer"),
        (PROVIDER + "introspection_client_id = 'x'", "auth.providers[0].introspection_secret_file"),
        (PROVIDER + "introspection_secret_file = 'x'", "auth.providers[0].introspection_client_id"),
        (PROVIDER + PAGE + "token_url = 'https://a.org/t'", "auth.providers[0].authorize_url"),
        (PROVIDER + PAGE + "authorize_url = 'https://a.org/a'", "auth.providers[0].token_url"),
        (PROVIDER + "client_secret_file = 'x'", "auth.providers[0].client_id"),
        (PROVIDER + PAGE + ENDS + "client_ids = ['y']\n" + KEYS, "auth.providers[0].client_id"),
        (PROVIDER + "pattern = '(a'", "auth.providers[0].pattern"),
        (PROVIDER + "pattern = '(?=a)'", "auth.providers[0].pattern"),
        (PROVIDER + PROVIDER.replace("'A'", "'a'"), "auth.providers[1].name"),
        (PROVIDER + "user_name_claim = ''", "auth.providers[0].user_name_claim"),
    ],
)
def test_providers_are_checked_as_a_whole(file: Path, text: str, key: str) -> None:
    assert [finding.key for finding in _findings(file, text)] == [key]


@pytest.mark.parametrize(
    ("paths", "keys"),
    [
        ({"state_dir": "a", "tasks_dir": "a/b", "scripts_dir": "s"}, ["paths.tasks_dir"]),
        ({"state_dir": "a/b", "tasks_dir": "a", "scripts_dir": "s"}, ["paths.state_dir"]),
        ({"state_dir": "a", "tasks_dir": "./x/../a", "scripts_dir": "s"}, ["paths.tasks_dir"]),
        ({"state_dir": "a", "tasks_dir": "b", "scripts_dir": "b/s"}, ["paths.scripts_dir"]),
        ({"state_dir": "a", "tasks_dir": "link/b", "scripts_dir": "s"}, ["paths.tasks_dir"]),
        ({"state_dir": "ab", "tasks_dir": "a", "scripts_dir": "abc"}, []),
    ],
)
def test_no_folder_lies_in_another(file: Path, paths: dict[str, str], keys: list[str]) -> None:
    file.parent.mkdir()
    (file.parent / "a").mkdir()
    (file.parent / "link").symlink_to("a")
    text = "[paths]\n" + "\n".join(f'{key} = "{value}"' for key, value in paths.items())
    if keys:
        assert [finding.key for finding in _findings(file, text)] == keys
    else:
        assert load(_write(file, text)).paths.tasks_dir == file.parent / "a"


def test_a_path_that_a_drm_would_not_pass_on_is_an_error_with_a_drm_only(file: Path) -> None:
    text = '[paths]\ntasks_dir = "/srv/it\'s"\n[drm]\nbackend = '
    assert load(_write(file, text + "'local'")).paths.tasks_dir == Path("/srv/it's")
    for backend in ("drmaa", "slurm"):
        (finding,) = _findings(file, text + f"'{backend}'")
        assert (finding.key, finding.line) == ("paths.tasks_dir", 2)


def test_a_home_in_a_path_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(_write(file, "[paths]\nstate_dir = '~/x'")).paths.state_dir == Path("/home/somebody/x")


def test_what_is_no_file_is_a_finding(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "missing.toml")


def test_state_is_in_the_accounts_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    assert default_base() == Path("/x/state/drmaaticd")
    for relative in ("state", ""):
        monkeypatch.setenv("XDG_STATE_HOME", relative)
        assert default_base() == Path("/home/somebody/.local/state/drmaaticd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_base() == Path("/var/lib/drmaaticd")
    assert defaults().paths.state_dir == Path("/var/lib/drmaaticd/state")


def test_the_defaults_are_right_and_serve_the_samples() -> None:
    config = defaults()
    assert config.file is None
    assert list(config.problems()) == []
    assert (config.paths.scripts_dir / "fasta-stats.toml").is_file()
    assert config.paths.scripts_dir == samples_dir()
    assert set(config.groups) == {"anonymous", "registered"}


def test_a_config_cannot_be_changed() -> None:
    config = defaults()
    with pytest.raises(ValidationError):
        config.server.port = 1


@pytest.mark.parametrize(
    ("address", "url"),
    [("127.0.0.1", "http://127.0.0.1:8300"), ("::1", "http://[::1]:8300"), ("[::1]", "http://[::1]:8300")],
)
def test_links_begin_with_the_address_unless_told(address: str, url: str) -> None:
    config = defaults().model_copy(update={"server": Server(address=address)})
    assert config.public_url == url
    assert config.listening_on(9).public_url.endswith(":9")


def test_what_is_not_safe_is_a_warning(file: Path) -> None:
    fine = PROVIDER + "client_ids = ['x']\nintrospection_url = 'https://example.org/i'\n"
    assert _warned(file, fine) == []
    assert _warned(file, "") == [("auth.providers[0].client_ids", None)]
    assert _warned(file, PROVIDER) == [("auth.providers[0].client_ids", 1)]
    assert _warned(file, fine + "[server]\naddress = '192.0.2.1'") == [("server.address", 7)]
    assert _warned(file, fine + "[server]\naddress = '0.0.0.0'") == [("server.address", 7), ("server.url", 6)]
    behind = "[server]\naddress = '192.0.2.1'\ntrusted_proxies = ['192.0.2.2']\nurl = 'https://x.example'"
    assert _warned(file, fine + behind) == []
    assert _warned(file, fine + "[server]\nurl = 'http://x.example'") == [("server.url", 7)]
    assert _warned(file, fine + "[server]\nurl = 'http://localhost:1'") == []
    assert _warned(file, fine + "[server]\ntrusted_proxies = ['0.0.0.0/0']") == [
        ("server.trusted_proxies[0]", 7)
    ]
    assert _warned(file, "[auth]\nanonymous = false\nproviders = []") == [("auth.providers", 3)]


def test_a_secret_that_others_can_read_is_a_warning(file: Path) -> None:
    text = PROVIDER + (
        "client_ids = ['x']\nintrospection_url = 'https://example.org/i'\n"
        "introspection_client_id = 'x'\nintrospection_secret_file = 'secret'\n"
    )
    key = ("auth.providers[0].introspection_secret_file", 7)
    assert _warned(file, text) == [key]  # it is not there
    secret = file.parent / "secret"
    secret.write_text("s")
    secret.chmod(0o644)
    assert _warned(file, text) == [key]
    secret.chmod(0o600)
    assert _warned(file, text) == []


def test_warnings_come_without_lines_once_the_file_has_gone(file: Path) -> None:
    config = load(_write(file, PROVIDER))
    file.unlink()
    assert [(finding.file, finding.line) for finding in config.warnings()] == [(file, None)]
    assert defaults().warnings()[0].file == Path("embedded defaults")


def test_the_sample_is_the_defaults(file: Path) -> None:
    config = load(_write(file, sample()))
    assert config.model_copy(update={"file": None, "paths": defaults().paths}) == defaults()
    assert config.paths == Paths(
        state_dir=file.parent / "var/state",
        tasks_dir=file.parent / "var/tasks",
        scripts_dir=file.parent / "scripts.d",
    )


def test_the_samples_paths_can_be_told(file: Path) -> None:
    told = sample(state_dir="/var/lib/drmaaticd/state", tasks_dir='/a "b"', scripts_dir="s")
    assert load(_write(file, told)).paths.tasks_dir == Path('/a "b"')


def test_every_example_of_the_sample_is_right(file: Path) -> None:
    text = re.sub(r"^# (?:for example: )?([a-z_]+ = .*|\[[a-z.]+\])$", r"\1", sample(), flags=re.MULTILINE)
    text = re.sub(r"^[a-z_]+ = \[\]\n(?=[a-z_]+ = \[)", "", text, flags=re.MULTILINE)
    keys = {finding.key for finding in _findings(file, text)}
    assert keys == {"drm.library"}  # not for the local backend
    config = load(
        _write(file, text.replace('backend = "local"', 'backend = "drmaa"').replace("run_as", "# run_as"))
    )
    assert config.groups["administrators"].admin
    assert config.auth.providers[0].client_ids


def _models() -> list[type[BaseModel]]:
    return [*SECTIONS.values(), Native, Provider]


def test_the_reference_names_every_key_and_every_key_has_a_description() -> None:
    text = reference()
    for model in _models():
        assert model.__doc__
        for name, field in model.model_fields.items():
            if name in ("native", "providers"):
                assert f"{name}]" in text
                continue
            assert field.description, f"{model.__name__}.{name}"
            assert f"| `{name}` |" in text
            assert re.search(rf"^#? ?{name} = ", sample(), re.MULTILINE)


def test_the_reference_gives_kinds_bounds_and_defaults() -> None:
    text = reference()
    assert "| `port` | whole number from 0 to 65535 | `8300` |" in text
    assert '| `sync_interval` | duration from 0.01 s to 1 minute | `"0.25 s"` |' in text
    assert "| `backend` | `local`, `drmaa`, `slurm` |" in text
    assert '| `token_lifetime` | duration from 1 minute to 366 days | –, e.g. `"1 day"` |' in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


_tables = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.data(), st.sampled_from(sorted(SECTIONS)))
def test_whatever_a_section_holds_the_answer_is_a_model_or_findings(data: st.DataObject, name: str) -> None:
    model: type[Model] = SECTIONS[name]
    table = data.draw(
        st.dictionaries(st.sampled_from([*model.model_fields, "x"]), _tables, max_size=4) | _tables
    )
    made, findings = validate(model, table, Source(Path("/x/y.toml"), {}), (name,))
    assert (made is None) == bool(findings)
    assert all(finding.key and finding.message for finding in findings)
