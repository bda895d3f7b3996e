"""What each DRM is told, as tables from the DRMs' own documents and their DRMAA libraries' parsers.

Grid Engine: qsub(1), drmaa_attributes(3). Slurm: slurm-drmaa's README and native parser. PBS and
Torque: qsub(1B), pbs-drmaa's native parser. LSF: bsub(1), lsf-drmaa's README and native parser.
HTCondor: condor_submit(1) and its manual's DRMAA chapter (lines of a submit description file).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.drm.base import Array, Job
from drmaaticd.drm.dialects import (
    DIALECTS,
    GRID_ENGINE,
    HTCONDOR,
    LSF,
    MIB,
    PBS,
    PLACES,
    SLURM,
    TORQUE,
    Dialect,
    detect,
    resolve,
)

UUID = "6f1ed002-ab5c-4b9e-8f25-3a0c2b6d9f11"


def job(**more: Any) -> Job:
    values: dict[str, Any] = {
        "task": UUID,
        "name": f"t-script-{UUID}",
        "run_script": Path("/shared/.control/x/run.sh"),
        "folder": Path("/shared/x"),
    }
    return Job(**(values | more))


ALL = {"queue": "long", "cpus": 4, "memory": 2048 * MIB + 1, "max_clock_time": 5401, "account": "bio"}

SPELLINGS: list[tuple[Dialect, dict[str, Any], str]] = [
    (GRID_ENGINE, {}, "-b y -shell n -r n"),
    (GRID_ENGINE, {"rerunnable": True}, "-b y -shell n -r y"),
    (GRID_ENGINE, {"queue": "all.q"}, "-b y -shell n -q all.q -r n"),
    (GRID_ENGINE, {"queue": "all.q@@big"}, "-b y -shell n -q all.q@@big -r n"),
    (GRID_ENGINE, {"cpus": 1, "memory": MIB}, "-b y -shell n -l h_vmem=1M -r n"),
    (
        GRID_ENGINE,
        ALL,
        "-b y -shell n -q long -pe smp 4 -l h_vmem=513M -l h_rt=5401 -A bio -r n",
    ),
    (GRID_ENGINE, {"native": "-l gpu=1"}, "-b y -shell n -r n -l gpu=1"),
    (SLURM, {}, "--no-requeue"),
    (SLURM, {"rerunnable": True}, "--requeue"),
    (SLURM, ALL, "-p long -c 4 --mem=2049 -t 01:31 -A bio --no-requeue"),
    (SLURM, {"max_clock_time": 60}, "-t 00:01 --no-requeue"),
    (SLURM, {"max_clock_time": 61}, "-t 00:02 --no-requeue"),
    (SLURM, {"max_clock_time": 10 * 86400}, "-t 240:00 --no-requeue"),
    (SLURM, {"native": "--gres=gpu:1 --constraint=big"}, "--no-requeue --gres=gpu:1 --constraint=big"),
    (PBS, {}, "-r n"),
    (PBS, ALL, "-q long -l ncpus=4 -l mem=2049mb -l walltime=01:30:01 -A bio -r n"),
    (PBS, {"rerunnable": True, "max_clock_time": 100 * 3600}, "-l walltime=100:00:00 -r y"),
    (TORQUE, ALL, "-q long -l nodes=1:ppn=4 -l mem=2049mb -l walltime=01:30:01 -A bio -r n"),
    (LSF, {}, "-rn"),
    (LSF, {"rerunnable": True}, "-r"),
    (LSF, {"cpus": 2}, '-n 2 -R "span[hosts=1]" -rn'),
    (LSF, {"memory": MIB}, '-M 1024 -R "rusage[mem=1]" -rn'),
    (
        LSF,
        ALL,
        '-q long -n 4 -M 2097153 -R "span[hosts=1] rusage[mem=2049]" -W 01:31 -P bio -rn',
    ),
    (HTCONDOR, {}, ""),
    (
        HTCONDOR,
        ALL | {"queue": None, "native": '+department="chemistry"'},
        "request_cpus=4\nrequest_memory=2049\n"
        "periodic_remove=(JobStatus == 2) && (time() - EnteredCurrentStatus > 5401)\n"
        'accounting_group=bio\n+department="chemistry"',
    ),
]


@pytest.mark.parametrize(("dialect", "resources", "spelling"), SPELLINGS)
def test_spelling(dialect: Dialect, resources: dict[str, Any], spelling: str) -> None:
    assert dialect.native(job(**resources)) == spelling


SITES: list[tuple[Dialect, dict[str, Any], dict[str, str], str]] = [
    (GRID_ENGINE, {"cpus": 2}, {"cpus": "-pe threaded {cpus}"}, "-b y -shell n -pe threaded 2 -r n"),
    (
        GRID_ENGINE,
        {"cpus": 2, "memory": 2 * MIB},
        {"memory": "-l mem_free={mib}M -l h_vmem={mib_per_cpu}M", "always": "-P proj -cwd"},
        "-b y -shell n -P proj -cwd -pe smp 2 -l mem_free=2M -l h_vmem=1M -r n",
    ),
    (GRID_ENGINE, {"account": "bio"}, {"account": "-P {account}"}, "-b y -shell n -P bio -r n"),
    (GRID_ENGINE, {"memory": MIB}, {"memory": ""}, ""),
    (
        GRID_ENGINE,
        {"licenses": "matlab", "gres": "1"},
        {"licenses": "-l lic_{licenses}=1", "gres": "-l gpu={gres}"},
        "-b y -shell n -l lic_matlab=1 -l gpu=1 -r n",
    ),
    (
        SLURM,
        {"qos": "web", "licenses": "matlab:2,ansys@server", "gres": "gpu:a100:2"},
        {},
        "--qos=web --licenses=matlab:2,ansys@server --gres=gpu:a100:2 --no-requeue",
    ),
    (
        SLURM,
        {"memory": 5 * MIB, "cpus": 2},
        {"memory": "--mem-per-cpu={mib_per_cpu}"},
        "-c 2 --mem-per-cpu=3 --no-requeue",
    ),
    (
        PBS,
        {"cpus": 2},
        {"cpus": "-l select=1:ncpus={cpus}:ompthreads={cpus}"},
        "-l select=1:ncpus=2:ompthreads=2 -r n",
    ),
    (LSF, {"cpus": 2, "memory": MIB}, {"memory": "-M {mib}MB"}, '-n 2 -R "span[hosts=1]" -M 1MB -rn'),
    (
        HTCONDOR,
        {"queue": "gpu", "max_clock_time": 60},
        {"queue": 'requirements=(Pool == "{queue}")', "max_clock_time": "allowed_execute_duration={seconds}"},
        'requirements=(Pool == "gpu")\nallowed_execute_duration=60',
    ),
]


@pytest.mark.parametrize(("dialect", "resources", "settings", "spelling"), SITES)
def test_a_site_has_its_own_words(
    dialect: Dialect, resources: dict[str, Any], settings: dict[str, str], spelling: str
) -> None:
    if spelling:
        assert dialect.native(job(**resources), settings) == spelling
    else:
        assert "cannot be told" in dialect.problems(job(**resources), settings)[0]


IMPOSSIBLE: list[tuple[Dialect, dict[str, Any], dict[str, str], str]] = [
    (SLURM, {"native": "--comment='two words'"}, {}, "no quotes"),
    (SLURM, {"native": "--constraint=a=b"}, {}, "second '='"),
    (SLURM, {"native": "-t 1-00:00"}, {}, "HOURS:MINUTES"),
    (SLURM, {"native": "--time=90"}, {}, "HOURS:MINUTES"),
    (SLURM, {"native": "-t"}, {}, "HOURS:MINUTES"),
    (SLURM, {"native": "--mem=2G"}, {}, "whole MB"),
    (SLURM, {"memory": MIB}, {"memory": "--mem={mib}M"}, "whole MB"),
    (SLURM, {"max_clock_time": 60}, {"max_clock_time": "-t {minutes}"}, "HOURS:MINUTES"),
    (SLURM, {"array": Array(3, 3)}, {}, "one index"),
    (PBS, {"array": Array(1, 3)}, {}, "unrelated jobs"),
    (HTCONDOR, {"array": Array(1, 3)}, {}, "unrelated jobs"),
    (HTCONDOR, {"queue": "long"}, {}, "has none"),
    (PBS, {"native": "-l 'x'"}, {}, "no quotes"),
    (GRID_ENGINE, {"queue": "a b"}, {}, "misread"),
    (GRID_ENGINE, {"queue": "all.q -V"}, {}, "misread"),
    (GRID_ENGINE, {"account": "x;y"}, {}, "misread"),
    (GRID_ENGINE, {"qos": "web"}, {}, "qos: Grid Engine has none"),
    (PBS, {"gres": "gpu:1"}, {}, "gres: PBS Professional has none"),
    (SLURM, {"licenses": "a b"}, {}, "licenses: 'a b' holds characters"),
    (GRID_ENGINE, {"native": "-l x=1\n-V"}, {}, "printable"),
    (GRID_ENGINE, {"native": "-N t\N{LATIN SMALL LETTER E WITH ACUTE}"}, {}, "printable"),
    (GRID_ENGINE, {"native": "\udcff"}, {}, "printable"),
    (GRID_ENGINE, {}, {"parallel": "smp"}, "unknown"),
    (GRID_ENGINE, {}, {"cpus": "-pe smp {slots}"}, "no place {slots}"),
    (GRID_ENGINE, {}, {"cpus": "-pe smp {cpus"}, "native.cpus"),
    (GRID_ENGINE, {}, {"always": "-q {queue}"}, "there are none"),
    (LSF, {"native": "-q\tx"}, {}, "printable"),
]


@pytest.mark.parametrize(("dialect", "resources", "settings", "words"), IMPOSSIBLE)
def test_what_cannot_be_said_is_named_beforehand(
    dialect: Dialect, resources: dict[str, Any], settings: dict[str, str], words: str
) -> None:
    asked = job(**resources)
    problems = dialect.problems(asked, settings, account=asked.account, array=asked.array)
    assert len(problems) == 1
    assert words in problems[0]
    with pytest.raises(ValueError, match=re.escape(words)):
        dialect.native(asked, settings)


def test_all_problems_are_named_at_once() -> None:
    asked = job(queue="a b", account="c d", native="\n")
    assert len(GRID_ENGINE.problems(asked, account=asked.account)) == 3


INFOS = {
    "SGE 8.1.9": "gridengine",
    " 8.1.9": "gridengine",
    "GE 6.2u5": "gridengine",
    "UGE 8.6.7": "gridengine",
    "Univa Grid Engine 8.3": "gridengine",
    "SLURM 22.05.8": "slurm",
    "SLURM": "slurm",
    "PBS Professional": "pbs",
    "Torque": "torque",
    "Platform LSF 9.1.2": "lsf",
    "IBM Spectrum LSF Standard 10.1.0.13": "lsf",
    "Condor": "htcondor",
    "HTCondor 10.0": "htcondor",
    "GridWay": None,
    "": None,
}


@pytest.mark.parametrize(("info", "name"), INFOS.items())
def test_the_dialect_is_told_by_the_library(info: str, name: str | None) -> None:
    found = detect(info)
    assert (found.name if found else None) == name
    assert resolve("auto", info) is found


def test_a_named_dialect_is_taken_at_its_word() -> None:
    assert resolve("slurm", "whatever") is SLURM
    assert resolve("pbs", "PBS Professional") is PBS
    assert resolve("pbs", "Torque") is TORQUE
    assert resolve("lsf", "Torque") is LSF
    assert resolve("nosuch", "Torque") is None


IDS: list[tuple[Dialect, str, bool]] = [
    *((GRID_ENGINE, text, True) for text in ("1", "12", "12.1", "12.40")),
    *((GRID_ENGINE, text, False) for text in ("0", "-5", " 3", "3_1", "12.0", "12.", "1.2.3", "", "\u0663")),
    *((SLURM, text, True) for text in ("3", "12_1")),
    *((SLURM, text, False) for text in ("0", "-5", " 3", "3_x", "3.1", "3\n")),
    *((PBS, text, True) for text in ("123", "123.server", "123.pbs-1.example.org", "12[].server", "12[3].s")),
    *((PBS, text, False) for text in ("0.server", "123.", "12.ser ver", "12[x].s")),
    *((LSF, text, True) for text in ("123", "123[4]")),
    *((LSF, text, False) for text in ("123[0]", "123[]", "x")),
    *((HTCONDOR, text, True) for text in ("schedd.5.0", "head.example.org.512.3")),
    *((HTCONDOR, text, False) for text in ("5.0", ".5.0", "a b.1.0", "-x.1.0")),
]


@pytest.mark.parametrize(("dialect", "text", "good"), IDS)
def test_ids(dialect: Dialect, text: str, good: bool) -> None:
    assert bool(dialect.job_id.fullmatch(text)) is good


@pytest.mark.parametrize(("dialect", "member"), [(GRID_ENGINE, "12.7"), (SLURM, "12_7"), (LSF, "12[7]")])
def test_members_of_an_array(dialect: Dialect, member: str) -> None:
    assert dialect.element_id("12", 7) == member
    assert dialect.job_id.fullmatch(member)
    assert dialect.base_id(member) == "12"
    assert dialect.base_id("12") == "12"


NAMES: list[tuple[Dialect, str, str]] = [
    (GRID_ENGINE, "t-a_b.c-1", "t-a_b.c-1"),
    (GRID_ENGINE, "1abc", "t1abc"),
    (GRID_ENGINE, "-x", "t-x"),
    (GRID_ENGINE, "", "t"),
    (GRID_ENGINE, "a b/c:d", "a_b_c_d"),
    (GRID_ENGINE, "\N{GREEK SMALL LETTER ALPHA}x", "t_x"),
    (PBS, f"t-fasta-stats-{UUID}", f"t-fast-{UUID[:8]}"),
    (PBS, "short", "short"),
]


@pytest.mark.parametrize(("dialect", "name", "expected"), NAMES)
def test_job_names(dialect: Dialect, name: str, expected: str) -> None:
    assert dialect.job_name(job(name=name)) == expected


@given(name=st.text(max_size=300), dialect=st.sampled_from(list(DIALECTS.values())))
def test_no_name_is_refused_by_a_drm(name: str, dialect: Dialect) -> None:
    made = dialect.job_name(job(name=name))
    assert made.isascii()
    assert made[0].isalpha()
    assert len(made) <= dialect.longest_name
    assert not set(made) & set(" /:@\\*?[],'\"$\n")


RESOURCES = st.builds(
    job,
    queue=st.none() | st.just("long"),
    cpus=st.integers(1, 4096),
    memory=st.none() | st.integers(1, 2**50),
    max_clock_time=st.none() | st.integers(1, 10**8),
    account=st.none() | st.just("bio"),
    rerunnable=st.booleans(),
)


@given(asked=RESOURCES, dialect=st.sampled_from([d for d in DIALECTS.values() if d is not HTCONDOR]))
def test_never_less_than_was_asked_for(asked: Job, dialect: Dialect) -> None:
    """Sizes and times are rounded up, and every text survives the library's splitting into words."""
    words = shlex.split(dialect.native(asked))
    assert words
    if dialect is GRID_ENGINE and asked.memory is not None:
        told = next(word for word in words if word.startswith("h_vmem="))
        assert int(told[7:-1]) * MIB * asked.cpus >= asked.memory
    if dialect is SLURM and asked.max_clock_time is not None:
        hours, minutes = words[words.index("-t") + 1].split(":")
        assert asked.max_clock_time <= (int(hours) * 60 + int(minutes)) * 60 < asked.max_clock_time + 60


def test_every_template_uses_places_that_there_are() -> None:
    for dialect in DIALECTS.values():
        own = {name: text for name, text in dialect.templates.items() if name in PLACES}
        assert dialect.setting_problems(own) == []
