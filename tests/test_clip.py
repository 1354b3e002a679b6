"""CLIP: its loss computed another way, twins in a batch, similarities with known answers, what it refuses."""

from dataclasses import asdict
from math import exp, log, nan

import pytest
import torch

from minidiff.checkpoint import CheckpointError, save_weights
from minidiff.encoders.clip import CLIP, CLIPConfig, contrastive_loss, cosine_of_ways, keep_pair
from minidiff.encoders.text import TextConfig
from minidiff.toytown import VOCABULARY, captions, paint, scenes
from minidiff.toytown.glyphs import CHARACTERS

TEXT = TextConfig(("a", "red", "blue", "car", "house", "and"), "AB", dim=32, layers=1)
CONFIG = CLIPConfig(TEXT, size=32, dim=16, channels=(16, 32), cell=4)
WORDS = ["a red car", "a blue car", "a house and a red car", ""]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def clip():
    """Untrained; also what starts at zero has weights, and small ones, so that nothing saturates."""
    torch.manual_seed(0)
    clip = CLIP(CONFIG).eval()
    for name, parameter in clip.named_parameters():
        if name != "log_scale":
            torch.nn.init.normal_(parameter, std=0.1)
    return clip


@pytest.fixture
def pictures():
    return paint(scenes(4, seed=3), 32)


def unit(n, dim=6, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64))


# The towers

def test_features_have_length_one_and_depend_on_what_goes_in(clip, pictures):
    with torch.no_grad():
        for features in (clip.image_features(pictures), clip.text_features(WORDS)):
            assert features.shape == (4, 16) and features.dtype == torch.float32
            assert (features.double().norm(dim=1) - 1).abs().max() < 1e-6
            assert torch.pdist(features).min() > 1e-3


def test_default_networks_are_small_enough_to_ship():
    clip = CLIP(CLIPConfig(TextConfig(VOCABULARY, "".join(CHARACTERS), dim=96)))
    assert sum(parameter.numel() for parameter in clip.parameters()) <= 950_000


def test_a_place_matters_as_much_as_what_is_there(clip):
    """The same white square one coarse cell further on: far from the borders, its mean features are alike."""
    blank, here, there = -torch.ones(3, 1, 3, 32, 32)
    here[..., 10:14, 10:14] = 1
    there[..., 10:14, 18:22] = 1
    with torch.no_grad():
        blank, here, there = clip.picture(torch.cat([blank, here, there]))
    assert (here - there).norm() > 0.7 * (here - blank).norm()


def test_a_caption_is_the_same_beside_longer_ones(clip):
    with torch.no_grad():
        alone, beside = clip.text_features(WORDS[:1])[0], clip.text_features(WORDS)[0]
    assert (alone - beside).abs().max() < 1e-6


def test_the_scale_starts_as_clips_and_ends_at_100(clip):
    assert clip.scale.item() == pytest.approx(1 / 0.07)
    clip.log_scale.data.fill_(10.0)
    assert clip.scale.item() == pytest.approx(100)


# The loss

def loss_by_hand(image, text, scale, same):
    """Each sum written out, with a twin of i in neither of its choices."""
    n, losses = len(image), []
    for i in range(n):
        others = [j for j in range(n) if j == i or not same[i][j]]
        fit = {(k, j): exp(scale * sum(a * b for a, b in zip(image[k], text[j])))
               for k in range(n) for j in range(n)}
        from_image = -log(fit[i, i] / sum(fit[i, j] for j in others))
        from_text = -log(fit[i, i] / sum(fit[j, i] for j in others))
        losses.append((from_image + from_text) / 2)
    return losses


@pytest.mark.parametrize("twins", [[], [(0, 3)], [(0, 1), (1, 4), (0, 4)]])
def test_the_loss_by_hand(twins):
    image, text, same = unit(5), unit(5, seed=1), torch.eye(5, dtype=torch.bool)
    for i, j in twins:
        same[i, j] = same[j, i] = True
    losses = contrastive_loss(image, text, 7.0, same)
    wanted = loss_by_hand(image.tolist(), text.tolist(), 7.0, same.tolist())
    assert max(abs(one - other) for one, other in zip(losses.tolist(), wanted, strict=True)) < 1e-12


