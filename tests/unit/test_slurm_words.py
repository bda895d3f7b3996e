"""What a job is called in sbatch's words, and what may not be said."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from drmaaticd.drm import slurmwords
from drmaaticd.drm.base import Array, Job

UUID = "395b7b04-a4a4-4145-b660-267fb348c353"
JOB = Job(
    task=UUID, name=f"t-fasta-{UUID}", run_script=Path("/tasks/.control/x/run.sh"), folder=Path("/tasks/x")
)


def test_a_plain_job() -> None:
    assert slurmwords.submission(JOB) == [
        "--parsable",
        f"--job-name=t-fasta-{UUID}",
        "--chdir=/tasks/x",
        "--output=/dev/null",
        "--error=/dev/null",
        "--input=/dev/null",
        "--export=ALL",
        "--nodes=1",
        "--ntasks=1",
        "--no-requeue",
    ]


def test_resources_and_the_administrators_words() -> None:
    job = replace(
        JOB,
        cpus=4,
        memory=3 * 1024**2 + 1,
        max_clock_time=61,
        queue="main",
        account="lab",
        qos="long",
        licenses="matlab:2,ansys",
        gres="gpu:a100:1",
        native="--exclusive -C 'fast' --comment='two words'",
        rerunnable=True,
        array=Array(2, 9, 3),
    )
    words = slurmwords.submission(job, {"always": "--qos=web"})
    assert words[7:] == [
        "--array=2-9:3",
        "--nodes=1",
        "--ntasks=1",
        "--qos=web",
        "--partition=main",
        "--cpus-per-task=4",
        "--mem=4M",
        "--time=2",
        "--account=lab",
        "--qos=long",
        "--licenses=matlab:2,ansys",
        "--gres=gpu:a100:1",
        "--requeue",
        "--exclusive",
        "-C",
        "fast",
        "--comment=two words",
    ]


def test_a_site_may_replace_a_template() -> None:
    words = slurmwords.words(replace(JOB, memory=1024**3, cpus=2), {"memory": "--mem-per-cpu={mib_per_cpu}"})
    assert "--mem-per-cpu=512" in words
    assert not any(word.startswith("--mem=") for word in words)


@pytest.mark.parametrize(
    ("native", "said"),
    [
        ("--output=/x", "output belongs"),
        ("--outp=/x", "output belongs"),
        ("-o /x", "output belongs"),
        ("-Ho /x", "output belongs"),
        ("-J name", "carries its task's UUID"),
        ("--wait", "as long as the job"),
        ("-W", "as long as the job"),
        ("--array=1-3", r"\[array\]"),
        ("--wrap=x", "script's command"),
        ("--clusters=all", "other clusters"),
        ("--requeue", "rerunnable"),
        ("script.sh", "is no option"),
        ("--hold script.sh x", "'x' is no option"),
        ("--qos=web script.sh", "'script.sh' is no option"),
        ("-n1 : -n2", "several jobs"),
        ("--comment='open", "no list of words"),
        ("--comment=ä", "printable ASCII"),
    ],
)
def test_what_may_not_be_said(native: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        slurmwords.words(replace(JOB, native=native))
    assert slurmwords.problems(replace(JOB, native=native))


@pytest.mark.parametrize(
    "native",
    [
        "-p main",
        "--nodelist=a,b",
        "-C 'fast&big'",
        "--dependency=singleton",
        "-n4 -c 2",
        "-H",
        "--mail-type END",
    ],
)
def test_what_may_be_said(native: str) -> None:
    assert slurmwords.words(replace(JOB, native=native))[-len(shlex.split(native)) :] == shlex.split(native)


def test_a_sites_settings_are_checked() -> None:
    assert slurmwords.setting_problems({"always": "--qos=web"}) == []
    [problem] = slurmwords.setting_problems({"always": "--output=/x"})
    assert problem.startswith("native.always: '--output=/x' may not be given")
    assert slurmwords.setting_problems({"memory": "--mem={megs}"})


def test_the_batch_script_quotes_the_path() -> None:
    script = slurmwords.batch_script(replace(JOB, run_script=Path("/a b/it's/run.sh")))
    assert shlex.split(script.decode(), comments=True) == ["exec", "/bin/sh", "/a b/it's/run.sh"]


@pytest.mark.parametrize("text", ["12", "12_3", "12_0", "4294967295"])
def test_ids_that_slurm_gives(text: str) -> None:
    assert slurmwords.SBATCH.job_id.fullmatch(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-5", " 3", "3_x", "1.5", "12_", "9" * 40, "12;c", "12 13", "--me"]
)
def test_ids_that_it_does_not(text: str) -> None:
    assert not slurmwords.SBATCH.job_id.fullmatch(text)
