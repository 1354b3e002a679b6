"""Tables of measured figures: lists of rows, printed for people and saved for programs."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from minidiff.checkpoint import write_atomically
from minidiff.measure import Interval


@dataclass(frozen=True)
class Table:
    """Rows of figures, with all that is needed to measure them again.

    about: what is measured and what to see.  rows: dicts from column to text, number or Interval; a row may
    lack columns.  seconds: that the whole table took.
    """

    name: str
    title: str
    about: str
    rows: list
    command: str
    seed: int
    hardware: str
    seconds: float

    def text(self):
        """The table as Markdown, its columns aligned so that it reads well in a terminal too."""
        made = f"Made by `{self.command}` with seed {self.seed} in {self.seconds:.0f} s on {self.hardware}."
        return "\n\n".join([f"## {self.title}", self.about, aligned(self.rows), made]) + "\n"

    def save(self, folder):
        """Write NAME.json and NAME.md into a folder, which is made if missing; returns their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        json_path, text_path = (folder / f"{self.name}.{suffix}" for suffix in ("json", "md"))
        rows = [{column: plain(cell) for column, cell in row.items()} for row in self.rows]
        content = json.dumps({**asdict(self), "rows": rows}, indent=1, ensure_ascii=False)
        write_atomically(json_path, (content + "\n").encode())
        write_atomically(text_path, self.text().encode())
        return json_path, text_path

    @classmethod
    def load(cls, path):
        """The table that `save` wrote as NAME.json."""

        def cell(found):
            return Interval(**found) if set(found) == set(Interval._fields) else found

        return cls(**json.loads(Path(path).read_text(encoding="utf-8"), object_hook=cell))


def plain(cell):
    """A cell as JSON can hold it: intervals become {"value", "low", "high"}."""
    return cell._asdict() if isinstance(cell, Interval) else cell


def aligned(rows):
    """Rows as a Markdown table: all columns that any row has, as they first come; figures to the right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([cell_text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    right = [not all(isinstance(row.get(column, ""), str) for row in rows) for column in columns]
    rule = ["-" * (width - 1) + (":" if figures else "-") for width, figures in zip(widths, right)]
    padded = [[text.rjust(width) if figures else text.ljust(width)
               for text, width, figures in zip(line, widths, right)] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def cell_text(cell):
    """Text as it is, whole numbers whole, others to about three figures, `value ± half of the interval`."""
    if isinstance(cell, Interval):
        half = (cell.high - cell.low) / 2
        digits = decimals(max(abs(cell.value), half))
        return f"{cell.value:,.{digits}f} ±{half:.{digits}f}"
    if isinstance(cell, float):
        return f"{cell:,.{decimals(abs(cell))}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def decimals(size):
    """How many decimals make about three figures of a number of this size."""
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3


def hardware(device="cpu"):
    """What figures are measured on, in words."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)} of {cpu_name()}, torch {torch.__version__}"


def cpu_name():
    """The processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
