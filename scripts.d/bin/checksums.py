#!/usr/bin/env python3
"""Print the checksums of files, a line each, as md5sum and its kin do, and keep them in a file.

With --expected, the exit status is 1 unless one of the files has that checksum. Files are read a
block at a time. Needs Python's standard library only.
"""

import argparse
import hashlib
import sys
from pathlib import Path

#: Bytes read at a time.
BLOCK = 1 << 20


def checksum(path, algorithm):
    """The checksum of one file, in hexadecimal."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while True:
            block = stream.read(BLOCK)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def main():
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", choices=("md5", "sha1", "sha256", "sha512"), default="sha256")
    parser.add_argument("--expected", metavar="CHECKSUM")
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()
    found = []
    with open("checksums." + options.algorithm, "w") as kept:
        for number, path in enumerate(options.files, start=1):
            print(
                f"file {number} of {len(options.files)}, {Path(path).stat().st_size} bytes",
                file=sys.stderr,
            )
            found.append(checksum(path, options.algorithm))
            for stream in (sys.stdout, kept):
                print(found[-1], path, sep="  ", file=stream)
    if options.expected is None:
        return 0
    matches = options.expected.lower() in found
    print("expected checksum:", "found" if matches else "NOT found")
    return 0 if matches else 1


if __name__ == "__main__":
    sys.exit(main())
