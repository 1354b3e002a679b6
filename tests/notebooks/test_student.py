"""The students' notebooks, and the marks for what comes back: right answers, wrong, endless and lost ones."""

import csv
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
from checks import __main__ as command  # noqa: E402
from checks import cells, mark, student  # noqa: E402

# A course of one notebook. Its check stands in for those of the real one, and needs no torch.
SETUP = """
from IPython.display import display
def check(name, answer):
    try:
        state = "right" if answer(3) == 6 else "wrong"
    except NotImplementedError:
        state = "unsolved"
    words = {"exercise": name, "state": state, "words": f"it is {state}"}
    display({"application/vnd.minidiff.verdict+json": words, "text/plain": state}, raw=True)
"""
NAMES = "double", "twice", "again", "thrice"


def tagged(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags)}, outputs=[new_output("stream", text="old")])


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The folder of a course that holds 07_tiny.ipynb, with four exercises."""
    parts = [tagged(SETUP, "setup"), tagged("print('a lesson')")]
    for name in NAMES:
        parts += [tagged(f"def {name}(x):\n    raise NotImplementedError", "exercise"),
                  tagged(f"def {name}(x):\n    return 2 * x", "solution"),
                  tagged(f"check('{name}', {name})", "check")]
    folder = tmp_path / "course"
    (folder / "checks").mkdir(parents=True)
    for name in student.HELPERS:
        (folder / name).is_dir() or (folder / name).write_text("# a helper")
    (folder / "checks" / "tiny.py").write_text("# a check")
    nbformat.write(new_notebook(cells=parts), folder / "07_tiny.ipynb")
    for module in (cells, mark, student, command):
        monkeypatch.setattr(module, "COURSE", folder)
    return folder


def handed_in(course, **answers):
    """What a student hands in, as a file: the students' notebook with these answers, source by name."""
    notebook = cells.without_solutions(cells.read(course / "07_tiny.ipynb"))
    for cell in notebook.cells:
        if "exercise" in cells.tags(cell):
            cell.source = answers.get(cells.exercise_name(cell), cell.source)
    return saved(notebook, course.parent / "handed in" / "Ada" / "07_tiny.ipynb")


def saved(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def states_and_words(marks):
    return {mark.exercise: (mark.state, mark.words) for mark in marks}


def test_students_get_everything_but_solutions_and_outputs(course):
    (course / "checks" / "__pycache__").mkdir()
    [path] = student.write_student_notebooks(course / "student")
    assert path == course / "student" / "07_tiny.ipynb"
    given = cells.read(path)
    assert cells.exercises(given) == list(NAMES)
    assert "2 * x" not in path.read_text() and "a lesson" in path.read_text()
    assert all(not cell.outputs and cell.execution_count is None for cell in given.cells)
    found = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*")}
    assert found == {"07_tiny.ipynb", "lesson.py", "checks", "checks/tiny.py"}
    assert "2 * x" in (course / "07_tiny.ipynb").read_text()                  # the course keeps its own


def test_students_notebooks_are_not_made_of_students_notebooks(course, monkeypatch):
    monkeypatch.setattr(student, "COURSE", course / "student")
    with pytest.raises(SystemExit, match="folder of the full ones"):
        student.write_student_notebooks(course / "student" / "student")


def test_each_answer_is_marked_by_itself(course):
    path = handed_in(course, double="def double(x):\n    return x + x", twice="def twice(x):\n    return x",
                     thrice="def thrice(x)\n    return 2 * x")
    found = states_and_words(mark.mark(path))
    assert found["double"] == ("right", "it is right")
    assert found["twice"] == ("wrong", "it is wrong")
    assert found["again"] == ("unsolved", "it is unsolved")
    assert found["thrice"][0] == "wrong" and "the cell raised SyntaxError" in found["thrice"][1]


def test_setup_and_checks_are_the_courses_own_and_the_last_answer_counts(course):
    cheat = "def check(name, answer):\n    print('right')"
    first, second = (tagged(f"def double(x):\n    return {value}") for value in ("0", "2 * x"))
    solution = tagged("def twice(x):\n    return 2 * x", "solution")
    notebook = new_notebook(cells=[tagged(cheat), first, second, solution])
    found = states_and_words(mark.mark(saved(notebook, course.parent / "07_cheat.ipynb")))
    assert [found[name][0] for name in NAMES] == ["right", "unsolved", "unsolved", "unsolved"]


@pytest.mark.parametrize("body, words", [("while True: pass", "it ran for more than 5 s"),
                                         ("import os; os._exit(1)", "it killed its kernel")])
def test_an_answer_that_hangs_or_kills_its_kernel_ends_the_run_and_no_more(course, body, words):
    path = handed_in(course, double="def double(x):\n    return 2 * x", twice=f"def twice(x):\n    {body}",
                     again="def again(x):\n    return 2 * x")
    found = states_and_words(mark.mark(path, seconds=5))
    assert found["double"][0] == "right"
    assert found["twice"] == ("wrong", words)
    assert found["again"] == found["thrice"] == ("wrong", "not reached: an answer above it ended the run")


def test_a_file_that_is_no_notebook_is_refused_in_one_line(course):
    path = course.parent / "07_torn.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(ValueError, match="07_torn.ipynb: not a notebook") as refused:
        mark.mark(path)
    assert "\n" not in str(refused.value)


def test_only_notebooks_of_the_course_are_marked(course):
    folder = handed_in(course).parent.parent
    for name in ("notes.ipynb", "99_other.ipynb", ".ipynb_checkpoints/07_tiny.ipynb"):
        saved(new_notebook(), folder / name)
    assert mark.handed_in(folder) == [folder / "Ada" / "07_tiny.ipynb"]


def test_the_command_prints_a_score_and_writes_a_table(course, monkeypatch, capsys):
    folder = handed_in(course, double="def double(x):\n    return 2 * x").parent.parent
    (folder / "07_torn.ipynb").write_text("{")
    table = course.parent / "marks.csv"
    monkeypatch.setattr(sys, "argv", ["checks", str(folder), "--csv", str(table)])
    command.main()
    out, err = capsys.readouterr()
    for line in ("07_tiny.ipynb: 1 of 4\n", "  ✔ double: it is right\n", "  … twice: it is unsolved\n"):
        assert line in out
    assert out.strip().endswith("Score: 1 of 4") and "07_torn.ipynb: not a notebook" in err
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [(row["exercise"], row["state"]) for row in rows] == [
        ("double", "right"), *((name, "unsolved") for name in NAMES[1:])]


def test_a_folder_without_notebooks_is_refused(course, monkeypatch, capsys):
    (course.parent / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["checks", str(course.parent / "empty")])
    with pytest.raises(SystemExit):
        command.main()
    assert "holds no notebook of the course" in capsys.readouterr().err


def test_python_m_checks_runs_in_the_folder_of_the_notebooks():
    asked = [sys.executable, "-m", "checks", "--help"]
    answer = subprocess.run(asked, cwd=NOTEBOOKS, capture_output=True, text=True)
    assert answer.returncode == 0 and "Mark notebooks that were handed in" in answer.stdout
