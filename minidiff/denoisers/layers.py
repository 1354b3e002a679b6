"""The parts of the networks: level embedding, residual block, attention, checks of a configuration."""

from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from math import log, sqrt

import torch
import torch.nn.functional as F
from torch import nn

GROUP_WIDTH = 16                                    # narrower groups train 5 times slower in bf16 on a CPU
HEAD_DIM = 32


def config_from_dict(cls, values):
    """The configuration dataclass `cls` from a plain dictionary, as checkpoints have it; lists become tuples.

    Raises ValueError for a key that the dataclass does not have, and for one that it needs.
    """
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        found = f"{cls.__name__} does not know {', '.join(unknown)}"
        raise ValueError(f"{found}: keys {', '.join(known)} expected")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def zero_init(layer):
    """The layer with weights and bias set to 0, so that what it feeds starts as if it were not there."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def level_embedding(level, dim):
    """Sines and cosines of the noise level, from one turn over all levels to one for each thousandth.

    cos(1000 level w_i), sin(1000 level w_i),  w_i = 10000^(-i / (dim / 2)).  After 1706.03762, section 3.5.
    level: (B,) fraction 0..1 of the whole, for DDPM and Flow alike; times 1000 because these frequencies are
    made for positions 0..1000: on 0..1 most of them would never turn.  dim: even.  Returns (B, dim) float32.
    """
    i = torch.arange(dim // 2, device=level.device, dtype=torch.float32)
    angle = 1000 * level.float()[:, None] * torch.exp(-log(10000) * i / (dim // 2))  # (B, dim / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def group_norm(channels):
    """Normalise over groups of 16 channels, then scale and shift each, as learned. Wu & He (1803.08494)."""
    return nn.GroupNorm(channels // GROUP_WIDTH, channels)


class ResBlock(nn.Module):
    """Two 3x3 convolutions beside the identity; the noise level scales and shifts the second norm.

    x + conv2(silu(norm2(conv1(silu(norm1(x)))) (1 + scale) + shift)): AdaGN of Dhariwal & Nichol
    (2105.05233), whose scale is 1 + scale here. The last convolution starts at zero, so the block starts as
    the identity.
    """

    def __init__(self, channels, condition_dim):
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_shift = nn.Linear(condition_dim, 2 * channels)
        self.norm2 = group_norm(channels)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x, condition):
        """x: (B, C, H, W), condition: (B, condition_dim), after its SiLU -> (B, C, H, W)."""
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Multi-head attention from x to a context; with context = x, self-attention.

    softmax(q k^T / sqrt(32)) v, heads of 32 channels.  Vaswani et al. (1706.03762), eq. 1.
    The output layer starts at zero. Written out, since it then trains five times faster on a CPU than fused.
    """

    def __init__(self, dim, context_dim):
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(context_dim, 2 * dim)
        self.out = zero_init(nn.Linear(dim, dim))
        self.adjust = None                                                         # see `adjusted`

    def forward(self, x, context, visible=None):
        """x: (B, N, dim), context: (B, L, context_dim) -> (B, N, dim).

        visible: (B, 1, 1, L) bool, True = may be looked at; where nothing is, all is looked at alike.
        """
        q = self.q(x).unflatten(2, (-1, HEAD_DIM)).transpose(1, 2)                 # (B, heads, N, 32)
        k, v = self.kv(context).unflatten(2, (2, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)  # (B, heads, L, 32)
        scores = q @ (k.transpose(2, 3) / sqrt(HEAD_DIM))                          # (B, heads, N, L)
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = scores.softmax(3)
        if self.adjust is not None:
            weights = self.adjust(weights)
        attended = weights.to(v.dtype) @ v                                         # (B, heads, N, 32)
        return self.out(attended.transpose(1, 2).flatten(2))                       # (B, N, dim)


@contextmanager
def adjusted(network, adjust):
    """Inside, adjust(name, weights) -> weights may change what every PictureAttention of a network looks at.

    name: of the layer, "....look_around" (cells at cells) or "....read_text" (cells at tokens).
    weights: (B, heads, N, L), after the softmax, one row for each of N cells, sums 1.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, PictureAttention)}
    before = {name: layer.attend.adjust for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.attend.adjust = partial(adjust, name)
        yield
    finally:
        for name, layer in layers.items():
            layer.attend.adjust = before[name]


class PictureAttention(nn.Module):
    """The cells of a feature map look at a context: at each other (no text), or at the tokens of a text.

    x + attention(norm(x), context).  The output layer starts at zero, so this starts as the identity.
    """

    def __init__(self, channels, text_dim=None):
        super().__init__()
        self.norm = group_norm(channels)
        self.attend = Attention(channels, text_dim or channels)

    def forward(self, x, text=None, visible=None):
        """x: (B, C, H, W), text: (B, L, text_dim), visible: (B, 1, 1, L) bool -> (B, C, H, W)."""
        cells = self.norm(x).flatten(2).transpose(1, 2)                            # (B, H W, C)
        attended = self.attend(cells, cells if text is None else text, visible)
        return x + attended.transpose(1, 2).unflatten(2, x.shape[2:])
