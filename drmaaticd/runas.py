"""The jobs' own account (``[drm] run_as``): made from the configuration, and everything that could be wrong.

What it protects from and what not is in docs/run-as.md.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from drmaaticd.config import Config
from drmaaticd.drm.otheraccount import NoHelper, OtherAccount, helper_command
from drmaaticd.errors import ConfigurationError, Finding
from drmaaticd.script import Script

KEY = "drm.run_as"

#: Characters that sudoers(5) wants a backslash before, in a command and its arguments.
_SPECIAL = re.compile(r"([\\,:= \t*?\[\]!#\"])")

_HARDLINKS = Path("/proc/sys/fs/protected_hardlinks")


def account(config: Config) -> OtherAccount | None:
    """The account that jobs run under, None for the daemon's own; nothing is started yet.

    Raises `ConfigurationError` if there is no such account.
    """
    name = config.drm.run_as
    if name is None:
        return None
    try:
        return OtherAccount(name)
    except KeyError:
        message = f"there is no account {name}; as root: useradd --system --user-group {name}"
        raise ConfigurationError([_finding(config, message)]) from None


def sudoers_line(jobs: str) -> str:
    """The rule that lets this process's account start the helper, as sudoers(5) spells it."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    command = " ".join(_SPECIAL.sub(r"\\\1", word) for word in helper_command())
    return f"{me} ALL=({jobs}) NOPASSWD: {command}"


def findings(config: Config) -> list[Finding]:
    """What is wrong with the second account; nothing if there is none. Blocking: asks the helper."""
    try:
        jobs = account(config)
    except ConfigurationError as error:
        return list(error.findings)
    if jobs is None:
        return []
    if (other := _owner(config)) is not None:
        message = f"is to be checked under the daemon's own account: runuser -u {other} -- drmaaticd check"
        return [_finding(config, f"{message} (this is root)", warning=True)]
    found = [_finding(config, text) for text in _problems(config, jobs)]
    if found:
        return found
    try:
        return [*_asked(config, jobs), *_hardlinks(config), *_members(config, jobs)]
    finally:
        jobs.close()


def script_findings(config: Config, scripts: Iterable[Script]) -> Iterator[Finding]:
    """The scripts whose program the account cannot run, where that is not copied to the jobs. Blocking."""
    jobs = account(config)
    if jobs is None or _owner(config) is not None:
        return
    in_place = [script for script in scripts if script.command is not None and not script.travels]
    try:
        allowed = jobs.allowed([(str(script.command), os.X_OK) for script in in_place]) if in_place else []
    except OSError as error:
        yield _finding(config, f"whether {jobs.name} can run the scripts' programs is not known: {error}")
        return
    finally:
        jobs.close()
    for script, may in zip(in_place, allowed, strict=True):
        if not may:
            yield Finding(script.file, f"{script.command} cannot be run by {jobs.name}", "command")


def prepare(config: Config, jobs: OtherAccount) -> None:
    """Refuse what is wrong, and have the helper. Blocking. Raises `ConfigurationError`."""
    found = [_finding(config, text) for text in _problems(config, jobs)] or _asked(config, jobs)
    if found:
        jobs.close()
        raise ConfigurationError(found)


def trust(config: Config) -> tuple[str, bool]:
    """What to know of whom is trusted, empty if nothing; and whether it is more than a note."""
    if config.drm.run_as is not None:
        return "", False
    text = "scripts are trusted: jobs run under the daemon's own account and can read what it can"
    if config.auth.anonymous and config.drm.backend != "drmaa":
        return f"{text}, and anonymous callers may start them; see [drm] run_as", True
    return text, False


def as_root(config: Config) -> str:
    """What to know if this process, or whoever starts the daemon, is root; empty if it is not."""
    if os.geteuid() != 0 or _owner(config) is not None:
        return ""
    jobs = "" if config.drm.run_as else ", and so does every job"
    return f"the daemon runs as root{jobs}; an account of its own is better"


def _finding(config: Config, message: str, *, warning: bool = False) -> Finding:
    return Finding(config.file or config.paths.state_dir, message, KEY, warning=warning)


