"""What models are put together from, whatever their kind: a process, words, a device, a counter of calls."""

from contextlib import contextmanager

import torch

from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

PROCESSES = {"ddpm-linear": DDPM.linear, "ddpm-cosine": DDPM.cosine, "flow": Flow}


class ReadsPrompts:
    """A model that reads prompts: has `.text`, a text encoder or None, `.process` and `.device`."""

    @torch.no_grad()
    def encode(self, prompts):
        """text (B, L, D) and text_mask (B, L) of B prompts; (None, None) for a network that reads none."""
        if self.text is None:
            if any(prompts):
                raise ValueError(f"prompts are {prompts}: none expected, this network was trained without")
            return None, None
        known = list(dict.fromkeys(prompts))
        text, text_mask = self.text(self.text.tokenize(known).to(self.device))
        rows = torch.tensor([known.index(prompt) for prompt in prompts], device=self.device)
        return text[rows], text_mask[rows]

    def check_prompt(self, prompt):
        """Raise ValueError if a prompt has words that the network never saw, with the nearest it knows."""
        unknown = [] if self.text is None else self.text.unknown_words(prompt)
        if unknown:
            named = ", ".join(map(self.text.describe, unknown))
            raise ValueError(f"the prompt has unknown words: {named}\nwords of Toytown's captions expected")

    def level(self, t):
        """What the network sees of the level t: a float32 fraction 0..1 of the whole."""
        return torch.as_tensor(self.process.fraction(t), dtype=torch.float32)


@contextmanager
def counted(network):
    """Count a network's calls: `with counted(network) as calls`, calls[0] grows by one a picture and pass."""
    calls = [0]

    def count(network, arguments, output):
        calls[0] += len(output)

    hook = network.register_forward_hook(count)
    try:
        yield calls
    finally:
        hook.remove()


def process_from(config):
    """The process of a checkpoint, from its name and settings: {"name": "ddpm-cosine", "T": 1000}, say."""
    settings = dict(config)
    name = settings.pop("name")
    if name not in PROCESSES:
        raise ValueError(f'process "{name}": one of {", ".join(PROCESSES)} expected')
    return PROCESSES[name](**settings)


def pick_device(name="auto"):
    """The torch device for a name; "auto" takes CUDA or Apple's MPS where there is one.

    Raises ValueError if it is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there.get(str(name).split(":")[0]):
        found = ", ".join(kind for kind, present in there.items() if present)
        raise ValueError(f'device "{name}" is not there: auto, {found} expected')
    return torch.device(name)
