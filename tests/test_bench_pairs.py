"""Pairs of pictures from pairs of captions: what is said, what is shared, what the filter sees."""

import pytest
import torch

from minidiff import toytown
from minidiff.bench import pairs
from minidiff.bench.common import last, seeded
from minidiff.control.restart import deterministic_step
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.clip import CLIP, CLIPConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.sample import sample
from minidiff.toytown.glyphs import CHARACTERS

SAMPLED = ("independent noise", "same noise", "Prompt-to-Prompt")


TEXT = TextConfig(toytown.VOCABULARY, "".join(CHARACTERS), dim=32, layers=1)


def shaken(network, std):
    """An untrained network without zeros, which would hide what feeds them."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clip():
    return shaken(CLIP(CLIPConfig(TEXT, dim=4, channels=(16, 32), cell=4)), 0.3)


@pytest.fixture(scope="module")
def model():
    unet = UNet(UNetConfig(channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32))
    return Model(DDPM.cosine(1000, "x0"), shaken(unet, 0.15), shaken(TextEncoder(TEXT), 0.5), data="town")


@pytest.fixture(scope="module")
def edits():
    return toytown.edits(6, 0, kinds=pairs.KINDS)


@pytest.fixture(scope="module")
def words(edits):
    return pairs.caption_pairs(edits.scenes, edits.target_scenes, 0)


@pytest.fixture(scope="module")
def measured(model, clip):
    asked = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pairs.CLIP, "load", lambda name, device: asked.append((name, device)) or clip)
        found = {row["pairs"]: row for row in pairs.rows(model, n=6, steps=2)}
    assert asked == [("town-clip", model.device)]
    return found


# The captions

@pytest.mark.parametrize("one, other, count", [
    ("a red car", "a red car", 0), ("a red car", "a blue car", 1), ("a car", "a big red car", 2),
    ("a big red car at night", "a car at dusk", 3), ("", "a car", 2)])
def test_words_apart(one, other, count):
    assert pairs.words_apart(one, other) == pairs.words_apart(other, one) == count


def test_captions_differ_in_few_words_and_in_one_at_least():
    edits = toytown.edits(36, 1, kinds=pairs.KINDS)
    found = pairs.caption_pairs(edits.scenes, edits.target_scenes, 1)
    together = toytown.captions(edits.scenes, 1), toytown.captions(edits.target_scenes, 1)
    counts, plain = ([pairs.words_apart(*pair) for pair in zip(*both)] for both in (found, together))
    assert min(counts) >= 1 and sum(counts) < 0.5 * sum(plain)
    for kind, least in (("recolour", 2), ("season", 2)):        # the word, and with it perhaps "a" or "an"
        assert max(count for count, other in zip(counts, edits.kind) if other == kind) <= least


def test_captions_are_of_their_scenes_and_the_same_for_the_same_seed(edits, words):
    assert pairs.caption_pairs(edits.scenes, edits.target_scenes, 0) == words
    assert pairs.caption_pairs(edits.scenes, edits.target_scenes, 1) != words
    for scenes, said in zip((edits.scenes, edits.target_scenes), words):
        for i, caption in enumerate(said):
            throws = range(i * pairs.THROWS, (i + 1) * pairs.THROWS)
            assert caption in [toytown.captions(scenes[i], throw)[0] for throw in throws]


# The pictures

def test_the_same_noise_without_sharing_is_plain_sampling(model, words):
    times = model.process.times(3)
    before, after = pairs.WAYS["same noise"](model, range(2), [said[:2] for said in words], 3, 3.0, seeded(7))
    generator = seeded(7)
    torch.rand((), generator=generator)
    x = torch.randn(1, 3, 64, 64, generator=generator).repeat(2, 1, 1, 1)
    denoise = model.denoiser([said[0] for said in words], 3.0)
    wanted = last(sample(model.process, denoise, x, times, generator, deterministic_step(model.process)))
    assert (torch.stack([before[0], after[0]]) - wanted).abs().max() < 1e-4
    assert (before[0] - after[0]).abs().max() > 1e-3


def test_a_share_of_the_steps_is_drawn_for_each_pair(model, words, monkeypatch):
    seen, walk = [], pairs.prompt_to_prompt

    def spy(*arguments, words, cells):
        seen.append((words, cells))
        return walk(*arguments, words=words, cells=cells)

    monkeypatch.setattr(pairs, "prompt_to_prompt", spy)
    found = {name: pairs.WAYS[name](model, range(6), words, 1, 3.0, seeded(0)) for name in SAMPLED[1:]}
    plain, shared = seen[:6], seen[6:]
    assert plain == [(0, 0)] * 6 and len(set(shared)) == 6
    assert all(words == cells and 0.1 <= words <= 0.9 for words, cells in shared)
    assert torch.equal(found["same noise"][0], found["Prompt-to-Prompt"][0])     # the source never notices
    assert not torch.equal(found["same noise"][1], found["Prompt-to-Prompt"][1])


def test_independent_noise_is_independent(model, words):
    same = [words[0][:2]] * 2                                   # the same caption twice: only noise differs
    before, after = pairs.WAYS["independent noise"](model, range(2), same, 1, 3.0, seeded(0))
    assert (before - after).abs().amin((1, 2, 3)).max() > 0 and before.shape == (2, 3, 64, 64)


# The table

def test_rows_have_every_way_and_honest_counts(measured):
    assert list(measured) == list(pairs.WAYS)
    for name, row in measured.items():
        assert row.get("network calls") == (8 if name in SAMPLED else None)  # 2 steps, 2 captions, 2 branches


def test_null_ways_are_in_their_places(measured):
    still = measured["nothing changes"]
    assert still["image"].value == pytest.approx(1) and still["direction"] == (0, 0, 0)
    assert still["kept"].value == 0
    assert measured["another scene"]["image"].value < measured["exact"]["image"].value < 1


def test_figures_by_hand(clip, edits, words, measured):
    """In float64, from the features of one picture and one caption at a time."""
    def unit(features):
        return features[0].double() / features[0].double().norm()

    found = {name: [] for name in ("image", "direction", "caption", "kept")}
    for i in range(6):
        before, after = (unit(clip.image_features(side[i : i + 1])) for side in (edits.source, edits.target))
        said, told = (unit(clip.text_features([caption[i]])) for caption in words)
        shown, way, sayings = (before @ said, after @ told), after - before, told - said
        found["image"].append(before @ after)
        found["direction"].append(way @ sayings / way.norm() / sayings.norm())
        found["caption"].append((shown[0] + shown[1]) / 2)
        passed = found["image"][i] >= 0.7 and found["direction"][i] >= 0.2 and min(shown) >= 0.2
        found["kept"].append(torch.tensor(float(passed)))
    for name, values in found.items():
        assert measured["exact"][name].value == pytest.approx(torch.stack(values).mean().item(), abs=1e-4)


def test_the_chief_figures_are_the_shares_kept(measured):
    (name, figures), = pairs.chief(measured.values()).items()
    assert name == "town-clip" and list(figures) == list(pairs.WAYS)
    assert figures["exact"] == round(measured["exact"]["kept"].value, 3)
