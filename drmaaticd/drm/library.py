"""libdrmaa itself: where it is, loading it, and saying clearly why that, or its cluster, is not there.

drmaa-python loads the library when it is imported, so it is imported here and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from drmaaticd.drm.answers import text_of
from drmaaticd.drm.dialects import GRID_ENGINE, SLURM, Dialect, resolve
from drmaaticd.errors import ConfigurationError, Finding

LIBRARY_VARIABLE = "DRMAA_LIBRARY_PATH"
TUNABLES = "GLIBC_TUNABLES"

#: Room for the thread-local storage of libraries that are loaded late: Debian's libdrmaa for Grid
#: Engine brings jemalloc, which needs 2048 bytes. Read by glibc when a process starts, and only then.
STATIC_TLS = "glibc.rtld.optional_static_tls=4096"

#: Set in the environment of a process that was started anew, which happens once.
STARTED_ANEW = "DRMAATICD_STARTED_ANEW"

#: Bytes of an error's text (DRMAA C binding 1.0, DRMAA_ERROR_STRING_BUFFER).
ERROR_LENGTH = 1024

#: Where Slurm's commands look for their configuration if ``SLURM_CONF`` does not say.
SLURM_CONF_PLACES = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/usr/local/etc/slurm.conf",
    "/run/slurm/conf/slurm.conf",
)


def library_path(library: str | None, environ: Mapping[str, str]) -> str | None:
    """The library that will be loaded: the configured one, the environment's, or the system's."""
    return library or environ.get(LIBRARY_VARIABLE) or find_library("drmaa")


def needs_reexec(environ: Mapping[str, str], library: str | None = None) -> dict[str, str] | None:
    """The environment with which this process must be started anew to load libdrmaa; None if it need not.

    To be called before anything else is done, by a daemon whose backend is ``drmaa``: some builds of
    the library find no room for their thread-local storage unless glibc was told so at its start.
    """
    path = library_path(library, environ)
    if path is None or STARTED_ANEW in environ or STATIC_TLS in environ.get(TUNABLES, "").split(":"):
        return None
    try:
        ctypes.CDLL(path)
    except OSError as error:
        if not _lacks_static_tls(error):
            return None
    else:
        return None
    tunables = ":".join(part for part in (environ.get(TUNABLES), STATIC_TLS) if part)
    return {**environ, TUNABLES: tunables, STARTED_ANEW: "1"}


def _lacks_static_tls(error: OSError) -> bool:
    return "static TLS" in str(error)


def load(config_file: Path, library: str | None, environ: Mapping[str, str]) -> Any:
    """Import drmaa-python, which loads libdrmaa; returns the module.

    A configured library is put into this process's environment, the only place where drmaa-python
    looks for it. Raises `ConfigurationError`.
    """
    path = library_path(library, environ)
    if path is not None and "/" in path and not Path(path).is_file():
        key = "drm.library" if library else None
        named = f"{path}" if library else f"${LIBRARY_VARIABLE}={path}"
        raise _error(config_file, f"there is no file {named}; it must be the path of libdrmaa.so", key)
    if library is not None:
        os.environ[LIBRARY_VARIABLE] = library
    try:
        import drmaa
    except ImportError as error:
        raise _error(config_file, f"the Python package drmaa is not installed ({error})") from error
    except RuntimeError as error:
        raise _error(
            config_file,
            "libdrmaa was not found: install the DRM's DRMAA library, and give its path as"
            f" drm.library or in ${LIBRARY_VARIABLE}",
            "drm.library",
        ) from error
    except (OSError, AttributeError) as error:
        raise _error(config_file, _why_not_loaded(path, error), "drm.library") from error
    return drmaa


def question(module: Any) -> Callable[[str], None]:
    """A call of the library's ``drmaa_job_ps`` that any thread may make, whose answer is dropped.

    `module` is what `load` returned. drmaa-python has one buffer for the texts of all errors; this call
    has its own.
    """
    function = ctypes.CDLL(module.wrappers._lib._name).drmaa_job_ps
    function.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_char_p, ctypes.c_size_t]
    function.restype = ctypes.c_int

    def ask(job_id: str) -> None:
        text = ctypes.create_string_buffer(ERROR_LENGTH)
        function(job_id.encode("ascii"), ctypes.byref(ctypes.c_int()), text, ERROR_LENGTH)

    return ask


def _why_not_loaded(path: str | None, error: Exception) -> str:
    if isinstance(error, OSError) and _lacks_static_tls(error):
        return f"libdrmaa ({path}) needs {TUNABLES}={STATIC_TLS} in the environment that starts the daemon"
    return f"libdrmaa ({path}) cannot be loaded: {error}"


def _error(config_file: Path, message: str, key: str | None = "drm.backend") -> ConfigurationError:
    return ConfigurationError([Finding(config_file, message, key)])


def told(ask: Callable[[], str], config_file: Path) -> str:
    """What the library tells of itself, which needs no DRM. Raises `ConfigurationError` with its reason.

    Grid Engine's says nothing without ``SGE_ROOT``.
    """
    try:
        return ask()
    except Exception as error:  # drmaa-python raises whatever it likes
        raise _error(config_file, f"libdrmaa does not work here: {text_of(error)}") from error


def identify(
    info: str, configured: str, native: Mapping[str, str], environ: Mapping[str, str], config_file: Path
) -> tuple[Dialect, list[Finding]]:
    """The dialect of the DRM that calls itself `info`, and what its library or the site's words lack.

    `configured` is its name or ``auto``. Raises `ConfigurationError` if it is not known.
    """
    dialect = resolve(configured, info)
    if dialect is None:
        message = f"auto does not know the DRM that libdrmaa speaks to ({info!r}); name its dialect"
        raise ConfigurationError([Finding(config_file, message, "drm.dialect")])
    findings = environment_findings(dialect, environ, config_file)
    findings += [Finding(config_file, text, "drm.native") for text in dialect.setting_problems(native)]
    return dialect, findings


def examine(
    config_file: Path,
    library: str | None,
    configured: str,
    native: Mapping[str, str],
    environ: Mapping[str, str],
) -> tuple[Dialect, list[Finding]]:
    """`identify` for ``check``: the library is loaded, and the DRM is not asked.

    Raises `ConfigurationError` if there is no library, or none that is known.
    """
    session = load(config_file, library, environ).Session()
    info = told(lambda: str(session.drmsInfo), config_file)
    return identify(info, configured, native, environ, config_file)


def environment_findings(dialect: Dialect, environ: Mapping[str, str], config_file: Path) -> list[Finding]:
    """What the library of this DRM will miss in the environment."""
    checks = {GRID_ENGINE.name: _grid_engine_problems, SLURM.name: _slurm_problems}
    check = checks.get(dialect.name)
    if check is None:
        return []
    return [
        Finding(config_file, message, "drm.backend", warning=warning) for message, warning in check(environ)
    ]


def _grid_engine_problems(environ: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    root, cell = environ.get("SGE_ROOT", ""), environ.get("SGE_CELL") or "default"
    if not root:
        yield "$SGE_ROOT is not set: it must be Grid Engine's folder (Debian: /var/lib/gridengine)", False
    elif not Path(root).is_dir():
        yield f"there is no folder $SGE_ROOT={root}", False
    elif not (Path(root) / cell / "common" / "act_qmaster").is_file():
        yield (
            f"{root}/{cell}/common/act_qmaster is missing: $SGE_CELL must name a cell of this cluster, and"
            " $SGE_ROOT its folder",
            False,
        )


def _slurm_problems(environ: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    conf = environ.get("SLURM_CONF")
    if conf is not None and not Path(conf).is_file():
        yield f"there is no file $SLURM_CONF={conf}: without it each submission hangs for a minute", False
    elif conf is None and not any(Path(place).is_file() for place in SLURM_CONF_PLACES):
        yield (
            "no slurm.conf in any usual place, and $SLURM_CONF is not set: unless the cluster is"
            " configured through DNS, each submission will hang for a minute",
            True,
        )
    if environ.get("SLURM_DRMAA_CONF") == "":
        yield "$SLURM_DRMAA_CONF is set and empty, which slurm-drmaa cannot read: unset it", False
