"""DDPM: noise in T small steps, a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar). Ho et al., 2006.11239."""

from dataclasses import dataclass
from math import pi

import torch

from minidiff.process.gaussian import Process, check_order, check_same_shape


@dataclass(frozen=True, eq=False)
class DDPM(Process):
    """Levels 0..T, whole numbers; the network predicts the noise eps, or x0.

    alpha_bar: (T+1,) float64 on the CPU; falls from alpha_bar[0] = 1 and stays above 0.
    predicts: "eps" or "x0".
    """

    alpha_bar: torch.Tensor
    predicts: str = "eps"

    def __post_init__(self):
        table = self.alpha_bar
        if table.ndim != 1 or len(table) < 2 or table.dtype != torch.float64:
            found = f"alpha_bar is {tuple(table.shape)}, {table.dtype}"
            raise ValueError(f"{found}: (T+1,) float64 with T >= 1 expected")
        if table[0] != 1 or not (table.diff() < 0).all() or not table[-1] > 0:
            raise ValueError("alpha_bar must fall from exactly 1 and stay above 0")
        if self.predicts not in ("eps", "x0"):
            raise ValueError(f'predicts = "{self.predicts}": "eps" or "x0" expected')

    @classmethod
    def linear(cls, T=1000, predicts="eps"):
        """Betas from 1e-4 to .02 (2006.11239, section 4), times 1000 / T: any T ends in about the same noise.

        T > 20, since a beta must stay below 1.
        """
        if T <= 20:
            raise ValueError(f"T = {T}: more than 20 levels expected, or the last beta reaches 1")
        betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T
        return cls(alpha_bar_from(betas), predicts)

    @classmethod
    def cosine(cls, T=1000, predicts="eps"):
        """alpha_bar = cos((t/T + .008) / 1.008 * pi/2)^2, divided by its value at 0; betas clipped at .999.

        Nichol & Dhariwal, 2102.09672, eq. 17. T >= 1.
        """
        if T < 1:
            raise ValueError(f"T = {T}: at least 1 level expected")
        t = torch.arange(T + 1, dtype=torch.float64)
        f = torch.cos((t / T + 0.008) / 1.008 * pi / 2) ** 2
        betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        return cls(alpha_bar_from(betas), predicts)

    @property
    def T(self):
        """The highest level."""
        return len(self.alpha_bar) - 1

    def coefficients(self, t):
        """a = sqrt(alpha_bar[t]), s = sqrt(1 - alpha_bar[t]); ValueError unless t is whole and in 0..T."""
        level = t.long()
        if not torch.equal(level.clamp(0, self.T).double(), t):
            raise ValueError(f"t = {t.tolist()}: whole levels 0..{self.T} expected")
        alpha_bar = self.alpha_bar.take(level)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def times(self, steps):
        """steps + 1 distinct levels from T to 0, evenly spread (2102.09672, section 4).  1 <= steps <= T."""
        if not 1 <= steps <= self.T:
            raise ValueError(f"steps = {steps}: 1 to {self.T} expected, a whole level or more for each")
        return [self.T * k // steps for k in range(steps, -1, -1)]

    def fraction(self, t):
        """The level as a fraction 0..1 of the whole: t / T."""
        return t / self.T

    def predict_x0(self, x_t, prediction, t):
        """x0_hat = (x_t - s eps) / a (2006.11239, eq. 15); or the prediction itself, if that is x0."""
        check_same_shape(x_t=x_t, prediction=prediction)
        if self.predicts == "x0":
            return prediction
        a, s = self.signal_noise(t, x_t)
        return (x_t - s * prediction) / a

    def prediction(self, x_t, x0_hat, t):
        """eps = (x_t - a x0_hat) / s, the inverse of predict_x0, t > 0; or x0_hat, if that is predicted."""
        check_same_shape(x_t=x_t, x0_hat=x0_hat)
        if self.predicts == "x0":
            return x0_hat
        check_order(0, t, "0", "t")
        a, s = self.signal_noise(t, x_t)
        return (x_t - a * x0_hat) / s

    def target(self, x0, noise):
        """What the network is trained to predict: the noise (2006.11239, eq. 14), or x0."""
        return x0 if self.predicts == "x0" else noise

    def ddim_step(self, x_t, prediction, t, t_next, eta=0.0, noise=None):
        """Step down with a chosen share of fresh noise: eta = 0 has none, eta = 1 is `step`.

        a_next x0_hat + sqrt(s_next^2 - sigma^2) eps_hat + sigma noise: DDIM (2010.02502), eq. 12. Its sigma,
        eq. 16, is eta (s_next / s_t) sqrt(1 - (a_t / a_next)^2), computed here in a form that rounding cannot
        push above s_next.
        x_t, prediction, noise: (B, C, H, W).  t_next < t.  0 <= eta <= 1; eta > 0 needs noise.
        """
        check_order(t_next, t, "t_next", "t")
        if not 0 <= eta <= 1 or (eta > 0 and noise is None):
            raise ValueError(f"eta = {eta}: 0 <= eta <= 1 expected, and noise with it where eta > 0")
        a_t, s_t = self.signal_noise(t, x_t)
        a_next, s_next = self.signal_noise(t_next, x_t)
        x0_hat = self.predict_x0(x_t, prediction, t)
        eps_hat = (x_t - a_t * x0_hat) / s_t
        sigma = eta * s_next * (1 - (a_t / a_next * s_next / s_t) ** 2).sqrt()
        mean = a_next * x0_hat + (s_next**2 - sigma**2).sqrt() * eps_hat
        return mean if eta == 0 else mean + sigma * noise


def alpha_bar_from(betas):
    """alpha_bar[t], the product of 1 - beta up to t, and 1 at t = 0: (T,) -> (T+1,)."""
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
