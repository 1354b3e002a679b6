"""The U-Net: a noisy picture, its noise level and a text go in, a prediction of the same size comes out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .layers import (
    GROUP_WIDTH,
    HEAD_DIM,
    PictureAttention,
    ResBlock,
    config_from_dict,
    group_norm,
    level_embedding,
    zero_init,
)


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net.

    size: of the training pictures.  extra_channels: more input channels (a mask, a picture), zero at first.
    channels: one width a resolution; a 64x64 picture has 32x32, 16x16 and 8x8 cells.
    blocks: residual blocks a resolution, on the way down and again on the way up.
    text_dim: channels of a text token, 0 = a network that reads no text.
    """

    size: int = 64
    picture_channels: int = 3
    extra_channels: int = 0
    channels: tuple[int, ...] = (64, 128, 192)
    blocks: tuple[int, ...] = (1, 1, 2)
    condition_dim: int = 192
    text_dim: int = 128

    def __post_init__(self):
        first, *others = self.channels
        if first % GROUP_WIDTH or any(width % HEAD_DIM for width in others):
            wanted = f"a multiple of {GROUP_WIDTH}, then of {HEAD_DIM}"
            raise ValueError(f"channels = {self.channels}: {wanted} expected")
        if len(self.blocks) != len(self.channels):
            wanted = f"one number for each of channels = {self.channels}"
            raise ValueError(f"blocks = {self.blocks}: {wanted} expected")
        if self.condition_dim % 2:
            raise ValueError(f"condition_dim = {self.condition_dim}: an even number expected")
        if self.size % self.multiple:
            raise ValueError(f"size = {self.size}: a multiple of {self.multiple} expected")

    @property
    def multiple(self):
        """The sides of a picture are multiples of this, since each resolution halves them."""
        return 2 ** len(self.channels)

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


class UNet(nn.Module):
    """Down to coarse cells, where attention sees the whole picture and the text, and up again to the details.

    After Ho et al. (2006.11239), appendix B. Departures, for two CPU cores: pixels enter as 2 x 2 patches;
    what comes up is *added* to what went down (not concatenated), once a resolution; cells look at each other
    only where they are coarsest. It does not know what it predicts: training decides.
    """

    def __init__(self, config=UNetConfig()):
        super().__init__()
        self.config = config
        c, dim = config.channels, config.condition_dim
        patch = 4                                                                  # pixels of a 2 x 2 patch
        self.stem = nn.Conv2d(patch * config.picture_channels, c[0], 3, padding=1)
        if config.extra_channels:
            self.stem_extra = zero_init(nn.Conv2d(patch * config.extra_channels, c[0], 3, padding=1))
        self.level = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        if config.text_dim:
            self.pooled_text = nn.Linear(config.text_dim, dim)
        self.down = nn.ModuleList(Stage(config, i) for i in range(len(c)))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(c, c[1:]))
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(c, c[1:]))
        self.up = nn.ModuleList(Stage(config, i) for i in range(len(c) - 1))
        self.norm = group_norm(c[0])
        self.head = zero_init(nn.Conv2d(c[0], patch * config.picture_channels, 3, padding=1))

    def forward(self, x_t, level, text=None, text_mask=None, extra=None, added=None):
        """Predict from x_t: eps, x0 or v, whichever the training asked for.

        x_t: (B, C, H, W), sides multiples of config.multiple.  level: scalar or (B,), 0..1 of the whole.
        text: (B, L, text_dim), text_mask: (B, L) bool, True = a real token; without it, all are.
        extra: (B, extra_channels, H, W).  added: one tensor a resolution, finest first, from a control branch
        (controlnet.py), to be added to what goes down, before it comes up again.
        Returns (B, C, H, W) in the dtype of x_t, whatever the weights' is. Raises ValueError for bad shapes.
        """
        condition, text, visible, h = self.enter(x_t, level, text, text_mask, extra)
        *skips, h = self.descend(h, condition, text, visible)                      # h: (B, c2, H/8, W/8)
        if added is not None:
            *skips, h = [own + more for own, more in zip([*skips, h], added, strict=True)]
        for stage, grow in zip(reversed(self.up), reversed(self.grow)):
            h = F.pixel_shuffle(grow(h), 2) + skips.pop()
            h = stage(h, condition, text, visible)
        h = self.head(F.silu(self.norm(h)))                                        # (B, 4 C, H/2, W/2)
        return F.pixel_shuffle(h, 2).to(x_t.dtype)                                 # (B, C, H, W)

    def look(self, x_t, level, text=None, text_mask=None, extra=None):
        """Only the way down: what each resolution makes of x_t, (B, channels[i], ...), finest first."""
        condition, text, visible, h = self.enter(x_t, level, text, text_mask, extra)
        return self.descend(h, condition, text, visible)

    def enter(self, x_t, level, text, text_mask, extra):
        """Check the inputs; what all blocks are told, and the finest cells, (B, c0, H/2, W/2)."""
        level = torch.as_tensor(level)
        check_inputs(self.config, x_t, level, text, text_mask, extra)
        dtype = self.stem.weight.dtype
        text = None if text is None else text.to(dtype)
        visible = None if text_mask is None else text_mask[:, None, None, :]       # (B, 1, 1, L)
        level = level.to(x_t.device).expand(len(x_t))
        h = self.stem(patches(x_t, dtype))
        if extra is not None:
            h = h + self.stem_extra(patches(extra, dtype))
        return self.condition(level, text, text_mask), text, visible, h

    def descend(self, h, condition, text, visible):
        """The way down, from the finest cells: as `look`."""
        found = []
        for stage, shrink in zip(self.down, [*self.shrink, None]):
            h = stage(h, condition, text, visible)
            found.append(h)
            h = h if shrink is None else shrink(h)
        return found

    def condition(self, level, text, text_mask):
        """What residual blocks are told: the level, and the mean of the real tokens -> (B, condition_dim)."""
        dim, dtype = self.config.condition_dim, self.stem.weight.dtype
        condition = self.level(level_embedding(level, dim).to(dtype))
        if text is not None:
            condition = condition + self.pooled_text(masked_mean(text, text_mask))
        return F.silu(condition)


