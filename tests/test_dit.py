"""The diffusion transformer: positions, patches, the two kinds of block, and what a step may not touch."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minidiff.denoisers.blocks import Block, RMSNorm, attend, attend_fused, modulated
from minidiff.denoisers.dit import DiT, DiTConfig, patchify, unpatchify
from minidiff.denoisers.rotary import THETA, picture_positions, rotary_table, rotate, text_positions
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.toytown import VOCABULARY
from minidiff.toytown.glyphs import CHARACTERS

SMALL = DiTConfig(channels=3, dim=64, blocks=("double", "single"), condition_dim=16, text_dim=24)
AXES = (8, 12, 12)


def randomise(net, seed=0):
    """Fill every parameter, the zeros too, so that nothing is hidden by how a network starts."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        parameter.data.normal_(1 if "norm" in name else 0, 0.1, generator=generator)
    return net


def inputs(batch=3, height=4, width=6, length=5, seed=0):
    """x_t, level, text, text_mask with 2, 3, 4, ... real tokens, and two context pictures of two sizes."""
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(batch, 3, height, width, generator=generator)
    level = torch.rand(batch, generator=generator)
    text = torch.randn(batch, length, 24, generator=generator)
    text_mask = torch.arange(length) <= torch.arange(batch)[:, None] + 1
    contexts = [torch.randn(batch, 3, *size, generator=generator) for size in ((4, 6), (8, 2))]
    return x_t, level, text, text_mask, contexts


