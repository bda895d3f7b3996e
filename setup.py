"""The package: what it needs, its two commands, and the samples that travel in the wheel.

`etc/`, `scripts.d/` and `systemd/` stay at the top of the source tree, where administrators look for
them; a build copies them to `drmaaticd/share/`. An editable installation reads them where they are.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent

#: Source, place in the package.
SHARED = (
    ("etc/drmaaticd.toml", "share/drmaaticd.toml"),
    ("systemd/drmaaticd.service", "share/drmaaticd.service"),
    ("systemd/run-as.conf", "share/run-as.conf"),
    ("scripts.d", "share/scripts.d"),
)

RUNTIME = [
    "PyJWT>=2.8",
    "cryptography>=42",  # PyJWT needs it for the providers' signatures
    "drmaa>=0.7.9",
    "google-re2>=1.1",
    "multipart>=2,<3",
    "orjson>=3.10",
    "prometheus_client>=0.20",
    "pydantic>=2.7,<3",
    "requests>=2.31",
    "shtab>=1.7,<2",  # the client's completion
    "sortedcontainers>=2.4",
    "tinydb>=4.8,<5",  # the store brings its own Storage and Table: its inner shape matters
    "tornado>=6.5,<7",  # streamed bodies lean on its HTTP internals' behaviour
    "tqdm>=4.66,<5",  # the client's progress bars
    "zipstream-ng>=1.9,<2",
]

TEST = [
    "axe-playwright-python>=0.1.4",
    "hypothesis>=6.100",
    "multipart-form-data-conformance>=0.1a0",
    "playwright>=1.45",  # drives the system's chromium; its own browsers are not fetched
    "psutil>=5.9",
    "pytest>=8,<10",
    "pytest-timeout>=2.3",
    "pytest-tornado>=0.8.1",
    "pytest-xdist>=3.6",
    "schemathesis>=4.10,<5",
    "setuptools>=68,<81",  # pytest-tornado imports pkg_resources
]

DEV = ["build>=1", "mypy>=1.11", "ruff>=0.6", "types-requests>=2.31"]


class BuildWithSamples(build_py):
    """`build_py` that also copies the samples, with their executable bits."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in SHARED:
                self._share(HERE / source, Path(self.build_lib) / "drmaaticd" / target)

    def _share(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.py[cod]"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def version() -> str:
    """`drmaaticd.__version__`, read without importing the package."""
    text = (HERE / "drmaaticd" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not found:
        raise SystemExit("drmaaticd/__init__.py holds no __version__")
    return found[1]


setup(
    name="drmaaticd",
    version=version(),
    description="A cluster's head node as a self-service job API: one process, one state folder",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the drmaaticd authors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Science/Research",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Clustering",
        "Topic :: System :: Distributed Computing",
    ],
    packages=find_packages(include=["drmaaticd", "drmaaticd.*"]),
    package_data={"drmaaticd": ["py.typed"], "drmaaticd.web": ["static/**/*", "templates/**/*"]},
    python_requires=">=3.11",
    install_requires=RUNTIME,
    extras_require={"test": TEST, "dev": TEST + DEV},
    entry_points={
        "console_scripts": [
            "drmaaticd = drmaaticd.cli:main",
            "drmaatic = drmaaticd.client.cli:main",
        ]
    },
    cmdclass={"build_py": BuildWithSamples},
    zip_safe=False,
)
