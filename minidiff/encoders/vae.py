"""The VAE: a picture becomes a few numbers for each 4 x 4 pixels, and comes back, nearly.

These numbers, the latents, are what a diffusion transformer works on: a third as many as the picture has, and
shaped like noise. What the way there and back keeps is the codec's floor: what an editor decodes keeps hardly
more.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoint import fill, fitting, load_weights
from ..denoisers.layers import config_from_dict, zero_init
from ..measure.quality import psnr

QUIET = -6.0                                                    # where log variances start: noise of .05


@dataclass(frozen=True)
class VAEConfig:
    """The shape of a VAE.

    latent_channels: numbers a cell.  factor: pixels of a cell's side.  channels: of both networks, which
    compute on cells only.  encoder_blocks, decoder_blocks: how many residual blocks each has.
    """

    latent_channels: int = 16
    factor: int = 4
    channels: int = 128
    encoder_blocks: int = 1
    decoder_blocks: int = 2

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < (least := 0 if name.endswith("blocks") else 1):
                raise ValueError(f"{name} = {value}: at least {least} expected")

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


class VAE(nn.Module):
    """Pictures to latents and back: Kingma & Welling (1312.6114), as used by Rombach et al. (2112.10752).

    The encoder says where a picture's latents lie, and how far off they may be without harm; in training they
    are drawn from there, so that the decoder bears small errors, as a diffusion model will make.
    Departures from the latter, for two CPU cores: patches of pixels are cells from the first layer to the
    last, there is no perceptual loss and no adversary, and no norm and no attention. So all is *local*: what
    a pixel shows reaches only cells near it, and an edit in one corner leaves the latents of the other alone.
    """

    def __init__(self, config=VAEConfig()):
        super().__init__()
        self.config = config
        c, latent, patch = config.channels, config.latent_channels, 3 * config.factor**2
        self.encoder = nn.Sequential(
            nn.Conv2d(patch, c, 3, padding=1),
            *(Block(c) for _ in range(config.encoder_blocks)),
            nn.SiLU(), nn.Conv2d(c, 2 * latent, 1))
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, c, 3, padding=1),
            *(Block(c) for _ in range(config.decoder_blocks)),
            nn.SiLU(), nn.Conv2d(c, patch, 3, padding=1))
        nn.init.constant_(self.encoder[-1].bias[latent:], QUIET)
        self.register_buffer("shift", torch.zeros(latent))                         # see `latents`
        self.register_buffer("scale", torch.ones(latent))

    @classmethod
    def load(cls, name_or_path="town-vae", device="cpu"):
        """The network of weights, by name in data/weights or by path.

        Raises CheckpointError for files that are missing, damaged or do not fit.
        """
        tensors, entry = load_weights(name_or_path)
        with fitting(name_or_path):
            network = cls(VAEConfig.from_dict(entry["config"]["vae"]))
        fill(network, tensors, name_or_path)
        return network.to(device).eval().requires_grad_(False)

    def encode(self, x0):
        """Where the latents of pictures lie, as the network has them: (mean, log_variance).

        x0: (B, 3, H, W) in [-1, 1], sides multiples of config.factor.  Returns (B, latent_channels, H/4, W/4)
        twice, in the dtype of x0, whatever the weights' is. Raises ValueError for other shapes.
        """
        check_pictures(self.config, x0)
        cells = F.pixel_unshuffle(x0.to(self.shift.dtype), self.config.factor)     # (B, 48, H/4, W/4)
        found = self.encoder(cells.contiguous(memory_format=torch.channels_last))
        return found.to(x0.dtype).chunk(2, 1)

    def forward(self, x0, noise):
        """A round trip by way of drawn latents, for training: (x0_hat, not clamped, mean, log_variance).

        z = mean + sqrt(variance) noise: the reparametrisation of Kingma & Welling, section 2.4.
        noise: standard normal, of the latents' shape.
        """
        mean, log_variance = self.encode(x0)
        return self.pixels(mean + (log_variance / 2).exp() * noise), mean, log_variance

    def latents(self, x0):
        """Pictures (B, 3, H, W) -> z (B, latent_channels, H/4, W/4), each channel with mean 0, variance 1.

        z = (mean - shift) / scale, by constants measured on Toytown: a diffusion process meets latents as
        loud as its noise. After Rombach et al., sections 4.3.2 and D.1, who divide all by one number.
        """
        return (self.encode(x0)[0] - per_channel(self.shift)) / per_channel(self.scale)

    def decode(self, z):
        """The pictures of latents, z as from `latents`: x0_hat (B, 3, H, W), clamped to [-1, 1].

        Raises ValueError for other shapes.
        """
        channels = self.config.latent_channels
        if z.ndim != 4 or z.shape[1] != channels:
            raise ValueError(f"z is {tuple(z.shape)}: (B, {channels}, h, w) expected")
        return self.pixels(z * per_channel(self.scale) + per_channel(self.shift)).clamp(-1, 1)

    def round_trip(self, x0):
        """What is left of pictures that become latents and pictures again: (B, 3, H, W) -> the same shape."""
        return self.decode(self.latents(x0))

    def pixels(self, z):
        """The decoder alone: latents as the network has them -> (B, 3, H, W) in the dtype of z."""
        cells = z.to(self.shift.dtype, memory_format=torch.channels_last)          # (B, C, H/4, W/4)
        return F.pixel_shuffle(self.decoder(cells).to(z.dtype), self.config.factor)

    @torch.no_grad()
    def normalise(self, x0):
        """Set shift and scale to the mean and deviation of each latent channel over pictures (B, 3, H, W)."""
        mean, _ = self.encode(x0)
        self.shift.copy_(mean.mean((0, 2, 3)))
        self.scale.copy_(mean.std((0, 2, 3)))


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, and the identity alone at first: a ResBlock without norm."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


def kl_divergence(mean, log_variance):
    """How far drawn latents are from standard normal noise, in nats: KL(N(mean, variance) | N(0, 1)).

    1/2 sum(mean^2 + variance - 1 - log variance) over a picture's latents. Kingma & Welling, appendix B.
    mean, log_variance: (B, C, h, w).  Returns (B,).
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)) / 2


