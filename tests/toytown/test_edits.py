"""Edits: exact targets, true regions, words that determine the answer; judged in another way than made."""

import random
import re
from collections import Counter
from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from minidiff import toytown
from minidiff.toytown.changes import carry_out, possible
from minidiff.toytown.edits import Edits
from minidiff.toytown.glyphs import CHARACTERS
from minidiff.toytown.instructions import PHRASINGS, instruction
from minidiff.toytown.language import VOCABULARY
from minidiff.toytown.relations import relates, stands_alone
from minidiff.toytown.requests import CLASSES, KINDS, PLACES, RELATIONS, REQUESTS, Request, requests_of
from minidiff.toytown.scene import COLORS, HELD_OUT, OBJECTS, SEASONS, TIMES

COLUMNS = tuple(field.name for field in fields(toytown.Scenes))
OWNER = {"house_color": "house", "roof_color": "house", "jacket_color": "person", "car_color": "car"}
ON_THE_WAY = {"left of": (-1, 0), "right of": (1, 0), "behind": (0, -1), "in front of": (0, 1)}
REACH = 3                                                       # pixels that a style blurs, at 64x64
GAPS = {"the": r"the \w+(?: of the \w+)?", "its": r"the \w+(?: of the \w+)?",
        "thing": r'an? [\w -]+(?: "\w+")?',
        "color": r"\w+", "season": r"\w+", "time": r"\w+", "style": r"an? [\w -]+|pixel-art", "text": r"\w+",
        "old": r"day|dusk|night|[^a-z\W]+", "side": "left|middle|right",
        "where": "on the left|in the middle|on the right",
        "what": r"(?:what is|what stands|the object) (?:to the )?(?:left of|right of|behind|in front of) the "
                r"\w+"}


@pytest.fixture(scope="module")
def train():
    return toytown.edits(144, seed=1)


@pytest.fixture(scope="module")
def test():
    return toytown.edits(240, seed=2, split="test")


@pytest.fixture(scope="module")
def both(train, test):
    return [*told(train), *told(test)]


def told(batch):
    """(request, instruction, source, target, reference) for each edit, the scenes as dictionaries."""
    scenes = (part.rows() for part in (batch.scenes, batch.target_scenes, batch.reference_scenes))
    return list(zip(batch.requests, batch.instruction, *scenes, strict=True))


def pattern(phrasing):
    """A phrasing as a regular expression that knows what may stand in each gap."""
    return re.compile(re.sub(r"\\?\{(\w+)\\?\}", lambda gap: f"(?:{GAPS[gap[1]]})", re.escape(phrasing)))


def changed_columns(before, after):
    return {name for name in before if before[name] != after[name]}


def about(*names):
    """The columns of Scenes that belong to these objects."""
    return {column for column in COLUMNS if column.split("_")[0] in names or OWNER.get(column) in names}


# --- drawing

def test_the_same_arguments_give_the_same_bits_and_every_other_seed_or_split_others():
    first, again = toytown.edits(24, seed=5), toytown.edits(24, seed=5)
    assert first.instruction == again.instruction and first.requests == again.requests
    assert torch.equal(first.source, again.source) and torch.equal(first.target, again.target)
    seeds = ((6, "train"), (5, "val"), (5, "test"))
    other = {toytown.edits(24, seed, split).requests for seed, split in seeds}
    assert len(other | {first.requests}) == 4


def test_each_kind_comes_equally_often(train):
    assert Counter(train.kind) == dict.fromkeys(KINDS, 12)


@pytest.mark.parametrize("kinds", [["move"], ["text", "season"], "combine", ("ambiguous", "add")])
def test_only_the_kinds_asked_for_come(kinds):
    wanted = {kinds} if isinstance(kinds, str) else set(kinds)
    assert set(toytown.edits(12, seed=1, kinds=kinds).kind) == wanted
    with_signs = toytown.scenes(12, seed=25).with_(style=0, sign=1)
    assert set(toytown.edits_of(with_signs, 1, kinds=kinds).kind) <= wanted


