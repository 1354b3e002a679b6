"""Mark notebooks that were handed in: run their answers against the checks of the course.

Only the answers are taken from a hand-in; setup and checks are the course's own, so that a cell which was
changed or lost spoils nothing. Answers are code, and they run here: mark where you would open them, too.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from .cells import COURSE, course_notebooks, exercise_name, marking_notebook, read, tags
from .verdict import MIME, SIGNS

SECONDS = 60                                                    # for one cell: an endless loop ends here


@dataclass(frozen=True)
class Mark:
    """One exercise of one hand-in."""

    path: Path
    exercise: str
    state: str
    words: str


def handed_in(folder):
    """The notebooks in a folder, and the folders in it, that begin with two digits of the course."""
    known = course_notebooks()
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    return [path for path in paths if path.name[:2] in known]


def mark(path, seconds=SECONDS):
    """The marks of one notebook, exercise by exercise. Raises ValueError for a file that is no notebook."""
    try:
        submission = read(path)
    except Exception as error:
        raise ValueError(f"{path}: not a notebook ({str(error).splitlines()[0][:80]})") from None
    notebook = marking_notebook(read(course_notebooks()[path.name[:2]]), submission)
    stopped = run(notebook, seconds) or "its check shows no verdict"
    marks, name, trouble = [], None, None
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            name, trouble = exercise_name(cell), error_of(cell)
        if "check" in tags(cell):
            found, reason = verdict_of(cell), trouble or error_of(cell)
            if not found and not reason:
                reason, stopped = stopped, "not reached: an answer above it ended the run"
            found = found or {"state": "wrong", "words": reason}
            marks.append(Mark(path, name, found["state"], found["words"]))
    return marks


def run(notebook, seconds):
    """Execute in the folder of the course. Returns why a cell ended the run before its end, or None."""
    client = NotebookClient(notebook, timeout=seconds, kernel_name=NATIVE_KERNEL_NAME, allow_errors=True,
                            resources={"metadata": {"path": str(COURSE)}})
    try:
        client.execute()
    except CellTimeoutError:
        return f"it ran for more than {seconds} s"
    except DeadKernelError:
        return "it killed its kernel"
    return None


def verdict_of(cell):
    """The verdict that a check cell shows, or None."""
    return next((output.data[MIME] for output in cell.outputs if MIME in output.get("data", {})), None)


def error_of(cell):
    """What a cell raised, in a line, or None; a cell that was interrupted for its time raised nothing."""
    for output in cell.outputs:
        if output.output_type == "error" and output.ename != "KeyboardInterrupt":
            return f"the cell raised {output.ename}: {output.evalue}".splitlines()[0]
    return None


def report(marks):
    """Lines for people: each notebook with its exercises, and the score."""
    lines = []
    for path in dict.fromkeys(mark.path for mark in marks):
        own = [mark for mark in marks if mark.path == path]
        lines.append(f"{path}: {right(own)} of {len(own)}")
        lines += [f"  {SIGNS[mark.state]} {mark.exercise}: {mark.words}" for mark in own]
    return [*lines, f"Score: {right(marks)} of {len(marks)}"]


def right(marks):
    return sum(mark.state == "right" for mark in marks)


def write_csv(marks, path):
    """One row an exercise, for a spreadsheet."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["notebook", "exercise", "state", "words"])
        writer.writerows([mark.path, mark.exercise, mark.state, mark.words] for mark in marks)
