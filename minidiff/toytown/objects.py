"""The five things that stand in Toytown, each a function (s, canvas, light) -> Layer.

`s` holds the scene's columns as (n, 1, 1, 1), `light` (n, 3, 1, 1) is the colour of the daylight: a lamp has
its own. An object is drawn back to front in its own frame, x round its middle and y up from its baseline, in
object sizes.
"""

import torch

from minidiff.toytown.glyphs import bitmaps, widths
from minidiff.toytown.scene import COLORS, PIXEL, POSES, SEASONS, TIMES, TREES

PALETTE = torch.tensor([[0.86, 0.16, 0.17], [0.97, 0.53, 0.12], [0.99, 0.84, 0.20], [0.22, 0.64, 0.30],
                        [0.17, 0.40, 0.86], [0.58, 0.25, 0.70], [0.96, 0.96, 0.97], [0.17, 0.17, 0.20]])
assert len(PALETTE) == len(COLORS)

SKIN, HAIR, TROUSERS = (0.95, 0.76, 0.62), (0.30, 0.19, 0.13), (0.20, 0.25, 0.42)
WOOD, INK, BOARD = (0.47, 0.32, 0.20), (0.13, 0.12, 0.16), (0.98, 0.95, 0.84)
GLASS, LAMP, TYRE, STEEL = (0.72, 0.88, 0.96), (1.0, 0.87, 0.45), (0.10, 0.10, 0.12), (0.80, 0.82, 0.85)
LEAVES = torch.tensor([[0.96, 0.66, 0.76], [0.25, 0.58, 0.26], [0.91, 0.52, 0.16], [0.88, 0.93, 0.97]])
NEEDLES = torch.tensor([[0.16, 0.45, 0.28], [0.10, 0.38, 0.24], [0.16, 0.40, 0.24], [0.18, 0.42, 0.32]])
NIGHT, WINTER = TIMES.index("night"), SEASONS.index("winter")


class Layer:
    """A picture with opacity: `rgba` (n, 4, H, W), colours premultiplied by it, built up back to front."""

    def __init__(self, n, canvas, light=None):
        height, width = canvas.y.shape[2], canvas.x.shape[3]
        self.rgba = torch.zeros(n, 4, height, width, device=canvas.x.device)
        self.light = light

    def add(self, cover, color, glows=False):
        """Lay a colour, (3,) numbers or (n, 3, 1, 1), over what is there; what glows ignores the light."""
        color = torch.as_tensor(color, device=self.rgba.device)
        color = color.view(1, 3, 1, 1) if color.ndim == 1 else color
        if self.light is not None and not glows:
            color = color * self.light
        opaque = torch.ones_like(color[:, :1])
        self.rgba.lerp_(torch.cat([color, opaque], 1).expand(len(self.rgba), 4, 1, 1), cover)


def colors_of(index, table=PALETTE):
    """(n, 1, 1, 1) indices -> (n, 3, 1, 1) colours."""
    return table.to(index.device)[index.flatten()].view(-1, 3, 1, 1)


def shadow(layer, canvas, x, y, wide):
    """A soft ellipse on the ground: what binds an object to the place where it stands."""
    layer.add(0.28 * canvas.ellipse(x, y, wide, 0.018), (0.05, 0.05, 0.12))


def house(s, canvas, light):
    """Walls, plain or brick, a gable roof with eaves, a chimney, a door with a knob, two windows."""
    layer = Layer(len(s.house_x), canvas, light)
    x, y, u = s.house_x, s.house_y, s.house_size
    wall, roof = colors_of(s.house_color), colors_of(s.roof_color)
    left, right, eaves = x - 0.145 * u, x + 0.145 * u, y - 0.20 * u
    shadow(layer, canvas, x, y, 0.175 * u)
    layer.add(canvas.box(x + 0.06 * u, x + 0.105 * u, y - 0.375 * u, y - 0.22 * u), (0.55, 0.30, 0.26))
    layer.add(canvas.box(x + 0.052 * u, x + 0.113 * u, y - 0.39 * u, y - 0.37 * u), (0.38, 0.21, 0.19))
    walls = canvas.box(left, right, eaves, y)
    layer.add(walls, wall)
    row, course = 0.0375 * u, (y - canvas.y) / (0.0375 * u)
    mortar = torch.maximum(canvas.stripes_y(row, 0.0075, y),
                           canvas.inside(_stagger(canvas.x - x, course, 0.075 * u) - 0.0037))
    layer.add(walls * mortar * 0.45 * s.house_brick, 0.55 * wall + 0.20)
    layer.add(canvas.box(right - 0.045 * u, right, eaves, y) * 0.20, (0.0, 0.0, 0.1))
    layer.add(canvas.box(left, right, eaves, eaves + 0.014 * u) * 0.35, (0.0, 0.0, 0.1))
    gable = canvas.wedge(x, y - 0.40 * u, eaves, 0 * u, 0.18 * u)
    layer.add(gable, roof)
    layer.add(gable * canvas.span_y(eaves - 0.022 * u, eaves) * 0.35, 0.4 * roof)
    snowy = (s.season == WINTER).float()
    layer.add(canvas.wedge(x, y - 0.405 * u, y - 0.33 * u, 0.004 * u, 0.072 * u) * snowy, (0.97, 0.98, 1.0))
    layer.add(canvas.box(x - 0.035 * u, x + 0.035 * u, y - 0.125 * u, y), (0.36, 0.22, 0.15))
    layer.add(canvas.circle(x + 0.020 * u, y - 0.06 * u, 0.008 * u), (0.93, 0.80, 0.35))
    _windows(layer, s, canvas, light)
    return layer


