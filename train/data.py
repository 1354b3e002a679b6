"""Pictures and captions to train on: Toytown, MNIST, CIFAR-10, or a folder.

A source is called with (n, generator) and returns n pictures and n captions, the same for the same generator.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from minidiff.images import still_picture, to_rgb
from minidiff.toytown import VOCABULARY, captions, edits, paint, scenes
from minidiff.toytown.glyphs import CHARACTERS
from train.loop import Now, generator_of

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Town:
    """Fresh Toytown scenes for every batch, painted on a device."""

    words = VOCABULARY
    characters = "".join(CHARACTERS)

    def __init__(self, size, device):
        self.size, self.device = size, device

    def __call__(self, n, generator):
        """(x0 (n, 3, size, size) float32 in [-1, 1] on the device, n captions)"""
        seed = draw_seed(generator)
        drawn = scenes(n, seed)
        return paint(drawn.to(self.device), self.size), captions(drawn, seed)


class TownEdits:
    """Fresh edits of Toytown for every batch, painted on a device.

    They are drawn `part` at a time, since few at a time cost twice as much each; a part serves part / n of
    the steps.
    """

    def __init__(self, kinds, size, device, seed, part=256):
        self.kinds, self.size, self.device, self.seed, self.part = kinds, size, device, seed, part
        self.drawn = {}

    def __call__(self, n, now):
        """n edits for the pass of a step, the same for the same step.  now: as in train.loop."""
        steps = max(self.part // n, 1)
        part, place = divmod(now.step, steps)
        wanted = (n, part, now.number)
        if wanted not in self.drawn:
            self.drawn = {kept: batch for kept, batch in self.drawn.items() if kept[:2] == wanted[:2]}
            seed = draw_seed(generator_of(self.seed, "edits", *wanted))
            options = dict(kinds=self.kinds, size=self.size, device=self.device)
            self.drawn[wanted] = edits(n * steps, seed, **options)
        return self.drawn[wanted][place * n : (place + 1) * n]


class Supply:
    """What a training learns from, batch by batch: painted ahead by workers, kept, and shown again.

    make: (CPU generator, Now) -> tuples and lists of tensors and of anything else; but it is not told how far
    the training is.  Pictures among them, (n, C, H, W) float32 in [-1, 1], travel and stay as bytes, as files
    have them.  prepare: what is made of a batch before it is kept, on the device, once; None = nothing.
    config.workers, distinct, every: see LoopConfig. The batches do not depend on how many workers there are.
    """

    def __init__(self, make, config, device, prepare=None):
        def packed(generator, now):
            return each(as_bytes, make(generator, now))

        def placed(now):
            batch = each(lambda tensor: tensor.to(device, non_blocking=pinned), ahead(now))
            return prepare(each(as_floats, batch)) if prepare else batch

        pinned = torch.device(device).type == "cuda"
        ahead = Ahead(packed, config, pinned)
        self.again, self.prepared = Again(placed, config), bool(prepare)

    def __call__(self, now):
        """The batch of a pass of a step, on the device.  now: as in train.loop."""
        batch = self.again(now)
        return batch if self.prepared else each(as_floats, batch)


def paints_on(config, device):
    """Where what Supply makes is painted: on the CPU if by workers, else where the training runs."""
    return "cpu" if config.workers else device


def each(change, batch):
    """Tuples and lists of tensors, with every tensor changed, and all else as it is."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if not isinstance(batch, (tuple, list)):
        return batch
    parts = [each(change, part) for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def as_bytes(tensor):
    """Pictures, (n, C, H, W) float32 in [-1, 1], as uint8; any other tensor as it is.

    Raises ValueError for a tensor that looks like pictures, but is out of their range.
    """
    if tensor.dtype != torch.float32 or tensor.ndim != 4:
        return tensor
    if not (tensor.abs() <= 1 + 1e-3).all():
        found = f"{tuple(tensor.shape)}, up to {tensor.abs().max().item()}"
        raise ValueError(f"float32 with four axes is taken for pictures, but is {found}: -1 to 1 expected")
    return ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte()


def as_floats(tensor):
    """The inverse of as_bytes."""
    return tensor.float() / 127.5 - 1 if tensor.dtype == torch.uint8 else tensor


class Ahead:
    """Batches that worker processes make ahead of their steps, on the CPU, so that no GPU waits for them.

    make: (CPU generator, Now) -> as for Supply.  pinned: in memory that a GPU can fetch from by itself?
    Raises ValueError for workers where it is not safe to fork.
    """

    def __init__(self, make, config, pinned=False):
        self.make, self.seed, self.accumulate, self.pinned = make, config.seed, config.accumulate, pinned
        self.workers = min(config.workers, os.cpu_count())
        self.coming = None                                      # the pass that the workers make next
        if self.workers and sys.platform != "linux":
            raise ValueError(f"workers = {self.workers}: --workers 0 expected, since only Linux forks safely")

    def __call__(self, now):
        """The batch of a pass of a step.  now: as in train.loop. Out of order, the workers begin anew."""
        wanted = now.step, now.number
        if not self.workers:
            return self[wanted]
        if wanted != self.coming:
            self.begin(wanted)
        self.coming = next(self.later)
        return next(self.batches)

    def begin(self, wanted):
        """Set the workers to work, from this pass on."""
        loader = DataLoader(self, None, sampler=passes(*wanted, self.accumulate), num_workers=self.workers,
                            multiprocessing_context="fork", pin_memory=self.pinned)
        self.batches, self.later = iter(loader), passes(*wanted, self.accumulate)
        next(self.later)

    def __getitem__(self, wanted):
        step, number = wanted
        return self.make(generator_of(self.seed, "ahead", step, number), Now(step, number, 1.0))


def passes(step, number, accumulate):
    """The passes of one process from one of them on, without end: (step, number), as in train.loop."""
    first = number - number % accumulate
    while True:
        yield step, number
        number += 1
        if number == first + accumulate:
            step, number = step + 1, first


class Again:
    """Batches that are made once and come again: for what is slow to make.

    make: Now -> anything; but it is not told how far the training is.  config.distinct: how many there are; 0
    = none comes again, and none is kept; else all are, on the training device.  config.every: a new one is
    made each so many steps, and until all are, the steps between get old ones, by chance; then they come in
    turn. A training that resumes makes the same ones again, in their order.
    """

    def __init__(self, make, config):
        self.make, self.config = make, config
        self.made = {}

    def __call__(self, now):
        """The batch of a pass of a step."""
        if not self.config.distinct:
            return self.make(now)
        wanted = self.which(now.step), now.number
        if wanted not in self.made:
            self.catch_up(*wanted)
        return self.made[wanted]

    def which(self, step):
        """The number of a step's batch, 0 to distinct - 1."""
        new, between = divmod(step, self.config.every)
        if new >= self.config.distinct:
            return step % self.config.distinct
        if not between:
            return new
        return int(torch.randint(new + 1, (), generator=generator_of(self.config.seed, "old", step)))

    def catch_up(self, last, number):
        """Make this batch; before it, after a break, all that may be asked for by chance, in their order.

        So workers that paint ahead need not begin anew for each.
        """
        start = 0 if self.config.every > 1 else last
        for wanted in passes(start, number - number % self.config.accumulate, self.config.accumulate):
            if wanted not in self.made:
                self.made[wanted] = self.make(Now(*wanted, 1.0))
            if wanted == (last, number):
                return


class Pictures:
    """A fixed set of pictures with captions, kept as bytes; every batch draws from it, with replacement.

    pictures: (N, 3, size, size) uint8.  labels: N indices into `names`, the captions.
    """

    characters = ""

    def __init__(self, pictures, labels, names, device):
        self.pictures, self.labels, self.names, self.device = pictures, labels, names, device
        self.words = tuple(dict.fromkeys(word for name in names for word in name.split()))

    def __call__(self, n, generator):
        """(x0 (n, 3, size, size) float32 in [-1, 1] on the device, n captions)"""
        index = torch.randint(len(self.pictures), (n,), generator=generator)
        x0 = self.pictures[index].to(self.device).float() / 127.5 - 1
        return x0, [self.names[label] for label in self.labels[index].tolist()]


def source(data, size, device, download=False, folder="data/downloads"):
    """The source named by `data`: "town", "mnist", "cifar10", or the path of a folder of pictures.

    size: side of the pictures.  download: may MNIST and CIFAR-10 be fetched into `folder`?  Nothing else
    reaches the network. Raises ValueError if the pictures are not there.
    """
    if data == "town":
        return Town(size, device)
    if data in ("mnist", "cifar10"):
        pictures, labels, names = torchvision_set(data, folder, download)
    else:
        pictures, labels, names = picture_folder(data, size)
    return Pictures(resize(pictures, size), labels, names, device)


def torchvision_set(data, folder, download):
    """(pictures (N, 3, H, W) uint8, labels (N,), captions by label) of MNIST's or CIFAR-10's training set."""
    try:
        from torchvision import datasets
    except ImportError:
        raise ValueError(f'{data} needs torchvision:\npip install "minidiff[train]"') from None
    kind = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[data]
    try:
        found = kind(folder, train=True, download=download)
    except RuntimeError as error:
        hint = str(error).splitlines()[0] if download else "add --download to fetch it"
        where = f"{Path(folder).resolve()}, where torchvision keeps it"
        raise ValueError(f"{data} is not in {where}:\n{hint}") from None
    pixels = torch.as_tensor(found.data)
    labels = torch.as_tensor(found.targets)
    if data == "mnist":                                                              # (N, 28, 28)
        return grey(pixels), labels, [f"a photo of the digit {name}" for name in DIGITS]
    names = [photo_of(name) for name in found.classes]                               # (N, 32, 32, 3)
    return pixels.permute(0, 3, 1, 2).contiguous(), labels, names


def grey(pixels):
    """Grey pictures as three equal channels: (N, H, W) -> (N, 3, H, W)."""
    return pixels[:, None].expand(-1, 3, -1, -1).contiguous()


def picture_folder(path, size):
    """(pictures (N, 3, size, size) uint8, labels, captions) of a folder and its subfolders."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not files:
        expected = "town, mnist, cifar10 or a folder of those expected"
        raise ValueError(f"--data {path}: no PNG, JPEG or WebP in it\n{expected}")
    names = sorted({caption_of(p, path) for p in files})
    labels = torch.tensor([names.index(caption_of(p, path)) for p in files])
    return torch.stack([square(p, size) for p in files]), labels, names


def caption_of(file, root):
    """'a photo of a cat' for root/cat/1.png; the empty caption for pictures that lie in the root itself."""
    return "" if file.parent == root else photo_of(file.parent.name.lower())


def photo_of(name):
    """cat -> 'a photo of a cat'."""
    return f"a photo of {'an' if name[0] in 'aeiou' else 'a'} {name}"


def square(file, size):
    """The middle square of a picture file, (3, size, size) uint8. Raises ValueError if it is no picture."""
    picture = ImageOps.fit(to_rgb(still_picture(file, "picture")), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)                      # (H, W, 3) -> (3, H, W)


def resize(pictures, size):
    """(N, 3, H, W) uint8 -> (N, 3, size, size) uint8, a thousand at a time to spare memory."""
    if pictures.shape[2:] == (size, size):
        return pictures
    options = dict(size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    parts = (F.interpolate(part.float(), **options) for part in pictures.split(1000))
    return torch.cat([part.round().clamp(0, 255).byte() for part in parts])


def on_device(generator, device):
    """A generator on the training device, seeded by one on the CPU: noise is drawn where it is needed."""
    return torch.Generator(device).manual_seed(draw_seed(generator))


def draw_seed(generator):
    """A whole number below 2^62 to seed something else with: not a small one, as frozen scenes have."""
    return int(torch.randint(2**62, (), generator=generator))