def test_losses_with_known_answers():
    features, nothing_same = torch.eye(8, dtype=torch.float64), torch.eye(8, dtype=torch.bool)
    assert contrastive_loss(features, features, 100.0, nothing_same).abs().max() < 1e-12      # all told apart
    chance = contrastive_loss(features, features[[0] * 8], 0.0, nothing_same)
    assert (chance - log(8)).abs().max() < 1e-12
    assert contrastive_loss(features, features[[0] * 8], 5.0, torch.ones(8, 8, dtype=torch.bool)).max() == 0
    gradient = torch.autograd.functional.jacobian(
        lambda image: contrastive_loss(image, features, 5.0, torch.ones_like(nothing_same)).sum(), features)
    assert gradient.isfinite().all()                            # even where nothing is left to choose from


def test_the_network_sees_twins_in_the_words(clip, pictures):
    """A pair's loss is that of the batch without its twin; the others still choose between all."""
    with torch.no_grad():
        words = ["a red car", "a house", "a red car", ""]
        losses = clip(pictures, clip.text.tokenize(words))
        without = clip(pictures[[0, 1, 3]], clip.text.tokenize([words[0], words[1], words[3]]))
        renamed = clip(pictures, clip.text.tokenize(["a red car", "a house", "a blue car", ""]))
    assert (losses[0] - without[0]).abs() < 1e-5 < (losses[1] - without[1]).abs()
    assert (losses[0] - renamed[0]).abs() > 1e-3


def test_bf16_does_not_blur_the_choice(clip, pictures):
    image, text, same = unit(5).float(), unit(5, seed=1).float(), torch.eye(5, dtype=torch.bool)
    sharp = contrastive_loss(image, text, 100.0, same)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_loss(image, text, 100.0, same), sharp)
        losses = clip(pictures, clip.text.tokenize(WORDS))
    assert losses.dtype == torch.float32
    assert (losses - clip(pictures, clip.text.tokenize(WORDS))).abs().max() < 0.2


def test_gradients_reach_every_parameter(pictures):
    torch.manual_seed(0)
    clip = CLIP(CONFIG)
    optimizer = torch.optim.SGD(clip.parameters(), lr=0.1)
    for _ in range(3):                                          # what starts at zero hides what feeds it
        optimizer.zero_grad()
        clip(pictures, clip.text.tokenize(['a red car "AB"', *WORDS[1:]])).mean().backward()
        optimizer.step()
    assert [name for name, p in clip.named_parameters() if not p.grad.abs().max() > 0] == []


