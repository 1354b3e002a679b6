"""What is each choice in the unified editor worth? Small editors, each with one choice changed, side by side.

    python -m train.ablations --preset cpu --folder runs/ablations --export
    python -m train.ablations --preset gpu --folder runs/ablations --export

21 trainings, one after the other, 50 minutes of one core: seven editors, three random starts each. The same
command again resumes: what is finished stays finished. The folder gets pool.safetensors, the edits that
all learn from, and for each training a folder with its checkpoints and figures.safetensors. With the last of
them comes the table. It stands above train/ and minidiff/bench, and takes from both; nothing takes from it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from minidiff.bench.grammar import judged_in_latents
from minidiff.bench.judging import TARGETED
from minidiff.bench.tables import Table
from minidiff.checkpoint import data_folder, load_state, load_weights, save_state
from minidiff.denoisers.dit import DiT
from minidiff.encoders.vae import VAE
from minidiff.latent import LatentModel
from minidiff.measure import bootstrap, psnr, student
from minidiff.measure.intervals import STUDENT
from minidiff.process.flow import Flow
from minidiff.process.guidance import drop_conditions
from train.config import LoopConfig, command_line, from_command_line
from train.data import on_device
from train.denoising import emphasised, logit_normal_times, val_edits
from train.flow import begin, noised, time_shift
from train.look import drawn, edited
from train.loop import train
from train.place import Place
from train.pool import pooled
from train.state import as_json, check_same_run

TITLE = "What each choice in the unified editor is worth: one changed at a time, at one small budget"
ABOUT = """\
Small editors in latents learn four kinds of edit (recolour, remove, season, time) from the same pool, from as
many pictures each, in the same order, with the same noise; each kind of editor begins from several random
starts. "source as channels": stacked onto the noise, as in InstructPix2Pix, not beside it as tokens, which
halves their number; "for as long": from more pictures, as many as make up for the faster steps. "no
reconstruction": no share of the batches is told to change nothing. "single blocks only": as many blocks, so
equal work for a picture, but text shares its weights with pictures. "times near the noise": in training they
are shifted by 10, where the base has FLUX.1's shift, 1.6 for 64 tokens; "at first": by 10 until the learning
rate falls, and with it to 1.6; all draw in the same steps. Figures are those of edits of the val split,
without guidance: "success" and "strict" as in `minidiff bench --only grammar`; "kept (dB)", the mean of local
edits; "nothing (dB)", how near an editor stays that is told to change nothing. Values are means over
trainings; "least" and "most" the single ones. "over base": the difference to the base, picture by picture;
"by trainings": the same, with the interval that the trainings alone give, each beside the base's of its
number, by Student's t. A difference is shown if both intervals leave out 0: neither other pictures nor
another random start is likely to undo it. "seconds" are those of one training on this machine. ± is half of a
95 % interval, over pictures unless it says by trainings.
"""
LONGER = 5 / 3                                                  # steps: .173 s, as channels .104, on one core
MEASURES = {"success": "success", "strict": "strict", "kept (dB)": "kept", "nothing (dB)": "nothing"}


@dataclass(frozen=True)
class Config(LoopConfig):
    """What the base learns, how often, and from what.

    size: of the pictures.  vae: weights of the VAE.  patch, dim, double, single: of the transformer, as for
    train.flow.  reconstruction: share of a batch that is told to change nothing.  shift, last_shift,
    emphasis, drop: as for train.flow.  pool: how many edits there are to learn from.  trainings: of each
    editor, 2 to 5; more may be asked for later.  edits: of the val split, that judge; walk: the steps in
    which they are drawn.  export: write the table to data/results, not to the folder.
    """

    size: int = 64
    vae: str = "town-vae"
    patch: int = 2
    dim: int = 96
    double: int = 1
    single: int = 3
    reconstruction: float = 0.125
    shift: float = 0.0
    last_shift: float = 0.0
    emphasis: float = 5.0
    drop: float = 0.1
    pool: int = 16384
    trainings: int = 3
    edits: int = 160
    walk: int = 20
    export: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.trainings not in STUDENT:
            raise ValueError(f"trainings = {self.trainings}: 2 to 5 expected")


PRESETS = {
    "cpu": dict(steps=600, batch=32, learning_rate=4e-3, warmup=50, decay=0.4, ema=0.99, muon="blocks"),
    "gpu": dict(steps=4000, batch=128, learning_rate=4e-3, warmup=100, decay=0.4, muon="blocks"),
}


class Variant(NamedTuple):
    """An editor: its transformer, and how its configuration differs from the base's."""

    transformer: Callable = DiT
    change: Callable = lambda config: config


