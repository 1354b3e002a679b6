"""What a training is at one moment: weights, their running mean, the optimizer's memory, and where it stands."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import torch

from minidiff.checkpoint import CheckpointError, fill, load_state, save_state
from train.config import FREE

LAST, PREVIOUS = "state.safetensors", "state-previous.safetensors"
MEMORY = ("exp_avg", "exp_avg_sq")                              # AdamW's running means of the gradient and its square


class State:
    """step: updates done.  steps: of the whole run, 0 = not decided yet.  seconds: of training, all sittings together."""

    def __init__(self, network, config):
        self.network, self.config = network, config
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=config.weight_decay,
                                           betas=(0.9, 0.99), fused=True)
        self.step, self.steps, self.seconds = 0, config.steps, 0.0

    @property
    def done(self):
        """Has the last step been made?"""
        return 0 < self.steps <= self.step

    def follow(self):
        """Move the running mean towards the weights: ema <- d ema + (1 - d) weights,  d = min(config.ema, (1 + k) / (10 + k)).

        k: steps done before this one. The early d are small, so that the random start is forgotten soon.
        """
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), [p.detach() for p in self.network.parameters()], 1 - decay)
        for mean, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            mean.copy_(buffer)

    def save(self, folder):
        """Write the checkpoint at one stroke; the one before it stays, as state-previous.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_state(folder / LAST, self.tensors(), {
            "step": self.step, "steps": self.steps, "seconds": self.seconds, "minutes": self.config.minutes,
            "config": what_is_learnt(self.config)}, previous=folder / PREVIOUS)

    def resume(self, folder):
        """Go on from the folder's checkpoint, if it has one. Raises CheckpointError if it is damaged or of another run."""
        path = next((Path(folder) / name for name in (LAST, PREVIOUS) if (Path(folder) / name).exists()), None)
        if path is None:
            return
        try:
            tensors, metadata = load_state(path)
        except CheckpointError as error:
            hint = f"\nto go on from the one before it, delete it: {PREVIOUS} is there" if path.name == LAST else ""
            raise CheckpointError(f"{error}{hint}") from None
        check_same_run(path, metadata["config"], what_is_learnt(self.config))
        self.restore(path, tensors, metadata["step"])
        self.step, self.seconds = metadata["step"], metadata["seconds"]
        if metadata["minutes"] == self.config.minutes:          # another time limit asks for another number of steps
            self.steps = metadata["steps"]

    def tensors(self):
        """Name -> tensor, of everything a training consists of."""
        found = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        found |= {f"ema.{name}": tensor for name, tensor in self.ema.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            memory = self.optimizer.state.get(parameter, {})    # empty where training is frozen
            found |= {f"optimizer.{key}.{name}": memory[key] for key in MEMORY if key in memory}
        return found

    def restore(self, path, tensors, step):
        """The inverse of tensors(); the copies have the parameters' layout in memory, as fused AdamW needs."""
        fill(self.network, part(tensors, "weights."), path)
        fill(self.ema, part(tensors, "ema."), path)
        memory = {key: part(tensors, f"optimizer.{key}.") for key in MEMORY}
        for name, parameter in self.network.named_parameters():
            if name in memory[MEMORY[0]]:
                copies = {key: torch.empty_like(parameter.detach()).copy_(memory[key][name]) for key in MEMORY}
                step_here = torch.tensor(float(step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": step_here, **copies}


def part(tensors, prefix):
    """The tensors whose names begin with prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def what_is_learnt(config):
    """The configuration as JSON would return it, without what a resumed run may change."""
    return json.loads(json.dumps({key: value for key, value in asdict(config).items() if key not in FREE}))


def check_same_run(path, found, asked):
    """Raise CheckpointError, naming the first difference, unless two configurations are the same."""
    for key in [*asked, *found]:
        if found.get(key) != asked.get(key):
            difference = f"{key} is {found.get(key)} in the file, {asked.get(key)} asked for"
            raise CheckpointError(f"{path}: of another run: {difference}\ngo on with the old value, or choose another --run")
