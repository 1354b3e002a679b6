"""Pictures and captions to train on: Toytown, MNIST, CIFAR-10, or a folder.

A source is called with (n, generator) and returns n pictures and n captions, the same for the same generator.
What comes in parts is called with (n, now), as train.loop has it, and returns the same for the same step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from minidiff.images import still_picture, to_rgb, to_x0
from minidiff.toytown import VOCABULARY, Scenes, captions, edits, paint, scenes
from minidiff.toytown.glyphs import CHARACTERS
from train.loop import generator_of

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Town:
    """Fresh Toytown scenes for every batch, painted on a device."""

    words = VOCABULARY
    characters = "".join(CHARACTERS)

    def __init__(self, size, device):
        self.size, self.device = size, device

    def __call__(self, n, generator):
        """(x0 (n, 3, size, size) float32 in [-1, 1] on the device, n captions)"""
        drawn, said = captioned(n, generator)
        return paint(drawn.to(self.device), self.size), said


def captioned(n, generator):
    """(n fresh scenes, their captions)"""
    seed = draw_seed(generator)
    drawn = scenes(n, seed)
    return drawn, captions(drawn, seed)


class InParts(ABC):
    """Examples for every pass of a step, the same for the same step, drawn and painted several steps at once.

    Few at a time cost more each.  part: about how many are made at once.
    """

    def __init__(self, part):
        self.part, self.parts = part, {}

    def __call__(self, n, now):
        """n examples for the pass of a step.  now: as in train.loop."""
        count = max(self.part // n, 1)
        part, place = divmod(now.step, count)
        wanted = (n, part, now.number)
        if wanted not in self.parts:
            self.parts = {kept: batch for kept, batch in self.parts.items() if kept[:2] == wanted[:2]}
            self.parts[wanted] = self.fresh(n, range(part * count, (part + 1) * count), now.number)
        return self.parts[wanted][place * n : (place + 1) * n]

    @abstractmethod
    def fresh(self, n, steps, number):
        """n examples for a pass, by its number, of each of these steps: something that may be sliced."""


class TownEdits(InParts):
    """Fresh edits of Toytown for every batch, painted on a device; which ones depends on `part`."""

    def __init__(self, kinds, size, device, seed, part=256):
        super().__init__(part)
        self.kinds, self.size, self.device, self.seed = kinds, size, device, seed

    def fresh(self, n, steps, number):
        """As InParts.fresh: toytown's Edits."""
        seed = draw_seed(generator_of(self.seed, "edits", n, steps[0] // len(steps), number))
        return edits(n * len(steps), seed, kinds=self.kinds, size=self.size, device=self.device)


class StoredEdits(InParts):
    """Edits that are drawn already, in their order, painted on a device; then the first ones come again.

    stored: toytown's Edits.  passes: of a step, in all processes, each of which takes edits of its own.
    """

    def __init__(self, stored, size, device, part=256, passes=1):
        super().__init__(part)
        self.stored, self.device, self.passes = stored.at(size), device, passes

    def fresh(self, n, steps, number):
        """As InParts.fresh: toytown's Edits."""
        firsts = n * (self.passes * torch.tensor(steps) + number)
        rows = (firsts[:, None] + torch.arange(n)).flatten() % len(self.stored)
        return self.stored[rows].to(self.device).painted()


class TownScenes(InParts):
    """Fresh scenes for every pass, and their captions: the same whatever `part` is."""

    def __init__(self, size, device, seed, part=256):
        super().__init__(part)
        self.size, self.device, self.seed = size, device, seed

    def fresh(self, n, steps, number):
        """As InParts.fresh: Captioned."""
        generators = [generator_of(self.seed, "scenes", step, number) for step in steps]
        drawn, said = zip(*(captioned(n, generator) for generator in generators))
        return Captioned(paint(Scenes.cat(drawn).to(self.device), self.size), sum(said, []))


@dataclass(frozen=True)
class Captioned:
    """Pictures x0, (n, 3, H, W), and their n captions."""

    x0: torch.Tensor
    captions: list

    def __getitem__(self, rows):
        return Captioned(self.x0[rows], self.captions[rows])


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
        x0 = to_x0(self.pictures[index].to(self.device))
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