class Stage(nn.Module):
    """One resolution: a look at all cells (if coarsest) and at the text (if not finest), residual blocks."""

    def __init__(self, config, i):
        super().__init__()
        width, last = config.channels[i], len(config.channels) - 1
        self.look_around = PictureAttention(width) if i == last else None
        self.read_text = PictureAttention(width, config.text_dim) if i > 0 and config.text_dim else None
        self.blocks = nn.ModuleList(ResBlock(width, config.condition_dim) for _ in range(config.blocks[i]))

    def forward(self, h, condition, text, visible):
        """h: (B, width, H, W) -> the same shape; the others as in UNet and PictureAttention."""
        if self.look_around is not None:
            h = self.look_around(h)
        if self.read_text is not None:
            h = self.read_text(h, text, visible)
        for block in self.blocks:
            h = block(h, condition)
        return h


def patches(x, dtype):
    """2 x 2 pixels become one cell's channels: (B, C, H, W) -> (B, 4 C, H/2, W/2), channels last."""
    return F.pixel_unshuffle(x.to(dtype), 2).contiguous(memory_format=torch.channels_last)


def masked_mean(text, text_mask):
    """The mean of the real tokens: (B, L, D), (B, L) bool or None -> (B, D); zero where no token is real."""
    if text_mask is None:
        return text.mean(1)
    real = text_mask[:, :, None].to(text.dtype)                                    # (B, L, 1)
    return (text * real).sum(1) / real.sum(1).clamp(min=1)


def check_inputs(config, x_t, level, text, text_mask, extra):
    """Raise ValueError, with what was expected and what came, unless the inputs of UNet.forward fit."""
    channels, multiple = config.picture_channels, config.multiple
    if x_t.ndim != 4 or x_t.shape[1] != channels or x_t.shape[2] % multiple or x_t.shape[3] % multiple:
        wanted = f"(B, {channels}, H, W), H and W multiples of {multiple}"
        raise ValueError(f"x_t is {tuple(x_t.shape)}: {wanted} expected")
    batch = len(x_t)
    check_level(level, batch)
    check_text(config.text_dim, batch, text, text_mask)
    wanted = (batch, config.extra_channels, *x_t.shape[2:]) if config.extra_channels else None
    came = None if extra is None else tuple(extra.shape)
    if came != wanted:
        because = f"since extra_channels = {config.extra_channels}"
        raise ValueError(f"extra is {came}: {wanted} expected, {because}")


def check_level(level, batch):
    """Raise ValueError unless the level is one, or one for each of a batch, and a fraction 0..1."""
    if level.shape not in ((), (1,), (batch,)):
        found = f"level is {tuple(level.shape)}, x_t has {batch} pictures"
        raise ValueError(f"{found}: a scalar or ({batch},) expected")
    if level.device.type == "cpu" and not ((level >= 0) & (level <= 1)).all():     # on a GPU: costs a wait
        raise ValueError(f"level = {level.tolist()}: a fraction 0..1 of the whole expected, see fraction(t)")


def check_text(text_dim, batch, text, text_mask):
    """Raise ValueError unless the text is there just if the network reads one, in shape, with its mask."""
    if text_dim == 0 and text is not None:
        raise ValueError("text came, but this network reads none (text_dim = 0): None expected")
    if text_dim and text is None:
        raise ValueError(f'no text came: (B, L, {text_dim}) expected; without a caption, the encoding of ""')
    if text_dim and (text.ndim != 3 or len(text) != batch or text.shape[2] != text_dim):
        raise ValueError(f"text is {tuple(text.shape)}: ({batch}, L, {text_dim}) expected")
    check_mask("text_mask", text_mask, None if text is None else tuple(text.shape[:2]))


def check_mask(name, mask, wanted):
    """Raise ValueError unless a mask is bool, of the shape `wanted`; None = there is no mask."""
    if mask is not None and (mask.shape != wanted or mask.dtype != torch.bool):
        raise ValueError(f"{name} is {mask.dtype}, {tuple(mask.shape)}: bool, {wanted} expected")
