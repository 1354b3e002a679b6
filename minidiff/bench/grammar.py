"""The unified editor over the whole grammar of edits: kind by kind, beside what its codec alone loses

Edits of the frozen test split. The columns are those of `edits`: "success", "truth", "kept", "changed",
"survived". "floor" is what the round trip through the VAE keeps outside the region, the median of local
edits, and "over floor" what the editor keeps beyond it: what comes out of the decoder hardly gets above 0.
"far": the same, but only where nothing changes within 8 pixels, a token's side: what is lost nearer by may
belong to the change itself; 60 dB are counted at most, some 20 above the floor. "strict": success, and at
least the smaller of 35 dB and the floor less 1 dB kept, or all survived; the same for all editors here.
"codec: source" is the round trip of the source, "codec: truth" that of the true render, about as good as a
decoded edit can be. "pictures as tokens" is the unified editor, its results as they leave the decoder. "put
back": the same results, with the source's own pixels where the edit changed none, as `minidiff edit` hands
them out; neither a truth nor a mask is asked for that. "combine" takes from image 2: an object's look, an
object that was not there, a colour, the style. "a picture more": the same edits, told to take from one of two
pictures, image 2 or image 3, where the other one is a rival's, nearly always one that would do as well;
"right picture": where it would, the result is nearer to the truth than to the edit by the other one; a coin
would get .5. ± is half of a 95 % interval.
"""

from functools import partial

import torch

from minidiff.bench.common import last, seeded
from minidiff.bench.edits import BATCH, COLUMNS, FOUR, edited, row
from minidiff.bench.judging import NULL_EDITORS, TARGETED, TESTED, first_of_each, held_out_edits, judged
from minidiff.control.context import SCALE, context_walk
from minidiff.control.masks import LEAST, change_mask
from minidiff.encoders.vae import codec_floor
from minidiff.images import grown, to_uint8, to_x0
from minidiff.measure.quality import psnr
from minidiff.process.sample import normal_like
from minidiff.toytown.glyphs import LATIN
from minidiff.toytown.paint import paint
from minidiff.toytown.requests import CLASSES
from minidiff.toytown.scene import Scenes

WEIGHTS = "town-context"
QUICK = dict(each=2, few=1, steps=2)
KINDS = (*TESTED, "combine")
CONTEXT, TRUTH = "pictures as tokens", "codec: truth"
BACK, FREE, MORE = CONTEXT + ", put back", CONTEXT + ", guidance off", CONTEXT + ", a picture more"
FAR = 8                                                         # pixels, a token's side
WITH_FLOOR = (*COLUMNS, ("floor (dB)", "floor", "median"), ("over floor (dB)", "over floor", "median"),
              ("far (dB)", "far", "median"))
APART = (*WITH_FLOOR, ("right picture", "right", "mean"))


def rows(model, each=80, few=12, steps=20, seed=0):
    """A row for each editor and group of edits.

    each: edits of a kind; few: for the editors whose figures are known beforehand, nearly.  steps: of Euler.
    """
    edits = held_out_edits(each, model.size, KINDS)
    some = edits[first_of_each(edits.kind, KINDS, few)]
    editors = {name: (edit, None, some) for name, edit in NULL_EDITORS.items()}
    editors["codec: source"] = partial(by_codec, model, what="source"), None, some
    editors[TRUTH] = partial(by_codec, model, what="target"), None, edits
    editors[CONTEXT] = partial(by_context, steps=steps), model, edits
    editors[FREE] = partial(by_context, steps=steps, scale=1.0), model, edits
    taking = edits[edits.has_reference]
    taking = taking[: len(taking) - (len(taking) % BATCH == 1)] # none is alone in its batch
    if len(taking):
        editors[MORE] = partial(by_context, steps=steps, others=image_3), model, taking
    results = []
    for name, (edit, network, batch) in editors.items():
        results.append((name, batch, *edited(edit, network, batch, seeded(seed), name)))
        if name == CONTEXT:
            *_, outputs, costs = results[-1]
            results.append((BACK, batch, put_back(model, outputs, batch), costs))
    found = []
    for name, batch, outputs, costs in results:
        figures = judged_in_latents(outputs, batch, model)
        chosen_by = of_the_two(batch) if name == MORE else groups(batch, name in (TRUTH, CONTEXT, BACK))
        figures["right"] = told_apart(outputs, batch) if name == MORE else torch.full([len(batch)], torch.nan)
        found += [row(name, group, chosen, figures, costs, APART)
                  for group, chosen in chosen_by.items() if chosen.any()]
    return found


def chief(rows):
    """Group -> success of the unified editor; and what it keeps, and beyond its codec's floor, in dB."""
    own, back = ({row["edits"]: row for row in rows if row["editor"] == name} for name in (CONTEXT, BACK))
    found = {f"success, {group}": round(row["success"].value, 3) for group, row in own.items()}
    found["success, all, put back"] = round(back["all"]["success"].value, 3)
    for column in ("kept (dB)", "over floor (dB)"):
        found |= {f"{column}, all": round(own["all"][column].value, 2),
                  f"{column}, all, put back": round(back["all"][column].value, 2)}
    return {WEIGHTS: found, "town-vae": {"floor (dB), all": round(own["all"]["floor (dB)"].value, 2)}}


