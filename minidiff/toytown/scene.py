"""A scene of Toytown: about 40 numbers that say what stands where, and how to draw such numbers at random.

Lengths are shares of the picture's side: x grows to the right, y downwards, (0, 0) is the top left corner.
An object stands on its baseline `*_y`; the object with the larger y stands in front.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from torch import Tensor

from minidiff.toytown.glyphs import CHARACTERS, LATIN

SEASONS = ("spring", "summer", "autumn", "winter")
TIMES = ("day", "dusk", "night")
STYLES = ("plain", "sketch", "blueprint", "pixel-art", "watercolour")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
OBJECTS = ("house", "tree", "person", "car", "sign")
TREES = ("round", "pine")
POSES = ("standing", "waving", "walking")
PIXEL = 1 / 64                                                  # signs sit on this grid: sharp at 64x64

# Never together in a training scene: what a network does with them shows whether it composes or remembers.
HELD_OUT = {"car_color": "purple", "house_color": "orange", "roof_color": "yellow", "jacket_color": "green"}

# width and height of each object at size 1, the shares that its painter fills
EXTENT = {"house": (0.36, 0.42), "tree": (0.26, 0.40), "person": (0.15, 0.25), "car": (0.30, 0.16),
          "sign": (0.36, 0.28)}

# the columns that say what an object looks like: with its x and y, season and time, all its painter reads
LOOKS = {"house": ("house_size", "house_color", "house_brick", "roof_color"),
         "tree": ("tree_size", "tree_kind"), "person": ("person_size", "person_pose", "jacket_color"),
         "car": ("car_size", "car_color", "car_direction"), "sign": ("sign_size", "sign_text")}
BACKDROP = ("horizon", "hill_phase", "hill_height", "sun_x", "sun_y", "cloud_x", "fence")


@dataclass(frozen=True)
class Scenes:
    """n scenes, one column of length n per number; categories are int64 indices, lengths float32.

    `scenes[i]` with a slice, an index tensor or an int gives fewer scenes (an int gives one, still a batch),
    `scenes.with_(car_color=3)` changes columns.
    """

    season: Tensor
    time: Tensor
    style: Tensor
    horizon: Tensor
    hill_phase: Tensor
    hill_height: Tensor
    sun_x: Tensor
    sun_y: Tensor
    cloud_x: Tensor
    fence: Tensor
    house: Tensor                                               # 1 = present; so for the other four objects
    house_x: Tensor
    house_y: Tensor
    house_size: Tensor
    house_color: Tensor
    house_brick: Tensor
    roof_color: Tensor
    tree: Tensor
    tree_x: Tensor
    tree_y: Tensor
    tree_size: Tensor
    tree_kind: Tensor
    person: Tensor
    person_x: Tensor
    person_y: Tensor
    person_size: Tensor
    person_pose: Tensor
    jacket_color: Tensor
    car: Tensor
    car_x: Tensor
    car_y: Tensor
    car_size: Tensor
    car_color: Tensor
    car_direction: Tensor                                       # 0 = to the left, 1 = to the right
    sign: Tensor
    sign_x: Tensor
    sign_y: Tensor
    sign_size: Tensor                                           # always 1: a sign that shrinks cannot be read
    sign_text: Tensor                                           # (n, 3) 1 + index into CHARACTERS, 0 = none

    def __len__(self):
        return len(self.season)

    def __getitem__(self, index):
        if isinstance(index, int):
            index = [index]
        return Scenes(**{name: column[index] for name, column in self.columns().items()})

    def columns(self) -> dict[str, Tensor]:
        """Name -> column, the form in which scenes are stored in a file."""
        return dict(vars(self))

    def rows(self) -> list[dict]:
        """Each scene as a dictionary, column name -> number (sign_text: a list)."""
        columns = {name: column.tolist() for name, column in self.columns().items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def with_(self, **changes) -> "Scenes":
        """The same scenes with some columns set, each to a number or to a column."""
        columns = {}
        for name, value in changes.items():
            column = getattr(self, name)
            value = torch.as_tensor(value, dtype=column.dtype, device=column.device)
            columns[name] = value.expand_as(column).clone()
        return replace(self, **columns)

    def to(self, device) -> "Scenes":
        """The same scenes on another device."""
        return Scenes(**{name: column.to(device) for name, column in self.columns().items()})

    def shaped(self) -> SimpleNamespace:
        """The columns as (n, 1, 1, 1), ready to meet a grid of pixels; sign_text stays (n, 3)."""
        return SimpleNamespace(**{name: column if name == "sign_text" else column.view(-1, 1, 1, 1)
                                  for name, column in self.columns().items()})

    @staticmethod
    def cat(parts) -> "Scenes":
        """Several batches of scenes as one."""
        columns = [part.columns() for part in parts]
        return Scenes(**{name: torch.cat([part[name] for part in columns]) for name in columns[0]})


def scenes(n: int, seed: int, held_out: bool = False) -> Scenes:
    """Draw n scenes, the same for the same seed; at least about a third of every object can be seen.

    held_out: also allow the colours of HELD_OUT, which training scenes never have.
    """
    if n < 1:
        raise ValueError(f"n is {n}: at least 1 scene expected")
    generator = torch.Generator().manual_seed(seed)
    kept, found = [], 0
    while found < n:
        drawn = _draw(2 * (n - found) + 16, generator, held_out)
        drawn = drawn[crowding(drawn) < 0.6]
        kept.append(drawn)
        found += len(drawn)
    return Scenes.cat(kept)[:n]


def has_held_out(scenes: Scenes) -> Tensor:
    """bool (n,): does a visible object wear a colour that training never showed on it?"""
    shows = {"car_color": scenes.car, "house_color": scenes.house, "roof_color": scenes.house,
             "jacket_color": scenes.person}
    found = torch.zeros(len(scenes), dtype=torch.bool, device=scenes.season.device)
    for name, color in HELD_OUT.items():
        found |= (getattr(scenes, name) == COLORS.index(color)) & (shows[name] == 1)
    return found


def crowding(scenes: Scenes) -> Tensor:
    """(n,) the largest share of an object's bounding box that the boxes in front cover (overlaps add up)."""
    worst = torch.zeros(len(scenes))
    for back in OBJECTS:
        covered = torch.zeros(len(scenes))
        for front in OBJECTS:
            in_front = getattr(scenes, front + "_y") > getattr(scenes, back + "_y")
            share = _share_covered(bounding_box(scenes, back), bounding_box(scenes, front))
            covered += share * in_front * getattr(scenes, front) * getattr(scenes, back)
        worst = torch.maximum(worst, covered)
    return worst