def _windows(layer, s, canvas, light):
    """Two windows, white-framed: glass by day, lamplight after it."""
    y, u = s.house_y, s.house_size
    is_day = (s.time == TIMES.index("day")).float()
    glass, lamp = (torch.tensor(color, device=y.device).view(1, 3, 1, 1) for color in (GLASS, LAMP))
    pane = is_day * glass * light + (1 - is_day) * lamp
    for side in (-0.092, 0.092):
        x = s.house_x + side * u
        layer.add(canvas.box(x - 0.036 * u, x + 0.036 * u, y - 0.165 * u, y - 0.085 * u), (0.98, 0.97, 0.94))
        layer.add(canvas.box(x - 0.026 * u, x + 0.026 * u, y - 0.155 * u, y - 0.095 * u), pane, glows=True)


def _stagger(x, course, period):
    """Distance to the nearest upright joint, shifted by half a brick in every other course."""
    shifted = x - period / 2 * (torch.floor(course) % 2)
    return (shifted - period * torch.round(shifted / period)).abs()


def tree(s, canvas, light):
    """Round trees blossom, turn orange and carry snow with the season; pines stay green, dusted in winter."""
    layer = Layer(len(s.tree_x), canvas, light)
    x, y, u = s.tree_x, s.tree_y, s.tree_size
    pine = (s.tree_kind == TREES.index("pine")).float()
    shadow(layer, canvas, x, y, 0.085 * u)
    layer.add(canvas.wedge(x, y - 0.17 * u, y, 0.014 * u, 0.022 * u), WOOD)
    leaves, needles = colors_of(s.season, LEAVES), colors_of(s.season, NEEDLES)
    for dx, dy, radius in ((-0.05, 0.19, 0.072), (0.05, 0.19, 0.072), (0.0, 0.27, 0.088), (0.0, 0.20, 0.08)):
        layer.add(canvas.circle(x + dx * u, y - dy * u, radius * u) * (1 - pine), leaves * 0.92)
    layer.add(canvas.circle(x - 0.022 * u, y - 0.285 * u, 0.052 * u) * (1 - pine) * 0.55, leaves * 0.6 + 0.4)
    layer.add(canvas.circle(x + 0.045 * u, y - 0.165 * u, 0.045 * u) * (1 - pine) * 0.30, leaves * 0.5)
    snowy = pine * (s.season == WINTER).float()
    for top, bottom, wide in ((0.235, 0.06, 0.115), (0.315, 0.145, 0.092), (0.39, 0.235, 0.066)):
        storey = canvas.wedge(x, y - top * u, y - bottom * u, 0 * u, wide * u)
        layer.add(storey * pine, needles * (0.9 + 1.3 * (top - 0.235)))
        snow = canvas.wedge(x, y - top * u, y - (top - 0.05) * u, 0 * u, 0.31 * wide * u)
        layer.add(snow * snowy, (0.95, 0.97, 1.0))
    return layer


def joints(s):
    """The person's skeleton: name -> (x, y), each (n, 1, 1, 1); the pose map draws the same joints."""
    x, y, u = s.person_x, s.person_y, s.person_size
    walking, waving = ((s.person_pose == POSES.index(pose)).float() for pose in ("walking", "waving"))
    return {
        "head": (x, y - 0.205 * u), "neck": (x, y - 0.170 * u), "hip": (x, y - 0.090 * u),
        "left_hand": (x - (0.052 + 0.012 * walking) * u, y - (0.095 + 0.010 * walking) * u),
        "right_hand": (x + (0.052 + 0.018 * waving + 0.012 * walking) * u,
                       y - (0.095 + 0.130 * waving + 0.010 * walking) * u),
        "left_foot": (x - (0.020 + 0.026 * walking) * u, y - 0.008 * u),
        "right_foot": (x + (0.020 + 0.026 * walking) * u, y - 0.008 * u),
    }


