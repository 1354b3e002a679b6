"""Distances between distributions, for worlds where the true one is known exactly."""

import torch


def total_variation(p, q):
    """Half the sum of |p - q|: the largest difference in the probability of any event, 0 (equal) to 1.

    p, q: (N,), probabilities of the same N outcomes.
    """
    if p.shape != q.shape or p.ndim != 1:
        raise ValueError(f"p is {tuple(p.shape)}, q is {tuple(q.shape)}: the same (N,) expected")
    return (p - q).abs().sum().item() / 2


def frequencies(samples, images):
    """The share of samples that are nearest to each image.

    samples: (B, C, H, W).  images: (N, C, H, W).  Returns (N,) float64 that sums to 1.
    """
    nearest = torch.cdist(samples.double().flatten(1), images.double().flatten(1)).argmin(1)    # (B,)
    return torch.bincount(nearest, minlength=len(images)).double() / len(samples)


def gaussian_wasserstein2(mean_p, cov_p, mean_q, cov_q):
    """How far one normal distribution must be moved, in root mean square, to become the other.

    W2^2 = |mean_p - mean_q|^2 + tr(cov_p + cov_q - 2 (cov_p^1/2 cov_q cov_p^1/2)^1/2) (Dowson, Landau 1982).
    mean: (D,).  cov: (D, D).  In the units of the pictures, 0 for equal distributions.
    """
    root = matrix_root(cov_p)
    cross = torch.linalg.eigvalsh(root @ cov_q @ root).clamp(min=0).sqrt().sum()
    squared = (mean_p - mean_q).square().sum() + cov_p.trace() + cov_q.trace() - 2 * cross
    return squared.clamp(min=0).sqrt().item()


def matrix_root(cov):
    """The symmetric square root of a symmetric matrix without negative eigenvalues: (D, D) -> (D, D)."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def mean_and_cov(samples):
    """Fit a normal distribution to samples: (B, ...) -> mean (D,), cov (D, D), float64, divided by B - 1."""
    flat = samples.double().flatten(1)                                                              # (B, D)
    return flat.mean(0), torch.cov(flat.T)
