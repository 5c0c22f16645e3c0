"""LanPaint's Langevin dynamics (Zheng et al. 2025, arXiv 2502.03491), with Euler's steps.

At each level both parts of the picture move by Langevin dynamics, the hole by the network's score
and the known part by the "bidirectional guided" one, which also pulls it to y, noised:

    hole:    - eps / s
    known:   (1 + lambda) (a y - x) / s^2 + lambda eps / s

For large lambda the known part rests where its noise is what the network sees there. The paper
runs underdamped dynamics with a step size of its own for each model; here they are overdamped, with
steps in units of s^2 (over 1 + lambda in the known part). Then the picture goes down a level.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.methods.base import (
    Level,
    Observation,
    State,
    begin_in_noise,
    method,
    static,
    tabulate_levels,
)
from repaint_jax.resampling import ResampleSchedule

__all__ = ["LanPaint"]


@method
class LanPaint:
    """Langevin dynamics at each level, by the joint score of hole and known part.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        step_size: of the dynamics, in units of s^2.
        strength: lambda.
        inner: steps of the dynamics at each level, one network call each.
    """

    clip_denoised: bool = static(default=True)
    step_size: float = 0.15
    strength: float = 8.0
    inner: int = static(default=4)

    tabulate = tabulate_levels
    init = begin_in_noise

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Level, key: jax.Array
    ) -> State:
        """The dynamics, then DDIM's step down."""
        z = jax.random.normal(key, (self.inner + 1, *state.x.shape))
        image, known = observation
        size = jnp.where(known, self.step_size / (1 + self.strength), self.step_size)

        def langevin(x: jax.Array, z: jax.Array) -> tuple[jax.Array, None]:
            _, eps = at.predict(model, x)
            pull = (1 + self.strength) * (at.signal * image - x) + self.strength * at.sigma * eps
            drift = jnp.where(known, pull, -at.sigma * eps)
            return x + size * drift + jnp.sqrt(2 * size) * at.sigma * z, None

        x, _ = jax.lax.scan(langevin, state.x, z[:-1])
        x0, eps = at.predict(model, x, clip=self.clip_denoised)
        x = at.toward(observation.put_down(x0), eps, z=jnp.zeros(()))
        return State(at.renoise(x, z[-1]), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """The dynamics' calls and one more."""
        return np.full(resampling.num_model_calls, self.inner + 1.0)
