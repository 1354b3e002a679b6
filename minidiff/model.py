"""What a checkpoint holds, put together: a process, a denoising network and a text encoder."""

import torch

from minidiff.checkpoint import CheckpointError, fill, fitting, load_weights
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.denoisers.lama import LaMa, LaMaConfig
from minidiff.denoisers.layers import adjusted
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.latent import LatentModel
from minidiff.parts import ReadsPrompts, counted, pick_device, process_from
from minidiff.process.guidance import cfg
from minidiff.process.sample import clamped


class Model(ReadsPrompts):
    """A trained network with its process: what the control mechanisms are handed.

    process: see minidiff.process.  unet, text: networks, moved to `device`; no text: None.
    data: what it was trained on, "town" for Toytown.
    """

    kind = "denoiser"

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
        with fitting(name_or_path):
            config = entry["config"]
            base = config.get("base")                           # whose networks a control branch is added to
            if base:
                frozen, base_entry = load_weights(base)
                if base_entry["sha256"] != config["base_sha256"]:
                    raise ValueError(f"trained beside another {base} than the one that is here")
                config = {**base_entry["config"], **config}
                tensors |= {name.replace("unet.", "unet.base.", 1): value for name, value in frozen.items()}
            process = process_from(config["process"])
            unet = UNet(UNetConfig.from_dict(config["unet"]))
            unet = ControlledUNet(unet, config["map_channels"]) if base else unet
            text = TextEncoder(TextConfig.from_dict(config["text"])) if config.get("text") else None
        for prefix, network in {"unet.": unet, "text.": text}.items():
            if network is not None:
                own = {key: value for key, value in tensors.items() if key.startswith(prefix)}
                fill(network, {key.removeprefix(prefix): value for key, value in own.items()}, name_or_path)
        return cls(process, unet, text, device, entry.get("data"))

    @property
    def size(self):
        """The side, in pixels, of the pictures that the network was trained on."""
        return self.unet.config.size

    def denoiser(self, prompts, scale=1.0, extra=None):
        """denoise(x_t, t) -> prediction, with a prompt a picture bound to it, and x0_hat clamped to [-1, 1].

        prompts: B strings, "" = anything; encoded here, once.  scale: guidance, 1 = off; otherwise the
        branches with and without prompts go through the network in one batch.  extra: (B, extra_channels, H,
        W), for networks with such; both branches see it. Raises ValueError for prompts that cannot be read.
        """
        if scale == 1 or not any(prompts):                      # nothing to guide towards
            predict = self.branches((prompts, extra))
            return clamped(self.process, lambda x_t, t: predict(x_t, t)[0])
        predict = self.branches(([""] * len(prompts), extra), (prompts, extra))
        return clamped(self.process, lambda x_t, t: cfg(*predict(x_t, t), scale))

    def branches(self, *conditions):
        """predict(x_t, t) -> a prediction for each branch: all of them go through the network in one batch.

        conditions: for each branch (prompts, extra): B strings, and (B, extra_channels, H, W) or None.
        Raises ValueError for prompts that cannot be read, and for extra channels that the network lacks.
        """
        prompts = [prompt for prompts, _ in conditions for prompt in prompts]
        extra = None if conditions[0][1] is None else torch.cat([extra for _, extra in conditions])
        self.check_extra(extra)
        text = self.encode(prompts)

        def predict(x_t, t):
            many = torch.cat([x_t] * len(conditions))
            t = t.repeat(len(conditions)) if isinstance(t, torch.Tensor) and t.ndim else t
            return self.unet(many, self.level(t), *text, extra=extra).chunk(len(conditions))

        return predict

    def check_extra(self, extra):
        """Raise ValueError unless the network has as many extra channels as a control mechanism gives it."""
        given, taken = 0 if extra is None else extra.shape[1], self.unet.config.extra_channels
        if given != taken:
            found = f"these weights take {taken} extra channels, this control mechanism gives {given}"
            raise ValueError(f"{found}:\nits own weights expected, which it brings along if none are named")

    def decode(self, x):
        """The pictures of what was sampled: x itself, since here the process runs on pixels."""
        return x

    def attention(self, adjust):
        """A context in which every attention layer of the U-Net asks `adjust`: see layers.adjusted."""
        return adjusted(self.unet, adjust)

    def counted(self):
        """Count network calls: `with model.counted() as calls`, calls[0] grows by one a picture and pass."""
        return counted(self.unet)


class LaMaModel:
    """A network that fills a hole in one pass: no process, no noise, no text."""

    kind = "one-pass network"

    def __init__(self, lama, device="cpu", data=None):
        self.device, self.data = torch.device(device), data
        self.lama = lama.to(self.device).eval().requires_grad_(False)

    @classmethod
    def load(cls, name_or_path, device="auto"):
        """The model of weights, by name in data/weights or by path. Raises as Model.load."""
        device = pick_device(device)
        tensors, entry = load_weights(name_or_path)
        with fitting(name_or_path):
            lama = LaMa(LaMaConfig.from_dict(entry["config"]["lama"]))
        fill(lama, tensors, name_or_path)
        return cls(lama, device, entry.get("data"))

    @property
    def size(self):
        """The side, in pixels, of the pictures that the network was trained on."""
        return self.lama.config.size

    @torch.no_grad()
    def fill(self, image, edit_mask):
        """The network's picture of the whole: (B, 3, H, W), within [-1, 1]; what it keeps is only near.

        image: (B, 3, H, W).  edit_mask: bool (B or 1, 1, H, W), True = to be filled, not looked at.
        """
        return self.lama(image, edit_mask.expand(len(image), -1, -1, -1))

    def decode(self, x):
        """The pictures of what came out: x itself."""
        return x

    def check_prompt(self, prompt):
        """Raise ValueError if there is a prompt: this network reads none."""
        if prompt:
            raise ValueError(f'prompt "{prompt}": none expected, this network reads no text')

    def counted(self):
        """Count network calls, as Model.counted."""
        return counted(self.lama)


def load_model(name_or_path, device="auto"):
    """The model of weights, whatever its kind. Raises as Model.load, and for weights that draw nothing."""
    _, entry = load_weights(name_or_path)
    kinds = {"lama": LaMaModel, "dit": LatentModel, "unet": Model, "base": Model}
    kind = next((kinds[network] for network in kinds if network in entry["config"]), None)
    if kind is None:
        found = f"{name_or_path}: these weights are a {next(iter(entry['config']))}, which draws no pictures"
        raise CheckpointError(f"{found}:\nthose of an editor expected")
    return kind.load(name_or_path, device)
