"""Where tokens are kept, who may read them, and which one is used."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.client import Client, Refused, credentials


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path), **more}


def test_each_service_has_its_own(tmp_path: Path) -> None:
    env = environ(tmp_path)
    assert credentials.resolve(None, env) == (credentials.DEFAULT_URL, None)
    credentials.keep("https://One.example/", "first", "me", env)
    file = credentials.keep("https://two.example", "second", "me", env)
    assert credentials.resolve(None, env) == ("https://two.example", "second")
    assert credentials.resolve("https://one.example:443", env) == ("https://one.example:443", "first")
    assert credentials.resolve("http://one.example", env)[1] is None
    assert credentials.resolve(None, {**env, "DRMAATIC_URL": "https://one.example"})[1] == "first"
    assert credentials.resolve(None, {**env, "DRMAATIC_TOKEN": "other"})[1] == "other"
    assert file == tmp_path / "config" / "drmaatic" / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert credentials.forget("https://two.example/", env) == "second"
    assert credentials.forget("https://two.example/", env) is None
    assert credentials.resolve(None, env) == (credentials.DEFAULT_URL, None)
    assert credentials.resolve("https://one.example", env)[1] == "first"


def test_without_xdg_it_is_at_home(tmp_path: Path) -> None:
    home = tmp_path / ".config" / "drmaatic" / "credentials.json"
    assert credentials.path({"HOME": str(tmp_path)}) == home
    assert credentials.path({"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}) == home


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_what_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    env = environ(tmp_path)
    credentials.keep("https://one.example", "hush", "me", env).chmod(mode)
    with pytest.raises(Refused, match="read by others") as caught:
        credentials.resolve(None, env)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    env = environ(tmp_path)
    credentials.keep("https://one.example", "hush", "me", env).write_text(text)
    with pytest.raises(Refused, match="damaged"):
        credentials.resolve(None, env)


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environ(tmp_path)
    file = credentials.keep("https://one.example", "first", "me", env)
    before = file.read_bytes()

    def fails(handle: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fails)
        with pytest.raises(OSError, match="disk full"):
            credentials.keep("https://two.example", "second", "me", env)
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == [".lock", "credentials.json"]


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    env = environ(tmp_path)

    def keep(number: int) -> None:
        credentials.keep(f"https://{number}.example", str(number), "me", env)

    with ThreadPoolExecutor(8) as threads:  # flock(2) is between open files: threads are as good as processes
        list(threads.map(keep, range(32)))
    assert len(json.loads(credentials.path(env).read_text())["services"]) == 32


def test_the_client_of_the_environment(tmp_path: Path) -> None:
    credentials.keep("http://127.0.0.1:1", "hush", "me")  # where the fixture says
    with Client.from_environment() as client:
        assert client.url == "http://127.0.0.1:1"
    with Client.from_environment("http://127.0.0.1:2", patience=1) as client:
        assert client.url == "http://127.0.0.1:2"


@given(st.from_regex(r"[a-z]{1,5}://[^/?#@\[\]]{0,9}(/[a-z/]{0,5})?", fullmatch=True))
def test_one_spelling_is_stable(url: str) -> None:
    assert credentials.same(credentials.same(url)) == credentials.same(url)


def test_spellings() -> None:
    for url in ("HTTP://[::1]:80/", "http://[::1]"):
        assert credentials.same(url) == "http://[::1]"
    assert credentials.same("https://a:8443/x/") == "https://a:8443/x"
