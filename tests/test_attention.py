"""Prompt-to-Prompt: which word looks where, what is shared when, and that the source never notices."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from minidiff.control import controls
from minidiff.control.attention import align, caption_pair, p2p_edit, prompt_to_prompt, share_words, shared
from minidiff.control.restart import ddim_invert, deterministic_step, invert_edit
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.editor import Editor
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.images import to_pil
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.guidance import cfg
from minidiff.process.sample import clamped, sample
from minidiff.toytown import VOCABULARY, paint, scenes

SOURCE, TARGET = "a red house and a car", "a blue house and a car at night"
SIZE, N = 32, 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed, *shape, dtype=torch.float64):
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype)


@pytest.fixture(scope="module", params=[DDPM.cosine(1000, "x0"), Flow()], ids=["DDPM", "Flow"])
def model(request):
    """An untrained network, small and quick, whose attention matters."""
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(VOCABULARY, "ABC123", dim=32, layers=1))
    unet = UNet(UNetConfig(SIZE, channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32))
    for parameter in [*text.parameters(), *unet.parameters()]:
        if not parameter.any():                             # what starts at zero would hide the rest
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(request.param, unet, text, data="town")


# Which word looks where

def tokens(words):
    return torch.tensor([ord(letter) for letter in words])


@pytest.mark.parametrize("source, target, origin", [
    ("abc", "abc", [0, 1, 2]),
    ("abcd", "axcd", [0, 1, 2, 3]),                                  # swapped: it stands in that place
    ("abcd", "abxycd", [0, 1, -1, -1, 2, 3]),                        # inserted
    ("abcd", "acd", [0, 2, 3]),                                      # removed
    ("abcd", "axyd", [0, 1, 2, 3]),                                  # two for two
    ("abcd", "axyzd", [0, -1, -1, -1, 3]),                           # three for two: no telling which
    ("abc", "abcxy", [0, 1, 2, -1, -1]),
    ("abcde", "abc", [0, 1, 2]),
    ("a", "xyz", [-1, -1, -1]),
    ("aab", "aaab", [-1, 0, 1, 2]),
], ids=str)
def test_align(source, target, origin):
    found = align(tokens(source), tokens(target))
    assert found.dtype == torch.int64
    if source == "aab":                                             # any of the three may be the new one
        assert sorted(found.tolist()) == sorted(origin) and found[-1] == 2
    else:
        assert found.tolist() == origin


def test_words_at_the_end_do_not_swap_with_padding(model):
    for source, target, expected in (
            ("a red house", "a red house at night", [0, 1, 2, 3, -1, -1]),
            ("a red house at night", "a red house", [0, 1, 2, 3, -1, -1]),
            (SOURCE, TARGET, [0, 1, 2, 3, 4, 5, 6, -1, -1]),
            ("", "a car", [0, -1, -1])):
        _, origin = caption_pair(model, source, target, 1)
        assert origin.tolist() == expected
        assert len(origin) == model.encode(["", source, target])[0].shape[1]


def test_words_of_a_pair_are_bound_source_first(model):
    predict, _ = caption_pair(model, SOURCE, TARGET, N)
    x = torch.randn(2 * N, 3, SIZE, SIZE, generator=seeded())
    t = model.process.times(4)[1]
    uncond, cond = predict(x, t)
    captions = [SOURCE] * N + [TARGET] * N
    for found, texts in ((uncond, [""] * 2 * N), (cond, captions)):
        assert (found - model.unet(x, model.level(t), *model.encode(texts))).abs().max() < 1e-5


def test_share_words_against_loops():
    source, target = (draw(seed, 2, 2, 3, 4) for seed in (0, 1))
    source, target = source / source.sum(-1, keepdim=True), target / target.sum(-1, keepdim=True)
    origin, emphasis = torch.tensor([0, 2, -1, 1]), torch.tensor([1.0, 2.0, 1.0, -0.5]).double()
    found, stressed = share_words(source, target, origin), share_words(source, target, origin, emphasis)
    for b, head, cell in np.ndindex(2, 2, 3):
        own, other = target[b, head, cell].tolist(), source[b, head, cell].tolist()
        row = [other[0], other[2], own[2], other[1]]
        expected = torch.tensor([value / sum(row) for value in row], dtype=torch.float64)
        assert (found[b, head, cell] - expected).abs().max() < 1e-12
        assert (stressed[b, head, cell] - expected * emphasis).abs().max() < 1e-12
    assert torch.equal(share_words(source, target, origin, torch.ones(4).double()), found)
    assert (share_words(source, target, torch.full((4,), -1)) - target).abs().max() < 1e-12
    assert (share_words(source, target, torch.arange(4)) - source).abs().max() < 1e-12


def test_only_the_target_is_told_where_to_look():
    weights = draw(0, 8, 2, 4, 4)                           # without words 4, of source and target 2 each
    weights = weights / weights.sum(-1, keepdim=True)
    origin = torch.tensor([0, 1, -1, 3])

    def after(name, words, cells):
        result = shared(name, weights, 2, origin, None, words, cells)
        assert torch.equal(result[:6], weights[:6])
        return result[6:]

    read, look = "up.0.read_text", "down.1.look_around"
    assert torch.equal(after(read, False, True), weights[6:])
    assert torch.equal(after(look, True, False), weights[6:])
    assert torch.equal(after(look, False, True), weights[4:6])
    assert torch.equal(after(read, True, False), share_words(weights[4:6], weights[6:], origin))


# The walk

def walk(model, source=SOURCE, target=TARGET, steps=4, attention=None, **options):
    """The last x of prompt_to_prompt: (source half, target half)."""
    predict, origin = caption_pair(model, source, target, N)
    x = torch.randn(N, 3, SIZE, SIZE, generator=seeded(1))
    options = {"scale": 2.0, **options}
    times, attention = model.process.times(steps), attention or model.attention
    *_, state = prompt_to_prompt(model.process, predict, attention, x, times, origin, seeded(2), **options)
    return state.x.split(N)


@pytest.mark.parametrize("ancestral", [False, True], ids=["deterministic", "ancestral"])
def test_sharing_nothing_is_two_plain_samplings_bit_for_bit(model, ancestral):
    process = model.process
    step = process.step if ancestral else None
    predict, origin = caption_pair(model, SOURCE, TARGET, N)
    x = torch.randn(N, 3, SIZE, SIZE, generator=seeded(1))
    states = prompt_to_prompt(process, predict, model.attention, x, process.times(4), origin, seeded(2), 2.0,
                              words=0, cells=0, step=step)

    def same_noise(x_t, prediction, t, t_next, noise, generator=seeded(2)):
        noise = torch.randn(x.shape, generator=generator).repeat(2, 1, 1, 1)
        return (step or deterministic_step(process))(x_t, prediction, t, t_next, noise=noise)

    denoise = clamped(process, lambda x_t, t: cfg(*predict(x_t, t), 2.0))
    plain = sample(process, denoise, torch.cat([x, x]), process.times(4), seeded(3), same_noise)
    for one, other in zip(states, plain, strict=True):
        assert one.t == other.t and torch.equal(one.x, other.x) and torch.equal(one.x0_hat, other.x0_hat)
    assert (one.x[:N] - one.x[N:]).abs().max() > 0.01


def test_sharing_changes_the_target_and_never_the_source(model):
    source, target = walk(model, words=0, cells=0)
    for options in (dict(words=1, cells=0), dict(words=0, cells=1), dict(words=0.5, cells=0.5)):
        kept, changed = walk(model, **options)
        assert torch.equal(kept, source), options
        assert (changed - target).abs().max() > 1e-3, options


def test_one_caption_for_both_gives_one_picture(model):
    source, target = walk(model, SOURCE, SOURCE, words=1, cells=1)
    assert (source - target).abs().max() < 1e-4
    other = walk(model, SOURCE, TARGET, words=1, cells=1)[1]
    assert (source - other).abs().max() > 1e-2                      # another one would be seen


def test_reweighting_by_1_changes_nothing_and_by_more_does(model):
    length = len(caption_pair(model, SOURCE, TARGET, N)[1])
    plain = walk(model, words=1)
    ones = walk(model, words=1, emphasis=torch.ones(length))
    strong = walk(model, words=1, emphasis=torch.tensor([1.0, 1.0, 5.0] + [1.0] * (length - 3)))
    assert all(map(torch.equal, plain, ones))
    assert torch.equal(strong[0], plain[0]) and (strong[1] - plain[1]).abs().max() > 1e-3


def test_each_half_may_have_its_own_scale(model):
    scales = torch.tensor([1.0] * N + [2.0] * N).view(-1, 1, 1, 1)
    mixed, low, high = (walk(model, words=0, cells=0, scale=scale) for scale in (scales, 1.0, 2.0))
    assert torch.equal(mixed[0], low[0]) and torch.equal(mixed[1], high[1])
    assert not torch.equal(low[0], high[0])


def test_attention_is_shared_in_the_first_steps_only(model):
    entered, steps = [], []

    @contextmanager
    def attention(adjust):
        entered.append(adjust.keywords["words"] + 2 * adjust.keywords["cells"])
        yield

    for words, cells in ((0.75, 0.5), (0, 0), (1, 0), (0, 1)):
        entered.clear()
        walk(model, attention=attention, words=words, cells=cells)
        steps.append(list(entered))
    assert steps == [[3, 3, 1], [], [1, 1, 1, 1], [2, 2, 2, 2]]


# The editor

def test_it_is_registered():
    editor = controls("edit")["p2p"]
    assert editor is p2p_edit and editor.weights == "town-ddpm"


def test_under_one_caption_it_is_inversion_and_back(model):
    """Unguided, every step of the way down asks what DDIM's asks; the halves are one picture."""
    picture, everywhere = paint(scenes(N, seed=3), SIZE), torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
    options = dict(generator=seeded(), steps=4, source=SOURCE, scale=1.0)
    states = list(p2p_edit(model, picture, everywhere, SOURCE, **options))
    back = list(invert_edit(model, picture, everywhere, SOURCE, **options))
    assert [state.t for state in states] == [state.t for state in back] and len(states) == 8
    for one, other in zip(states, back):
        assert one.x.shape == one.x0_hat.shape == picture.shape
        assert (one.x - other.x).abs().max() < 1e-3


