"""A red car and a blue house: what a text encoder that knows the order of words is worth

One scene, in which only the colours of the car and of the house differ, and small networks trained on it
anew, with the same U-Net and several encoders: a bag of words; the same, but each word sees its neighbours;
two layers of self-attention over words that know their places, without and with neighbours. Captions name
the two in either order. All encoders read the same words, so all find the two colours; a bag cannot know
which colour is whose. A picture is read by the nearest of all true renders. "as named": both colours where
the caption puts them; "swapped": the two, the other way round. Chance would be half and half. "least" is the
worst training's share as named: random starts differ by more than pictures. ± is half of a 95 % interval over
pictures.
"""

from dataclasses import dataclass
from itertools import permutations

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import last, seeded
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.measure import bootstrap
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.sample import normal_like, sample
from minidiff.toytown.scene import COLORS

QUICK = dict(steps=2, seeds=1, n=4, batch=4)
USED = ("red", "yellow", "green", "blue")
PAIRS = tuple(permutations(USED, 2))                            # (of the car, of the house), never the same
SIZE = 32
ENCODERS = {"bag of words": dict(layers=0), "neighbours": dict(layers=0, neighbours=True),
            "attention": dict(layers=2), "attention and neighbours": dict(layers=2, neighbours=True)}


@dataclass(frozen=True)
class World:
    """The pictures of all pairs of colours, (12, 3, 32, 32), and their two captions each."""

    pictures: torch.Tensor
    captions: tuple

    @classmethod
    def paint(cls):
        """One summer's day: a house, a car, and nothing else."""
        alone = dict(house=1, car=1, tree=0, person=0, sign=0, fence=0, season=1, time=0, style=0)
        placed = dict(house_x=0.5, house_size=1.15, car_x=0.5, car_size=1.15)
        looks = dict(house_brick=0, roof_color=COLORS.index("black"))
        scene = toytown.scenes(1, seed=0).with_(**alone, **placed, **looks)
        number = COLORS.index
        scenes = toytown.Scenes.cat([
            scene.with_(car_color=number(car), house_color=number(house)) for car, house in PAIRS])
        captions = tuple((f"a {car} car and a {house} house", f"a {house} house and a {car} car")
                         for car, house in PAIRS)
        return cls(toytown.paint(scenes, SIZE), captions)

    def caption(self, pair, turned):
        """The caption of a pair, the house first if turned."""
        return self.captions[pair][int(turned)]


def rows(steps=600, seeds=3, n=96, batch=32, seed=0):
    """One row for each encoder: n pictures of each of `seeds` trainings of so many steps."""
    world, found = World.paint(), []
    for name, shape in ENCODERS.items():
        hits = [judged(trained(world, shape, steps, batch, seed + i), world, n, seed + i)
                for i in tqdm(range(seeds), name, leave=False, disable=None)]
        named, swapped = torch.cat(hits, 1)
        least = min(hit[0].mean().item() for hit in hits)
        found.append({"encoder": name, "as named": bootstrap(named), "least": least,
                      "swapped": bootstrap(swapped), "other colours": bootstrap(1 - named - swapped),
                      "trainings": seeds, "pictures each": n})
    return found


def trained(world, shape, steps, batch, seed):
    """A small caption model, trained for `steps` steps on the world's pictures."""
    torch.manual_seed(seed)
    words = tuple(dict.fromkeys(word for pair in world.captions for word in " ".join(pair).split()))
    text = TextEncoder(TextConfig(words, dim=64, **shape))
    unet = UNet(UNetConfig(SIZE, channels=(32, 64), blocks=(1, 1), condition_dim=64, text_dim=64))
    process, generator = DDPM.cosine(1000, "x0"), seeded(seed)
    optimizer = torch.optim.AdamW([*unet.parameters(), *text.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(steps, 2))
    for _ in range(steps):
        pair, turned = (torch.randint(many, (batch,), generator=generator) for many in (len(PAIRS), 2))
        captions = [world.caption(*both) for both in zip(pair.tolist(), turned.tolist())]
        x0, t = world.pictures[pair], torch.randint(1, 1001, (batch,), generator=generator)
        x_t = process.corrupt(x0, t, normal_like(x0, generator))
        prediction = unet(x_t, process.fraction(t).float(), *text(text.tokenize(captions)))
        loss = (prediction - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Model(process, unet, text)


def judged(model, world, n, seed):
    """(2, n) float64: 1 where a sampled picture shows its caption's colours as named; where swapped."""
    generator = seeded(seed + 1)
    pair = torch.arange(n) % len(PAIRS)
    captions = [world.caption(i, k % 2) for k, i in enumerate(pair.tolist())]
    noise = normal_like(torch.empty(n, 3, SIZE, SIZE), generator)
    times = model.process.times(20)
    pictures = last(sample(model.process, model.denoiser(captions), noise, times, generator))
    seen = torch.cdist(pictures.flatten(1), world.pictures.flatten(1)).argmin(1)
    swapped = torch.tensor([PAIRS.index(colours[::-1]) for colours in PAIRS])
    return torch.stack([seen == pair, seen == swapped[pair]]).double()
