"""DDIM inversion: does a picture come back from the noise that was found for it, and is that noise?

Scenes of the test split are walked up to noise and down again, deterministically, by a network told their
caption or none, with guidance or without. "back" is the PSNR of what comes back, the median, "worst" the
lowest. Standard normal noise would have "deviation" 1 and "neighbours", the correlation of a pixel with the
next one, 0. What the way up does not share with the way down, such as guidance, is not undone. Calls are
those of one picture. ± is half of a 95 % interval.
"""

from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import held_out, last, seeded
from minidiff.control.restart import ddim_invert, deterministic_step
from minidiff.measure import bootstrap, psnr
from minidiff.process.sample import sample

WEIGHTS = "town-ddpm"
QUICK = dict(n=2, steps=(2, 4))


def rows(model, n=16, steps=(20, 50, 200), scale=3.0, seed=0):
    """One row for each number of steps, and for each way of telling the network, at the middle number.

    n: pictures.  scale: guidance, where there is some.
    """
    scenes, captions = held_out(n)
    image = toytown.paint(scenes, model.size).to(model.device)
    told, guided, untold = model.denoiser(captions), model.denoiser(captions, scale), model.denoiser([""] * n)
    middle, found = steps[len(steps) // 2], []
    walks = [("the caption", "the caption", told, told, count) for count in steps] + [
        ("nothing", "nothing", untold, untold, middle),
        ("the caption", f"the caption, scale {scale:g}", told, guided, middle),
        (f"the caption, scale {scale:g}", f"the caption, scale {scale:g}", guided, guided, middle)]
    for told_up, told_down, up, down, count in tqdm(walks, "inversion", leave=False, disable=None):
        with model.counted() as calls:
            noise, back = round_trip(model.process, up, down, image, model.process.times(count), seeded(seed))
        dB = psnr(back.clamp(-1, 1), image).cpu()
        found.append({
            "told on the way up": told_up, "and down": told_down, "steps": count,
            "back (dB)": bootstrap(dB, "median"), "worst (dB)": dB.min().item(),
            "deviation": bootstrap(noise.flatten(1).std(1).cpu()),
            "neighbours": bootstrap(correlation(noise).cpu()), "network calls": calls[0] // n})
    return found


def chief(rows):
    """What comes back by the number of steps, in dB, without guidance."""
    plain = [row for row in rows if row["told on the way up"] == row["and down"] == "the caption"]
    return {WEIGHTS: {f"back (dB), {row['steps']} steps": round(row["back (dB)"].value, 2) for row in plain}}


def round_trip(process, up, down, image, times, generator):
    """(the noise found for pictures, the pictures that come back from it), (B, C, H, W) each.

    up, down: denoisers for the two ways.  times: descending, as for sampling.
    """
    noise = last(ddim_invert(process, up, image, times))
    return noise, last(sample(process, down, noise, times, generator, deterministic_step(process)))


def correlation(noise):
    """The correlation of each value with its right neighbour's: (B, C, H, W) -> (B,)."""
    left, right = (part - part.mean((1, 2, 3), keepdim=True) for part in (noise[..., :-1], noise[..., 1:]))
    covariance = (left * right).mean((1, 2, 3))
    return covariance / (left.square().mean((1, 2, 3)) * right.square().mean((1, 2, 3))).sqrt()
