"""Guidance: what each scale means, and that the network is asked once."""

import pytest
import torch

from minidiff.process.guidance import cfg, drop_conditions, dual_cfg, guided, rescaled_cfg


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
    assert (dual_cfg(none, image, both, 1, 0) - image).abs().max() < 1e-10
    assert (dual_cfg(none, image, both, 1, 1) - both).abs().max() < 1e-10
    assert (dual_cfg(none, image, both, 7, 7) - cfg(none, both, 7)).abs().max() < 1e-10
    by_weights = (1 - 1.5) * none + (1.5 - 7.5) * image + 7.5 * both
    assert (dual_cfg(none, image, both, 1.5, 7.5) - by_weights).abs().max() < 1e-10


def test_rescaled_cfg_keeps_the_contrast_of_the_conditional_prediction():
    uncond, cond = draw(0), draw(1)
    full, none = rescaled_cfg(uncond, cond, 7.5, rescale=1), rescaled_cfg(uncond, cond, 7.5, rescale=0)
    assert torch.equal(none, cfg(uncond, cond, 7.5))
    for picture, kept in zip(full, cond):
        assert abs(picture.std().item() - kept.std().item()) < 1e-10
    assert (rescaled_cfg(uncond, cond, 7.5, 0.7) - (0.7 * full + 0.3 * none)).abs().max() < 1e-10


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
