"""The U-Net: what it promises about text, extra channels, sizes, levels and its number of parameters."""

from dataclasses import replace

import pytest
import torch

from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.toytown import VOCABULARY
from minidiff.toytown.glyphs import CHARACTERS

SMALL = UNetConfig(size=32, channels=(16, 32, 64), blocks=(1, 1, 1), condition_dim=32, text_dim=24)


def randomise(net, seed=0):
    """Fill every parameter, the zeros too, so that nothing is hidden by how a network starts."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    return net


def inputs(batch=3, height=16, width=24, length=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(batch, 3, height, width, generator=generator)
    level = torch.rand(batch, generator=generator)
    text = torch.randn(batch, length, 24, generator=generator)
    text_mask = torch.arange(length) <= torch.arange(batch)[:, None] + 1
    return x_t, level, text, text_mask


def test_a_new_network_predicts_zero():
    assert torch.equal(UNet(SMALL)(*inputs()), torch.zeros(3, 3, 16, 24))


def test_extra_channels_change_nothing_before_training():
    net = randomise(UNet(SMALL))
    wide = UNet(replace(SMALL, extra_channels=4))
    missing = wide.load_state_dict(net.state_dict(), strict=False).missing_keys
    assert missing == ["stem_extra.weight", "stem_extra.bias"]
    extra = torch.randn(3, 4, 16, 24)
    assert torch.equal(wide(*inputs(), extra=extra), net(*inputs()))
    assert not torch.equal(randomise(wide)(*inputs(), extra=extra), wide(*inputs(), extra=0 * extra))


def test_padding_does_not_matter():
    net = randomise(UNet(SMALL))
    x_t, level, text, text_mask = inputs()
    longer = torch.cat([text, 100 * torch.randn(3, 7, 24)], dim=1)
    longer_mask = torch.cat([text_mask, torch.zeros(3, 7, dtype=torch.bool)], dim=1)
    difference = net(x_t, level, longer, longer_mask) - net(x_t, level, text, text_mask)
    assert difference.abs().max() < 1e-5
    everything = torch.ones(3, 5, dtype=torch.bool)
    assert (net(x_t, level, text) - net(x_t, level, text, everything)).abs().max() < 1e-5


def test_the_text_is_read_by_every_layer_that_should():
    net = randomise(UNet(SMALL))
    x_t, level, text, text_mask = inputs()
    base = net(x_t, level, text, text_mask)
    assert (net(x_t, level, text.flip(0), text_mask) - base).abs().max() > 1e-2
    for name in ("down.1.read_text", "down.2.read_text", "up.1.read_text", "pooled_text"):
        deaf = randomise(UNet(SMALL))
        for parameter in deaf.get_submodule(name).parameters():
            parameter.data.zero_()
        assert (deaf(x_t, level, text, text_mask) - base).abs().max() > 1e-4, name


def test_no_real_token_is_finite():
    net = randomise(UNet(SMALL))
    x_t, level, text, text_mask = inputs()
    assert net(x_t, level, text, torch.zeros_like(text_mask)).isfinite().all()


def test_a_batch_is_its_pictures_one_by_one():
    net = randomise(UNet(SMALL))
    batch = net(*inputs())
    for i in range(3):
        single = net(*(tensor[i : i + 1] for tensor in inputs()))
        assert (single - batch[i : i + 1]).abs().max() < 1e-5
    x_t, _, text, text_mask = inputs()
    same = net(x_t, torch.full((3,), 0.3), text, text_mask)
    assert torch.equal(net(x_t, torch.tensor(0.3), text, text_mask), same)
    assert torch.equal(net(x_t, 0.3, text, text_mask), same)


def test_the_level_matters_by_thousandths():
    net = randomise(UNet(SMALL))
    x_t, _, text, text_mask = inputs()
    at = {level: net(x_t, level, text, text_mask) for level in (0.0, 0.5, 0.501, 1.0)}
    near, far = (at[0.5] - at[0.501]).abs().max(), (at[0.0] - at[1.0]).abs().max()
    assert 1e-5 < near < far


def test_every_pixel_can_reach_every_pixel():
    net = randomise(UNet(SMALL))
    x_t, level, text, text_mask = inputs(batch=1)
    x_t.requires_grad_()
    net(x_t, level, text, text_mask)[0, 0, 0, 0].backward()
    assert (x_t.grad != 0).all()


def test_details_go_round_the_coarse_cells():
    """With the way up cut off, each resolution still hands its own cells across."""
    net = randomise(UNet(SMALL))
    for parameter in net.grow.parameters():
        parameter.data.zero_()
    x_t, level, text, text_mask = inputs()
    assert (net(x_t, level, text, text_mask) - net(x_t.flip(3), level, text, text_mask)).abs().max() > 1e-2


def test_gradients_reach_every_parameter():
    """After two updates: the head starts at zero, and behind it the last layer of every block does."""
    torch.manual_seed(0)
    net = UNet(replace(SMALL, extra_channels=1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        prediction = net(*inputs(), extra=torch.randn(3, 1, 16, 24))
        (prediction - inputs()[0]).square().mean().backward()
        optimizer.step()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_half_precision_weights_agree_and_return_the_input_dtype():
    net = randomise(UNet(SMALL)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        full = net(*inputs())
        half = net.bfloat16()(*inputs())
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.05 * full.abs().max()


def test_without_text():
    net = randomise(UNet(replace(SMALL, text_dim=0, picture_channels=1)))
    assert net(torch.randn(2, 1, 32, 32), torch.tensor([0.1, 0.2])).shape == (2, 1, 32, 32)


def test_the_shipped_size():
    """Unet and text encoder together stay below 8 MiB in half precision, with room for names."""
    encoder = TextEncoder(TextConfig(words=VOCABULARY, characters=CHARACTERS))
    net = UNet(UNetConfig(text_dim=encoder.config.dim))
    count = sum(p.numel() for p in [*net.parameters(), *encoder.parameters()])
    assert 3_000_000 < count < 4_000_000
    text, text_mask = encoder(encoder.tokenize(["a red car", ""]))
    assert net(torch.randn(2, 3, 64, 96), 0.5, text, text_mask).shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(x_t=torch.zeros(3, 16, 24)), r"x_t is \(3, 16, 24\): \(B, 3, H, W\)"),
        (dict(x_t=torch.zeros(3, 4, 16, 24)), r"x_t is \(3, 4, 16, 24\): \(B, 3, H, W\)"),
        (dict(x_t=torch.zeros(3, 3, 16, 20)), "multiples of 8 expected"),
        (dict(level=torch.tensor([0.1, 0.2])),
         r"level is \(2,\), x_t has 3 pictures: a scalar or \(3,\) expected"),
        (dict(level=torch.tensor([1, 500, 1000])), "a fraction 0..1 of the whole expected"),
        (dict(level=torch.tensor(float("nan"))), "a fraction 0..1 of the whole expected"),
        (dict(text=None, text_mask=None), "no text came"),
        (dict(text=torch.zeros(3, 5, 32)), r"text is \(3, 5, 32\): \(3, L, 24\) expected"),
        (dict(text=torch.zeros(2, 5, 24)), r"text is \(2, 5, 24\): \(3, L, 24\) expected"),
        (dict(text_mask=torch.ones(3, 4, dtype=torch.bool)), r"bool, \(3, 5\) expected"),
        (dict(text_mask=torch.ones(3, 5)), r"text_mask is torch.float32, \(3, 5\): bool"),
        (dict(extra=torch.zeros(3, 1, 16, 24)), "None expected, since extra_channels = 0"),
    ],
)
def test_bad_input(changes, message):
    good = dict(zip(("x_t", "level", "text", "text_mask"), inputs(), strict=True))
    with pytest.raises(ValueError, match=message):
        UNet(SMALL)(**{**good, **changes})


def test_bad_extra_and_text_where_none_is_read():
    wide = UNet(replace(SMALL, extra_channels=4))
    for extra in (None, torch.zeros(3, 3, 16, 24), torch.zeros(3, 4, 8, 24)):
        with pytest.raises(ValueError, match=r"\(3, 4, 16, 24\) expected"):
            wide(*inputs(), extra=extra)
    with pytest.raises(ValueError, match="reads none"):
        UNet(replace(SMALL, text_dim=0))(*inputs())


def test_configuration():
    assert UNetConfig.from_dict({"channels": [32, 64], "blocks": [1, 2], "size": 28}).multiple == 4
    for wrong in (dict(chanels=(64,)), dict(channels=(60, 64, 96)), dict(channels=(64, 80, 96)),
                  dict(size=60), dict(blocks=(1, 1)), dict(condition_dim=33)):
        with pytest.raises(ValueError, match="expected"):
            UNetConfig.from_dict(wrong)
