"""The launcher of a task: the ``run.sh`` that claims it, runs its command and says how that ended.

This module writes the script, and takes the claim of a task that shall not run any more; what a
launcher left behind is read in `evidence`, whose names are offered here too. Pure sh on the node:
nothing of drmaaticd needs to be installed there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from drmaaticd.evidence import (
    CANCELLED,
    CLAIM,
    Claim,
    Doorbell,
    Ending,
    Evidence,
    doorbells,
    open_control,
    parse_doorbell,
    read,
    refresh,
)
from drmaaticd.runscript import TEMPLATE

__all__ = [
    "DRM_VARIABLES",
    "RUN_SCRIPT",
    "Claim",
    "Doorbell",
    "Ending",
    "Evidence",
    "LaunchSpec",
    "cancel",
    "doorbells",
    "head",
    "output_names",
    "parse_doorbell",
    "read",
    "refresh",
    "render",
    "write",
]

#: The script's name in the control folder.
RUN_SCRIPT = "run.sh"

#: Of the environment that a DRM gives a job, what is handed on (shell patterns). All else, such as
#: the submitting daemon's own variables, which some DRMs copy into the job, is dropped.
DRM_VARIABLES: tuple[str, ...] = (
    # Grid Engine, qsub(1)
    *("JOB_ID", "JOB_NAME", "JOB_SCRIPT", "QUEUE", "NSLOTS", "NHOSTS", "NQUEUES", "PE", "PE_HOSTFILE", "ARC"),
    *("RESTARTED", "REQUEST", "SGE_*"),
    # Slurm, sbatch(1); PBS and Torque, qsub(1); LSF, bsub(1); HTCondor
    *("SLURM_*", "SLURMD_*", "PBS_*", "NCPUS", "LSB_*", "LSF_*", "LS_*", "_CONDOR_*"),
    # devices that were granted
    *("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("ZE_AFFINITY_MASK", "NVIDIA_VISIBLE_DEVICES"),
    # the embedded engine
    *("DRMAATICD_JOB_ID", "DRMAATICD_RESTART_COUNT", "DRMAATICD_TASK_INDEX"),
    "DRMAATICD_RUN",
)

#: The search path of launcher and job; a script's ``[environment]`` may set another for the job.
JOB_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Where the ``module`` command is usually set up, for Lmod and for Environment Modules.
MODULE_INIT_FILES = (
    "/etc/profile.d/lmod.sh",
    "/etc/profile.d/z00_lmod.sh",
    "/etc/profile.d/modules.sh",
    "/usr/share/lmod/lmod/init/sh",
    "/usr/share/modules/init/sh",
    "/usr/share/Modules/init/sh",
)

#: Exit statuses that a DRM would take for a request: Grid Engine requeues at 99 and parks at 100.
STATUSES_KEPT_FROM_THE_DRM = (99, 100)

#: Bytes of a ``run.sh`` in which its paths are, each of which a shell's quoting may make five times as long.
HEAD = 128 * 1024

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TASK = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Everything that a task's ``run.sh`` holds. Paths are absolute and are the same on every node.

    Strings may hold any characters but NUL; lone surrogates of ``surrogateescape`` stand for bytes.
    """

    task: str
    """The task's UUID."""
    attempt: int = 1
    """Number of the first run; a job that its DRM runs again counts on from here."""
    folder: Path
    """The task's folder, in which the command runs."""
    control: Path
    spool: Path
    command: Path
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """The script's ``[environment]``, put over the fixed one."""
    setup: Sequence[str] = ()
    """Lines of shell run before the command, in its shell; one that fails ends the task."""
    modules: Sequence[str] = ()
    cpus: int = 1
    """What was asked for; the job is told what the DRM granted, where the DRM says."""
    array: bool = False
    rerunnable: bool = False
    shared: bool = False
    """Whether the daemon runs under another account, with which the job's group is shared."""


def output_names(task: str, index: int | str | None = None) -> tuple[str, str]:
    """The names, in the task's folder, of the files that hold standard output and error."""
    end = ".txt" if index is None else f".{index}.txt"
    return f"{task[:8]}_out{end}", f"{task[:8]}_err{end}"


def render(spec: LaunchSpec) -> str:
    """The text of the task's ``run.sh``. Raises ValueError for what no shell could be told."""
    _check(spec)
    out, err = output_names(spec.task, "$index" if spec.array else None)
    prepares = bool(spec.modules or spec.setup)
    substitutions = {
        "control": quote(str(spec.control)),
        "spool": quote(str(spec.spool)),
        "folder": quote(str(spec.folder)),
        "command": quote(str(spec.command)),
        "task": spec.task,
        "attempt": str(spec.attempt),
        "cpus": str(spec.cpus),
        "array": "yes" if spec.array else "",
        "rerunnable": "yes" if spec.rerunnable else "",
        "shared": "yes" if spec.shared else "",
        "path": JOB_PATH,
        "drm_variables": "|".join(DRM_VARIABLES),
        "kept_statuses": "|".join(map(str, STATUSES_KEPT_FROM_THE_DRM)),
        "out": f'"$folder/{out}"',
        "err": f'"$folder/{err}"',
        "prepares": "yes" if prepares else "",
        "prepared": 'command -p rm -f "$drmaaticd_preparing"' if prepares else "",
        "environment": "\n".join(
            f"  export {name}={quote(value)}" for name, value in spec.environment.items()
        ),
        "modules": _modules(spec.modules),
        "setup": "\n".join(_setup(line) for line in spec.setup),
        "arguments": " ".join(quote(argument) for argument in spec.arguments),
    }
    # One pass: a value that looks like a placeholder stays as it is.
    return re.sub(r"@(\w+)@", lambda match: substitutions[match[1]], TEMPLATE)


