"""x_t = a x0 + s eps: the reverse process that every editor shares.

A process says how much signal a and how much noise s there is at a level t. All else on this page follows
from that: how to noise a picture, how to step down to a cleaner level, and how to climb back up.
"""

from abc import ABC, abstractmethod
from functools import lru_cache

import torch


class Process(ABC):
    """A Gaussian corruption x_t = a x0 + s eps, with the steps that undo it.

    Levels: t = 0 is data (a = 1, s = 0), the highest level is pure noise, or nearly. Every t is one level for
    the whole batch, or (B,), one for each picture. Pictures are (B, C, H, W), float32 or float64.
    """

    @abstractmethod
    def coefficients(self, t):
        """a and s at the levels t: float64 on the CPU, in and out. Raises ValueError outside the levels."""

    @abstractmethod
    def predict_x0(self, x_t, prediction, t):
        """x0_hat: the clean picture that the network's prediction at x_t stands for."""

    @abstractmethod
    def prediction(self, x_t, x0_hat, t):
        """The prediction that stands for x0_hat: the inverse of predict_x0, for t > 0."""

    @abstractmethod
    def target(self, x0, noise):
        """What the network is trained to predict at x_t = a x0 + s noise."""

    @abstractmethod
    def times(self, steps):
        """steps + 1 descending levels, pure noise first, 0 last."""

    @abstractmethod
    def fraction(self, t):
        """The level as a fraction 0..1 of the whole, which is what networks see."""

    def signal_noise(self, t, like):
        """a and s at level t with the dtype and device of `like`: each (1, 1, 1, 1) or (B, 1, 1, 1)."""
        if like.ndim != 4 or like.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"x is {tuple(like.shape)} {like.dtype}: (B, C, H, W) of float32 or 64 expected")
        if not isinstance(t, torch.Tensor):
            return signal_noise_of_all(self, t, like.dtype, like.device)
        t = t.cpu().double()
        if t.ndim > 1 or t.numel() not in (1, len(like)):
            raise ValueError(f"t is {tuple(t.shape)}, x {tuple(like.shape)}: one level, or (B,), expected")
        both = torch.stack(self.coefficients(t)).to(like, non_blocking=like.is_cuda)  # one trip
        return both.view(2, -1, 1, 1, 1).unbind()

    def corrupt(self, x0, t, noise):
        """Draw x_t from q(x_t | x0): a x0 + s noise.

        x0, noise: (B, C, H, W).  t: the level to land on; at t = 0 the result is x0.
        DDPM, eq. 4 (2006.11239); for a flow, the straight line of 2209.03003, eq. 1, with the noise at t = 1.
        """
        check_same_shape(x0=x0, noise=noise)
        a, s = self.signal_noise(t, x0)
        return a * x0 + s * noise

    def step(self, x_t, prediction, t, t_next, noise):
        """Draw x_{t_next} from q(x_{t_next} | x_t, x0_hat): one ancestral step, to any lower level.

        a_next x0_hat + sqrt(s_next^2 - var) eps_hat + sqrt(var) noise,
        var = s_next^2 (1 - (r s_next / s_t)^2),  r = a_t / a_next.
        x_t, prediction, noise: (B, C, H, W).  t, t_next: levels, t_next < t.  At t_next = 0 it is x0_hat.
        DDPM, eq. 6-7 (2006.11239), where a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar); a flow has a = 1 - t,
        s = t.
        """
        check_order(t_next, t, "t_next", "t")
        check_same_shape(x_t=x_t, noise=noise)
        a_t, s_t = self.signal_noise(t, x_t)
        a_next, s_next = self.signal_noise(t_next, x_t)
        x0_hat = self.predict_x0(x_t, prediction, t)
        eps_hat = (x_t - a_t * x0_hat) / s_t
        variance = s_next**2 * (1 - (a_t / a_next * s_next / s_t) ** 2)
        return a_next * x0_hat + (s_next**2 - variance).sqrt() * eps_hat + variance.sqrt() * noise

    def renoise(self, x_t, t, t_up, noise):
        """Draw x_{t_up} from q(x_{t_up} | x_t): the climb, which adds noise and forgets.

        r x_t + sqrt(s_up^2 - r^2 s_t^2) noise,  r = a_up / a_t.
        x_t, noise: (B, C, H, W).  t, t_up: levels, t_up > t.  DDPM, eq. 2 (2006.11239), for any climb.
        """
        check_order(t, t_up, "t", "t_up")
        check_same_shape(x_t=x_t, noise=noise)
        a_t, s_t = self.signal_noise(t, x_t)
        a_up, s_up = self.signal_noise(t_up, x_t)
        r = a_up / a_t
        return r * x_t + (s_up**2 - (r * s_t) ** 2).sqrt() * noise


@lru_cache(maxsize=4096)
def signal_noise_of_all(process, t, dtype, device):
    """a and s, each (1, 1, 1, 1), at one level for the whole batch; kept, since walks come by many times."""
    with torch.inference_mode(False):                              # what is kept must serve training, too
        both = torch.stack(process.coefficients(torch.tensor(t, dtype=torch.float64))).to(device, dtype)
        return both.view(2, 1, 1, 1, 1).unbind()


def check_order(low, high, low_name, high_name):
    """Raise ValueError unless every level `low` is below its level `high`."""
    if torch.as_tensor(low >= high).any():
        raise ValueError(f"{low_name} = {low}, {high_name} = {high}: {low_name} < {high_name} expected")


def check_same_shape(**tensors):
    """Raise ValueError unless all have one shape: broadcasting would share one noise between pictures."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        found = ", ".join(f"{name} is {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{found}: the same shape expected")
