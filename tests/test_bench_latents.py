"""The tables of the unified editor: the grammar, its steps, chains that are undone; each beside its codec."""

from dataclasses import replace

import pytest
import torch

from minidiff.bench import drift, grammar, judging, put_back, steps
from minidiff.bench.common import seeded
from minidiff.bench.edits import FOUR
from minidiff.images import to_uint8, to_x0
from minidiff.latent import LatentModel
from minidiff.measure import psnr
from minidiff.process.guidance import norm_preserving
from minidiff.process.sample import normal_like
from minidiff.toytown import edits_of, paint, scenes
from minidiff.toytown.glyphs import LATIN
from minidiff.toytown.language import written
from minidiff.toytown.requests import KINDS, Request

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign


@pytest.fixture(scope="module")
def model(tiny_latent_weights):
    return LatentModel.load(tiny_latent_weights, "cpu")


@pytest.fixture(scope="module")
def batch():
    """Two edits of every kind, small."""
    return judging.held_out_edits(2, 32, grammar.KINDS)


@pytest.fixture(scope="module")
def chain():
    return drift.chains(3, 3, 5, 32)


# The grammar

def test_the_grammar_is_every_kind_with_a_truth_and_every_verb_that_looks_at_image_2(batch):
    assert sorted(grammar.KINDS) == sorted(KINDS)
    everything = judging.held_out_edits(80, 64, grammar.KINDS)
    found = grammar.groups(everything, detailed=True)
    assert len(everything) == 12 * 80 == found["all"].sum()
    apart = ("look", "add", "colour", "style")
    assert sum(found[f"combine {verb}"].sum() for verb in apart) == found["combine"].sum() == 80
    assert all(found[f"combine {verb}"].sum() >= 10 for verb in apart)
    classes = ("appearance", "season and time", "style", "text", "combine", "relational")
    assert torch.equal(sum(found[name].int() for name in classes), torch.ones(12 * 80, dtype=torch.int32))
    assert list(grammar.groups(batch, detailed=False)) == ["all", FOUR, *classes]


def test_latin_and_chinese_writing_are_told_apart():
    edits = judging.held_out_edits(30, 64, ("text",))
    found = grammar.groups(edits, detailed=True)
    latin = torch.tensor([written(row["sign_text"])[0] in LATIN for row in edits.target_scenes.rows()])
    assert torch.equal(found["text, Latin"], latin) and torch.equal(found["text, Chinese"], ~latin)
    assert 5 < latin.sum() < 25
    last, first = len(LATIN), len(LATIN) + 1                    # numbers on a sign start at 1
    edge = torch.tensor([[last, 0, 0], [first, 0, 0]])
    two = edits[:2]
    found = grammar.groups(replace(two, target_scenes=two.target_scenes.with_(sign_text=edge)), detailed=True)
    assert found["text, Latin"].tolist() == [True, False]


def test_floor_is_the_round_trip_outside_the_region_and_the_codec_stands_on_it(batch, model):
    """By hand, and for an editor that loses just what the codec does."""
    outputs = grammar.by_codec(model, batch, None, "source")
    found, local = grammar.judged_in_latents(outputs, batch, model), ~batch.is_global
    for i in local.nonzero().flatten().tolist():
        outside = ~batch.region[i].expand(3, -1, -1)
        error = (model.vae.round_trip(batch.source)[i] - batch.source[i])[outside].square().mean()
        assert found["floor"][i].item() == pytest.approx(10 * torch.log10(4 / error).item(), abs=1e-3)
    assert found["over floor"][local].abs().max() < 1e-4 and found["floor"][~local].isnan().all()
    assert found["far"][local].nan_to_num(0).abs().max() < 1e-4 and found["far"][~local].isnan().all()
    truth = grammar.judged_in_latents(grammar.by_codec(model, batch, None, "target"), batch, model)
    by_hand = psnr(model.vae.round_trip(batch.target), batch.target, batch.region)
    assert (truth["truth"] - by_hand).abs().max() < 1e-3


