"""The diffusion transformer: text, pictures and noise are all tokens, and look at each other."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Block, modulated
from .layers import HEAD_DIM, config_from_dict, level_embedding, zero_init
from .rotary import picture_positions, rotary_table, text_positions
from .unet import check_level, check_mask, check_text, masked_mean

STREAMS = {"single": 1, "double": 2}


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a diffusion transformer.

    patch: the side of a token, in latent cells; 16x16 latents are 64 tokens of 2x2, or 256 of 1x1.
    blocks: the stack, from the door to the head: "double" has weights for text and others for pictures,
    "single" the same for all. The last one is single: what a double one makes of the text, nobody reads.
    contexts: the most pictures that may be looked at.
    rotary: how many of a head's channels turn with each of picture, h and w.
    """

    channels: int = 16
    patch: int = 2
    dim: int = 192
    blocks: tuple[str, ...] = ("double",) * 2 + ("single",) * 6
    condition_dim: int = 96
    text_dim: int = 128
    contexts: int = 3
    rotary: tuple[int, ...] = (8, 12, 12)

    def __post_init__(self):
        if self.patch < 1:
            raise ValueError(f"patch = {self.patch}: 1 or more expected")
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim = {self.dim}: a multiple of {HEAD_DIM} expected")
        if self.condition_dim % 2:
            raise ValueError(f"condition_dim = {self.condition_dim}: an even number expected")
        if set(self.blocks) - set(STREAMS) or self.blocks[-1:] != ("single",):
            wanted = f"each of {', '.join(STREAMS)}, and the last single,"
            raise ValueError(f"blocks = {self.blocks}: {wanted} expected")
        if len(self.rotary) != 3 or sum(self.rotary) != HEAD_DIM or any(n % 2 for n in self.rotary):
            wanted = f"three even numbers, for picture, h and w, whose sum is {HEAD_DIM},"
            raise ValueError(f"rotary = {self.rotary}: {wanted} expected")

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


@dataclass(frozen=True)
class Conditions:
    """What a DiT made of a text and context pictures: the same at every step. See DiT.prepare.

    memory: for each block, the keys and values that target tokens look at, (B, heads, M, 32) each.
    visible: (B, 1, 1, M + N) bool, which of these, and of the target's N own, are real.
    pooled: (B, condition_dim), the mean of the text.  size: (H, W) of the target.  rotary: its table.
    """

    memory: list
    visible: torch.Tensor
    pooled: torch.Tensor
    size: tuple[int, int]
    rotary: torch.Tensor

    def repeat(self, times):
        """For `times` draws of noise each, as torch.cat([x_t] * times) has them."""
        memory = [tuple(tensor.repeat(times, 1, 1, 1) for tensor in pair) for pair in self.memory]
        visible, pooled = self.visible.repeat(times, 1, 1, 1), self.pooled.repeat(times, 1)
        return Conditions(memory, visible, pooled, self.size, self.rotary)

    def last(self, n):
        """For the last n of the x_t alone."""
        memory = [tuple(tensor[-n:] for tensor in pair) for pair in self.memory]
        return Conditions(memory, self.visible[-n:], self.pooled[-n:], self.size, self.rotary)


