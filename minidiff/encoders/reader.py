"""A reader of pictures: which things of Toytown are there, in which colours, season, time of day and style?

It judges pictures that a network draws from a caption, where no true render exists to compare with:

    read = Reader.load("town-reader").read(pictures)
    of, found = named_and_found(named(captions), read)          # toytown/named.py

A judge that was trained errs: its accuracy on true renders belongs beside every figure that it makes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoint import fill, fitting, load_weights
from ..denoisers.layers import GROUP_WIDTH, config_from_dict, group_norm, zero_init
from ..toytown.named import ATTRIBUTES
from ..toytown.scene import OBJECTS
from .clip import Block

AT_ONCE = 256                                                   # pictures: more gains no speed, costs memory


@dataclass(frozen=True)
class ReaderConfig:
    """The shape of the network.

    size: of the pictures, in pixels.  patch: pixels a side that become one cell at the door.
    channels: one width a resolution; a 64x64 picture has 16x16 and 8x8 cells.  blocks: at each resolution.
    """

    size: int = 64
    patch: int = 4
    channels: tuple[int, ...] = (64, 96)
    blocks: int = 2

    def __post_init__(self):
        if any(width % GROUP_WIDTH for width in self.channels):
            raise ValueError(f"channels = {self.channels}: multiples of {GROUP_WIDTH} expected")
        if self.size % self.cell:
            raise ValueError(f"size = {self.size}: a multiple of {self.cell} expected")

    @property
    def cell(self):
        """Pixels a side of the coarsest cells."""
        return self.patch * 2 ** (len(self.channels) - 1)

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


class Reader(nn.Module):
    """A small convolutional network that looks somewhere for each attribute, and says what it sees there.

    For attribute k: look_k = softmax over the cells of a learned score, seen_k = sum over the cells of
    look_k times the cell's features, and a linear layer gives the logits of its values. The looks start as
    the mean over all cells. `cover`, how much of a cell shows each object, only helps in training.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        c = config.channels
        self.stem = nn.Conv2d(3 * config.patch**2, c[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*[Block(width) for _ in range(config.blocks)]) for width in c)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(c, c[1:]))
        self.norm = group_norm(c[-1])
        self.cover = nn.Conv2d(c[-1], len(OBJECTS), 1)
        self.look = zero_init(nn.Conv2d(c[-1], len(ATTRIBUTES), 1))
        self.values = nn.ModuleDict(
            {name: nn.Linear(c[-1], len(values)) for name, values in ATTRIBUTES.items()})

    @classmethod
    def load(cls, name_or_path="town-reader", device="cpu"):
        """The network of weights, by name in data/weights or by path.

        Raises CheckpointError for files that are missing, damaged or do not fit.
        """
        tensors, entry = load_weights(name_or_path)
        with fitting(name_or_path):
            network = cls(ReaderConfig.from_dict(entry["config"]["reader"]))
        fill(network, tensors, name_or_path)
        return network.to(device).eval().requires_grad_(False)

    def forward(self, x0):
        """Pictures (B, 3, size, size) -> logits, attribute -> (B, values), and cover's logits (B, 5, h, w).

        h = w = size / cell.  Raises ValueError for pictures of another shape.
        """
        expected = (3, self.config.size, self.config.size)
        if x0.shape[1:] != expected:
            raise ValueError(f"pictures are {tuple(x0.shape)}: (B, {', '.join(map(str, expected))}) expected")
        patches = F.pixel_unshuffle(x0.to(self.stem.weight.dtype), self.config.patch)
        h = self.stem(patches.contiguous(memory_format=torch.channels_last))       # (B, c, 16, 16)
        for blocks, shrink in zip(self.blocks, [*self.shrink, nn.Identity()]):
            h = shrink(blocks(h))
        h = F.silu(self.norm(h))                                                   # (B, C, 8, 8)
        looks = self.look(h).flatten(2).softmax(2)                                 # (B, attributes, 64)
        seen = looks.to(h.dtype) @ h.flatten(2).mT                                 # (B, attributes, C)
        logits = {name: layer(seen[:, k]).float() for k, (name, layer) in enumerate(self.values.items())}
        return logits, self.cover(h).float()

    @torch.no_grad()
    def log_probabilities(self, x0):
        """How sure is it? Pictures (B, 3, size, size) -> attribute -> (B, values), float32 on the CPU."""
        parts = [self(part.to(self.stem.weight.device))[0] for part in x0.split(AT_ONCE)]
        return {name: torch.cat([part[name].log_softmax(1) for part in parts]).cpu() for name in ATTRIBUTES}

    def read(self, x0):
        """What pictures show: (B, 3, size, size) -> attribute -> (B,), indices into ATTRIBUTES[attribute].

        A table as in toytown/named.py, on the CPU. Where a thing is absent, its colour is a guess.
        """
        return {name: values.argmax(1) for name, values in self.log_probabilities(x0).items()}
