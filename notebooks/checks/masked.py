"""Checks for 06_masked_editing: seen_channels, pinned, mixed, inside."""

import torch
from torch.nn.functional import max_pool2d, pad

from minidiff.control.inpaint import hole_channels, pin_x0
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

from .repaint import left_half
from .verdict import Case, judge, normal


def check_seen_channels(answer):
    """answer(image, edit_mask) -> (B, 4, H, W): the picture, emptied in the hole, and the hole."""
    image, holes = normal(0, 2, 3, 4, 6).tanh(), normal(1, 2, 1, 4, 6) > 0.3
    cases = [Case("a hole each", (image, holes)), Case("one hole for two pictures", (image, holes[:1]))]

    def seeing(shown=lambda image, hole: image.where(~hole, 0), told=lambda hole: hole.float(),
               mask_first=False):
        def see(image, edit_mask):
            edit_mask = edit_mask.expand(len(image), -1, -1, -1)
            parts = [shown(image, edit_mask), told(edit_mask)]
            return torch.cat(parts[::-1] if mask_first else parts, 1)
        return see

    def only_the_hole(image, hole):
        return image.where(hole, 0)

    def grey_level(image, hole):
        shares = (~hole).sum((2, 3), keepdim=True)
        return image.where(~hole, (image * ~hole).sum((2, 3), keepdim=True) / shares)

    return judge("seen_channels", answer, hole_channels, cases, [
        (seeing(only_the_hole, lambda hole: (~hole).float()),
         "all is turned round: True = may change, so that is where the picture is emptied and the mask is "
         "1."),
        (seeing(only_the_hole),
         "the wrong part is emptied: it shows the hole and hides what is kept. edit_mask is True in the "
         "hole."),
        (seeing(told=lambda hole: (~hole).float()),
         "the fourth channel is turned round: it is 1 in the hole, 0 where pixels are kept."),
        (seeing(lambda image, hole: image),
         "the hole is not emptied: in training the network would see the very answer that it is asked for, "
         "and learn to copy it."),
        (seeing(lambda image, hole: image.where(~hole, -1)),
         "the hole is black: emptied means 0, and in [-1, 1] that is grey. Black is a colour, which the "
         "network would believe."),
        (seeing(lambda image, hole: ((image + 1) / 2).where(~hole, 0)),
         "the picture is brought to [0, 1]: it stays in [-1, 1], as x_t is."),
        (seeing(grey_level),
         "the hole is filled with the mean of the rest: emptied means 0, whatever stands around it."),
        (seeing(told=lambda hole: 2 * hole.float() - 1),
         "the fourth channel runs from -1 to 1: it is 0 or 1, no colour."),
        (seeing(mask_first=True),
         "the order is turned round: first the three channels of the picture, then the mask."),
        (seeing(lambda image, hole: torch.zeros_like(image)),
         "the picture is emptied everywhere: what is kept is just what the network should see."),
        (seeing(told=torch.zeros_like),
         "the fourth channel is 0 everywhere: a grey pixel of the picture and a pixel of the hole then look "
         "the same."),
    ], raised={
        "Sizes of tensors must match": "one mask may serve several pictures: edit_mask.expand(len(image), "
                                       "-1, -1, -1) before the two are joined.",
        "the result is (2, 3, 4, 6)": "three channels are the emptied picture alone: the hole itself is the "
                                      "fourth, or grey pixels and missing ones look the same.",
        "the result is (2, 7, 4, 6)": "x_t does not belong to it, nor the picture twice: three channels of "
                                      "the emptied picture and one of the mask.",
    }, praise="right. The network sees what is kept, and where something is missing.")


