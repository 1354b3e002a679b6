"""Distances between distributions: known values and another route to each."""

import pytest
import torch

from minidiff.measure.distribution import (
    frequencies,
    gaussian_wasserstein2,
    matrix_root,
    mean_and_cov,
    total_variation,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed):
    root = draw(5, 5, seed=seed)
    return root @ root.T


def test_total_variation_is_the_largest_difference_of_an_event():
    p, q = torch.tensor([0.5, 0.2, 0.2, 0.1]), torch.tensor([0.1, 0.4, 0.3, 0.2])
    events = [[i for i in range(4) if bits >> i & 1] for bits in range(16)]
    largest = max((p[event].sum() - q[event].sum()).item() for event in events)
    assert abs(total_variation(p, q) - largest) < 1e-6
    assert total_variation(p, p) == 0
    assert total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == 1
    with pytest.raises(ValueError, match=r"p is \(4,\), q is \(3,\)"):
        total_variation(p, q[:3])


def test_frequencies_count_the_nearest_image():
    images = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1)
    samples = torch.tensor([-2.0, 0.1, 0.4, 0.6, 5.0, 0.9]).view(6, 1, 1, 1)
    assert torch.allclose(frequencies(samples, images), torch.tensor([1, 2, 3]).double() / 6)


def test_wasserstein_in_known_cases():
    mean, cov, eye = draw(5), covariance(1), torch.eye(5).double()
    assert gaussian_wasserstein2(mean, cov, mean, cov) < 1e-6
    assert abs(gaussian_wasserstein2(mean, cov, mean + 2, cov) - 20**0.5) < 1e-6
    assert abs(gaussian_wasserstein2(mean, 4 * eye, mean, 9 * eye) - 5**0.5) < 1e-6
    point = torch.zeros(5, 5).double()
    assert abs(gaussian_wasserstein2(mean, cov, mean, point) - cov.trace().sqrt().item()) < 1e-6


def test_wasserstein_is_the_cost_of_the_optimal_map():
    """x -> mean_q + A (x - mean_p), A = P^-1/2 (P^1/2 Q P^1/2)^1/2 P^-1/2, carries p to q at that cost."""
    p, q, mean_p, mean_q = covariance(1), covariance(2), draw(5, seed=3), draw(5, seed=4)
    root = matrix_root(p)
    A = root.inverse() @ matrix_root(root @ q @ root) @ root.inverse()
    assert (A @ p @ A.T - q).abs().max() < 1e-8
    move = A - torch.eye(5).double()
    cost = (mean_q - mean_p).square().sum() + (move @ p @ move.T).trace()
    assert abs(gaussian_wasserstein2(mean_p, p, mean_q, q) - cost.sqrt().item()) < 1e-8
    assert abs(gaussian_wasserstein2(mean_q, q, mean_p, p) - cost.sqrt().item()) < 1e-8


def test_mean_and_cov_of_samples():
    samples = draw(50, 1, 2, 3)
    mean, cov = mean_and_cov(samples)
    flat = samples.flatten(1)
    by_hand = sum(torch.outer(row - flat.mean(0), row - flat.mean(0)) for row in flat) / 49
    assert (mean - flat.mean(0)).abs().max() < 1e-10 and (cov - by_hand).abs().max() < 1e-10
