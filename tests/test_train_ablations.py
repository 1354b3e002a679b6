"""train/ablations.py: the source as channels, the shared pool, what a batch holds, the table and its verdict.
"""

from dataclasses import replace

import pytest
import torch

from minidiff.bench.tables import Table
from minidiff.checkpoint import CheckpointError, load_state
from minidiff.denoisers.dit import DiT, DiTConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.encoders.vae import VAE, cells_of
from minidiff.latent import LatentModel
from minidiff.measure import Interval, psnr
from minidiff.process.flow import Flow, shift_for, shifted
from minidiff.toytown import edits, load_split
from train import ablations, flow
from train import pool as pool_file
from train.ablations import BASE, VARIANTS, SourceAsChannels
from train.data import Town, draw_seed
from train.denoising import val_edits
from train.loop import Now, generator_of
from train.pool import pooled

NOW = Now(5, 0, 1.0)


@pytest.fixture
def quick(small_flow, tmp_path, tiny_latent_weights):
    """A config of two steps for each training, with small networks."""
    load_split("val", 32)
    return ablations.Config(
        folder=str(tmp_path / "run"), size=32, steps=2, batch=8, warmup=1, log_steps=1, device="cpu",
        bf16=False, dim=32, double=1, single=1, reconstruction=0.25, pool=12, trainings=2, edits=6, walk=1,
        vae=str(tiny_latent_weights.with_name("tiny-vae.safetensors")))


@pytest.fixture
def vae(quick):
    return VAE.load(quick.vae)


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def channels_network():
    torch.manual_seed(0)
    shape = DiTConfig(8, dim=32, blocks=("double", "single"), condition_dim=32, text_dim=32)
    network = SourceAsChannels(shape)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


# The source as channels

def test_the_source_is_stacked_onto_the_noise_and_is_no_token():
    """By hand: the door's weights in two halves, one for the noise, one for the source."""
    network, text = channels_network(), draw(1, 2, 5, 32)
    z_t, source, seen = draw(2, 2, 8, 4, 4), draw(3, 2, 8, 4, 4), []
    network.dit.picture_in.register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
    network.dit.blocks[0].register_forward_hook(lambda _, given, output: seen.append(given[0].shape[1]))
    found = network(z_t, torch.tensor(0.5), text, contexts=[source])
    assert seen[0] == 5 and seen[2] == 4                        # prepared: text; then 2 x 2 tokens, no more
    stacked, tokens = seen[1]
    own, other = network.dit.picture_in.weight.split(32, dim=1)
    by_hand = stacked[..., :32] @ own.T + stacked[..., 32:] @ other.T + network.dit.picture_in.bias
    assert (tokens - by_hand).abs().max() < 1e-5
    assert torch.equal(stacked[0, 0, :4], z_t[0, 0, :2, :2].flatten())
    assert torch.equal(stacked[0, 0, 32:36], source[0, 0, :2, :2].flatten())
    stacked = torch.cat([z_t, source], dim=1)
    assert torch.equal(found, network.dit(stacked, torch.tensor(0.5), text)[:, :8])
    assert (network(z_t, torch.tensor(0.5), text, contexts=[source + 1]) - found).abs().max() > 1e-3


def test_prepared_or_not_the_prediction_is_the_same_and_a_latent_model_takes_it(vae):
    network = channels_network()
    text = TextEncoder(TextConfig(Town.words, Town.characters, dim=32, layers=1))
    model = LatentModel(Flow(), network, text, vae, size=32)
    z_t, source, words = draw(1, 2, 8, 8, 8), draw(2, 2, 8, 8, 8), ["make the car blue", "remove the tree"]
    found = model.denoiser(words, contexts=[source])(z_t, 0.3)
    assert (found - network(z_t, torch.tensor(0.3), *model.encode(words), [source])).abs().max() < 1e-6
    with model.counted() as calls:
        model.denoiser(words, 2.0, [source])(z_t, 0.3)
    assert calls[0] == 2 * 2 * 2                                # pictures, branches, prepared and asked


def test_channels_take_one_source_of_the_targets_size():
    network, text = channels_network(), draw(1, 2, 5, 32)
    for contexts, found in (([], "none"), ([draw(2, 2, 8, 4, 6)], r"\(4, 6\)"),
                            ([draw(2, 2, 8, 4, 4)] * 2, r"\(4, 4\), \(4, 4\)")):
        with pytest.raises(ValueError, match=rf"contexts are {found}: one of \(4, 4\) expected"):
            network(draw(3, 2, 8, 4, 4), torch.tensor(0.5), text, contexts=contexts)


# Pool and batches