def test_far_counts_only_what_is_more_than_eight_pixels_from_any_change(batch, model):
    """A spot near the region costs nothing there, one far from it much."""
    local = (~batch.is_global).nonzero().flatten().tolist()
    codec = model.vae.round_trip(batch.source)
    rows, columns = torch.meshgrid(*[torch.arange(batch.size)] * 2, indexing="ij")
    seen = set()
    for i in local:
        changed = batch.region[i, 0].nonzero()
        down, across = (rows[..., None] - changed[:, 0]).abs(), (columns[..., None] - changed[:, 1]).abs()
        distance = torch.maximum(down, across).amin(2)                         # king's moves to the region
        far = distance > 8
        error = (codec[i] - batch.source[i]).square()
        for spot in ((distance > 0) & ~far, far):
            spoilt = codec[i].where(~spot, -batch.source[i].sign())
            found = grammar.judged_in_latents(spoilt[None], batch[[i]], model)["far"].item()
            after = (spoilt - batch.source[i]).square()
            wanted = 10 * torch.log10(error[:, far].mean() / after[:, far].mean()).item()
            assert found == pytest.approx(wanted, abs=1e-2)
            seen.add(round(wanted) == 0)
    assert seen == {True, False}


def test_strict_success_bows_to_the_floor_but_not_further(batch):
    """Noise outside the region of true results, of 30 dB: enough for a floor of 30.5 dB, not of 32.

    Every edit has the floor of its own.
    """
    noise = 2 * 10 ** (-30 / 20) * torch.randn(batch.source.shape, generator=seeded(1))
    outputs = torch.where(batch.region, batch.target, batch.source + noise)
    local = ~batch.is_global
    low = torch.rand(len(batch), generator=seeded(2)) < 0.5
    found = judging.judged(outputs, batch, floor=torch.where(low, 30.5, 32.0).double(), batch=5)
    assert torch.equal(found["strict"][local] == 1, low[local]) and low[local].float().std() > 0
    assert (judging.judged(outputs, batch)["strict"][local] == 0).all()


def test_edits_with_an_image_2_and_without_come_back_in_their_places(batch, model):
    """A walk that returns its last context: image 1 for most, image 2 for those that have one."""
    asked = []

    def walk(model, prompts, contexts, noise, generator, steps, scale):
        asked.append((prompts, len(contexts)))
        assert noise.shape == contexts[0].shape
        return [type("State", (), {"x": contexts[-1]})]

    order = torch.randperm(len(batch), generator=seeded(0))
    mixed = batch[order]
    found = grammar.by_context(model, mixed, seeded(0), 1, walk=walk)
    seen = torch.where(mixed.has_reference.view(-1, 1, 1, 1), mixed.reference, mixed.source)
    assert (found - model.vae.round_trip(seen)).abs().max() < 1e-4
    told = {count: tuple(prompts) for prompts, count in asked}
    assert told[2] == mixed[mixed.has_reference].instruction and len(told[1]) == len(batch) - 2


def test_put_back_are_the_sources_own_pixels_where_the_result_is_what_the_codec_makes(batch, model):
    """Results that are the round trip, but for a box of each."""
    codec = model.vae.round_trip(batch.source)
    box = torch.zeros_like(batch.region)
    box[..., 4:9, 20:] = True
    outputs = torch.where(box, codec - 0.15 * codec.sign(), codec + 0.05)
    found = grammar.put_back(model, outputs, batch)
    assert torch.equal(found, torch.where(box, outputs, batch.source))