def check_pinned(answer):
    """answer(process, x_t, prediction, t, known, edit_mask) -> the pinned prediction."""
    x_t, prediction, known = (normal(seed, 2, 3, 4, 4) for seed in range(3))
    cases = []
    for what, process, t in [("eps", DDPM.linear(100), 60), ("x0", DDPM.linear(100, "x0"), 30),
                             ("v", Flow(), 0.5)]:
        arguments = process, x_t, prediction, t, known, left_half()
        cases.append(Case(f"a network that predicts {what}", arguments))

    def pinning(inside=lambda process, x_t, prediction, t: prediction,
                outside=lambda process, x_t, known, t: process.prediction(x_t, known, t), inverted=False):
        def pin(process, x_t, prediction, t, known, edit_mask):
            return torch.where(edit_mask ^ inverted, inside(process, x_t, prediction, t),
                               outside(process, x_t, known, t))
        return pin

    def noise_of(process, x_t, known, t):
        a, _ = process.signal_noise(t, known)
        return x_t - a * known

    def undivided(process, x_t, known, t):
        return process.target(known, noise_of(process, x_t, known, t))

    def turned(process, x_t, known, t):
        _, s = process.signal_noise(t, known)
        return process.target(known, -noise_of(process, x_t, known, t) / s)

    def clean_picture(process, x_t, prediction, t, known, edit_mask):
        return torch.where(edit_mask, process.predict_x0(x_t, prediction, t), known)

    def clamped(process, x_t, prediction, t):
        return process.prediction(x_t, process.predict_x0(x_t, prediction, t).clamp(-1, 1), t)

    def noised(process, x_t, known, t):
        return process.prediction(x_t, process.corrupt(known, t, torch.zeros_like(known)), t)

    return judge("pinned", answer, pin_x0, cases, [
        (pinning(inverted=True),
         "the mask is inverted: the network's prediction stands where pixels *may change*, the known picture "
         "elsewhere."),
        (clean_picture,
         "the pinned x0_hat itself comes back: turn it into what the network predicts by process.prediction, "
         "since that is what a step takes."),
        (pinning(outside=lambda process, x_t, known, t: known),
         "the known picture is put beside a prediction: that fits a network which predicts x0, and no other. "
         "process.prediction(x_t, known, t) is what *stands for* it."),
        (lambda process, x_t, prediction, t, known, edit_mask: prediction,
         "nothing is pinned: the kept pixels are left to the network's guess."),
        (pinning(lambda process, x_t, prediction, t: 0 * x_t),
         "the network's prediction is gone from the hole: 0 stands there."),
        (lambda process, x_t, prediction, t, known, edit_mask: process.prediction(x_t, known, t),
         "the hole is pinned, too: then the known picture comes back and nothing was edited."),
        (pinning(outside=noised),
         "the known picture has faded to level t: x0_hat is a guess at the *clean* picture. RePaint pastes "
         "noised pixels, into x, after the step."),
        (pinning(outside=undivided),
         "the noise is not divided by s: eps_hat = (x_t - a known) / s. process.prediction does it."),
        (pinning(outside=turned),
         "the noise has the wrong sign: eps_hat = (x_t - a known) / s."),
        (pinning(clamped),
         "the hole's x0_hat is clamped on the way: pinning leaves the hole as it is, to the last bit."),
        (pinning(outside=lambda process, x_t, known, t: x_t),
         "x_t stands at the kept pixels: it is the known picture that x0_hat should be there."),
    ], raised={
        "missing 2 required positional arguments": "process.prediction takes three: x_t, x0_hat and t.",
        "missing 1 required positional argument": "process.prediction takes three: x_t, x0_hat and t.",
    }, praise="right. It serves eps, x0 and v alike, since the process turns x0_hat into each.")


