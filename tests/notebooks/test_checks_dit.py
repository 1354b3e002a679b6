"""The checks of notebook 10, fed right answers and wrong ones: they must call each mistake by its name."""

import torch
import torch.nn.functional as F

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import dit

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def into_patches(picture, patch):
    """F.unfold does it: each column of its result is a patch, channel by channel."""
    return F.unfold(picture, patch, stride=patch).transpose(1, 2)


def split(picture, patch):
    """(B, C, rows, patch, columns, patch)."""
    b, c, h, w = picture.shape
    return picture.reshape(b, c, h // patch, patch, w // patch, patch)


def by(*order):
    """Permute the six axes of `split`, and flatten to tokens."""
    def cut(picture, patch):
        return split(picture, patch).permute(order).flatten(3).flatten(1, 2)
    return cut


def every_so_many(picture, patch):
    rows, columns = picture.shape[2] // patch, picture.shape[3] // patch
    tokens = [picture[:, :, i::rows, j::columns].flatten(1) for i in range(rows) for j in range(columns)]
    return torch.stack(tokens, 1)


def few_large_pieces(picture, patch):
    side = picture.shape[2] // patch, picture.shape[3] // patch
    return F.unfold(picture, side, stride=side).transpose(1, 2)


def channels_apart(picture, patch):
    return into_patches(picture, patch).unflatten(2, (-1, patch**2)).transpose(1, 2)


INTO_PATCHES = {
    "a reshape alone": lambda picture, patch: picture.reshape(len(picture), -1, picture[0, :, 0, 0].numel()
                                                              * patch**2),
    "of a strip": lambda picture, patch: torch.cat([channel.reshape(len(picture), -1, patch**2)
                                                    for channel in picture.unbind(1)], dim=2),
    "the channels come last": by(0, 2, 4, 3, 5, 1),
    "tokens go column by column": by(0, 4, 2, 1, 3, 5),
    "the pixels of a patch go column by column": by(0, 2, 4, 1, 5, 3),
    "in the picture and in each patch": by(0, 4, 2, 1, 5, 3),
    "every so many-th pixel": every_so_many,
    "the tokens come last": lambda picture, patch: F.unfold(picture, patch, stride=patch),
    "are kept apart": channels_apart,
    "patch x patch pieces": few_large_pieces,
    "two axes": lambda picture, patch: split(picture, patch).permute(0, 2, 4, 1, 3, 5).flatten(3),
    "do not fit": lambda picture, patch: picture.reshape(len(picture), -1, patch, patch, patch, patch, 7),
    "no common mistake": lambda picture, patch: into_patches(picture, patch).flip(1),
}


def turn(x, angle):
    """Multiplication by exp(i angle), in complex numbers."""
    half = x.shape[3] // 2
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angle)
    return torch.cat([turned.real, turned.imag], dim=3)


def with_rows(first, second):
    """Each half as a function of (a, b, cos, sin)."""
    def turning(x, angle):
        half = x.shape[3] // 2
        parts = x[..., :half], x[..., half:], angle.cos(), angle.sin()
        return torch.cat([first(*parts), second(*parts)], dim=3)
    return turning


def pairs_of_neighbours(x, angle):
    turned = torch.view_as_complex(x.unflatten(3, (-1, 2)).contiguous()) * torch.exp(1j * angle)
    return torch.view_as_real(turned).flatten(3)


def alternating(x, angle):
    return torch.stack(turn(x, angle).chunk(2, dim=3), dim=4).flatten(3)


def x_part(a, b, cos, sin):
    return a * cos - b * sin


def y_part(a, b, cos, sin):
    return b * cos + a * sin