def person(s, canvas, light):
    """A head with hair, a jacket whose colour counts, trousers; standing, waving or walking."""
    layer = Layer(len(s.person_x), canvas, light)
    x, y, u = s.person_x, s.person_y, s.person_size
    at, jacket = joints(s), colors_of(s.jacket_color)
    shadow(layer, canvas, x, y, 0.055 * u)
    for foot in ("left_foot", "right_foot"):
        layer.add(canvas.stroke(x + 0.4 * (at[foot][0] - x), at["hip"][1], *at[foot], 0.0165 * u), TROUSERS)
    for side, hand in ((-1, "left_hand"), (1, "right_hand")):
        arm = canvas.stroke(x + side * 0.030 * u, at["neck"][1] + 0.015 * u, *at[hand], 0.0145 * u)
        layer.add(arm, jacket * 0.82)
        layer.add(canvas.circle(*at[hand], 0.0135 * u), SKIN)
    layer.add(canvas.rounded(x - 0.039 * u, x + 0.039 * u, y - 0.176 * u, y - 0.078 * u, 0.018 * u), jacket)
    layer.add(canvas.box(x - 0.004 * u, x + 0.004 * u, y - 0.172 * u, y - 0.08 * u) * 0.4, jacket * 0.4)
    layer.add(canvas.circle(*at["head"], 0.034 * u), SKIN)
    above_brow = canvas.span_y(y - 1, at["head"][1] - 0.008 * u)
    layer.add(canvas.circle(x, at["head"][1] - 0.006 * u, 0.036 * u) * above_brow, HAIR)
    return layer


def car(s, canvas, light):
    """Body, cabin with two windows, wheels with hubs; the headlight is on at night."""
    layer = Layer(len(s.car_x), canvas, light)
    x, y, u = s.car_x, s.car_y, s.car_size
    ahead = (2 * s.car_direction - 1) * u                       # one object size, in the direction of travel
    paint = colors_of(s.car_color)
    shadow(layer, canvas, x, y - 0.004, 0.15 * u)
    cabin = x - 0.012 * ahead
    layer.add(canvas.wedge(cabin, y - 0.150 * u, y - 0.085 * u, 0.052 * u, 0.092 * u), paint * 0.9)
    glass = canvas.wedge(cabin, y - 0.138 * u, y - 0.09 * u, 0.048 * u, 0.078 * u)
    for rear, front in ((-0.066, -0.018), (-0.006, 0.046)):
        ends = x + rear * ahead, x + front * ahead
        layer.add(glass * canvas.span_x(torch.minimum(*ends), torch.maximum(*ends)), GLASS)
    layer.add(canvas.rounded(x - 0.145 * u, x + 0.145 * u, y - 0.095 * u, y - 0.025 * u, 0.024 * u), paint)
    layer.add(canvas.box(x - 0.135 * u, x + 0.135 * u, y - 0.050 * u, y - 0.036 * u) * 0.35, paint * 0.3)
    for side in (-0.082, 0.082):
        layer.add(canvas.circle(x + side * u, y - 0.030 * u, 0.034 * u), TYRE)
        layer.add(canvas.circle(x + side * u, y - 0.030 * u, 0.015 * u), STEEL)
    dark = 0.35 + 0.65 * (s.time == NIGHT).float()
    layer.add(canvas.circle(x + 0.134 * ahead, y - 0.068 * u, 0.014 * u) * dark, LAMP, glows=True)
    return layer


def sign(s, canvas, light):
    """A board on two posts; the writing's dots are 1/64 of the picture, so that 64x64 shows it sharp."""
    layer = Layer(len(s.sign_x), canvas, light)
    x, y = s.sign_x, s.sign_y
    top, bottom = y - 17 * PIXEL, y - 6 * PIXEL
    shadow(layer, canvas, x, y, 0.10)
    for side in (-7, 6):
        layer.add(canvas.box(x + side * PIXEL, x + (side + 1) * PIXEL, bottom, y), WOOD)
    layer.add(canvas.box(x - 11 * PIXEL, x + 11 * PIXEL, top, bottom), WOOD)
    layer.add(canvas.box(x - 10 * PIXEL, x + 10 * PIXEL, top + PIXEL, bottom - PIXEL), BOARD)
    bits, wide = _writing(s.sign_text)
    left = x - torch.div(wide, 2, rounding_mode="floor").view(-1, 1, 1, 1) * PIXEL
    layer.add(canvas.bitmap(bits, left, top + 2 * PIXEL, PIXEL), INK)
    return layer


def _writing(text):
    """(n, 3) character numbers -> the line of text as (n, 8, 24) dots and its width (n,) in dots."""
    blank = torch.zeros(1, 8, 8, dtype=torch.bool)
    alphabet = torch.cat([blank, bitmaps()]).to(text.device)
    advance = torch.cat([torch.zeros(1, dtype=torch.long), widths()]).to(text.device)[text]
    starts = advance.cumsum(1) - advance                                                   # (n, 3)
    line = torch.zeros(len(text), 8, 32, dtype=torch.bool, device=text.device)
    column = starts[:, :, None] + torch.arange(8, device=text.device)                      # (n, 3, 8)
    dots = alphabet[text]                                                                  # (n, 3, 8, 8)
    for place in range(text.shape[1]):
        index = column[:, place, None].expand(-1, 8, -1)
        line |= torch.zeros_like(line).scatter_(2, index, dots[:, place])
    return line[:, :, :24], advance.sum(1) - 1


PAINTERS = {"house": house, "tree": tree, "person": person, "car": car, "sign": sign}
