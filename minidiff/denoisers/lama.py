"""LaMa: a picture with a hole goes in, a whole one comes out, in one pass. Suvorov et al., 2109.07161."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .layers import GROUP_WIDTH, config_from_dict, group_norm, zero_init
from .unet import patches


@dataclass(frozen=True)
class LaMaConfig:
    """The shape of a LaMa.

    size: of the training pictures.  channels: one width a resolution; a 64x64 picture has 32x32 and 16x16
    cells.  blocks: all of them where the cells are coarsest.  global_share: of their channels, how many see
    the whole picture at once; 0 = no global path.
    """

    size: int = 64
    channels: tuple[int, ...] = (64, 128)
    blocks: int = 4
    global_share: float = 0.75

    def __post_init__(self):
        if any(width % GROUP_WIDTH for width in self.channels):
            raise ValueError(f"channels = {self.channels}: multiples of {GROUP_WIDTH} expected")
        part, whole, multiple = self.global_channels, self.channels[-1], 2 * GROUP_WIDTH
        if part % multiple or not 0 <= part < whole:
            found = f"global_share = {self.global_share}: {part} of {whole} channels"
            raise ValueError(f"{found}, a multiple of {multiple} and fewer than all expected")
        if self.blocks < 1:
            raise ValueError(f"blocks = {self.blocks}: at least 1 expected")
        if self.size % self.multiple:
            raise ValueError(f"size = {self.size}: a multiple of {self.multiple} expected")

    @property
    def global_channels(self):
        """How many of the coarsest cells' channels are global."""
        return round(self.global_share * self.channels[-1])

    @property
    def multiple(self):
        """The sides of a picture are multiples of this, since each resolution halves them."""
        return 2 ** len(self.channels)

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


class LaMa(nn.Module):
    """Down to coarse cells, through blocks that see the whole picture, and up again to the details.

    Departures: pixels enter as 2 x 2 patches, and what went down is added to what comes up, as in the U-Net;
    norm and ReLU stand before a convolution, so that blocks start as the identity; GroupNorm replaces batch
    norm, since it has no running state: training and use compute the same, whatever else is in the batch.
    Its mean and deviation are of all cells, so that even without a global path far cells share these two.
    """

    def __init__(self, config=LaMaConfig()):
        super().__init__()
        self.config = config
        c, patch = config.channels, 4                                              # pixels of a 2 x 2 patch
        self.stem = nn.Conv2d(patch * 4, c[0], 3, padding=1)
        self.shrink = nn.ModuleList(
            activated(a, nn.Conv2d(a, b, 3, stride=2, padding=1)) for a, b in zip(c, c[1:]))
        self.blocks = nn.Sequential(
            *(FourierBlock(c[-1], config.global_channels) for _ in range(config.blocks)))
        self.grow = nn.ModuleList(activated(b, nn.Conv2d(b, 4 * a, 1)) for a, b in zip(c, c[1:]))
        self.head = activated(c[0], zero_init(nn.Conv2d(c[0], patch * 3, 3, padding=1)))

    def forward(self, image, edit_mask):
        """The picture with its hole filled; what was kept comes back, too, but only nearly.

        image: (B, 3, H, W) in [-1, 1], sides multiples of config.multiple; the hole is not looked at.
        edit_mask: bool (B or 1, 1, H, W), True = hole.  Returns (B, 3, H, W), by a tanh within [-1, 1], in
        the dtype of image, whatever the weights' is. Raises ValueError for bad shapes.
        """
        check_inputs(self.config, image, edit_mask)
        hole = edit_mask.expand(len(image), -1, -1, -1).to(image.dtype)
        seen = torch.cat([image.masked_fill(edit_mask, 0), hole], 1)               # (B, 4, H, W)
        h = self.stem(patches(seen, self.stem.weight.dtype))                       # (B, c0, H/2, W/2)
        skips = []
        for shrink in self.shrink:
            skips.append(h)
            h = shrink(h)
        h = self.blocks(h)                                                         # (B, c1, H/4, W/4)
        for grow in reversed(self.grow):
            h = F.pixel_shuffle(grow(h), 2) + skips.pop()
        return F.pixel_shuffle(self.head(h), 2).to(image.dtype).tanh()             # (B, 3, H, W)


class FourierBlock(nn.Module):
    """Two fast Fourier convolutions beside the identity: x + ffc2(relu(norm2(ffc1(relu(norm1(x))))))."""

    def __init__(self, channels, global_channels):
        super().__init__()
        first, second = (FourierConvolution(channels, global_channels) for _ in range(2))
        self.branch = nn.Sequential(activated(channels, first), activated(channels, second.start_at_zero()))

    def forward(self, x):
        """x: (B, C, H, W) -> the same shape."""
        return x + self.branch(x)


