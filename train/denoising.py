"""What the trainings of denoisers share: the two networks and their loss, levels, weights, start and end."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from minidiff import toytown
from minidiff.checkpoint import fill, fitting, load_weights, save_weights, write_atomically
from minidiff.denoisers.unet import UNet
from minidiff.encoders.text import SPECIAL, TextConfig, TextEncoder, numbering
from minidiff.images import to_uint8
from minidiff.measure import preservation, success
from minidiff.model import Model
from minidiff.process.flow import shifted
from minidiff.process.sample import sample
from train.config import command_line
from train.place import Place
from train.state import LAST, PREVIOUS

T = 1000
TOKENS = "text.token.weight"
ORIGIN = "origin.json"                                          # of a run that begins with weights
MADE = "command", "data_seed", "drawn_sha256", "steps", "seconds", "hardware", "sha256", "curve", "init"


class TextToImage(nn.Module):
    """The two networks, unet and text, and their training loss."""

    def __init__(self, unet, text):
        super().__init__()
        self.unet, self.text = UNet(unet), TextEncoder(text)

    def forward(self, x_t, level, tokens, target, weight, extra=None):
        """weight |prediction - target|^2, the mean over a picture's pixels: ((B,) losses, (B,) levels 0..1).

        x_t, target: (B, 3, H, W).  level: (B,).  tokens: (B, L).  weight: (B,), or (B, 1, H, W), one a pixel.
        extra: (B, extra_channels, H, W), for a U-Net that has such.
        """
        prediction = self.unet(x_t, level, *self.text(tokens), extra=extra)
        error = (prediction.float() - target).square()
        if weight.ndim == 1:
            return weight * error.mean((1, 2, 3)), level
        return (weight * error).mean((1, 2, 3)), level


def stratified_levels(n, T, generator):
    """n whole levels in 1..T, uniform, one in each n-th part of the range, which steadies the mean loss."""
    return (1 + T * (torch.arange(n) + torch.rand(n, generator=generator)) / n).long().clamp(max=T)


def logit_normal_times(n, shift, generator):
    """n times of a flow, most of them half way, in random order: sigmoid(z), z standard normal, then shifted.

    The density of sigmoid(z) is eq. 19 of 2403.03206, with m = 0, s = 1.  One z in each n-th part of the
    normal distribution, which steadies the mean loss.  shift: as in Flow.times.  Returns (n,) float64.
    """
    u = (torch.arange(n) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    t = shifted(torch.special.ndtri(u).sigmoid(), shift)
    return t[torch.randperm(n, generator=generator)]


def emphasised(weight, region, emphasis):
    """Weights of single pixels, or cells: those of the true region of change count `emphasis` times as much.

    weight: (B,).  region: bool (B, 1, H, W).  Returns (B, 1, H, W).
    """
    return weight.view(-1, 1, 1, 1) * (1 + (emphasis - 1) * region)


def snr_weight(process, t, limit):
    """The weight of each level in the loss, with SNR = a^2 / s^2.

    x0 predicted: max(1, min(SNR, limit)).  eps predicted: min(SNR, limit) / SNR.
    The limit, so that almost clean pictures do not crowd out the rest: "Min-SNR", Hang et al. (2303.09556).
    At least 1, so that what stands where is learnt from the caption in good time: "truncated SNR", Salimans &
    Ho (2202.00512); not for eps, where it would divide by almost 0.
    t: (B,) levels.  limit: at least 1.  Returns (B,) float32.
    """
    a, s = process.coefficients(t)
    snr = (a / s) ** 2
    return (snr.clamp(1, limit) if process.predicts == "x0" else snr.clamp(max=limit) / snr).float()


def warm_start(network, name):
    """Begin from shipped weights; extra channels and the look at neighbours, if lacking, begin at zero.

    Words that they do not know begin as they are. Returns the weights' entry. Raises CheckpointError if they
    lack anything else, or have more.
    """
    tensors, entry = load_weights(name)
    with fitting(name):
        tensors[TOKENS] = learnt_words(network.text, entry["config"]["text"], tensors[TOKENS])
    own = network.state_dict().items()
    extra = {key: tensor for key, tensor in own if "stem_extra" in key or "neighbours" in key}
    fill(network, {**extra, **tensors}, name)
    return entry


def learnt_words(text, config, table):
    """The table of tokens of an encoder `config`, with a row for all that the encoder `text` knows.

    Words and characters newer than the table keep the rows that text has. Raises ValueError for those that
    text does not know, and for tables of another shape.
    """
    config = TextConfig.from_dict(config)
    rows, count = text.token.weight.detach().clone(), SPECIAL + len(config.words) + len(config.characters)
    if table.shape != (count, rows.shape[1]):
        raise ValueError(f"its table of tokens is {tuple(table.shape)}: {(count, rows.shape[1])} expected")
    rows[:SPECIAL] = table[:SPECIAL]
    for mine, theirs in zip((text.word_number, text.character_number), numbering(config), strict=True):
        if unknown := sorted(set(theirs) - set(mine)):
            raise ValueError(f"its vocabulary has {', '.join(unknown)}: words known here expected")
        rows[[mine[token] for token in theirs]] = table[list(theirs.values())]
    return rows


def drawn(network, process, captions, like, generator, steps, scale=1.0, extra=None):
    """Pictures that a TextToImage draws of captions from pure noise: as `like`, (n, 3, H, W).

    scale, extra: as in Model.denoiser.
    """
    denoise = Model(process, network.unet, network.text, like.device).denoiser(list(captions), scale, extra)
    x = torch.randn(like.shape, generator=generator).to(like)
    for state in sample(process, denoise, x, process.times(steps), generator):
        x = state.x
    return x


def val_edits(size, kinds, n):
    """The first n edits of these kinds in the val split."""
    edits = toytown.load_split("val", size).edits
    return edits[[i for i, kind in enumerate(edits.kind) if kind in kinds][:n]]


def successes(edits, x):
    """The share of edits that succeed, and the median dB kept by the local ones.

    x: (n, 3, size, size), what an editor made of edits.source, on any device.
    """
    x = x.cpu().float()
    answers = pad_sequence([edits.answers(i) for i in range(len(edits))], True, padding_value=torch.nan)
    kept = preservation(edits.source, x, edits.region).psnr[~edits.is_global]
    return {"success": success(x, answers, edits.region).double().mean().item(), "kept": kept.median().item()}


def save_picture(rows, path):
    """Write rows of pictures, each (n, 3, H, W) in [-1, 1], one below the other, as one PNG."""
    grid = torch.cat([torch.cat(list(row.cpu()), 2) for row in rows], 1)           # (3, rows H, n W)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(grid.permute(1, 2, 0)).numpy()).save(path)


def export(state, module, config, data):
    """Write the EMA weights of a TextToImage in half precision to data/weights, with what made them.

    module: of the training script, such as "train.ddpm".  data: what it learnt from.
    """
    shapes = {"unet": asdict(state.ema.unet.config), "text": asdict(state.ema.text.config)}
    process = {"name": "ddpm-cosine", "T": T, "predicts": config.predicts}
    save_weights(config.name, state.ema.state_dict(), {
        "config": {**shapes, "process": process}, "data": data, **made_by(state, module, config)})


def made_by(state, module, config):
    """How weights were made, for their entry in the manifest: with the curve of their training, if any, and
    how those were made that it began with, if it did not begin at random.
    """
    folder, place = Path(config.folder), Place.find(config.device)
    points = [json.loads(path.read_text()) for path in sorted(folder.glob("samples/*.json"))]
    points = [point for point in points if point["step"] <= state.step]            # not of one given up
    curve = {"curve": points} if points else {}
    origin = {"init": json.loads((folder / ORIGIN).read_text())} if (folder / ORIGIN).exists() else {}
    return {"command": command_line(module, config, place.world), "data_seed": config.seed,
            "steps": state.step, "seconds": round(state.seconds), "hardware": place.hardware(), **curve,
            **origin, "figures": {}}


def begin_from(config, load):
    """Where a run begins, and does not go on: load the weights config.init, if any, and note their making.

    In a file of the run's folder, since at its end its own weights may have taken their name. A run that goes
    on has all that in its checkpoint, and does not ask whether the weights are still there.
    load: name -> the weights' entry.
    """
    folder = Path(config.folder)
    if any((folder / state).exists() for state in (LAST, PREVIOUS)):
        return
    entry = load(config.init) if config.init else None
    if Place.find(config.device).first:
        (folder / ORIGIN).unlink(missing_ok=True)               # of a run that was given up here
        if entry:
            made = {key: entry[key] for key in MADE if key in entry}
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / ORIGIN, (json.dumps(made) + "\n").encode())


def save_point(path, figures):
    """Write a point of the curve of a training, samples/STEP.json: names and figures, `step` the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    write_atomically(path, (json.dumps(rounded) + "\n").encode())
