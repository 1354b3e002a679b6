"""Success, preservation, survival, seam, drift: known answers, null editors in order, inverted masks seen."""

import pytest
import torch

from minidiff import toytown
from minidiff.measure import (
    drift,
    harmonic_fill,
    preservation,
    seam,
    strict_success,
    strict_success_global,
    success,
    survival,
    truth_psnr,
)
from minidiff.measure.null import laplacian
from minidiff.measure.preservation import NOTICEABLE

SIZE = 16


@pytest.fixture
def region():
    """A box of 8 x 8 in the middle of 16 x 16: a quarter of the picture."""
    box = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    box[..., 4:12, 4:12] = True
    return box


@pytest.fixture
def source():
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) - 0.5


def levels(n):
    """n 255ths of the range of pictures."""
    return n / 127.5


def test_preservation_of_known_changes(source, region):
    output = source.clone()
    output[..., 5, 5] += 1                                      # inside: may change
    output[0, 1, 0, 0] += levels(51)                            # one channel of one kept pixel of picture 0
    kept = preservation(source, output, region)
    assert kept.max_diff.tolist() == pytest.approx([51, 0, 0, 0], abs=1e-3)
    assert kept.changed.tolist() == pytest.approx([1 / 192, 0, 0, 0])
    error = levels(51) ** 2 / (192 * 3)
    assert kept.psnr[0].item() == pytest.approx(10 * torch.tensor(4 / error).log10().item(), abs=1e-3)
    assert kept.psnr[1:].tolist() == [60, 60, 60]


def test_the_pie_bench_figure_flatters_by_the_share_of_the_region(source, region):
    kept = preservation(source, source + levels(10), region)
    flattery = 10 * torch.tensor(4 / 3).log10().item()          # 3 of 4 pixels are kept
    assert (kept.pie_psnr - kept.psnr).tolist() == pytest.approx([flattery] * 4, abs=1e-3)


def test_a_pixel_has_changed_when_it_did_by_more_than_4_levels_and_not_by_4():
    pixels = torch.arange(250.0).view(1, 1, 1, 250).expand(1, 3, 1, 250)
    nothing = torch.zeros(1, 1, 1, 250, dtype=torch.bool)
    for by, changed in ((NOTICEABLE, 0), (NOTICEABLE + 1, 1)):
        assert preservation(pixels / 127.5 - 1, (pixels + by) / 127.5 - 1, nothing).changed.item() == changed


def test_where_everything_may_change_nothing_can_be_lost(source):
    kept = preservation(source, -source, torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool))
    assert kept.psnr.tolist() == kept.pie_psnr.tolist() == [60] * 4
    assert kept.max_diff.tolist() == kept.changed.tolist() == [0] * 4


def test_an_inverted_mask_is_seen_by_every_measure_that_takes_one(source, region):
    """An exact local edit is perfect under the right region and bad under the inverted one."""
    target = torch.where(region, -source, source)
    answers = torch.stack([target, source], 1)
    right, wrong = preservation(source, target, region), preservation(source, target, ~region)
    assert right.psnr.min() == 60 and wrong.psnr.max() < 20
    assert right.max_diff.max() == 0 and wrong.max_diff.min() > 50
    assert right.changed.max() == 0 and wrong.changed.min() > 0.9
    assert right.pie_psnr.min() == 60 and wrong.pie_psnr.max() < 25
    assert success(target, answers, region).all() and not success(target, answers, ~region).any()
    assert truth_psnr(source, target, region).max() < 20 and truth_psnr(source, target, ~region).min() == 60
    filled = harmonic_fill(source, region)
    assert (filled == source)[(~region).expand_as(source)].all()
    assert not (harmonic_fill(source, ~region) == source)[(~region).expand_as(source)].any()


def test_success_is_the_nearest_answer_inside_the_region(source, region):
    requested, other = source + 0.3, source - 0.3
    answers = torch.stack([requested, source, other], 1)
    assert success(source + 0.16, answers, region).all()        # just nearer to +.3 than to 0
    assert not success(source + 0.14, answers, region).any()
    assert not success(other, answers, region).any()
    outside = torch.where(region, requested, other)
    assert success(outside, answers, region).all()              # outside is another measure's concern


def test_a_tie_is_no_success_and_rows_of_nan_are_no_answers(source, region):
    assert not success(source, torch.stack([source, source], 1), region).any()
    answers = torch.stack([source, source + 1, torch.full_like(source, torch.nan)], 1)
    assert success(source, answers, region).all() and not success(source + 1, answers, region).any()
    assert not success(torch.full_like(source, torch.nan), answers, region).any()


