"""The benchmark: the right rows, null editors in their places, honest counts, tables that outlive a file."""

import argparse

import pytest
import torch

from minidiff import bench, toytown
from minidiff.bench import bias, captions, latent_masks, masks, puzzles, speed
from minidiff.bench.tables import Table, aligned, cell_text
from minidiff.latent import LatentModel
from minidiff.measure import Interval
from minidiff.model import Model
from minidiff.process.flow import Flow

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign

@pytest.fixture(scope="module")
def quick(tiny_weights, tiny_latent_weights, tmp_path_factory):
    """Every table of `minidiff bench --quick`, by name: town-ddpm's and town-context's of tiny networks."""
    folder = tmp_path_factory.mktemp("quick")
    tiny = {"town-ddpm": tiny_weights, "town-context": tiny_latent_weights}
    for name in bench.TABLES:
        own = bench.weights_of(name)
        model = ("--model", str(tiny[own])) if own in tiny else ()
        bench.main(options("--only", name, "--quick", *model, "--device", "cpu", "--out", str(folder)))
    saved = {f"{name}.{end}" for name, module in bench.TABLES.items()
             for end in ("json", "md", "png")[: 3 if hasattr(module, "plot") else 2]}
    assert {path.name for path in folder.iterdir()} == saved
    return {name: Table.load(folder / f"{name}.json") for name in bench.TABLES}


@pytest.fixture
def bias_rows(quick):
    return quick["bias"].rows


@pytest.fixture(scope="module")
def masks_rows(tiny_weights):
    model = Model.load(tiny_weights, "cpu")
    return masks.rows(model, scenes=2, samples=3, visits=(1, 2), steps=6, glide_steps=2)


def options(*words):
    """What `minidiff bench WORDS` hands over."""
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


# Exact worlds

def test_bias_has_a_row_for_every_world_walk_and_number_of_visits(bias_rows):
    cases = [(row["world"], row["editor"], row.get("visits")) for row in bias_rows]
    assert len(set(cases)) == len(cases) == 2 * (4 * 2 + 2)


def test_bias_ranks_the_truth_first_and_the_ignorant_last(bias_rows):
    for name in {row["world"] for row in bias_rows}:
        ranked = sorted((row for row in bias_rows if row["world"] == name), key=lambda row: row["distance"])
        assert ranked[0]["editor"] == "exact conditional" and ranked[-1]["editor"] == "ignores the known"


def test_bias_falls_with_visits(bias_rows):
    walks = [row["distance"] for row in bias_rows if "visits" in row]
    assert all(often.high < once.low for once, often in zip(walks[0::2], walks[1::2]))


def test_bias_counts_the_network_calls_of_the_path(bias_rows):
    """By hand, 4 visits: 250 + 3 climbs of 10 from 24 landings; 50 + 3 climbs of 5 from 9."""
    calls = {(row["world"], row["visits"]): row["network calls"] for row in bias_rows if "visits" in row}
    assert sorted(calls.values()) == [50, 50 + 3 * 5 * 9, 250, 250 + 3 * 10 * 24]


def test_slow_spends_the_same_calls_both_ways(quick):
    found = quick["slow"].rows
    assert [row["network calls"] for row in found] == [730, 730, 140, 140]
    assert all(row["resampling"].value < row["slowing down"].value for row in found)


def test_counted_counts_calls_and_changes_nothing():
    denoise, calls = puzzles.counted(lambda x_t, t: x_t + t)
    assert denoise(1, 2) == 3 and denoise(2, 2) == 4 and calls == [2]


def test_intervals_of_a_distance_hold_it():
    """Samples of the truth, moved by 2 in pixel 7, are 2 from it in Wasserstein-2: 95 % of intervals hold it.

    They are as wide as that pixel's mean says: 2 * 1.96 standard deviations over the root of n.
    """
    puzzle = puzzles.gaussian()
    found = []
    for seed in range(12):
        samples = bias.exact_conditional(puzzle, 500, torch.Generator().manual_seed(seed))
        samples[..., 7] += 2
        found.append(puzzles.distance(puzzle, samples, seed))
    assert sum(one.low < 2 < one.high for one in found) >= 10
    deviation = puzzle.truth()[0].cov[7, 7].sqrt().item()
    width = sum(one.high - one.low for one in found) / len(found)
    assert width == pytest.approx(2 * 1.96 * deviation / 500**0.5, rel=0.15)


# Masks

def test_masks_have_every_editor_on_every_mask(masks_rows):
    cases = [(row["mask"], row["editor"], row["picture"]) for row in masks_rows]
    assert len(set(cases)) == len(cases) == 6 * (4 + 2 * 2 + 2 + 1)     # LaMa has one picture


