"""The parts of the networks: level embedding, residual block, attention, configurations."""

from dataclasses import dataclass

import pytest
import torch

from minidiff.denoisers.layers import (
    Attention,
    PictureAttention,
    ResBlock,
    adjusted,
    config_from_dict,
    group_norm,
    level_embedding,
)
from minidiff.denoisers.unet import UNet, UNetConfig


def randomise(module, seed=0):
    """Fill every parameter, the zeros too, so that nothing is hidden by how a network starts."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    return module


def test_level_embedding_tells_neighbouring_levels_apart_and_is_smooth():
    levels = torch.linspace(0, 1, 1001)
    code = level_embedding(levels, 128).double()
    step = (code[1:] - code[:-1]).norm(dim=1)
    assert step.min() > 0.5                                 # of a length of 8: all 1000 levels differ
    assert step.max() < 0.5 * code.norm(dim=1).min()        # and no jump
    far = torch.cdist(code, code) + 100 * torch.eye(1001)
    assert far.min() > 0.5                                  # no two levels share a code


def test_level_embedding_against_the_formula():
    code = level_embedding(torch.tensor([0.25, 1.0]), 6)
    for row, position in zip(code.tolist(), (250, 1000), strict=True):
        angles = torch.tensor([position / 10000 ** (i / 3) for i in range(3)], dtype=torch.float64)
        expected = torch.cat([angles.cos(), angles.sin()])
        assert torch.tensor(row).double().sub(expected).abs().max() < 1e-4      # float32 angles up to 1000


@pytest.mark.parametrize("length", [1, 5])
def test_attention_against_loops(length):
    torch.manual_seed(0)
    attention = randomise(Attention(64, 24)).double()
    x, context = torch.randn(2, 7, 64).double(), torch.randn(2, length, 24).double()
    visible = torch.tensor([[True] * length, [True] + [False] * (length - 1)])
    q = torch.einsum("bnc,dc->bnd", x, attention.q.weight) + attention.q.bias
    k, v = (torch.einsum("blc,dc->bld", context, attention.kv.weight) + attention.kv.bias).split(64, dim=2)
    merged = torch.zeros(2, 7, 64).double()
    for b in range(2):
        seen = visible[b].nonzero()[:, 0]
        for head in (slice(0, 32), slice(32, 64)):
            for n in range(7):
                weights = torch.exp(torch.einsum("c,lc->l", q[b, n, head], k[b, seen, head]) / 32**0.5)
                merged[b, n, head] = torch.einsum("l,lc->c", weights / weights.sum(), v[b, seen, head])
    expected = torch.einsum("bnc,dc->bnd", merged, attention.out.weight) + attention.out.bias
    result = attention(x, context, visible[:, None, None, :])
    assert (result - expected).abs().max() < 1e-12


def test_attention_without_anything_to_see_is_finite():
    attention = randomise(Attention(32, 32))
    nothing = torch.zeros(2, 1, 1, 4, dtype=torch.bool)
    for dtype in (torch.float32, torch.bfloat16):
        x, context = torch.randn(2, 3, 32, dtype=dtype), torch.randn(2, 4, 32, dtype=dtype)
        assert attention.to(dtype)(x, context, nothing).isfinite().all()


def test_blocks_start_as_the_identity():
    x, condition = torch.randn(2, 32, 4, 6), torch.randn(2, 16)
    assert torch.equal(ResBlock(32, 16)(x, condition), x)
    assert torch.equal(PictureAttention(32)(x), x)
    assert torch.equal(PictureAttention(32, 24)(x, torch.randn(2, 5, 24)), x)


def test_picture_attention_sees_cells_as_a_set():
    """Without positions, shuffling the cells shuffles the result: the memory layout is read right."""
    torch.manual_seed(0)
    look = randomise(PictureAttention(32)).double()
    x = torch.randn(2, 32, 4, 6).double()
    order = torch.randperm(24)
    shuffled = x.flatten(2)[:, :, order].unflatten(2, (4, 6)).contiguous(memory_format=torch.channels_last)
    assert (look(shuffled).flatten(2) - look(x).flatten(2)[:, :, order]).abs().max() < 1e-12


def small_unet():
    """A U-Net with two places of attention, and what goes in."""
    unet = randomise(UNet(UNetConfig(8, channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32)))
    x, text = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 32)
    return unet.eval().requires_grad_(False), lambda: unet(x, torch.tensor(0.5), text)


def adjusts(unet):
    """What the attention layers of a network ask, one each."""
    return [layer.adjust for layer in unet.modules() if isinstance(layer, Attention)]


def test_adjusted_sees_every_look_by_name_and_what_it_returns_counts():
    unet, draw = small_unet()
    plain, seen = draw(), {}

    def note(name, weights):
        seen[name] = weights
        return weights

    with adjusted(unet, note):
        assert torch.equal(draw(), plain)
    names = {name for name, layer in unet.named_modules() if isinstance(layer, PictureAttention)}
    assert set(seen) == names == {"down.1.look_around", "down.1.read_text"}
    for name, weights in seen.items():
        assert weights.shape == (2, 1, 4, 4 if name.endswith("look_around") else 5)
        assert (weights.sum(3) - 1).abs().max() < 1e-6
    for blind in ("look_around", "read_text"):
        with adjusted(unet, lambda name, weights: weights * (not name.endswith(blind))):
            assert (draw() - plain).abs().max() > 1e-4


def test_adjusted_restores_the_network_after_an_exception_too():
    unet, draw = small_unet()
    plain = draw()

    def fail(name, weights):
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="down.1.look_around"), adjusted(unet, fail):
        draw()
    assert adjusts(unet) == [None] * 2 and torch.equal(draw(), plain)
    with adjusted(unet, lambda name, weights: 0 * weights):
        assert None not in adjusts(unet) and not torch.equal(draw(), plain)
    assert adjusts(unet) == [None] * 2 and torch.equal(draw(), plain)


def test_adjusted_inside_adjusted_takes_over_and_hands_back():
    unet, draw = small_unet()
    plain = draw()

    def blind(name, weights):
        return 0 * weights

    def look(name, weights):
        return weights

    def fail(name, weights):
        raise RuntimeError(name)

    with adjusted(unet, blind):
        blinded = draw()
        with adjusted(unet, look):
            assert torch.equal(draw(), plain)                   # the inner one alone counts
        assert torch.equal(draw(), blinded) and not torch.equal(blinded, plain)
        with pytest.raises(RuntimeError), adjusted(unet, fail):
            draw()
        assert torch.equal(draw(), blinded)
    assert adjusts(unet) == [None] * 2 and torch.equal(draw(), plain)


def test_the_level_scales_and_shifts():
    block = randomise(ResBlock(32, 16))
    x = torch.randn(2, 32, 4, 4)
    a, b = block(x, torch.zeros(2, 16)), block(x, torch.ones(2, 16))
    assert (a - b).abs().max() > 1e-2


def test_group_norm_against_means():
    x = torch.randn(2, 48, 4, 4).double()
    groups = x.reshape(2, 3, -1)
    variance = groups.var(2, unbiased=False, keepdim=True)
    expected = (groups - groups.mean(2, keepdim=True)) / (variance + 1e-5).sqrt()
    assert (group_norm(48).double()(x) - expected.reshape(x.shape)).abs().max() < 1e-12


def test_config_from_dict_names_what_is_wrong():
    @dataclass(frozen=True)
    class Config:
        width: int
        sizes: tuple = ()

    assert config_from_dict(Config, {"width": 3, "sizes": [1, 2]}) == Config(3, (1, 2))
    with pytest.raises(ValueError, match="Config does not know hight, widht: keys width, sizes expected"):
        config_from_dict(Config, {"widht": 3, "hight": 2})
    with pytest.raises(ValueError, match="width"):
        config_from_dict(Config, {})