def test_it_inverts_under_the_source_and_shows_the_target_half(model):
    picture, everywhere = paint(scenes(N, seed=3), SIZE), torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
    shares, times = dict(words=0.5, cells=0.25), model.process.times(4)
    options = dict(generator=seeded(), steps=4, source=SOURCE, scale=2.0, **shares)
    states = list(p2p_edit(model, picture, everywhere, TARGET, **options))
    up = list(ddim_invert(model.process, model.denoiser([SOURCE] * N), picture, times))
    assert all(torch.equal(one.x, other.x) for one, other in zip(states, up))
    predict, origin = caption_pair(model, SOURCE, TARGET, N)
    scales = torch.tensor([1.0] * N + [2.0] * N).view(-1, 1, 1, 1)
    arguments = model.process, predict, model.attention, up[-1].x, times, origin, seeded(), scales
    down = prompt_to_prompt(*arguments, **shares)
    for one, other in zip(states[4:], down, strict=True):
        assert one.t == other.t and torch.equal(one.x, other.x[N:])
        assert torch.equal(one.x0_hat, other.x0_hat[N:]) and not torch.equal(one.x, other.x[:N])


def test_the_verb_counts_its_calls_and_its_states(model):
    editor, picture = Editor(model), to_pil(paint(scenes(1, seed=3), SIZE))
    options = dict(control="p2p", source=SOURCE, steps=3)
    result = editor.edit(picture, TARGET, **options)
    assert result.network_calls == 3 + 4 * 3 and result.image.size == (SIZE, SIZE)
    assert not np.array_equal(editor.edit(picture, TARGET, words=0, **options).image, result.image)
    edit = editor.begin_edit(picture, TARGET, **options)
    assert len(edit) == len(list(edit)) == 6
