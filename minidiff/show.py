"""Pictures to look at: labelled grids, film strips and GIFs, masks laid over pictures, plain charts.

Pictures come in as x0, float (B, C, H, W) in [-1, 1], C = 1 or 3. PIL pictures and figures come out.
"""

from io import BytesIO

import torch
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours: the colour-blind can tell them apart.
BLUE, ORANGE, GREEN, VERMILION, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
INK, GAP, FONT_SIZE = "#333333", 4, 12
STRIPES = (0.80, 0.25, -1.0), (1.0, 0.85, 0.6)                  # orange and pale orange, as x0


def grid(pictures, columns=None, scale=2, rows=(), titles=()):
    """Pictures side by side, enlarged without blur, as one PIL picture.

    pictures: (B, C, H, W), or a list of such, one after the other.  columns: all in one row unless given.
    rows, titles: labels at the left and on top.  Raises ValueError for pictures of several sizes.
    """
    parts = [pictures] if isinstance(pictures, torch.Tensor) else list(pictures)
    sizes = {tuple(part.shape[2:]) for part in parts}
    if len(sizes) != 1:
        raise ValueError(f"pictures are {sorted(sizes)}: (B, C, H, W) of one height and width expected")
    tiles = [tile for part in parts for tile in enlarged(part, scale)]
    columns = columns or len(tiles)
    font = ImageFont.load_default(FONT_SIZE)
    left = max([round(font.getlength(label)) + 2 * GAP for label in rows], default=0)
    top = FONT_SIZE + 2 * GAP if titles else 0
    across, down = tiles[0].width + GAP, tiles[0].height + GAP
    lines = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (left + columns * across - GAP, top + lines * down - GAP), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (left + i % columns * across, top + i // columns * down))
    draw, middle = ImageDraw.Draw(sheet), (tiles[0].width / 2, tiles[0].height / 2)
    for i, label in enumerate(titles):
        draw.text((left + i * across + middle[0], GAP), label, fill=INK, font=font, anchor="mt")
    for i, label in enumerate(rows):
        draw.text((left - GAP, top + i * down + middle[1]), label, fill=INK, font=font, anchor="rm")
    return sheet


def enlarged(pictures, scale):
    """(B, C, H, W) -> B PIL pictures, every pixel a square of `scale` pixels."""
    pixels = ((pictures.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)                          # (B, H, W, 3)
    pixels = pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return [Image.fromarray(tile.numpy()) for tile in pixels]


def film_strip(states, count=8, scale=2):
    """`count` moments of a walk, evenly spread, its ends included: x above, x0_hat below.

    states: a list of State, as from `sample` or `repaint`, of which the first picture of the batch is shown.
    """
    chosen = [states[i * (len(states) - 1) // max(count - 1, 1)] for i in range(count)]
    frames = [state.x[:1] for state in chosen] + [state.x0_hat[:1] for state in chosen]
    return grid(frames, count, scale, rows=("x", "x0_hat"), titles=[f"t = {state.t:.3g}" for state in chosen])


def gif(states, scale=3, milliseconds=80):
    """A walk as the bytes of an endless GIF, x beside x0_hat, which rests on its last frame.

    states: as for film_strip.  milliseconds: between frames.
    """
    frames = [grid([state.x[:1], state.x0_hat[:1]], scale=scale) for state in states]
    pauses, buffer = [milliseconds] * (len(frames) - 1) + [2500], BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    return buffer.getvalue()


def overlay(pictures, edit_mask):
    """Pictures, orange stripes where they may change: (B, 3, H, W).  edit_mask: bool (B or 1, 1, H, W)."""
    height, width = pictures.shape[2:]
    stripe = (torch.arange(height)[:, None] + torch.arange(width)) % 6 < 3             # (H, W)
    dark, pale = (torch.tensor(colour).view(1, 3, 1, 1) for colour in STRIPES)
    return torch.where(edit_mask.cpu(), torch.where(stripe, dark, pale), pictures.float().cpu())


def chart(columns=1, width=4.2, height=2.8, **labels):
    """`columns` empty charts in a row: (figure, list of axes).  labels: as for matplotlib's Axes.set."""
    import matplotlib.pyplot as plt  # only charts need it, and it is slow to load

    size = width * columns, height
    figure, axes = plt.subplots(1, columns, figsize=size, dpi=80, layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set(**labels)
    return figure, list(axes[0])
