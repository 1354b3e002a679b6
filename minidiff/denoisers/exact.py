"""Denoisers in closed form: worlds so small that the best possible network can be written down, untrained.

The best network predicts the mean of its training target given x_t. Targets are linear in x0 and eps, so all
it takes is the mean of x0 given x_t. Each world also knows itself *given* some of its pixels: the truth that
editors are measured by. All is computed in float64, on the device of the world.
"""

from abc import ABC, abstractmethod

import torch


class World(ABC):
    """A distribution of pictures (C, H, W) whose denoiser is known exactly."""

    @abstractmethod
    def posterior_mean(self, x_t, a, s):
        """The mean of x0 given x_t = a x0 + s eps.  x_t: (B, C, H, W) float64.  a, s: from signal_noise."""

    @abstractmethod
    def given(self, known, edit_mask):
        """The same world, conditioned on the pixels of `known` outside edit_mask.

        known: (1, C, H, W).  edit_mask: bool (1, 1, H, W), True = may change.
        """

    @abstractmethod
    def sample(self, n, generator):
        """n pictures drawn from the world itself: (n, C, H, W) float64."""

    def denoiser(self, process):
        """The exact `denoise(x_t, t) -> prediction` for a process, at every level, 0 included."""

        def denoise(x_t, t):
            x = x_t.to(self.mean)
            a, s = process.signal_noise(t, x)
            x0_hat = self.posterior_mean(x, a, s)
            eps_hat = torch.where(s > 0, (x - a * x0_hat) / s, 0)   # x_t says nothing of eps at t = 0: mean 0
            return process.target(x0_hat, eps_hat).to(x_t)

        return denoise


class FiniteSet(World):
    """Pictures that are each one of N, with given probabilities: what a network would learn by heart.

    images: (N, C, H, W).  weights: (N,), not negative, scaled to sum 1; equal unless given.
    """

    def __init__(self, images, weights=None):
        weights = torch.ones(len(images)) if weights is None else torch.as_tensor(weights)
        if images.ndim != 4 or weights.shape != images.shape[:1]:
            found = f"images are {tuple(images.shape)}, weights {tuple(weights.shape)}"
            raise ValueError(f"{found}: (N, C, H, W) and (N,) expected")
        if (weights < 0).any() or not weights.sum() > 0:
            raise ValueError("weights must not be negative, and not all zero")
        self.images = images.double()
        self.weights = weights.to(self.images) / weights.sum()
        self.mean = torch.einsum("n,nchw->chw", self.weights, self.images)

    def posterior_mean(self, x_t, a, s):
        """The pictures averaged by their probability given x_t, w_i exp(-|x_t - a x_i|^2 / (2 s^2)).

        |x_t|^2 is in all of them, and cancels. s stays above 1e-6: at 0 the mean is just the nearest picture.
        """
        a, s = a.flatten(1), s.flatten(1).clamp(min=1e-6)                              # (B|1, 1)
        images = self.images.flatten(1)                                                # (N, CHW)
        overlap = a * (x_t.flatten(1) @ images.T) - a**2 * images.square().sum(1) / 2  # (B, N)
        probability = (overlap / s**2 + self.weights.log()).softmax(1)                 # (B, N)
        return (probability @ images).view_as(x_t)

    def given(self, known, edit_mask):
        """The pictures that agree with `known` outside edit_mask, to 1e-6. Raises ValueError if none does."""
        check_known(self.mean, known, edit_mask)
        gap = torch.where(edit_mask.to(self.mean.device), 0, self.images - known.to(self.images))
        agree = gap.abs().flatten(1).amax(1) <= 1e-6                                   # (N,)
        if not self.weights[agree].sum() > 0:
            raise ValueError("known agrees with no picture of the set outside edit_mask: one expected")
        return FiniteSet(self.images[agree], self.weights[agree])

    def sample(self, n, generator):
        """n pictures of the set, drawn by their weights: (n, C, H, W) float64."""
        return self.images[torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)]


class Gaussian(World):
    """Pictures from one normal distribution: steps are linear on it, so even RePaint has a law on paper.

    mean: (C, H, W).  cov: (CHW, CHW), symmetric, without negative eigenvalues; zero ones are allowed.
    """

    def __init__(self, mean, cov):
        if mean.ndim != 3 or cov.shape != (mean.numel(), mean.numel()):
            found = f"mean is {tuple(mean.shape)}, cov is {tuple(cov.shape)}"
            raise ValueError(f"{found}: (C, H, W) and (CHW, CHW) expected")
        self.mean, self.cov = mean.double(), cov.to(mean.device).double()
        values, vectors = torch.linalg.eigh(self.cov)
        scale = values.abs().max()
        if not torch.allclose(self.cov, self.cov.T) or (values < -1e-8 * scale).any():
            raise ValueError("cov must be symmetric, without negative eigenvalues")
        spread = values > 1e-12 * scale               # along the other axes x0 is the mean, whatever x_t says
        self.variances, self.axes = values[spread], vectors[:, spread]                 # (K,), (CHW, K)

    def posterior_mean(self, x_t, a, s):
        """mean + a cov (a^2 cov + s^2)^-1 (x_t - a mean), where cov is a number for each of its axes."""
        a, s = a.flatten(1), s.flatten(1)                                              # (B|1, 1)
        gain = a * self.variances / (a**2 * self.variances + s**2)                     # (B|1, K)
        centred = x_t.flatten(1) - a * self.mean.flatten()                             # (B, CHW)
        return self.mean + ((centred @ self.axes * gain) @ self.axes.T).view_as(x_t)

    def given(self, known, edit_mask):
        """The normal distribution of the editable pixels given the others, which keep the values of `known`.

        mean_e + C_ek C_kk^-1 (known - mean_k) and C_ee - C_ek C_kk^-1 C_ke; e editable, k kept.
        """
        check_known(self.mean, known, edit_mask)
        edit = edit_mask[0].expand_as(self.mean).flatten().to(self.mean.device)        # (CHW,)
        keep = ~edit
        pull = self.cov[edit][:, keep] @ torch.linalg.pinv(self.cov[keep][:, keep], hermitian=True)
        mean, cov = known.to(self.mean).flatten().clone(), torch.zeros_like(self.cov)
        mean[edit] = self.mean.flatten()[edit] + pull @ (mean - self.mean.flatten())[keep]
        below = self.cov[edit][:, edit] - pull @ self.cov[keep][:, edit]
        cov[edit.outer(edit)] = ((below + below.T) / 2).flatten()
        return Gaussian(mean.view_as(self.mean), cov)

    def sample(self, n, generator):
        """n pictures, mean + axes sqrt(variances) noise: (n, C, H, W) float64."""
        noise = torch.randn(n, len(self.variances), dtype=torch.float64, generator=generator).to(self.mean)
        return self.mean + (noise * self.variances.sqrt() @ self.axes.T).view(n, *self.mean.shape)


def check_known(picture, known, edit_mask):
    """Raise ValueError unless known and edit_mask fit one (C, H, W) picture."""
    expected = (1, *picture.shape), (1, 1, *picture.shape[1:])
    if (tuple(known.shape), tuple(edit_mask.shape)) != expected or edit_mask.dtype != torch.bool:
        found = f"known is {tuple(known.shape)}, edit_mask {tuple(edit_mask.shape)} {edit_mask.dtype}"
        raise ValueError(f"{found}: {expected[0]} and {expected[1]} torch.bool expected")
