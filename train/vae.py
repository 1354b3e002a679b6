"""Train the VAE: pictures of Toytown to latents of a third of their numbers, and back.

    python -m train.vae --preset cpu --folder runs/town-vae --export
    python -m train.vae --preset gpu --folder runs/town-vae --export

The same command again resumes. The folder of the run gets its checkpoints, log.jsonl, samples/STEP.png, true
pictures above their round trips, and samples/STEP.json: what the round trip keeps of scenes of the val split,
and of the signs in them, in dB. These lines go into the manifest, as the curve of the training.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from minidiff import toytown
from minidiff.checkpoint import save_weights
from minidiff.encoders.vae import VAE, VAEConfig, codec_floor, kl_divergence
from minidiff.toytown.paint import paint_with_masks
from train.config import from_command_line
from train.data import draw_seed
from train.denoising import made_by, save_picture, save_point
from train.loop import generator_of, train
from train.place import Place
from train.supply import Again, AgainConfig

SIGN = toytown.scene.OBJECTS.index("sign")


@dataclass(frozen=True)
class Config(AgainConfig):
    """What to learn, and where the result goes.

    size: of the pictures.  latent_channels, channels, decoder_blocks: of the network.  kl: what a nat for
    each number of the picture counts beside the squared error.  sign: how much more an error on a sign counts
    at first; as the learning rate falls, so does this, and at the end all pixels are worth the same.
    export: write data/weights/NAME.safetensors at the end.
    """

    name: str = "town-vae"
    size: int = 64
    latent_channels: int = 16
    channels: int = 128
    decoder_blocks: int = 2
    kl: float = 1e-4
    sign: float = 3.0
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=24, batch=32, learning_rate=2e-3, decay=0.5, muon="conv", distinct=512),
    "gpu": dict(minutes=8, batch=256, learning_rate=2e-3, decay=0.5, muon="conv", distinct=256),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    torch.manual_seed(config.seed)                              # the random start of the weights
    shape = VAEConfig(config.latent_channels, channels=config.channels, decoder_blocks=config.decoder_blocks)
    network, val = Compression(shape, config.kl), val_pictures(config.size, device)

    def paint(now):
        return pictures(config.batch, config.size, device, generator_of(config.seed, "again", *now[:2]))

    painted = Again(paint, config)

    def make_batch(generator, now):
        x0, signs = painted(now)
        latents = config.latent_channels, config.size // shape.factor, config.size // shape.factor
        noise = torch.randn(config.batch, *latents, generator=generator).to(device)
        return x0, 1 + config.sign * now.falling * signs, noise

    def look_up(ema, step):
        path = Path(config.folder) / "samples" / f"{step:06d}"
        save_samples(ema.vae, val[0], path.with_suffix(".png"))
        save_point(path.with_suffix(".json"), {"step": step, **kept(ema.vae, *val)})

    state = train(network, make_batch, config, look_up)
    if config.export and state.done and Place.find(config.device).first:
        vae = state.ema.vae
        vae.normalise(pictures(1024, config.size, device, generator_of(config.seed, "normalise"))[0])
        entry = {"config": {"vae": asdict(shape)}, "data": "town", **made_by(state, "train.vae", config)}
        save_weights(config.name, vae.state_dict(), entry)
    return state


class Compression(nn.Module):
    """The network, vae, and its training loss."""

    def __init__(self, config, kl):
        super().__init__()
        self.vae, self.kl = VAE(config), kl

    def forward(self, x0, weight, noise):
        """mean(weight (x0_hat - x0)^2) + kl KL / (numbers of a picture): ((B,) losses, (B,) levels, all .5).

        With weight 1 and up to a constant, -kl / (numbers of a picture) times the lower bound of Kingma &
        Welling (1312.6114), eq. 3, for a decoder whose pixels are sure to within a variance of kl / 2.
        x0: (B, 3, H, W).  weight: (B, 1, H, W).  noise: as VAE.forward.
        """
        x0_hat, mean, log_variance = self.vae(x0, noise)
        error = (weight * (x0_hat - x0).square()).mean((1, 2, 3))
        losses = error + self.kl * kl_divergence(mean, log_variance) / x0[0].numel()
        return losses, torch.full_like(losses, 0.5)


def pictures(n, size, device, generator):
    """n pictures of fresh scenes, (n, 3, size, size), and how much of a pixel shows a sign, (n, 1, ...)."""
    x0, shown = paint_with_masks(toytown.scenes(n, draw_seed(generator)).to(device), size)
    return x0, shown[:, SIGN:SIGN + 1]


def val_pictures(size, device, n=128):
    """(pictures (n, 3, size, size), bool (n, 1, size, size), where their signs are) of the val split."""
    x0, shown = paint_with_masks(toytown.load_split("val").scenes[:n].to(device), size)
    return x0, shown[:, SIGN:SIGN + 1] > 0.5


@torch.no_grad()
def kept(vae, x0, signs):
    """What a round trip keeps, in dB: means over pictures, of all their pixels and of their signs' alone."""
    return {"psnr": codec_floor(vae, x0).mean().item(),
            "psnr of signs": codec_floor(vae, x0, signs).nanmean().item()}


@torch.no_grad()
def save_samples(vae, x0, path, n=16):
    """The first n pictures, and below them their round trips, as PNG."""
    save_picture([x0[:n], vae.round_trip(x0[:n])], path)


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