def groups(edits, detailed):
    """Name -> bool (n,): all edits, the classes of the grammar; detailed: kinds, verbs, what is held out."""
    def of(values, *wanted):
        return torch.tensor([value in wanted for value in values])

    kinds, verbs = edits.kind, [request.verb for request in edits.requests]
    found = {"all": of(kinds, *KINDS), FOUR: of(kinds, *TARGETED),
             "appearance": of(kinds, *CLASSES["appearance"]), "season and time": of(kinds, "season", "time")}
    found |= {kind: of(kinds, kind) for kind in ("style", "text", "combine", "relational")}
    if not detailed:
        return found
    chinese = edits.target_scenes.sign_text[:, 0] > len(LATIN)
    found |= {kind: of(kinds, kind) for kind in (*CLASSES["appearance"], "season", "time")}
    found |= {"text, Latin": found["text"] & ~chinese, "text, Chinese": found["text"] & chinese}
    found |= {verb: of(verbs, verb) for verb in sorted(set(verbs)) if verb.startswith(("combine", "relat"))}
    return found | {"nothing held out": ~edits.held_out, "held-out phrasing": edits.held_out_phrasing,
                    "held-out colour": edits.held_out_colors}


def image_2(edits):
    """(instructions, [image 2]) of edits that speak of one; (instructions, []) of others."""
    return edits.instruction, [edits.reference] if edits.has_reference.all() else []


def image_3(edits):
    """(instructions, [image 2, image 3]): every other edit takes from image 3."""
    words, *pictures = edits.among_three(takes_image_3(edits))
    return words, pictures


def takes_image_3(edits):
    """bool (n,): every other one."""
    return torch.arange(len(edits)) % 2 == 1


def of_the_two(edits):
    """Name -> bool (n,): the edits of `image_3` that take from image 2, and from image 3."""
    third = takes_image_3(edits)
    return {"combine, of image 2": ~third, "combine, of image 3": third}


def told_apart(outputs, edits):
    """(n,) float64, 1 = a result of `image_3` is nearer to its truth than to the edit by the other picture.

    nan where these are the same, or where the request makes no sense with the other picture.
    """
    wrong = torch.cat([with_the_other(edits[i : i + BATCH]) for i in range(0, len(edits), BATCH)])
    right, mistaken = ((outputs - picture).square().mean((1, 2, 3)) for picture in (edits.target, wrong))
    alike = (edits.target == wrong).flatten(1).all(1)
    return (right < mistaken).double().masked_fill(alike | wrong.isnan().flatten(1).any(1), torch.nan)


def with_the_other(edits):
    """(n, 3, H, W): the edits, but from the rival's picture; nan where Edits.taking_from says it won't do."""
    done, would_do = zip(*(edits.taking_from(i, rival) for i, rival in enumerate(edits.rivals.split(1))))
    pictures = paint(Scenes.cat(done), edits.size)
    return pictures.masked_fill(~torch.cat(would_do).view(-1, 1, 1, 1), torch.nan)


def judged_in_latents(outputs, edits, model):
    """As judging.judged, with the model's codec in mind: what it keeps is known, too.

    floor, over floor, far: dB, nan for global edits; far: nan also where there is no such pixel.
    """
    source, keep, far = edits.source.to(model.device), ~edits.region, ~grown(edits.region, FAR)
    floor, far_floor = (codec_floor(model.vae, source, where.to(model.device)).cpu().double()
                        for where in (keep, far))
    figures = judged(outputs, edits, floor=floor)
    local = floor.masked_fill(edits.is_global, torch.nan)
    beyond = (psnr(outputs, edits.source, far) - far_floor).masked_fill(edits.is_global, torch.nan)
    return figures | {"floor": local, "over floor": figures["kept"] - local, "far": beyond}


def by_codec(model, edits, generator, what):
    """The round trip of the source or of the target."""
    return model.vae.round_trip(getattr(edits, what).to(model.device)).cpu()


def by_context(model, edits, generator, steps, scale=SCALE, walk=context_walk, others=image_2):
    """The unified editor. Edits with an image 2 and edits without are two batches.

    walk: as context_walk.  others: edits -> what is said, and the pictures beside the source, as image_2.
    """
    outputs = torch.empty_like(edits.source)
    for where in (edits.has_reference, ~edits.has_reference):
        if where.any():
            words, pictures = others(edits[where])
            contexts = [model.latents(x.to(model.device)) for x in (edits.source[where], *pictures)]
            noise = normal_like(contexts[0], generator)
            z = last(walk(model, list(words), contexts, noise, generator, steps, scale))
            outputs[where] = model.decode(z).cpu()
    return outputs


def put_back(model, outputs, edits, least=LEAST, gap=1):
    """Results with the source's own pixels where the edits changed none, decided on bytes as by Edit.judge.

    outputs: decoded, (n, 3, H, W), for n edits.  least, gap: as in change_mask.  Returns the same shape.
    """
    source, decoded = (to_x0(to_uint8(pictures)).to(model.device) for pictures in (edits.source, outputs))
    changed = change_mask(decoded, model.round_trip(source), least, gap).cpu()
    return torch.where(changed, outputs, edits.source)