def test_the_pool_holds_the_latents_of_its_edits_and_is_drawn_once(quick, vae, monkeypatch):
    monkeypatch.setattr(pool_file, "PART", 8)
    pool = pooled(quick, vae, "cpu")
    kinds = ("recolour", "remove", "season", "time")
    parts = [edits(n, draw_seed(generator_of(0, "pool", start)), kinds=kinds, size=32)
             for start, n in ((0, 8), (8, 4))]
    assert pool.words == [words for part in parts for words in part.instruction]
    for name, latents in (("source", pool.source), ("target", pool.target)):
        pictures = torch.cat([getattr(part, name) for part in parts])
        assert (latents.float() - vae.latents(pictures)).abs().max() < 0.01         # in half precision
    assert torch.equal(pool.cells, cells_of(torch.cat([part.region for part in parts]), 4))
    monkeypatch.setattr(pool_file, "part_of_pool", lambda *_: pytest.fail("drawn again"))
    again = pooled(quick, vae, "cpu")
    assert again.words == pool.words and torch.equal(again.target, pool.target)
    with pytest.raises(CheckpointError, match="of another run: pool is 12 in the file, 13 asked for"):
        pooled(replace(quick, pool=13), vae, "cpu")


def test_a_batch_shows_edits_and_first_a_share_that_changes_nothing(quick, vae):
    pool = pooled(quick, vae, "cpu")
    quick = replace(quick, drop=0.0)
    network = flow.begin(quick, vae)
    (z_t, level, tokens, v, weight, (source,)), = ablations.batches(
        quick, vae, pool, network, "cpu")(generator_of(0, 5, 0), NOW)
    index = torch.randint(12, (8,), generator=generator_of(0, 5, 0))
    z0 = z_t - level.view(8, 1, 1, 1) * v                       # back along the line
    assert torch.equal(source, pool.source[index].float())
    assert (z0[:2] - source[:2]).abs().max() < 1e-5
    assert (z0[2:] - pool.target[index][2:].float()).abs().max() < 1e-5
    assert torch.equal(tokens, network.text.tokenize(["", ""] + [pool.words[i] for i in index[2:]]))
    assert (weight[:2] == 1).all() and torch.equal(weight[2:], 1 + 4.0 * pool.cells[index][2:])


def test_all_variants_see_the_same_edits_and_noise(quick, vae):
    pool = pooled(quick, vae, "cpu")
    made = {}
    for name, (_, change) in VARIANTS.items():
        config = change(quick)
        make_batch = ablations.batches(config, vae, pool, flow.begin(config, vae), "cpu")
        (made[name],) = make_batch(generator_of(0, 5, 0), NOW)
    for name, (z_t, level, tokens, v, _, (source,)) in made.items():
        assert torch.equal(source, made[BASE][5][0])
        same = slice(2 if name == "no reconstruction" else 0, None)
        assert torch.equal(v[same], made[BASE][3][same])
        moved = 10 / shift_for(16) if "times" in name else 1.0
        assert (level - shifted(made[BASE][1], moved)).abs().max() < 1e-6
        assert torch.equal(z_t[same], made[BASE][0][same]) == (moved == 1)


def test_variants_are_what_they_say(quick, vae):
    networks = {}
    for name, (transformer, change) in VARIANTS.items():
        networks[name] = transformer(flow.begin(change(quick), vae).dit.config)
    assert networks["single blocks only"].config.blocks == ("single",) * 2
    assert networks[BASE].config.blocks == ("double", "single") and type(networks[BASE]) is DiT
    count = {name: sum(parameter.numel() for parameter in network.parameters())
             for name, network in networks.items()}
    assert count["single blocks only"] < count[BASE] < count["source as channels"]
    assert VARIANTS["source as channels for as long"].change(quick).steps == round(5 / 3 * 2) == 3
    assert VARIANTS["no reconstruction"].change(quick) == replace(quick, reconstruction=0.0)
    shifts = {name: (change(quick).shift, change(quick).last_shift) for name, (_, change) in VARIANTS.items()}
    assert shifts.pop("times near the noise") == (10, 10)
    assert shifts.pop("times near the noise at first") == (10, 0) and set(shifts.values()) == {(0, 0)}


def test_the_times_of_a_variant_come_down_with_the_learning_rate(quick, vae):
    pool, found = pooled(quick, vae, "cpu"), []
    for name in ("base", "times near the noise at first", "times near the noise"):
        config = VARIANTS[name].change(quick)
        make_batch = ablations.batches(config, vae, pool, flow.begin(config, vae), "cpu")
        found.append(make_batch(generator_of(0, 5, 0), Now(5, 0, 0.0))[0][1])
    usual, at_first, always = found
    assert torch.equal(at_first, usual)
    assert (always - shifted(usual, 10 / shift_for(16))).abs().max() < 1e-6


# Figures and table

