"""PiGDM, pseudoinverse-guided diffusion (Song et al. 2023), Algorithm 1 for a mask without noise.

    D     = the clean picture that the model sees in x_t
    g     = J^T M^T (y - M D),    J = dD/dx
    x_{t-1} = DDIM's step to D with eta, + a g

The weight r_t^2 = s^2 of the paper's guidance cancels against its variance of x_0 given x_t.
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

__all__ = ["PiGDM"]


@method
class PiGDM:
    """Guided by one vector-Jacobian product, as if x_0 given x_t varied alike everywhere.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        eta: DDIM's noise: 0 has none, 1 is DDPM's.
    """

    clip_denoised: bool = static(default=True)
    eta: float = 1.0

    tabulate = tabulate_levels
    init = begin_in_noise

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Level, key: jax.Array
    ) -> State:
        """One pass through the loop of Algorithm 1."""
        z, z_jump = jax.random.normal(key, (2, *state.x.shape))
        x0, _, pull = at.predict_and_pull(model, state.x)
        x0 = clipped(x0, self.clip_denoised)  # before the guidance, which else runs away
        guidance = pull(jnp.where(observation.known, observation.image - x0, 0))
        x = at.toward(x0, at.noise_in(state.x, x0), z, at.ancestral(self.eta))
        return State(at.renoise(x + at.signal * guidance, z_jump), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """A gradient a step."""
        return np.full(resampling.num_model_calls, GRADIENT_COST)
