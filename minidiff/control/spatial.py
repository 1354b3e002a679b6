"""Depth, pose, segmentation: a map says where things stand, the caption what they are. ControlNet.

There is no step of its own here: the reverse process is that of plain generation, and the control sits inside
the network, in a branch that reads the map (denoisers/controlnet.py). Zhang et al., 2302.05543.
"""

from minidiff import toytown
from minidiff.control import register
from minidiff.process.sample import normal_like, sample
from minidiff.toytown.maps import segmentation_picture


def map_picture(kind, scenes, size=64):
    """A map of Toytown scenes as a picture, which is how the network sees it: (n, 3, size, size) in [-1, 1].

    kind: "depth", grey, white is near; "segmentation", a colour a class; "pose", a stick figure on black.
    The picture tells which of them it is. Raises ValueError for another kind.
    """
    if kind not in MAPS:
        raise ValueError(f'map "{kind}": one of {", ".join(MAPS)} expected')
    return MAPS[kind](scenes, size)


def depth_picture(scenes, size):
    """0..1, one channel -> grey in [-1, 1]."""
    return (2 * toytown.depth(scenes, size) - 1).expand(-1, 3, -1, -1)


def class_picture(scenes, size):
    """Numbers of classes -> their colours."""
    return segmentation_picture(toytown.segmentation(scenes, size))


MAPS = {"depth": depth_picture, "segmentation": class_picture, "pose": toytown.pose}


def check_map(map):
    """Raise ValueError unless a map is there, float (B, 3, H, W), within [-1, 1]."""
    wanted = "float (B or 1, 3, H, W) in [-1, 1] expected"
    if map is None:
        raise ValueError(f"no map came: {wanted},\na picture of depth, segmentation or pose")
    if map.ndim != 4 or map.shape[1] != 3 or not map.is_floating_point():
        raise ValueError(f"map is {tuple(map.shape)} {map.dtype}: {wanted}")
    if not (map.abs() <= 1).all():
        raise ValueError(f"map runs from {map.min():.3g} to {map.max():.3g}: {wanted}")


@register("generate", "map", weights="town-control")
def map_generate(model, image, edit_mask, prompt, *, generator, map=None, steps=50, scale=2.0):
    """Walk from pure noise down to pictures whose things stand where the map says, yielding every State.

    image: only its shape counts, (B, 3, H, W).  map: (B or 1, 3, H, W) in [-1, 1], as from map_picture.
    steps: levels to go down.  scale: guidance by the prompt, 1 = off; both of its branches see the map.
    Raises ValueError for a map that is missing or does not fit.
    """
    check_map(map)
    extra = map.to(image).expand(max(len(map), len(image)), -1, -1, -1)
    denoise = model.denoiser([prompt] * len(image), scale, extra)
    noise = normal_like(image, generator)
    return sample(model.process, denoise, noise, model.process.times(steps), generator)
