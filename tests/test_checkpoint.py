"""minidiff/checkpoint.py: what is written comes back, and every way to spoil a file gives one clear error."""

import hashlib
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from minidiff import checkpoint
from minidiff.checkpoint import (
    CheckpointError,
    add_figures,
    fill,
    load_state,
    load_weights,
    save_state,
    save_weights,
)

METADATA = {"step": 7, "config": {"name": "tiny é", "rate": 1e-05}}


def tensors():
    generator = torch.Generator().manual_seed(0)
    matrix, number = torch.randn(3, 2, generator=generator), torch.randn((), generator=generator)
    return {"weights.a": matrix, "ema.b": number, "count": torch.tensor([1, 2]), "empty": torch.zeros(0, 4)}


def refused(pattern, action, *arguments):
    with pytest.raises(CheckpointError, match=pattern) as error:
        action(*arguments)
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "state.safetensors", tensors(), METADATA)
    found, metadata = load_state(tmp_path / "state.safetensors")
    assert metadata == METADATA
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    assert os.listdir(tmp_path) == ["state.safetensors"]        # no temporary file is left


def test_tensors_of_any_layout_are_stored(tmp_path):
    original = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save_state(tmp_path / "state.safetensors", {"x": original, "y": original.transpose(1, 2)}, {})
    found, _ = load_state(tmp_path / "state.safetensors")
    assert torch.equal(found["x"], original) and torch.equal(found["y"], original.transpose(1, 2))


def test_a_flipped_bit_in_any_byte_and_any_truncation_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(path, {"a": torch.tensor([1.0, -2.0])}, {"step": 1e-05})
    content = path.read_bytes()
    for index in range(len(content)):
        flipped = bytearray(content)
        flipped[index] ^= 1 << index % 8
        path.write_bytes(flipped)
        refused("state.safetensors: (truncated|damaged|holds no)", load_state, path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused("state.safetensors: (truncated|damaged)", load_state, path)
    path.write_bytes(content + b"\0")
    refused("state.safetensors: truncated or damaged: 201 bytes, its header says 200", load_state, path)


def test_other_files_are_refused_by_name_and_cause(tmp_path):
    refused("none.safetensors: cannot be read: No such file", load_state, tmp_path / "none.safetensors")
    refused("cannot be read: Is a directory", load_state, tmp_path)
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, path)
    refused("other.safetensors: holds no training state", load_state, path)
    path.write_bytes(pickle.dumps({"a": 1}) * 100)
    refused("other.safetensors: .*no safetensors file", load_state, path)
    path.write_bytes((20).to_bytes(8, "little") + b'{"a": {"dtype": 1}} ' + b"\0" * 8)
    refused("other.safetensors: damaged, or no safetensors file", load_state, path)


