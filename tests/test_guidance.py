"""Guidance: what each scale means, and that the network is asked once."""

import pytest
import torch

from minidiff.process.guidance import (
    cfg,
    drop_conditions,
    drop_text_and_image,
    dual_cfg,
    guided,
    norm_preserving,
    rescaled,
    rescaled_cfg,
)


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (2, 3, 4, 4)), generator=generator, dtype=torch.float64)


def test_cfg_scales():
    uncond, cond = draw(0), draw(1)
    assert torch.equal(cfg(uncond, cond, 0), uncond)
    assert (cfg(uncond, cond, 1) - cond).abs().max() < 1e-10
    w = 2.0                                                          # the paper's: (1 + w) cond - w uncond
    assert (cfg(uncond, cond, 3.0) - ((1 + w) * cond - w * uncond)).abs().max() < 1e-10


def test_dual_cfg_scales():
    none, image, both = draw(0), draw(1), draw(2)
    assert torch.equal(dual_cfg(none, image, both, 0, 0), none)
    assert (dual_cfg(none, image, both, 1, 0) - image).abs().max() < 1e-12
    assert (dual_cfg(none, image, both, 1, 1) - both).abs().max() < 1e-12
    assert (dual_cfg(none, image, both, 7, 7) - cfg(none, both, 7)).abs().max() < 1e-12
    by_weights = (1 - 1.5) * none + (1.5 - 7.5) * image + 7.5 * both
    assert (dual_cfg(none, image, both, 1.5, 7.5) - by_weights).abs().max() < 1e-10


def test_norm_preserving_turns_each_cell_as_cfg_does_and_keeps_its_length():
    uncond, cond = draw(0), draw(1)
    for scale in (0.5, 1.5, 4.0, 20.0):
        found, plain = norm_preserving(uncond, cond, scale), cfg(uncond, cond, scale)
        for b, y, x in [(0, 0, 0), (1, 2, 3), (1, 3, 0)]:       # written out, for some of the cells
            cell, told, turned = (picture[b, :, y, x] for picture in (found, cond, plain))
            assert abs((cell @ cell).sqrt() - (told @ told).sqrt()) < 1e-12
            assert (cell / (cell @ cell).sqrt() - turned / (turned @ turned).sqrt()).abs().max() < 1e-12
        assert (found.square().sum(1) - cond.square().sum(1)).abs().max() < 1e-10
    assert (norm_preserving(uncond, cond, 1) - cond).abs().max() < 1e-12
    assert (plain.square().sum(1) - cond.square().sum(1)).abs().max() > 10
    assert torch.equal(norm_preserving(cond, cond / 2, 2.0), torch.zeros_like(cond))         # g = 0: no way


def test_rescaled_cfg_keeps_the_contrast_of_the_conditional_prediction():
    uncond, cond = draw(0), draw(1)
    full, none = rescaled_cfg(uncond, cond, 7.5, rescale=1), rescaled_cfg(uncond, cond, 7.5, rescale=0)
    assert torch.equal(none, cfg(uncond, cond, 7.5))
    for picture, kept in zip(full, cond):
        assert abs(picture.std().item() - kept.std().item()) < 1e-10
    assert (rescaled_cfg(uncond, cond, 7.5, 0.7) - (0.7 * full + 0.3 * none)).abs().max() < 1e-10


def test_rescaled_scales_each_picture_by_one_number():
    guided, cond = 5 * draw(0) + 0.3, draw(1)
    assert rescaled(guided, cond, 0) is guided
    for share in (0.7, 1):
        for picture, kept, found in zip(guided, cond, rescaled(guided, cond, share), strict=True):
            spread = [x.sub(x.mean()).square().mean().sqrt().item() for x in (picture, kept)]
            factor = share * spread[1] / spread[0] + 1 - share
            assert (found - factor * picture).abs().max() < 1e-12


@pytest.mark.parametrize("t", [0.5, torch.tensor([0.5, 0.25])], ids=["one level", "a level each"])
def test_guided_asks_once_for_both_branches(t):
    calls = []

    def predict(x_t, t, condition):
        calls.append(len(x_t))
        level = t.view(-1, 1, 1, 1) if isinstance(t, torch.Tensor) else t
        return x_t * level + condition.view(-1, 1, 1, 1)

    x, cond, uncond = draw(0), draw(1, 2), draw(2, 2)
    prediction = guided(predict, cond, uncond, 3.0)(x, t)
    assert calls == [4]
    assert (prediction - cfg(predict(x, t, uncond), predict(x, t, cond), 3.0)).abs().max() < 1e-10


def test_guided_at_scale_1_asks_for_the_condition_only():
    calls = []
    guided(lambda x_t, t, condition: calls.append(condition) or x_t, "cond", "uncond", 1)(draw(0), 0.5)
    assert calls == ["cond"]


def test_drop_conditions():
    captions = [f"caption {i}" for i in range(4000)]

    def dropped(share, seed=0):
        return drop_conditions(captions, share, "", torch.Generator().manual_seed(seed))

    assert dropped(0) == captions and dropped(1) == [""] * 4000
    assert 0.12 < dropped(0.15).count("") / 4000 < 0.18              # five standard errors
    assert all(new in (old, "") for new, old in zip(dropped(0.15), captions))
    assert dropped(0.15) == dropped(0.15) != dropped(0.15, seed=1)
    with pytest.raises(ValueError, match="share = 1.5"):
        dropped(1.5)


def test_drop_text_and_image_in_shares_of_one_twentieth():
    """100,000 draws: 5 % without text, 5 % without image, 5 % without both, to four standard errors."""
    no_text, no_image = drop_text_and_image(100_000, torch.Generator().manual_seed(0))
    assert no_text.shape == no_image.shape == (100_000,) and no_text.dtype == no_image.dtype == torch.bool
    patterns = {"text": no_text & ~no_image, "image": no_image & ~no_text, "both": no_text & no_image,
                "neither": ~(no_text | no_image)}
    shares = {name: found.double().mean().item() for name, found in patterns.items()}
    assert shares == pytest.approx({"text": 0.05, "image": 0.05, "both": 0.05, "neither": 0.85}, abs=0.0028)


def test_drop_text_and_image_by_one_number_a_picture():
    generator = torch.Generator().manual_seed(3)
    no_text, no_image = drop_text_and_image(2000, generator, share=0.25)
    after, twin = torch.rand(1, generator=generator), torch.Generator().manual_seed(3)
    numbers = torch.rand(2000, generator=twin).tolist()
    for u, without_text, without_image in zip(numbers, no_text, no_image):
        part = int(u / 0.25)                                # no text, neither, no image, all there
        assert (without_text.item(), without_image.item()) == (part in (0, 1), part in (1, 2))
    assert torch.equal(torch.rand(1, generator=twin), after)         # nothing else was drawn
    none, all_third = drop_text_and_image(500, twin, share=0), drop_text_and_image(500, twin, share=1 / 3)
    assert not none[0].any() and not none[1].any() and (all_third[0] | all_third[1]).all()
    for share in (-0.01, 0.34, float("nan")):
        with pytest.raises(ValueError, match=f"share = {share}: 0..1/3 expected"):
            drop_text_and_image(5, twin, share)
