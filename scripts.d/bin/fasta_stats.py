#!/usr/bin/env python3
"""Print the length and GC content of every sequence in a FASTA file.

The file is read as it comes, a block at a time, so that its size does not matter; gzip is noticed by
its first bytes. GC content is the share of G and C among the unambiguous bases (A, C, G, T, U).
Results go to standard output, everything else to standard error. Needs Python's standard library only.
"""

import argparse
import gzip
import json
import sys
import zlib

#: Bytes read at a time: a chromosome may stand on one line.
BLOCK = 1 << 16

#: Everything that is no letter: line ends, blanks, gaps, stops.
NO_LETTERS = bytes(byte for byte in range(256) if not chr(byte).isalpha() or byte > 127)

#: A word on standard error each time so many sequences are done.
REPORT_EVERY = 10_000


class Sequence:
    """One sequence: its name, and what has been counted so far."""

    def __init__(self, header):
        words = header.decode("utf-8", "replace").split(None, 1)
        self.name = words[0] if words else "(unnamed)"
        self.length = self.gc = self.known = 0

    def add(self, block):
        """Count a part of the sequence."""
        letters = block.translate(None, NO_LETTERS).upper()
        gc = letters.count(b"G") + letters.count(b"C")
        self.length += len(letters)
        self.gc += gc
        self.known += gc + letters.count(b"A") + letters.count(b"T") + letters.count(b"U")

    @property
    def percent(self):
        """GC content in percent, None without a single unambiguous base."""
        return round(100 * self.gc / self.known, 2) if self.known else None


def open_input(path):
    """Open a file for reading bytes, through gzip if it is compressed."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def sequences(stream):
    """Yield each sequence of a FASTA stream once it is complete."""
    current = None
    at_line_start = True
    while True:
        part = stream.readline(BLOCK)
        if not part:
            break
        if at_line_start and part.startswith(b">"):
            if current is not None:
                yield current
            current = Sequence(part[1:])
            while not part.endswith(b"\n") and part:  # the rest of a very long header
                part = stream.readline(BLOCK)
        elif current is not None:
            current.add(part)
        elif part.strip():
            raise ValueError("this is no FASTA: the first line does not begin with >")
        at_line_start = part.endswith(b"\n")
    if current is None:
        raise ValueError("this is no FASTA: there is no sequence")
    yield current


def print_row(sequence, form):
    """Print one sequence's result."""
    if form == "json":
        print(json.dumps({"name": sequence.name, "length": sequence.length, "gc_percent": sequence.percent}))
    else:
        percent = "NA" if sequence.percent is None else f"{sequence.percent:.2f}"
        print(sequence.name, sequence.length, percent, sep="\t")


def main():
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, metavar="FILE", help="FASTA, plain or gzip")
    parser.add_argument("--min-length", type=int, default=0, metavar="N", help="leave out shorter sequences")
    parser.add_argument("--format", choices=("tsv", "json"), default="tsv")
    options = parser.parse_args()
    read = kept = bases = 0
    if options.format == "tsv":
        print("name", "length", "gc_percent", sep="\t")
    try:
        with open_input(options.input) as stream:
            for sequence in sequences(stream):
                read += 1
                if sequence.length >= options.min_length:
                    kept += 1
                    bases += sequence.length
                    print_row(sequence, options.format)
                if read % REPORT_EVERY == 0:
                    print(read, "sequences read", file=sys.stderr)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # EOFError, zlib.error: a broken gzip file
        print("fasta_stats:", error, file=sys.stderr)
        return 1
    print(read, "sequences read,", kept, "shown,", bases, "bases in these", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
