"""Draw the frozen splits anew, to the same bits, and write them to data/toytown:

    python -m minidiff.toytown.dataset
"""

import torch

from minidiff.toytown.drawing import edits
from minidiff.toytown.language import captions
from minidiff.toytown.scene import scenes
from minidiff.toytown.splits import NAMES, Split, save_split

SIZES = {"val": (256, 512), "test": (512, 1024)}             # scenes with captions, edits
SCENE_SEED = {"val": 4_000_000_001, "test": 4_000_000_002}   # far above those that a training counts through
EDIT_SEED = 1_000_000_000


def draw_split(name: str) -> Split:
    """Draw a frozen split anew, to the same bits."""
    of_scenes, of_edits = SIZES[name]
    drawn, half = scenes(of_scenes, SCENE_SEED[name], held_out=True), of_scenes // 2
    words = captions(drawn[:half]) + captions(drawn[half:], held_out=True)
    reworded = torch.arange(of_scenes) >= half
    return Split(name, drawn, tuple(words), reworded, edits(of_edits, EDIT_SEED, split=name))


def main():
    """Draw both splits and write them."""
    for name in NAMES:
        split = draw_split(name)
        path = save_split(split)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {split.digest()}")


if __name__ == "__main__":
    main()
