"""train/muon.py: the step of a matrix, written with singular values; what is whose; a training with both."""

import math

import pytest
import torch
from torch import nn

from train import muon
from train.muon import Muon, orthogonalised, split_parameters


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=seeded(seed))


def test_where_bf16_is_slow_the_polynomial_is_taken_in_float32(monkeypatch):
    """Of each singular value: a s + b s^3 + c s^5, five times, in float64."""
    monkeypatch.setattr(muon, "has_fast_bf16", lambda device: False)
    given = matrix(6, 10)
    u, s, v = torch.linalg.svd(given.double(), full_matrices=False)
    s, (a, b, c) = s / (s.norm() + 1e-7), muon.COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    assert (orthogonalised(given) - u @ torch.diag(s) @ v).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(12, 12), (6, 40), (40, 6)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    u, _, v = torch.linalg.svd(matrix(*shape), full_matrices=False)
    given = u @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ v
    found = orthogonalised(given)
    assert found.dtype == torch.float32 and found.shape == shape
    along = u.T @ found @ v.T                                                      # about the identity
    values = along.diagonal()
    assert values.min() > 0.65 and values.max() < 1.25
    assert (along - torch.diag(values)).abs().max() < 0.05


def test_the_scale_of_a_gradient_does_not_matter():
    given = matrix(8, 20)
    torch.testing.assert_close(orthogonalised(given), orthogonalised(2**-10 * given), atol=1e-3, rtol=0)
    assert torch.equal(orthogonalised(torch.zeros(4, 5)), torch.zeros(4, 5))


def test_two_steps_number_by_number():
    weight = nn.Parameter(matrix(6, 24).view(6, 6, 2, 2).clone())
    first, second = matrix(6, 24, 1).view(6, 6, 2, 2), matrix(6, 24, 2).view(6, 6, 2, 2)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5, momentum=0.9)
    expected, mean = weight.detach().flatten(1).double(), torch.zeros(6, 24).double()
    for gradient in (first, second):
        weight.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient.flatten(1)
        ahead = 0.1 * gradient.flatten(1) + 0.9 * mean                             # Nesterov's
        update = orthogonalised(ahead.float()).double()
        expected = expected - 0.1 * (0.5 * expected + 0.2 * 24**0.5 * update)
    torch.testing.assert_close(weight.detach().flatten(1).double(), expected, atol=0.01, rtol=0)


def test_a_step_is_as_large_as_one_of_adamw():
    """Its root mean square is about .2 lr, whatever the shape: Liu et al. (2502.16982), section 2.2."""
    for shape in ((64, 64), (16, 144), (128, 32)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = matrix(*shape)
        Muon([weight], lr=1.0).step()
        assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.25)


def test_matrices_that_move_together_move_as_each_alone():
    """Of three shapes, mixed; gradients of very different sizes; one parameter without a gradient."""
    shapes = [(6, 24), (24, 6), (6, 6, 2, 2), (6, 24), (5, 5), (24, 6)]
    start = [matrix(shape[0], math.prod(shape[1:]), i).view(shape) for i, shape in enumerate(shapes)]
    gradients = [10.0 ** (i - 3) * value.flip(0) for i, value in enumerate(start)]
    gradients[4] = None

    def moved(numbers):
        weights = [nn.Parameter(start[i].clone()) for i in numbers]
        optimizer = Muon(weights, lr=0.1)
        for _ in range(2):
            for weight, i in zip(weights, numbers):
                weight.grad = gradients[i]
            optimizer.step()
        return [weight.detach() for weight in weights]

    together = moved(range(len(shapes)))
    for i, weight in enumerate(together):
        torch.testing.assert_close(weight, moved([i])[0], atol=2e-2, rtol=0)
        assert torch.equal(weight, start[i]) == (i == 4)


def test_layout_in_memory_makes_no_difference():
    one = nn.Parameter(matrix(8, 72).view(8, 8, 3, 3).clone())
    other = nn.Parameter(one.detach().clone(memory_format=torch.channels_last))
    gradient = matrix(8, 72, 1).view(8, 8, 3, 3)
    one.grad, other.grad = gradient.clone(), gradient.clone(memory_format=torch.channels_last)
    for weight in (one, other):
        Muon([weight], lr=0.1).step()
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_muon_gets_matrices_of_that_name_and_adamw_all_others():
    block = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(4, 4, 3))
    network = nn.ModuleDict({"door": nn.Linear(3, 4), "block": block})
    block[1].weight.requires_grad_(False)
    matrices, others = split_parameters(network, "block")
    assert [id(p) for p in matrices] == [id(block[0].weight)]
    left = *network["door"].parameters(), block[0].bias, block[1].bias
    assert {id(p) for p in others} == {id(p) for p in left}
    nothing, everything = split_parameters(network, "")
    assert not nothing and len(everything) == 5


def test_a_name_that_no_matrix_has_is_refused():
    with pytest.raises(ValueError, match='muon = "blocks": part of the name of a matrix expected'):
        split_parameters(nn.ModuleDict({"door": nn.Linear(3, 4)}), "blocks")
    with pytest.raises(ValueError, match='muon = "bias"'):
        split_parameters(nn.ModuleDict({"door": nn.Linear(3, 4)}), "bias")


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_it_agrees_with_torchs_on_matrices(shape):
    one, other = (nn.Parameter(matrix(*shape).clone()) for _ in range(2))
    own = Muon([one], lr=0.1, weight_decay=0.1, momentum=0.9)
    theirs = torch.optim.Muon([other], lr=0.1, weight_decay=0.1, momentum=0.9,
                              adjust_lr_fn="match_rms_adamw")
    for seed in (1, 2, 3):
        one.grad, other.grad = matrix(*shape, seed), matrix(*shape, seed)
        own.step()
        theirs.step()
    torch.testing.assert_close(one, other, atol=0.02, rtol=0)
    assert (one - matrix(*shape)).abs().mean() > 0.03              # and they went somewhere
