"""train/drawn.py: edits drawn ahead are those that toytown draws; a training takes them in their order."""

import json
import sys

import pytest
import torch

from minidiff import toytown
from train import drawn, flow
from train.data import StoredEdits, TownScenes, draw_seed
from train.drawn import Config, draw_part, load_drawn
from train.loop import Now, generator_of
from train.tasks import KINDS_OF, RIVALS, Tasks


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of 8 edits of each task, 16 of the first, in parts of 8; drawn by two processes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawn, "PART", 8)
        path = tmp_path_factory.mktemp("drawn") / "there" / "edits.safetensors"
        return drawn.main(Config(path=str(path), seed=3, editing=16, writing=8, fusion=8, choice=8))


def test_what_is_drawn_ahead_is_what_toytown_draws(path):
    found, _ = load_drawn(path)
    assert {task: len(edits) for task, edits in found.items()} == dict.fromkeys(KINDS_OF, 8) | {"editing": 16}
    for task, part in (("editing", 0), ("editing", 1), ("writing", 0), ("fusion", 0), ("choice", 0)):
        edits = found[task][8 * part : 8 * part + 8]
        expected = toytown.edits(8, draw_seed(generator_of("drawn", task, 3, part)), kinds=KINDS_OF[task])
        assert torch.equal(edits.target, expected.target) and edits.instruction == expected.instruction
        assert torch.equal(edits.reference, expected.reference) and edits.requests == expected.requests
    assert found["fusion"].instruction != found["choice"].instruction


def test_a_part_holds_no_pictures():
    assert len(draw_part((64, "editing", 0, 0))) < 64 * 500       # a picture alone would be 12,288 bytes


def test_a_file_of_something_else_is_refused(path, tmp_path):
    other = tmp_path / "other.safetensors"
    for content in (b"", b"no safetensors", (toytown.splits.split_file("val")).read_bytes()):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="other.safetensors: no edits drawn by train.drawn"):
            load_drawn(other)
    with pytest.raises(FileNotFoundError, match="no such file; this draws it:\npython -m train.drawn"):
        load_drawn(tmp_path / "none.safetensors")


@pytest.mark.parametrize("wrong", [dict(editing=1000), dict(choice=0), dict(writing=-1024)])
def test_only_whole_parts_are_drawn(wrong):
    with pytest.raises(ValueError, match="multiples of 1024 expected, at least 1024 of each"):
        Config(**wrong)


def test_somebody_has_to_draw():
    with pytest.raises(ValueError, match="workers = 0: at least 1 expected"):
        Config(workers=0)


@pytest.mark.parametrize("preset", drawn.PRESETS)
def test_a_presets_edits_are_enough_for_its_training(preset):
    """So that none comes again before all batches that differ are made."""
    ahead, config = Config(**drawn.PRESETS[preset]), flow.Config(**flow.PRESETS[preset])
    counts = dict(zip(("choice", "fusion", "reconstruction", "generation", "writing", "editing"),
                      Tasks(config, "cpu").counts, strict=True))
    counts["choice"] = max(counts["choice"], RIVALS)
    for task in KINDS_OF:
        needed = counts[task] * config.distinct
        assert needed <= getattr(ahead, task) < 1.1 * needed + 2 * drawn.PART, task


# Taken by a training

def test_stored_edits_come_in_their_order_and_then_again(path):
    stored = load_drawn(path)[0]["editing"]
    source = StoredEdits(stored, 32, "cpu", part=6)
    seen = [source(3, Now(step, 0, 1.0)) for step in range(7)]
    assert sum((batch.instruction for batch in seen), ()) == (stored.instruction * 2)[:21]
    target = torch.cat([batch.target for batch in seen])
    assert torch.equal(target[:16], stored.at(32).target) and torch.equal(target[16:], target[:5])
    assert source(3, Now(2, 0, 1.0)).instruction == seen[2].instruction           # whatever the order
    shared = StoredEdits(stored, 32, "cpu", part=6, passes=2)                     # by two passes of a step
    turns = [shared(2, Now(step, number, 1.0)).instruction for step in range(4) for number in range(2)]
    assert sum(turns, ()) == stored.instruction


def test_a_part_of_stored_edits_is_painted_at_once(path, monkeypatch):
    def noting(paint):
        return lambda *given: painted.append(len(given[0])) or paint(*given)

    painted, module = [], sys.modules["minidiff.toytown.edits"]
    for name in ("paint_pairs", "paint"):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    source = StoredEdits(load_drawn(path)[0]["fusion"], 32, "cpu", part=8)
    for step in range(4):
        batch = source(2, Now(step, 0, 1.0))
        assert batch.source.any() and batch.target.any() and batch.reference.flatten(1).any(1).all()
    assert painted == [8, 8]                                      # the pairs, and every image 2


def test_scenes_are_those_of_their_step_and_painted_in_parts():
    source = TownScenes(32, "cpu", "seed", part=6)
    batches = [source(3, Now(step, 0, 1.0)) for step in range(3)]
    for step, batch in enumerate(batches):
        seed = draw_seed(generator_of("seed", "scenes", step, 0))
        scenes = toytown.scenes(3, seed)
        assert batch.captions == toytown.captions(scenes, seed)
        assert (batch.x0 - toytown.paint(scenes, 32)).abs().max() < 1e-6
    assert len({*batches[0].captions, *batches[1].captions, *batches[2].captions}) == 9
    for part in (1, 40):                                          # of whatever size, as on a GPU
        again = TownScenes(32, "cpu", "seed", part=part)(3, Now(1, 0, 1.0))
        assert again.captions == batches[1].captions and (again.x0 - batches[1].x0).abs().max() < 1e-6
    assert source(3, Now(0, 1, 1.0)).captions != batches[0].captions


def test_words_are_json(path):
    assert drawn.as_words(drawn.as_tensor({"instructions": ["字"]})) == json.loads('{"instructions": ["字"]}')
