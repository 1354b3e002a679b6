"""What stands behind the objects: sky, sun or moon, stars, clouds, hills, ground, fence and road."""

import torch

from minidiff.toytown.objects import NIGHT, WINTER, Layer, colors_of
from minidiff.toytown.scene import TIMES

LIGHT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.83, 0.74], [0.54, 0.57, 0.80]])             # by time of day
ZENITH = torch.tensor([[0.33, 0.63, 0.93], [0.38, 0.33, 0.62], [0.03, 0.05, 0.17]])
SKYLINE = torch.tensor([[0.84, 0.94, 1.0], [1.0, 0.70, 0.47], [0.17, 0.22, 0.45]])
GRASS = torch.tensor([[0.53, 0.79, 0.36], [0.36, 0.66, 0.28], [0.79, 0.60, 0.27], [0.93, 0.95, 0.99]])
HILLS = torch.tensor([[0.45, 0.70, 0.42], [0.29, 0.55, 0.34], [0.69, 0.46, 0.25], [0.76, 0.82, 0.92]])
SPECKS = torch.tensor([[0.98, 0.72, 0.80], [0.27, 0.55, 0.22], [0.87, 0.38, 0.15], [0.80, 0.85, 0.95]])
ROAD_TOP, ROAD_BOTTOM, ROAD_MIDDLE, KERB = 0.80, 0.97, 0.885, 0.014
FENCE_FOOT = 0.075
DUSK = TIMES.index("dusk")

# fixed stars and snowflakes (x, y, radius): another sky in each scene would be noise to be learned by heart
STARS = tuple((0.067 + (i * 0.618034) % 1.0 * 0.9, 0.03 + (i * 0.381966 + 0.13 * (i % 3)) % 1.0 * 0.40,
               0.005 + 0.003 * (i % 2)) for i in range(14))
FLAKES = tuple(((0.05 + i * 0.618034) % 1.0, (0.08 + i * 0.2764) % 0.56, 0.0085) for i in range(12))


def paint_backdrop(s, canvas):
    """The scene without its objects, (n, 4, H, W) opaque, and the colour of its light (n, 3, 1, 1)."""
    light = colors_of(s.time, LIGHT)
    layer = Layer(len(s.time), canvas, light)
    paint_sky(layer, s, canvas)
    paint_hills(layer, s, canvas)
    paint_ground(layer, s, canvas)
    paint_fence(layer, s, canvas)
    paint_road(layer, s, canvas)
    return layer.rgba, light


def paint_sky(layer, s, canvas):
    """A gradient, stars at night, sun or moon with a glow, a pair of clouds."""
    night, dusk = (s.time == NIGHT).float(), (s.time == DUSK).float()
    layer.add(torch.ones_like(canvas.y), colors_of(s.time, ZENITH), glows=True)
    layer.add((canvas.y / s.horizon).clamp(0, 1) ** (1 + dusk), colors_of(s.time, SKYLINE), glows=True)
    stars = sum(canvas.circle(*star) for star in STARS)
    layer.add(stars.clamp(max=1) * night, (0.96, 0.96, 1.0), glows=True)
    x, y = s.sun_x, s.sun_y + 0.14 * dusk
    disc = colors_of(s.time, torch.tensor([[1.0, 0.89, 0.36], [1.0, 0.49, 0.28], [0.95, 0.94, 0.86]]))
    away = torch.hypot(canvas.x - x, canvas.y - y)
    layer.add((1 - away / 0.24).clamp(min=0) ** 2 * (0.55 - 0.25 * night), disc, glows=True)
    layer.add(canvas.inside(away - 0.062 - 0.014 * dusk), disc, glows=True)
    layer.add(canvas.circle(x + 0.020, y - 0.014, 0.014) * night, (0.80, 0.80, 0.76), glows=True)
    layer.add(canvas.circle(x - 0.022, y + 0.018, 0.010) * night, (0.80, 0.80, 0.76), glows=True)
    cloud = colors_of(s.time, torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.82, 0.76], [0.20, 0.24, 0.42]]))
    for shift, height, size in ((0.0, 0.13, 1.0), (0.55, 0.30, 0.75)):
        middle = (s.cloud_x + shift) % 1.0
        puffs = [canvas.ellipse(middle + dx * size, height + dy * size, wide * size, 0.030 * size)
                 for dx, dy, wide in ((-0.055, 0.012, 0.05), (0.0, -0.006, 0.062), (0.06, 0.012, 0.045))]
        layer.add(0.85 * puffs[0].maximum(puffs[1]).maximum(puffs[2]), cloud, glows=True)


