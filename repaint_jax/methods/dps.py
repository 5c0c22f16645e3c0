"""DPS, diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687), Algorithm 1.

    D       = the clean picture that the model sees in x_t
    x'      ~ p_theta(x_{t-1} | x_t), DDPM's step
    x_{t-1} = x' - zeta grad_x |y - M D|

with the norm itself, as the authors' code has it: their step size over the norm, on its square.
Meant for some 1000 levels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser, clipped
from repaint_jax.methods.base import (
    GRADIENT_COST,
    Level,
    Observation,
    State,
    begin_in_noise,
    method,
    static,
    tabulate_levels,
)
from repaint_jax.resampling import ResampleSchedule

__all__ = ["DPS"]


@method
class DPS:
    """Guided by the gradient of the distance to the known pixels, of a fixed length.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        zeta: the step size.
    """

    clip_denoised: bool = static(default=True)
    zeta: float = 1.0

    tabulate = tabulate_levels
    init = begin_in_noise

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Level, key: jax.Array
    ) -> State:
        """One pass through the loop of Algorithm 1."""
        z, z_jump = jax.random.normal(key, (2, *state.x.shape))
        x0, _, pull = at.predict_and_pull(model, state.x)
        residual = jnp.where(observation.known, observation.image - x0, 0)
        square = jnp.vdot(residual, residual)
        guidance = pull(residual) * jax.lax.rsqrt(jnp.where(square > 0, square, 1))
        x0 = clipped(x0, self.clip_denoised)
        x = at.toward(x0, at.noise_in(state.x, x0), z, at.ancestral(1.0))
        return State(at.renoise(x + self.zeta * guidance, z_jump), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """A gradient a step."""
        return np.full(resampling.num_model_calls, GRADIENT_COST)