def test_it_learns_which_caption_belongs_to_which_picture():
    torch.manual_seed(0)
    drawn = scenes(12, seed=0)
    text = TextConfig(VOCABULARY, "".join(CHARACTERS), dim=32, layers=1)
    clip = CLIP(CLIPConfig(text, size=32, dim=16, channels=(16, 32), cell=8))
    pictures, tokens = paint(drawn, 32), clip.text.tokenize(captions(drawn))
    optimizer = torch.optim.Adam(clip.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        losses = clip(pictures, tokens)
        losses.mean().backward()
        optimizer.step()
    assert losses.mean() < 0.3 < log(12)
    fit = clip.image_features(pictures) @ clip.token_features(tokens).T
    assert fit.argmax(0).tolist() == fit.argmax(1).tolist() == list(range(12))


# The similarities

def test_similarities_are_cosines(clip, pictures):
    """In float64 from the features; a picture is like itself, and order does not matter."""
    image, text = clip.image_features(pictures).detach().double(), clip.text_features(WORDS).detach().double()
    other = image[[1, 2, 3, 0]]
    alike = clip.image_similarity(pictures, pictures[[1, 2, 3, 0]])
    assert (alike - (image * other).sum(1)).abs().max() < 1e-6 and alike.max() < 1
    assert torch.equal(clip.image_similarity(pictures[[1, 2, 3, 0]], pictures), alike)
    assert (clip.image_similarity(pictures, pictures) - 1).abs().max() < 1e-6
    assert (clip.caption_similarity(pictures, WORDS) - (image * text).sum(1)).abs().max() < 1e-6
    way, told = other - image, text[[3, 0, 1, 2]] - text
    wanted = (way * told).sum(1) / (way.square().sum(1) * told.square().sum(1)).sqrt()
    found = clip.direction_similarity(pictures, pictures[[1, 2, 3, 0]], WORDS, [WORDS[3], *WORDS[:3]])
    assert (found - wanted).abs().max() < 1e-5 and found.shape == (4,)


def test_a_direction_turns_with_what_it_compares(clip, pictures):
    before, after = pictures[:2], pictures[2:]
    there = clip.direction_similarity(before, after, WORDS[:2], WORDS[2:])
    assert (clip.direction_similarity(after, before, WORDS[2:], WORDS[:2]) - there).abs().max() < 1e-5
    assert (clip.direction_similarity(after, before, WORDS[:2], WORDS[2:]) + there).abs().max() < 1e-5


def test_what_stays_has_no_direction(clip, pictures):
    before, after = pictures[:2], pictures[2:]
    assert clip.direction_similarity(before, before, WORDS[:2], WORDS[2:]).tolist() == [0, 0]
    assert clip.direction_similarity(before, after, WORDS[:2], WORDS[:2]).tolist() == [0, 0]
    rounding, way = torch.full((1, 4), 1e-6), torch.ones(1, 4)
    assert cosine_of_ways(rounding, way) == cosine_of_ways(way, rounding) == 0
    assert cosine_of_ways(way, 2 * way) == pytest.approx(1)


@pytest.mark.parametrize("figures, kept", [
    ((0.7, 0.2, 0.2, 0.2), True), ((0.69, 1.0, 1.0, 1.0), False), ((1.0, 0.19, 1.0, 1.0), False),
    ((1.0, 1.0, 0.19, 1.0), False), ((1.0, 1.0, 1.0, 0.19), False), ((1.0, nan, 1.0, 1.0), False),
    ((1.0, 1.0, nan, 1.0), False)])
def test_the_filter_keeps_what_passes_every_threshold(figures, kept):
    assert keep_pair(*torch.tensor(figures, dtype=torch.float64)[:, None]).tolist() == [kept]


def test_the_filter_takes_other_thresholds():
    figures = torch.tensor([[0.5, 0.9], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])
    assert keep_pair(*figures).tolist() == [False, True]
    lower = dict(least_image=0.5, least_direction=0.1, least_caption=0.1)
    assert keep_pair(*figures, **lower).tolist() == [True, True]


# Files and refusals

def test_weights_come_back(clip, pictures, tmp_path):
    entry = {"config": {"clip": asdict(clip.config)}}
    loaded = CLIP.load(save_weights("tiny-clip", clip.state_dict(), entry, tmp_path))
    assert loaded.config == clip.config and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert (loaded.image_features(pictures) - clip.image_features(pictures)).abs().max() < 0.02


def test_weights_of_another_network_are_refused(clip, tiny_weights, tmp_path):
    with pytest.raises(CheckpointError, match="its configuration does not fit") as error:
        CLIP.load(tiny_weights)
    assert str(error.value).count("\n") < 2
    entry = {"config": {"clip": {**asdict(clip.config), "dim": 8}}}
    with pytest.raises(CheckpointError, match="made by another network"):
        CLIP.load(save_weights("narrow", clip.state_dict(), entry, tmp_path))


def test_configuration():
    assert CLIPConfig.from_dict({**asdict(CONFIG), "channels": [16, 32]}) == CONFIG
    with pytest.raises(ValueError, match="CLIPConfig does not know depth"):
        CLIPConfig.from_dict({**asdict(CONFIG), "depth": 2})
    with pytest.raises(ValueError, match="text"):
        CLIPConfig.from_dict({"size": 64})
    with pytest.raises(ValueError, match="multiples of 16 expected"):
        CLIPConfig(TEXT, channels=(24,))
    with pytest.raises(ValueError, match="size = 40: a multiple of 16 expected"):
        CLIPConfig(TEXT, size=40)


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (4, 1, 32, 32), (3, 32, 32)])
def test_pictures_of_another_shape_are_refused(clip, shape):
    with pytest.raises(ValueError, match=r"pictures are \(.*\): \(B, 3, 32, 32\) expected"):
        clip.image_features(torch.zeros(shape))
