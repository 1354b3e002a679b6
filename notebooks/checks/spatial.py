"""Checks for 08_spatial_control: depth_map, spoken, follow, explained."""

import torch

from minidiff.process.guidance import cfg

from .verdict import Case, judge, normal

AT_HORIZON = 0.1                                                  # how near the ground is there


def check_depth_map(answer):
    """answer(masks, baselines, horizon) -> (1, 3, H, W): a depth map of upright things on the ground."""
    behind, before, besides = box(3, 8, 2, 7), box(4, 10, 5, 9), box(6, 11, 10, 12)
    cases = [Case("two things, the second in front", (torch.stack([behind, before]), numbers(8, 10), 0.52)),
             Case("two things, the first in front", (torch.stack([before, behind]), numbers(10, 8), 0.58)),
             Case("three things", (torch.stack([behind, before, besides]), numbers(8, 10, 11), 0.45))]

    def on_plane(y, horizon):
        return AT_HORIZON + (1 - AT_HORIZON) * (y - horizon) / (1 - horizon)

    def centre(height):
        return (torch.arange(height) + 0.5) / height

    def nearest(ground, things, masks):
        return torch.cat([ground[None], torch.where(masks, things, -9.0)]).amax(0)

    def farthest(ground, things, masks):
        found = torch.where(masks, things, 9.0).amin(0)
        return torch.where(masks.any(0), found, ground)

    def added(ground, things, masks):
        return torch.where(masks.any(0), torch.where(masks, things, 0).sum(0), ground)

    def last_wins(ground, things, masks):
        for thing, mask in zip(things, masks):
            ground = torch.where(mask, thing, ground)
        return ground

    def first_wins(ground, things, masks):
        return last_wins(ground, things.flip(0), masks.flip(0))

    def no_things(ground, things, masks):
        return ground

    def drawing(join=nearest, plane=on_plane, rows=centre, sky=True, shade=lambda near: 2 * near - 1):
        def draw(masks, baselines, horizon):
            height, width = masks.shape[1:]
            ground = plane(rows(height), horizon)
            ground = ground.clamp(min=0) * (rows(height) >= horizon) if sky else ground
            things = plane(baselines, horizon)[:, None, None]
            near = join(ground[:, None].expand(height, width), things, masks)
            return shade(near).expand(1, 3, height, width)
        return draw

    def from_the_top(masks, baselines, horizon):
        tops = torch.stack([mask.any(1).float().argmax() for mask in masks]) / masks.shape[1]
        return drawing(join=last_wins)(masks, tops, horizon)

    return judge("depth_map", answer, drawing(), cases, [
        (drawing(shade=lambda near: near),
         "it runs from 0 to 1: the network takes pictures, -1 to 1, so black is -1. It is 2 near - 1."),
        (drawing(shade=lambda near: 1 - 2 * near),
         "it is inverted: white is *near*. An inverted map is a valid picture, and nobody will refuse it."),
        (drawing(join=last_wins),
         "the last thing in the list wins, whatever stands in front: where two overlap, the nearer one is "
         "seen."),
        (drawing(join=first_wins),
         "the first thing in the list wins, whatever stands in front: where two overlap, the nearer one is "
         "seen."),
        (drawing(join=farthest),
         "where two things overlap, the farther one is seen: take the largest nearness, not the smallest."),
        (drawing(join=added),
         "where two things overlap their nearness is added up: take the largest."),
        (drawing(join=no_things),
         "only the ground is there: every mask gets the nearness of its baseline, all the way up."),
        (from_the_top,
         "a thing is as near as the ground at its *baseline*, where it stands, not at its top."),
        (drawing(plane=lambda y, horizon: y),
         "y itself is no nearness: on a plane it is .1 + .9 (y - h) / (1 - h), for the ground and for the "
         "baselines."),
        (drawing(plane=lambda y, horizon: (y - horizon) / (1 - horizon)),
         "the .1 is missing: at the horizon the ground is at .1, so that it differs from the sky's 0."),
        (drawing(sky=False),
         "the plane goes on above the horizon, down to negative values: there is sky, at 0."),
        (drawing(plane=lambda y, horizon: AT_HORIZON + (1 - AT_HORIZON) * (y - horizon) / horizon),
         "the ground reaches from h down to 1, so y - h is divided by 1 - h, not by h."),
        (drawing(rows=lambda height: torch.arange(height) / height),
         "the rows are half a pixel too high: the middle of row i is at (i + .5) / H."),
        (drawing(rows=lambda height: torch.linspace(0, 1, height)),
         "linspace(0, 1, H) takes the picture's edges for the middles of rows: row i is at (i + .5) / H."),
    ], raised={
        "the result is (1, 1, ": "one channel came: all maps are pictures of three, so that one branch can "
                                 "read any of them. `.expand(1, 3, H, W)` does it.",
        "the result is (3, ": "the batch dimension is missing: (1, 3, H, W).",
    }, praise="right. Whatever stands in front is nearer, so the largest value is what is seen.")


