"""The checks of notebook 06, fed right answers and wrong ones: they must call each mistake by its name."""

import torch
import torch.nn.functional as F

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import masked

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def seen_channels(image, edit_mask, empty=0.0, yes=1.0, no=0.0, turn=False, turn_picture=False):
    """Written into an empty tensor, pixel by pixel of a mask."""
    hole = edit_mask.repeat(len(image) // len(edit_mask), 1, 1, 1)
    hidden = ~hole if turn_picture else hole
    seen = torch.empty(len(image), 4, *image.shape[2:])
    seen[:, :3] = image.masked_fill(hidden, empty)
    seen[:, 3:] = torch.full(hole.shape, no).masked_fill(~hole if turn else hole, yes)
    return seen


def joined(image, edit_mask):
    return torch.cat([image * ~edit_mask, edit_mask], 1)


SEEN_CHANNELS = {
    "all is turned round": lambda *args: seen_channels(*args, turn=True, turn_picture=True),
    "wrong part is emptied": lambda *args: seen_channels(*args, turn_picture=True),
    "fourth channel is turned round": lambda *args: seen_channels(*args, turn=True),
    "not emptied": lambda image, hole: torch.cat([image, hole.float().expand(len(image), -1, -1, -1)], 1),
    "the hole is black": lambda *args: seen_channels(*args, empty=-1.0),
    "brought to [0, 1]": lambda image, hole: seen_channels(image / 2 + 0.5, hole),
    "runs from -1 to 1": lambda *args: seen_channels(*args, no=-1.0),
    "order is turned round": lambda *args: seen_channels(*args).roll(1, 1),
    "emptied everywhere": lambda image, hole: seen_channels(0 * image, hole),
    "0 everywhere": lambda *args: seen_channels(*args, yes=0.0),
    "one mask may serve several": joined,
    "three channels are the emptied picture alone": lambda *args: seen_channels(*args)[:, :3],
    "nor the picture twice": lambda image, hole: torch.cat([image, seen_channels(image, hole)], 1),
    "in place": lambda image, hole: seen_channels(image.mul_(0.5), hole),
    "a Tensor expected": lambda *args: seen_channels(*args).split([3, 1], 1),
    "no common mistake": lambda *args: seen_channels(*args, empty=0.5),
}


def pinned(process, x_t, prediction, t, known, edit_mask):
    """By way of x0_hat."""
    x0_hat = process.predict_x0(x_t, prediction, t)
    return process.prediction(x_t, x0_hat * edit_mask + known * ~edit_mask, t)


def by_noise(change):
    """The known picture's prediction from its noise, by hand; change: what is wrong with the noise."""
    def pin(process, x_t, prediction, t, known, edit_mask):
        a, s = process.signal_noise(t, x_t)
        told = process.target(known, change((x_t - a * known) / s, s))
        return edit_mask * prediction + ~edit_mask * told
    return pin


def faded(process, x_t, prediction, t, known, edit_mask):
    a, _ = process.signal_noise(t, x_t)
    return pinned(process, x_t, prediction, t, a * known, edit_mask)


def clamped(process, x_t, prediction, t, known, edit_mask):
    x0_hat = process.predict_x0(x_t, prediction, t).clamp(-1, 1)
    return process.prediction(x_t, torch.where(edit_mask, x0_hat, known), t)


def in_place(process, x_t, prediction, t, known, edit_mask):
    keep = (~edit_mask).expand_as(prediction)
    prediction[keep] = process.prediction(x_t, known, t)[keep]
    return prediction


PINNED = {
    "inverted": lambda *args: pinned(*args[:-1], ~args[-1]),
    "pinned x0_hat itself": lambda process, x_t, e, t, known, hole: torch.where(
        hole, process.predict_x0(x_t, e, t), known),
    "and no other": lambda process, x_t, e, t, known, hole: e * hole + known * ~hole,
    "nothing is pinned": lambda process, x_t, e, t, known, hole: e + 0,
    "gone from the hole": lambda process, x_t, e, t, known, hole: process.prediction(x_t, known, t) * ~hole,
    "hole is pinned, too": lambda *args: pinned(*args[:-1], args[-1] & False),
    "faded to level t": faded,
    "not divided": by_noise(lambda noise, s: noise * s),
    "wrong sign": by_noise(lambda noise, s: -noise),
    "clamped on the way": clamped,
    "x_t stands at the kept pixels": lambda process, x_t, e, t, known, hole: e * hole + x_t * ~hole,
    "in place": in_place,
    "returned None": lambda *args: None,
    "no common mistake": lambda *args: 1.1 * pinned(*args),
    "takes three: x_t, x0_hat and t": lambda process, x_t, e, t, known, hole: process.prediction(known),
}


def mixed(x, weight, turn=1):
    """One axis after the other, and the matrix as a 1x1 convolution."""
    across = torch.fft.rfft(x.double(), dim=3)
    spectrum = torch.fft.fft(across, dim=2)
    parts = torch.cat([spectrum.real, turn * spectrum.imag], 1)
    parts = torch.conv2d(parts, weight.double()[:, :, None, None]).clamp(min=0)
    n = x.shape[1]
    rows = torch.fft.ifft(torch.complex(parts[:, :n], parts[:, n:]), dim=2)
    return torch.fft.irfft(rows, x.shape[3], dim=3).float()


def freely(split=lambda f: (f.real, f.imag), join=torch.complex, active=torch.relu, there=torch.fft.rfft2,
           back=lambda f, x: torch.fft.irfft2(f, s=x.shape[2:])):
    """The same in one piece, each of whose parts can be another."""
    def mix(x, weight):
        parts = active(torch.einsum("dc,bchw->bdhw", weight, torch.cat(split(there(x)), 1)))
        return back(join(*parts.chunk(2, 1)), x)
    return mix


def relu_first(x, weight):
    spectrum = torch.fft.rfft2(x)
    parts = torch.cat([spectrum.real.clamp(min=0), spectrum.imag.clamp(min=0)], 1)
    real, imaginary = torch.conv2d(parts, weight[:, :, None, None]).chunk(2, 1)
    return torch.fft.irfft2(real + 1j * imaginary, s=x.shape[2:])


def alternating(x, weight):
    n = x.shape[1]
    order = torch.arange(2 * n).view(2, n).T.flatten()               # real 0, imaginary 0, real 1, ...
    back = order.argsort()
    return mixed(x, weight[back][:, back])


def of_length_kept(x):
    return torch.fft.rfft2(x, norm="ortho")


def back_of_length_kept(spectrum, x):
    return torch.fft.irfft2(spectrum, s=x.shape[2:], norm="ortho")


MIXED = {
    "ReLU is forgotten": freely(active=lambda parts: parts),
    "ReLU comes too late": freely(active=lambda parts: parts,
                                  back=lambda f, x: torch.fft.irfft2(f, s=x.shape[2:]).clamp(min=0)),
    "ReLU comes too early": relu_first,
    "transposed": lambda x, weight: mixed(x, weight.T),
    "imaginary parts come first": freely(split=lambda f: (f.imag, f.real)),
    "alternate": alternating,
    "imaginary parts are lost": lambda x, weight: mixed(x, weight, turn=0),
    "size and angle": freely(split=lambda f: (f.abs(), f.angle()), there=of_length_kept,
                             back=back_of_length_kept),
    "turned by 180 degrees": freely(join=lambda real, imag: torch.complex(real, -imag)),
    "too large": freely(back=back_of_length_kept),
    "too small": freely(there=of_length_kept),
    "an odd width is lost": freely(back=lambda f, x: torch.fft.irfft2(f)),
    "has every frequency twice": freely(there=torch.fft.fft2, back=lambda f, x: torch.fft.ifft2(f).real),
    "one row at a time": freely(there=torch.fft.rfft, back=lambda f, x: torch.fft.irfft(f, n=x.shape[3])),
    "returned None": lambda x, weight: None,
    "float32 expected": lambda x, weight: mixed(x, weight) > 0,
    "no common mistake": lambda x, weight: mixed(x, weight, turn=-1),
}


def inside(wall, moves=((0, 1), (1, 0), (0, -1), (-1, 0)), seeds="edge", through=False):
    """A flood with a list of pixels that are still to be looked at."""
    height, width = wall.shape[2:]
    edge = [(y, x) for y in range(height) for x in range(width)
            if y in (0, height - 1) or x in (0, width - 1)]
    waiting = [pixel for pixel in (edge if seeds == "edge" else seeds) if not wall[0, 0][pixel]]
    outside = set(waiting)
    while waiting:
        y, x = waiting.pop()
        for down, right in moves:
            near = y + down, x + right
            here = 0 <= near[0] < height and 0 <= near[1] < width
            if here and near not in outside and (through or not wall[0, 0][near]):
                outside.add(near)
                waiting.append(near)
    found = torch.ones_like(wall)
    for y, x in outside:
        found[0, 0, y, x] = False
    return found


def stepping(steps):
    """A flood from a frame around the picture that stops after so many steps."""
    def flood(wall):
        free = F.pad(~wall, (1, 1, 1, 1), value=True)
        reached = free.clone()
        reached[..., 1:-1, 1:-1] = False
        for _ in range(steps):
            more = reached.clone()
            more[..., 1:, :] |= reached[..., :-1, :]
            more[..., :-1, :] |= reached[..., 1:, :]
            more[..., 1:] |= reached[..., :-1]
            more[..., :-1] |= reached[..., 1:]
            reached = more & free
        return ~reached[..., 1:-1, 1:-1]
    return flood


def filled(wall, axis):
    """Between the first and the last wall pixel, by maxima."""
    return (wall.float().cummax(axis).values * wall.float().flip(axis).cummax(axis).values.flip(axis)) > 0


def box_around(wall):
    found = torch.zeros_like(wall)
    _, _, y, x = wall.nonzero(as_tuple=True)
    found[..., y.min() : y.max() + 1, x.min() : x.max() + 1] = True
    return found


EIGHT = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]

