"""The table of inversion: round trips on an exact world, correlation computed another way, honest counts."""

import pytest
import torch

from minidiff.bench import inversion
from minidiff.denoisers.exact import Gaussian
from minidiff.model import Model
from minidiff.process.ddpm import DDPM

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_finer_steps_bring_more_of_a_picture_back_and_find_true_noise():
    """400 draws from a Gaussian, an exact denoiser: the noise is standard, the error falls with the steps."""
    process, mean = DDPM.cosine(1000), torch.zeros(1, 1, 8, dtype=torch.float64)
    at = torch.arange(8.0, dtype=torch.float64)
    world = Gaussian(mean, 0.3 * 0.8 ** (at - at[:, None]).abs())
    image = torch.randn(400, 1, 1, 8, generator=seeded(), dtype=torch.float64)
    image = (image.flatten(1) @ torch.linalg.cholesky(world.cov).T).view_as(image)
    errors = []
    for steps in (20, 80):
        denoise = world.denoiser(process)
        noise, back = inversion.round_trip(process, denoise, denoise, image, process.times(steps), seeded())
        errors.append((back - image).square().mean().sqrt().item())
    assert errors[1] < 0.4 * errors[0] < 0.1
    noise, image = (draws.view(1, 1, 400, 8) for draws in (noise, image))     # as one picture
    assert abs(noise.std() - 1) < 0.05 and inversion.correlation(noise).abs() < 0.05
    assert inversion.correlation(image) > 0.7                   # the picture's own pixels go together


def test_correlation_is_pearsons():
    noise = torch.randn(3, 2, 5, 7, generator=seeded(), dtype=torch.float64).cumsum(3)
    for one, found in zip(noise, inversion.correlation(noise)):
        pairs = torch.stack([one[..., :-1].flatten(), one[..., 1:].flatten()])
        assert abs(torch.corrcoef(pairs)[0, 1] - found) < 1e-12


def test_rows_count_every_call_and_tell_how_the_network_was_told(tiny_weights):
    found = inversion.rows(Model.load(tiny_weights, "cpu"), **inversion.QUICK)
    columns = "told on the way up", "and down", "steps", "network calls"
    calls = [tuple(row[column] for column in columns) for row in found]
    assert calls == [("the caption", "the caption", 2, 4), ("the caption", "the caption", 4, 8),
                     ("nothing", "nothing", 4, 8), ("the caption", "the caption, scale 3", 4, 12),
                     ("the caption, scale 3", "the caption, scale 3", 4, 16)]
    assert all(row["worst (dB)"] <= row["back (dB)"].value for row in found)
    assert set(inversion.chief(found)["town-ddpm"]) == {"back (dB), 2 steps", "back (dB), 4 steps"}