def heads(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores(q, k, positions_q, positions_k):
    q, k = rotate(q, rotary_table(positions_q, AXES)), rotate(k, rotary_table(positions_k, AXES))
    return q @ k.transpose(2, 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_depend_on_relative_positions_only(axis):
    q, k = heads(2, 3, 12, 32), heads(2, 3, 8, 32, seed=1)
    positions_q, positions_k = picture_positions(0, 3, 4), picture_positions(2, 4, 2)
    before = scores(q, k, positions_q, positions_k)
    shift = 5 * F.one_hot(torch.tensor(axis), 3)
    both = scores(q, k, positions_q + shift, positions_k + shift)
    assert (both - before).abs().max() < 1e-10
    one = scores(q, k, positions_q + shift, positions_k)
    assert (one - before).abs().max() > 1e-1


def test_rotation_is_a_product_of_complex_numbers():
    """(a + ib) exp(i angle), with the angle of each pair of channels from its own axis, by loops."""
    x, positions = heads(2, 3, 12, 32), picture_positions(3, 3, 4)
    turned = torch.view_as_complex(torch.stack([x[..., :16], x[..., 16:]], dim=-1))
    for n in range(12):
        pair = 0
        for position, channels in zip(positions[n].tolist(), AXES, strict=True):
            for j in range(channels // 2):
                angle = torch.tensor(position / THETA ** (2 * j / channels), dtype=torch.float64)
                turned[:, :, n, pair] *= torch.complex(angle.cos(), angle.sin())
                pair += 1
    expected = torch.cat([turned.real, turned.imag], dim=3)
    assert (rotate(x, rotary_table(positions, AXES)) - expected).abs().max() < 1e-12


def test_positions_go_row_by_row_and_text_does_not_turn():
    assert picture_positions(2, 2, 3).tolist() == [[2, h, w] for h in range(2) for w in range(3)]
    x = heads(1, 2, 4, 32)
    assert torch.equal(rotate(x, rotary_table(text_positions(4), AXES)), x)


def test_positions_can_be_told_apart():
    """Neighbours differ at once, also in the far corner of the largest picture, and no pair is idle."""
    positions = torch.cat([picture_positions(i, 64, 64)[[0, 1, 64, -1]] for i in range(4)])
    table = rotary_table(positions, AXES).permute(1, 0, 2).flatten(1)
    assert (torch.cdist(table, table) + 10 * torch.eye(len(table))).min() > 0.5
    for axis, reach, least in ((0, 4, 0.09), (1, 64, 0.9), (2, 64, 0.9)):
        along = torch.arange(reach)[:, None] * F.one_hot(torch.tensor(axis), 3)
        sines = rotary_table(along, AXES)[1]                   # (reach, 16)
        assert (sines.abs().max(0).values > least).sum() == AXES[axis] // 2


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patchify_and_back_is_the_identity(patch):
    x = torch.randn(2, 3, 8, 12)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, 96 // patch**2, 3 * patch**2)
    assert torch.equal(unpatchify(tokens, (8, 12), patch), x)


def test_a_token_is_its_patch():
    x, positions = torch.randn(2, 3, 8, 12), picture_positions(0, 4, 6).long()
    for token, (_, h, w) in zip(patchify(x, 2).unbind(1), positions.tolist(), strict=True):
        assert torch.equal(token, x[:, :, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].flatten(1))


def block_inputs(length=4, count=6):
    """Tokens of a text and a picture, a condition, the rotary table, and memory of two tokens, in float64."""
    positions = torch.cat([text_positions(length), picture_positions(1, 2, count // 2)])
    tokens, condition = heads(2, length + count, 64), heads(2, 16, seed=1)
    memory = heads(2, 2, 2, 32, seed=2), heads(2, 2, 2, 32, seed=3)
    visible = torch.rand(2, 1, 1, 2 + length + count, generator=torch.Generator().manual_seed(4)) < 0.7
    return tokens, condition, rotary_table(positions, AXES), visible, memory


@pytest.mark.parametrize("streams", [1, 2])
def test_blocks_start_as_the_identity(streams):
    tokens, condition, rotary, visible, memory = block_inputs()
    block = Block(64, 16, streams).double()
    assert torch.equal(block(tokens, 4, condition, rotary, visible, memory)[0], tokens)
    assert not torch.equal(randomise(block)(tokens, 4, condition, rotary, visible, memory)[0], tokens)


def norm(x):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def by_hand(block, tokens, length, conditions, rotary, visible, memory):
    """A block written out token by token, each with a condition of its own, and PyTorch's own attention."""
    kinds = [block.streams[0]] * length + [block.streams[-1]] * (tokens.shape[1] - length)
    rows = []
    for n, stream in enumerate(kinds):
        shift, scale = stream.modulate_look(conditions[n]).chunk(2, dim=1)
        qkv = stream.qkv(norm(tokens[:, n]) * (1 + scale) + shift).reshape(-1, 3, 2, 32)
        q, k, v = qkv.unbind(1)                                # (B, heads, 32) each
        q, k = (x / (x.square().mean(2, keepdim=True) + 1e-6).sqrt() for x in (q, k))
        rows.append([q * stream.norm_q.scale, k * stream.norm_k.scale, v])
    q, k, v = (torch.stack(same, dim=2) for same in zip(*rows, strict=True))
    q, k = rotate(q, rotary), rotate(k, rotary)
    k, v = torch.cat([memory[0], k], dim=2), torch.cat([memory[1], v], dim=2)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    attended = attended.transpose(1, 2).reshape(tokens.shape)
    results = []
    for n, stream in enumerate(kinds):
        gate1, shift, scale, gate2 = stream.modulate_think(conditions[n]).chunk(4, dim=1)
        x = tokens[:, n] + gate1 * stream.out(attended[:, n])
        results.append(x + gate2 * stream.narrow(F.gelu(stream.widen(norm(x) * (1 + scale) + shift))))
    return torch.stack(results, dim=1)


@pytest.mark.parametrize("streams", [1, 2])
def test_a_block_against_token_by_token(streams):
    block, (tokens, condition, *others) = randomise(Block(64, 16, streams)).double(), block_inputs()
    result, (k, v) = block(tokens, 4, condition, *others)
    assert (result - by_hand(block, tokens, 4, [condition] * 10, *others)).abs().max() < 1e-12
    assert k.shape == v.shape == (2, 2, 10, 32)                # the block's own, without the memory


def test_a_double_block_with_shared_weights_is_a_single_one():
    single, double = randomise(Block(64, 16, 1)).double(), Block(64, 16, 2).double()
    for stream in double.streams:
        stream.load_state_dict(single.streams[0].state_dict())
    tokens, *others = block_inputs()
    (a, keys_a), (b, keys_b) = single(tokens, 4, *others), double(tokens, 4, *others)
    assert (a - b).abs().max() < 1e-12 and (keys_a[0] - keys_b[0]).abs().max() < 1e-12
    assert (a - randomise(double, 1)(tokens, 4, *others)[0]).abs().max() > 1e-2


def test_attention_sees_only_what_is_visible():
    q, k, v = heads(2, 2, 3, 32), heads(2, 2, 5, 32, seed=1), heads(2, 2, 5, 32, seed=2)
    visible = torch.tensor([[True, True, False, True, False], [False] * 4 + [True]])[:, None, None]
    result = attend(q, k, v, visible)
    first = attend(q[:1], k[:1, :, [0, 1, 3]], v[:1, :, [0, 1, 3]], torch.ones(1, 1, 1, 3, dtype=torch.bool))
    assert (result[:1] - first).abs().max() < 1e-12
    assert (result[1].unflatten(1, (2, 32)) - v[1, :, 4]).abs().max() < 1e-12
    for dtype in (torch.float32, torch.bfloat16):
        nothing = torch.zeros_like(visible)
        assert attend(q.to(dtype), k.to(dtype), v.to(dtype), nothing).isfinite().all()


def test_queries_that_take_turns_see_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 7, 32, generator=generator, dtype=torch.float64)
    visible = torch.rand(2, 1, 1, 7, generator=generator) < 0.6
    at_once = attend(q, k, v, visible)
    monkeypatch.setattr("minidiff.denoisers.blocks.TURN", 3)     # 3, 3 and 1
    assert (attend(q, k, v, visible) - at_once).abs().max() < 1e-12


def test_one_kernel_attends_as_written_out():
    q, k, v = (heads(2, 3, n, 32) for n in (7, 9, 9))
    visible = torch.rand(2, 1, 1, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    fused = attend_fused(q, k, v, visible)
    assert fused.shape == (2, 7, 96) and (fused - attend(q, k, v, visible)).abs().max() < 1e-12
    v.requires_grad_()
    nothing = attend_fused(q, k, v, torch.zeros_like(visible))
    assert (nothing - attend(q, k, v, torch.ones_like(visible))).abs().max() < 1e-12
    nothing.sum().backward()
    assert not nothing.isnan().any() and not v.grad.isnan().any()


def test_tables_are_kept_in_training_alone():
    """A pass that is a CUDA graph finds them where they were; walks at many sizes do not fill the memory."""
    net, positions, like = randomise(DiT(SMALL)).eval(), picture_positions(2, 3, 5), torch.zeros(())
    expected = rotary_table(positions, SMALL.rotary).float()
    with torch.inference_mode():
        assert torch.equal(net.rotary(positions, like), expected) and not net.tables
    first = net.train().rotary(positions, like)
    assert torch.equal(first, expected) and not first.is_inference()
    assert net.rotary(positions.clone(), like) is first and net.rotary(positions + 1, like) is not first
    assert net.rotary(positions, like.double()).dtype == torch.float64 and len(net.tables) == 3


def test_queries_and_keys_have_one_length():
    x = heads(2, 3, 4, 32)
    result = RMSNorm(32).double()(100 * x)
    assert (result.square().mean(3) - 1).abs().max() < 1e-6
    assert (modulated(x[0], torch.zeros(()), torch.zeros(())).mean(2)).abs().max() < 1e-12


def test_a_new_network_predicts_zero():
    assert torch.equal(DiT(SMALL)(*inputs()), torch.zeros(3, 3, 4, 6))


def test_two_passes_are_one_sequence_whose_conditions_do_not_see_the_target():
    """Text, contexts and target side by side in one masked attention; places and levels written out."""
    net = randomise(DiT(SMALL)).double()
    x_t, level, text, text_mask, contexts = inputs()
    x_t, text, contexts = x_t.double(), text.double(), [picture.double() for picture in contexts]
    places = [(0, 0, 0)] * 5
    for i, (h, w) in ((1, (2, 3)), (2, (4, 1)), (0, (2, 3))):
        places += [(i, n // w, n % w) for n in range(h * w)]
    rotary = rotary_table(torch.tensor(places), AXES)
    pictures = [net.picture_in(patchify(picture, 2)) for picture in (*contexts, x_t)]
    tokens = torch.cat([net.text_in(text), *pictures], dim=1)                      # 5 + 6 + 4 + 6 of them
    visible = torch.ones(3, 1, 21, 21, dtype=torch.bool)
    visible[:, :, :, :5] = text_mask[:, None, None]
    visible[:, :, :15, 15:] = False
    pooled = net.pooled_text(torch.stack([row[real].mean(0) for row, real in zip(text, text_mask)]))
    clean, noisy = net.condition(torch.zeros(3), pooled), net.condition(level, pooled)
    nothing = [torch.zeros(3, 2, 0, 32).double()] * 2
    for block in net.blocks:
        tokens = by_hand(block, tokens, 5, [clean] * 15 + [noisy] * 6, rotary, visible, nothing)
    shift, scale = net.modulation(noisy)[:, None].chunk(2, dim=2)
    expected = unpatchify(net.head(norm(tokens[:, 15:]) * (1 + scale) + shift), (4, 6), 2)
    assert (net(x_t, level, text, text_mask, contexts) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("height, width, patch", [(4, 6, 2), (8, 2, 2), (3, 5, 1), (8, 4, 4)])
def test_the_prediction_has_the_shape_of_the_target(height, width, patch):
    net = randomise(DiT(replace(SMALL, patch=patch)))
    x_t, level, text, text_mask, _ = inputs(height=height, width=width)
    for contexts in ([], [x_t], [torch.randn(3, 3, 4, 8), x_t, torch.randn(3, 3, 8, 8)]):
        assert net(x_t, level, text, text_mask, contexts).shape == x_t.shape


def test_nothing_about_the_conditions_knows_the_noise():
    """Whatever x_t and its level are, text and contexts go through every block, once, in the same way."""
    net, (x_t, level, *conditions) = randomise(DiT(SMALL)), inputs()
    prepare, found = net.prepare, []

    def note(*arguments):
        conditions = prepare(*arguments)
        found.append([conditions.pooled, *(tensor for pair in conditions.memory for tensor in pair)])
        return conditions

    net.prepare = note
    for x, at in ((x_t, level), (x_t + 1, level), (x_t, 1 - level)):
        net(x, at, *conditions)
    assert len(found) == 3 and len(found[0]) == 1 + 2 * 2      # keys and values of each of the two blocks
    assert all(tensor.shape == (3, 2, 5 + 6 + 4, 32) for tensor in found[0][1:])
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


def test_what_the_last_block_would_make_of_the_conditions_is_not_computed():
    net, (x_t, level, *conditions) = randomise(DiT(SMALL)), inputs()
    passes = [0]

    def count(*_):
        passes[0] += 1

    net.blocks[-1].streams[0].narrow.register_forward_hook(count)
    net(x_t, level, *conditions)
    assert passes == [1]                                        # of the target alone


def test_prepared_and_unprepared_agree_bit_for_bit():
    """At every step, since a step does not change what was prepared."""
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    for mask in (None, torch.tensor([[True, False], [True, True], [False, False]])):
        prepared = net.prepare(text, text_mask, contexts, (4, 6), mask)
        for at in (0.9, 0.5, level):
            whole = net(x_t, at, text, text_mask, contexts, mask)
            assert torch.equal(net(x_t, at, conditions=prepared), whole)


def test_conditions_repeat():
    net, (x_t, level, *conditions) = randomise(DiT(SMALL)), inputs()
    more_x, more_levels = torch.cat([x_t, x_t + 1]), torch.cat([level, level / 2])
    repeated = net.prepare(*conditions, (4, 6)).repeat(2)
    both = net(more_x, more_levels, conditions=repeated).split(3)
    for result, x, at in zip(both, more_x.split(3), more_levels.split(3), strict=True):
        assert (result - net(x, at, *conditions)).abs().max() < 1e-5


def test_conditions_of_the_last_alone():
    net, (x_t, level, *conditions) = randomise(DiT(SMALL)), inputs()
    prepared = net.prepare(*conditions, (4, 6))
    whole = net(x_t, level, conditions=prepared)
    for n in (1, 2, 3):
        assert (net(x_t[-n:], level[-n:], conditions=prepared.last(n)) - whole[-n:]).abs().max() < 1e-5


def test_every_source_is_read():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    base = net(x_t, level, text, text_mask, contexts)
    others = {
        "the target": (x_t.flip(3), level, text, text_mask, contexts),
        "the level": (x_t, 1 - level, text, text_mask, contexts),
        "the text": (x_t, level, text.flip(0), text_mask, contexts),
        "context 1": (x_t, level, text, text_mask, [contexts[0].flip(3), contexts[1]]),
        "context 2": (x_t, level, text, text_mask, [contexts[0], contexts[1].flip(2)]),
        "no context": (x_t, level, text, text_mask, []),
    }
    for name, given in others.items():
        assert (net(*given) - base).abs().max() > 1e-3, name
    deaf = randomise(DiT(SMALL))
    for parameter in deaf.pooled_text.parameters():
        parameter.data.zero_()
    assert (deaf(x_t, level, text, text_mask, contexts) - base).abs().max() > 1e-3


def test_every_pixel_can_reach_every_pixel():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs(batch=1)
    pictures = [x_t, *contexts]
    for picture in pictures:
        picture.requires_grad_()
    net(x_t, level, text, text_mask, contexts)[0, 0, 0, 0].backward()
    assert all((picture.grad != 0).all() for picture in pictures)


def test_the_order_of_context_pictures_matters():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    base = net(x_t, level, text, text_mask, contexts)
    assert (net(x_t, level, text, text_mask, contexts[::-1]) - base).abs().max() > 1e-3


def test_a_masked_context_picture_is_not_there():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    both, first = torch.ones(3, 2, dtype=torch.bool), torch.tensor([[True, False]] * 3)
    given = x_t, level, text, text_mask
    assert torch.equal(net(*given, contexts, both), net(*given, contexts))
    alone = net(*given, contexts[:1])
    assert (net(*given, contexts, first) - alone).abs().max() < 1e-5
    assert (net(*given, contexts, ~first) - alone).abs().max() > 1e-3


def test_padding_does_not_matter():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    base = net(x_t, level, text, text_mask, contexts)
    longer = torch.cat([text, 100 * torch.randn(3, 7, 24)], dim=1)
    longer_mask = torch.cat([text_mask, torch.zeros(3, 7, dtype=torch.bool)], dim=1)
    assert (net(x_t, level, longer, longer_mask, contexts) - base).abs().max() < 1e-5
    everything = torch.ones(3, 5, dtype=torch.bool)
    whole = net(x_t, level, text, None, contexts)
    assert (whole - net(x_t, level, text, everything, contexts)).abs().max() < 1e-5
    assert (whole - base).abs().max() > 1e-3


def test_a_batch_is_its_pictures_one_by_one():
    """Alone, a picture comes with its own text, without padding."""
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    batch = net(x_t, level, text, text_mask, contexts)
    for i in range(3):
        own = slice(i, i + 1)
        pictures = [picture[own] for picture in contexts]
        single = net(x_t[own], level[own], text[own, : i + 2], None, pictures)
        assert (single - batch[own]).abs().max() < 1e-5
    same = net(x_t, torch.full((3,), 0.3), text, text_mask, contexts)
    assert torch.equal(net(x_t, torch.tensor(0.3), text, text_mask, contexts), same)
    assert torch.equal(net(x_t, 0.3, text, text_mask, contexts), same)


def test_the_level_matters_by_thousandths():
    net, (x_t, _, *conditions) = randomise(DiT(SMALL)), inputs()
    at = {level: net(x_t, level, *conditions) for level in (0.0, 0.5, 0.501, 1.0)}
    near, far = (at[0.5] - at[0.501]).abs().max(), (at[0.0] - at[1.0]).abs().max()
    assert 1e-5 < near < far


def test_no_real_token_is_finite():
    net, (x_t, level, text, text_mask, contexts) = randomise(DiT(SMALL)), inputs()
    for pictures in (contexts, []):
        assert net(x_t, level, text, torch.zeros_like(text_mask), pictures).isfinite().all()


def test_gradients_reach_every_parameter():
    """After three updates: the head starts at zero, behind it the gates, a text's one block later."""
    torch.manual_seed(0)
    net = DiT(replace(SMALL, blocks=("double", "double", "single", "single")))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (net(*inputs()) - inputs()[0]).square().mean().backward()
        optimizer.step()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_half_precision_weights_agree_and_return_the_input_dtype():
    net = randomise(DiT(SMALL))
    with torch.inference_mode():
        full = net(*inputs())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(*inputs())
        half = net.bfloat16()(*inputs())
    assert half.dtype == mixed.dtype == torch.float32
    for rounded in (half, mixed):
        assert (rounded - full).abs().max() < 0.05 * full.abs().max()


def test_the_shipped_size():
    """DiT and text encoder together stay below 12 MiB in half precision, with room for names."""
    encoder = TextEncoder(TextConfig(words=VOCABULARY, characters=CHARACTERS, neighbours=True))
    net = DiT(DiTConfig(text_dim=encoder.config.dim))
    count = sum(p.numel() for p in [*net.parameters(), *encoder.parameters()])
    assert 5_500_000 < count < (12 * 2**20 - 2**17) / 2
    text, text_mask = encoder(encoder.tokenize(["a red car", ""]))
    x_t = torch.randn(2, 16, 16, 16)
    assert net(x_t, 0.5, text, text_mask, [x_t]).shape == x_t.shape


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(x_t=torch.zeros(3, 4, 6)), r"x_t is \(3, 4, 6\): \(B, 3, H, W\)"),
        (dict(x_t=torch.zeros(3, 4, 4, 6)), r"x_t is \(3, 4, 4, 6\): \(B, 3, H, W\)"),
        (dict(x_t=torch.zeros(3, 3, 4, 7)), "multiples of 2 expected"),
        (dict(x_t=torch.zeros(2, 3, 4, 6), level=0.5), r"x_t is \(2, 3, 4, 6\): \(3, 3, 4, 6\) expected"),
        (dict(level=torch.tensor([0.1, 0.2])), r"level is \(2,\), x_t has 3 pictures"),
        (dict(level=torch.tensor([1, 500, 1000])), "a fraction 0..1 of the whole expected"),
        (dict(text=None, text_mask=None), "no text came"),
        (dict(text=torch.zeros(3, 5, 32)), r"text is \(3, 5, 32\): \(3, L, 24\) expected"),
        (dict(text_mask=torch.ones(3, 5)), r"text_mask is torch.float32, \(3, 5\): bool"),
        (dict(contexts=[torch.zeros(3, 3, 4, 5)]), r"context 1 is \(3, 3, 4, 5\): .* multiples of 2"),
        (dict(contexts=[torch.zeros(n, 3, 4, 6) for n in (3, 2)]), "context 2 has 2 pictures, text 3 rows"),
        (dict(contexts=[torch.zeros(3, 3, 4, 6)] * 4), "4 contexts came: at most 3 expected"),
        (dict(context_mask=torch.ones(3, 1) > 0), r"context_mask is .* \(3, 1\): bool, \(3, 2\) expected"),
    ],
)
def test_bad_input(changes, message):
    good = dict(zip(("x_t", "level", "text", "text_mask", "contexts"), inputs(), strict=True))
    with pytest.raises(ValueError, match=message):
        DiT(SMALL)(**{**good, **changes})


def test_bad_conditions():
    net, (x_t, level, text, text_mask, contexts) = DiT(SMALL), inputs()
    prepared = net.prepare(text, text_mask, contexts, (4, 6))
    with pytest.raises(ValueError, match=r"x_t is \(3, 3, 6, 4\): \(3, 3, 4, 6\) expected"):
        net(x_t.mT, level, conditions=prepared)
    with pytest.raises(ValueError, match="only one of the two expected"):
        net(x_t, level, text, conditions=prepared)


def test_configuration():
    assert DiTConfig.from_dict({"blocks": ["double", "single"]}).blocks == ("double", "single")
    for wrong in (dict(blokcs=("single",)), dict(blocks=("triple", "single")), dict(blocks=("double",)),
                  dict(blocks=()), dict(dim=100), dict(condition_dim=15), dict(patch=0),
                  dict(rotary=(16, 16)), dict(rotary=(8, 8, 8)), dict(rotary=(9, 11, 12))):
        with pytest.raises(ValueError, match="expected"):
            DiTConfig.from_dict(wrong)