def check_spoken(answer):
    """answer(skip, hint, weight, bias) -> skip + a 1x1 convolution of hint.  weight: (C, C).  bias: (C,)."""
    cases = []
    for seed, (batch, channels, side) in enumerate([(2, 5, 4), (3, 4, 4)]):
        tensors = normal(seed, batch, channels, side, side), normal(seed + 10, batch, channels, side, side)
        cases.append(Case(f"{channels} channels", (*tensors, normal(seed + 20, channels, channels),
                                                   normal(seed + 30, channels))))
    zeros = torch.zeros(4, 4), torch.zeros(4)
    cases.append(Case("all weights zero", (normal(7, 2, 4, 4, 4), normal(8, 2, 4, 4, 4), *zeros)))

    def through(hint, weight, bias):
        return torch.einsum("oi,bihw->bohw", weight, hint) + bias.view(-1, 1, 1)

    def spoken(skip, hint, weight, bias):
        return skip + through(hint, weight, bias)

    def bias_along(*shape):
        def wrong(skip, hint, weight, bias):
            if len(bias) != skip.shape[-1]:
                raise RuntimeError("The size of tensor a must match the size of tensor b")
            return skip + torch.einsum("oi,bihw->bohw", weight, hint) + bias.view(shape)
        return wrong

    return judge("spoken", answer, spoken, cases, [
        (lambda skip, hint, weight, bias: spoken(skip, hint, weight.T, bias),
         "the weights are transposed: weight[o, i] is what channel i of the hint gives to channel o of the "
         "skip."),
        (lambda skip, hint, weight, bias: spoken(skip, hint, weight, 0 * bias),
         "the bias is missing: a 1x1 convolution is weight times hint, plus bias."),
        (bias_along(1, 1, 1, -1),
         "the bias is added along the width of the picture, which happens to fit: it is one number a "
         "*channel*, so view it as (C, 1, 1)."),
        (bias_along(1, 1, -1, 1),
         "the bias is added along the height of the picture, which happens to fit: it is one number a "
         "*channel*, so view it as (C, 1, 1)."),
        (lambda skip, hint, weight, bias: through(hint, weight, bias),
         "the skip is gone: the branch *adds* to what the base has made. With all weights zero, the base "
         "would be silenced, not left alone."),
        (lambda skip, hint, weight, bias: skip + hint,
         "the hint is added as it is, past the convolution: so from the first step on the base is disturbed "
         "by a second voice. Its way in starts at zero."),
        (lambda skip, hint, weight, bias: through(skip + hint, weight, bias),
         "skip and hint go through the convolution together: with all weights zero nothing is left of the "
         "base. Only the hint goes through."),
        (lambda skip, hint, weight, bias: hint + through(skip, weight, bias),
         "the two are swapped: the *hint* goes through the convolution, and the skip stays as it is."),
        (lambda skip, hint, weight, bias: skip * (1 + through(hint, weight, bias)),
         "the skip is multiplied: the branch adds, it does not scale."),
        (lambda skip, hint, weight, bias: skip - through(hint, weight, bias),
         "it is subtracted: h + zero(hint)."),
        (lambda skip, hint, weight, bias: spoken(skip, hint, weight.diagonal().diag(), bias),
         "each channel speaks to itself only, by the diagonal of weight: a 1x1 convolution mixes all "
         "channels."),
        (lambda skip, hint, weight, bias: skip + hint * weight.sum(1).view(-1, 1, 1) + bias.view(-1, 1, 1),
         "weight is summed before it meets the hint: each of its numbers has a channel of its own to "
         "multiply."),
        (lambda skip, hint, weight, bias: skip,
         "the branch is not heard at all: add what its convolution makes of the hint."),
    ], praise="right. With all weights zero it is the skip, bit for bit: untrained, it changes nothing.")


