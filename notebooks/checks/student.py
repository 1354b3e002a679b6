"""Write the notebooks without solutions, ready to hand out: `make student`, or `python -m checks.student`.

The folder holds all that they import but minidiff itself; there, `python -m checks` shows them their score.
"""

import shutil

import nbformat

from .cells import COURSE, course_notebooks, read, without_solutions

HELPERS = "lesson.py", "checks"


def write_student_notebooks(folder):
    """Write every notebook without solutions, and what they import, into folder. Returns the paths."""
    if COURSE.name == "student":
        raise SystemExit("These are the students' notebooks: run this in the folder of the full ones.")
    folder.mkdir(exist_ok=True)
    for name in HELPERS:
        source = COURSE / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    written = []
    for path in course_notebooks().values():
        nbformat.write(without_solutions(read(path)), folder / path.name)
        written.append(folder / path.name)
    return written


if __name__ == "__main__":
    for path in write_student_notebooks(COURSE / "student"):
        print("wrote", path.relative_to(COURSE))
