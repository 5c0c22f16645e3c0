"""DInG, decoupled inpainting guidance (Moufad et al. 2026): two network calls a level, no gradient.

    for each step of the walk, from time t to t - 1
        x_0    = the clean picture that the model sees in x_t
        w1, w2 = two draws of x_{t-1} given x_t and x_0
        x_{t-1} = a' y + s' eps_theta(w1, t - 1) where the picture is known, else w2

The last step, to the clean picture, is x_0 itself.
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

__all__ = ["DInG"]


class Step(NamedTuple):
    """The numbers of one step, or of N steps as arrays [N]."""

    level: Level
    below: Level  # of t - 1, where the second call is made; of 0 at the end, which makes none
    last: np.ndarray  # bool


@method
class DInG:
    """Noises the known pixels by what the network sees there at the next level.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        churn: fresh noise is a share (1 - a')^churn of each level's.
    """

    clip_denoised: bool = static(default=True)
    churn: float = 0.25

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step."""
        below = np.maximum(resampling.t - 1, 0)
        level = Level.of(noise, resampling)
        return Step(level, Level.between(noise, below, below), resampling.t == 0)

    def init(self, key: jax.Array, observation: Observation, at: Step) -> State:
        """Pure noise."""
        return State.noise(key, observation, at.level)

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Step, key: jax.Array
    ) -> State:
        """Down a level."""
        z1, z2, z_jump = jax.random.normal(key, (3, *state.x.shape))
        level = at.level
        x0, _ = level.predict(model, state.x, clip=self.clip_denoised)
        eps, fresh = level.noise_in(state.x, x0), level.churned(self.churn)
        w1, w2 = (level.toward(x0, eps, z, fresh) for z in (z1, z2))
        seen = jax.lax.cond(
            at.last, lambda: jnp.zeros_like(w1), lambda: at.below.predict(model, w1)[1]
        )
        known = level.next_signal * observation.image + level.next_sigma * seen
        x = jnp.where(observation.known, known, w2)
        return State(level.renoise(x, z_jump), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """Two network calls a step, one at the end."""
        return np.where(resampling.t == 0, 1.0, 2.0)
