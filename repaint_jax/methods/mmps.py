"""MMPS, moment matching posterior sampling (Rozet et al. 2024, arXiv 2405.13712), Algorithm 3.

With D the predicted clean picture, J = dD/dx, M the known pixels and y their values, Tweedie's
second moment is C = Cov[x_0 | x_t] = (s^2 / a) J, and the mean of x_0 given y, too, is

    D + C M^T (M C M^T)^-1 (y - M D),

solved by conjugate gradients, of which one iteration already has the right length. An exact
denoiser's J is symmetric: products with J^T, which reverse mode gives, stand for those with J.
The step to the next level is DDIM's with fresh noise, or of second order (DPM-Solver++ 2M, Lu et
al. 2022, arXiv 2211.01095): with l = log(a / s), x_0 goes on by (l' - l) / 2 (l - l_before) of what
it has changed since the level before. That needs eta=0 and levels even in l: respace("logsnr20").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser, clipped
from repaint_jax.methods.base import (
    GRADIENT_COST,
    PRODUCT_COST,
    Level,
    Observation,
    State,
    method,
    static,
)
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["MMPS"]


class Step(NamedTuple):
    """The numbers of one step, or of N steps as arrays [N]."""

    level: Level
    ahead: np.ndarray  # by how much of its last change x_0 goes on; 0 where there was none


@method
class MMPS:
    """The conditional mean by conjugate gradients with the network's Jacobian.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        churn: fresh noise is a share (1 - a')^churn of each level's.
        eta: in place of the churn, DDIM's noise: 0 has none, 1 is DDPM's.
        iterations: of conjugate gradients; the first costs 3 calls with the prediction, others 2.
        second_order: extrapolate x_0.
    """

    clip_denoised: bool = static(default=True)
    churn: float = 0.5
    eta: float | None = None
    iterations: int = static(default=1)
    second_order: bool = static(default=False)

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step."""
        t, log_snr = resampling.t, noise.log_snr
        ahead = np.zeros(t.shape, np.float32)
        follows = np.diff(t) == -1  # not after a jump, nor at the end, where l' = inf
        inner = np.flatnonzero(follows & (t[1:] > 0)) + 1
        before, now, then = log_snr[t[inner - 1]], log_snr[t[inner]], log_snr[t[inner] - 1]
        ahead[inner] = (then - now) / (2 * (now - before))
        return Step(Level.of(noise, resampling), ahead)

    def init(self, key: jax.Array, observation: Observation, at: Step) -> State:
        """Pure noise."""
        return State.noise(key, observation, at.level)

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Step, key: jax.Array
    ) -> State:
        """The conditional mean, and from there to the next level."""
        z, z_jump = jax.random.normal(key, (2, *state.x.shape))
        level = at.level
        x0 = observation.put_down(self.conditional_mean(model, state.x, observation, level))
        x0 = clipped(x0, self.clip_denoised)
        ahead = x0 + at.ahead * (x0 - state.x0) if self.second_order else x0
        fresh = level.fresh(self.churn, self.eta)
        x = level.toward(ahead, level.noise_in(state.x, ahead), z, fresh)
        return State(level.renoise(x, z_jump), x0)

    def conditional_mean(
        self, model: Denoiser, x: jax.Array, observation: Observation, at: Level
    ) -> jax.Array:
        """E[x_0 | x_t, y] of a Gaussian with the denoiser's first two moments, f32[H, W, C]."""
        x0, _, pull = at.predict_and_pull(model, x)
        residual = jnp.where(observation.known, observation.image - x0, 0)
        along, left = residual, jnp.vdot(residual, residual)
        for _ in range(self.iterations):
            moved = at.sigma**2 / at.signal * pull(along)  # C M^T along
            length = _ratio(left, jnp.vdot(along, moved))
            x0 = x0 + length * moved
            residual = residual - length * jnp.where(observation.known, moved, 0)
            before, left = left, jnp.vdot(residual, residual)
            along = residual + _ratio(left, before) * along
        return x0

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """A gradient and further products."""
        each = GRADIENT_COST + PRODUCT_COST * (self.iterations - 1)
        return np.full(resampling.num_model_calls, each)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """A / b; 0 where b is not positive: there is nothing left, or a J that no covariance has."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
