"""ControlNet: nothing has changed before training, the base never does, and the map is read all the same."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minidiff.checkpoint import CheckpointError, load_weights, save_weights
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.model import Model
from minidiff.toytown import VOCABULARY
from minidiff.toytown.glyphs import CHARACTERS

SMALL = UNetConfig(size=32, channels=(16, 32, 64), blocks=(1, 1, 1), condition_dim=32, text_dim=24)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randomise(net, seed=0):
    """Fill every parameter, the zeros too, as training would."""
    generator = seeded(seed)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    return net


def controlled(dtype=torch.float32, trained=False):
    """A network with a base that is not new; trained: the branch is not new, either."""
    net = ControlledUNet(randomise(UNet(SMALL)))
    if trained:
        randomise(net.branch, 1), randomise(net.zero, 2)
    return net.to(dtype)


def inputs(batch=2, height=16, width=24, dtype=torch.float32):
    generator = seeded()
    x_t = torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)
    text = torch.randn(batch, 5, 24, generator=generator, dtype=dtype)
    text_mask = torch.arange(5) <= torch.arange(batch)[:, None] + 1
    return x_t, torch.tensor([0.3, 0.8])[:batch], text, text_mask


def a_map(seed=5, dtype=torch.float32):
    return torch.rand(2, 3, 16, 24, generator=seeded(seed), dtype=dtype) * 2 - 1


def loss_of(net, seed=5):
    return (net(*inputs(), extra=a_map(seed)) - 1).square().mean()


def test_before_training_every_map_changes_nothing_bit_for_bit():
    base = randomise(UNet(SMALL))
    expected, net = base(*inputs()), ControlledUNet(base)
    for extra in (a_map(), -a_map(7), torch.zeros(2, 3, 16, 24), 100 * a_map()):
        assert torch.equal(net(*inputs(), extra=extra), expected)


def test_the_base_gets_no_gradient_and_no_step_changes_it():
    net = controlled()
    before = {name: tensor.clone() for name, tensor in net.base.state_dict().items()}
    copied = net.branch.stem.weight.clone()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    for seed in range(3):
        loss_of(net, seed).backward()
        assert all(parameter.grad is None for parameter in net.base.parameters())
        optimizer.step()
    after = net.base.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(net.branch.stem.weight, copied)           # nor does the branch share its weights


def test_the_zero_convolutions_learn_first_and_the_whole_branch_after_them():
    net = controlled()
    loss_of(net).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in net.zero.parameters())
    assert all(parameter.grad.abs().max() == 0 for parameter in net.branch.parameters())
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.zero_grad()
    loss_of(net).backward()
    deaf = [name for name, parameter in net.branch.named_parameters() if not parameter.grad.abs().max() > 0]
    assert deaf == []


def test_the_map_enters_at_every_resolution():
    net = controlled(trained=True)
    base, x = net.base(*inputs()), net(*inputs(), extra=a_map())
    assert (x - base).abs().max() > 1e-2
    assert (net(*inputs(), extra=a_map(6)) - x).abs().max() > 1e-3
    for i in range(3):
        muted = controlled(trained=True)
        for parameter in muted.zero[i].parameters():
            parameter.data.zero_()
        assert (muted(*inputs(), extra=a_map()) - x).abs().max() > 1e-3, i


def hearing(net, *names):
    """What submodules put out, name -> tensor, filled in when net runs."""
    heard = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda module, given, output, name=name: heard.__setitem__(name, output))
    return heard


def test_the_equation_computed_another_way():
    """A whole U-Net in the branch's place, both overheard as they run; sums and the way up written out."""
    net = controlled(torch.float64, trained=True)
    x_t, level, text, text_mask = inputs(dtype=torch.float64)
    extra = a_map(dtype=torch.float64)

    whole = UNet(replace(SMALL, extra_channels=3)).double()
    assert not whole.load_state_dict(net.branch.state_dict(), strict=False).unexpected_keys
    stages = ["down.0", "down.1", "down.2"]
    copy, own = hearing(whole, *stages), hearing(net.base, *stages)
    whole(x_t, level, text, text_mask, extra)
    net.base(x_t, level, text, text_mask)

    fine, middle, h = (
        own[stage] + torch.einsum("oi,bihw->bohw", zero.weight[:, :, 0, 0], copy[stage])
        + zero.bias.view(1, -1, 1, 1) for stage, zero in zip(stages, net.zero))
    told = net.base.condition(level, text, text_mask), text, text_mask[:, None, None, :]
    h = net.base.up[1](F.pixel_shuffle(net.base.grow[1](h), 2) + middle, *told)
    h = net.base.up[0](F.pixel_shuffle(net.base.grow[0](h), 2) + fine, *told)
    expected = F.pixel_shuffle(net.base.head(F.silu(net.base.norm(h))), 2)
    assert (net(x_t, level, text, text_mask, extra) - expected).abs().max() < 1e-12


