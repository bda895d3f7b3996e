"""The sample scripts: their definitions are right, and their programs do their work when run."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from drmaaticd.config import samples_dir
from drmaaticd.scripts import Catalogue, Script, Upload

EXAMPLE = "examples/phix174-puc19.fasta"


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue(samples_dir(), known_groups={"anonymous", "registered"})
    assert catalogue.load() == []
    return catalogue


class Runner:
    """Runs a script by hand as a job would run: in its folder, with its files and arguments."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self.catalogue = catalogue
        self.folder = folder

    def run(
        self,
        name: str,
        fields: dict[str, str],
        files: Sequence[tuple[str, str, bytes]] = (),
        *,
        index: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it with fields and (parameter, client's name, content) of files."""
        script = self.script(name)
        uploads: dict[str, list[Upload]] = {}
        for param, client_name, content in files:
            uploads.setdefault(param, []).append(Upload(client_name, len(content), content))
        checked = script.check({name: [value] for name, value in fields.items()}, uploads)
        for file in checked.files:
            (self.folder / file.stored_name).write_bytes(file.token)
        program = self.folder / "program"
        program.write_bytes(script.content)
        program.chmod(0o755)
        # The samples' python3 is the one that runs the tests, whatever else is installed.
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        if index is not None:
            environment["DRMAATICD_TASK_INDEX"] = str(index)
        return subprocess.run(
            [str(program), *checked.arguments()],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def script(self, name: str) -> Script:
        script = self.catalogue.get(name)
        assert script is not None
        return script


@pytest.fixture
def runner(catalogue: Catalogue, tmp_path: Path) -> Runner:
    return Runner(catalogue, tmp_path)


@pytest.fixture
def example() -> bytes:
    return (samples_dir() / EXAMPLE).read_bytes()


def _rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_all_samples_are_there_and_described(catalogue: Catalogue) -> None:
    scripts = {script.name: script for script in catalogue.all()}
    assert set(scripts) == {"checksums", "fasta-stats", "monte-carlo", "word-count"}
    for script in scripts.values():
        assert script.description
        assert script.travels
        assert all(param.description for param in script.params if param.private is None)


def test_programs_are_executable() -> None:
    programs = sorted((samples_dir() / "bin").glob("*.py"))
    assert len(programs) == 3
    assert all(os.access(program, os.X_OK) for program in programs)


def test_fasta_stats_of_the_example(runner: Runner, example: bytes) -> None:
    done = runner.run("fasta-stats", {}, [("input", "phix174-puc19.fasta", example)])
    assert done.returncode == 0
    assert _rows(done.stdout) == [
        ["name", "length", "gc_percent"],
        ["NC_001422.1", "350", "40.57"],
        ["pUC19-MCS", "57", "57.89"],
        ["M13-forward-20", "17", "52.94"],
    ]
    assert done.stderr == "3 sequences read, 3 shown, 424 bases in these\n"


def test_fasta_stats_of_a_compressed_file_as_json(runner: Runner, example: bytes) -> None:
    packed = ("input", "x.fasta.gz", gzip.compress(example, mtime=0))
    done = runner.run("fasta-stats", {"min_length": "57", "format": "json"}, [packed])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"name": "NC_001422.1", "length": 350, "gc_percent": 40.57},
        {"name": "pUC19-MCS", "length": 57, "gc_percent": 57.89},
    ]


def test_fasta_stats_counts_letters_however_the_lines_are_cut(runner: Runner) -> None:
    long_header = b">long " + b"x" * 100_000 + b">y\n"
    content = b"\n>a b c\r\nAC gt\r\nNN-*\r\n\r\n>empty\n>u\nGGUU>\n" + long_header + b"GC" * 100_000
    done = runner.run("fasta-stats", {}, [("input", "x.fa", content)])
    assert _rows(done.stdout)[1:] == [
        ["a", "6", "50.00"],
        ["empty", "0", "NA"],
        ["u", "4", "50.00"],
        ["long", "200000", "100.00"],
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ACGT\n", "does not begin with >"),
        (b"", "there is no sequence"),
        (gzip.compress(b">a\nACGT\n" * 1000, mtime=0)[:-20], "fasta_stats: "),
        (b"\x1f\x8bnonsense", "fasta_stats: "),
    ],
)
def test_fasta_stats_fails_in_words(runner: Runner, content: bytes, words: str) -> None:
    done = runner.run("fasta-stats", {}, [("input", "x.fa", content)])
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums_of_several_files(runner: Runner, algorithm: str, tmp_path: Path) -> None:
    contents = [b"", b"abc", b"x" * 3_000_000]
    files = [("files", f"{index}.bin", content) for index, content in enumerate(contents)]
    done = runner.run("checksums", {"algorithm": algorithm}, files)
    expected = "".join(
        f"{hashlib.new(algorithm, content).hexdigest()}  files_{index}.bin\n"
        for index, content in enumerate(contents)
    )
    assert (done.returncode, done.stdout) == (0, expected)
    assert (tmp_path / f"checksums.{algorithm}").read_text() == expected


def test_checksums_are_compared_with_the_expected_one(runner: Runner) -> None:
    right = hashlib.sha256(b"abc").hexdigest().upper()
    for expected, status, words in ((right, 0, "checksum: found"), ("0" * 64, 1, "checksum: NOT found")):
        done = runner.run("checksums", {"expected": expected}, [("files", "a", b"abc")])
        assert done.returncode == status
        assert words in done.stdout


def test_monte_carlo_gives_each_job_its_own_result(runner: Runner, tmp_path: Path) -> None:
    array = runner.script("monte-carlo").array
    assert array is not None
    for index in array.indices:
        done = runner.run("monte-carlo", {"points": "7001"}, index=index)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 5
    results = [(tmp_path / f"pi.{index}.txt").read_text() for index in array.indices]
    assert len(set(results)) == len(results)
    assert all(3.0 < float(result) < 3.3 for result in results)
    runner.run("monte-carlo", {"points": "7001"}, index=1)
    assert (tmp_path / "pi.1.txt").read_text() == results[0]


def test_word_count(runner: Runner, tmp_path: Path) -> None:
    text = b"The cat and the dog.\nThe end -- and\nmore, 42.\n"
    done = runner.run("word-count", {"top": "2"}, [("text", "my text.txt", text)])
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["3", "11", str(len(text))]
    assert lines[2:] == ["the 2 most frequent of 6 different words:", "the\t3", "and\t2"]
    assert _rows((tmp_path / "words.tsv").read_text()) == [
        ["the", "3"], ["and", "2"], ["cat", "1"], ["dog", "1"], ["end", "1"], ["more", "1"],
    ]  # fmt: skip
