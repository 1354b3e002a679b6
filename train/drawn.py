"""Draw edits ahead of a training, as scenes and words: 300 bytes each, which a GPU paints when it needs them.

    python -m train.drawn --preset gpu --path runs/town-drawn.safetensors
    python -m train.flow --preset gpu --drawn runs/town-drawn.safetensors

To find a fair edit takes a core longer than a GPU needs to train on twenty.
"""

import hashlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from tqdm import tqdm

from minidiff.checkpoint import write_atomically
from minidiff.toytown import edits
from minidiff.toytown.packing import packed, unpacked
from train.config import from_command_line
from train.data import draw_seed
from train.loop import generator_of
from train.tasks import KINDS_OF

PART = 1024                                                     # edits drawn at once
WORDS = "words"                                                 # of all edits of a task, as JSON, in bytes


@dataclass(frozen=True)
class Config:
    """How many edits to draw for each of the tasks of train/tasks.py, and where they go.

    path: of the file.  seed: of all chance.  editing, writing, fusion, choice: how many edits; each a
    multiple of 1024, at least one. The presets have enough for train.flow's, if one process trains: another
    one takes as many.  workers: processes that draw; the edits are the same for any number.
    """

    path: str = "runs/town-drawn.safetensors"
    seed: int = 0
    editing: int = 30720
    writing: int = 10240
    fusion: int = 8192
    choice: int = 16384
    workers: int = 2

    def __post_init__(self):
        counts = [getattr(self, task) for task in KINDS_OF]
        if min(counts) < PART or any(count % PART for count in counts):
            names = ", ".join(KINDS_OF)
            raise ValueError(f"{names} = {counts}: multiples of {PART} expected, at least {PART} of each")
        if self.workers < 1:
            raise ValueError(f"workers = {self.workers}: at least 1 expected")


PRESETS = {"cpu": {}, "gpu": dict(editing=186368, writing=92160, fusion=55296, choice=23552, workers=14)}


def main(config):
    """Draw all, write the file, and return its path. Raises ValueError if a process that draws is gone."""
    path = Path(config.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = [(PART, task, config.seed, i)
              for task in KINDS_OF for i in range(getattr(config, task) // PART)]
    parts = {task: [] for task in KINDS_OF}
    try:
        with ProcessPoolExecutor(config.workers, get_context("spawn")) as pool:
            bar = tqdm(pool.map(draw_part, wanted), total=len(wanted), unit="part")
            for (_, task, *_), part in zip(wanted, bar, strict=True):
                parts[task].append(part)
    except BrokenProcessPool:
        hint = "fewer --workers, if memory was short"
        raise ValueError(f"a process that draws has ended, and nothing is written: {hint}") from None
    tensors = {}
    for task in KINDS_OF:
        columns, words = joined(parts[task])
        tensors |= {f"{task}/{name}": column for name, column in {**columns, WORDS: words}.items()}
    write_atomically(path, save(tensors))
    return path


def draw_part(part):
    """Edits of a task, as safetensors: pictures stay behind.  part: (how many, task, seed, number)."""
    torch.set_num_threads(1)
    n, task, *which = part
    columns, words = packed(edits(n, draw_seed(generator_of("drawn", task, *which)), kinds=KINDS_OF[task]))
    return save({**columns, WORDS: as_tensor(words)})


def joined(parts):
    """(columns, words as a tensor) of parts, as draw_part gives them, one after the other."""
    parts = [load(part) for part in parts]
    words = [as_words(part.pop(WORDS)) for part in parts]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return columns, as_tensor({name: sum((part[name] for part in words), []) for name in words[0]})


def load_drawn(path):
    """What main has written: (task -> Edits, SHA-256 of the file).

    Raises ValueError for another file, FileNotFoundError, with the command that draws it, if there is none.
    """
    try:
        content = Path(path).read_bytes()
        tensors = load(content)
        found = {task: {name.removeprefix(f"{task}/"): column for name, column in tensors.items()
                        if name.startswith(f"{task}/")} for task in KINDS_OF}
        stored = {task: unpacked(columns, as_words(columns.pop(WORDS))) for task, columns in found.items()}
    except FileNotFoundError:
        hint = f"python -m train.drawn --preset gpu --path {path}"
        raise FileNotFoundError(f"{path}: no such file; this draws it:\n{hint}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: no edits drawn by train.drawn ({type(error).__name__})") from None
    return stored, hashlib.sha256(content).hexdigest()


def as_tensor(words):
    """Words by name as a tensor, uint8: their JSON."""
    return torch.frombuffer(bytearray(json.dumps(words, ensure_ascii=False).encode()), dtype=torch.uint8)


def as_words(tensor):
    """The inverse of as_tensor."""
    return json.loads(tensor.numpy().tobytes())


if __name__ == "__main__":
    try:
        print(main(from_command_line(Config, PRESETS, __doc__)))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
