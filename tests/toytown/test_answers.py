"""Legal answers: the requested one first, all of them told apart in the true region, the measure agrees."""

import pytest
import torch

from minidiff import toytown
from minidiff.measure import success
from minidiff.toytown.answers import LOOKALIKES, SEEN, TOLD
from minidiff.toytown.glyphs import CHARACTERS, LATIN
from minidiff.toytown.paint import change
from minidiff.toytown.requests import KINDS, PLACES
from minidiff.toytown.scene import COLORS, OBJECTS, SEASONS, STYLES, TIMES

EACH = 3


@pytest.fixture(scope="module")
def batch():
    return toytown.edits(EACH * len(KINDS), seed=4, split="test")


@pytest.fixture(scope="module")
def answered(batch):
    """(number, names, pictures) for each edit."""
    return [(i, batch.answer_names(i), batch.answers(i)) for i in range(len(batch))]


def first_of(batch, kind):
    return batch.kind.index(kind)


def test_the_requested_answer_comes_first_and_the_unchanged_picture_second(batch, answered):
    for i, names, pictures in answered:
        assert names[:2] == ["requested", "unchanged"] and len(names) == len(pictures) == len(set(names))
        assert torch.equal(pictures[0], batch.target[i]) and torch.equal(pictures[1], batch.source[i])
        assert len(names) >= 3 or batch.kind[i] in ("remove", "text"), batch.instruction[i]


def test_every_other_answer_can_be_told_from_the_requested_one_inside_the_region(batch, answered):
    for i, names, pictures in answered:
        told = (change(pictures, pictures[:1], SEEN) & batch.region[i]).sum((1, 2, 3))
        assert told[0] == 0 and told[1:].min() >= TOLD, (batch.instruction[i], names)


def test_no_two_answers_are_the_same_picture(answered):
    for _, names, pictures in answered:
        flat = pictures.flatten(1)
        apart = (flat[:, None] - flat).abs().amax(2) + torch.eye(len(flat))
        assert apart.min() > 0.02, names


def test_the_measure_takes_the_requested_answer_and_no_other(batch, answered):
    for i, _, pictures in answered:
        taken = success(pictures, pictures.expand(len(pictures), *pictures.shape), batch.region[[i]])
        assert taken.tolist() == [True] + [False] * (len(pictures) - 1), batch.instruction[i]


def test_the_measure_takes_a_noisy_result_but_no_noisy_source(batch, answered):
    noise = 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for i, _, pictures in answered:
        region = batch.region[[i]]
        results = torch.stack([batch.target[i], batch.source[i]]) + noise
        taken = success(results, pictures.expand(2, *pictures.shape), region)
        assert taken.tolist() == [True, False], batch.instruction[i]


@pytest.mark.parametrize("kind, column, values", [
    ("recolour", None, COLORS), ("season", "season", SEASONS), ("time", "time", TIMES),
    ("style", "style", STYLES)])
def test_the_other_answers_are_all_other_values(batch, kind, column, values):
    i = first_of(batch, kind)
    column = column or batch.requests[i].subject
    taken = {getattr(part, column)[i].item() for part in (batch.scenes, batch.target_scenes)}
    others = [value for number, value in enumerate(values) if number not in taken]
    assert batch.answer_names(i)[2:] == others + ["gone"] * (kind == "recolour")
    pictures = dict(zip(batch.answer_names(i), batch.answers(i), strict=True))
    for value in others:
        scene = batch.target_scenes[i].with_(**{column: values.index(value)})
        assert torch.equal(pictures[value], toytown.paint(scene)[0])


