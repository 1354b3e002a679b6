"""Muon: the step of a matrix is its momentum with all singular values made about 1. Keller Jordan, 2024.

Where AdamW scales each number by its own history, Muon takes a layer's weights as what they are, a matrix,
and moves all of its directions about equally far. What it gained is in data/README.md, at town-vae.
"""

from itertools import groupby

import torch

from train.place import has_fast_bf16

COEFFICIENTS = 3.4445, -4.7750, 2.0315                          # steep at 0, so that few turns will do


class Muon(torch.optim.Optimizer):
    """w <- w (1 - lr decay) - lr .2 sqrt(max(m, n)) orthogonalised(momentum), for a weight that is m x n.

    Momentum as Nesterov's. The factor gives steps the size of AdamW's, so that one learning rate serves both:
    Liu et al. (2502.16982), eq. 4.
    parameters: of 2 or more axes, the first of which is a layer's outputs; a convolution's kernel is a matrix
    from all that it sees.  momentum: the share of the running mean of gradients that survives a step.
    torch.optim.Muon with adjust_lr_fn="match_rms_adamw" is the same, but refuses convolutions.
    """

    def __init__(self, parameters, lr=0.0, weight_decay=0.01, momentum=0.95):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    @torch.no_grad()
    def step(self):
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for _, alike in groupby(sorted(weights, key=matrix_shape), matrix_shape):
                self.move(list(alike), group["lr"], group["weight_decay"], group["momentum"])

    def move(self, weights, lr, weight_decay, momentum):
        """One step of parameters with equally large matrices: together, since each alone is little work."""
        for weight in weights:
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients, means = zip(*((weight.grad, self.state[weight]["momentum"]) for weight in weights))
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, means, momentum)
        updates = orthogonalised(torch.stack([each.flatten(1) for each in ahead]))  # (weights, m, n)
        size = 0.2 * max(updates.shape[1:]) ** 0.5
        updates = [update.view(weight.shape) for update, weight in zip(updates, weights, strict=True)]
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(weights, updates, alpha=-lr * size)


def matrix_shape(weight):
    """(m, n) of a parameter, taken as a matrix of its outputs by all that they see."""
    return len(weight), weight[0].numel()


def orthogonalised(matrix, turns=5):
    """About U V^T of U S V^T, by a polynomial, without taking it apart.

    X <- a X + b (X X^T) X + c (X X^T)^2 X keeps U and V: Newton and Schulz's iteration. By Jordan's
    coefficients singular values above some .002 of the norm end between .68 and 1.2, and do not settle there,
    which is the price of so few turns; smaller ones grow some 480 times.  matrix: (m, n), or several of them,
    (..., m, n).  Returns the same shape, float32.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = (matrix.mT if tall else matrix).to(torch.bfloat16 if has_fast_bf16(matrix.device) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)                            # no singular value above 1
    for _ in range(turns):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).float()


def split_parameters(network, moved):
    """(matrices for Muon, all else): named with `moved` in them, of 2 axes or more; "" = none for Muon."""
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    chosen = [name for name, parameter in trained if moved and moved in name and parameter.ndim > 1]
    if moved and not chosen:
        raise ValueError(f'muon = "{moved}": part of the name of a matrix expected, of {trained[0][0]}, ...')
    return ([parameter for name, parameter in trained if name in chosen],
            [parameter for name, parameter in trained if name not in chosen])
