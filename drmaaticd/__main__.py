"""`python -m drmaaticd` is the command `drmaaticd`."""

import sys

from drmaaticd.cli import main

if __name__ == "__main__":
    sys.exit(main())