def test_the_branch_is_the_way_down_and_no_more():
    net = controlled()
    children = {name for name, _ in net.branch.named_children()}
    assert children == {"stem", "stem_extra", "level", "pooled_text", "down", "shrink"}
    assert net.config == replace(SMALL, extra_channels=3) and net.base.config == SMALL
    for name, tensor in net.branch.state_dict().items():
        start = 0 * tensor if "stem_extra" in name else net.base.state_dict()[name]
        assert torch.equal(tensor, start), name


def test_the_shipped_size():
    """What is trained stays below 8 MiB in half precision."""
    encoder = TextEncoder(TextConfig(words=VOCABULARY, characters=CHARACTERS))
    net = ControlledUNet(UNet(UNetConfig(text_dim=encoder.config.dim)))
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert 1_000_000 < trained < 2**22
    assert trained < sum(parameter.numel() for parameter in net.base.parameters())


@pytest.mark.parametrize("extra", [None, torch.zeros(2, 1, 16, 24), torch.zeros(2, 3, 16, 16),
                                   torch.zeros(1, 3, 16, 24)], ids=["none", "channels", "width", "batch"])
def test_maps_that_do_not_fit_are_refused(extra):
    with pytest.raises(ValueError, match=r"extra is .*: \(2, 3, 16, 24\) expected, since extra_channels = 3"):
        controlled()(*inputs(), extra=extra)


def test_a_base_with_extra_channels_is_refused():
    with pytest.raises(ValueError, match="the base has extra_channels = 3: .* expected"):
        ControlledUNet(UNet(replace(SMALL, extra_channels=3)))


# A checkpoint that leaves its base where it is

@pytest.fixture
def branch_weights(tiny_weights, tmp_path):
    """(path, network) of weights that hold a branch, not new, for the tiny network."""
    tensors, entry = load_weights(tiny_weights)
    unet = UNet(UNetConfig.from_dict(entry["config"]["unet"]))
    unet.load_state_dict({name.removeprefix("unet."): tensor for name, tensor in tensors.items()
                          if name.startswith("unet.")})
    net = ControlledUNet(unet)
    randomise(net.branch, 1), randomise(net.zero, 2)
    trained = {f"unet.{name}": tensor for name, tensor in net.state_dict().items() if name[:5] != "base."}
    config = {"base": str(tiny_weights), "base_sha256": entry["sha256"], "map_channels": 3}
    return save_weights("branch", trained, {"config": config, "data": "town"}, tmp_path), net


def test_a_branch_is_loaded_with_its_base_and_the_text_of_it(branch_weights, tiny_weights):
    path, net = branch_weights
    model, base = Model.load(path, "cpu"), Model.load(tiny_weights, "cpu")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(model.unet.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    for own, theirs in ((model.unet.base, base.unet), (model.text, base.text)):
        own, theirs = own.state_dict(), theirs.state_dict()
        assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    assert model.size == base.size and model.data == "town" and model.unet.config.extra_channels == 3
    assert model.process.predicts == base.process.predicts
    assert torch.equal(model.process.alpha_bar, base.process.alpha_bar)
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


def test_a_loaded_branch_denoises_by_map_and_prompt(branch_weights):
    model, x_t = Model.load(branch_weights[0], "cpu"), torch.randn(2, 3, 64, 64, generator=seeded())
    extra = torch.rand(2, 3, 64, 64, generator=seeded(1)) * 2 - 1

    def predicted(prompts, extra):
        return model.denoiser(prompts, 2.0, extra)(x_t, 500)

    x0_hat = predicted(["a red car", ""], extra)
    assert x0_hat.shape == x_t.shape and x0_hat.abs().max() <= 1
    assert not torch.equal(predicted(["a red car", ""], -extra), x0_hat)
    assert not torch.equal(predicted(["a house", ""], extra)[0], x0_hat[0])
    with pytest.raises(ValueError, match="weights take 3 extra channels, this control mechanism gives 0"):
        model.denoiser(["a red car", ""])


def test_a_branch_for_another_network_or_without_its_base_is_refused(branch_weights, tiny_weights, tmp_path):
    tensors, entry = load_weights(branch_weights[0])
    narrow = {name: tensor for name, tensor in tensors.items() if name != "unet.zero.0.weight"}
    with pytest.raises(CheckpointError, match="made by another network"):
        Model.load(save_weights("narrow", narrow, entry, tmp_path), "cpu")
    cases = ("no-such-base", "there is none of this name"), (str(branch_weights[0]), "does not fit")
    other = {**entry, "config": {**entry["config"], "base_sha256": "0" * 64}}
    with pytest.raises(CheckpointError, match="trained beside another .*tiny.* than the one that is here"):
        Model.load(save_weights("strange", tensors, other, tmp_path), "cpu")
    for base, words in cases:
        config = {"base": base, "map_channels": 3}
        with pytest.raises(CheckpointError, match=words):
            Model.load(save_weights("lost", tensors, {**entry, "config": config}, tmp_path), "cpu")