class SourceAsChannels(nn.Module):
    """The same transformer, but the source is stacked onto the noise: twice as wide a door, half the tokens.

    As InstructPix2Pix (2211.09800), section 3.2, has it: no token is the source's own, so nothing of it can
    be prepared, and it must be as large as the target. The half of the head that would predict the source's
    channels is not used. To be called as a DiT, with just one context.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.dit = DiT(replace(config, channels=2 * config.channels))

    @property
    def blocks(self):
        """The stack of blocks."""
        return self.dit.blocks

    def prepare(self, text, text_mask, contexts, size):
        """What the transformer made of the text alone, and the source: (Conditions, (B, C, H, W)).

        Raises ValueError unless there is one context, of the target's size.
        """
        if len(contexts) != 1 or contexts[0].shape[2:] != tuple(size):
            found = ", ".join(str(tuple(context.shape[2:])) for context in contexts) or "none"
            raise ValueError(f"contexts are {found}: one of {tuple(size)} expected")
        return self.dit.prepare(text, text_mask, (), size), contexts[0]

    def forward(self, z_t, level, text=None, text_mask=None, contexts=(), conditions=None):
        """Predict from z_t, (B, C, H, W), as DiT.forward."""
        if conditions is None:
            conditions = self.prepare(text, text_mask, contexts, z_t.shape[2:])
        prepared, source = conditions
        stacked = torch.cat([z_t, source], dim=1)                                  # (B, 2C, H, W)
        return self.dit(stacked, level, conditions=prepared)[:, : z_t.shape[1]]


BASE = "base"
VARIANTS = {
    BASE: Variant(),
    "source as channels": Variant(SourceAsChannels),
    "source as channels for as long": Variant(
        SourceAsChannels, lambda config: replace(config, steps=round(LONGER * config.steps))),
    "no reconstruction": Variant(change=lambda config: replace(config, reconstruction=0.0)),
    "single blocks only": Variant(
        change=lambda config: replace(config, double=0, single=config.double + config.single)),
    "times near the noise": Variant(change=lambda config: replace(config, shift=10.0, last_shift=10.0)),
    "times near the noise at first": Variant(change=lambda config: replace(config, shift=10.0)),
}


def main(config):
    """Train what is missing, then write the table; returns it, or None if a training was interrupted.

    Raises ValueError under torchrun.
    """
    place = Place.find(config.device)
    if place.world > 1:
        raise ValueError(f"{place.world} processes: one expected, since the trainings are small")
    device = place.device
    vae = VAE.load(config.vae, device)
    pool = pooled(config, vae, device)
    figures = {}
    for number in range(config.trainings):                      # so that early on there is one of each
        for name in VARIANTS:
            figures[name, number] = found = figures_of(name, number, config, vae, pool, device)
            if found is None:
                return None
    made = command_line("train.ablations", config)
    seconds = sum(about["seconds"] for _, about in figures.values())
    table = Table("ablations", TITLE, " ".join(ABOUT.split()), rows(figures, config), made, config.seed,
                  place.hardware(), seconds)
    print(table.text())
    print("saved:", *table.save(data_folder() / "results" if config.export else config.folder))
    return table


def figures_of(name, number, config, vae, pool, device):
    """(measure -> (n,), {"parameters", "seconds", ...}) of one training, made or found in its folder.

    None if it was interrupted. Raises CheckpointError for figures of another run.
    """
    folder = Path(config.folder) / f"{name.replace(' ', '-')}-{number}"
    transformer, change = VARIANTS[name]
    count, fewest = config.trainings, min(STUDENT)              # one and the same, that more may follow
    config = change(replace(config, folder=str(folder), seed=config.seed + number, trainings=fewest))
    path, used = folder / "figures.safetensors", load_weights(config.vae)[1]["sha256"]
    if path.exists():
        figures, about = load_state(path)
        check_same_run(path, about["config"], {**as_json(config), "vae": used})
        return figures, about
    print(f"{name}, training {number + 1} of {count}", flush=True)
    network = begin(config, vae)
    network.dit = transformer(network.dit.config)
    state = train(network, batches(config, vae, pool, network, device), config)
    if not state.done:
        return None
    figures = measured(LatentModel(Flow(), state.ema.dit, state.ema.text, vae, device, "town", config.size),
                       val_edits(config.size, TARGETED, config.edits), config.walk)
    parameters = sum(parameter.numel() for parameter in state.ema.parameters())
    about = {"parameters": parameters, "seconds": state.seconds, "config": {**as_json(config), "vae": used}}
    save_state(path, figures, about)
    return figures, about


def batches(config, vae, pool, network, device):
    """make_batch, as the loop needs it: edits of the pool, the first few of which change nothing instead."""
    process = Flow()
    unchanged = round(config.reconstruction * config.batch)

    def make_batch(generator, now):
        index = torch.randint(len(pool.words), (config.batch,), generator=generator)
        words = drop_conditions([pool.words[i] for i in index], config.drop, None, generator)
        words[:unchanged] = [""] * unchanged
        source, z0 = (latents[index].float().to(device) for latents in (pool.source, pool.target))
        cells = pool.cells[index].to(device)
        z0[:unchanged], cells[:unchanged] = source[:unchanged], False
        t = logit_normal_times(config.batch, time_shift(config, z0, [source], now.falling), generator)
        noise = torch.randn(z0.shape, device=device, generator=on_device(generator, device))
        emphasis = 1 + (config.emphasis - 1) * now.falling
        weight = emphasised(torch.ones(config.batch, device=device), cells, emphasis)
        tokens = network.text.tokenize(words).to(device)
        return [noised(process, tokens, z0, [source], t, noise, weight)]

    return make_batch


def measured(model, edits, steps):
    """Measure -> (n,) float64, one figure an edit, nan where it does not apply: see MEASURES."""
    source = edits.source.to(model.device)
    unchanged = drawn(model, [""] * len(edits), [model.latents(source)], steps)
    figures = judged_in_latents(edited(model, edits, steps), edits, model)
    return {**figures, "nothing": psnr(unchanged, source).double().cpu()}


def rows(figures, config):
    """One row for each editor and measure.  figures: (name, number of the training) -> as figures_of."""
    return [row(name, measure, figures, config) for name in VARIANTS for measure in MEASURES]


def row(name, measure, figures, config):
    """The figures of one editor by one measure, beside the base's."""
    def of(name):
        numbers = range(config.trainings)
        return torch.stack([figures[name, number][0][MEASURES[measure]] for number in numbers])   # (T, n)

    values, differences = of(name), of(name) - of(BASE)
    each = values.nanmean(1)
    abouts = [figures[name, number][1] for number in range(config.trainings)]
    cells = {"editor": name, "measure": measure, "value": bootstrap(values.mean(0)),
             "least": each.min().item(), "most": each.max().item()}
    if name != BASE:
        over = bootstrap(differences.mean(0)), student(differences.nanmean(1))
        cells |= {"over base": over[0], "by trainings": over[1], "verdict": verdict(*over)}
    pictures, seconds = abouts[0]["config"]["steps"] * config.batch, [about["seconds"] for about in abouts]
    return cells | {"parameters": abouts[0]["parameters"], "pictures": pictures,
                    "seconds": sum(seconds) / len(seconds)}


def verdict(*intervals):
    """"better", "worse" or "no difference shown", of a difference with several intervals."""
    if all(interval.low > 0 for interval in intervals):
        return "better"
    if all(interval.high < 0 for interval in intervals):
        return "worse"
    return "no difference shown"


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
