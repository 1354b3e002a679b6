"""Maps: does what is drawn from a map of depth, segmentation or pose stand where the map says?

No learned reader looks. The scene of the map and 16 others of the same caption are painted; "follows" is the
share of pictures that the scene of the map explains best. Colours do not count: each part of a scene, or the
person alone for pose, is recoloured to fit. An editor that does not see the map is right once in 17, and a
little more often where the caption names a place. "PSNR", against the scene, asks for its colours too. A call
with a map costs about twice one without. ± is half of a 95 % interval.
"""

from functools import partial

import torch
import torch.nn.functional as F
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.captions import STATED, drawn, sampled
from minidiff.bench.common import fresh_scenes, held_out, last, seeded
from minidiff.control.spatial import MAPS, map_picture
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.measure import bootstrap, psnr
from minidiff.model import Model
from minidiff.process.sample import normal_like, sample
from minidiff.toytown.maps import CLASSES
from minidiff.toytown.scene import OBJECTS, STYLES, Scenes, bounding_box, crowding

WEIGHTS = "town-control"
QUICK = dict(n=3, rivals=4, steps=4)
HIDDEN = 0.3                                                    # the share of an object that others may hide
COLORING = ("season", "time", "style", "house_color", "house_brick", "roof_color", "jacket_color",
            "car_color", "sign_text")
BOTH = "map and caption"


def rows(model, n=24, rivals=16, steps=50, seed=0):
    """One row for each kind of map and editor: the share of n pictures that follow the map, and their PSNR.

    Raises ValueError for a model that takes no map.
    """
    base = without_map(model)
    scenes, captions = clear_scenes(n)
    truths = toytown.paint(scenes, model.size)
    blind = {name: drawn(edit, base, scenes, captions, steps, seed) for name, edit in BLIND.items()}
    cases = {kind: blind | {name: drawn(partial(edit, kind=kind), model, scenes, captions, steps, seed)
                            for name, edit in GUIDED.items()} for kind in MAPS}
    pictures = {kind: torch.stack([found for found, _ in editors.values()], dim=1)     # (n, editors, 3, H, W)
                for kind, editors in cases.items()}
    generator = seeded(seed + 1)
    hits = [judged({kind: found[i] for kind, found in pictures.items()}, scenes[i],
                   others(scenes[i], rivals, generator))
            for i in tqdm(range(n), "maps", leave=False, disable=None)]
    return [{"map": kind, "editor": name, "follows": bootstrap(torch.stack([hit[kind][e] for hit in hits])),
             "PSNR (dB)": bootstrap(psnr(found, truths)), **cost}
            for kind, editors in cases.items() for e, (name, (found, cost)) in enumerate(editors.items())]


def chief(rows):
    """Kind of map -> share of the pictures drawn from it and a caption that follow it."""
    return {WEIGHTS: {row["map"]: round(row["follows"].value, 3) for row in rows if row["editor"] == BOTH}}


def clear_scenes(n):
    """The first n scenes of the test split with a person and little hidden, with their captions; n <= 141."""
    scenes, captions = held_out(256)
    clear = ((scenes.person == 1) & (crowding(scenes) < HIDDEN)).nonzero().flatten()[:n]
    return scenes[clear], [captions[i] for i in clear.tolist()]


def others(scene, n, generator):
    """n other scenes that fit the caption of a scene and hide little."""
    pool = fresh_scenes(8 * n + 64, generator).with_(**{name: getattr(scene, name) for name in STATED})
    return pool[crowding(pool) < HIDDEN][:n]


# The measure

def judged(pictures, scene, rivals):
    """Which pictures are explained best by the scene, not by a rival: kind of map -> bool (P,).

    pictures: kind of map -> (P, 3, H, W).  scene: one.  rivals: K scenes.  A tie is no success.
    """
    candidates = Scenes.cat([scene, rivals])
    size = next(iter(pictures.values())).shape[-1]
    styles = [candidates.with_(style=style, time=0, season=1) for style in range(len(STYLES))]
    renders = toytown.paint(Scenes.cat(styles), size).unflatten(0, (len(STYLES), -1))  # (S, K + 1, 3, H, W)
    hits = {}
    for kind, found in pictures.items():
        shares = [explained(found, *TOLD[kind](candidates, render)) for render in renders]
        best = torch.stack(shares).amax(0)                                             # (K + 1, P)
        hits[kind] = best[0] > best[1:].amax(0)
    return hits


