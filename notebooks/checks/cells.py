"""Notebooks as data: which cell is an exercise, a solution or a check, and how a hand-in meets the course.

Cells say what they are by tags. An exercise defines one function; its solution and its check follow it.
    setup      imports and data that exercises may use: run before marking
    exercise   a skeleton that raises Unsolved
    solution   the same function, solved; left out of the students' notebooks
    check      shows a Verdict
"""

import re
from copy import deepcopy
from pathlib import Path

import nbformat

COURSE = Path(__file__).parent.parent


def course_notebooks():
    """The notebooks beside the checks, by their two digits: {"01": path, ...}."""
    return {path.name[:2]: path for path in sorted(COURSE.glob("[0-9][0-9]_*.ipynb"))}


def read(path):
    return nbformat.read(path, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def exercise_name(cell):
    """The function that an exercise cell defines."""
    return re.search(r"^def (\w+)", cell.source, re.MULTILINE).group(1)


def exercises(notebook):
    """The names of the functions to write, in order."""
    return [exercise_name(cell) for cell in notebook.cells if "exercise" in tags(cell)]


def without_solutions(notebook):
    """The notebook as students get it: no solutions, no outputs."""
    student = deepcopy(notebook)
    student.cells = [cell for cell in student.cells if "solution" not in tags(cell)]
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return student


def answers(notebook):
    """What was handed in: {function name: source of the last code cell, solutions aside, that defines it}."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "solution" not in tags(cell):
            found |= {name: cell.source for name in re.findall(r"^def (\w+)", cell.source, re.MULTILINE)}
    return found


def marking_notebook(course, handed_in):
    """A short notebook that marks: setup and checks of the course, and the answers of the hand-in."""
    marking = without_solutions(course)
    marking.cells = [cell for cell in marking.cells if {"setup", "exercise", "check"} & set(tags(cell))]
    found = answers(handed_in)
    for cell in marking.cells:
        if "exercise" in tags(cell):
            cell.source = found.get(exercise_name(cell), cell.source)
    return marking