def paint_hills(layer, s, canvas):
    """Two ranges of rolling hills, the far one paler."""
    hills = colors_of(s.season, HILLS)
    for cover, pale in zip(hill_covers(s, canvas), (0.35, 0.0), strict=True):
        layer.add(cover, hills * (1 - pale) + pale * colors_of(s.time, SKYLINE))


def hill_covers(s, canvas):
    """The far range and the near one, down to the picture's lower edge; the ground is painted over them."""
    for share, phase in ((1.0, 0.0), (0.55, 0.37)):
        turn = 2 * torch.pi * (canvas.x * 1.1 + s.hill_phase + phase)
        wave = 0.75 + 0.55 * torch.sin(turn) + 0.20 * torch.sin(2.3 * turn + 1.7)
        ridge = s.horizon - share * s.hill_height * wave
        yield canvas.inside(ridge - canvas.y)


def paint_ground(layer, s, canvas):
    """Ground in the season's colour, lighter towards the horizon, with flowers, tufts, leaves or glitter."""
    grass = colors_of(s.season, GRASS)
    ground = canvas.span_y(s.horizon, 9.0)
    layer.add(ground, grass)
    layer.add(ground * ((canvas.y - s.horizon) / 0.5).clamp(0, 1) * 0.35, grass * 0.62)
    column, row = canvas.x / 0.13, (canvas.y - 0.61) / 0.055
    across = (column - 0.5 * (torch.floor(row) % 2)) % 1 - 0.5
    specks = canvas.inside(torch.hypot(across * 0.13, (row % 1 - 0.5) * 0.055) - 0.0085)
    layer.add(specks * (canvas.y > 0.61) * (canvas.y < 1.0) * 0.9, colors_of(s.season, SPECKS))
    flakes = sum(canvas.circle(*flake) for flake in FLAKES)
    layer.add(flakes.clamp(max=1) * (s.season == WINTER) * 0.9, (1.0, 1.0, 1.0), glows=True)


def paint_fence(layer, s, canvas):
    """A white picket fence along the whole meadow."""
    layer.add(fence_cover(s, canvas) * s.fence, (0.90, 0.88, 0.84))


def fence_cover(s, canvas):
    """Two rails and a picket every 3/64, FENCE_FOOT below the horizon."""
    foot = s.horizon + FENCE_FOOT
    period = 3 / 64
    pickets = canvas.stripes_x(period, period / 2.2, period / 2) * canvas.span_y(foot - 0.085, foot)
    rails = canvas.span_y(foot - 0.068, foot - 0.054) + canvas.span_y(foot - 0.030, foot - 0.016)
    return torch.maximum(pickets, rails.expand_as(pickets))


def paint_road(layer, s, canvas):
    """Asphalt with kerbs and a broken white line in the middle."""
    layer.add(road_cover(canvas), (0.72, 0.71, 0.69))
    layer.add(canvas.span_y(ROAD_TOP, ROAD_BOTTOM), (0.37, 0.38, 0.41))
    line = canvas.span_y(ROAD_MIDDLE - 0.008, ROAD_MIDDLE + 0.008)
    layer.add(canvas.stripes_x(8 / 64, 4 / 64, 4 / 64) * line, (0.93, 0.92, 0.86))


def road_cover(canvas):
    """The road with its kerbs."""
    return canvas.span_y(ROAD_TOP - KERB, ROAD_BOTTOM + KERB)