def test_answers_that_do_not_fit_are_refused(source, region):
    for answers in (source, source[:, None], torch.stack([source, source], 1)[:3]):
        with pytest.raises(ValueError, match="answers are .* K >= 2 expected"):
            success(source, answers, region)
    with pytest.raises(ValueError, match="mask is .*torch.float32"):
        success(source, torch.stack([source, source], 1), region.float())


def test_strict_success_needs_35_dB_or_what_the_codec_allows():
    succeeded, preserved = torch.tensor([True, True, True, False]), torch.tensor([60.0, 35.0, 34.9, 60.0])
    assert strict_success(succeeded, preserved).tolist() == [True, True, False, False]
    coded = strict_success(succeeded, torch.tensor([30.0, 29.9, torch.nan, 60.0]), floor=31)
    assert coded.tolist() == [True, False, False, False]
    floors = torch.tensor([60.0, 60.0, 31.0, 31.0])
    assert strict_success(succeeded, preserved, floors).tolist() == [True, True, True, False]


def test_survival_tells_attributes_lost_kept_and_unseen(source):
    left, right = torch.zeros(2, 1, 1, SIZE, SIZE)
    left[..., :8], right[..., 8:] = 1, 1
    others = torch.stack([source + left, source + right, source, torch.full_like(source, torch.nan)], 1)
    survived = survival(source + left, source, others)          # the output has changed on the left
    assert survived[:, :2].tolist() == [[0, 1]] * 4
    assert survived[:, 2:].isnan().all()
    succeeded, untouched = torch.ones(4).bool(), survival(source, source, others)
    assert not strict_success_global(succeeded, survived).any()
    assert strict_success_global(succeeded, untouched).all()
    assert not strict_success_global(~succeeded, untouched).any()
    with pytest.raises(ValueError, match=r"others are .*\(B, K, C, H, W\)"):
        survival(source, source, source)


def test_seam_known_answers(source, region):
    assert seam(source, source, region).tolist() == [0] * 4
    brighter = torch.where(region, source + levels(10), source)
    assert seam(brighter, source, region).tolist() == pytest.approx([10] * 4, abs=1e-3)
    assert seam(source + levels(10), source, region).tolist() == pytest.approx([0] * 4, abs=1e-3)
    assert torch.equal(seam(brighter, source, region), seam(brighter, source, ~region))
    inside = source.clone()
    inside[..., 6:10, 6:10] = 0                                 # away from the edge
    assert seam(inside, source, region).tolist() == [0] * 4
    assert seam(source, source, torch.ones_like(region)).isnan().all()


def test_harmonic_fill_equals_a_dense_solution(source):
    hole = torch.rand(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) < 0.7
    filled = harmonic_fill(source, hole)
    for i in range(4):
        unit = torch.eye(SIZE**2, dtype=torch.float64).view(SIZE**2, 1, SIZE, SIZE)
        laplace = laplacian(unit).flatten(1)                    # symmetric: row i is pixel i's equation
        inside = hole[i].flatten()
        known = source[i].double().flatten(1)[:, ~inside]
        solution = torch.linalg.solve(laplace[inside][:, inside], -laplace[inside][:, ~inside] @ known.T).T
        assert (filled[i].flatten(1)[:, inside] - solution).abs().max() < 1e-5
        assert torch.equal(filled[i].flatten(1)[:, ~inside], source[i].flatten(1)[:, ~inside])


def test_the_laplacian_sums_differences_to_neighbours():
    picture = torch.arange(12.0).view(1, 1, 3, 4) ** 2
    expected = torch.zeros(3, 4)
    for y in range(3):
        for x in range(4):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= y + dy < 3 and 0 <= x + dx < 4:
                    expected[y, x] += picture[0, 0, y, x] - picture[0, 0, y + dy, x + dx]
    assert torch.equal(laplacian(picture)[0, 0], expected)


def test_harmonic_fill_of_a_large_hole_restores_a_harmonic_picture():
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 128, dtype=torch.float64)] * 2, indexing="ij")
    picture = torch.stack([x * y, x, x**2 - y**2])[None]        # each is the mean of its neighbours
    hole = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    hole[..., 1:-1, 1:-1] = True                                # 15,876 pixels
    assert (harmonic_fill(torch.where(hole, torch.nan, picture), hole) - picture).abs().max() < 1e-4


def test_harmonic_fill_of_extreme_holes(source):
    nothing = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    assert torch.equal(harmonic_fill(source, nothing), source)
    assert not harmonic_fill(source, ~nothing).any()
    one = ~nothing
    one[..., 3, 5] = False
    assert (harmonic_fill(source, one) - source[..., 3:4, 5:6]).abs().max() < 1e-4


