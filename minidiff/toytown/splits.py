"""The frozen splits: the scenes and edits on which all figures here are measured, as numbers and words.

    test = load_split("test")
    paint(test.scenes), test.captions              # 512 scenes
    test.edits.source, test.edits.instruction      # 1024 edits, each kind equally often
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from minidiff.checkpoint import CheckpointError, data_folder, write_atomically
from minidiff.toytown.edits import Edits
from minidiff.toytown.packing import as_stored, packed, scenes_in, unpacked
from minidiff.toytown.scene import Scenes, has_held_out

NAMES = ("val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Scenes with captions, and edits; half of the captions are worded as training never words them."""

    name: str
    scenes: Scenes
    captions: tuple[str, ...]
    held_out_phrasing: Tensor                                   # bool (n,), of the captions
    edits: Edits

    @property
    def held_out_colors(self) -> Tensor:
        """bool (n,): does the scene show a colour on an object that training never shows on it?"""
        return has_held_out(self.scenes)

    def tensors(self) -> dict[str, Tensor]:
        """All numbers by name, as they are stored."""
        scenes = {f"scenes.{name}": column for name, column in self.scenes.columns().items()}
        return as_stored({"held_out_captions": self.held_out_phrasing, **scenes}) | packed(self.edits)[0]

    def words(self) -> str:
        """All words, as JSON."""
        return json.dumps({"captions": self.captions, **packed(self.edits)[1]}, ensure_ascii=False)

    def digest(self) -> str:
        """SHA-256 of all numbers and words."""
        return _digest(self.tensors(), self.words())


def split_file(name: str) -> Path:
    """Where a split is stored."""
    return data_folder() / "toytown" / f"{name}.safetensors"


def save_split(split: Split) -> Path:
    """Write a split to its file, at one stroke."""
    path = split_file(split.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"words": split.words(), "sha256": split.digest()}, ensure_ascii=False)
    write_atomically(path, save(split.tensors(), {"split": header}))    # one key: several have no fixed order
    return path


def load_split(name: str, size: int = 64) -> Split:
    """The frozen split "val" or "test", its edits painted at `size` when they are looked at.

    Raises ValueError for another name, CheckpointError for a missing or damaged file.
    """
    if name not in NAMES:
        raise ValueError(f"split is {name!r}: val or test expected (toytown.scenes draws training scenes)")
    path = split_file(name)
    try:
        with safe_open(path, framework="pt") as file:
            values = {key: file.get_tensor(key) for key in file.keys()}
            header = json.loads(file.metadata()["split"])
        stored = all(value.dtype in (torch.uint8, torch.float32) for value in values.values())
        intact = stored and _digest(values, header["words"]) == header["sha256"]
    except FileNotFoundError:
        hint = "python -m minidiff.toytown.dataset draws it anew"
        raise CheckpointError(f"{path}: no such file; {hint}") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or no split of Toytown ({type(error).__name__})") from None
    if not intact:
        raise CheckpointError(f"{path}: damaged: its contents do not match their SHA-256")
    return _unpack(name, values, json.loads(header["words"]), size)


def _digest(values, words):
    numbers = b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(values.items()))
    return hashlib.sha256(numbers + words.encode()).hexdigest()


def _unpack(name, values, words, size):
    held_out = values["held_out_captions"].bool()
    edits = unpacked(values, words, size)
    return Split(name, scenes_in(values, "scenes"), tuple(words["captions"]), held_out, edits)
