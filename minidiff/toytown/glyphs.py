"""The writing on the signs: capitals, digits and about 100 Chinese characters, bitmaps of 8 x 8 dots."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor


@cache
def _font() -> dict[str, str]:
    lines = (Path(__file__).parent / "glyphs.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


CHARACTERS = "".join(_font())
LATIN = "".join(character for character in CHARACTERS if character.isascii())
CHINESE = CHARACTERS[len(LATIN):]


def bitmaps() -> Tensor:
    """(N, 8, 8) bool, True = ink, in the order of CHARACTERS, each in the top left corner of its cell."""
    rows = torch.tensor([list(bytes.fromhex(code)) for code in _font().values()])          # (N, 8)
    return (rows[:, :, None] >> torch.arange(7, -1, -1)) & 1 == 1


def widths() -> Tensor:
    """(N,) how many dots each character takes on the line, the space after it included: 6 or 8."""
    return torch.tensor([6 if character.isascii() else 8 for character in CHARACTERS])
