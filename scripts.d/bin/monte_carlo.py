#!/usr/bin/env python3
"""Estimate pi: the share of random points of a square that lie in the circle within it is pi / 4.

The index of the job in its array is the seed, so that the jobs are independent of each other and each
gives the same result whenever it runs. The result goes to pi.<index>.txt. Needs Python's standard
library only.
"""

import argparse
import math
import os
import random
import sys


def hits(points, generator):
    """How many of so many random points lie in the circle."""
    count = 0
    for _ in range(points):
        x, y = generator.random(), generator.random()
        count += x * x + y * y <= 1.0
    return count


def main():
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--progress", type=int, default=4, help="how many lines of progress are printed")
    options = parser.parse_args()
    index = int(os.environ.get("DRMAATICD_TASK_INDEX", "1"))
    generator = random.Random(index)
    inside = thrown = 0
    for part in range(1, options.progress + 1):
        more = options.points * part // options.progress - thrown
        inside += hits(more, generator)
        thrown += more
        print(f"job {index}: {thrown} of {options.points} points", flush=True)
    estimate = 4 * inside / thrown
    with open(f"pi.{index}.txt", "w") as result:
        result.write(f"{estimate:.6f}\n")
    print(f"job {index}: pi is about {estimate:.6f}, off by {abs(estimate - math.pi):.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