def test_null_editors_rank_rightly(masks_rows):
    """The oracle is perfect, nobody changes what is kept, smooth guesses beat grey holes and wrong scenes."""
    found = {(row["mask"], row["editor"]): row for row in masks_rows if row["picture"] == masks.ONE}
    for mask in masks.SIX:
        truth = {editor: found[mask, editor]["truth (dB)"].value for editor in masks.NULL_EDITORS}
        steps = {editor: found[mask, editor]["seam"].value for editor in masks.NULL_EDITORS}
        assert max(truth, key=truth.get) == "oracle" and truth["oracle"] == 60 and steps["oracle"] == 0
        assert truth["harmonic fill"] > max(truth["identity"], truth["re-roll"])
        assert steps["harmonic fill"] < min(steps["identity"], steps["re-roll"])
    assert all(row["kept (dB)"].value == 60 for row in masks_rows)


def test_masks_count_network_calls(masks_rows):
    """6 steps, jump 5: one climb of 5, from level 1. The mean of 3 samples costs thrice."""
    calls = {(row["editor"], row["picture"]): row.get("network calls") for row in masks_rows}
    assert calls["RePaint, visits 1", masks.ONE] == 6 and calls["RePaint, visits 2", masks.ONE] == 11
    assert calls["RePaint, visits 2", "mean of 3"] == 33 and calls["oracle", masks.ONE] is None
    assert calls[masks.GLIDE, masks.ONE] == 2 and calls[masks.LAMA, masks.ONE] == 1


def test_latent_editors_stand_beside_the_codec_that_bounds_them(tiny_latent_weights):
    """The round trip is the same whatever the mask, but nobody keeps raw pixels; calls: one more prepares."""
    model = LatentModel.load(tiny_latent_weights, "cpu")
    rows = latent_masks.rows(model, **latent_masks.QUICK)
    found = {(row["mask"], row["editor"], row["picture"]): row for row in rows}
    assert len(found) == len(rows) == 6 * (4 + 1 + 2 * 4)
    for mask in masks.SIX:
        for editor in (*latent_masks.ONE_PASS, "RePaint, visits 2", latent_masks.ROUND_TRIP):
            assert found[mask, editor, masks.ONE]["raw kept (dB)"].value < 55
        assert found[mask, "oracle", masks.ONE]["raw kept (dB)"].value == 60
        calls = [found[mask, editor, masks.ONE]["network calls"] for editor in
                 (*latent_masks.ONE_PASS, "RePaint, visits 1", "RePaint, visits 2")]
        assert calls == [6 + 1, 6 + 1, 6 + 1, 11 + 1]
    best = {mask: found[mask, "RePaint, visits 2", "mean of 2"]["truth (dB)"].value for mask in masks.SIX}
    assert latent_masks.chief(rows) == {"town-context": {mask: round(best[mask], 2) for mask in masks.SIX}}


def test_the_seam_of_latent_editors_is_of_the_composited_picture():
    truth = toytown.paint(toytown.scenes(2, 0))
    edit_mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    edit_mask[..., 32:] = True
    outside = torch.where(edit_mask, truth, -truth)               # wrong, but only where it will be put back
    assert (latent_masks.composited_seam(outside, truth, edit_mask) == 0).all()
    assert (masks.seam(outside, truth, edit_mask) > 1).all()
    assert (latent_masks.composited_seam(-truth, truth, edit_mask) > 1).all()


def test_the_mean_of_samples_is_nearer_than_they_are(masks_rows):
    """The error of a mean is never above the mean error; and gains are differences to the named rows."""
    found = {(row["mask"], row["editor"], row["picture"]): row for row in masks_rows}
    for mask in masks.SIX:
        one, mean = (found[mask, "RePaint, visits 2", picture] for picture in (masks.ONE, "mean of 3"))
        plain = found[mask, "RePaint, visits 1", "mean of 3"]
        assert mean["truth (dB)"].value > one["truth (dB)"].value
        gain = mean["truth (dB)"].value - plain["truth (dB)"].value
        assert mean["over one visit (dB)"].value == pytest.approx(gain)
        glide = found[mask, masks.GLIDE, masks.ONE]
        gain = glide["truth (dB)"].value - one["truth (dB)"].value
        assert glide["over most visits (dB)"].value == pytest.approx(gain)


def test_editors_never_see_the_truth_in_the_hole(tiny_editor):
    truth = toytown.paint(toytown.scenes(1, 0))
    edit_mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    seen, _, _ = masks.run(masks.identity, truth, edit_mask, None)
    assert (seen == 0).all()


# Captions and speed

def test_true_renders_show_their_captions_and_fresh_scenes_do_not(tiny_editor):
    found = {row["editor"]: row for row in captions.rows(tiny_editor.model, n=8, renders=12, steps=1)}
    oracle, re_roll = found["another legal render"], found["a fresh scene"]
    for attribute in captions.READ:
        assert oracle[attribute].value > 0.7 > re_roll[attribute].value
    assert found["sampled, scale 1"]["network calls"] == 1 and found["sampled, scale 3"]["network calls"] == 2


