"""`python -m checks [FOLDER] [--csv FILE]`: mark every notebook in a folder, and print the score."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from .cells import COURSE
from .mark import SECONDS, handed_in, mark, report, write_csv


def main():
    what = "Mark notebooks that were handed in, by running their answers."
    parser = ArgumentParser(prog="python -m checks", description=what)
    own = COURSE / "student" if (COURSE / "student").is_dir() else COURSE
    parser.add_argument("folder", nargs="?", type=Path, default=own,
                        help="marked with all the folders in it (default: your own notebooks)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the marks as a table")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="limit for a cell (%(default)s)")
    arguments = parser.parse_args()
    paths = handed_in(arguments.folder)
    if not paths:
        parser.error(f"{arguments.folder} holds no notebook of the course: names like 01_... expected")
    marks = []
    for path in paths:
        try:
            found = mark(path, arguments.seconds)
        except ValueError as error:
            print(error, file=sys.stderr)
            continue
        marks += found
        print("\n".join(report(found)[:-1]), flush=True)
    print(report(marks)[-1])
    if arguments.csv:
        write_csv(marks, arguments.csv)


if __name__ == "__main__":
    main()
