"""train/data.py: what the sources return, and what they say when the pictures are not there."""

import multiprocessing
import os
import signal
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.encoders.text import TextConfig, TextEncoder
from train import data, supply
from train.config import LoopConfig
from train.data import Town, TownEdits, draw_seed, on_device, source
from train.instruct import MIX
from train.loop import Now, generator_of
from train.supply import Again, Ahead, Supply, as_bytes, as_floats, each

forks = pytest.mark.skipif(sys.platform != "linux", reason="workers fork")


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


def counting(made):
    def make(now):
        made.append(now)
        return torch.rand(3, generator=generator_of(now.step, now.number)), now

    return make


def again_of(made, **options):
    return Again(counting(made), LoopConfig(steps=99, **options))


def test_batches_that_come_again_are_made_once_and_the_same_after_a_break():
    made = []
    again = again_of(made, distinct=3)
    first = [again(Now(step, 0, 1.0))[0] for step in range(7)]
    assert [now.step for now in made] == [0, 1, 2]
    assert torch.equal(first[1], first[4]) and torch.equal(first[0], first[6])
    assert not any(torch.equal(first[0], other) for other in first[1:3])
    resumed = again_of([], distinct=3)
    assert torch.equal(resumed(Now(5, 0, 0.3))[0], first[2])
    assert not torch.equal(again(Now(0, 1, 1.0))[0], first[0])              # another pass of the step


def test_without_a_number_no_batch_comes_again_and_none_is_kept():
    made = []
    again = again_of(made, distinct=0)
    for step in (0, 7, 0):
        _, now = again(Now(step, 0, 1.0))
        assert now.step == step
    assert len(made) == 3 and not again.made


def test_old_batches_fill_the_time_between_new_ones():
    made = []
    again = again_of(made, distinct=4, every=5)
    steps = [again(Now(step, 0, 1.0))[1].step for step in range(40)]
    assert [now.step for now in made] == [0, 1, 2, 3] and steps[0::5][:4] == [0, 1, 2, 3]
    assert all(step <= k // 5 for k, step in enumerate(steps[:20]))       # nothing that is not made yet
    assert set(steps[16:20]) != {3} and steps[20:] == [k % 4 for k in range(20, 40)]
    assert [again.which(step) for step in range(20)] == steps[:20]
    made.clear()
    resumed = again_of(made, distinct=4, every=5, accumulate=2)           # makes all anew, in their order
    assert resumed(Now(13, 3, 1.0))[1].step == steps[13]
    assert [(now.step, now.number) for now in made][:4] == [(0, 2), (0, 3), (1, 2), (1, 3)][: len(made)]


def test_pictures_travel_as_bytes_and_nothing_else_does():
    pictures = 2 * torch.rand(3, 3, 8, 8, generator=seeded(0)) - 1
    mask = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    batch = [("words", pictures), (Now(1, 2, 0.5), mask, torch.arange(3), torch.rand(3))]
    packed = each(as_bytes, batch)
    assert packed[0][1].dtype == torch.uint8 and packed[0][0] == "words" and packed[1][0] == Now(1, 2, 0.5)
    there = each(as_floats, packed)
    assert (there[0][1] - pictures).abs().max() <= 1 / 255 + 1e-6 and there[0][1].dtype == torch.float32
    assert all(one is other for one, other in zip(there[1][1:], batch[1][1:]))
    assert as_floats(as_bytes(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2))).flatten().tolist() == [-1, 1]


@forks
def test_a_supply_is_the_same_with_workers_and_prepares_each_batch_once():
    """distinct 2, every 2: the batches of steps 0 to 5 are 0, an old one, 1, an old one, 0, 1."""
    def make(generator, now):
        return 2 * torch.rand(2, 3, 4, 4, generator=generator) - 1, f"step {now.step}"

    def prepare(batch):
        prepared.append(batch[1])
        return batch[0].mean(), batch[1]

    for supplied in ({}, dict(workers=1)):
        prepared, config = [], LoopConfig(steps=9, distinct=2, every=2, seed=3, **supplied)
        supply, plain = Supply(make, config, "cpu", prepare), Supply(make, config, "cpu")
        for step in range(6):
            (mean, words), (pictures, same_words) = supply(Now(step, 0, 0.1)), plain(Now(step, 0, 0.1))
            expected, _ = make(generator_of(3, "ahead", int(words[-1]), 0), Now(int(words[-1]), 0, 1.0))
            assert torch.equal(pictures, as_floats(as_bytes(expected))) and torch.equal(mean, pictures.mean())
            assert words == same_words and (step % 2 or words == f"step {(0, 1, 0)[step // 2]}")
        assert prepared == ["step 0", "step 1"]


@forks
def test_workers_leave_an_interrupt_to_the_training():
    ahead = Ahead(drawn_with, LoopConfig(steps=1, workers=1))
    assert ahead(Now(0, 0, 1.0))[1] == "0 0"
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert [ahead(Now(step, 0, 1.0))[1] for step in range(1, 20)] == [f"{step} 0" for step in range(1, 20)]


def test_workers_are_refused_where_forks_are_not_safe(monkeypatch):
    monkeypatch.setattr(supply.sys, "platform", "darwin")
    with pytest.raises(ValueError, match="--workers 0 expected, since only Linux"):
        Ahead(drawn_with, LoopConfig(steps=1, workers=1))


def test_what_looks_like_pictures_but_is_none_is_refused():
    for value in (2.0, float("nan")):
        with pytest.raises(ValueError, match=r"taken for pictures, but is \(1, 1, 2, 2\), up to"):
            as_bytes(torch.full((1, 1, 2, 2), value))


def test_options_of_the_supply_are_checked():
    for wrong in (dict(every=0), dict(workers=-1), dict(distinct=-1)):
        with pytest.raises(ValueError, match="at least 0, 1 and 0 expected"):
            LoopConfig(steps=1, **wrong)


def drawn_with(generator, now):
    return torch.rand(2, generator=generator), f"{now.step} {now.number}", now.falling


@forks
@pytest.mark.parametrize("accumulate, passes", [
    (1, [(0, 0), (1, 0), (2, 0), (7, 0), (8, 0), (1, 0), (9, 0)]),
    (2, [(0, 2), (0, 3), (1, 2), (1, 3), (5, 2), (0, 2), (5, 3)])])
def test_batches_made_ahead_are_those_made_when_asked_for(accumulate, passes):
    """In turn, after a gap, and again, with 0, 1, 2 workers; the numbers are those of a second process."""
    config = LoopConfig(steps=9, accumulate=accumulate, seed=4)
    found = [[ahead(Now(*wanted, 0.3)) for wanted in passes]
             for ahead in (Ahead(drawn_with, replace(config, workers=n)) for n in (0, 1, 2))]
    for wanted, *batches in zip(passes, *found, strict=True):
        for numbers, words, falling in batches:
            assert torch.equal(numbers, batches[0][0]) and falling == 1.0
            assert words == f"{wanted[0]} {wanted[1]}"
    assert not torch.equal(found[0][0][0], found[0][1][0])
