"""PSNR and SSIM against torchmetrics and known answers; intervals against the normal distribution."""

from math import log10

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from minidiff.measure import bootstrap, psnr, ssim, student


def pair(size=(40, 33), noise=0.2):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 3, *size, generator=generator, dtype=torch.float64) * 2 - 1
    return (truth + noise * torch.randn(truth.shape, generator=generator)).clamp(-1, 1), truth


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
def test_psnr_and_ssim_agree_with_torchmetrics(noise):
    """Which is made for pictures from 0 to 1, and takes its logarithm in single precision."""
    output, truth = pair(noise=noise)
    unit = (output + 1) / 2, (truth + 1) / 2
    theirs = peak_signal_noise_ratio(*unit, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert (psnr(output, truth) - theirs).abs().max() < 1e-5
    theirs = structural_similarity_index_measure(*unit, data_range=1.0, reduction="none")
    assert (ssim(output, truth) - theirs).abs().max() < 1e-10


def test_psnr_of_a_uniform_difference():
    truth = torch.zeros(1, 3, 8, 8)
    for levels in (1, 4, 255):                                  # 255ths of the whole range
        expected = min(60, -20 * log10(levels / 255))
        assert psnr(truth + levels / 127.5, truth).item() == pytest.approx(expected, abs=1e-4)


def test_psnr_of_equal_pictures_is_the_cap():
    output, _ = pair()
    assert psnr(output, output).tolist() == [60.0] * 3
    assert psnr(output, output, cap=99).tolist() == [99.0] * 3


def test_psnr_counts_the_pixels_where_and_no_others():
    output, truth = pair()
    where = torch.rand(3, 1, 40, 33, generator=torch.Generator().manual_seed(1)) < 0.3
    spoiled = torch.where(where, output, torch.nan)
    for i in range(3):
        pixels = (output[i] - truth[i])[:, where[i, 0]]         # (3, n)
        expected = 10 * (4 / pixels.square().mean()).log10()
        assert psnr(spoiled, truth, where)[i].item() == pytest.approx(expected.item(), abs=1e-9)
    assert psnr(output, truth, torch.zeros(1, 1, 40, 33, dtype=torch.bool)).isnan().all()


def test_ssim_known_answers():
    picture, _ = pair()
    assert ssim(picture, picture).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    assert ssim(picture, -picture).max() < -0.7                 # its negative
    flat = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    expected = (2 * 1.5 * 1.3 + 0.0004) / (1.5**2 + 1.3**2 + 0.0004)
    assert ssim(flat, flat * 0.6).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_pictures_that_do_not_fit_are_refused_with_their_shapes(measure):
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\).*\(1, 3, 9, 8\).*expected"):
        measure(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 9, 8))
    with pytest.raises(ValueError, match="torch.uint8"):
        measure(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 8, 8))


def test_masks_that_are_no_masks_are_refused():
    picture = torch.zeros(2, 3, 8, 8)
    for mask in (torch.ones(2, 1, 8, 8), torch.ones(2, 8, 8).bool(), torch.ones(2, 3, 8, 8).bool(),
                 torch.ones(2, 1, 8, 9).bool(), torch.ones(3, 1, 8, 8).bool()):
        with pytest.raises(ValueError, match="mask is .*torch.bool .* expected"):
            psnr(picture, picture, mask)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = torch.randn(400, generator=torch.Generator().manual_seed(2)) * 3 + 7
    interval = bootstrap(values)
    half = 1.96 * values.std().item() / 400**0.5
    assert interval.value == pytest.approx(values.mean().item(), abs=1e-5)
    assert interval.low == pytest.approx(interval.value - half, abs=0.05)
    assert interval.high == pytest.approx(interval.value + half, abs=0.05)
    narrower = bootstrap(values, level=0.5)
    assert interval.low < narrower.low < narrower.high < interval.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    held = [interval.low <= 0 <= interval.high for interval in
            (bootstrap(torch.randn(50, generator=generator), draws=200, seed=i) for i in range(200))]
    assert 0.88 <= sum(held) / 200 <= 0.99


def test_the_median_ignores_an_outlier_and_nan_is_left_out():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 1e6, torch.nan])
    assert bootstrap(values, "median").value == 3
    assert bootstrap(values[[0, 1, 2, 3, 5]], "median").value == 2.5
    assert bootstrap(torch.tensor([5.0])) == (5, 5, 5)
    assert str(bootstrap(torch.tensor([5.0]))) == "5.00 [5.00, 5.00]"


def test_the_same_values_give_the_same_interval():
    values = torch.rand(30, generator=torch.Generator().manual_seed(4))
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)


def test_no_values_and_unknown_statistics_are_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap(torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match='"mode".*"mean" or "median"'):
        bootstrap(torch.ones(3), "mode")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_an_interval_of_few_values_holds_the_truth_95_times_in_100(count):
    draws = torch.randn(20_000, count, generator=torch.Generator().manual_seed(count)).double() * 3 + 7
    mean, spread = draws.mean(1), draws.std(1)
    found = [student(each) for each in draws[:200]]
    half = torch.tensor([(interval.high - interval.low) / 2 for interval in found], dtype=torch.float64)
    factor = (half / spread[:200]).mean().item()                # the same for all
    assert (half - factor * spread[:200]).abs().max() < 1e-6
    assert torch.tensor([interval.value for interval in found]).sub(mean[:200]).abs().max() < 1e-6
    assert ((mean - 7).abs() < factor * spread).double().mean().item() == pytest.approx(0.95, abs=0.006)


def test_an_interval_of_few_values_needs_two_to_five():
    for wrong in (1, 6):
        with pytest.raises(ValueError, match=f"{wrong} values: 2 to 5 expected"):
            student(torch.zeros(wrong))
