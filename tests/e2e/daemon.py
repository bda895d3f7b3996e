"""A real daemon as a process of its own, for end-to-end tests.

    with daemon(tmp_path, drm={"slots": 4}) as service:
        requests.get(service.url + "/script", timeout=10)

The keyword arguments are the configuration's sections. `conftest.py` offers the same as the fixture
`daemon`. At the end the daemon and all its jobs are gone, and it has logged no warning that the test
did not expect.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]

#: Longest wait for anything, seconds: only a hang takes so long.
PATIENCE = 60.0
#: Seconds between two looks at a condition.
PAUSE = 0.02

#: Tests ask and submit faster than anyone should; those of the limits set their own.
UNBOUND = {"rate": "1000000/s", "cpu_credit_max": 1_000_000_000}

_LISTENING = re.compile(r"listening on (http://\S+)")
#: "TIME LEVEL LOGGER: text" (`drmaaticd.logs.TextFormatter`).
_BAD = re.compile(r"^\S+ (WARNING|ERROR|CRITICAL) ")

#: What every daemon may say in a test.
HARMLESS: tuple[str, ...] = (r"runs as root", r"scripts are trusted", r"client_ids: ORCID: is empty")


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value that the condition returns; AssertionError naming `what` if none comes."""
    deadline = time.monotonic() + patience
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        time.sleep(PAUSE)


