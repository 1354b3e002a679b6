"""Toytown, a small procedural world in which the true result of every edit is known."""

from minidiff.toytown.language import VOCABULARY, captions
from minidiff.toytown.paint import masks, paint
from minidiff.toytown.scene import Scenes, scenes

__all__ = ["VOCABULARY", "Scenes", "captions", "masks", "paint", "scenes"]