@torch.no_grad()
def codec_floor(vae, x0, where=None):
    """What the round trip keeps of each picture, in dB: what an editor decodes keeps hardly more.

    Latents that the decoder brings nearer do exist, a dB or two, but to find them takes a search.

    x0: (B, 3, H, W).  where: bool (B or 1, 1, H, W), the pixels that count (None: all).  Returns (B,) as
    measure.quality.psnr.
    """
    return psnr(vae.round_trip(x0), x0, where)


def cells_of(edit_mask, factor):
    """The cells that may change, since one of their pixels may: a mask for latents.

    edit_mask: bool (B, 1, H, W), True = may change.  Returns bool (B, 1, H/factor, W/factor). Raises
    ValueError for other masks.
    """
    fits = edit_mask.ndim == 4 and edit_mask.shape[1] == 1
    if edit_mask.dtype != torch.bool or not fits or any(side % factor for side in edit_mask.shape[2:]):
        wanted = f"torch.bool (B, 1, H, W), H and W multiples of {factor}"
        raise ValueError(f"edit_mask is {tuple(edit_mask.shape)} {edit_mask.dtype}: {wanted} expected")
    return F.max_pool2d(edit_mask.float(), factor) > 0


def per_channel(values):
    """(C,) -> (C, 1, 1), to meet latents."""
    return values[:, None, None]


def check_pictures(config, x0):
    """Raise ValueError, with what was expected and what came, unless these are pictures to encode."""
    factor = config.factor
    if x0.ndim != 4 or x0.shape[1] != 3 or x0.shape[2] % factor or x0.shape[3] % factor:
        wanted = f"(B, 3, H, W), H and W multiples of {factor}"
        raise ValueError(f"pictures are {tuple(x0.shape)}: {wanted} expected")
