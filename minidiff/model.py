"""What a checkpoint holds, put together: a process, a denoising network and a text encoder."""

from contextlib import contextmanager

import torch

from minidiff.checkpoint import CheckpointError, fill, load_weights
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.guidance import guided
from minidiff.process.sample import clamped

PROCESSES = {"ddpm-linear": DDPM.linear, "ddpm-cosine": DDPM.cosine, "flow": Flow}


class Model:
    """A trained network with its process: what the control mechanisms are handed.

    process: see minidiff.process.  unet, text: networks, moved to `device`; no text: None.
    data: what it was trained on, "town" for Toytown.
    """

    def __init__(self, process, unet, text=None, device="cpu", data=None):
        self.process, self.data = process, data
        self.device = torch.device(device)
        self.unet = unet.to(self.device).eval().requires_grad_(False)
        self.text = None if text is None else text.to(self.device).eval().requires_grad_(False)

    @classmethod
    def load(cls, name_or_path, device="auto"):
        """The model of weights, by name in data/weights or by path; device: auto, cpu, cuda or mps.

        Raises CheckpointError for files that are missing, damaged or do not fit, ValueError for an absent
        device.
        """
        device = pick_device(device)
        tensors, entry = load_weights(name_or_path)
        try:
            config = entry["config"]
            process = process_from(config["process"])
            unet = UNet(UNetConfig.from_dict(config["unet"]))
            text = TextEncoder(TextConfig.from_dict(config["text"])) if config.get("text") else None
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error).replace("\n", " ")
            raise CheckpointError(f"{name_or_path}: its configuration does not fit:\n{reason}") from None
        for prefix, network in {"unet.": unet, "text.": text}.items():
            if network is not None:
                own = {key: value for key, value in tensors.items() if key.startswith(prefix)}
                fill(network, {key.removeprefix(prefix): value for key, value in own.items()}, name_or_path)
        return cls(process, unet, text, device, entry.get("data"))

    @property
    def size(self):
        """The side, in pixels, of the pictures that the network was trained on."""
        return self.unet.config.size

    def denoiser(self, prompts, scale=1.0):
        """denoise(x_t, t) -> prediction, with a prompt a picture bound to it, and x0_hat clamped to [-1, 1].

        prompts: B strings, "" = anything; encoded here, once.  scale: guidance, 1 = off; otherwise the
        branches with and without prompts go through the network in one batch. Raises ValueError for prompts
        that cannot be read.
        """
        if self.text is None:
            if any(prompts):
                raise ValueError(f"prompts are {prompts}: none expected, this network was trained without")
            return clamped(self.process, lambda x_t, t: self.unet(x_t, self.level(t)))
        tokens = self.text.tokenize([*prompts, ""]).to(self.device)
        with torch.no_grad():
            text, text_mask = self.text(tokens)                                    # (B + 1, L, D), (B + 1, L)
        rows = torch.arange(len(prompts), device=self.device)
        without = torch.full_like(rows, len(prompts))                                       # the row of ""

        def predict(x_t, t, rows):
            return self.unet(x_t, self.level(t), text[rows], text_mask[rows])

        return clamped(self.process, guided(predict, rows, without, scale))

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
    def counted(self):
        """Count network calls: `with model.counted() as calls`, calls[0] grows by one a picture and pass."""
        calls = [0]

        def count(network, arguments, output):
            calls[0] += len(output)

        hook = self.unet.register_forward_hook(count)
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