class Daemon:
    """One state folder and the daemon on it, which may be stopped, killed and started again."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        *,
        allow: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "drmaaticd"),
    ) -> None:
        """`allow` are patterns of warnings that are expected; `environ` is added to a plain one.

        `command` is how the program is started; what wraps it (``prlimit``, ``unshare``) must exec it,
        so that signals reach the daemon.
        """
        self.folder = folder
        self.config = folder / "drmaaticd.toml"
        self.scripts = folder / "scripts.d"
        self.state = folder / "state"
        self.tasks = folder / "tasks"
        self.allow = [*HARMLESS, *allow]
        self.url = ""
        self.log: list[str] = []
        """Every line on standard error so far, over all starts."""
        self.process: subprocess.Popen[str] | None = None
        self.environ = dict(environ or {})
        """What is added to its environment at the next start."""
        self._command = [
            *command,
            *("serve", "--config", str(self.config)),
            *arguments,
        ]
        self._reader: threading.Thread | None = None
        self._write(dict(config or {}))

    def _write(self, config: dict[str, Any]) -> None:
        server = {"address": "127.0.0.1", "port": 0} | config.pop("server", {})
        paths = {"state_dir": "state", "tasks_dir": "tasks", "scripts_dir": "scripts.d"}
        given = config.pop("groups", {})
        groups = {
            name: UNBOUND | given.get(name, {}) for name in dict.fromkeys(("anonymous", "registered", *given))
        }
        sections = {"server": server, "paths": paths | config.pop("paths", {}), "groups": groups, **config}
        if not Path(sections["paths"]["scripts_dir"]).is_absolute():
            (self.folder / sections["paths"]["scripts_dir"]).mkdir(parents=True, exist_ok=True)
        self.config.write_text(toml(sections), encoding="utf-8")

    # Scripts

    def script(self, name: str, definition: str, **files: str) -> None:
        """Drop a script in: the TOML text, and executable files beside it (``run_sh="#!/bin/sh…"``).

        In the names of files ``_`` before the ending stands for a dot. A running daemon sees it at
        its next look; add scripts before `start` where a test needs them at once.
        """
        for file, text in files.items():
            path = self.scripts / file.replace("_", ".")
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)
        (self.scripts / f"{name}.toml").write_text(definition, encoding="utf-8")

    def inline(self, name: str, body: str, extra: str = "") -> None:
        """Drop in a script whose body is this shell text; `extra` is TOML to go with it."""
        self.script(name, f"inline = {json.dumps(f'#!/bin/sh{os.linesep}{body}{os.linesep}')}\n{extra}\n")

    # Running

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None, "the daemon was not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        assert not self.running, "the daemon runs already"
        environ = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environ["TMPDIR"] = str(self._made_scratch())
        if sys.executable in self._command:  # the source tree need not be installed
            environ["PYTHONPATH"] = str(ROOT)
        environ |= {"PYTHONWARNINGS": "error::ResourceWarning", **self.environ}
        self.process = subprocess.Popen(
            self._command,
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _made_scratch(self) -> Path:
        """The folder for temporary files, also for those that its jobs leave when they are killed."""
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        scratch.chmod(0o1777)  # jobs may be another account's
        return scratch

    def start(self) -> Daemon:
        """Start the daemon and wait until it listens."""
        start = len(self.log)
        self.launch()

        def listening() -> str | None:
            for line in self.log[start:]:
                if found := _LISTENING.search(line):
                    return found[1].rstrip("/")
            assert self.running or self._drained(), f"the daemon did not start:\n{self.text()}"
            return None

        self.url = wait_until(listening, f"the daemon to listen; it said:\n{self.text()}")
        return self

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: its jobs go on."""
        self._end(signal.SIGKILL)

    def restart(self) -> Daemon:
        """`stop` and `start`; with port 0 the URL is another one."""
        assert self.stop() == 0, f"the daemon did not end well:\n{self.text()}"
        return self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status, once the process has ended by itself."""
        assert self.process is not None, "the daemon was not started"
        status = self.process.wait(PATIENCE)
        self._join()
        return status

    def _end(self, number: signal.Signals) -> int:
        if self.running:
            self.signal(number)
        return self.wait()

    # Its log

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self.log.append(line.rstrip("\n"))

    def _join(self) -> None:
        # Were a job to inherit standard error, the pipe would stay open: that is a finding too.
        assert self._reader is not None
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "something still holds the daemon's standard error"

    def _drained(self) -> bool:
        """Whether a daemon that has ended may have lines that were not read yet."""
        return self._reader is not None and self._reader.is_alive()

    def text(self) -> str:
        """The log so far."""
        return "\n".join(self.log)

    def wait_for_log(self, pattern: str, start: int = 0) -> re.Match[str]:
        """The first line from number `start` on in which the pattern is found."""

        def seen() -> re.Match[str] | None:
            return next((found for line in self.log[start:] if (found := re.search(pattern, line))), None)

        found: re.Match[str] = wait_until(seen, f"{pattern!r} in the log:\n{self.text()}")
        return found

    def bad_lines(self) -> list[str]:
        """The warnings and errors in the log that are not expected."""
        return [
            line
            for line in self.log
            if (_BAD.match(line) or line.startswith("Traceback"))
            and not any(re.search(pattern, line) for pattern in self.allow)
        ]

    # The end

    def jobs(self) -> list[psutil.Process]:
        """Every process that carries the id of a task of this daemon in its environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid not in (os.getpid(), self.process and self.process.pid):
                    environ = process.environ()
                    if "DRMAATICD_TASK_ID" in environ and self._is_ours(environ["DRMAATICD_TASK_ID"]):
                        found.append(process)
        return found

    def _is_ours(self, task: str) -> bool:
        return (self.tasks / ".control" / task).exists() or (self.tasks / task).exists()

    def close(self) -> None:
        """End the daemon and its jobs, whatever state they are in. Idempotent."""
        if self.running:
            self._end(signal.SIGTERM)
        for _ in range(3):  # a job may be about to start another process
            for process in self.jobs():
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def check(self) -> None:
        """Fail if the log holds what nobody expected."""
        bad = self.bad_lines()
        assert not bad, (
            "unexpected in the daemon's log:\n" + "\n".join(bad) + f"\n\nall of it:\n{self.text()}"
        )


@contextlib.contextmanager
def daemon(
    folder: Path,
    *,
    scripts: Mapping[str, str] | None = None,
    start: bool = True,
    allow: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> Iterator[Daemon]:
    """A daemon in `folder`, already listening unless told otherwise.

    `scripts` are shell bodies by name; `config` are sections (``drm={"slots": 4}``); `allow` are
    patterns of warnings that are expected.
    """
    service = Daemon(folder, config, allow=allow, environ=environ)
    for name, body in (scripts or {}).items():
        service.inline(name, body)
    try:
        if start:
            service.start()
        yield service
    finally:
        service.close()
    service.check()


def toml(sections: Mapping[str, Any]) -> str:
    """The configuration as TOML: sections, sub-sections, and lists of sections."""
    return "\n".join(_table(sections, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    later = []
    for key, value in table.items():
        if isinstance(value, Mapping) or _is_list_of_tables(value):
            later.append((key, value))
        elif value is not None:
            yield f"{json.dumps(key)} = {_value(value)}"
    for key, value in later:
        name = ".".join(json.dumps(part) for part in (*path, key))
        for one in [value] if isinstance(value, Mapping) else value:
            yield f"[{name}]" if isinstance(value, Mapping) else f"[[{name}]]"
            yield from _table(one, (*path, key))


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)