def nulls(batch):
    """What the four null editors make of a batch of edits: {name: output}."""
    return {"identity": batch.source, "re-roll": toytown.paint(toytown.scenes(len(batch), 99), 64),
            "oracle": batch.target, "harmonic fill": harmonic_fill(batch.source, batch.region)}


def judged(output, batch, answers):
    """Shares of edits that succeed and strictly succeed, median preservation and median truth PSNR."""
    succeeded = torch.cat([success(output[i : i + 1], answers[i][None], batch.region[i : i + 1])
                           for i in range(len(batch))])
    kept = preservation(batch.source, output, batch.region).psnr
    strict = strict_success(succeeded, kept)
    return (succeeded.float().mean().item(), strict.float().mean().item(), kept.median().item(),
            truth_psnr(output, batch.target, batch.region).median().item())


def test_null_editors_rank_rightly_on_local_edits_of_toytown():
    batch = toytown.edits(16, seed=5, kinds=("recolour", "add", "remove", "move"))
    assert not batch.is_global.any()
    answers = [batch.answers(i) for i in range(len(batch))]
    rank = {name: judged(output, batch, answers) for name, output in nulls(batch).items()}
    assert rank["oracle"] == (1, 1, 60, 60)
    assert rank["identity"][:3] == (0, 0, 60)
    assert rank["re-roll"][0] < 0.5 and rank["re-roll"][1] == 0 and rank["re-roll"][2] < 20
    assert rank["harmonic fill"][2] == 60 and 0 < rank["harmonic fill"][0] < 0.6
    for name in ("identity", "re-roll", "harmonic fill"):
        assert rank[name][3] < 25 and rank[name][1] < 0.6


def test_null_editors_rank_rightly_on_global_edits_of_toytown():
    batch = toytown.edits(6, seed=6, kinds=("season", "time"))
    slips, share = [torch.stack(list(batch.side_effects(i).values())) for i in range(len(batch))], {}
    for name, output in nulls(batch).items():
        if name == "harmonic fill":
            continue                                            # nothing is known around it
        survived = [survival(output[i : i + 1], batch.target[i : i + 1], slips[i][None])
                    for i in range(len(batch))]
        share[name] = torch.cat(survived, 1).nanmean().item()
    assert share["oracle"] == 1 > share["identity"] > share["re-roll"]
    assert share["re-roll"] < 0.8


def chain(source):
    """Three turns: brighten a box, brighten another, undo both. Truths and regions, (3, B, ...)."""
    regions = torch.zeros(3, len(source), 1, SIZE, SIZE, dtype=torch.bool)
    regions[0, ..., :4, :4] = regions[1, ..., 8:12, :4] = True
    regions[2] = regions[0] | regions[1]
    first = torch.where(regions[0], source + 0.5, source)
    return torch.stack([first, torch.where(regions[1], first + 0.5, first), source]), regions


def test_an_exact_chain_does_not_drift(source):
    truths, regions = chain(source)
    result = drift(source, truths, truths, regions)
    assert (result.preserved == 60).all() and (result.truth == 60).all() and (result.max_diff == 0).all()


def test_drift_adds_up_and_undoing_does_not_hide_it(source):
    truths, regions = chain(source)
    turns = torch.arange(1, 4).view(3, 1, 1, 1, 1)
    result = drift(source, truths + levels(2) * turns, truths, regions)
    assert result.max_diff[:, 0].tolist() == pytest.approx([2, 4, 6], abs=1e-3)
    for measured in (result.preserved, result.truth):
        assert measured[:, 0].tolist() == pytest.approx([60 - 17.89, 60 - 23.91, 60 - 27.43], abs=0.02)


def test_what_any_turn_so_far_may_change_is_not_held_against_it(source):
    truths, regions = chain(source)
    assert (drift(source, truths, truths, regions).preserved == 60).all()
    assert (drift(source, truths, truths, regions[[2, 0, 1]]).preserved == 60).all()
    assert drift(source, truths, truths, ~regions).preserved[0].max() < 60


def test_chains_that_do_not_fit_are_refused(source):
    truths, regions = chain(source)
    for outputs, masks in ((truths[:2], regions), (truths, regions[:2]), (truths[:, :2], regions)):
        with pytest.raises(ValueError, match="outputs, truths, regions are .*\n.* expected"):
            drift(source, outputs, truths, masks)
    with pytest.raises(ValueError, match="torch.float32: torch.bool"):
        drift(source, truths, truths, regions.float())
