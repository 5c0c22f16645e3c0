"""DDNM (Wang et al. 2023, arXiv 2212.00490), Algorithm 1; its time travel (Alg. 2) is the walk.

    for each step of the walk, from time t to t - 1
        x_{0|t}  = the clean picture that the model sees in x_t         Eq. 12
        x^_{0|t} = known where the picture is known, else x_{0|t}       Eq. 13, A a mask
        x_{t-1} ~ p(x_{t-1} | x_t, x^_{0|t})                            Eq. 14
        where the walk goes up again: x_{t'} ~ q(x_{t'} | x_{t-1})

with p as in the authors' sampler, DDIM's with a share eta of fresh noise:

    x_{t-1} = a' x^_{0|t} + s' (sqrt(1 - eta^2) eps + eta z)
"""

from __future__ import annotations

import jax
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

__all__ = ["DDNM"]


@method
class DDNM:
    """Puts the known pixels into each predicted clean picture; one network call a step.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        eta: the share of each step's noise that is fresh, from 0 to 1; the authors have .85.
    """

    clip_denoised: bool = static(default=True)
    eta: float = 0.85

    tabulate = tabulate_levels
    init = begin_in_noise

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Level, key: jax.Array
    ) -> State:
        """One pass through the loop of Algorithm 1."""
        z, z_jump = jax.random.normal(key, (2, *state.x.shape))
        x0, eps = at.predict(model, state.x, clip=self.clip_denoised)
        x = at.toward(observation.put_down(x0), eps, z, self.eta)
        return State(at.renoise(x, z_jump), x0)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """One network call a step."""
        return np.ones(resampling.num_model_calls)