def test_rows_of_put_back_count_what_is_edited_and_what_is_lost(model, monkeypatch):
    """The truth, sent through the codec, but 7 levels lighter all over: 8 put the source back where it was.

    255 undo all.
    """
    edits = put_back.load_split("val", model.size).edits[:24]
    truth = {words: picture for words, picture in zip(edits.instruction, edits.target)}

    def lighter(model, edits, generator, steps):
        return model.round_trip(torch.stack([truth[words] for words in edits.instruction])) + 7 * 2 / 255

    monkeypatch.setattr(put_back, "by_context", lighter)
    found = {row["least"]: row for row in put_back.rows(model, n=24, levels=(6, 8, 255))}
    decoded, six, eight, everything, gaps, regions = found.values()
    assert list(found) == ["as decoded", "6", "8", "255", "8, gaps left", "true regions"]
    assert gaps["edited"] < eight["edited"] and decoded["won"] == 0
    assert decoded["edited"] > 0.99 and six["edited"] > 0.99 > eight["edited"] > regions["edited"] / 2
    assert eight["kept (dB)"].value > decoded["kept (dB)"].value + 3
    assert decoded["lost"] == 0 < everything["lost"] and everything["edited"] == 0
    assert everything["success"].value == 0 and everything["kept (dB)"].value == 60
    assert put_back.chief(list(found.values()))["town-context"]["lost, 255"] == everything["lost"]


def test_the_grammar_judges_put_back_results(model, monkeypatch):
    monkeypatch.setattr(grammar, "by_context", lambda model, edits, *_, **__: model.round_trip(edits.source))
    found = grammar.rows(model, each=2, few=1, steps=1)
    kept = {row["editor"]: row["kept (dB)"].value for row in found if row["edits"] == "all"}
    assert kept[grammar.BACK] == 60 > kept[grammar.CONTEXT]


def test_no_edit_is_alone_with_its_pictures(model):
    found = grammar.rows(model, each=1, few=1, steps=1)
    assert not any(row["editor"] == grammar.MORE for row in found)


def test_rows_of_the_grammar(model):
    found = grammar.rows(model, **grammar.QUICK)
    own = {row["edits"]: row for row in found if row["editor"] == grammar.CONTEXT}
    assert own["all"]["n"] == 24 and own["all"]["network calls"] == 2 + 2 + 1
    assert {row["editor"] for row in found} == {
        "identity", "re-roll", "oracle", "codec: source", grammar.TRUTH, grammar.CONTEXT, grammar.BACK,
        grammar.FREE, grammar.MORE}
    back = {row["edits"]: row for row in found if row["editor"] == grammar.BACK}
    assert back.keys() == own.keys() and back["all"]["n"] == 24
    (free,) = (row for row in found if row["editor"] == grammar.FREE and row["edits"] == "all")
    assert free["n"] == 24 and free["network calls"] == 1 + 1 + 1
    figures = grammar.chief(found)["town-context"]
    assert "success, combine" in figures and "over floor (dB), all" in figures
    assert figures["kept (dB), all, put back"] == round(back["all"]["kept (dB)"].value, 2)
    assert all(row["n"] > 0 for row in found)
    more = {row["edits"]: row["n"] for row in found if row["editor"] == grammar.MORE}
    assert more == {"combine, of image 2": 1, "combine, of image 3": 1}


def test_a_picture_more_is_shown_and_every_other_edit_takes_from_it(model):
    edits, seen = judging.held_out_edits(3, 32, ("combine",)), []

    def walk(model, words, contexts, noise, *_):
        seen.append((words, contexts))
        return [type("State", (), {"x": contexts[0]})]

    grammar.by_context(model, edits, seeded(0), 1, walk=walk, others=grammar.image_3)
    (words, (source, second, third)), = seen
    assert torch.equal(source, model.latents(edits.source))
    first, second_one, last = edits.instruction
    assert words == [first, second_one.replace("image 2", "image 3"), last] and words[1] != second_one
    own, next_one = model.latents(edits.reference), model.latents(edits.reference[edits.rivals])
    for i in range(3):
        assert torch.equal((third if i == 1 else second)[i], own[i])
        assert torch.equal((second if i == 1 else third)[i], next_one[i])