def check_follow(answer):
    """answer(network, x_t, map, text, no_text, scale) -> (B, 3, H, W), guided; both branches see the map."""
    cases = []
    for n, scale in [(2, 3.0), (3, 1.5)]:
        pictures = normal(n, n, 3, 4, 4), normal(n + 10, n, 3, 4, 4).tanh()
        cases.append(Case(f"{n} pictures, scale {scale}", (network, *pictures, normal(n + 20, n, 5),
                                                           normal(30, 5), scale)))

    def asking(without=lambda x, m, no, text: (no, m), having=lambda x, m, no, text: (text, m), join=cfg,
               noisy=lambda x: torch.cat([x, x]), take=lambda out: out.chunk(2)):
        def ask(network, x_t, map, text, no_text, scale):
            empty = no_text.expand_as(text)
            (one, map_one), (other, map_other) = (each(x_t, map, empty, text) for each in (without, having))
            found = network(noisy(x_t), torch.cat([one, other]), torch.cat([map_one, map_other]))
            return join(*take(found), scale)
        return ask

    def two_passes(network, x_t, map, text, no_text, scale):
        return cfg(network(x_t, no_text.expand_as(text), map), network(x_t, text, map), scale)

    follow = asking()
    return judge("follow", answer, follow, cases, [
        (two_passes,
         "right in value, but in two passes: the network is there to be called once, with a batch of 2 B."),
        (asking(without=lambda x, m, no, text: (no, 0 * m)),
         "only the branch with the text sees the map (the other gets zeros, which is no map but a grey one): "
         "then the scale exaggerates the map as well, not only the text."),
        (asking(without=lambda x, m, no, text: (no, 0 * m - 1)),
         "only the branch with the text sees the map (the other gets black): then the scale exaggerates the "
         "map as well, not only the text."),
        (asking(having=lambda x, m, no, text: (text, 0 * m)),
         "the branch with the text does not see the map: guidance then walks *away* from it."),
        (asking(without=lambda x, m, no, text: (text, 0 * m)),
         "it is the map that is left out, and the text that both see: that is guidance by the map."),
        (asking(lambda x, m, no, text: (text, m), lambda x, m, no, text: (no, m)),
         "the two are swapped: it walks from the text to no text. Empty text first."),
        (asking(join=lambda uncond, cond, scale: cond),
         "there is no guidance: either both branches read the text, or the prediction with it is returned as "
         "it is."),
        (asking(join=lambda uncond, cond, scale: uncond),
         "the text is never read: either both branches get no_text, or the prediction without it is returned "
         "as it is."),
        (asking(join=lambda uncond, cond, scale: cond + scale * (cond - uncond)),
         "it starts from the prediction with text: scale 1 would then overdo it. Start from the one without; "
         "scale 1 means guidance off."),
        (asking(join=lambda uncond, cond, scale: uncond + scale * cond),
         "predictions are added, not their difference: without + scale (with - without)."),
        (asking(join=lambda uncond, cond, scale: scale * (cond - uncond)),
         "the start is missing: a difference alone is no picture. Add it to the prediction without text."),
        (asking(take=lambda out: (out[0::2], out[1::2])),
         "the batch was put together in blocks, but is taken apart one by one: use chunk(2)."),
        (asking(noisy=lambda x: x.repeat_interleave(2, 0)),
         "x_t is repeated picture by picture, while texts and maps come block by block: torch.cat([x_t, "
         "x_t])."),
    ], raised={
        "the same batch size": "one batch needs 2 B of everything: x_t twice, the map twice, no_text and "
                               "text.",
    }, praise="right. The map is in both answers, so the scale exaggerates what the text adds, and no more.")


def network(x_t, text, map):
    """A stand-in for the controlled network: a different answer for every input, one pass at a time.

    The pictures of a batch hear of its size, so that one pass of 2 B and two of B can be told apart.
    """
    if not len(x_t) == len(text) == len(map):
        found = f"x_t has {len(x_t)}, text {len(text)}, map {len(map)}"
        raise ValueError(f"{found}: the same batch size expected")
    words = text.cos().mean(1).view(-1, 1, 1, 1)
    return x_t * words + map * (1 + words) ** 2 + 0.1 * len(x_t)


