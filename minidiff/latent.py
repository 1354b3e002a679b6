"""The unified model: a flow in latents, whose one transformer draws, and edits with pictures as tokens."""

import torch

from minidiff.checkpoint import fill, fitting, load_weights
from minidiff.denoisers.dit import DiT, DiTConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.encoders.vae import VAE, cells_of
from minidiff.parts import ReadsPrompts, counted, pick_device, process_from
from minidiff.process.flow import shift_for
from minidiff.process.guidance import cfg


class LatentModel(ReadsPrompts):
    """A diffusion transformer with its flow and text encoder, and the VAE whose latents it works in.

    process: a Flow.  dit, text, vae: networks, moved to `device`.  data: what they were trained on, "town"
    for Toytown.  size: the side, in pixels, of the pictures that they were trained on.
    """

    kind = "latent denoiser"

    def __init__(self, process, dit, text, vae, device="cpu", data=None, size=64):
        self.process, self.data, self.size = process, data, size
        self.device = torch.device(device)
        networks = (network.to(self.device).eval().requires_grad_(False) for network in (dit, text, vae))
        self.dit, self.text, self.vae = networks

    @classmethod
    def load(cls, name_or_path, device="auto"):
        """The model of weights, by name in data/weights or by path. Raises as Model.load.

        The VAE has weights of its own: their name stands in the entry, with the SHA-256 that they must have.
        """
        device = pick_device(device)
        tensors, entry = load_weights(name_or_path)
        with fitting(name_or_path):
            config = entry["config"]
            _, vae_entry = load_weights(config["vae"])
            if vae_entry["sha256"] != config["vae_sha256"]:
                raise ValueError(f"trained with another {config['vae']} than the one that is here")
            process, size = process_from(config["process"]), config["size"]
            dit = DiT(DiTConfig.from_dict(config["dit"]))
            text = TextEncoder(TextConfig.from_dict(config["text"]))
        fill(torch.nn.ModuleDict({"dit": dit, "text": text}), tensors, name_or_path)
        return cls(process, dit, text, VAE.load(config["vae"]), device, entry.get("data"), size)

    @property
    def factor(self):
        """Pixels of a cell's side."""
        return self.vae.config.factor

    def latents(self, x0):
        """Pictures (B, 3, H, W) -> (B, C, H/4, W/4), as VAE.latents."""
        return self.vae.latents(x0)

    def cells(self, edit_mask):
        """The cells that may change, as `cells_of`: bool (B, 1, H, W) -> (B, 1, H/4, W/4)."""
        return cells_of(edit_mask, self.factor)

    def decode(self, z):
        """The pictures of latents, as VAE.decode: (B, C, h, w) -> (B, 3, 4h, 4w) within [-1, 1]."""
        return self.vae.decode(z)

    def round_trip(self, x0):
        """What the codec alone makes of pictures, as VAE.round_trip: (B, 3, H, W) -> the same shape."""
        return self.vae.round_trip(x0)

    def times(self, steps, z, shift=None):
        """steps + 1 levels for latents such as z, (B, C, h, w), moved towards the noise by `shift`.

        None: by usual_shift.
        """
        return self.process.times(steps, usual_shift(z, self.dit.config.patch) if shift is None else shift)

    def denoiser(self, prompts, scale=1.0, contexts=(), size=None, guide=cfg, guided_above=0.0):
        """denoise(z_t, t) -> v, with a prompt and context pictures for each z_t bound to it, prepared once.

        prompts: B strings; without contexts "" means anything, with contexts: change nothing; None: nothing
        was said.  contexts: up to 3 latents, each (B, C, h, w), clean; of any sizes.  size: (h, w) of z_t;
        None: of the first context, or of the pictures that the network was trained on.
        scale, guide: guide(uncond, cond, scale), where uncond sees the contexts, too, but was told nothing;
        both go through the network in one batch. 1 = off.
        guided_above: at this level and below, guidance is off, too, and one branch is asked.
        Raises ValueError for prompts that cannot be read, and contexts that do not fit.
        """
        prompts = list(prompts)
        if not contexts:
            prompts = [prompt if (prompt or "").strip() else None for prompt in prompts]
        silent = [None] * len(prompts)
        told = [prompts] if scale == 1 or prompts == silent else [silent, prompts]
        side = self.size // self.factor
        size = size or (contexts[0].shape[2:] if contexts else (side, side))
        text, text_mask = self.encode(sum(told, []))
        contexts = [torch.cat([context] * len(told)) for context in contexts]
        conditions = self.dit.prepare(text, text_mask, contexts, size)

        def denoise(z_t, t):
            if len(told) == 1:
                return self.dit(z_t, self.level(t), conditions=conditions)
            t = torch.as_tensor(t)
            low = t <= guided_above                                                # () or (B,)
            if low.all():
                return self.dit(z_t, self.level(t), conditions=conditions.last(len(z_t)))
            level = self.level(t.repeat(2) if t.ndim else t)
            uncond, cond = self.dit(torch.cat([z_t, z_t]), level, conditions=conditions).chunk(2)
            return torch.where(low.to(z_t.device).view(-1, 1, 1, 1), cond, guide(uncond, cond, scale))

        return denoise

    def counted(self):
        """Count network calls, as Model.counted; to prepare a picture's conditions is one, too.

        Both go through the stack of blocks, whose last one is single: one network for all of its tokens.
        """
        return counted(self.dit.blocks[-1].streams[0].qkv)


def usual_shift(z, patch):
    """How far FLUX.1 moves levels for the tokens of latents, by shift_for.  z: (B, C, h, w); patch: cells.
    """
    return shift_for(z.shape[2] * z.shape[3] // patch**2)
