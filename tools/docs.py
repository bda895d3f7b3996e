"""Write the documents that say what the code says: ``python tools/docs.py``, or ``make docs``.

``docs/api.md`` from the OpenAPI document, ``docs/configuration.md`` and ``etc/drmaaticd.toml`` from the
settings' models. A test asks that they are up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drmaaticd import config  # noqa: E402
from drmaaticd.openapi.document import Site, document  # noqa: E402
from drmaaticd.openapi.markdown import reference  # noqa: E402
from drmaaticd.scripts import Catalogue  # noqa: E402
from drmaaticd.web.app import API_ROUTES  # noqa: E402

#: The script whose forms the page shows.
EXAMPLE = "fasta-stats"

INTRODUCTION = f"""\
Made by `make docs` from the document that the service itself serves as `/openapi.json` (OpenAPI 3.1) and
shows at `/docs`. There the forms are those of the scripts that the caller may run, here those of the sample
script `{EXAMPLE}`; the settings are the defaults."""


def api() -> str:
    """``docs/api.md``."""
    catalogue = Catalogue(ROOT / "scripts.d")
    catalogue.load()
    script = catalogue.get(EXAMPLE)
    if script is None:
        raise SystemExit(f"scripts.d has no {EXAMPLE}")
    routes = [(pattern, handler.allowed_methods()) for pattern, handler in API_ROUTES]
    return reference(document(routes, [script.public()], Site("http://127.0.0.1:8300")), INTRODUCTION)


def sample() -> str:
    """``etc/drmaaticd.toml``."""
    return config.sample(state_dir="../var/state", tasks_dir="../var/tasks", scripts_dir="../scripts.d")


DOCUMENTS = {
    ROOT / "docs" / "api.md": api,
    ROOT / "docs" / "configuration.md": config.reference,
    ROOT / "etc" / "drmaaticd.toml": sample,
}


def main() -> None:
    """Write those that differ, and say so."""
    for path, make in DOCUMENTS.items():
        text = make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