def test_removing_something_else_is_another_answer_where_it_can_be_told():
    batch = toytown.edits(14, seed=9, kinds="remove")
    found = 0
    for i, request in enumerate(batch.requests):
        pictures = dict(zip(batch.answer_names(i), batch.answers(i), strict=True))
        there = [name for name in (*OBJECTS, "fence") if getattr(batch.scenes, name)[i] == 1]
        for name in there:
            gone = toytown.paint(batch.scenes[i].with_(**{name: 0}))
            told = (change(gone, batch.target[[i]], SEEN) & batch.region[[i]]).sum() >= TOLD
            assert (f"{name} gone" in pictures) == bool(told and name != request.subject)
            if f"{name} gone" in pictures:
                assert torch.equal(pictures[f"{name} gone"], gone[0])
                found += 1
    assert found > 8


@pytest.mark.parametrize("kind", ["add", "move"])
def test_another_place_is_another_answer(kind):
    """Of an object, that is: a fence has no place."""
    batch = toytown.edits(8, seed=6, kinds=kind)
    for i, request in enumerate(batch.requests):
        pictures = dict(zip(batch.answer_names(i), batch.answers(i), strict=True))
        instead = {name.split()[0]: pictures[name] for name in pictures if name.endswith(" instead")}
        assert bool(instead) == (request.subject != "fence")
        for place, picture in instead.items():
            assert place in PLACES and place != request.how
            scene = batch.target_scenes[i].with_(**{request.subject + "_x": PLACES[place]})
            assert torch.equal(picture, toytown.paint(scene)[0])


def test_resizing_the_wrong_way_and_an_empty_sign_are_other_answers(batch):
    resized, written = first_of(batch, "resize"), first_of(batch, "text")
    wrong = {"bigger": "smaller", "smaller": "bigger"}[batch.requests[resized].how]
    assert wrong in batch.answer_names(resized) and "gone" in batch.answer_names(resized)
    assert "empty sign" in batch.answer_names(written)


def test_other_writings_miss_one_character_by_one_of_the_same_script():
    batch = toytown.edits(8, seed=7, kinds="text")
    told = 0
    for i in range(len(batch)):
        numbers = batch.target_scenes.sign_text[i].tolist()
        right = "".join(CHARACTERS[number - 1] for number in numbers if number)
        wrong = [name.strip('"') for name in batch.answer_names(i) if name.startswith('"')]
        told += len(wrong)
        assert len(wrong) <= LOOKALIKES * len(right) and right not in wrong
        for text in wrong:
            slips = [(a, b) for a, b in zip(right, text, strict=True) if a != b]
            assert len(slips) == 1 and (slips[0][0] in LATIN) == (slips[0][1] in LATIN)
    assert told > 12                                             # of some, all are too alike to be told


def test_image_2_itself_is_another_answer_unless_it_is_the_right_one():
    batch = toytown.edits(12, seed=8, kinds="combine")
    copies = 0
    for i, request in enumerate(batch.requests):
        names = batch.answer_names(i)
        if "image 2" in names:
            copies += 1
            assert torch.equal(batch.answers(i)[names.index("image 2")], batch.reference[i])
        if request.verb == "combine add":
            assert "image 2" not in names
    assert copies > 3


def test_answers_come_at_the_size_of_the_pictures(batch):
    large = batch[[0]].at(96)
    assert large.answers(0).shape[2:] == (96, 96) and torch.equal(large.answers(0)[0], large.target[0])
    assert large.answer_names(0) == batch.answer_names(0)


def test_side_effects_change_one_attribute_that_nobody_asked_to_change(batch):
    for i in range(0, len(batch), 3):
        request, effects = batch.requests[i], batch.side_effects(i)
        expected = {"season", "time", "style", "fence"} - {request.subject}
        assert expected <= set(effects) and request.subject not in effects
        for name in OBJECTS:
            there, asked = getattr(batch.target_scenes, name)[i] == 1, name in request.changes()
            assert (f"{name} gone" in effects) == (f"{name} moved" in effects) == bool(there and not asked)
        for name, picture in effects.items():
            assert picture.shape == (3, 64, 64)
            assert not torch.equal(picture, batch.target[i]), (batch.instruction[i], name)
