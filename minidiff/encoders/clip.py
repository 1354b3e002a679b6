"""CLIP in miniature: pictures and captions become points of one space, near where they belong together.

In such a space InstructPix2Pix judged the pairs of pictures that it learnt from: are the two pictures alike,
does each show its caption, and does the picture change as its caption does?
"""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoint import fill, fitting, load_weights
from ..denoisers.layers import GROUP_WIDTH, config_from_dict, group_norm, zero_init
from ..denoisers.unet import masked_mean, patches
from .text import TextConfig, TextEncoder

FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100                     # CLIP's, of one over its temperature
LEAST_IMAGE, LEAST_DIRECTION, LEAST_CAPTION = 0.7, 0.2, 0.2    # defaults of InstructPix2Pix's own code
UNMOVED = 1e-4                                                 # a shorter way is rounding: no direction


@dataclass(frozen=True)
class CLIPConfig:
    """The shape of the two towers.

    text: of the text encoder.  size: of the pictures, in pixels.  dim: of the shared space.
    channels: one width a resolution; a 64x64 picture has 32x32, 16x16, 8x8 and 4x4 cells.
    cell: channels that each of the coarsest cells hands over; all of them, side by side, keep what is where.
    """

    text: TextConfig
    size: int = 64
    dim: int = 128
    channels: tuple[int, ...] = (32, 64, 96, 96)
    cell: int = 32

    def __post_init__(self):
        if any(width % GROUP_WIDTH for width in self.channels):
            raise ValueError(f"channels = {self.channels}: multiples of {GROUP_WIDTH} expected")
        if self.size % (multiple := 2 ** len(self.channels)):
            raise ValueError(f"size = {self.size}: a multiple of {multiple} expected")

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        if isinstance(values.get("text"), dict):
            values = {**values, "text": TextConfig.from_dict(values["text"])}
        return config_from_dict(cls, values)


class CLIP(nn.Module):
    """Two towers that meet: Radford et al. (2103.00020), with small networks, for 64x64 pictures.

    The cosine of a picture's and a caption's features says how well they fit: 1 at best, -1 at worst.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.picture = PictureTower(config)
        self.text = TextEncoder(config.text)
        nn.init.normal_(self.text.token.weight, std=0.1)       # louder than places: captions start apart
        self.text_out = nn.Linear(config.text.dim, config.dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(log(FIRST_SCALE)))

    @classmethod
    def load(cls, name_or_path="town-clip", device="cpu"):
        """The network of weights, by name in data/weights or by path.

        Raises CheckpointError for files that are missing, damaged or do not fit.
        """
        tensors, entry = load_weights(name_or_path)
        with fitting(name_or_path):
            network = cls(CLIPConfig.from_dict(entry["config"]["clip"]))
        fill(network, tensors, name_or_path)
        return network.to(device).eval().requires_grad_(False)

    @property
    def scale(self):
        """One over the temperature: learned, at most 100, lest a few hard pairs be all that counts."""
        return self.log_scale.clamp(max=log(LARGEST_SCALE)).exp()

    def image_features(self, x0):
        """Pictures (B, 3, size, size) -> (B, dim) float32, of length 1. Raises ValueError if not such."""
        expected = (3, self.config.size, self.config.size)
        if x0.shape[1:] != expected:
            raise ValueError(f"pictures are {tuple(x0.shape)}: (B, {', '.join(map(str, expected))}) expected")
        return F.normalize(self.picture(x0).float(), dim=1)

    def text_features(self, texts):
        """A list of B strings -> (B, dim) float32, of length 1. Raises ValueError as TextEncoder.tokenize."""
        return self.token_features(self.text.tokenize(texts).to(self.log_scale.device))

    def token_features(self, tokens):
        """As text_features, from (B, L) token numbers: their mean, once they know each other."""
        return F.normalize(self.text_out(masked_mean(*self.text(tokens))).float(), dim=1)

    def forward(self, x0, tokens):
        """The contrastive loss of each picture (B, 3, size, size) with its caption (B, L): (B,)."""
        same = (tokens[:, None] == tokens).all(2)                                  # (B, B)
        return contrastive_loss(self.image_features(x0), self.token_features(tokens), self.scale, same)

    @torch.no_grad()
    def image_similarity(self, a, b):
        """How alike are two pictures? The cosine of their features: (B, 3, size, size) twice -> (B,)."""
        return F.cosine_similarity(self.image_features(a), self.image_features(b))

    @torch.no_grad()
    def caption_similarity(self, image, caption):
        """How well do pictures show their captions? (B, 3, size, size), B strings -> cosines (B,)."""
        return F.cosine_similarity(self.image_features(image), self.text_features(caption))

    @torch.no_grad()
    def direction_similarity(self, image_before, image_after, caption_before, caption_after):
        """Does a picture change the way its caption does? The cosine of the two differences of features.

        cos(I_after - I_before, T_after - T_before), 0 where the picture or its caption stays as it is.
        Gal et al. (2108.00946); the horizontal axis of InstructPix2Pix, figure 8.
        image_*: (B, 3, size, size).  caption_*: B strings.  Returns (B,).
        """
        before, after = self.text_features([*caption_before, *caption_after]).chunk(2)
        image_way = self.image_features(image_after) - self.image_features(image_before)
        return cosine_of_ways(image_way, after - before)


class PictureTower(nn.Module):
    """Residual blocks at halved and halved resolutions, down to a grid of cells that is read as one list.

    CLIP's own networks attend to the cells; here, where captions tell left from right, each cell has its own
    weights.
    """

    def __init__(self, config):
        super().__init__()
        c = config.channels
        self.stem = nn.Conv2d(4 * 3, c[0], 3, padding=1)                           # 2 x 2 pixels a cell
        self.blocks = nn.ModuleList(Block(width) for width in c)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(c, c[1:]))
        self.norm = group_norm(c[-1])
        self.narrow = nn.Conv2d(c[-1], config.cell, 1)
        side = config.size // 2 ** len(c)
        self.out = nn.Linear(config.cell * side**2, config.dim, bias=False)

    def forward(self, x0):
        """x0: (B, 3, size, size) -> (B, dim)."""
        h = self.stem(patches(x0, self.stem.weight.dtype))
        for block, shrink in zip(self.blocks, [*self.shrink, nn.Identity()]):
            h = shrink(block(h))
        h = self.narrow(F.silu(self.norm(h)))                                      # (B, cell, 4, 4)
        return self.out(F.silu(h).flatten(1))                                      # (B, dim)


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, and the identity alone at first: a ResBlock without level."""

    def __init__(self, channels):
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