def test_the_previous_state_is_kept(tmp_path):
    last, previous = tmp_path / "state.safetensors", tmp_path / "previous.safetensors"
    for step in (1, 2, 3):
        save_state(last, tensors(), {"step": step}, previous)
    assert [load_state(path)[1]["step"] for path in (last, previous)] == [3, 2]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_state(path, tensors(), {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_state(path, tensors(), {"step": 2})
    assert load_state(path)[1]["step"] == 1


def test_the_bytes_are_on_the_disk_before_the_name_points_to_them(tmp_path, monkeypatch):
    """The order that survives a power cut: file synced, renamed, folder synced."""
    events = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(checkpoint.os, "fsync", lambda descriptor: (events.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(checkpoint.os, "replace", lambda *paths: (events.append("rename"), rename(*paths)))
    save_state(tmp_path / "a.safetensors", tensors(), {})
    assert events == ["sync", "rename", "sync"]
    events.clear()
    save_state(tmp_path / "a.safetensors", tensors(), {}, tmp_path / "b.safetensors")
    assert events == ["sync", "rename", "sync", "rename", "sync"]


ENTRY = {"config": {"size": 64}, "command": "python -m train.x", "steps": 3}


def test_weights_come_back_in_float32_with_their_entry(tmp_path):
    path = save_weights("tiny", tensors(), ENTRY, tmp_path)
    found, entry = load_weights(path)
    assert path == tmp_path / "tiny.safetensors"
    assert {key: entry[key] for key in ENTRY} == ENTRY
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, tensor in tensors().items():
        if tensor.is_floating_point():
            assert found[name].dtype == torch.float32
            assert torch.equal(found[name], tensor.half().float())
    assert found["count"].dtype == torch.int64


def test_weights_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path)
    save_weights("tiny", tensors(), ENTRY)
    assert (tmp_path / "weights/tiny.safetensors").exists()
    assert load_weights("tiny")[1]["steps"] == 3
    assert "tiny" in refused('there is none of this name; known: tiny', load_weights, "huge")


def test_a_manifest_keeps_its_other_entries(tmp_path):
    save_weights("b", tensors(), ENTRY, tmp_path)
    save_weights("a", {"x": torch.zeros(1)}, {**ENTRY, "steps": 4}, tmp_path)
    save_weights("b", {"x": torch.ones(1)}, {**ENTRY, "steps": 5}, tmp_path)
    assert list(json.loads((tmp_path / "manifest.json").read_text())) == ["a", "b"]
    assert load_weights(tmp_path / "a.safetensors")[1]["steps"] == 4
    assert load_weights(tmp_path / "b.safetensors")[1]["steps"] == 5


def test_figures_are_added_to_an_entry_without_touching_the_weights(tmp_path):
    path = save_weights("tiny", tensors(), {**ENTRY, "figures": {"loss": 1}}, tmp_path)
    before = path.read_bytes()
    add_figures("tiny", {"seam": 2}, tmp_path)
    assert load_weights(path)[1]["figures"] == {"loss": 1, "seam": 2} and path.read_bytes() == before
    refused("manifest.json: has no entry huge", add_figures, "huge", {}, tmp_path)


def test_spoilt_weights_are_refused(tmp_path):
    path = save_weights("tiny", tensors(), ENTRY, tmp_path)
    save_weights("other", {"x": torch.zeros(1)}, ENTRY, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    refused("tiny.safetensors: damaged or exchanged", load_weights, path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused("tiny.safetensors: damaged or exchanged", load_weights, path)
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    refused('tiny.safetensors: renamed: these are the weights of "other"', load_weights, path)
    new, alien = tmp_path / "new.safetensors", tmp_path / "alien.safetensors"
    new.write_bytes(content)
    refused('new.safetensors: renamed: these are the weights of "tiny"', load_weights, new)
    alien.write_bytes(b"not at all")
    refused("alien.safetensors: manifest.json beside it has no such entry", load_weights, alien)
    (tmp_path / "manifest.json").write_text("{")
    refused("manifest.json: not JSON", load_weights, path)
    (tmp_path / "manifest.json").unlink()
    refused("manifest.json: is missing: it lists weights", load_weights, path)


def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path):
    for bad in (1e6, float("nan")):
        tensor = torch.tensor([bad])
        refused("big.safetensors: not written: tensor x", save_weights, "big", {"x": tensor}, ENTRY, tmp_path)
    assert os.listdir(tmp_path) == []


def test_filling_a_network_of_another_shape_is_refused():
    network = nn.Linear(3, 2)
    good = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    fill(network, good, "w.safetensors")
    assert network.weight.sum() == 6
    wide = {**good, "weight": torch.ones(2, 4)}
    differs = r"w.safetensors: made by .*\ntensor weight is \(2, 4\) in the file, \(2, 3\) expected"
    refused(differs, fill, network, wide, "w.safetensors")
    refused("tensor bias is nothing in the file", fill, network, {"weight": good["weight"]}, "w")
    more = {**good, "extra": torch.ones(1)}
    refused(r"tensor extra is \(1,\) in the file, nothing expected", fill, network, more, "w")


def test_the_data_folder_is_the_repository_or_the_wheel(tmp_path, monkeypatch):
    package = tmp_path / "minidiff"
    package.mkdir()
    monkeypatch.setattr(checkpoint, "__file__", str(package / "checkpoint.py"))
    assert checkpoint.data_folder() == tmp_path / "data"
    (package / "_data").mkdir()
    assert checkpoint.data_folder() == package / "_data"
