"""Toytown, a small procedural world in which the true result of every edit is known."""

from minidiff.toytown.drawing import edits, edits_of
from minidiff.toytown.edits import Edits
from minidiff.toytown.language import VOCABULARY, captions
from minidiff.toytown.paint import masks, paint
from minidiff.toytown.requests import KINDS
from minidiff.toytown.scene import Scenes, scenes

__all__ = ["KINDS", "VOCABULARY", "Edits", "Scenes", "captions", "edits", "edits_of", "masks", "paint", "scenes"]