def check_mixed(answer):
    """answer(x, weight) -> (B, C, H, W): all frequencies mixed, as in a spectral transform."""
    cases = []
    for seed, (n, channels, height, width) in enumerate([(2, 3, 4, 6), (1, 2, 5, 7), (2, 4, 8, 8)]):
        weight = normal(seed + 10, 2 * channels, 2 * channels)
        x = normal(seed, n, channels, height, width)
        cases.append(Case(f"{n} x {channels} x {height} x {width}", (x, weight)))

    def split(spectrum):
        return torch.cat([spectrum.real, spectrum.imag], 1)

    def mixing(split=split, weigh=lambda weight: weight, active=torch.relu, sign=1, norms=("ortho", "ortho"),
               after=lambda x: x):
        def mix(x, weight):
            parts = split(torch.fft.rfft2(x, norm=norms[0]))
            real, imaginary = active(torch.einsum("dc,bchw->bdhw", weigh(weight), parts)).chunk(2, 1)
            spectrum = torch.complex(real, sign * imaginary)
            return after(torch.fft.irfft2(spectrum, s=x.shape[2:], norm=norms[1]))
        return mix

    def interleaved(x, weight):
        parts = torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).movedim(-1, 2).flatten(1, 2)
        parts = torch.relu(torch.einsum("dc,bchw->bdhw", weight, parts))
        real, imaginary = parts.unflatten(1, (-1, 2)).unbind(2)
        return torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[2:], norm="ortho")

    def all_frequencies(x, weight):
        parts = split(torch.fft.fft2(x, norm="ortho"))
        real, imaginary = torch.relu(torch.einsum("dc,bchw->bdhw", weight, parts)).chunk(2, 1)
        return torch.fft.ifft2(torch.complex(real, imaginary), norm="ortho").real

    def relu_first(x, weight):
        parts = torch.einsum("dc,bchw->bdhw", weight, torch.relu(split(torch.fft.rfft2(x, norm="ortho"))))
        return torch.fft.irfft2(torch.complex(*parts.chunk(2, 1)), s=x.shape[2:], norm="ortho")

    def rows_only(x, weight):
        parts = torch.relu(torch.einsum("dc,bchw->bdhw", weight, split(torch.fft.rfft(x, norm="ortho"))))
        return torch.fft.irfft(torch.complex(*parts.chunk(2, 1)), n=x.shape[3], norm="ortho")

    return judge("mixed", answer, mixing(), cases, [
        (mixing(active=lambda parts: parts),
         "the ReLU is forgotten: without it the whole is linear, a convolution as large as the picture."),
        (mixing(active=lambda parts: parts, after=torch.relu),
         "the ReLU comes too late: it cuts pixels, where it should cut frequencies, before the way back."),
        (relu_first,
         "the ReLU comes too early: first mix, then cut."),
        (mixing(weigh=lambda weight: weight.T),
         "the weight is transposed: weight[d, c] is what the new channel d takes of the old channel c."),
        (mixing(split=lambda spectrum: torch.cat([spectrum.imag, spectrum.real], 1)),
         "the imaginary parts come first: it is cat([real, imag])."),
        (interleaved,
         "real and imaginary parts alternate: first all real parts, then all imaginary ones."),
        (mixing(split=lambda spectrum: torch.cat([spectrum.real, 0 * spectrum.imag], 1)),
         "the imaginary parts are lost: they say *where* a wave has its crests."),
        (mixing(split=lambda spectrum: torch.cat([spectrum.abs(), spectrum.angle()], 1)),
         "size and angle are mixed: real and imaginary part do not jump, an angle does, at pi."),
        (mixing(sign=-1),
         "the imaginary part has the wrong sign on the way back: the picture comes out turned by 180 "
         "degrees."),
        (mixing(norms=("backward", "ortho")),
         "the two norms do not match: there without, back with \"ortho\", so all is sqrt(H W) too large."),
        (mixing(norms=("ortho", "backward")),
         "the two norms do not match: there with \"ortho\", back without, so all is sqrt(H W) too small."),
        (all_frequencies,
         "fft2 has every frequency twice, as k and -k, and mixing treats the two alike, where one must stay "
         "the mirror of the other: rfft2 has each once."),
        (rows_only,
         "rfft sees one row at a time: rfft2 sees the whole picture."),
    ], raised={
        "the result is (1, 2, 5, 6)": "an odd width is lost: W / 2 + 1 frequencies fit two widths, so tell "
                                      "irfft2 the size, s=x.shape[2:].",
    }, praise="right. Each new pixel hangs on every old one, for the price of two fast Fourier transforms.")


