"""Train the unified model: one transformer in latents that draws, edits, and takes from other pictures.

    torchrun --nproc-per-node 2 -m train.flow --preset cpu --folder runs/town-context --export
    python -m train.drawn --preset gpu                          # edits for it, as scenes and words
    python -m train.flow --preset gpu --folder runs/town-context --export

Flow matching, in the latents of a frozen VAE, town-vae, on the six tasks of train/tasks.py. The same command
again resumes. The folder of the run gets its checkpoints, log.jsonl, samples/STEP.png, and samples/STEP.json:
how many edits of the val split succeed, and how much they keep. These lines go into the manifest, as the
curve of the training.
"""

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from minidiff.checkpoint import fill, fitting, load_weights, save_weights
from minidiff.denoisers.dit import DiT, DiTConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.encoders.vae import VAE, cells_of
from minidiff.latent import LatentModel, usual_shift
from minidiff.process.flow import Flow
from train.config import from_command_line
from train.data import Town, on_device
from train.denoising import (
    ORIGIN,
    TOKENS,
    begin_from,
    emphasised,
    learnt_words,
    logit_normal_times,
    made_by,
    save_point,
)
from train.drawn import load_drawn
from train.look import figures, save_samples
from train.loop import train
from train.place import Place
from train.recorded import padded
from train.supply import Supply, SupplyConfig, paints_on
from train.tasks import Tasks


@dataclass(frozen=True)
class Config(SupplyConfig):
    """What to learn, in which latents, and where the result goes.

    size: of the pictures.  vae: weights of the VAE.  init: weights to begin with, of the same shape, in the
    latents of the same VAE; "" = random ones.  drawn: edits that train.drawn has drawn; "" = they are drawn
    as needed.  patch, dim: of the transformer; double, single: how many blocks of each kind.  generation,
    reconstruction, writing, fusion, choice: shares of a batch, the rest is editing; see train/tasks.py.
    shift: how far the times of edits move towards the noise, until the learning rate falls, and with it, to
    last_shift; 0 = as far as FLUX.1's; see `time_shift`.
    emphasis: how much more a cell counts that truly changes, until the learning rate falls, and with it, to
    1.  drop: share of captions and instructions that are not said.  export: write
    data/weights/NAME.safetensors at the end.  kept: share of the weights that it began with, in these.
    """

    name: str = "town-context"
    size: int = 64
    vae: str = "town-vae"
    init: str = ""
    drawn: str = ""
    patch: int = 2
    dim: int = 192
    double: int = 1
    single: int = 5
    generation: float = 0.16
    reconstruction: float = 0.04
    writing: float = 0.15
    fusion: float = 0.12
    choice: float = 0.06
    shift: float = 20.0
    last_shift: float = 0.0
    emphasis: float = 5.0
    drop: float = 0.1
    export: bool = False
    kept: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.kept < 1 or self.kept and not self.init:
            raise ValueError(f"kept = {self.kept}: at least 0, below 1, and weights to begin with expected")
        if min(self.shift, self.last_shift) < 0:
            raise ValueError(f"shift = {self.shift}, last_shift = {self.last_shift}: at least 0 expected")


