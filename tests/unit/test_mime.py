"""Content types by extension."""

from __future__ import annotations

import pytest

from drmaaticd.mime import DEFAULT, content_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0a1b2c3d_out.txt", "text/plain; charset=utf-8"),
        ("run.log", "text/plain; charset=utf-8"),
        ("job.err", "text/plain; charset=utf-8"),
        ("genes.FASTA", "text/plain; charset=utf-8"),
        ("deep/er/genes.fa", "text/plain; charset=utf-8"),
        ("table.tsv", "text/tab-separated-values; charset=utf-8"),
        ("table.csv", "text/csv; charset=utf-8"),
        ("report.html", "text/html; charset=utf-8"),
        ("result.json", "application/json"),
        ("plot.svg", "image/svg+xml"),
        ("1abc.pdb", "chemical/x-pdb"),
        ("reads.fastq.gz", "application/gzip"),
        ("README", DEFAULT),
        ("trailing.", DEFAULT),
        (".txt", DEFAULT),
        ("deep.txt/file", DEFAULT),
        ("x.txt\n", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_the_last_extension_decides(name: str, expected: str) -> None:
    assert content_type(name) == expected


def test_every_type_is_a_sound_header_value() -> None:
    from drmaaticd import mime

    for extension in mime._TYPES:
        value = content_type(f"x.{extension}")
        assert value.isascii()
        assert value.isprintable()
        assert value.count("/") == 1
        assert extension == extension.lower()