@pytest.mark.parametrize("arguments, message", [
    ({"n": 0}, "n is 0: at least 1 edit expected"), ({"n": -3}, "n is -3: at least 1 edit expected"),
    ({"split": "dev"}, "split is 'dev': one of train, val, test expected"),
    ({"kinds": ["recolor"]}, r"kinds are \['recolor'\]: some of recolour, .* or ambiguous expected"),
    ({"kinds": []}, r"kinds are \(\): some of recolour"), ({"kinds": "paint"}, r"kinds are \['paint'\]"),
    ({"size": 31}, "size is 31: 32 to 2048 pixels expected"), ({"size": 4096}, "size is 4096: 32 to 2048"),
])
def test_bad_arguments_are_told_at_once(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        toytown.edits(**{"n": 2, "seed": 0, **arguments})
    assert len(str(caught.value).splitlines()) <= 2


def test_a_scene_that_allows_none_of_the_kinds_is_named():
    scenes = toytown.scenes(3, seed=0).with_(style=0, sign=1).with_(sign=torch.tensor([1, 0, 1]))
    with pytest.raises(ValueError, match="scene 1 allows no edit of these kinds"):
        toytown.edits_of(scenes, seed=0, kinds="text")


def test_edits_chain_each_target_is_the_next_source():
    scenes = toytown.scenes(6, seed=8).with_(style=0)
    first = toytown.edits_of(scenes, seed=1)
    second = toytown.edits_of(first.target_scenes, seed=2)
    assert torch.equal(first.source, toytown.paint(scenes))
    assert torch.equal(second.source, first.target) and not torch.equal(second.target, second.source)


def test_pictures_come_at_any_size_and_show_the_same_edits():
    small, large = toytown.edits(12, seed=3), toytown.edits(12, seed=3, size=128)
    assert large.source.shape == (12, 3, 128, 128) and large.region.shape == (12, 1, 128, 128)
    assert small.instruction == large.instruction
    assert torch.equal(small.at(128).target, large.target) and torch.equal(large.at(64).source, small.source)
    assert torch.equal(toytown.edits(12, seed=3, device="cpu").to("cpu").target, small.target)


def test_some_of_the_edits(test):
    flags = test.is_global
    for rows, numbers in ((3, [3]), (-1, [239]), (slice(2, 5), [2, 3, 4]), ([7, 1], [7, 1]),
                          (torch.tensor([4]), [4]), (flags, flags.nonzero().flatten().tolist())):
        some = test[rows]
        assert some.instruction == tuple(test.instruction[i] for i in numbers)
        assert some.requests == tuple(test.requests[i] for i in numbers)
        assert torch.equal(some.source, test.source[numbers])
        assert torch.equal(some.target, test.target[numbers])
        assert torch.equal(some.scenes.sun_x, test.scenes.sun_x[numbers])
        assert torch.equal(some.held_out_phrasing, test.held_out_phrasing[numbers])


# --- pictures and regions

def test_source_and_target_are_the_painted_scenes_and_differ_just_in_the_region(test):
    assert torch.equal(test.source, toytown.paint(test.scenes))
    assert torch.equal(test.target, toytown.paint(test.target_scenes))
    difference = (test.source - test.target).abs().amax(1, keepdim=True)
    assert torch.equal(difference > 0, test.region)
    assert test.region.dtype == torch.bool and test.region.flatten(1).any(1).all()
    assert test[~test.is_global].region.float().mean((1, 2, 3)).max() < 0.5


def test_a_local_edit_leaves_every_pixel_away_from_its_objects_alone_bit_for_bit(train, test):
    """The region from the masks: where the objects concerned show before or after, as far as styles blur."""
    checked = 0
    for batch in (train, test):
        before, after = toytown.masks(batch.scenes), toytown.masks(batch.target_scenes)
        for i, (request, _, source, target, _) in enumerate(told(batch)):
            touched = {OWNER.get(name, name.split("_")[0]) for name in changed_columns(source, target)}
            if request.is_global or "fence" in touched:
                continue
            rows = [OBJECTS.index(name) for name in touched]
            near = (before[i, rows] + after[i, rows]).amax(0)[None, None] > 0
            reach = 0 if source["style"] == 0 else REACH
            near = F.max_pool2d(near.float(), 2 * reach + 1, 1, reach)[0] > 0
            assert torch.equal(batch.source[i][:, ~near[0]], batch.target[i][:, ~near[0]]), request
            checked += 1
    assert checked > 200


def test_every_edit_visibly_changes_a_dozen_pixels(train, test):
    for batch in (train, test):
        visible = ((batch.source - batch.target).abs() > 0.1).any(1).sum((1, 2))
        assert visible.min() >= 12


def test_nothing_is_revealed_of_which_less_than_a_third_was_seen_nor_hidden_but_for_less(train, test):
    """From the masks: each object as it shows, over the same object standing alone."""
    for batch in (train[:100], test[:100]):
        for scenes in (batch.scenes, batch.target_scenes):
            shown = toytown.masks(scenes.with_(style=0)).sum((2, 3))
            for number, name in enumerate(OBJECTS):
                alone = scenes.with_(style=0, **{other: 0 for other in OBJECTS if other != name})
                whole = toytown.masks(alone)[:, number].sum((1, 2))
                there = getattr(scenes, name) == 1
                share = shown[there, number] / whole[there]
                assert share.min() > 1 / 3 - 0.06, name         # fair counts at 32x32, 25 pixels a person
                assert (share > 1 / 3).float().mean() > 0.98, name


def test_image_2_is_painted_where_the_words_speak_of_it_and_grey_elsewhere(test):
    speaks = torch.tensor(["image 2" in words for words in test.instruction])
    assert torch.equal(test.has_reference, speaks) and speaks.any()
    assert torch.equal(test.reference[speaks], toytown.paint(test.reference_scenes[speaks]))
    assert (test.reference[~speaks] == 0).all()


def test_among_three_the_words_say_which_picture_is_meant(test):
    edits = test[test.has_reference][:4]
    third = torch.tensor([True, False, False, True])
    words, second, last = edits.among_three(third)
    for i in range(4):
        meant, other = (last, second) if third[i] else (second, last)
        assert torch.equal(meant[i], edits.reference[i])
        assert torch.equal(other[i], edits.reference[edits.rivals[i]])
        assert words[i] == edits.instruction[i].replace("image 2", "image 3" if third[i] else "image 2")
    for few in (edits[:1], test[~test.has_reference][:3]):
        with pytest.raises(ValueError, match="at least 2 expected, all with one"):
            few.among_three(third[: len(few)])


def test_a_rival_would_do_as_well_to_another_result_and_is_the_nearest_before(test):
    """Judged one by one, by the pictures that come of it: only where there is a rival they differ."""
    edits = test[test.has_reference][:24]
    found = 0
    for i, request in enumerate(edits.requests):
        nearest = None
        for j in [*range(i - 1, -1, -1), *range(len(edits) - 1, i, -1)]:
            reference = edits.reference_scenes[j]
            if not possible(request, edits.scenes[i], reference).item():
                continue
            picture = toytown.paint(carry_out(request, edits.scenes[i], reference, None))
            if nearest is None and (picture[0] - edits.target[i]).abs().max() > 0.05:
                nearest = j
        found += nearest is not None
        assert edits.rivals[i] == ((i - 1) % len(edits) if nearest is None else nearest), (i, request)
    assert found == 20                                           # of 24: the others find none among so few


def test_ambiguous_edits_have_no_truth_no_region_and_no_answers():
    batch = toytown.edits(8, seed=1, split="test", kinds="ambiguous")
    assert not batch.has_truth.any() and batch.target.isnan().all() and not batch.region.any()
    assert batch.source.isfinite().all() and toytown.edits(4, seed=1).has_truth.all()
    for ask in (batch.answers, batch.answer_names, batch.side_effects):
        with pytest.raises(ValueError, match="has no true answer: an edit of another kind expected"):
            ask(0)


# --- what changes, and what must not

def test_only_what_was_asked_for_changes(both):
    """For each verb the columns that may differ; all the others, so the identity of everything, stay."""
    for request, words, source, target, reference in both:
        verb, subject, other = request.verb, request.subject, request.other
        may = {"recolour": {subject}, "add": about(subject), "add fence": {"fence"}, "remove": {subject},
               "replace": {subject} | about(other), "move": {subject + "_x"},
               "resize bigger": {subject + "_size"}, "resize smaller": {subject + "_size"},
               "season": {"season"}, "time": {"time"}, "style": {"style"}, "text": {"sign_text"},
               "combine look": about(subject) - {subject, subject + "_x", subject + "_y"},
               "combine add": about(subject), "combine colour": {subject}, "combine style": {"style"},
               "relational remove": {subject},
               "relational recolour": {"jacket_color" if subject == "person" else subject + "_color"}}[verb]
        changed = changed_columns(source, target)
        assert changed and changed <= may, (words, changed)
        if len(may) == 1:
            assert changed == may


def test_the_words_name_the_new_value(both):
    seen = Counter()
    for request, words, source, target, _ in both:
        kind, subject = request.kind, request.subject
        spoken = set(re.findall(r"[^\s,]+", words))
        changed = changed_columns(source, target)
        if request.verb in ("recolour", "relational recolour"):
            assert COLORS[target[changed.pop()]] in spoken
        elif kind in ("season", "time"):
            names = {"day": {"day", "daytime"}, "dusk": {"dusk", "evening"}, "night": {"night"}}
            new = {SEASONS[target["season"]]} if kind == "season" else names[TIMES[target["time"]]]
            assert new & spoken
        elif request.verb == "style":
            assert ("plain", "sketch", "blueprint", "pixel-art", "watercolour")[target["style"]] in spoken | (
                {"plain"} if "normal" in spoken else set())
        elif kind == "text":
            written = "".join(CHARACTERS[number - 1] for number in target["sign_text"] if number)
            assert f'"{written}"' in words and source["sign_text"] != target["sign_text"]
        elif kind == "move":
            assert request.how in spoken and f"the {subject}" in words
            assert abs(target[subject + "_x"] - PLACES[request.how]) < 1e-6
        elif kind == "resize":
            grows = target[subject + "_size"] > source[subject + "_size"]
            assert bool(spoken & {"bigger", "larger", "enlarge", "grow"}) == grows
            assert bool(spoken & {"smaller", "shrink"}) != grows and f"the {subject}" in words
        elif request.verb == "remove":
            assert f"the {subject}" in words and source[subject] == 1 and target[subject] == 0
        elif request.verb == "add":
            place = ("on the left", "in the middle", "on the right")[list(PLACES).index(request.how)]
            assert place in words and source[subject] == 0 and target[subject] == 1
            assert abs(target[subject + "_x"] - PLACES[request.how]) < 1e-6
            check_description(subject, target, words)
        elif kind == "replace":
            assert (source[subject], source[request.other]) == (1, 0)
            assert (target[subject], target[request.other]) == (0, 1)
            assert f"the {subject}" in words
            assert abs(target[request.other + "_x"] - source[subject + "_x"]) < 0.1
            check_description(request.other, target, words)
        else:
            continue
        seen[request.verb] += 1
    assert min(seen.values()) >= 5 and len(seen) == 12, seen


def check_description(name, scene, words):
    """All that an instruction must say of a new object is in its words."""
    written = "".join(CHARACTERS[number - 1] for number in scene["sign_text"] if number)
    color = {column: COLORS[scene[column]] for column in OWNER}
    color = {column: f"a{'n' * (value[0] in 'aeiou')} {value}" for column, value in color.items()}
    expected = {"house": f"{color['house_color']} house with {color['roof_color']} roof",
                "tree": ("a round tree", "a pine")[scene["tree_kind"]], "car": f"{color['car_color']} car",
                "person": f"a person in {color['jacket_color']} jacket",
                "sign": f'a sign that says "{written}"'}
    assert expected[name] in words


def test_combine_takes_from_image_2_and_only_what_is_new(both):
    seen = Counter()
    for request, _, source, target, reference in both:
        subject = request.subject
        if request.verb in ("combine look", "combine add"):
            kept = {subject, subject + "_x", subject + "_y"} if request.verb == "combine look" else set()
            assert all(target[column] == reference[column] for column in about(subject) - kept)
            assert source[subject] == (request.verb == "combine look") and reference[subject] == 1
        elif request.verb == "combine colour":
            assert target[subject] == reference[request.other] != source[subject]
            assert reference[OWNER[request.other]] == 1 and source[OWNER[subject]] == 1
        elif request.verb == "combine style":
            assert target["style"] == reference["style"] != source["style"] == 0
        else:
            continue
        seen[request.verb] += 1
    assert min(seen.values()) >= 3 and len(seen) == 4, seen


def test_what_is_named_by_where_it_stands_is_one_thing(both):
    """Who is meant, from the words: by place for left and right, by silhouettes for behind and in front."""
    found = Counter()
    for request, words, source, target, _ in both:
        if request.kind != "relational":
            continue
        how, landmark = re.search(r"(left of|right of|behind|in front of) the (\w+)", words).groups()
        changed = {OWNER.get(name, name) for name in changed_columns(source, target)}
        rivals = [name for name in OBJECTS if source[name] and name != landmark]
        assert {name for name in rivals if stands(source, name, how, landmark)} == changed, words
        found[how] += 1
    assert set(found) == set(RELATIONS), found


def stands(scene, name, how, landmark):
    across, down = ON_THE_WAY[how]
    if across:
        return across * (scene[name + "_x"] - scene[landmark + "_x"]) > 0
    first, second = (silhouette(scene, one).amax(0) > 0.5 for one in (name, landmark))
    return (first & second).sum() >= 2 and down * (scene[name + "_y"] - scene[landmark + "_y"]) > 0


def silhouette(scene, name):
    one = toytown.Scenes(**{column: torch.tensor([value]) for column, value in scene.items()})
    alone = one.with_(style=0, **{other: 0 for other in OBJECTS if other != name})
    return toytown.masks(alone)[0, OBJECTS.index(name)]


def test_relations_of_two_known_objects():
    empty = toytown.scenes(1, seed=0).with_(fence=0, **dict.fromkeys(OBJECTS, 0))
    two = empty.with_(house=1, house_x=0.5, house_y=0.66, house_size=1,
                      tree=1, tree_x=0.62, tree_y=0.72, tree_size=1)
    for how, expected in (("right of", True), ("left of", False), ("in front of", True), ("behind", False)):
        assert relates(two, "tree", "house", how, strictly=True).item() == expected
        assert stands_alone(two, Request("relational remove", "tree", "house", how)).item() == expected
    assert not relates(two.with_(tree_x=0.59), "tree", "house", "right of", strictly=True)
    assert relates(two.with_(tree_x=0.59), "tree", "house", "right of", strictly=False)
    beside = Request("relational remove", "tree", "house", "right of")
    assert not stands_alone(two.with_(car=1, car_x=0.51, car_size=1), beside)       # so is the car, hardly
    behind = Request("relational remove", "house", "tree", "behind")
    assert stands_alone(two, behind) and not stands_alone(two.with_(fence=1), behind)


def test_nothing_leaves_the_zone_of_sizes_and_signs_stay_on_their_grid(both):
    for _, words, _, target, _ in both:
        for name in OBJECTS:
            if target[name]:
                assert 0.6 - 1e-6 <= target[name + "_size"] <= 1.5 + 1e-6, words
        if target["sign"]:
            assert target["sign_size"] == 1
            assert (target["sign_x"] * 64).is_integer() and (target["sign_y"] * 64).is_integer(), words


# --- words

def test_every_word_is_known_and_held_out_phrasings_use_no_new_ones(both):
    for _, words, *_ in both:
        outside = " ".join(words.split('"')[::2])
        assert set(re.findall(r"[^\s,]+", outside)) <= set(VOCABULARY), words
    texts = [" ".join(phrasing for pair in PHRASINGS.values() for phrasing in pair[i]) for i in (0, 1)]
    spoken = [set(re.findall(r"[\w'-]+", re.sub(r"\{\w+\}", "", text))) for text in texts]
    assert spoken[1] <= spoken[0]


def test_every_phrasing_of_every_request_can_be_said():
    """All requests, in scenes where all objects are there, until each phrasing of each has come up."""
    scene = toytown.scenes(40, seed=3, held_out=True).with_(**dict.fromkeys(OBJECTS, 1)).rows()
    for request in REQUESTS:
        for held_out in (False, True):
            open_ones = {phrasing: pattern(phrasing) for phrasing in PHRASINGS[request.verb][held_out]}
            for seed in range(100):
                before, after = scene[seed % 40], scene[(seed + 1) % 40]
                words = instruction(request, before, after, random.Random(seed), held_out)
                for phrasing in [phrasing for phrasing, form in open_ones.items() if form.fullmatch(words)]:
                    del open_ones[phrasing]
                if not open_ones:
                    break
            assert "{" not in words and not open_ones, (request, open_ones)


def test_every_verb_has_requests_of_its_kind_and_every_kind_its_class():
    assert {request.verb for request in REQUESTS} == set(PHRASINGS)
    assert len(set(REQUESTS)) == len(REQUESTS)
    for kind in (*KINDS, "ambiguous"):
        assert requests_of(kind) and all(request.verb.startswith(kind) for request in requests_of(kind))
    assert sorted(sum(CLASSES.values(), ())) == sorted((*KINDS, "ambiguous"))


# --- held out of training

def test_training_never_uses_a_phrasing_held_out_and_half_of_the_others_do(train, test):
    forms = {verb: [[pattern(phrasing) for phrasing in phrasings] for phrasings in both]
             for verb, both in PHRASINGS.items()}
    for batch in (train, test):
        hidden_ones = batch.held_out_phrasing.tolist()
        for request, words, hidden in zip(batch.requests, batch.instruction, hidden_ones, strict=True):
            said = [any(form.fullmatch(words) for form in some) for some in forms[request.verb]]
            assert said == ([False, True] if hidden else [True, False]), words
    assert not train.held_out_phrasing.any()
    assert 0.4 < test.held_out_phrasing.float().mean() < 0.6


def test_training_never_shows_nor_names_a_colour_held_out():
    for seed in range(5):
        kinds = ("recolour", "add", "replace", "combine", "relational")
        batch = toytown.edits(50, seed=100 + seed, kinds=kinds)
        shown = [*batch.scenes.rows(), *batch.target_scenes.rows(), *batch.reference_scenes.rows()]
        for scene in shown:
            for column, color in HELD_OUT.items():
                assert not scene[OWNER[column]] or COLORS[scene[column]] != color
        named = " / ".join(batch.instruction)
        for phrase in ("purple car", "orange house", "yellow roof", "green jacket"):
            assert phrase not in named
        assert not batch.held_out.any()


def test_the_test_split_shows_them_and_says_where(test):
    expected = []
    for request, _, source, target, reference in told(test):
        shown = [source, target] + [reference] * (request.kind == "combine")
        expected.append(any(scene[OWNER[column]] and COLORS[scene[column]] == color
                            for scene in shown for column, color in HELD_OUT.items()))
    assert test.held_out_colors.tolist() == expected and 0.1 < sum(expected) / len(expected) < 0.8
    assert torch.equal(test.held_out, test.held_out_phrasing | torch.tensor(expected))


def test_edits_are_made_of_their_parts():
    batch = toytown.edits(4, seed=0)
    rebuilt = Edits(batch.scenes, batch.target_scenes, batch.reference_scenes, batch.requests,
                    batch.instruction, batch.held_out_phrasing)
    assert torch.equal(rebuilt.source, batch.source) and torch.equal(rebuilt.target, batch.target)
    assert torch.equal(replace(batch, size=64).region, batch.region) and len(batch) == 4
