"""The editor: networks and a control mechanism plugged together. PIL in; out a picture and its measures.

    editor = Editor.load("town-ddpm")
    result = editor.inpaint("street.png", "hole.png", "a red house on a summer day")
    result.image.save("edited.png")
"""

import warnings
from dataclasses import replace
from functools import partial
from inspect import Parameter, signature
from math import isfinite
from numbers import Integral, Real

import torch

from minidiff.control import controls
from minidiff.control.masks import LEAST
from minidiff.control.outpaint import outpaint_canvas
from minidiff.edit import Edit
from minidiff.familiar import unlike_toytown
from minidiff.images import ImageError, across, good_size, load_image, load_pair, to_tensor, to_uint8
from minidiff.model import load_model, pick_device

MOST_IMAGES = 3                                                 # that an edit looks at, the first included


class Editor:
    """Generate, inpaint, outpaint and edit: the task is the verb, the control mechanism an argument.

    Each verb returns an EditResult; its twin `begin_...` takes the same arguments and returns the Edit, to be
    watched. Options of all verbs: seed, of all noise: the same seed gives the same picture; strict: unknown
    words in a prompt raise ValueError, where otherwise a warning names them. `options(task)` lists those of
    the control mechanisms.
    """

    def __init__(self, model=None, device="auto"):
        self.model, self.device, self.loaded = model, pick_device(device), {}

    @classmethod
    def load(cls, name=None, device="auto"):
        """The editor for weights, by name in data/weights or by path; device: auto, cpu, cuda or mps.

        name: None = each control mechanism brings its own weights, loaded when it is first asked for.
        Raises CheckpointError for files that are missing, damaged or do not fit, ValueError for an absent
        device.
        """
        return cls(None if name is None else load_model(name, device), device)

    def generate(self, prompt="", n=1, **options):
        """Draw n pictures of what the prompt says, "" = anything.

        Options: map: path, PIL picture or (1, 3, H, W) of a depth, segmentation or pose map to follow, which
        gives the pictures their size; resize: bring the map to the nearest size that runs.
        """
        return self.begin_generate(prompt, n, **options).result()

    def inpaint(self, image, edit_mask, prompt=None, **options):
        """Fill the part of a picture that edit_mask marks: True, white or transparent = may change.

        image: path, PIL picture or x0 (1, 3, H, W).  edit_mask: path, PIL picture or bool (1, 1, H, W), of
        its size. prompt: what the whole picture shows, None = anything.  Options: resize: bring the two to
        the nearest size that runs; scribble: edit_mask is a line drawn by hand, and what it encloses may
        change; control: its name.  Raises ValueError for bad pictures, masks and options.
        """
        return self.begin_inpaint(image, edit_mask, prompt, **options).result()

    def outpaint(self, image, left=0, right=0, top=0, bottom=0, prompt=None, **options):
        """Paint on beyond the edges of a picture, by so many pixels a side. The rest as in `inpaint`."""
        return self.begin_outpaint(image, left, right, top, bottom, prompt, **options).result()

    def edit(self, image, instruction="", **options):
        """Change a picture as an instruction says: "make the car blue"; nothing is held fast on the way.

        At the end, editors in latents put back the source's own pixels where their result is what the codec
        makes of the source, within 8 of 255 levels: nothing was edited there (control.masks.change_mask), or
        too faintly. result.edit_mask says what was; result.uncomposited is the picture as decoded.

        image: path, PIL picture or x0 (1, 3, H, W); or a list of 1 to 3, of any sizes, the first of which is
        changed, while the instruction may speak of "image 2" and "image 3".  instruction: "" changes nothing.
        For controls that read captions ("sdedit", "invert", "p2p"): what the result shows, "" = anything.
        Options: resize: bring all to the nearest size that runs; as_decoded: put nothing back (in latents
        only); control: its name.  Raises ValueError for bad pictures and options.
        """
        return self.begin_edit(image, instruction, **options).result()

    def begin_generate(self, prompt="", n=1, *, map=None, control=None, resize=False, **options):
        """`generate`, as an Edit to watch."""
        if n < 1:
            raise ValueError(f"n = {n}: 1 picture or more expected")
        control = control or (self._usual("free") if map is None else "map")
        side = self._model_for("generate", control).size
        height = width = side
        if map is not None:
            options["map"] = to_tensor(load_image(map, resize, "map"))
            height, width = options["map"].shape[2:]
        everywhere = torch.ones(1, 1, height, width, dtype=torch.bool)
        blank = torch.zeros(n, 3, height, width)
        return self._begin("generate", control, blank, everywhere, prompt, **options)

    def begin_inpaint(self, image, edit_mask, prompt=None, *, control=None, resize=False, scribble=False,
                      **options):
        """`inpaint`, as an Edit to watch."""
        control = control or self._usual("repaint", "latent-repaint")
        picture, edit_mask = load_pair(image, edit_mask, resize, scribble)
        x0 = to_tensor(picture)
        self._warn_if_strange("inpaint", control, x0, edit_mask)
        return self._begin("inpaint", control, x0, edit_mask, prompt, **options)

    def begin_outpaint(self, image, left=0, right=0, top=0, bottom=0, prompt=None, *, control=None,
                       resize=False, **options):
        """`outpaint`, as an Edit to watch."""
        control = control or self._usual("repaint", "latent-repaint")
        x0 = to_tensor(load_image(image, resize))
        self._warn_if_strange("outpaint", control, x0, torch.zeros_like(x0[:, :1], dtype=torch.bool))
        canvas, edit_mask = outpaint_canvas(x0, left, right, top, bottom)
        size = canvas.shape[:1:-1]
        if good_size(*size) != tuple(size):
            wanted = f"sides that are multiples of 8, up to 512, expected, such as {across(good_size(*size))}"
            raise ImageError(f"the picture would become {across(size)}: {wanted}")
        return self._begin("outpaint", control, canvas, edit_mask, prompt, **options)

    def begin_edit(self, image, instruction="", *, control=None, resize=False, as_decoded=False, **options):
        """`edit`, as an Edit to watch."""
        images = image if isinstance(image, (list, tuple)) else [image]
        if not 1 <= len(images) <= MOST_IMAGES:
            raise ImageError(f"{len(images)} pictures came: 1 to {MOST_IMAGES} expected")
        x0, *others = (to_tensor(load_image(each, resize)) for each in images)
        control = control or ("context" if others else self._usual("dual-cfg"))
        in_latents = find_control("edit", control).kind == "latent denoiser"
        if as_decoded and not in_latents:
            raise ValueError(f"edit by {control} has no option as_decoded:\na control in latents expected")
        if others and "others" not in options_of(find_control("edit", control)):
            raise ValueError(f"{len(images)} pictures came: edit by {control} looks at 1")
        if "others" in options:
            raise ValueError("edit has no option others: the pictures, as a list, expected")
        if others:
            options["others"] = others
        self._warn_if_strange("edit", control, x0, torch.zeros_like(x0[:, :1], dtype=torch.bool))
        everywhere = torch.ones_like(x0[:, :1], dtype=torch.bool)
        edit = self._begin("edit", control, x0, everywhere, instruction, **options)
        return replace(edit, least=LEAST if in_latents and not as_decoded else None)

    def _begin(self, task, control, x0, edit_mask, prompt, *, seed=0, strict=False, **options):
        mechanism, model = find_control(task, control), self._model_for(task, control)
        takes = options_of(mechanism)
        unknown = [name for name in options if name not in takes]
        if unknown:
            listed = ", ".join(["seed", "strict", *(name for name in takes if name != "others")])
            raise ValueError(f"{task} by {control} has no option {', '.join(unknown)}:\n{listed} expected")
        check_numbers(options, takes)
        if strict:
            for words in (prompt or "", options.get("source", "")):
                model.check_prompt(words)
        walk = partial(mechanism, prompt=prompt or "", **options)
        return Edit(model, to_uint8(x0), edit_mask, walk, seed, compare=task == "edit")

    def _usual(self, control, in_latents="context"):
        """The control mechanism to take where none is named: for latent weights that were named, another."""
        return in_latents if self.model is not None and self.model.kind == "latent denoiser" else control

    def _model_for(self, task, control):
        """The weights that the editor was made with, or those that the control mechanism brings along."""
        mechanism = find_control(task, control)
        if self.model is None and mechanism.weights not in self.loaded:
            self.loaded[mechanism.weights] = load_model(mechanism.weights, self.device)
        model = self.model or self.loaded[mechanism.weights]
        if model.kind != mechanism.kind:
            found = f"{task} by {control} needs a {mechanism.kind}, these weights are a {model.kind}"
            raise ValueError(f"{found}:\nits own weights, {mechanism.weights}, expected")
        return model

    def _warn_if_strange(self, task, control, x0, edit_mask):
        data = self._model_for(task, control).data
        reason = unlike_toytown(x0, edit_mask) if data == "town" else None
        if reason:
            advice = "expect Toytown's shapes and colours in the edit, whatever stands around it"
            warnings.warn(f"this picture is nothing like Toytown ({reason}):\n{advice}", stacklevel=4)


def check_numbers(options, takes):
    """Raise ValueError for numbers that are not finite, or not whole where the default is.

    options: name -> value that came.  takes: name -> default.
    """
    for name, value in options.items():
        if isinstance(value, Real) and not isfinite(value):
            raise ValueError(f"{name} = {value}: a finite number expected")
        if type(takes[name]) is int and not isinstance(value, Integral):
            raise ValueError(f"{name} = {value}: a whole number expected")


def find_control(task, control):
    """The control mechanism of this name. Raises ValueError if the task has none."""
    there = controls(task)
    if control not in there:
        raise ValueError(f'control "{control}": one of {", ".join(there)} expected for {task}')
    return there[control]


def options_of(control):
    """The options of a control mechanism, with their defaults: the keywords of its function."""
    keywords = {name: each for name, each in signature(control).parameters.items() if name != "generator"}
    return {name: each.default for name, each in keywords.items() if each.kind is Parameter.KEYWORD_ONLY}
