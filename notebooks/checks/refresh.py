"""Run the notebooks from the top and store what they show: `make notebooks`.

`python -m checks.refresh 01 03` does it for some. For whoever changes a notebook or the shipped weights; a
notebook that raises is left as it was.
"""

import sys

import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from .cells import COURSE, course_notebooks, read

LARGEST = 500_000                                               # bytes of a stored notebook


def refresh(path, seconds=600):
    """Run a notebook in the folder of the course and store it with its outputs. Returns its size in bytes.

    seconds: limit for a cell.  Raises ValueError, and stores nothing, if a cell fails or the file gets too
    large.
    """
    notebook = read(path)
    client = NotebookClient(notebook, timeout=seconds, kernel_name=NATIVE_KERNEL_NAME, record_timing=False,
                            coalesce_streams=True, resources={"metadata": {"path": str(COURSE)}})
    try:
        client.execute()
    except CellExecutionError as error:
        raise ValueError(f"{path.name}: {error.ename}: {error.evalue}") from None
    notebook.metadata.language_info = {"name": "python"}        # not the version of whoever stored it last
    text = nbformat.writes(notebook)
    if len(text.encode()) > LARGEST:
        raise ValueError(f"{path.name}: {len(text.encode()):,} bytes, at most {LARGEST:,} expected")
    path.write_text(text + "\n", encoding="utf-8")
    return len(text.encode())


def main(numbers):
    """Refresh the notebooks with these numbers, all of them unless any are given."""
    known = course_notebooks()
    for number in numbers or known:
        if number not in known:
            sys.exit(f"{number}: one of {', '.join(known)} expected")
        print(f"{known[number].name}: {refresh(known[number]) / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
