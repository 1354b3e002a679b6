"""Random values for edits: colours, seasons, writing. In training, colours of HELD_OUT are never drawn."""

import torch
from torch import Tensor

from minidiff.toytown.scene import COLORS, HELD_OUT, TREES, draw_text


class Dice:
    """Draws columns with one generator; held_out: also colours that training never shows on that object."""

    def __init__(self, generator: torch.Generator, held_out: bool):
        self.generator, self.held_out = generator, held_out

    def category(self, count: int, other_than: Tensor) -> Tensor:
        """(n,) one of `count` categories, evenly, each other than the one given."""
        step = torch.randint(1, count, other_than.shape, generator=self.generator).to(other_than.device)
        return (other_than + step) % count

    def color(self, column: str, n: int, other_than: Tensor | None = None) -> Tensor:
        """(n,) colours for a column such as "car_color", each other than the one given."""
        weights = torch.ones(n, len(COLORS))
        if not self.held_out:
            weights[:, COLORS.index(HELD_OUT[column])] = 0
        if other_than is not None:
            weights[torch.arange(n), other_than.cpu()] = 0
        return torch.multinomial(weights, 1, generator=self.generator)[:, 0]

    def text(self, n: int) -> Tensor:
        """(n, 3) writing for a sign."""
        return draw_text(n, self.generator)

    def look(self, name: str, n: int) -> dict[str, Tensor]:
        """What an instruction says of a new object: colours, kind of tree, writing; column -> (n,)."""
        if name == "tree":
            return {"tree_kind": torch.randint(len(TREES), (n,), generator=self.generator)}
        if name == "sign":
            return {"sign_text": self.text(n)}
        columns = {"house": ("house_color", "roof_color"), "person": ("jacket_color",), "car": ("car_color",)}
        return {column: self.color(column, n) for column in columns[name]}