def test_an_editor_that_changes_nothing_is_judged_so(quick, vae, monkeypatch):
    """With a velocity that leads straight to the source, every picture is its round trip."""
    text = TextEncoder(TextConfig(Town.words, Town.characters, dim=32, layers=1))
    model = LatentModel(Flow(), channels_network(), text, vae, size=32)
    monkeypatch.setattr(
        model, "denoiser", lambda words, scale, contexts, *_: lambda z_t, t: (z_t - contexts[0]) / t)
    batch = val_edits(32, ("recolour", "season"), 6)
    found, back = ablations.measured(model, batch, 3), vae.round_trip(batch.source)
    assert (found["nothing"] - psnr(back, batch.source)).abs().max() < 1e-3
    local = ~batch.is_global
    kept = psnr(back, batch.source, ~batch.region).double()[local]
    assert (found["kept"][local] - kept).abs().max() < 1e-3 and found["kept"][~local].isnan().all()
    assert found["over floor"][local].abs().max() < 1e-3


def test_rows_compare_trainings_of_one_number_picture_by_picture(quick):
    base, other = torch.tensor([[1.0, 3.0, torch.nan], [2.0, 5.0, torch.nan]]), torch.tensor(
        [[2.0, 5.0, torch.nan], [4.0, 6.0, torch.nan]])
    figures = {}
    for name in VARIANTS:
        for number in range(2):
            values = (other if name == "no reconstruction" else base)[number].double()
            measures = dict.fromkeys(ablations.MEASURES.values(), values)
            figures[name, number] = measures, {"parameters": 7, "seconds": 10.0 * (number + 1),
                                                "config": {"steps": 2 + number}}
    found = {(row["editor"], row["measure"]): row for row in ablations.rows(figures, quick)}
    assert len(found) == 7 * 4 and "over base" not in found[BASE, "success"]
    row = found["no reconstruction", "kept (dB)"]
    assert row["value"].value == (2 + 5 + 4 + 6) / 4 and (row["least"], row["most"]) == (3.5, 5.0)
    assert row["over base"].value == (1 + 2 + 2 + 1) / 4
    assert row["by trainings"] == (1.5, 1.5, 1.5) and row["verdict"] == "better"
    assert (row["parameters"], row["pictures"], row["seconds"]) == (7, 16, 15.0)
    assert found["source as channels", "success"]["verdict"] == "no difference shown"


@pytest.mark.parametrize("one, other, expected", [
    ((0.1, 0.3), (0.2, 0.9), "better"), ((-0.3, -0.1), (-0.9, -0.2), "worse"),
    ((-0.1, 0.3), (0.1, 0.3), "no difference shown"), ((0.1, 0.3), (-0.1, 0.3), "no difference shown"),
    ((-0.3, -0.1), (-0.3, 0.1), "no difference shown"), ((-0.3, 0.1), (-0.3, -0.1), "no difference shown")])
def test_a_difference_is_shown_if_pictures_and_trainings_agree(one, other, expected):
    assert ablations.verdict(Interval(0.0, *one), Interval(0.0, *other)) == expected


def test_the_number_of_trainings_is_checked(quick):
    for wrong in (1, 6):
        with pytest.raises(ValueError, match=f"trainings = {wrong}: 2 to 5 expected"):
            replace(quick, trainings=wrong)


# The command

def test_interrupted_and_called_again_it_trains_only_what_is_missing(quick, monkeypatch, capsys):
    asked, run = [], ablations.train

    def interrupted(network, make_batch, config):
        asked.append(config.folder)
        state = run(network, make_batch, config)
        if len(asked) == 4:
            state.steps = 5                                     # as if it had been stopped: not done
        return state

    with monkeypatch.context() as patched:
        patched.setattr(ablations, "train", interrupted)
        assert ablations.main(quick) is None
    monkeypatch.setattr(ablations, "train", lambda *given: asked.append(given[2].folder) or run(*given))
    table = ablations.main(quick)
    names = [folder.rsplit("/", 1)[1] for folder in asked]
    slugs = ["base", "source-as-channels", "source-as-channels-for-as-long", "no-reconstruction",
             "single-blocks-only", "times-near-the-noise", "times-near-the-noise-at-first"]
    first, second = ([f"{slug}-{number}" for slug in slugs] for number in (0, 1))
    assert names == first[:4] + first[3:] + second              # the fourth is taken up again
    path = f"{quick.folder}/ablations.json"
    assert Table.load(path) == table and len(table.rows) == 28
    assert "no reconstruction" in capsys.readouterr().out
    assert table.command.startswith("python -m train.ablations --folder")
    figures, about = load_state(f"{quick.folder}/base-1/figures.safetensors")
    assert about["config"]["seed"] == 1 and set(figures) >= set(ablations.MEASURES.values())
    with pytest.raises(CheckpointError, match="base-0/figures.safetensors: of another run: walk is 1"):
        ablations.main(replace(quick, walk=2))
    asked.clear()
    assert len(ablations.main(replace(quick, trainings=3)).rows) == 28          # more, later
    assert [folder[-1] for folder in asked] == ["2"] * 7