def write(control: Path, spec: LaunchSpec, sync_parent: Callable[[], None] | None = None) -> Path:
    """Put ``run.sh`` into the control folder, made if need be, durably, and where there is one by rename.

    A shell that is just reading the old text goes on reading the old text. `sync_parent` syncs the folder
    of control folders where others wait for the same. Raises OSError.
    """
    text = render(spec).encode("utf-8", "surrogateescape")
    target = control / RUN_SCRIPT
    try:
        control.mkdir(mode=0o750, parents=True)
    except FileExistsError:
        _replace(target, text)
    else:
        # Nobody knows of it yet: there is nothing to be replaced.
        _write(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640), text)
    _sync_folder(control)
    if sync_parent is None:
        _sync_folder(control.parent)
    else:
        sync_parent()
    return target


def _replace(target: Path, text: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".run-", dir=target.parent)
    try:
        _write(descriptor, text)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            Path(temporary).unlink()
        raise


def _write(descriptor: int, text: bytes) -> None:
    """Write the whole file, durably, and close it."""
    try:
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, 0o640)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def head(control: Path) -> bytes:
    """The first part of a task's ``run.sh``, with all its paths; empty where there is none.

    Raises OSError if it cannot be told.
    """
    # Under a second account jobs may put something else there; a FIFO must not stop the reader.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(control / RUN_SCRIPT, flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return b""
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        text = b""
        while len(text) < HEAD and (more := os.read(descriptor, HEAD - len(text))):
            text += more
        return text
    finally:
        os.close(descriptor)


def cancel(control: Path, indices: Iterable[int | None]) -> set[int | None]:
    """Take the claim of these jobs of a task for nobody; None stands for a task that is no array.

    Returns those that now can never run; of the others a launcher has the claim. Raises OSError if
    that cannot be decided, for example on a full disk.
    """
    won: set[int | None] = set()
    for index in indices:
        if index is not None:
            with contextlib.suppress(FileExistsError):
                (control / str(index)).mkdir(mode=0o750, parents=True)
        else:
            control.mkdir(mode=0o750, parents=True, exist_ok=True)
        with open_control(control, index) as folder:
            if folder is not None and _claim_for_nobody(folder):
                won.add(index)
    return won


def _claim_for_nobody(folder: int) -> bool:
    try:
        os.symlink(CANCELLED, CLAIM, dir_fd=folder)
    except FileExistsError:
        try:
            return os.readlink(CLAIM, dir_fd=folder) == CANCELLED
        except OSError:  # not a symbolic link: somebody else's, whatever it is
            return False
    return True


def _check(spec: LaunchSpec) -> None:
    if not _TASK.fullmatch(spec.task):
        raise ValueError(f"not a task's UUID: {spec.task!r}")
    for path in (spec.control, spec.spool, spec.folder, spec.command):
        if not path.is_absolute():
            raise ValueError(f"not an absolute path: {path}")
    for name in spec.environment:
        if not _VARIABLE_NAME.fullmatch(name):
            raise ValueError(f"not a name for an environment variable: {name!r}")
    paths = (str(path) for path in (spec.control, spec.spool, spec.folder, spec.command))
    for text in (*paths, *spec.arguments, *spec.environment.values(), *spec.setup, *spec.modules):
        if "\0" in text:
            raise ValueError("a NUL character cannot be passed to a command")
        text.encode("utf-8", "surrogateescape")


def _modules(modules: Sequence[str]) -> str:
    if not modules:
        return ""
    files = " ".join(quote(name) for name in MODULE_INIT_FILES)
    names = " ".join(quote(name) for name in modules)
    complaint = quote(f"module load failed: {names}")
    return (
        f"  for init in {files}; do\n"
        "    command -v module >/dev/null 2>&1 && break\n"
        '    [ ! -r "$init" ] || . "$init"\n'
        "  done\n"
        "  command -v module >/dev/null 2>&1 || { say 'no module command on this node'; exit 127; }\n"
        f"  module load {names} || {{ status=$?; say {complaint}; exit $status; }}"
    )


def _setup(line: str) -> str:
    """One setup line; ``eval`` keeps a syntax error in it from taking the rest of the script along."""
    complaint = quote(f"this setup line failed: {line}")
    return f"  eval {quote(line)} || {{ status=$?; say {complaint}; exit $status; }}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