def test_the_right_picture_is_the_one_that_is_asked_for():
    edits = judging.held_out_edits(40, 64, ("combine",))         # more than one batch
    wrong = torch.cat([grammar.with_the_other(edits[:32]), grammar.with_the_other(edits[32:])])
    alike = (wrong == edits.target).flatten(1).all(1) | wrong.isnan().flatten(1).any(1)
    assert alike.sum() <= 2                                      # nearly always another one has the thing
    for outputs, expected in ((edits.target, 1), (wrong.nan_to_num(), 0), (edits.target + 0.01, 1)):
        found = grammar.told_apart(outputs, edits)
        assert (found[~alike] == expected).all() and found[alike].isnan().all()
    i = next(i for i in range(1, 32) if "style" in edits.instruction[i] and not alike[i])
    style = edits.reference_scenes.style[edits[:32].rivals[i]]
    assert torch.equal(wrong[i : i + 1], paint(edits.scenes[i].with_(style=style)))


# Steps

def test_rows_of_steps_count_every_call(model):
    """Two branches, prepared once; but one in the last step, and where Heun's step before it looks ahead."""
    found = steps.rows(model, **steps.QUICK)
    assert [(row["steps"], row["network calls"]) for row in found] == [
        ("1 of Euler", 1 + 1), ("2 of Euler", 2 + 2 + 1), ("2 of Heun", 2 + 2 + 1 + 1),
        ("2 of Euler, guidance off", 1 + 1 + 1), ("2 of Euler, FLUX.1's levels, guidance off", 1 + 1 + 1)]
    assert all(row["n"] == 12 and row["seconds"] > 0 for row in found)
    assert list(steps.chief(found)["town-context"]) == [row["steps"] for row in found]


def test_heuns_walk_by_hand(model):
    z, words = normal_like(torch.empty(1, 8, 8, 8), seeded(3)), ["make the car blue"]
    noise = normal_like(z, seeded(4))
    (_, last) = steps.heun_walk(model, words, [z], noise, seeded(0), 2, 1.5)
    times = model.times(2, noise, 2.0)
    steered, free = (model.denoiser(words, scale, [z], (8, 8), norm_preserving) for scale in (1.5, 1.0))
    v = steered(noise, times[0])
    v_next = free(noise + (times[1] - times[0]) * v, times[1])
    x = noise + (times[1] - times[0]) * (v + v_next) / 2
    assert (last.x - (x - times[1] * free(x, times[1]))).abs().max() < 1e-4


def test_the_usual_walk_has_flux_levels(model):
    z, noise = (normal_like(torch.empty(1, 8, 8, 8), seeded(seed)) for seed in (3, 4))
    walk = steps.usual_walk(model, ["make the car blue"], [z], noise, seeded(0), 3, 1.5)
    assert [state.t for state in walk] == model.times(3, noise)[1:]


# Chains

def test_chains_go_on_from_their_targets_and_come_back(chain):
    assert len(chain) == 6
    for before, after in zip(chain, chain[1:]):
        assert torch.equal(before.target, after.source)
        for name, column in before.target_scenes.columns().items():
            assert torch.equal(column, getattr(after.scenes, name))
    assert torch.equal(chain[-1].target, chain[0].source)
    for there, back in zip(chain, reversed(chain)):
        assert torch.equal(there.region, back.region) and there.region.flatten(1).any(1).all()
    assert not any(edits.is_global.any() or edits.held_out.any() for edits in chain)


def test_undoing_is_told_in_the_right_words():
    """Each kind of edit, and what its undoing must name."""
    some = scenes(24, 3).with_(style=0)
    seen = set()
    for kind in drift.UNDOABLE:
        fits = [i for i in range(24) if kind != "text" or some.sign[i] == 1]
        fits = [i for i in fits if kind != "recolour" or some.car[i] == 1]
        edits = edits_of(some[fits[:8]], 1, kinds=kind)
        back = drift.undone(edits, drift.random.Random(0))
        for i, (request, words) in enumerate(zip(back.requests, back.instruction)):
            before = edits.scenes.rows()[i]
            if kind == "recolour":
                assert drift.toytown.scene.COLORS[before[request.subject]] in words
            elif kind == "text":
                assert f'"{written(before["sign_text"])}"' in words
            elif kind == "resize":
                assert request.how != edits.requests[i].how and request.verb == f"resize {request.how}"
            else:
                assert request == Request("remove", edits.requests[i].subject)
                assert f"the {request.subject}" in words
            seen.add(request.verb)
    assert seen == {"recolour", "text", "resize bigger", "resize smaller", "remove"}