def test_speed_counts_the_calls_of_both_loops(tiny_editor):
    edit, draw, paint = speed.rows(tiny_editor.model, schedule=(20, 5, 2), steps=3, batch=2, painted=8)
    assert (edit["network calls"], draw["network calls"]) == (20 + 5 * 3, 3)
    assert edit["loop (%)"] > 0 and draw["each second"] == 2 / draw["seconds"] and paint["at once"] == 8


# Tables

def test_a_table_survives_its_file(tmp_path):
    cells = {"editor": "RePaint, π", "calls": 2410, "dB": Interval(23.4, 20.0, 26.0), "seconds": 1.5}
    table = Table("name", "Title", "About.", [cells, {"editor": "oracle"}], "command", 7, "a machine", 12.0)
    json_path, text_path = table.save(tmp_path / "new" / "folder")
    assert Table.load(json_path) == table and isinstance(Table.load(json_path).rows[0]["dB"], Interval)
    assert text_path.read_text(encoding="utf-8") == table.text() and "23.4 ±3.0" in table.text()


def test_tables_are_aligned_markdown():
    lines = aligned([{"editor": "a", "dB": 1.0}, {"editor": "longer", "calls": 2410}]).splitlines()
    assert lines == ["| editor |   dB | calls |", "| ------ | ---: | ----: |",
                     "| a      | 1.00 |       |", "| longer |      | 2,410 |"]


@pytest.mark.parametrize("cell, text", [
    (2410, "2,410"), (0.0312, "0.031"), (1.2345, "1.23"), (23.42, "23.4"), (482.3, "482"), ("x", "x"),
    (Interval(0.5, 0.25, 1.0), "0.500 ±0.375"), (Interval(44.3, 44.0, 44.6), "44.3 ±0.3")])
def test_cells_show_about_three_figures(cell, text):
    assert cell_text(cell) == text


# The command

def test_quick_bench_measures_every_table(quick):
    for name, table in quick.items():
        assert table.rows and table.name == name and table.command == f"minidiff bench --only {name} --quick"


def test_exact_tables_need_no_weights_and_quick_ones_are_not_saved(monkeypatch, capsys):
    monkeypatch.setattr(bias, "QUICK", dict(samples=20, visits=(1,)))
    monkeypatch.setattr(Table, "save", lambda *_: pytest.fail("a quick table would replace a measured one"))
    bench.main(options("--only", "bias", "--quick", "--model", "no-such-weights"))
    assert "ignores the known" in capsys.readouterr().out


def test_chief_figures_come_from_rows_that_asked_the_network(quick):
    rows = {name: quick[name].rows for name in ("masks", "captions", "speed")}
    of_masks = masks.chief(rows["masks"])
    assert all(list(figures) == list(masks.SIX) for figures in of_masks.values()) and len(of_masks) == 3
    last = {"town-ddpm": "RePaint, visits 2", "town-inpaint": masks.GLIDE, "town-lama": masks.LAMA}
    for weights, editor in last.items():
        wide = [row for row in rows["masks"] if (row["mask"], row["editor"]) == ("wide", editor)][-1]
        assert of_masks[weights]["wide"] == round(wide["truth (dB)"].value, 2)
    assert list(captions.chief(rows["captions"])["town-ddpm"]) == ["sampled, scale 1", "sampled, scale 3"]
    assert len(speed.chief(rows["speed"])["town-ddpm"]) == 2


def test_a_measured_table_puts_its_chief_figures_into_the_manifest(monkeypatch, tmp_path, quick):
    noted = []
    monkeypatch.setattr(bench, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(bench, "add_figures", lambda *figures: noted.append(figures))
    monkeypatch.setattr(bench, "measure", lambda name, *_: quick[name])
    monkeypatch.setattr(bench, "load_model", lambda *_: None)
    bench.main(options("--only", "speed"))
    assert noted == [("town-ddpm", {"speed": speed.chief(quick["speed"].rows)["town-ddpm"]})]
    bench.main(options("--only", "speed", "--out", str(tmp_path)))
    bench.main(options("--only", "speed", "--model", "my.safetensors"))
    bench.main(options("--only", "bias"))
    assert len(noted) == 1


def test_list_and_unknown_names(capsys):
    bench.main(options("--list"))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bench.TABLES)
    with pytest.raises(ValueError, match="--only speeed: one of bias, .* expected"):
        bench.main(options("--only", "speeed"))


def test_the_same_seed_measures_the_same():
    puzzle = puzzles.halves()
    walk = puzzles.walks(puzzle.steps)[0]
    first, again, other = (bias.repaint_row(puzzle, walk, 1, 50, seed)["distance"] for seed in (0, 0, 1))
    assert first == again != other


def test_walks_offer_both_processes_and_both_kinds_of_step():
    assert [(isinstance(process, Flow), step is None) for process, _, step in puzzles.walks(50)] == [
        (False, True), (False, False), (True, True), (True, False)]
