"""The frozen splits: fixed digests, drawn anew to the same bits, and damage told in a line."""

import hashlib
import json
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from minidiff import toytown
from minidiff.checkpoint import CheckpointError, data_folder
from minidiff.toytown import splits
from minidiff.toytown.dataset import EDIT_SEED, SCENE_SEED, SIZES, draw_split
from minidiff.toytown.requests import KINDS

DIGESTS = {"val": "0a33f9f21d87dcdefd742940ba1bfb6adcb0dcbefd289c1a893c43731981ce62",
           "test": "413a7047aabe57eb841d5439333a63b0d2f72d99aa9b54775e5c067426b6208e"}
FILES = {"val": "b396e2c90ec16913c1379f694342585e7e1850082943c203dc4c9c5df38dc992",
         "test": "bba067043fb0871d35de21765e99e35da0d71166aef8d2a12c35ff5118cf2d97"}
ONE_LIBRARY = pytest.mark.skipif(not torch.backends.mkl.is_available(),
                                 reason="torch draws colours by another library here, so with other results")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of its own, with a copy of val."""
    (tmp_path / "toytown").mkdir()
    shipped = (data_folder() / "toytown" / "val.safetensors").read_bytes()
    (tmp_path / "toytown" / "val.safetensors").write_bytes(shipped)
    monkeypatch.setattr(splits, "data_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", splits.NAMES)
def test_the_shipped_files_are_the_ones_that_figures_were_measured_on(name):
    assert hashlib.sha256(splits.split_file(name).read_bytes()).hexdigest() == FILES[name]
    assert toytown.load_split(name).digest() == DIGESTS[name]
    assert splits.split_file(name).stat().st_size < 500_000


@pytest.mark.parametrize("name", splits.NAMES)
def test_splits_hold_scenes_with_captions_and_each_kind_of_edit_equally_often(name):
    split = toytown.load_split(name)
    of_scenes, of_edits = SIZES[name]
    assert len(split.scenes) == len(split.captions) == of_scenes and len(split.edits) == of_edits
    counts = Counter(split.edits.kind)
    assert set(counts) == set(KINDS) and max(counts.values()) - min(counts.values()) <= 1
    assert split.held_out_phrasing.float().mean() == 0.5
    assert 0.1 < split.held_out_colors.float().mean() < 0.6
    assert 0.4 < split.edits.held_out_phrasing.float().mean() < 0.6
    assert set(split.edits.scenes.season.tolist()) == {0, 1, 2, 3}


@ONE_LIBRARY
def test_val_is_drawn_anew_to_the_same_bits():
    drawn, stored = draw_split("val"), toytown.load_split("val")
    assert drawn.captions == stored.captions
    assert drawn.edits.instruction == stored.edits.instruction
    assert drawn.edits.requests == stored.edits.requests
    assert drawn.digest() == DIGESTS["val"]


def test_scenes_of_test_are_drawn_anew_to_the_same_numbers():
    drawn = toytown.scenes(SIZES["test"][0], SCENE_SEED["test"], held_out=True)
    stored = toytown.load_split("test").scenes
    for name, column in drawn.columns().items():
        assert (column.double() - getattr(stored, name).double()).abs().max() < 1e-6, name


def test_no_scene_is_shared_between_the_splits_or_with_the_first_of_training():
    seen = [toytown.load_split("val"), toytown.load_split("test")]
    parts = [part for split in seen for part in (split.scenes, split.edits.scenes)]
    parts.append(toytown.scenes(2000, seed=0))
    suns = torch.cat([torch.stack([part.sun_x, part.sun_y, part.horizon], 1) for part in parts])
    assert len(suns.unique(dim=0)) == len(suns)
    assert min(SCENE_SEED.values()) > EDIT_SEED > 10**8          # no training counts that far


def test_what_is_stored_paints_what_was_drawn():
    split = toytown.load_split("val")
    some = split.edits[:12]
    assert torch.equal(some.source, toytown.paint(split.edits.scenes[:12]))
    large = toytown.load_split("val", size=96).edits[:2]
    assert torch.equal(large.target, toytown.paint(some.target_scenes[:2], 96))


def test_image_2_is_the_right_one_for_each_edit_that_has_one():
    edits = toytown.load_split("val").edits
    combine = edits[edits.has_reference]
    telling = {"house": "house_color", "tree": "tree_kind", "person": "jacket_color", "car": "car_color",
               "sign": "sign_text"}
    rows = zip(combine.requests, combine.target_scenes.rows(), combine.reference_scenes.rows(), strict=True)
    for request, target, reference in rows:
        new = telling.get(request.subject, request.subject)
        assert target[new] == reference[request.other or new], request


def test_a_split_is_saved_to_the_very_bytes_that_are_shipped(folder):
    split = toytown.load_split("val")
    splits.split_file("val").unlink()
    assert splits.save_split(split) == folder / "toytown" / "val.safetensors"
    assert hashlib.sha256(splits.split_file("val").read_bytes()).hexdigest() == FILES["val"]
    assert [path.name for path in (folder / "toytown").iterdir()] == ["val.safetensors"]


@pytest.mark.parametrize("name", ["train", "Test", ""])
def test_other_splits_do_not_exist(name):
    with pytest.raises(ValueError, match=f"split is '{name}': val or test expected"):
        toytown.load_split(name)


def test_a_missing_file_says_how_to_draw_it(folder):
    with pytest.raises(CheckpointError, match="test.safetensors: no such file; python -m minidiff.toytown"):
        toytown.load_split("test")


def test_one_flipped_bit_is_found_wherever_it_lies(folder):
    path = splits.split_file("val")
    intact = path.read_bytes()
    for place in [0, 8, *torch.linspace(20, len(intact) - 1, 30).long().tolist()]:
        damaged = bytearray(intact)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        check_damage()
    path.write_bytes(intact)
    assert toytown.load_split("val").digest() == DIGESTS["val"]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_a_truncated_file_is_found(folder, share):
    path = splits.split_file("val")
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    check_damage()


def test_other_files_are_told_from_a_split(folder):
    path = splits.split_file("val")
    save_file({"weights": torch.zeros(3)}, path)
    check_damage()
    save_file({"weights": torch.zeros(3)}, path, {"split": json.dumps(["words", "sha256"])})
    check_damage()
    save_file({"weights": torch.zeros(3)}, path, {"split": json.dumps({"words": "{}"})})
    check_damage()
    path.write_text("no tensors at all")
    check_damage()


def test_numbers_of_another_type_are_damage_though_their_bytes_agree(folder):
    """A flip in the header turns F32 into I32: the bytes that the SHA-256 covers, read as other numbers."""
    path = splits.split_file("val")
    intact = path.read_bytes()
    path.write_bytes(intact.replace(b'"F32"', b'"I32"', 1))
    assert path.read_bytes() != intact
    check_damage()


def check_damage():
    with pytest.raises(CheckpointError) as caught:
        toytown.load_split("val")
    message = str(caught.value)
    assert "val.safetensors: damaged" in message and len(message.splitlines()) <= 2
