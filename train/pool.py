"""A pool of edits in latents, made once and kept in a file, so that many trainings learn from the same."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.judging import TARGETED
from minidiff.checkpoint import load_state, load_weights, save_state
from minidiff.encoders.vae import cells_of
from train.data import draw_seed
from train.loop import generator_of
from train.state import check_same_run

PART = 256                                                      # edits painted at once


class Pool(NamedTuple):
    """Edits to learn from, in latents: n instructions; the sources and targets, (n, C, h, w); and the cells
    that truly change, bool (n, 1, h, w).
    """

    words: list
    source: Tensor
    target: Tensor
    cells: Tensor


def pooled(config, vae, device):
    """The Pool, drawn and encoded once, then read from the folder. Raises CheckpointError for another's."""
    path = Path(config.folder) / "pool.safetensors"
    asked = {name: getattr(config, name) for name in ("size", "pool", "seed")}
    asked |= {"kinds": list(TARGETED), "vae": load_weights(config.vae)[1]["sha256"]}
    if not path.exists():
        parts = [part_of_pool(config, vae, device, i) for i in tqdm(range(0, config.pool, PART), "pool")]
        words, *latents = zip(*parts)
        tensors = {name: torch.cat(part) for name, part in zip(Pool._fields[1:], latents)}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, tensors, {"config": asked, "words": sum(words, [])})
    tensors, about = load_state(path)
    check_same_run(path, about["config"], asked)
    return Pool(about["words"], *(tensors[name] for name in Pool._fields[1:]))


def part_of_pool(config, vae, device, start):
    """Edits number start to start + PART, in half precision."""
    seed, n = draw_seed(generator_of(config.seed, "pool", start)), min(PART, config.pool - start)
    edits = toytown.edits(n, seed, kinds=TARGETED, size=config.size, device=device)
    source, target = (vae.latents(picture).half().cpu() for picture in (edits.source, edits.target))
    return Pool(list(edits.instruction), source, target, cells_of(edits.region, vae.config.factor).cpu())
