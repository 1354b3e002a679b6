"""What a training is at one moment: weights, their running mean, the optimizer's memory, progress."""

import copy
import json
from dataclasses import asdict, fields
from pathlib import Path

import torch

from minidiff.checkpoint import CheckpointError, fill, load_state, save_state
from train.config import FREE
from train.muon import Muon, split_parameters

LAST, PREVIOUS = "state.safetensors", "state-previous.safetensors"
MEMORY = ("exp_avg", "exp_avg_sq", "momentum")                  # AdamW's two running means, and Muon's one


class State:
    """All that changes while a network is trained.

    step: updates done.  steps: of the whole run, 0 = not decided yet.  constant: those before the learning
    rate falls.  seconds: of training, all sittings.  processes: how many share each step.
    given: as for train.loop.train.
    """

    def __init__(self, network, config, processes=1, given=None):
        self.network, self.config, self.processes, self.given = network, config, processes, given or {}
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        matrices, others = split_parameters(network, config.muon)
        self.optimizers = [torch.optim.AdamW(others, lr=0.0, weight_decay=config.weight_decay,
                                             betas=(0.9, 0.99), fused=True)]
        if matrices:
            self.optimizers.append(Muon(matrices, weight_decay=config.weight_decay))
        self.step, self.steps, self.seconds = 0, config.steps, 0.0
        self.constant = (1 - config.decay) * config.steps
        self.marked = None

    @property
    def done(self):
        """Has the last step been made?"""
        return 0 < self.steps <= self.step

    def fix(self, steps):
        """Take the number of steps; if it was not decided before, the learning rate falls from here on."""
        if steps != self.steps:
            self.steps, self.constant = steps, self.step

    def mark(self):
        """Remember the step and the second at three quarters of the time before the learning rate falls."""
        if self.marked is None and self.seconds >= 0.75 * (1 - self.config.decay) * 60 * self.config.minutes:
            self.marked = self.step, self.seconds

    def follow(self):
        """Move the running mean towards the weights: ema <- d ema + (1 - d) weights.

        d = min(config.ema, (1 + k) / (10 + k)), k steps done before: small at first, to forget the random
        start.
        """
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        weights = [parameter.detach() for parameter in self.network.parameters()]
        torch._foreach_lerp_(list(self.ema.parameters()), weights, 1 - decay)
        for mean, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            mean.copy_(buffer)

    def save(self, folder):
        """Write the checkpoint at one stroke; the one before it stays, as state-previous.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_state(folder / LAST, self.tensors(), {
            "step": self.step, "steps": self.steps, "constant": self.constant, "seconds": self.seconds,
            "minutes": self.config.minutes, "processes": self.processes,
            "config": as_json(self.config), "given": self.given}, previous=folder / PREVIOUS)

    def resume(self, folder):
        """Go on from the folder's checkpoint, if any. Raises CheckpointError if damaged or another run's."""
        found = [path for path in (Path(folder) / LAST, Path(folder) / PREVIOUS) if path.exists()]
        if not found:
            return
        path = found[0]
        try:
            tensors, metadata = load_state(path)
        except CheckpointError as error:
            hint = f"\nif you delete it, the one before it is used: {found[1]}" if len(found) > 1 else ""
            raise CheckpointError(f"{error}{hint}") from None
        usual = {field.name: field.default for field in fields(self.config)}       # for options newer than it
        check_same_run(path, {**usual, **metadata["config"]}, as_json(self.config))
        check_same_run(path, {**self.given, **metadata.get("given", {})}, self.given)
        before = metadata.get("processes", self.processes)      # older files do not say
        if before != self.processes:
            hint = "each draws examples of its own: go on with as many, or choose another --folder"
            raise CheckpointError(f"{path}: of {before} processes, now {self.processes}\n{hint}")
        self.restore(path, tensors, metadata["step"])
        self.step, self.seconds = metadata["step"], metadata["seconds"]
        if metadata["minutes"] == self.config.minutes:          # else the steps are decided again
            self.steps = metadata["steps"]
            self.constant = metadata.get("constant", (1 - self.config.decay) * self.steps)

    def tensors(self):
        """Name -> tensor, of everything a training consists of."""
        found = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        found |= {f"ema.{name}": tensor for name, tensor in self.ema.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for optimizer in self.optimizers:
                memory = optimizer.state.get(parameter, {})     # empty where training is frozen
                found |= {f"optimizer.{key}.{name}": memory[key] for key in MEMORY if key in memory}
        return found

    def restore(self, path, tensors, step):
        """The inverse of tensors(); copies have the parameters' layout in memory, as fused AdamW needs."""
        fill(self.network, part(tensors, "weights."), path)
        fill(self.ema, part(tensors, "ema."), path)
        memory = {key: part(tensors, f"optimizer.{key}.") for key in MEMORY}
        known = dict(self.network.named_parameters())
        for optimizer in self.optimizers:
            mine = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in known.items():
                kept = {key: memory[key][name] for key in MEMORY if name in memory[key]}
                if kept and id(parameter) in mine:
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(step), device=parameter.device),
                        **{key: torch.empty_like(parameter.detach()).copy_(kept[key]) for key in kept}}


def part(tensors, prefix):
    """The tensors whose names begin with prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def as_json(config):
    """The configuration as JSON returns it."""
    return json.loads(json.dumps(asdict(config)))


def check_same_run(path, found, asked):
    """Raise CheckpointError, naming the first difference, unless the configurations agree in all but FREE."""
    for key in [*asked, *found]:
        if key not in FREE and found.get(key) != asked.get(key):
            difference = f"{key} is {found.get(key)} in the file, {asked.get(key)} asked for"
            hint = "go on with the old value, or choose another --folder"
            raise CheckpointError(f"{path}: of another run: {difference}\n{hint}")
