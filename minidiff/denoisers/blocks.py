"""The blocks of the diffusion transformer: tokens look at each other, then each thinks for itself."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import nn

from .layers import HEAD_DIM, zero_init
from .rotary import rotate

TURN = 1024                                                     # queries at once: all, at 64x64 pixels


class Block(nn.Module):
    """Tokens look at each other, then each thinks for itself; it starts as the identity (adaLN-zero).

    streams: 2, text tokens have weights of their own, as in MM-DiT (2403.03206); 1, all share theirs.
    Departure: FLUX.1's single blocks look and think side by side; here, one after the other, in both kinds,
    since side by side costs small networks some quality (PaLM, 2204.02311).
    """

    def __init__(self, dim, condition_dim, streams):
        super().__init__()
        self.streams = nn.ModuleList(Stream(dim, condition_dim) for _ in range(streams))

    def forward(self, tokens, length, condition, rotary, visible, memory=None):
        """tokens: (B, N, dim), the first `length` of them a text's -> the same shape, and their (k, v).

        condition: (B, condition_dim), after its SiLU.  rotary: the tokens' table.  memory: (k, v) of M other
        tokens to look at, too, (B, heads, M, 32) each.  visible: (B, 1, 1, M + N) bool, True = may be seen.
        """
        ends = (length, tokens.shape[1] - length) if len(self.streams) == 2 else (tokens.shape[1],)
        streams, lengths = zip(*((stream, n) for stream, n in zip(self.streams, ends) if n))
        parts, tables = cut(tokens, lengths), cut(rotary, lengths)
        looks = [stream.look(part, condition, table) for stream, part, table in zip(streams, parts, tables)]
        q, k, v = (torch.cat(same, dim=2) for same in zip(*looks))                 # (B, heads, N, 32) each
        seen = (k, v) if memory is None else [torch.cat(pair, dim=2) for pair in zip(memory, (k, v))]
        attended = cut(attend(q, *seen, visible), lengths)
        updated = [stream.think(part, a, condition) for stream, part, a in zip(streams, parts, attended)]
        return torch.cat(updated, dim=1), (k, v)


def cut(tokens, lengths):
    """Tokens, or their rotary table, cut along axis 1 into parts of these lengths; whole if there is one.

    Parts are contiguous: `compile_repeated` in train/flow.py compiles once for tensors that are no views.
    """
    return [part.contiguous() for part in tokens.split(lengths, dim=1)] if len(lengths) > 1 else [tokens]


class Stream(nn.Module):
    """The weights of one kind of tokens in a block: all but the attention itself works token by token.

    x + gate1 out(attended), then x + gate2 mlp(norm(x) (1 + scale2) + shift2), where attention looks at
    norm(x) (1 + scale1) + shift1, and the condition says each shift, scale and gate: 0 at first, so that
    nothing is added. DiT's adaLN-zero block (2212.09748).
    """

    def __init__(self, dim, condition_dim):
        super().__init__()
        self.modulate_look = zero_init(nn.Linear(condition_dim, 2 * dim))
        self.modulate_think = zero_init(nn.Linear(condition_dim, 4 * dim))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm_q, self.norm_k = RMSNorm(HEAD_DIM), RMSNorm(HEAD_DIM)
        self.out = nn.Linear(dim, dim)
        self.widen = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)

    def look(self, x, condition, rotary):
        """Queries and keys, turned as tokens stand, and values: x (B, N, dim) -> (B, heads, N, 32) each."""
        shift, scale = self.modulate_look(condition)[:, None].chunk(2, dim=2)      # (B, 1, dim) each
        qkv = self.qkv(modulated(x, shift, scale))                                 # (B, N, 3 dim)
        q, k, v = qkv.unflatten(2, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return rotate(self.norm_q(q), rotary), rotate(self.norm_k(k), rotary), v

    def think(self, x, attended, condition):
        """Take in what the tokens saw, and work it over: (B, N, dim) twice -> (B, N, dim)."""
        gate1, shift, scale, gate2 = self.modulate_think(condition)[:, None].chunk(4, dim=2)
        x = x + gate1 * self.out(attended)
        return x + gate2 * self.narrow(F.gelu(self.widen(modulated(x, shift, scale))))


class RMSNorm(nn.Module):
    """Queries and keys of one length, so that no score explodes: x / sqrt(mean(x^2)), scaled as learned.

    Zhang & Sennrich (1910.07467); on queries and keys as in FLUX.1.
    """

    def __init__(self, dim):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        """x: (..., dim) -> the same shape."""
        return F.rms_norm(x, x.shape[-1:], self.scale.to(x.dtype), eps=1e-6)


def modulated(x, shift, scale):
    """norm(x) (1 + scale) + shift, the norm over a token's channels: (B, N, dim), (B, 1, dim) twice."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[2:]), 1 + scale)


def attend(q, k, v, visible):
    """softmax(q k^T / sqrt(32)) v over what is visible, heads side by side: (B, heads, N, 32) -> (B, N, dim).

    Fused on CUDA. Else written out, as layers.Attention: on a CPU a whole training step is then 1.5 times
    faster; and large pictures take their queries in turns, or all scores at once would fill the memory.
    """
    if q.is_cuda:
        return attend_fused(q, k, v, visible)
    keys, attended = k.transpose(2, 3) / sqrt(HEAD_DIM), []
    for turn in q.split(TURN, dim=2):
        scores = turn @ keys                                                       # (B, heads, TURN, M)
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(3)
        attended.append(weights.to(v.dtype) @ v)
    return torch.cat(attended, dim=2).transpose(1, 2).flatten(2)


def attend_fused(q, k, v, visible):
    """The same as `attend`, shapes too, by one kernel. The copy is there for the same reason as in `cut`.

    A query that may see nothing looks at everything; nobody reads such a token. Else, where keys number 64
    more than a multiple of 128, cuDNN makes NaN of its gradient, since the logarithm of its sum of weights is
    below -88 (PyTorch's issue 196678). No other score is as low: queries and keys have one length.
    """
    visible = visible | ~visible.any(3, keepdim=True)
    attended = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, visible)
    return attended.transpose(1, 2).flatten(2).clone()
