"""DAPS, decoupled annealing posterior sampling (Zhang et al. 2024, arXiv 2407.01521), Algorithm 1.

    for each step of the walk, from time t to t - 1
        D       = the end of the probability-flow ODE from x_t, in a few Euler steps
        x_0     ~ N(D, r_t^2 I) given its known pixels,    r_t = s / a
        x_{t-1} = a' x_0 + s' z

For a mask the second line, for which the paper runs Langevin dynamics, can be drawn exactly: the
known pixels are y, the others free. The ODE runs over the levels of the walk below t.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.methods.base import Level, Observation, State, method, static
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["DAPS"]


class Step(NamedTuple):
    """The numbers of one step, or of N steps as arrays [N]."""

    level: Level
    down: Level  # [N, calls], of the ODE from t to the clean picture


@method
class DAPS:
    """Draws a clean picture at each level, and noises it anew.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        spread: r_t in units of s / a.
        calls: Euler steps of the ODE at each level, one network call each.
    """

    clip_denoised: bool = static(default=True)
    spread: float = 1.0
    calls: int = static(default=5)

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step; where fewer levels are left than calls, some stand still."""
        t = np.linspace(resampling.t, -1, self.calls + 1, axis=1).round().astype(int)
        down = Level.between(noise, np.maximum(t[:, :-1], 0), t[:, 1:])
        return Step(Level.of(noise, resampling), down)

    def init(self, key: jax.Array, observation: Observation, at: Step) -> State:
        """Pure noise."""
        return State.noise(key, observation, at.level)

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Step, key: jax.Array
    ) -> State:
        """One pass through the loop of Algorithm 1."""
        z_clean, z, z_jump = jax.random.normal(key, (3, *state.x.shape))

        def euler(x: jax.Array, at: Level) -> tuple[jax.Array, None]:
            x0, _ = at.predict(model, x, clip=self.clip_denoised)
            return at.toward(x0, at.noise_in(x, x0), z=jnp.zeros(())), None

        x0, _ = jax.lax.scan(euler, state.x, at.down)
        level = at.level
        drawn = observation.put_down(x0 + self.spread * level.sigma / level.signal * z_clean)
        x = level.toward(drawn, z, z=jnp.zeros(()))
        return State(level.renoise(x, z_jump), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """The calls of the ODE."""
        return np.full(resampling.num_model_calls, float(self.calls))
