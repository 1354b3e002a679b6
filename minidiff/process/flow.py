"""Rectified flow: a straight line from data to noise, a = 1 - t, s = t. Liu et al., 2209.03003."""

from dataclasses import dataclass
from math import exp

from minidiff.process.gaussian import Process, check_order, check_same_shape


@dataclass(frozen=True)
class Flow(Process):
    """Levels 0..1, real numbers, 1 is pure noise; the network predicts the velocity v = dx/dt = eps - x0."""

    def coefficients(self, t):
        """a = 1 - t, s = t. Raises ValueError unless 0 <= t <= 1."""
        if not ((t >= 0) & (t <= 1)).all():
            raise ValueError(f"t = {t.tolist()}: levels from 0 to 1 expected")
        return 1 - t, t

    def times(self, steps, shift=1.0):
        """steps + 1 levels from 1 to 0; shift > 1 spends more of them near the noise, as large pictures need.

        As `shifted` has it, of even levels from 1 to 0.  steps >= 1, shift > 0.
        """
        if steps < 1:
            raise ValueError(f"steps = {steps}: 1 or more expected")
        if shift <= 0:
            raise ValueError(f"shift = {shift}: above 0 expected")
        return [shifted(k / steps, shift) for k in range(steps, -1, -1)]

    def fraction(self, t):
        """The level as a fraction 0..1 of the whole: t itself."""
        return t

    def predict_x0(self, x_t, prediction, t):
        """x0_hat = x_t - t v: follow the velocity, straight, back to level 0."""
        check_same_shape(x_t=x_t, prediction=prediction)
        _, s = self.signal_noise(t, x_t)
        return x_t - s * prediction

    def prediction(self, x_t, x0_hat, t):
        """v = (x_t - x0_hat) / t, the inverse of predict_x0, for t > 0."""
        check_same_shape(x_t=x_t, x0_hat=x0_hat)
        check_order(0, t, "0", "t")
        _, s = self.signal_noise(t, x_t)
        return (x_t - x0_hat) / s

    def target(self, x0, noise):
        """What the network is trained to predict: noise - x0 (2209.03003, eq. 1, with time reversed)."""
        return noise - x0

    def euler_step(self, x_t, v, t, t_next, noise=None):
        """Follow the velocity, straight, to a lower level: x_t + (t_next - t) v.

        x_t, v: (B, C, H, W).  t_next < t.  noise is taken, but not used, so that loops can call any step.
        """
        check_order(t_next, t, "t_next", "t")
        check_same_shape(x_t=x_t, v=v)
        (_, s_t), (_, s_next) = self.signal_noise(t, x_t), self.signal_noise(t_next, x_t)
        return x_t + (s_next - s_t) * v

    def heun_step(self, x_t, v, v_next, t, t_next):
        """Follow the mean of two velocities, v here and v_next where Euler lands: order 2, for two calls.

        x_t + (t_next - t) (v + v_next) / 2.  Karras et al. (2206.00364), algorithm 1.  Else as in euler_step.
        """
        check_same_shape(v=v, v_next=v_next)
        return self.euler_step(x_t, (v + v_next) / 2, t, t_next)


def shifted(t, shift):
    """Levels 0..1, float or tensor, moved towards the noise: shift t / (shift t + 1 - t). 2403.03206, eq. 23.
    """
    return shift * t / (shift * t + (1 - t))                   # so bracketed, 1 stays exactly 1


def shift_for(tokens):
    """The shift of Flow.times for a picture of so many tokens: the more, the longer it stays near the noise.

    exp(mu), mu on the straight line through .5 at 256 tokens and 1.15 at 4096. So do FLUX.1 (its sampling.py)
    and FLUX.1 Kontext (2506.15742). 64 tokens: 1.60.  Raises ValueError unless tokens >= 1.
    """
    if tokens < 1:
        raise ValueError(f"tokens = {tokens}: at least 1 expected")
    return exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))