PRESETS = {
    "cpu": dict(minutes=100, batch=32, dim=160, learning_rate=4e-3, decay=0.6, muon="blocks", distinct=2000),
    "gpu": dict(minutes=12, batch=512, learning_rate=3e-3, decay=0.6, muon="blocks", distinct=900, every=2,
                drawn="runs/town-drawn.safetensors", generation=0.2, reconstruction=0.03, writing=0.2,
                choice=0.05, compile=True, graphs=True, sample_minutes=4),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    place = Place.find(config.device)
    process, device = Flow(), place.device
    vae, (_, latents_of) = VAE.load(config.vae, device), load_weights(config.vae)
    given = {"vae_sha256": latents_of["sha256"]}                # now: its name may mean others at the end
    stored, given["drawn_sha256"] = load_drawn(config.drawn) if config.drawn else (None, "")
    tasks = Tasks(config, paints_on(config, device), stored, place.world * config.accumulate)
    network = begin(config, vae)
    begin_from(config, lambda name: begin_with(network, name, given["vae_sha256"]))

    def worded(generator, now):
        """The groups of a pass, with their words as tokens."""
        fit = padded if place.plays_graphs(config.graphs) else lambda tokens: tokens
        return [(fit(network.text.tokenize(group.words)), group) for group in tasks(generator, now)]

    supply = Supply(worded, config, device, partial(as_latents, vae))

    def make_batch(generator, now):
        groups, emphasis = supply(now), 1 + (config.emphasis - 1) * now.falling
        times = [logit_normal_times(len(z0), time_shift(config, z0, contexts, now.falling), generator)
                 for _, z0, contexts, _ in groups]
        return noised_groups(process, groups, times, on_device(generator, device), emphasis)

    def look(ema, step):
        model = LatentModel(process, ema.dit, ema.text, vae, device, "town", config.size)
        path = Path(config.folder) / "samples" / f"{step:06d}"
        save_samples(model, path.with_suffix(".png"))
        save_point(path.with_suffix(".json"), {"step": step, **figures(model)})

    state = train(network, make_batch, config, look, given)
    if config.export and state.done and place.first:
        export(state, config, given)
    return state


def begin(config, vae):
    """The two networks before their training, in the latents of a VAE; config.seed says their weights."""
    torch.manual_seed(config.seed)
    blocks = ("double",) * config.double + ("single",) * config.single
    shape = DiTConfig(vae.config.latent_channels, config.patch, config.dim, blocks)
    return TokensToVelocity(shape, TextConfig(Town.words, Town.characters, layers=1, neighbours=True))


def begin_with(network, name, vae_sha256):
    """Take the weights of a unified model, and return their entry.

    Raises CheckpointError if they, or their VAE, do not fit.
    """
    tensors, entry = load_weights(name)
    with fitting(name):
        if entry["config"]["vae_sha256"] != vae_sha256:
            raise ValueError("trained in the latents of another VAE")
        tensors[TOKENS] = learnt_words(network.text, entry["config"]["text"], tensors[TOKENS])
    fill(network, tensors, name)
    return entry


def time_shift(config, z0, contexts, falling):
    """How far the times of a group of examples move towards the noise, as in Flow.times.

    Departure: what becomes of an edit is settled by its words and its source, so all of it has to be found
    where nothing but noise is seen. Edits are shown there first, and most. A caption leaves much open: its
    times are those of FLUX.1, by usual_shift.
    z0: (n, C, h, w).  contexts: as many pictures as the group looks at.  falling: as in train.loop.Now.
    """
    usual = usual_shift(z0, config.patch)
    if not contexts:
        return usual
    first, last = config.shift or usual, config.last_shift or usual
    return last * (first / last) ** falling


def as_latents(vae, groups):
    """Groups of examples as latents: [(tokens, group), ...] -> [(tokens, z0, contexts, changing cells), ...]

    Latents are in half precision, so that twice as many can be kept.
    """
    found = []
    for tokens, group in groups:
        z0, *contexts = (latent.half() for latent in encoded(vae, group.target, *group.contexts))
        found.append((tokens, z0, contexts, cells_of(group.region, vae.config.factor)))
    return found


def noised_groups(process, groups, times, noise_of, emphasis):
    """Groups as `as_latents` has them, each as `noised`.

    times: a list, (n,) for each.  noise_of: the generator of the noise.  emphasis: the weight of a changing
    cell.
    """
    batch = []
    for (tokens, z0, contexts, changing), t in zip(groups, times, strict=True):
        z0, ones = z0.float(), torch.ones(len(z0), device=z0.device)
        noise = torch.randn(z0.shape, device=z0.device, generator=noise_of)
        weight = emphasised(ones, changing, emphasis)
        batch.append(noised(process, tokens, z0, contexts, t, noise, weight))
    return batch


def noised(process, tokens, z0, contexts, t, noise, weight):
    """Examples as `TokensToVelocity.loss` takes them.

    tokens: (n, L).  z0, noise: (n, C, h, w); contexts: a list of such.  t: (n,).  weight: (n, 1, h, w).
    """
    level = process.fraction(t).float().to(z0.device, non_blocking=z0.is_cuda)
    return process.corrupt(z0, t, noise), level, tokens, process.target(z0, noise), weight, contexts


class TokensToVelocity(nn.Module):
    """The two networks, dit and text, and their training loss."""

    def __init__(self, dit, text):
        super().__init__()
        self.dit, self.text = DiT(dit), TextEncoder(text)

    def compile_repeated(self):
        """Compile what all blocks share, once for any number of tokens: as a whole, it would take minutes."""
        for stream in (stream for block in self.dit.blocks for stream in block.streams):
            stream.look = torch.compile(stream.look, dynamic=True)
            stream.think = torch.compile(stream.think, dynamic=True)

    def forward(self, *groups):
        """The losses of all groups, each as `loss` takes it: ((B,) losses, (B,) levels 0..1)."""
        losses, levels = zip(*(self.loss(*group) for group in groups))
        return torch.cat(losses), torch.cat(levels)

    def loss(self, z_t, level, tokens, target, weight, contexts):
        """weight |v_hat - v|^2, the mean over a picture's latents: ((n,) losses, (n,) levels).

        The objective of rectified flow, 2209.03003, eq. 1.
        z_t, target v: (n, C, h, w).  level: (n,).  tokens: (n, L).  weight: (n, 1, h, w).  contexts: as z_t.
        """
        prediction = self.dit(z_t, level, *self.text(tokens), contexts)
        return (weight * (prediction.float() - target).square()).mean((1, 2, 3)), level


def encoded(vae, *pictures):
    """The latents of pictures, (n, 3, H, W) each, in one pass."""
    return vae.latents(torch.cat(pictures)).chunk(len(pictures))


def export(state, config, given):
    """Write the EMA weights in half precision to data/weights, with what made them, and in which latents.

    given: the hashes of the VAE, and of the edits that were drawn already, or "".
    """
    shapes = {"dit": asdict(state.ema.dit.config), "text": asdict(state.ema.text.config)}
    save_weights(config.name, exported(state, config, given["vae_sha256"]), {
        "config": {**shapes, "process": {"name": "flow"}, "size": config.size,
                   "vae": config.vae, "vae_sha256": given["vae_sha256"]},
        "data": "town", **({"drawn_sha256": given["drawn_sha256"]} if config.drawn else {}),
        **made_by(state, "train.flow", config)})


def exported(state, config, vae_sha256):
    """The weights to write: the EMA's, or between those that the run began with and these.

    kept begun + (1 - kept) EMA: "WiSE-FT", Wortsman et al. (2109.01903). What a short training has unlearnt
    comes back, and most of what it has learnt stays. Raises ValueError if config.init has other weights now.
    """
    weights = state.ema.state_dict()
    if not config.kept:
        return weights
    begun = TokensToVelocity(state.ema.dit.config, state.ema.text.config)
    entry = begin_with(begun, config.init, vae_sha256)
    if entry["sha256"] != json.loads((Path(config.folder) / ORIGIN).read_text())["sha256"]:
        raise ValueError(f"{config.init}: not the weights that the run began with: those expected")
    return {name: value.to(weights[name]).lerp(weights[name], 1 - config.kept)
            for name, value in begun.state_dict().items()}


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
