"""Toytown, a small procedural world in which the true result of every edit is known."""

from minidiff.toytown.drawing import edits, edits_of
from minidiff.toytown.edits import Edits
from minidiff.toytown.language import VOCABULARY, captions
from minidiff.toytown.maps import depth, pose, segmentation, skeleton
from minidiff.toytown.paint import masks, paint
from minidiff.toytown.requests import KINDS
from minidiff.toytown.scene import Scenes, scenes
from minidiff.toytown.splits import Split, load_split

__all__ = ["KINDS", "VOCABULARY", "Edits", "Scenes", "Split", "captions", "depth", "edits", "edits_of",
           "load_split", "masks", "paint", "pose", "scenes", "segmentation", "skeleton"]
