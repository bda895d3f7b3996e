"""What a Slurm with accounting tells of ended jobs beyond what the controller does; its QoS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drmaaticd.drm.base import Job, JobState, PassingFault, Refused, Report
from drmaaticd.drm.slurm import SlurmEngine
from drmaaticd.drm.slurmcheck import Wanted, findings
from tests.cluster.inside.test_slurm_resources import WAITING, engine, is_in, place, shown
from tests.cluster.warden import ask
from tests.launching import Place, in_loop, until

__all__ = ["place"]


async def finished(slurm: SlurmEngine, job_id: str) -> Report:
    """The ending of a job, once accounting has heard of it."""

    async def told() -> Report | None:
        try:
            report = await slurm.finished(job_id)
        except PassingFault:
            return None
        return report if report.state is JobState.ENDED and report.usage is not None else None

    found: Report = await until(told, f"accounting to tell of job {job_id}", patience=60.0)
    return found


@in_loop
async def test_what_a_job_used(place: Place) -> None:
    async with engine() as slurm:
        # tail keeps what nobody takes from it; Slurm looks once a second.
        job = place.job("head -c 250000000 /dev/zero | tail -c 250000000 | { sleep 3; cat; } >/dev/null")
        job_id = await slurm.submit(replace(job, memory=1024**3))
        await is_in(slurm, job_id, JobState.ENDED)
        report = await finished(slurm, job_id)
        assert report.task == job.task
        assert report.usage is not None
        assert report.usage.wall_seconds is not None
        assert report.usage.max_rss_bytes is not None
        assert report.usage.wall_seconds >= 3
        assert report.usage.max_rss_bytes >= 250_000_000


@in_loop
async def test_what_the_controller_has_forgotten(place: Place) -> None:
    """MinJobAge is ten seconds. A new engine has nothing of it in its own memory."""
    async with engine() as slurm:
        failed, well = place.job("exit 3"), place.job("exit 0")
        ids = [await slurm.submit(job) for job in (failed, well)]
        for job_id in ids:
            await is_in(slurm, job_id, JobState.ENDED)

    async with engine() as slurm:

        async def forgotten() -> bool:
            return not set(ids) & set((await slurm._list()).reports)

        await until(forgotten, "Slurm to forget them", patience=90.0)
        reports = await slurm.states(ids, 60.0)
        assert [reports[job_id].state for job_id in ids] == [JobState.ENDED] * 2
        assert [reports[job_id].exit_status for job_id in ids] == [3, 0]
        assert [reports[job_id].task for job_id in ids] == [failed.task, well.task]
        assert (await slurm.states(["4000000"], 60.0))["4000000"].state is JobState.UNKNOWN


@in_loop
async def test_who_cancelled_it(place: Place) -> None:
    async with engine() as slurm:
        running, queued = place.job(WAITING), replace(place.job("exit 0"), native="--hold")
        ids = [await slurm.submit(job) for job in (running, queued)]
        await is_in(slurm, ids[0], JobState.RUNNING)
        for job_id in ids:
            ask("delete", job_id)
            await is_in(slurm, job_id, JobState.ENDED)

            async def told(job_id: str = job_id) -> bool:
                return (await slurm.states([job_id], 60.0))[job_id].reason == "it was cancelled by root"

            await until(told, "accounting to say by whom", patience=60.0)


@in_loop
async def test_accounts_and_qualities_of_service(place: Place) -> None:
    """`tests/slurm.sh accounting` makes the account ``lab``, which may use the QoS ``long``."""
    async with engine() as slurm:
        job_id = await slurm.submit(replace(place.job("exit 0"), account="lab", qos="long"))
        assert "Account=lab QOS=long" in shown(job_id)
        await is_in(slurm, job_id, JobState.ENDED)
        with pytest.raises(Refused, match=r"(?i)qos"):
            await slurm.submit(replace(place.job("exit 0"), qos="nonesuch"))
        with pytest.raises(Refused, match=r"(?i)account"):
            await slurm.submit(replace(place.job("exit 0"), account="nonesuch"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"account": "lab", "qos": "long", "licenses": "matlab:2", "gres": "gpu:1"}, None),
        ({"qos": "nonesuch"}, "qos"),
        ({"account": "nonesuch"}, "account"),
        ({"queue": "nonesuch"}, "partition"),
        ({"licenses": "mathematica"}, "license"),
        ({"gres": "gpu:9"}, "configuration is not available"),
    ],
)
def test_check_asks_whether_they_exist(asked: dict[str, str], told: str | None) -> None:
    job = Job(task="x", name="x", run_script=Path("/bin/true"), folder=Path("/"), **asked)
    wanted = Wanted(Path("script.toml"), job, account=job.account)
    found = [finding.message for finding in findings([wanted], {}, Path("drmaaticd.toml"))]
    assert len(found) == (told is not None), found
    assert not told or told in found[0].lower()