def check_explained(answer):
    """answer(picture, parts) -> scalar.  picture: (3, H, W).  parts: bool (R, H, W), disjoint."""
    layouts = [torch.stack([box(0, 5, 0, 12), box(5, 12, 0, 4), box(5, 12, 4, 12)]),
               torch.stack([box(1, 4, 2, 9), box(6, 11, 0, 7)])]  # the second leaves pixels out
    layouts.append(layouts[0][:, :, :9])
    cases = []
    for seed, (parts, grain) in enumerate(zip(layouts, (0.3, 0.5, 1.0))):
        shades = normal(seed + 40, len(parts), 3) * torch.tensor([1.0, 0.4, 0.7])
        flat = torch.einsum("rhw,rc->chw", parts.float(), shades) + 0.5
        picture = flat + grain * normal(seed + 50, *flat.shape)
        cases.append(Case(f"{len(parts)} parts, grain {grain}", (picture, parts)))

    def mean_of(values, cells):
        return values[:, cells].mean(1, keepdim=True)             # (3, 1)

    def fitting(fit=mean_of, centre=mean_of, everywhere=False, power=2,
                turn=lambda rest, total: 1 - rest / total):
        def share(picture, parts):
            inside = torch.ones_like(parts[0]) if everywhere else parts.any(0)
            flat = centre(picture, inside)[:, :, None].expand_as(picture).clone()
            for part in parts:
                flat[:, part] = fit(picture, part).expand(3, int(part.sum()))
            total = centre(picture, inside)[:, :, None]
            gaps = [((picture - other).abs() ** power)[:, inside].sum() for other in (flat, total)]
            return turn(*gaps)
        return share

    def each_part_alone(picture, parts):
        inside = parts.any(0)
        total = (picture - mean_of(picture, inside)[:, :, None]).square()
        shares = []
        for part in parts:
            rest = (picture[:, part] - mean_of(picture, part)).square().sum()
            shares.append(1 - rest / total[:, part].sum())
        return torch.stack(shares).mean()

    def mean_of_means(picture, parts):
        inside = parts.any(0)
        centre = mean_of(picture, inside)
        between = sum((mean_of(picture, part) - centre).square().sum() for part in parts) / len(parts)
        total = (picture[:, inside] - centre).square().sum() / inside.sum()
        return between / total

    def by_channel(picture, parts):
        shares = []
        for channel in picture:
            shares.append(fitting()(channel[None].expand(3, -1, -1), parts))
        return torch.stack(shares).mean()

    return judge("explained", answer, fitting(), cases, [
        (fitting(turn=lambda rest, total: rest / total),
         "this is the share that is *not* explained: 1 minus it."),
        (fitting(turn=lambda rest, total: 1 - total / rest),
         "the ratio is upside down: what is left over, divided by all there was."),
        (fitting(turn=lambda rest, total: 1 - (rest / total).sqrt()),
         "a root too many: shares of *variance* are compared, squares, which is why they add up."),
        (fitting(power=1),
         "differences are not squared: the share is one of variance, squares, for which the mean colour is "
         "the best fit."),
        (fitting(fit=lambda values, cells: values[:, cells].median(1, keepdim=True).values),
         "the fit is the median: the colour that leaves the smallest *squares* is the mean."),
        (fitting(fit=lambda values, cells: values[:, cells].mean().expand(3, 1)),
         "each part gets one grey: a colour has three numbers, so take the mean channel by channel."),
        (fitting(centre=lambda values, cells: values[:, cells].mean().expand(3, 1)),
         "the variance is taken around one grey: the mean colour of the picture has three numbers, too."),
        (fitting(centre=lambda values, cells: torch.zeros(3, 1)),
         "the variance is taken around 0, so a picture of one bright colour counts as explained: around the "
         "mean colour."),
        (fitting(everywhere=True),
         "pixels in no part are counted: outside of all parts nothing is known, and nothing counts."),
        (fitting(centre=lambda values, cells: values.mean((1, 2))[:, None]),
         "the mean colour is that of the whole picture: pixels in no part do not count there, either."),
        (each_part_alone,
         "a share for each part, and then their mean: small parts then count as much as large ones. Add up "
         "the squares first, and divide once."),
        (mean_of_means,
         "every part counts the same, whatever its size: sum over *pixels*."),
        (by_channel,
         "a share for each channel, and then their mean: add up the squares of all three first, and divide "
         "once."),
        (lambda picture, parts: fitting()(picture, parts) * 0 + 1,
         "1 whatever is drawn: then everything follows every map."),
    ], raised={
        "the result is (3,)": "a number for each channel: add up the squares of all three, and divide once.",
        "the result is (2,)": "a number for each part: add up the squares of all parts, and divide once.",
    }, praise="right. 1: every part is of one colour. 0: knowing the parts does not help at all.")


def box(top, bottom, left, right):
    """bool (12, 12): True in these rows and columns."""
    cells = torch.zeros(12, 12, dtype=torch.bool)
    cells[top:bottom, left:right] = True
    return cells


def numbers(*rows):
    """Baselines: the lower edges of rows of 12, in shares of the height."""
    return torch.tensor(rows) / 12
