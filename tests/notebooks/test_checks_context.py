"""The checks of notebook 12, fed right answers and wrong ones: they must call each mistake by its name."""

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import context

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def sequence_positions(length, contexts, target, first=1, own=0, start=0, say=(0, 0, 0)):
    """Token by token."""
    rows = [list(say)] * length
    for i, (height, width) in [*enumerate(contexts, first), (own, target)]:
        rows += [[i, start + n // width, start + n % width] for n in range(height * width)]
    return torch.tensor(rows)


def numbered_back(length, contexts, target):
    rows = sequence_positions(length, contexts, target)
    rows[length:, 0] = torch.where(rows[length:, 0] > 0, len(contexts) + 1 - rows[length:, 0], 0)
    return rows


def in_one_row(length, contexts, target):
    rows, right = sequence_positions(length, contexts, target), 0
    for i, (_, width) in enumerate(contexts, 1):
        rows[rows[:, 0] == i] += torch.tensor([0, 0, right])
        right += width
    rows[:, 0] = rows[:, 0].clamp(max=1)
    return rows


def down_the_columns(length, contexts, target):
    rows = [[0, 0, 0]] * length
    for i, (height, width) in [*enumerate(contexts, 1), (0, target)]:
        rows += [[i, n % height, n // height] for n in range(height * width)]
    return torch.tensor(rows)


def words_in_a_row(length, contexts, target):
    rows = sequence_positions(length, contexts, target)
    rows[:length, 2] = torch.arange(length)
    return rows


def rearranged(order):
    """order: of the three parts, 0 = text, 1 = pictures, 2 = target."""
    def laid(length, contexts, target):
        sizes = [length, sum(h * w for h, w in contexts), target[0] * target[1]]
        parts = sequence_positions(length, contexts, target).split(sizes)
        return torch.cat([parts[k] for k in order])
    return laid


SEQUENCE_POSITIONS = {
    "the target's own number": lambda *args: sequence_positions(*args, first=0),
    "last in the count": lambda n, pictures, target: sequence_positions(
        n, pictures, target, 0, len(pictures)),
    "numbered after the pictures": lambda n, pictures, target: sequence_positions(
        n, pictures, target, own=len(pictures) + 1),
    "all pictures have i = 1": lambda *args: sequence_positions(*args).clamp(max=torch.tensor([1, 99, 99])),
    "from the last to the first": numbered_back,
    "side by side": in_one_row,
    "h and w are swapped": lambda *args: sequence_positions(*args)[:, [0, 2, 1]],
    "the columns are turned": lambda *args: sequence_positions(*args).roll(-1, 1),
    "column by column": down_the_columns,
    "laid out along w": words_in_a_row,
    "on top of a token of image 1": lambda *args: sequence_positions(*args, say=(1, 1, 1)),
    "the target comes before the pictures": rearranged([0, 2, 1]),
    "the words come after the pictures": rearranged([1, 0, 2]),
    "the target's size": lambda n, pictures, target: sequence_positions(
        n, [target for _ in pictures], target),
    "counted from 1": lambda *args: sequence_positions(*args, start=1),
    "the words are missing": rearranged([1, 2]),
    "the target is missing": rearranged([0, 1]),
    "the pictures are missing": lambda n, pictures, target: sequence_positions(n, [], target),
    "whole numbers": lambda *args: sequence_positions(*args) / 8,
    "a list that it was given": lambda n, pictures, target: (
        pictures.append(target), sequence_positions(n, pictures[:-1], target))[1],
    "a Tensor expected": lambda *args: sequence_positions(*args).tolist(),
    "no common mistake": lambda *args: 2 * sequence_positions(*args),
}


def predicted(network, text, contexts, target, order="tcx", cut=None):
    """order: t = text, c = pictures, x = target.  cut: where the target's tokens are taken."""
    parts = {"t": [text], "c": list(contexts), "x": [target]}
    sequence = torch.cat([part for letter in order for part in parts[letter]], 1)
    start = sequence.shape[1] - target.shape[1] if cut is None else cut
    return network(sequence).narrow(1, start, target.shape[1])


def ordered(order, cut=None):
    return lambda *args: predicted(*args, order=order, cut=cut)


def showing(choose):
    return lambda network, text, contexts, target: predicted(network, text, choose(contexts, target), target)


def averaged(network, text, contexts, target):
    return torch.stack([predicted(network, text, [picture], target) for picture in contexts]
                       or [predicted(network, text, [], target)]).mean(0)


def along(dim):
    return lambda network, text, contexts, target: network(torch.cat([text, *contexts, target], dim))


def changing_the_list(network, text, contexts, target):
    contexts.insert(0, text)
    contexts.append(target)
    return network(torch.cat(contexts, 1))[:, -target.shape[1] :]


PREDICTED = {
    "*first* tokens are taken": ordered("tcx", cut=0),
    "right behind the words are taken": lambda network, text, contexts, target: predicted(
        network, text, contexts, target, cut=text.shape[1]),
    "the words last": ordered("xct", cut=0),
    "the target stands first here: the order": ordered("xtc", cut=0),
    "before the words here": ordered("ctx"),
    "turned round": showing(lambda contexts, target: contexts[::-1]),
    "the pictures are not shown": ordered("tx"),
    "the words are not said": ordered("cx"),
    "only the first picture": showing(lambda contexts, target: contexts[:1]),
    "only the last picture": showing(lambda contexts, target: contexts[-1:]),
    "a pass to itself": averaged,
    "filled up with zeros": showing(
        lambda contexts, target: contexts + [0 * target for _ in range(2 - len(contexts))]),
    "added to the prediction": lambda *args: predicted(*args) + args[-1],
    "as it went in": lambda network, text, contexts, target: target.clone(),
    "the whole sequence came back": along(1),
    "along the batch": along(0),
    "along the channels": along(2),
    "a list that it was given": changing_the_list,
    "returned None": lambda *args: None,
    "no common mistake": lambda *args: 1.1 * predicted(*args),
}


def flow_loss(network, z0, contexts, t, noise, told=lambda t: t, wanted=(1, -1), line=lambda t: (1 - t, t),
              power=2, total=False):
    """Example by example.  wanted: weights of noise and z0 in what is asked for.  line: of z0 and noise."""
    a, s = line(t)
    z_t = torch.stack([a[n] * z0[n] + s[n] * noise[n] for n in range(len(t))])
    gap = network(z_t, told(t), contexts) - (wanted[0] * noise + wanted[1] * z0)
    each = gap.abs().pow(power).flatten(1)
    return each.sum(1) if total else each.mean(1)


def with_(**changes):
    return lambda *args: flow_loss(*args, **changes)


def noised_too(network, z0, contexts, t, noise):
    wide = t[:, None, None, None]
    return flow_loss(network, z0, [torch.lerp(each, noise, wide) for each in contexts], t, noise)


def one_level_a_column(network, z0, contexts, t, noise):
    return (network(t * noise + (1 - t) * z0, t, contexts) - (noise - z0)).pow(2).flatten(1).mean(1)


def bridge(network, z0, contexts, t, noise):
    return flow_loss(network, z0, contexts, t, contexts[0] if len(contexts) else noise)


def from_before(network, z0, contexts, t, noise):
    return flow_loss(network, contexts[0] if len(contexts) else z0, contexts, t, noise)


def of_all(network, z0, contexts, t, noise):
    return sum(flow_loss(network, each, contexts, t, noise) for each in [z0, *contexts]) / (1 + len(contexts))


FLOW_LOSS = {
    "the pictures are noised as well": noised_too,
    "not shown to the network": lambda network, z0, contexts, t, noise: flow_loss(network, z0, [], t, noise),
    "only the first picture": lambda network, z0, contexts, t, noise: flow_loss(
        network, z0, contexts[:1], t, noise),
    "the sign is turned": with_(wanted=(-1, 1)),
    "DDPM's way": with_(wanted=(1, 0)),
    "asked for the clean target": with_(wanted=(0, 1)),
    "signal and noise are swapped": with_(line=lambda t: (t, 1 - t)),
    "square roots": with_(line=lambda t: ((1 - t).sqrt(), t.sqrt())),
    "one level a *column*": one_level_a_column,
    "which is the answer": with_(line=lambda t: (torch.ones_like(t), 0 * t)),
    "the signal stays": with_(line=lambda t: (torch.ones_like(t), t)),
    "told 1 - t": with_(told=lambda t: 1 - t),
    "a bridge": bridge,
    "learns to copy": from_before,
    "asked for, too": of_all,
    "not squared": with_(power=1),
    "the sum over a picture": with_(total=True),
    "a root too many": lambda *args: flow_loss(*args).sqrt(),
    "one for each example": lambda *args: flow_loss(*args).mean(),
    "as they came": with_(told=lambda t: t[:, None]),
    "in place": lambda network, z0, contexts, t, noise: flow_loss(network, z0.mul_(2), contexts, t, noise),
    "a list that it was given": lambda network, z0, contexts, t, noise: flow_loss(
        network, z0, [each.mul_(2) for each in contexts], t, noise),
    "no common mistake": lambda *args: 0.5 * flow_loss(*args),
}


def turned(uncond, cond, scale, like=None, over=1, direction=None, power=1.0):
    """A unit vector for each cell, then the length."""
    guided = (1 - scale) * uncond + scale * cond if direction is None else direction
    wanted = cond if like is None else like
    unit = guided / torch.linalg.vector_norm(guided, dim=over, keepdim=True) ** power
    return unit * torch.linalg.vector_norm(wanted, dim=over, keepdim=True) ** power


def plain(uncond, cond, scale):
    return uncond.lerp(cond, scale)


def upside_down(uncond, cond, scale):
    guided = plain(uncond, cond, scale)
    return guided * guided.norm(dim=1, keepdim=True) / cond.norm(dim=1, keepdim=True)


def only_shortened(uncond, cond, scale):
    guided = plain(uncond, cond, scale)
    return torch.where(guided.norm(dim=1, keepdim=True) > cond.norm(dim=1, keepdim=True),
                       turned(uncond, cond, scale), guided)


def by_sums(uncond, cond, scale):
    guided = plain(uncond, cond, scale)
    return guided * cond.norm(p=1, dim=1, keepdim=True) / guided.norm(p=1, dim=1, keepdim=True)


def by_deviation(*dims):
    def wrong(uncond, cond, scale):
        guided = plain(uncond, cond, scale)
        return guided / guided.std(dims, keepdim=True) * cond.std(dims, keepdim=True)
    return wrong


def way_only(uncond, cond, scale):
    return uncond + turned(uncond, cond, scale, direction=(cond - uncond) * scale)


TURNED = {
    "plain guidance": plain,
    "for the whole picture": lambda *args: turned(*args, over=(1, 2, 3)),
    "that of a channel": lambda *args: turned(*args, over=(2, 3)),
    "over the pictures of the batch": lambda *args: turned(*args, over=(0, 1)),
    "along the width": lambda *args: turned(*args, over=3),
    "*without* the text": lambda uncond, cond, scale: turned(uncond, cond, scale, like=uncond),
    "upside down": upside_down,
    "length 1": lambda *args: torch.nn.functional.normalize(plain(*args), dim=1),
    "the root is missing": lambda *args: turned(*args, power=2.0),
    "only ever shortened": only_shortened,
    "sum of |values|": by_sums,
    "not from the mean": by_deviation(1),
    "contrast of whole pictures": by_deviation(1, 2, 3),
    "starts from cond": lambda uncond, cond, scale: turned(
        uncond, cond, scale, direction=(1 + scale) * cond - scale * uncond),
    "uncond and cond are swapped": lambda uncond, cond, scale: turned(
        uncond, cond, scale, direction=cond + scale * (uncond - cond)),
    "the start is missing": lambda uncond, cond, scale: turned(
        uncond, cond, scale, direction=(cond - uncond) * scale),
    "the *difference* is brought": way_only,
    "points where cond points": lambda uncond, cond, scale: turned(
        uncond, cond, scale, like=plain(uncond, cond, scale), direction=cond),
    "this is cond": lambda uncond, cond, scale: cond.clone(),
    "in place": lambda uncond, cond, scale: turned(uncond.mul_(2), cond, scale),
    "(2, 5, 3, 4)": lambda *args: turned(*args)[0],
    "no common mistake": lambda *args: 0.9 * turned(*args),
    "it raised TypeError": lambda uncond, cond: turned(uncond, cond, 1.0),
}


CHECKS = [
    (context.check_sequence_positions, sequence_positions, SEQUENCE_POSITIONS),
    (context.check_predicted, predicted, PREDICTED),
    (context.check_flow_loss, flow_loss, FLOW_LOSS),
    (context.check_turned, turned, TURNED),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