class DiT(nn.Module):
    """A stack of blocks over the tokens of a text, of context pictures, and of the target, which is noisy.

    After Peebles & Xie (2212.09748), with the two kinds of block of FLUX.1 and the positions of FLUX.1
    Kontext (2506.15742). Departure: the target looks at everything, but the conditions only at each other,
    and they are told level 0, since they are clean. So nothing about them changes between steps: they go
    through the stack once, in `prepare`, and steps read their keys and values, as in OminiControl2
    (2503.08280). It does not know what it predicts: training decides.
    """

    def __init__(self, config=DiTConfig()):
        super().__init__()
        self.config = config
        dim, condition_dim, patch = config.dim, config.condition_dim, config.channels * config.patch**2
        self.text_in = nn.Linear(config.text_dim, dim)
        self.picture_in = nn.Linear(patch, dim)
        self.level = nn.Sequential(
            nn.Linear(condition_dim, condition_dim), nn.SiLU(), nn.Linear(condition_dim, condition_dim)
        )
        self.pooled_text = nn.Linear(config.text_dim, condition_dim)
        self.blocks = nn.ModuleList(Block(dim, condition_dim, STREAMS[kind]) for kind in config.blocks)
        self.modulation = zero_init(nn.Linear(condition_dim, 2 * dim))
        self.head = zero_init(nn.Linear(dim, patch))
        self.tables = {}                                                           # see rotary

    def forward(self, x_t, level, text=None, text_mask=None, contexts=(), context_mask=None, conditions=None):
        """Predict from x_t: v, or whatever the training asked for.

        x_t: (B, C, H, W), sides multiples of config.patch.  level: scalar or (B,), 0..1 of the whole.
        text, text_mask, contexts, context_mask: as in `prepare`; or conditions: what it made of them.
        Returns (B, C, H, W) in the dtype of x_t, whatever the weights' is. Raises ValueError for bad shapes.
        """
        check_picture("x_t", x_t, self.config)
        level = torch.as_tensor(level)
        check_level(level, len(x_t))
        if conditions is None:
            conditions = self.prepare(text, text_mask, contexts, x_t.shape[2:], context_mask)
        elif text is not None or contexts:
            raise ValueError("conditions came, and text or contexts, too: only one of the two expected")
        check_prepared(conditions, x_t)
        condition = self.condition(level.to(x_t.device).expand(len(x_t)), conditions.pooled)
        tokens = self.tokens(x_t)                                                  # (B, N, dim)
        for block, memory in zip(self.blocks, conditions.memory, strict=True):
            tokens, _ = block(tokens, 0, condition, conditions.rotary, conditions.visible, memory)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=2)         # (B, 1, dim) each
        patches = self.head(modulated(tokens, shift, scale))                       # (B, N, C patch^2)
        return unpatchify(patches, x_t.shape[2:], self.config.patch).to(x_t.dtype)

    def prepare(self, text, text_mask, contexts, size, context_mask=None):
        """What does not depend on x_t and the level, computed once for all steps: see Conditions.

        text: (B, L, text_dim), text_mask: (B, L) bool, True = a real token.  size: (H, W) of x_t.
        contexts: for each x_t up to config.contexts pictures, clean; a list of (B, C, h, w), of any sizes.
        context_mask: (B, len(contexts)) bool, True = a real picture.  Where a mask is None, all are real.
        """
        check_conditions(self.config, text, text_mask, contexts, context_mask)
        (batch, length), device = text.shape[:2], text.device
        own = self.positions(0, size)
        seen = torch.ones(batch, length + len(contexts) + len(own), dtype=torch.bool, device=device)
        text_mask = seen[:, :length] if text_mask is None else text_mask
        context_mask = seen[:, : len(contexts)] if context_mask is None else context_mask
        text = text.to(self.head.weight.dtype)
        sources = self.sources(text, text_mask, contexts, context_mask)
        tokens, positions, real = (list(parts) for parts in zip(*sources))
        tokens = torch.cat(tokens, dim=1)                                          # (B, M, dim)
        visible = torch.cat([*real, seen[:, -len(own) :]], dim=1)[:, None, None]   # (B, 1, 1, M + N)
        rotary = self.rotary(torch.cat(positions), tokens)
        pooled = self.pooled_text(masked_mean(text, text_mask))
        condition = self.condition(torch.zeros(batch, device=device), pooled)
        memory = []
        for block in self.blocks[:-1]:
            tokens, keys_values = block(tokens, length, condition, rotary, visible[..., : -len(own)])
            memory.append(keys_values)
        _, *last = self.blocks[-1].streams[0].look(tokens, condition, rotary)      # more of it nobody reads
        memory.append(tuple(last))
        return Conditions(memory, visible, pooled, tuple(size), self.rotary(own, tokens))

    def sources(self, text, text_mask, contexts, context_mask):
        """Where the conditions' tokens come from, a list: tokens, positions, and which are real, of each."""
        sources = [(self.text_in(text), text_positions(text.shape[1]), text_mask)]
        for i, picture in enumerate(contexts, 1):
            tokens, real = self.tokens(picture), context_mask[:, i - 1, None]
            sources.append((tokens, self.positions(i, picture.shape[2:]), real.expand(tokens.shape[:2])))
        return sources

    def tokens(self, picture):
        """The tokens of a picture, noisy or clean: (B, C, H, W) -> (B, N, dim)."""
        return self.picture_in(patchify(picture.to(self.head.weight.dtype), self.config.patch))

    def positions(self, i, size):
        """The positions of the tokens of picture i, which is (H, W)."""
        return picture_positions(i, *(side // self.config.patch for side in size))

    def rotary(self, positions, like):
        """The rotary table of positions, where the tokens `like` are, and at least as exact as float32.

        In training it is kept: a pass that is a CUDA graph finds it where it was, and copies nothing.
        """
        exact = torch.promote_types(like.dtype, torch.float32)
        key = tuple(map(tuple, positions.tolist())), exact, like.device
        if key in self.tables:
            return self.tables[key]
        table = rotary_table(positions, self.config.rotary).to(exact)
        table = table.to(like.device, non_blocking=like.is_cuda)                   # no step waits for it
        if self.training:
            self.tables[key] = table
        return table

    def condition(self, level, pooled):
        """What blocks are told: the level, and the mean of the text's tokens -> (B, condition_dim)."""
        code = level_embedding(level, self.config.condition_dim).to(self.head.weight.dtype)
        return F.silu(self.level(code) + pooled)


def patchify(picture, patch):
    """Each patch x patch cells become a token, row by row: (B, C, H, W) -> (B, N, C patch^2)."""
    return F.pixel_unshuffle(picture, patch).flatten(2).transpose(1, 2)


def unpatchify(tokens, size, patch):
    """The inverse of patchify: (B, N, C patch^2), size (H, W) -> (B, C, H, W)."""
    cells = tokens.transpose(1, 2).unflatten(2, [side // patch for side in size])
    return F.pixel_shuffle(cells, patch)


def check_picture(name, picture, config):
    """Raise ValueError unless a picture is (B, C, H, W), with sides that are multiples of the patch."""
    shape, patch = tuple(picture.shape), config.patch
    if len(shape) != 4 or shape[1] != config.channels or any(side % patch or not side for side in shape[2:]):
        wanted = f"(B, {config.channels}, H, W), H and W multiples of {patch}"
        raise ValueError(f"{name} is {shape}: {wanted} expected")


def check_conditions(config, text, text_mask, contexts, context_mask):
    """Raise ValueError, with what was expected and what came, unless the inputs of DiT.prepare fit."""
    check_text(config.text_dim, None if text is None else len(text), text, text_mask)
    batch, count = len(text), len(contexts)
    if count > config.contexts:
        raise ValueError(f"{count} contexts came: at most {config.contexts} expected")
    for i, picture in enumerate(contexts, 1):
        check_picture(f"context {i}", picture, config)
        if len(picture) != batch:
            raise ValueError(f"context {i} has {len(picture)} pictures, text {batch} rows: as many expected")
    check_mask("context_mask", context_mask, (batch, count))


def check_prepared(conditions, x_t):
    """Raise ValueError unless conditions were prepared for as many pictures as x_t has, of their size."""
    wanted = len(conditions.pooled), x_t.shape[1], *conditions.size
    if x_t.shape != wanted:
        raise ValueError(f"x_t is {tuple(x_t.shape)}: {wanted} expected, as text and size were prepared")