class FourierConvolution(nn.Module):
    """A convolution, some of whose channels see the whole picture. FFC, Chi et al. (NeurIPS 2020).

    Channels are local or global.  local' = conv3x3(local) + conv3x3(global),
    global' = conv3x3(local) + spectral_transform(global).  Without global channels: a 3x3 convolution.
    """

    def __init__(self, channels, global_channels):
        super().__init__()
        self.widths = channels - global_channels, global_channels
        self.from_local = nn.Conv2d(self.widths[0], channels, 3, padding=1)
        if global_channels:
            self.global_to_local = nn.Conv2d(*reversed(self.widths), 3, padding=1)
            self.global_to_global = SpectralTransform(global_channels)

    def forward(self, x):
        """x: (B, C, H, W), local channels first -> the same shape."""
        if not self.widths[1]:
            return self.from_local(x)
        local, whole = x.split(self.widths, 1)
        from_global = torch.cat([self.global_to_local(whole), self.global_to_global(whole)], 1)
        return self.from_local(local) + from_global

    def start_at_zero(self):
        """The convolution with its last layers zero, so that what it feeds starts as if it were not there."""
        zero_init(self.from_local)
        if self.widths[1]:
            zero_init(self.global_to_local)
            zero_init(self.global_to_global.leave)
        return self


class SpectralTransform(nn.Module):
    """Mix the frequencies of the whole picture: what is changed in one of them changes everywhere.

    leave(h + inverse(relu(norm(mix(spectrum(h)))))),  h = relu(norm(enter(x))); enter, mix and leave are 1x1
    convolutions, h has half the channels.  After Chi et al., without their local Fourier unit.
    """

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.enter = nn.Sequential(nn.Conv2d(channels, half, 1), group_norm(half), nn.ReLU())
        self.mix = nn.Sequential(nn.Conv2d(2 * half, 2 * half, 1), group_norm(2 * half), nn.ReLU())
        self.leave = nn.Conv2d(half, channels, 1)

    def forward(self, x):
        """x: (B, C, H, W) -> the same shape."""
        h = self.enter(x)                                                          # (B, C/2, H, W)
        mixed = self.mix(spectrum(h))                                              # (B, C, H, W/2 + 1)
        return self.leave(h + picture(mixed, x.shape[3]))


def spectrum(x):
    """The real 2-D FFT, its real and imaginary parts as channels: (B, C, H, W) -> (B, 2 C, H, W/2 + 1).

    X[k, l] = sum over m, n of x[m, n] exp(-2 pi i (k m / H + l n / W)) / sqrt(H W),  l = 0..W/2.
    In float32 at least, since bfloat16 has no FFT; channels last in memory, as convolutions like it.
    """
    transformed = torch.fft.rfft2(x.to(torch.promote_types(x.dtype, torch.float32)), norm="ortho")
    parts = torch.cat([transformed.real, transformed.imag], 1)
    return parts.to(x.dtype, memory_format=torch.channels_last)


def picture(spectrum, width):
    """The inverse of `spectrum`: (B, 2 C, H, W/2 + 1) -> (B, C, H, W), with W = width.

    x[m, n] = Re sum over k, l of w[l] X[k, l] exp(2 pi i (k m / H + l n / W)) / sqrt(H W),  w = 1 for l = 0
    and W/2, else 2, since such a column stands for -l, too. One axis after the other: mixed frequencies are
    no longer those of a real picture, and irfft2 then does not promise the same on every device.
    """
    real, imaginary = spectrum.to(torch.promote_types(spectrum.dtype, torch.float32)).chunk(2, 1)
    rows = torch.fft.ifft(torch.complex(real, imaginary), dim=2, norm="ortho")
    return torch.fft.irfft(rows, width, dim=3, norm="ortho").to(spectrum.dtype)


def activated(channels, layer):
    """The layer behind a norm and a ReLU."""
    return nn.Sequential(group_norm(channels), nn.ReLU(), layer)


def check_inputs(config, image, edit_mask):
    """Raise ValueError, with what was expected and what came, unless the inputs of LaMa.forward fit."""
    multiple = config.multiple
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % multiple or image.shape[3] % multiple:
        wanted = f"(B, 3, H, W), H and W multiples of {multiple}"
        raise ValueError(f"image is {tuple(image.shape)}: {wanted} expected")
    batch, _, height, width = image.shape
    fits = edit_mask.shape in ((1, 1, height, width), (batch, 1, height, width))
    if not fits or edit_mask.dtype != torch.bool:
        found = f"edit_mask is {edit_mask.dtype}, {tuple(edit_mask.shape)}"
        raise ValueError(f"{found}: bool, ({batch} or 1, 1, {height}, {width}) expected")
