"""Edits judged: null editors in their places, the right edits in each group, figures recomputed by hand."""

from contextlib import nullcontext

import pytest
import torch

from minidiff.bench import edits as table
from minidiff.bench import judging
from minidiff.bench.common import seeded
from minidiff.measure import psnr


@pytest.fixture(scope="module")
def batch():
    return judging.held_out_edits(2)


def test_every_kind_as_often_and_none_with_a_second_picture(batch):
    assert sorted(batch.kind) == sorted(judging.TESTED * 2) and not batch.has_reference.any()
    assert judging.first_of_each("abcaab", "ba", 2) == [1, 5, 0, 3]


def test_null_editors_are_ranked_rightly(batch):
    editors = judging.NULL_EDITORS.items()
    found = {name: judging.judged(edit(batch, seeded(0)), batch) for name, edit in editors}
    is_global = batch.is_global
    assert (found["oracle"]["success"] == 1).all() and (found["oracle"]["strict"] == 1).all()
    assert (found["oracle"]["truth"] == 60).all() and (found["oracle"]["kept"][~is_global] == 60).all()
    assert (found["oracle"]["survived"][is_global] == 1).all()
    assert (found["identity"]["success"] == 0).all() and (found["identity"]["kept"][~is_global] == 60).all()
    assert found["re-roll"]["kept"][~is_global].max() < 30 and found["re-roll"]["strict"].sum() <= 1


def test_kept_and_survived_stand_where_they_apply(batch):
    found = judging.judged(batch.source, batch)
    assert torch.equal(found["kept"].isnan(), batch.is_global)
    assert torch.equal(found["survived"].isnan(), ~batch.is_global)


def test_figures_by_hand_and_in_any_number_at_once(batch):
    noise = torch.randn(batch.source.shape, generator=seeded(1))
    outputs = (batch.target + 0.05 * noise).clamp(-1, 1)
    found, again = judging.judged(outputs, batch), judging.judged(outputs, batch, batch=5)
    for name, values in found.items():
        torch.testing.assert_close(values, again[name], equal_nan=True)
    for i in range(0, len(batch), 5):
        answers = batch.answers(i)
        inside = batch.region[i].expand_as(outputs[i])
        distances = (answers[:, inside] - outputs[i][inside]).square().sum(1)
        assert bool(found["success"][i]) == bool(distances.argmin() == 0)
        if not batch.is_global[i]:
            by_hand = psnr(outputs[i : i + 1], batch.source[i : i + 1], ~batch.region[i : i + 1])
            assert found["kept"][i].item() == pytest.approx(by_hand.item(), abs=1e-4)


def test_groups_are_what_they_say(batch):
    found = table.groups(batch, detailed=True)
    assert found["all"].all() and found[table.FOUR].sum() == 8 and found["recolour"].sum() == 2
    assert found["semantic"].sum() == 6 and found["appearance"].sum() == 12
    plain, wording, colour = (found[f"{table.FOUR}: {name}"] for name in (
        "nothing held out", "held-out phrasing", "held-out colour"))
    assert not (plain & (wording | colour)).any() and torch.equal(plain | wording | colour, found[table.FOUR])
    assert list(table.groups(batch, detailed=False)) == ["all", table.FOUR]


def test_costs_are_counted_for_one_edit(batch):
    class Counting:
        def counted(self):
            return nullcontext([88])

    def edit(model, part, generator):
        return part.source

    outputs, costs = table.edited(edit, Counting(), batch, None, "x", batch=7)
    assert torch.equal(outputs, batch.source) and costs["network calls"] == 88 // len(batch)
