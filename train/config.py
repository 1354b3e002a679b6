"""The options that every training shares, and how a command line becomes a configuration."""

import argparse
from dataclasses import dataclass, fields
from inspect import cleandoc


@dataclass(frozen=True)
class LoopConfig:
    """What train/loop.py needs to know. Scripts add their own fields in a subclass.

    folder: of the run, for checkpoints, log and samples.  steps = 0 means: as many as fit in `minutes`.
    batch: pictures in one pass of one process; a step averages the gradient over `accumulate` passes of each
    process.  warmup: steps in which the learning rate rises; decay: share of the steps in which it falls.
    muon: part of the names of those matrices that Muon moves, the rest is AdamW's; "" = all AdamW.
    clip: longest gradient.  ema: share of the weights' running mean that survives a step.
    graphs: replay passes as CUDA graphs, see train/recorded.py; elsewhere than on one GPU it does nothing.
    """

    folder: str = "runs/unnamed"
    seed: int = 0
    steps: int = 0
    minutes: float = 0
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.2
    weight_decay: float = 0.01
    muon: str = ""
    clip: float = 1.0
    ema: float = 0.999
    device: str = "auto"
    bf16: bool = True
    compile: bool = False
    graphs: bool = False
    log_steps: int = 50
    save_minutes: float = 2
    sample_minutes: float = 10

    def __post_init__(self):
        if self.steps <= 0 and self.minutes <= 0:
            raise ValueError(f"steps = {self.steps}, minutes = {self.minutes}: one of them above 0 expected")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay = {self.decay}: a share of the steps, above 0 and at most 1, expected")
        if self.decay == 1 and not self.steps:
            raise ValueError("decay = 1: below 1 expected with minutes, since the fall needs steps counted")


# These say where, how long, what to write and when to look, not what is learnt: a run may go on with others.
FREE = ("folder", "name", "export", "download", "minutes", "device", "compile", "graphs", "workers",
        "drawn", "kept", "log_steps", "save_minutes", "sample_minutes")


def configure(kind, presets, preset, **changes):
    """A configuration of class `kind`: the preset, then the changes. Raises ValueError for unknown keys."""
    if preset not in presets:
        raise ValueError(f'preset "{preset}": one of {", ".join(presets)} expected')
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        unknown, known = ", ".join(unknown), ", ".join(known)
        raise ValueError(f"{kind.__name__} does not know {unknown}:\nkeys {known} expected")
    return kind(**{**presets[preset], **changes})


def from_command_line(kind, presets, description, arguments=None):
    """A configuration from `--preset NAME --key value ...`; every field of `kind` is an option.

    --help prints the description and what the docstrings of `kind` and its bases say of their fields.
    """
    as_written = argparse.RawDescriptionHelpFormatter
    documented = [description, *(base.__doc__ for base in kind.__mro__[:-1])]
    description = "\n\n".join(map(cleandoc, documented))
    parser = argparse.ArgumentParser(description=description, formatter_class=as_written)
    parser.add_argument("--preset", default="cpu", choices=list(presets), help="where the defaults come from")
    for field in fields(kind):
        convert = argparse.BooleanOptionalAction if field.type is bool else None
        how = {"action": convert} if convert else {"type": field.type}
        parser.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, **how)
    given = vars(parser.parse_args(arguments))
    try:
        return configure(kind, presets, **given)
    except ValueError as error:
        parser.exit(2, f"{error}\n")


def command_line(module, config, processes=1):
    """The command that makes this configuration: every option that differs from the default of its class."""
    words = [f"torchrun --nproc-per-node {processes} -m {module}" if processes > 1 else f"python -m {module}"]
    for field in fields(config):
        value, option = getattr(config, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words.append(f"--{option} {value}")
    return " ".join(words)