def _share_covered(box, other):
    """(n,) the share of a box that lies in the other; both (left, right, top, bottom)."""
    (left, right, top, bottom), (other_left, other_right, other_top, other_bottom) = box, other
    wide = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    high = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    return wide * high / ((right - left) * (bottom - top))


def bounding_box(scenes: Scenes, name: str):
    """(left, right, top, bottom), each (n,), of the named object."""
    width, height = EXTENT[name]
    x, y, size = (getattr(scenes, f"{name}_{part}") for part in ("x", "y", "size"))
    return x - width * size / 2, x + width * size / 2, y - height * size, y


def _draw(n, generator, held_out):
    def uniform(low, high):
        return low + (high - low) * torch.rand(n, generator=generator)

    def choice(weights):
        weights = torch.tensor(weights, dtype=torch.float32)
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    def color(name):
        return choice([float(held_out or HELD_OUT[name] != color) for color in COLORS])

    def on_grid(values):
        return (values / PIXEL).round() * PIXEL

    shares = {"house": 0.7, "tree": 0.7, "person": 0.6, "car": 0.7, "sign": 0.5}
    present = {name: choice([1 - share, share]) for name, share in shares.items()}
    places = torch.rand(n, 4, generator=generator).argsort(1)   # house, tree, person, sign share four plots
    plot = (0.14 + 0.24 * places).unbind(1)
    return Scenes(
        season=choice([1.0] * 4), time=choice([0.5, 0.25, 0.25]), style=choice([0.6, 0.1, 0.1, 0.1, 0.1]),
        horizon=uniform(0.50, 0.58), hill_phase=uniform(0, 1), hill_height=uniform(0.05, 0.14),
        sun_x=uniform(0.12, 0.88), sun_y=uniform(0.10, 0.24), cloud_x=uniform(0, 1), fence=choice([0.6, 0.4]),
        house_x=plot[0] + uniform(-0.05, 0.05), house_y=uniform(0.63, 0.69), house_size=uniform(0.8, 1.15),
        house_color=color("house_color"), house_brick=choice([0.5, 0.5]), roof_color=color("roof_color"),
        tree_x=plot[1] + uniform(-0.05, 0.05), tree_y=uniform(0.62, 0.74), tree_size=uniform(0.75, 1.2),
        tree_kind=choice([0.6, 0.4]),
        person_x=plot[2] + uniform(-0.05, 0.05), person_y=uniform(0.67, 0.76), person_size=uniform(0.9, 1.2),
        person_pose=choice([1.0] * 3), jacket_color=color("jacket_color"),
        car_x=uniform(0.16, 0.84), car_y=uniform(0.86, 0.93), car_size=uniform(0.85, 1.15),
        car_color=color("car_color"), car_direction=choice([0.5, 0.5]),
        sign_x=on_grid(plot[3] + uniform(-0.05, 0.05)).clamp(0.1875, 0.8125),
        sign_y=on_grid(uniform(0.66, 0.75)), sign_size=torch.ones(n), sign_text=draw_text(n, generator),
        **present)


def draw_text(n, generator):
    """(n, 3): 1 to 3 Latin letters and digits, or (4 times in 10) 1 to 2 Chinese characters."""
    latin = torch.randint(1, 1 + len(LATIN), (n, 3), generator=generator)
    chinese = torch.randint(1 + len(LATIN), 1 + len(CHARACTERS), (n, 3), generator=generator)
    is_chinese = torch.rand(n, 1, generator=generator) < 0.4
    length = torch.randint(1, 4, (n, 1), generator=generator)
    length = torch.where(is_chinese, length.clamp(max=2), length)
    return torch.where(is_chinese, chinese, latin) * (torch.arange(3) < length)