def test_identity_codec_and_oracle_are_followed_rightly(chain, model):
    """By hand: the identity keeps and does nothing, until all is undone; the codec goes round each turn."""
    oracle = drift.Hand(lambda x: x, lambda x, edits, generator: edits.target, lambda x: x)
    found = {name: drift.judged(drift.followed(hand, chain, seeded(0), name), chain)
             for name, hand in {**drift.hands(model, 1), "oracle": oracle}.items()}
    assert (found["oracle"]["truth (dB)"][0] == 60).all() and (found["oracle"]["done"][0] == 1).all()
    same, codec = found["identity"], found[drift.CODEC]
    assert (same["untouched (dB)"][0] == 60).all() and (same["largest"][0] == 0).all()
    assert (same["truth (dB)"][0][-1] == 60).all() and (same["truth (dB)"][0][2] < 45).all()
    assert (same["done"][0][:3] == 0).all()
    x = chain[0].source
    for _ in range(4):
        x = to_x0(to_uint8(model.vae.round_trip(x)))             # as one who saves it
    untouched = ~torch.stack([edits.region for edits in chain[:4]]).any(0)
    assert (codec["untouched (dB)"][0][3] - psnr(x, chain[0].source, untouched)).abs().max() < 1e-3


def test_each_turn_goes_on_from_the_last_result(chain, model, monkeypatch):
    """A velocity that leads to the first context plus .1: latents move by .1 a turn, codec or not."""
    monkeypatch.setattr(
        model, "denoiser", lambda words, scale, contexts, *_: lambda z_t, t: (z_t - contexts[0] - 0.1) / t)
    hands = drift.hands(model, 1)
    z = model.latents(chain[0].source)
    inside = drift.followed(hands[drift.INSIDE], chain, seeded(0), "")
    each, x = drift.followed(hands[drift.EACH], chain, seeded(0), ""), chain[0].source
    for turn in range(6):
        assert (inside[turn] - model.decode(z + 0.1 * (turn + 1))).abs().max() < 1e-3
        x = to_x0(to_uint8(model.decode(model.latents(x) + 0.1)))
        assert (each[turn] - x).abs().max() < 1.1 * 2 / 255 and (each[turn] == x).float().mean() > 0.99


def test_put_back_each_turn_an_edit_that_touches_nothing_leaves_the_picture(chain, model, monkeypatch):
    """A velocity that leads to the first context: through the codec it drifts, put back it does not."""
    monkeypatch.setattr(
        model, "denoiser", lambda words, scale, contexts, *_: lambda z_t, t: (z_t - contexts[0]) / t)
    hands = drift.hands(model, 1)
    first = to_x0(to_uint8(chain[0].source))
    back, each = (drift.followed(hands[name], chain, seeded(0), "") for name in (drift.BACK, drift.EACH))
    assert all(torch.equal(picture, first) for picture in back)
    assert (each[0] - first).abs().max() > 0.1


def test_rows_of_drift(model):
    found = drift.rows(model, **drift.QUICK)
    assert len(found) == 6 * 3 and [row["turn"] for row in found[:3]] == [1, 2, 4]
    assert [row["undone"] for row in found[:3]] == [0, 0, 2]
    figures = drift.chief(found)
    both = {row["undone"]: row["untouched (dB)"].value for row in found if row["editor"] == drift.INSIDE}
    assert figures["town-context"][f"untouched (dB), {drift.INSIDE}, all undone"] == round(both[2], 2)
    assert len(figures["town-context"]) == 8 and len(figures["town-instruct"]) == 2