def _owner(config: Config) -> str | None:
    """Whom the state folder belongs to, if this is root and that is somebody else."""
    try:
        uid = config.paths.state_dir.stat().st_uid
    except OSError:
        return None
    if os.geteuid() != 0 or uid == 0:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _problems(config: Config, jobs: OtherAccount) -> Iterator[str]:
    """What can be seen without asking the account itself."""
    name = jobs.name
    if jobs.uid == 0:
        yield "must not be root"
        return
    if jobs.uid == os.geteuid():
        yield f"{name} is the daemon's own account: name a second one"
        return
    groups = set(os.getgrouplist(name, jobs.gid))
    group = _group_name(jobs.gid)
    if jobs.gid == os.getegid() or os.getegid() in groups:
        yield (
            f"{name} is in the daemon's own group {_group_name(os.getegid())}, and so could read what the "
            f"daemon alone should: give it a group of its own"
        )
    elif os.geteuid() != 0 and jobs.gid not in os.getgroups():
        me = pwd.getpwuid(os.geteuid()).pw_name
        yield (
            f"the daemon's account is not in the group {group} of {name}, by which they share the tasks' "
            f"folders; as root: usermod --append --groups {group} {me}, and start the daemon anew"
        )
    for path in _own_paths(config):
        if (place := _writable(path, jobs.uid, groups)) is not None:
            yield f"{name} can write to {place}, and so could change what the daemon does"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _own_paths(config: Config) -> Iterator[Path]:
    """What the daemon believes: its program, its configuration, its scripts, its state."""
    yield Path(sys.executable).resolve()
    yield Path(__file__).resolve()
    if config.file is not None:
        yield config.file.resolve()
    yield config.paths.scripts_dir.resolve()
    yield config.paths.state_dir.resolve()
    yield config.paths.tasks_dir.resolve().parent


def _writable(path: Path, uid: int, groups: set[int]) -> Path | None:
    """The first of a path's folders, or itself, that an account may write to or replace."""
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError:
            continue  # not there yet
        mode = status.st_mode
        sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX and place != path
        by_group = mode & stat.S_IWGRP and status.st_gid in groups
        if status.st_uid == uid or ((by_group or mode & stat.S_IWOTH) and not sticky):
            return place
    return None


def _asked(config: Config, jobs: OtherAccount) -> list[Finding]:
    """What is found by starting the helper and asking it."""
    try:
        jobs.open()
        blocked = _blocked(config.paths.tasks_dir.resolve().parent, jobs)
    except NoHelper as error:
        rule = f"the rule for visudo -f /etc/sudoers.d/drmaaticd: {sudoers_line(jobs.name)}"
        return [_finding(config, f"sudo does not start the helper: {error}; {rule}")]
    except OSError as error:
        return [_finding(config, f"the helper does not work: {error}")]
    if blocked is not None:
        message = f"{jobs.name} cannot come through {blocked} to the tasks' folder: chmod o+x {blocked}"
        return [_finding(config, message)]
    return []


def _blocked(path: Path, jobs: OtherAccount) -> Path | None:
    """The first folder on the way, as far as it is there, that the account may not pass through."""
    places = [place for place in (*reversed(path.parents), path) if place.is_dir()]
    allowed = jobs.allowed([(str(place), os.X_OK) for place in places])
    return next((place for place, may in zip(places, allowed, strict=True) if not may), None)


def _hardlinks(config: Config) -> list[Finding]:
    try:
        protected = _HARDLINKS.read_text("ascii").strip() != "0"
    except OSError:
        return []
    if protected:
        return []
    message = (
        "fs.protected_hardlinks is 0: a job could give a file of the daemon's a name in its own folder, "
        "and have it served; set it to 1 (sysctl.d)"
    )
    return [_finding(config, message, warning=True)]


def _members(config: Config, jobs: OtherAccount) -> list[Finding]:
    """Whoever else is in the shared group could write to every task's folder."""
    try:
        members = grp.getgrgid(jobs.gid).gr_mem
    except KeyError:
        return []
    me = pwd.getpwuid(os.geteuid()).pw_name
    others = ", ".join(sorted(set(members) - {me, jobs.name}))
    if not others:
        return []
    message = f"others are in its group {_group_name(jobs.gid)}, and so can change what tasks wrote: {others}"
    return [_finding(config, message, warning=True)]