def explained(pictures, renders, parts):
    """How well does each render explain each picture, if every part may be recoloured? (G, P), at most 1.

    The share of a picture's variance, as in linear regression: 1 - |picture - fit|^2 / |picture - mean|^2. In
    each part, the fit is the affine function of the render's red, green and blue that comes nearest.
    pictures: (P, 3, H, W).  renders: (G, 3, H, W).  parts: bool (G, R, H, W), disjoint; elsewhere nothing
    counts.
    """
    y, r, weights = (tensor.flatten(2).double() for tensor in (pictures, renders, parts))
    y = y.flatten(0, 1)                                                                # (3 P, N)
    basis = torch.cat([torch.ones_like(r[:, :1]), r], 1)                               # (G, 4, N)
    weighted = weights[:, :, None] * basis[:, None]                                    # (G, R, 4, N)
    gram = weighted @ basis.mT[:, None]                                                # (G, R, 4, 4)
    moments = weighted @ y.T                                                           # (G, R, 4, 3 P)
    inverse = torch.linalg.pinv(gram, rtol=1e-9, hermitian=True)                       # some have one colour
    fit = (moments * (inverse @ moments)).sum((1, 2))                                  # (G, 3 P), |fit|^2
    counted = weights.sum(1)                                                           # (G, N)
    mean = (counted @ y.T).square() / counted.sum(1, keepdim=True)                     # (G, 3 P), |mean|^2
    variance = counted @ y.T.square() - mean
    of_picture = [sums.unflatten(1, (-1, 3)).sum(2) for sums in (fit - mean, variance)]
    return of_picture[0] / of_picture[1].clamp(min=1e-6)


def classes(scenes, renders):
    """What depth and segmentation tell: every class is a part, as the render shows it."""
    segments = toytown.segmentation(scenes, renders.shape[-1])[:, 0]
    return renders, F.one_hot(segments, len(CLASSES)).movedim(3, 1).bool()


def person(scenes, renders):
    """What pose tells: the person, with its outline, as the render shows it, and a plain frame around it."""
    size = renders.shape[-1]
    seen = toytown.masks(scenes, size)[:, OBJECTS.index("person")][:, None] > 0.5
    seen = F.max_pool2d(seen.float(), 3, stride=1, padding=1).bool()
    left, right, top, bottom = (edge.view(-1, 1, 1, 1) * size for edge in bounding_box(scenes, "person"))
    x = torch.arange(size) + 0.5
    y = x[:, None]
    frame = (x > left - 2) & (x < right + 2) & (y > top - 2) & (y < bottom + 2)
    return renders * seen, torch.cat([seen & frame, ~seen & frame], 1)


TOLD = {"depth": classes, "segmentation": classes, "pose": person}


# The editors

def without_map(model):
    """The base of a model that takes maps, as a model of its own."""
    if not isinstance(model.unet, ControlledUNet):
        raise ValueError(f"these weights take no map: weights of a control branch, {WEIGHTS}, expected")
    return Model(model.process, model.unet.base, model.text, model.device, model.data)


def oracle(model, scenes, captions, steps, generator):
    """The scene itself."""
    return toytown.paint(scenes, model.size)


def recoloured(model, scenes, captions, steps, generator):
    """The scene in other colours, at another time, in another style: it follows the map, too."""
    fresh = fresh_scenes(len(scenes), generator)
    return toytown.paint(scenes.with_(**{name: getattr(fresh, name) for name in COLORING}), model.size)


def another_scene(model, scenes, captions, steps, generator):
    """Another scene of the same caption."""
    found = [others(scenes[i], 1, generator) for i in range(len(scenes))]
    return toytown.paint(Scenes.cat(found), model.size)


def mapped(model, scenes, captions, steps, generator, kind, scale):
    """The network's pictures of a map and captions, at a scale of guidance."""
    maps = map_picture(kind, scenes, model.size).to(model.device)
    denoise, times = model.denoiser(captions, scale, maps), model.process.times(steps)
    return last(sample(model.process, denoise, normal_like(maps, generator), times, generator))


def map_alone(model, scenes, captions, steps, generator, kind):
    """The network's pictures of a map, without a caption."""
    return mapped(model, scenes, [""] * len(scenes), steps, generator, kind, scale=1)


BLIND = {"the scene": oracle, "the scene in other colours": recoloured, "another scene": another_scene,
         "caption alone": partial(sampled, scale=2)}
GUIDED = {"map alone": map_alone, BOTH: partial(mapped, scale=2)}