INSIDE = {
    "slips through a corner": lambda wall: inside(wall, moves=EIGHT),
    "this is the outside": lambda wall: ~inside(wall),
    "the wall itself is missing": lambda wall: inside(wall) & ~wall,
    "one step of the flood": stepping(1),
    "as many steps as the picture is wide": stepping(16),
    "one corner only": lambda wall: inside(wall, seeds=[(0, 0)]),
    "only the wall": lambda wall: wall.clone(),
    "runs through walls": lambda wall: inside(wall, through=True) & False,
    "never started": lambda wall: inside(wall, seeds=[]),
    "each row is filled": lambda wall: filled(wall, 3),
    "rows and columns": lambda wall: filled(wall, 2) & filled(wall, 3),
    "the box around": box_around,
    "True or False for each pixel": lambda wall: inside(wall).float(),
    "in place": lambda wall: inside(wall.logical_not_().logical_not_() & wall.zero_()),
    "no common mistake": lambda wall: inside(wall, moves=((0, 1), (1, 0))),
}


CHECKS = [
    (masked.check_seen_channels, seen_channels, SEEN_CHANNELS),
    (masked.check_pinned, pinned, PINNED),
    (masked.check_mixed, mixed, MIXED),
    (masked.check_inside, inside, INSIDE),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
