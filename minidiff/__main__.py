"""python -m minidiff: the command line."""

import sys

from minidiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
