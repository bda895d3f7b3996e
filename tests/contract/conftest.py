"""The engines that the contract tests run over. A further one is another parameter of `cluster`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drmaaticd.drm.drmaa import DrmaaEngine
from drmaaticd.drm.local import LocalEngine
from drmaaticd.drm.otheraccount import OtherAccount
from drmaaticd.drm.slurm import SlurmEngine
from tests.launching import Cluster, Place, end_all
from tests.runas.places import let_in

#: Within the account of a test cell (`tests/cluster/`) its engine is tested, elsewhere the embedded one.
ENGINES = [os.environ.get("DRM_CLUSTER", "local")]


def local(tmp_path: Path, place: Place) -> Iterator[Cluster]:
    """This machine's own processes; none is left when the test is over."""
    made = Cluster(place, lambda: LocalEngine(tmp_path / "state", slots=2, kill_after=1.0), slots=2)

    async def clean_up() -> None:
        async with made.engine() as engine:
            await end_all(engine, place)

    yield made
    asyncio.run(clean_up())


def gridengine(tmp_path: Path, place: Place) -> Iterator[Cluster]:
    """The cell of `tests/gridengine.sh`, which has two slots meanwhile. It kills without a warning."""
    (tmp_path / "state").mkdir()
    made = Cluster(place, lambda: DrmaaEngine(tmp_path / "state"), slots=2, gives_notice=False)
    yield made
    from tests.cluster.warden import ask

    ask("delete-all")


def slurm(tmp_path: Path, place: Place) -> Iterator[Cluster]:
    """The cluster of `tests/slurm.sh`: a partition that runs two jobs at a time. It knows minutes only."""
    partition = os.environ.get("DRM_PARTITION", "pair")
    made = Cluster(
        place,
        lambda: SlurmEngine(native={"always": f"--partition={partition}"}),
        slots=2,
        limit_patience=150.0,
    )

    async def clean_up() -> None:
        async with made.engine() as engine:
            await end_all(engine, place)

    yield made
    asyncio.run(clean_up())


def runas(tmp_path: Path) -> Iterator[Cluster]:
    """The embedded engine, with jobs under the second account of `tests/runas.sh`."""
    let_in(tmp_path)
    account = OtherAccount(os.environ["RUNAS_JOBS"])
    place = Place(tmp_path / "tasks", jobs=account)
    make = lambda: LocalEngine(tmp_path / "state", slots=2, kill_after=1.0, account=account)  # noqa: E731
    made = Cluster(place, make, slots=2)

    async def clean_up() -> None:
        async with made.engine() as engine:
            await end_all(engine, place)

    yield made
    asyncio.run(clean_up())
    account.close()


@pytest.fixture(params=ENGINES)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Each engine in turn."""
    makers = {"local": local, "gridengine": gridengine, "slurm": slurm}
    if request.param == "runas":
        yield from runas(tmp_path)
    else:
        yield from makers[request.param](tmp_path, Place(tmp_path / "tasks"))
