"""The README keeps its word: commands parse, its Python runs, figures are measured ones, links lead."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from minidiff import bench, cli
from minidiff.bench.tables import Table
from train.config import from_command_line

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    """The text under a heading of the README."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL).group(1)


def tables(text):
    """All Markdown tables in a text: a list of tables, each a list of rows {column: cell}."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        head, _, *lines = cells
        found.append([dict(zip(head, line, strict=True)) for line in lines])
    return found


def commands(*programs):
    """Every command of the README that starts with one of these words, split into words, no comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks for line in block.splitlines()] + spans
    found = [line for line in lines if re.match(rf"({'|'.join(programs)})\s+\S", line)]
    return [shlex.split(line, comments=True) for line in dict.fromkeys(found)]


def test_every_minidiff_command_is_understood():
    found = commands("minidiff")
    assert {command[1] for command in found} >= {"edit", "inpaint", "outpaint", "generate", "bench"}
    for command in found:
        cli.parser().parse_args(command[1:])


def test_every_training_command_is_understood():
    found = commands("python -m train[.][a-z]+", "torchrun")
    assert {command[0] for command in found} == {"python", "torchrun"}
    for command in found:
        if command[0] == "torchrun":
            outer = get_args_parser().parse_args(command[1:])
            command = ["python", "-m", outer.training_script, *outer.training_script_args]
        script = import_module(command[2])
        config = from_command_line(script.Config, script.PRESETS, "", command[3:])
        assert getattr(config, "folder", getattr(config, "path", "")).startswith("runs/")


def test_the_ten_lines_of_python_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", section("Ten lines that edit an image"), re.DOTALL).group(1)
    assert code.count("\n") <= 14 and '"data/demo/' in code
    space = {}
    exec(code.replace('"data/demo/', f'"{ROOT.as_posix()}/data/demo/'), space)
    assert space["result"].measures["max_diff"] == 0 and (tmp_path / "edited.png").is_file()
    assert space["state"].t == 0


def test_every_figure_stands_in_a_table_that_a_command_made():
    """The command that made a table, and is its name, stands in the paragraph above it."""
    blocks = re.split(r"^(?=\*\*)", section("Measured"), flags=re.MULTILINE)
    measured = [block for block in blocks if tables(block)]
    assert len(measured) >= 3
    for block in measured:
        name = re.search(r"`(?:minidiff bench --only |python -m train\.)([a-z-]+)", block).group(1)
        known = tables((ROOT / "data" / "results" / f"{name}.md").read_text(encoding="utf-8"))[0]
        for table in tables(block):
            for row in table:
                assert any(row.items() <= other.items() for other in known), f"{row} is not in {name}.md"


@pytest.mark.parametrize("name", bench.TABLES)
def test_stored_tables_say_of_themselves_what_their_bench_says(name):
    """A table whose bench was changed since is to be measured again."""
    table = Table.load(ROOT / "data" / "results" / f"{name}.json")
    assert (table.title, table.about) == bench.title_and_about(bench.TABLES[name])


@pytest.mark.parametrize("page", ["README.md", "data/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link


def test_the_course_lists_every_notebook():
    linked = set(re.findall(r"\((notebooks/[^)]+\.ipynb)\)", section("The course")))
    assert linked == {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}


def test_the_map_and_the_reading_order_name_what_is_there():
    house = section("The house")
    plan = re.search(r"```\n(.*?)```", house, re.DOTALL).group(1)
    inside = re.findall(r"^  ((?:[a-z_]+(?:\.py|/) +)+)", plan, re.MULTILINE)
    names = [f"minidiff/{name}" for line in inside for name in line.split()]
    names += re.findall(r"^([a-z]+/)", plan, re.MULTILINE)
    names += [f"minidiff/{name}" if not name.startswith("train/") else name
              for name in re.findall(r"`([a-z]+/[a-z_0-9]+\.py)`", house)]
    assert len(names) > 15
    for name in names:
        assert (ROOT / name).exists(), name


def test_no_mark_was_left_to_fill_in():
    assert not re.search(r"^[A-Z_]{6,}$", README, re.MULTILINE) and "TODO" not in README