def check_inside(answer):
    """answer(wall) -> bool (1, 1, H, W): the wall, and all that it cuts off from the edge of the picture."""
    cases = [Case(name, (drawing(lines),)) for name, lines in DRAWINGS.items()]

    def cross(reached):
        """One step up, down, left, right."""
        reached = reached.float()
        return (max_pool2d(reached, (3, 1), 1, (1, 0)) + max_pool2d(reached, (1, 3), 1, (0, 1))) > 0

    def square(reached):
        """One step in any of eight directions."""
        return max_pool2d(reached.float(), 3, 1, 1) > 0

    def flooding(spread=cross, steps=10_000, seeds=frame, found=lambda reached, wall: ~reached):
        def flood(wall):
            free = pad(~wall, (1, 1, 1, 1), value=True)
            reached = seeds(free)
            for _ in range(steps):
                more = spread(reached) & free
                if torch.equal(more, reached):
                    break
                reached = more
            return found(reached[..., 1:-1, 1:-1], wall)
        return flood

    def corner(free):
        """Seeded in the picture's own first pixel, with no frame to walk round in."""
        free[..., [0, -1], :] = free[..., [0, -1]] = False
        reached = torch.zeros_like(free)
        reached[..., 1, 1] = free[..., 1, 1]
        return reached

    def between(wall, axis):
        """From the first to the last wall pixel of a row or column."""
        seen = wall.long().cumsum(axis) > 0
        seen_back = wall.flip(axis).long().cumsum(axis).flip(axis) > 0
        return seen & seen_back

    def box_around(wall):
        rows, columns = wall.any(3, keepdim=True), wall.any(2, keepdim=True)
        return between(rows, 2) & between(columns, 3)

    return judge("inside", answer, flooding(), cases, [
        (flooding(spread=square),
         "the flood slips through a corner: a path goes up, down, left or right, never across between two "
         "wall pixels that touch at a corner."),
        (flooding(found=lambda reached, wall: reached),
         "this is the outside: what the flood reached is what is *not* enclosed."),
        (flooding(found=lambda reached, wall: ~reached & ~wall),
         "the wall itself is missing: where the line was drawn may change, too."),
        (flooding(steps=1),
         "one step of the flood is not enough: go on until nothing new is reached."),
        (flooding(steps=16),
         "as many steps as the picture is wide are not enough: a path may wind. Go on until nothing new is "
         "reached."),
        (flooding(seeds=corner),
         "the flood starts in one corner only, and what a line from edge to edge cuts off from there counts "
         "as enclosed: start on the whole edge."),
        (flooding(found=lambda reached, wall: wall),
         "only the wall comes back, and nothing of what it encloses."),
        (lambda wall: torch.zeros_like(wall),
         "nothing is enclosed: the flood runs through walls. After each step keep only what is free, "
         "& ~wall."),
        (lambda wall: torch.ones_like(wall),
         "everything is enclosed: the flood never started, or never left the edge."),
        (lambda wall: between(wall, 3),
         "each row is filled from its first to its last wall pixel: that closes what is open above or "
         "below."),
        (lambda wall: between(wall, 2) & between(wall, 3),
         "rows and columns are filled between their walls: that closes a winding line which is open."),
        (box_around,
         "this is the box around the wall: it needs no closed line at all."),
    ], raised={
        "bool expected": "True or False for each pixel: the flood ends as a bool, > 0.",
    }, praise="right. A line drawn by hand is a region now.")


def frame(free):
    """The outermost pixels: where every flood starts."""
    reached = torch.zeros_like(free)
    reached[..., [0, -1], :] = reached[..., [0, -1]] = True
    return reached


DRAWINGS = {
    "a closed ring, and an open one": """
................
.#######........
.#.....#..#####.
.#.....#..#...#.
.#.....#..#...#.
.#######..#...#.
................""",
    "a diamond whose pixels touch at corners": """
................
.......#........
......#.#.......
.....#...#......
....#.....#.....
.....#...#......
......#.#.......
.......#........
................""",
    "a spiral, open": """
################
...............#
##############.#
#............#.#
#.##########.#.#
#.#........#.#.#
#.#.######.#.#.#
#.#.#......#.#.#
#.#.########.#.#
#.#..........#.#
#.############.#
#..............#
################""",
    "a line from edge to edge, and a ring in a ring": """
...#............
...#..########..
...#..#......#..
####..#.####.#..
......#.#..#.#..
......#.####.#..
......#......#..
......########..
................""",
}


def drawing(lines):
    """Lines of # and . as bool (1, 1, H, W)."""
    return torch.tensor([[each == "#" for each in line] for line in lines.split()])[None, None]