TURN = {
    "the other way": lambda x, angle: turn(x, -angle),
    "others do it so": pairs_of_neighbours,
    "what comes out is halves": lambda x, angle: torch.cat(
        [pairs_of_neighbours(x, angle)[..., i::2] for i in (0, 1)], dim=3),
    "come out alternating": alternating,
    "a sign is missing": with_rows(lambda a, b, cos, sin: a * cos + b * sin, y_part),
    "Yours mirrors": with_rows(x_part, lambda a, b, cos, sin: a * sin - b * cos),
    "only the first half": with_rows(x_part, lambda a, b, cos, sin: b),
    "the sines are missing": lambda x, angle: x * torch.cat([angle.cos()] * 2, dim=1),
    "before its sine": with_rows(x_part, lambda a, b, cos, sin: b * cos - a * sin),
    "sine and cosine are swapped": with_rows(lambda a, b, cos, sin: a * sin - b * cos,
                                             lambda a, b, cos, sin: a * cos + b * sin),
    "swapped before they are turned": lambda x, angle: turn(x.roll(x.shape[3] // 2, 3), angle),
    "in the wrong order": lambda x, angle: turn(x, angle).roll(x.shape[3] // 2, 3),
    "from the *turned* first half": with_rows(
        x_part, lambda a, b, cos, sin: y_part(x_part(a, b, cos, sin), b, cos, sin)),
    "along the heads": lambda x, angle: turn(x, angle.unsqueeze(1)),
    "taken for degrees": lambda x, angle: turn(x, torch.deg2rad(angle)),
    "last first": lambda x, angle: turn(x.flip(2), angle).flip(2),
    "is added": lambda x, angle: x + torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)[None, None],
    "nothing is turned": lambda x, angle: 1.0 * x,
    "do not broadcast": lambda x, angle: x * torch.cat([angle, angle, angle], dim=1).cos(),
    "no common mistake": lambda x, angle: turn(x, 2 * angle),
}


def gated(x, layer, shift, scale, gate, plus=1.0, norm=None, keep=1.0, open_by=0.0):
    """Picture by picture, with PyTorch's own layer norm."""
    rows = []
    for i in range(len(x)):
        normed = F.layer_norm(x[i : i + 1], x.shape[2:]) if norm is None else norm(x[i : i + 1])
        rows.append(keep * x[i : i + 1] + (open_by + gate[i]) * layer(normed * (plus + scale[i]) + shift[i]))
    return torch.cat(rows)


def normed_by(norm):
    return lambda *args: gated(*args, norm=norm)


def centred(x, dim):
    return x - x.mean(dim, keepdim=True)


def told(use):
    """use(x, layer, normed, shift, scale, gate), with (B, 1, D) each."""
    def add(x, layer, *told):
        return use(x, layer, F.layer_norm(x, x.shape[2:]), *(part.unsqueeze(1) for part in told))
    return add


GATED = {
    "scale, not 1 + scale": lambda *args: gated(*args, plus=0.0),
    "the shift comes before": told(
        lambda x, f, h, shift, scale, gate: x + gate * f((h + shift) * (1 + scale))),
    "shift and scale are swapped": lambda x, f, shift, scale, gate: gated(x, f, scale, shift, gate),
    "are not used": told(lambda x, f, h, shift, scale, gate: x + gate * f(h)),
    "there is no norm": normed_by(lambda x: x),
    "runs over the tokens:": normed_by(
        lambda x: centred(x, 1) / (centred(x, 1).square().mean(1, keepdim=True) + 1e-5) ** 0.5),
    "tokens and channels together": normed_by(lambda x: F.layer_norm(x, x.shape[1:])),
    "divided by D - 1": normed_by(lambda x: centred(x, 2) / (x.std(2, keepdim=True) ** 2 + 1e-5) ** 0.5),
    "the mean is not taken away": normed_by(lambda x: x / (x.square().mean(2, keepdim=True) + 1e-5) ** 0.5),
    "the root is forgotten": normed_by(
        lambda x: centred(x, 2) / (centred(x, 2).square().mean(2, keepdim=True) + 1e-5)),
    "x itself is gone": lambda *args: gated(*args, keep=0.0),
    "from the normed tokens": told(
        lambda x, f, h, shift, scale, gate: h + gate * f(h * (1 + scale) + shift)),
    "closes x as well": told(
        lambda x, f, h, shift, scale, gate: gate * (x + f(h * (1 + scale) + shift))),
    "the gate is missing": told(lambda x, f, h, shift, scale, gate: x + f(h * (1 + scale) + shift)),
    "the gate is 1 + gate": lambda *args: gated(*args, open_by=1.0),
    "through a sigmoid": lambda x, f, shift, scale, gate: gated(x, f, shift, scale, gate.sigmoid()),
    "before the layer": told(lambda x, f, h, shift, scale, gate: x + f(gate * (h * (1 + scale) + shift))),
    "added twice": told(lambda x, f, h, shift, scale, gate: x + gate * (x + f(h * (1 + scale) + shift))),
    "the layer is not asked": told(lambda x, f, h, shift, scale, gate: x + gate * (h * (1 + scale) + shift)),
    "along the tokens": lambda x, f, shift, scale, gate: x + gate * f(
        F.layer_norm(x, x.shape[2:]) * (1 + scale) + shift),
    "make them (B, 1, D)": lambda x, f, shift, scale, gate: x + gate[:, :7] * f(x),
    "no common mistake": lambda *args: gated(*args, open_by=0.5),
}


def look_together(text, picture, order=1, **how):
    """PyTorch's own attention over all tokens."""
    q, k, v = (torch.cat([one, other][::order], dim=2) for one, other in zip(text, picture))
    return beside(F.scaled_dot_product_attention(q, k, v, **how))


def beside(heads):
    return torch.cat(list(heads.unbind(1)), dim=2)


def seeing(text_sees, picture_sees):
    """text_sees, picture_sees: (words, patches), whether each may be looked at."""
    def look(text, picture):
        counts = torch.tensor([text.shape[3], picture.shape[3]])
        visible = torch.tensor([text_sees, picture_sees])                                  # (2, 2)
        visible = visible.repeat_interleave(counts, 0).repeat_interleave(counts, 1)        # (L + N, L + N)
        return look_together(text, picture, attn_mask=visible)
    return look


def weighing(weigh):
    """weigh(scores) in place of the softmax."""
    def look(text, picture):
        q, k, v = torch.cat([text, picture], dim=3)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[3] ** 0.5
        return beside(torch.einsum("bhqk,bhkd->bhqd", weigh(scores), v))
    return look


def halves(text, picture):
    q = torch.cat([text[0], picture[0]], dim=2)
    words, patches = (F.scaled_dot_product_attention(q, part[1], part[2]) for part in (text, picture))
    return beside(0.5 * words + 0.5 * patches)


def mixed_up(text, picture):
    v = torch.cat([picture[2], text[2]], dim=2)
    length = text.shape[3]
    return look_together(torch.stack([text[0], text[1], v[:, :, :length]]),
                         torch.stack([picture[0], picture[1], v[:, :, length:]]))


def sharpest(scores):
    return (scores == scores.amax(3, keepdim=True)).to(scores)


def apart(text, picture):
    return look_together(text, picture).unflatten(2, (text.shape[2], -1)).transpose(1, 2)


LOOK_TOGETHER = {
    "words look at words only": seeing((True, False), (False, True)),
    "words do not look at the picture": seeing((True, False), (True, True)),
    "patches do not look at the words": seeing((True, True), (False, True)),
    "patches at words only": seeing((False, True), (True, False)),
    "two softmaxes": halves,
    "not divided by sqrt(D)": lambda *args: look_together(*args, scale=1.0),
    "divided by D:": lambda text, picture: look_together(text, picture, scale=1 / text.shape[4]),
    "root of heads D": lambda text, picture: look_together(
        text, picture, scale=(text.shape[4] * text.shape[2]) ** -0.5),
    "over the queries": weighing(lambda scores: scores.softmax(2)),
    "there is no softmax": weighing(lambda scores: scores),
    "do not sum to 1": weighing(torch.exp),
    "the likeliest": weighing(sharpest),
    "the picture comes first": lambda *args: look_together(*args, order=-1),
    "in different orders": mixed_up,
    "keys ask": lambda text, picture: look_together(text[[1, 0, 2]], picture[[1, 0, 2]]),
    "mixes tokens and heads": lambda text, picture: apart(text, picture).contiguous().view(
        text.shape[1], -1, text.shape[2] * text.shape[4]),
    "heads alternate": lambda text, picture: torch.stack(
        list(apart(text, picture).unbind(1)), dim=3).flatten(2),
    "the heads are averaged": lambda text, picture: torch.cat(
        [apart(text, picture).mean(1)] * text.shape[2], dim=2),
    "still apart": apart,
    "only the patches": lambda text, picture: look_together(text, picture)[:, text.shape[3] :],
    "no common mistake": weighing(lambda scores: (2 * scores).softmax(3)),
}

CHECKS = [
    (dit.check_into_patches, into_patches, INTO_PATCHES),
    (dit.check_turn, turn, TURN),
    (dit.check_gated, gated, GATED),
    (dit.check_look_together, look_together, LOOK_TOGETHER),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
