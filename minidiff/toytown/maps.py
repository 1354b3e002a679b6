"""What else is known of a scene, exactly: depth, segmentation and pose, in the painter's own geometry.

Every map takes (scenes, size, border) as `paint` does, and leaves out time, season and style: it tells where
things are. Snow on a roof or a pine, and a lit headlight, are part of the thing.
"""

import torch
from torch import Tensor

from minidiff.toytown.backdrop import FENCE_FOOT, fence_cover, hill_covers, road_cover
from minidiff.toytown.objects import joints
from minidiff.toytown.paint import behind_others, check_size, chunks, paint_layers, shown_covers
from minidiff.toytown.scene import OBJECTS, Scenes
from minidiff.toytown.shapes import Canvas

CLASSES = ("sky", "far hills", "near hills", "meadow", "fence", "road", *OBJECTS)
CLASS_COLORS = torch.tensor([
    [86, 180, 233], [182, 160, 210], [128, 100, 162], [0, 158, 115], [240, 228, 66], [96, 96, 96],
    [213, 94, 0], [0, 90, 50], [204, 121, 167], [0, 60, 178], [255, 255, 255]]) / 255
HILL_NEARNESS, GROUND_NEARNESS = (0.03, 0.06), 0.10             # far range, near range; ground at the horizon

BONES = (("head", "neck"), ("neck", "hip"), ("neck", "left_hand"), ("neck", "right_hand"),
         ("hip", "left_foot"), ("hip", "right_foot"))
BONE_COLORS = torch.tensor([
    [230, 159, 0], [240, 228, 66], [86, 180, 233], [0, 114, 178], [0, 158, 115], [213, 94, 0]]) / 255
BONE_RADIUS = 0.008
JOINTS = ("head", "neck", "hip", "left_hand", "right_hand", "left_foot", "right_foot")


def segmentation(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """For each pixel the number in CLASSES of what covers most of it, int64 (n, 1, H, W).

    Sun and clouds count as sky, a shadow as the ground it falls on.
    """
    return torch.cat([_classes(part, canvas) for part, canvas in _parts(scenes, size, border)])


def depth(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """How near the scene is, like one over the distance: 0 the sky, 1 the lower edge; float (n, 1, H, W).

    With h the horizon, the ground at height y is at .1 + .9 (y - h) / (1 - h): on a plane, one over the
    distance is linear in y. What stands on the ground is upright, as near as its baseline.
    """
    return torch.cat([_nearness(part, canvas) for part, canvas in _parts(scenes, size, border)])


def segmentation_picture(segments: Tensor) -> Tensor:
    """Classes (n, 1, H, W) in colours, (n, 3, H, W) in [-1, 1]."""
    return (CLASS_COLORS.to(segments.device)[segments[:, 0]] * 2 - 1).permute(0, 3, 1, 2)


def skeleton(scenes: Scenes) -> Tensor:
    """(n, 7, 2): x and y of the person's JOINTS, hidden or not, in shares of the side; NaN if nobody is."""
    at = joints(scenes.shaped())
    points = torch.stack([torch.cat(at[name], 1).flatten(1) for name in JOINTS], 1)
    return points.masked_fill((scenes.person == 0).view(-1, 1, 1), float("nan"))


def pose(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """What is seen of the person as a stick figure, a colour a bone, on black: (n, 3, H, W) in [-1, 1]."""
    return torch.cat([_stick_figure(part, canvas) for part, canvas in _parts(scenes, size, border)])


def _parts(scenes, size, border):
    check_size(size)
    canvas = Canvas.of_size(size, border, scenes.season.device)
    return ((part, canvas) for part in chunks(scenes, canvas))


def _classes(scenes, canvas):
    """The ground's classes, then whichever object shows most, where it shows more than the ground does."""
    s, layers = scenes.shaped(), paint_layers(scenes, canvas)
    far, near = hill_covers(s, canvas)
    covers = (far, near, canvas.span_y(s.horizon, 9.0), fence_cover(s, canvas) * s.fence, road_cover(canvas))
    shape = (len(scenes), 1, canvas.y.shape[2], canvas.x.shape[3])
    ground = torch.zeros(shape, dtype=torch.long, device=canvas.x.device)
    for number, cover in enumerate(covers, start=1):
        ground.masked_fill_((cover >= 0.5).expand(shape), number)
    shown = shown_covers(layers, scenes)
    most, which = torch.cat([1 - shown.sum(1, keepdim=True), shown], 1).max(1, keepdim=True)
    return torch.where(which == 0, ground, which + CLASSES.index(OBJECTS[0]) - 1)


def _nearness(scenes, canvas):
    s = scenes.shaped()

    def on_ground(y):
        return GROUND_NEARNESS + (1 - GROUND_NEARNESS) * (y - s.horizon) / (1 - s.horizon)

    plane = on_ground(canvas.y).clamp(0, 1)                                         # (n, 1, H, 1)
    constant = [torch.full_like(s.horizon, value) for value in (0.0, *HILL_NEARNESS)]
    upright = [on_ground(getattr(s, name + "_y")) for name in OBJECTS]
    values = [*constant, plane, on_ground(s.horizon + FENCE_FOOT), plane, *upright] # in the order of CLASSES
    high = canvas.y.shape[2]
    table = torch.cat([value.expand(-1, -1, high, 1) for value in values], 3)       # (n, 1, H, classes)
    return table.gather(3, _classes(scenes, canvas))


def _stick_figure(scenes, canvas):
    layers = paint_layers(scenes, canvas)
    at = joints(scenes.shaped())
    bones = [canvas.stroke(*at[start], *at[end], BONE_RADIUS) for start, end in BONES]
    picture = torch.zeros(len(scenes), 3, canvas.y.shape[2], canvas.x.shape[3], device=canvas.x.device)
    for cover, color in zip(bones, BONE_COLORS.to(canvas.x.device), strict=True):
        picture.lerp_(color.view(1, 3, 1, 1).expand_as(picture), cover)
    picture = picture * (scenes.person == 1).view(-1, 1, 1, 1)
    return behind_others(picture, "person", layers, scenes) * 2 - 1
