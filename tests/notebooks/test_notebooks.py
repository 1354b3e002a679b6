"""Every notebook of the course: what is stored in it, and what it does when it is run, solved and unsolved.

Solved, it is run from top to bottom. Unsolved, only the cells are run that could tell the difference: the
exercises with their checks, the cells that use what those define, and whatever they need from other cells.
"""

import dis
import re
import sys
from pathlib import Path
from types import CodeType

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
from checks.cells import exercise_name, exercises, read, tags, without_solutions  # noqa: E402
from checks.mark import error_of, run, verdict_of  # noqa: E402
from nbformat import validate  # noqa: E402
from nbformat.v4 import new_code_cell  # noqa: E402

PATHS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SIZE = 500_000
SECONDS = 300                                               # for one cell: only what hangs takes as long
ANY_PATH = re.compile(r"""(?:^|[\s"'(=\[])(?:~?/[\w.-]+/[\w.-]|[A-Za-z]:\\\w|file:/)""", re.MULTILINE)
NO_NETWORK = """
import socket
def refuse(*arguments, **keywords):
    raise OSError("a notebook reaches for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
"""

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Kernels of tests that run side by side must not fight over the cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def executed(notebook):
    """The notebook, run in its folder by a fresh kernel that has no network; it goes on after errors."""
    notebook.cells.insert(0, new_code_cell(NO_NETWORK))
    stopped = run(notebook, SECONDS)
    assert stopped is None and error_of(notebook.cells.pop(0)) is None, stopped
    return notebook


def troubles(notebook):
    """What went wrong, cell by cell: errors, and cells that were never reached."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and (error_of(cell) or cell.execution_count is None):
            found.append(f"{cell.id}: {error_of(cell) or 'not run'}\n{cell.source}")
    return found


def by_tag(notebook, tag):
    return [cell for cell in notebook.cells if tag in tags(cell)]


# What is stored

def test_there_are_notebooks():
    assert PATHS and PATHS[0].name.startswith("00_")


@every_notebook
def test_it_is_small_and_valid(path):
    assert path.stat().st_size <= SIZE
    validate(read(path))


@every_notebook
def test_it_opens_with_its_goal_its_minutes_and_what_to_predict(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {path.name[:2]} · ")
    assert "**Goal.**" in first.source and "**Predict first**" in first.source
    assert re.search(r"\*\*Time\.\*\* About \d+ minutes", first.source)


@every_notebook
def test_every_cell_was_run_once_in_order_before_it_was_stored(path):
    counts = [cell.execution_count for cell in read(path).cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_no_error_warning_or_path_of_a_machine_is_stored(path):
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"{cell.id}: {output.text}"
            texts = [output.get("text", ""), *(value for kind, value in output.get("data", {}).items()
                                               if kind.startswith("text/"))]
            for words in texts:
                assert not ANY_PATH.search(words), f"{cell.id}: {ANY_PATH.search(words).group()} in {words}"
                assert not re.search(r"Warning\b", words), f"{cell.id}: {words}"


@every_notebook
def test_after_every_picture_and_before_the_next_heading_a_line_says_what_to_see(path):
    cells = read(path).cells
    for i, cell in enumerate(cells):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            words = "\n".join(later.source for later in cells[i + 1 :] if later.cell_type == "markdown")
            assert "**What to see.**" in re.split(r"^## ", words, flags=re.MULTILINE)[0], cell.id


@every_notebook
def test_its_exercises_are_each_followed_by_a_folded_solution_and_a_check(path):
    notebook = read(path)
    names = exercises(notebook)
    assert len(names) >= 2 and len(set(names)) == len(names)
    assert len(by_tag(notebook, "setup")) == 1
    for cell, after, last in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:]):
        if "exercise" not in tags(cell):
            continue
        name = exercise_name(cell)
        assert tags(after) == ["solution"] and tags(last) == ["check"], name
        assert "raise Unsolved(" in cell.source and "raise Unsolved(" not in after.source
        assert after.source.startswith(f"@solution_of({name})\ndef {name}(")
        assert after.metadata.jupyter.source_hidden and after.metadata.collapsed
        assert re.search(rf"check_{name}\({name}\)", last.source)
    assert len(by_tag(notebook, "solution")) == len(by_tag(notebook, "check")) == len(names)


# What runs

@every_notebook
def test_solved_it_runs_from_top_to_bottom_and_every_check_says_right(path):
    notebook = executed(without_outputs(read(path)))
    assert not troubles(notebook), "\n\n".join(troubles(notebook))
    for name, cell in zip(exercises(notebook), by_tag(notebook, "check"), strict=True):
        verdict = verdict_of(cell)
        assert verdict, f"{name}: its check shows no verdict"
        assert (verdict["exercise"], verdict["state"]) == (name, "right"), verdict["words"]


@every_notebook
def test_unsolved_its_checks_say_so_and_nothing_else_complains(path):
    notebook = without_solutions(read(path))
    notebook.cells = that_could_tell(notebook.cells)
    notebook = executed(notebook)
    assert not troubles(notebook), "\n\n".join(troubles(notebook))
    for cell, check in zip(by_tag(notebook, "exercise"), by_tag(notebook, "check"), strict=True):
        verdict, task = verdict_of(check), re.search(r'raise Unsolved\((["\'])(.+)\1\)', cell.source)[2]
        assert verdict, f"{exercise_name(cell)}: its check shows no verdict"
        assert (verdict["exercise"], verdict["state"]) == (exercise_name(cell), "unsolved"), verdict["words"]
        assert verdict["words"] == f"not solved yet: this one is yours to write: {task}."


def without_outputs(notebook):
    """So that what is found afterwards was made by this run."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def that_could_tell(cells):
    """The code cells that could tell an unsolved exercise from a solved one, and those that they need."""
    cells = [cell for cell in cells if cell.cell_type == "code"]
    names = [names_of(cell.source) for cell in cells]
    touched, wanted = set(), set()
    for i, (cell, (used, made)) in enumerate(zip(cells, names)):
        if used & touched or {"setup", "exercise", "check"} & set(tags(cell)):
            wanted.add(i)
            touched |= set() if "setup" in tags(cell) else made
    missing = {name for i in wanted for name in names[i][0]}
    for i in reversed(range(len(cells))):
        used, made = names[i]
        if i in wanted or made & missing:
            wanted.add(i)
            missing |= used
    return [cells[i] for i in sorted(wanted)]


def names_of(source):
    """The names that a cell reads, and those that it sets, without what is local to its functions."""
    read, made, codes = set(), set(), [compile(source, "cell", "exec")]
    while codes:
        code = codes.pop()
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                read.add(step.argval)
            elif step.opname in ("STORE_NAME", "STORE_GLOBAL"):
                made.add(step.argval)
    return read, made


def test_a_cell_that_uses_an_exercise_is_run_with_all_that_it_needs():
    kinds = {"import torch": ["setup"], "x = 1": [], "y = 2": [], "def f(): pass": ["exercise"],
             "check(f)": ["check"], "z = f(x)": [], "def g():\n    z = y\n    print(z)": [], "w = z": []}
    cells = [new_code_cell(source, metadata={"tags": each}) for source, each in kinds.items()]
    found = [cell.source for cell in that_could_tell(cells)]
    assert found == ["import torch", "x = 1", "def f(): pass", "check(f)", "z = f(x)", "w = z"]
