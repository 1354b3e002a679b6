"""train/data.py: what the sources return, and what they say when the pictures are not there."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.encoders.text import TextConfig, TextEncoder
from train import data
from train.data import Town, TownEdits, draw_seed, on_device, source
from train.instruct import MIX
from train.loop import Now


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def refused(pattern, *arguments, **options):
    with pytest.raises(ValueError, match=pattern) as error:
        source(*arguments, **options)
    assert len(str(error.value).splitlines()) <= 2


def test_town_is_fresh_for_each_generator_and_the_same_for_the_same():
    town = source("town", 64, "cpu")
    x0, captions = town(4, seeded(1))
    again, same_captions = town(4, seeded(1))
    other, other_captions = town(4, seeded(2))
    assert x0.shape == (4, 3, 64, 64) and x0.dtype == torch.float32 and -1 <= x0.min() and x0.max() <= 1
    assert torch.equal(x0, again) and captions == same_captions
    assert not torch.equal(x0, other) and captions != other_captions


KINDS = ("recolour", "season", "remove")


def edits_at(source, step, n=4, number=0):
    return source(n, Now(step, number, 1.0))


def same(one, other):
    pictures = torch.equal(one.source, other.source) and torch.equal(one.target, other.target)
    return pictures and one.instruction == other.instruction


@pytest.fixture
def in_threes(monkeypatch):
    """Edits of three steps of 4 are drawn together."""
    monkeypatch.setattr(TownEdits.__init__, "__defaults__", (12,))


def test_edits_are_those_of_their_step_in_whatever_order(in_threes):
    steps = [edits_at(TownEdits(KINDS, 32, "cpu", 0), step) for step in range(5)]
    source = TownEdits(KINDS, 32, "cpu", 0)
    for step in (3, 0, 4, 1, 1, 2):
        assert same(edits_at(source, step), steps[step]), step
    assert len({batch.instruction + tuple(batch.source.sum((1, 2, 3)).tolist()) for batch in steps}) == 5
    assert not same(edits_at(TownEdits(KINDS, 32, "cpu", 1), 0), steps[0])          # another seed
    assert not same(edits_at(source, 0, number=1), steps[0])                        # another pass
    batch = steps[0]
    assert len(batch) == 4 and batch.source.shape == batch.target.shape == (4, 3, 32, 32)
    assert batch.source.dtype == torch.float32 and batch.region.flatten(1).any(1).all()
    assert {kind for each in steps for kind in each.kind} == set(KINDS)


def test_a_part_of_edits_is_drawn_once_and_serves_all_its_steps(in_threes, monkeypatch):
    drawn = []

    def edits(n, seed, **options):
        drawn.append((n, seed))
        return real(n, seed, **options)

    real = data.edits
    monkeypatch.setattr(data, "edits", edits)
    source = TownEdits(KINDS, 32, "cpu", 0)
    for step in range(6):
        edits_at(source, step)
    assert [n for n, _ in drawn] == [12, 12] and drawn[0] != drawn[1]
    edits_at(source, 6, n=20)                                       # a batch larger than a part is one part
    assert drawn[2][0] == 20 and min(seed for _, seed in drawn) > 10**9


def test_the_text_encoder_knows_every_instruction_and_they_fit():
    source = TownEdits(MIX, 32, "cpu", 0)
    encoder = TextEncoder(TextConfig(Town.words, Town.characters, dim=32, layers=0))
    words = edits_at(source, 0, n=48).instruction
    assert not [word for text in words for word in encoder.unknown_words(text)]
    assert encoder.tokenize(list(words)).shape[1] <= encoder.config.length


def test_the_text_encoder_knows_every_word_of_every_caption_and_they_fit():
    town = source("town", 32, "cpu")
    encoder = TextEncoder(TextConfig(town.words, town.characters, dim=32, layers=0))
    _, captions = town(300, seeded(0))
    assert not [word for caption in captions for word in encoder.unknown_words(caption)]
    assert encoder.tokenize(captions).shape[1] <= encoder.config.length


def test_seeds_drawn_for_scenes_are_far_from_those_of_the_frozen_splits():
    generator = seeded(0)
    seeds = [draw_seed(generator) for _ in range(1000)]
    assert min(seeds) > 10**9 and len(set(seeds)) == 1000


def test_noise_on_the_device_comes_from_the_generator_on_the_cpu():
    draws = [torch.randn(3, generator=on_device(seeded(seed), "cpu")) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def write_mnist(folder):
    """Ten digits, digit k a picture of brightness 20 k, in the four files that torchvision looks for."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    pictures = np.arange(10, dtype=np.uint8).repeat(28 * 28) * 20
    for name in ("train", "t10k"):
        sizes, count = struct.pack(">IIII", 0x803, 10, 28, 28), struct.pack(">II", 0x801, 10)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(sizes + pictures.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(count + bytes(range(10)))


def test_mnist_becomes_grey_pictures_with_digits_in_words(tmp_path):
    write_mnist(tmp_path)
    digits = source("mnist", 64, "cpu", folder=tmp_path)
    x0, captions = digits(50, seeded(0))
    assert x0.shape == (50, 3, 64, 64)
    names = "zero one two three four five six seven eight nine".split()
    for picture, caption in zip(x0, captions, strict=True):
        digit = names.index(caption.removeprefix("a photo of the digit "))
        assert torch.allclose(picture, torch.tensor(20 * digit / 127.5 - 1), atol=1e-6)
    assert len(set(captions)) > 5
    assert set(digits.words) == {*names, "a", "photo", "of", "the", "digit"}


def test_cifar_becomes_pictures_with_class_names(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")

    class Cifar:
        classes = ["airplane", "cat"]
        targets = [1, 0]
        data = np.stack([np.full((32, 32, 3), (255, 0, 51), np.uint8), np.zeros((32, 32, 3), np.uint8)])

        def __init__(self, folder, train, download):
            assert train and not download

    monkeypatch.setattr(datasets, "CIFAR10", Cifar)
    x0, captions = source("cifar10", 32, "cpu", folder=tmp_path)(20, seeded(0))
    assert set(captions) == {"a photo of a cat", "a photo of an airplane"}
    cat = x0[captions.index("a photo of a cat")]
    torch.testing.assert_close(cat[:, 5, 7], torch.tensor([1.0, -1.0, 51 / 127.5 - 1]))


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_missing_data_is_named_with_its_folder_and_the_way_to_get_it(tmp_path, data):
    refused(rf"{data} is not in {tmp_path}.*\nadd --download", data, 32, "cpu", folder=tmp_path)


def test_a_folder_of_pictures_is_captioned_by_its_subfolders(tmp_path):
    (tmp_path / "red cat").mkdir()
    Image.new("RGB", (80, 40), (255, 0, 0)).save(tmp_path / "red cat/1.png")
    wide = Image.new("RGB", (100, 50), (0, 0, 255))
    wide.paste((0, 255, 0), (25, 0, 75, 50))                    # the middle square is green
    wide.save(tmp_path / "2.png")
    x0, captions = source(str(tmp_path), 32, "cpu")(20, seeded(0))
    assert x0.shape == (20, 3, 32, 32) and set(captions) == {"a photo of a red cat", ""}
    means = x0.mean((2, 3)).round().tolist()
    colours = dict(zip(captions, means, strict=True))
    assert colours == {"a photo of a red cat": [1, -1, -1], "": [-1, 1, -1]}


def test_a_folder_without_pictures_is_refused(tmp_path):
    refused(r"no PNG, JPEG or WebP in it\ntown, mnist, cifar10 or", str(tmp_path), 32, "cpu")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    refused("broken.png", str(tmp_path), 32, "cpu")