def contrastive_loss(image, text, scale, same):
    """How badly each of B pairs finds its other half among all B: symmetric InfoNCE. CLIP, figure 3.

    Half of  -log softmax_j(scale image_i . text_j) at j = i,  half of the same with image and text exchanged.
    A second caption with the same words is right, too: it is left out of the choice, and so is its picture.
    image, text: (B, D), of length 1.  scale: one over the temperature.  same: bool (B, B), True where the
    captions i and j are the same.  Returns (B,); log B is chance.
    """
    with torch.autocast(image.device.type, enabled=False):     # bf16 has three digits: too few, times 100
        logits = scale * image @ text.T                                            # (B, B)
    right = torch.arange(len(logits), device=logits.device)
    twins = same & (right[:, None] != right)
    logits = logits.masked_fill(twins, -torch.inf)
    from_image, from_text = (F.cross_entropy(rows, right, reduction="none") for rows in (logits, logits.T))
    return (from_image + from_text) / 2


def cosine_of_ways(a, b):
    """The cosine of differences of features, (B, D) twice -> (B,); 0 where one of them goes nowhere."""
    moved = (a.norm(dim=1) > UNMOVED) & (b.norm(dim=1) > UNMOVED)
    return torch.where(moved, F.cosine_similarity(a, b), 0)


def keep_pair(image_similarity, direction, caption_before, caption_after, *, least_image=LEAST_IMAGE,
              least_direction=LEAST_DIRECTION, least_caption=LEAST_CAPTION):
    """The filter of InstructPix2Pix (2211.09800, section 3.1.2): which pairs are fit to learn from?

    Those whose pictures are alike, change as their captions do, and both show their captions.
    image_similarity, direction, caption_before, caption_after: (B,) cosines.  Returns bool (B,).
    """
    shown = torch.minimum(caption_before, caption_after) >= least_caption
    return (image_similarity >= least_image) & (direction >= least_direction) & shown
