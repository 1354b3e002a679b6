"""One edit: a walk that can be watched, and what comes out of it."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter

import torch
from PIL.Image import Image
from torch import Tensor

from minidiff.control.masks import change_mask
from minidiff.images import composite, to_pil, to_uint8, to_x0
from minidiff.measure import preservation
from minidiff.model import Model
from minidiff.process.sample import State


@dataclass(frozen=True)
class EditResult:
    """What an edit gave: the picture, how well it kept what nobody asked to change, and what it cost.

    images: PIL pictures, one unless more were generated.  uncomposited: the first, before pixels were put
    back. edit_mask: bool (1 or B, 1, H, W), False where they were: what was marked; of an edit in latents by
    words alone, what it has changed; of others by words alone, all.  measures: as `figures` has them; where
    nobody marked anything, only how much did change, as in `Edit.judge`.  network_calls: passes of one
    picture through the network.  seconds: from the first step to the last.
    """

    images: tuple[Image, ...]
    uncomposited: Image
    edit_mask: Tensor
    measures: dict[str, float]
    network_calls: int
    seconds: float

    @property
    def image(self):
        """The picture, or the first of several."""
        return self.images[0]


@dataclass
class Edit:
    """An edit, checked and ready: iterate over it to watch each State, ask for its `result()`.

    known: uint8 (B, 3, H, W).  edit_mask: bool (1, 1, H, W).
    walk: (model, x0, edit_mask, generator=...) -> the States, by a control mechanism with its options.
    compare: measure the change against `known` even where all may change?  least: where all may change, put
    back what a model in latents did not change by more, as in `change_mask`; None: put nothing back.
    """

    model: Model
    known: Tensor
    edit_mask: Tensor
    walk: Callable[..., Iterator[State]]
    seed: int = 0
    compare: bool = False
    least: float | None = None
    outcome: EditResult | None = field(default=None, init=False)

    def __iter__(self):
        """Yield every State; the last one's x, decoded, is the picture. None where nothing may change."""
        x, device, calls, start = to_x0(self.known), self.model.device, [0], perf_counter()
        state = None
        if self.edit_mask.any():
            with self.model.counted() as calls:
                walk = self.walk(self.model, x.to(device), self.edit_mask.to(device), generator=self.noise())
                for state in walk:
                    yield state
                if state is not None:                           # nothing was asked for: the picture as it is
                    x = self.model.decode(state.x)
        self.outcome = self.judge(to_uint8(x.cpu()), state is not None, calls[0], perf_counter() - start)

    def __len__(self):
        """The number of States: a walk over the smallest picture, with a network that does nothing, tells."""
        if not self.edit_mask.any():
            return 0
        tiny, anywhere = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
        return sum(1 for _ in self.walk(Rehearsal(self.model), tiny, anywhere, generator=self.noise()))

    def result(self):
        """The EditResult, after a walk to the end if there was none yet."""
        if self.outcome is None:
            for _ in self:
                pass
        return self.outcome

    def noise(self):
        """The source of all the noise of a walk: the same for the same seed, on any device."""
        return torch.Generator().manual_seed(self.seed)

    def judge(self, edited, walked, network_calls, seconds):
        """Put back, identical, what was not to change, or did not, and measure: the EditResult.

        edited: uint8 (B, 3, H, W).  walked: was it made by a walk, or is it `known`?
        Where all may change, and that is to be compared: "changed", the share of pixels that did, by > 4/255;
        in latents also "uncomposited_changed", the same before pixels were put back, and "codec_changed", the
        share that the round trip through the codec changes by itself.
        """
        edit_mask, unmarked, measures = self.edit_mask, bool(self.edit_mask.all()), {}
        in_latents, unedited = unmarked and self.model.kind == "latent denoiser", to_x0(self.known)
        if in_latents and walked:
            unedited = self.model.round_trip(unedited.to(self.model.device)).cpu()
        if in_latents and self.least is not None:
            edit_mask = change_mask(to_x0(edited), unedited, self.least)
        final = composite(self.known, edited, edit_mask)
        if not unmarked:
            measures = figures(self.known, edited, final, edit_mask)
        elif self.compare:
            measures = {"changed": self.changed(final)}
            if in_latents and walked:
                measures["uncomposited_changed"] = self.changed(edited)
                measures["codec_changed"] = self.changed(to_uint8(unedited))
        images = tuple(to_pil(x0) for x0 in to_x0(final))
        uncomposited = to_pil(to_x0(edited[:1]))
        return EditResult(images, uncomposited, edit_mask, measures, network_calls, seconds)

    def changed(self, picture):
        """The share of pixels that are not as they were, by more than 4/255.  picture: uint8 (B, 3, H, W)."""
        before, after, nowhere = to_x0(self.known), to_x0(picture), torch.zeros_like(self.edit_mask)
        return preservation(before, after, nowhere).changed.mean().item()


class Rehearsal:
    """A model whose network does nothing."""

    def __init__(self, model):
        self.kind, self.size = model.kind, model.size
        self.process, self.text = (getattr(model, name, None) for name in ("process", "text"))

    def denoiser(self, *conditions):
        """A denoise callable that predicts what it was given."""
        return lambda x_t, t: x_t

    def latents(self, x0):
        """The picture, as it is."""
        return x0

    def cells(self, edit_mask):
        """The mask, as it is."""
        return edit_mask

    def times(self, steps, z, shift=None):
        """As many levels as ever."""
        return self.process.times(steps)

    def branches(self, *conditions):
        """As many predictions of what it was given as there are branches."""
        return lambda x_t, t: [x_t] * len(conditions)

    def fill(self, image, edit_mask):
        """The picture, as it is."""
        return image

    def attention(self, adjust):
        """Nobody looks."""
        return nullcontext()


def figures(known, edited, final, edit_mask):
    """What an edit is judged by where no truth is known, name -> figure.

    psnr, max_diff, changed: `measure.preservation` of the kept pixels; uncomposited_...: the same before they
    were put back.  edge: as in `edge_contrast`.  known, edited, final: uint8 (1, 3, H, W).
    """
    known, edited, final = to_x0(known), to_x0(edited), to_x0(final)
    kept, before = preservation(known, final, edit_mask), preservation(known, edited, edit_mask)
    names = ("psnr", "max_diff", "changed")
    measures = {name: getattr(kept, name).item() for name in names}
    measures |= {f"uncomposited_{name}": getattr(before, name).item() for name in names}
    return measures | {"edge": edge_contrast(final, edit_mask)}


def edge_contrast(x0, edit_mask):
    """Mean |step| across the mask's edge / mean |step| between kept neighbours: about 1 where no edge shows.

    x0: (1, C, H, W).  edit_mask: bool (1, 1, H, W).  nan where there is no edge, or no two kept pixels
    differ.
    """
    across, inside = [], []
    for axis in (2, 3):
        step = x0.diff(dim=axis).abs().mean(1, keepdim=True)
        crossing, kept = edit_mask.diff(dim=axis), ~edit_mask                             # diff of bools: xor
        both_kept = kept.narrow(axis, 1, step.shape[axis]) & kept.narrow(axis, 0, step.shape[axis])
        across.append(step[crossing])
        inside.append(step[both_kept])
    return (torch.cat(across).mean() / torch.cat(inside).mean()).nan_to_num(posinf=torch.nan).item()
