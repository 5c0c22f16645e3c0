"""Implicit known pixels: the noise of the known part is what the network itself sees there.

With Gaussian data the mean of the hole given the known pixels y is the network's unconditional
estimate at that x_t whose known part is

    a y + s e,    e = eps_theta(x_t) there:

a fixed point, at which its own estimate of the known pixels is y. A level takes one of Picard's
iterations, e <- eps_theta(x_t), or of two the combination that leaves the smallest residual y - D;
the noise so found goes along to the next level. With one call and no fresh noise this is DDNM with
eta = 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser, clipped
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

__all__ = ["Implicit"]


@method
class Implicit:
    """Solves for the known part's noise while going down; needs no gradient.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        churn: fresh noise is a share (1 - a')^churn of each level's.
        eta: in place of the churn, DDIM's noise: 0 has none, 1 is DDPM's.
        calls: network calls a level, 1 or 2.
    """

    clip_denoised: bool = static(default=True)
    churn: float = 0.5
    eta: float | None = None
    calls: int = static(default=1)

    def __post_init__(self) -> None:
        if self.calls not in (1, 2):
            raise ValueError(f"calls: 1 or 2, not {self.calls}")

    tabulate = tabulate_levels
    init = begin_in_noise

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Level, key: jax.Array
    ) -> State:
        """Down a level, with the known part's noise from the level before."""
        z, z_jump = jax.random.normal(key, (2, *state.x.shape))
        x0, eps = at.predict(model, state.x)
        if self.calls == 2:
            x0, eps = self.second(model, state.x, observation, at, (x0, eps))
        x0 = clipped(x0, self.clip_denoised)
        fresh = at.fresh(self.churn, self.eta)
        x = at.toward(observation.put_down(x0), eps, z, fresh)
        return State(at.renoise(x, z_jump), x0)

    def second(
        self,
        model: Denoiser,
        x: jax.Array,
        observation: Observation,
        at: Level,
        first: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        """Asks again with the noise of the first answer; x_0 and noise of the best mixture."""
        image, known = observation
        again = at.predict(model, jnp.where(known, at.signal * image + at.sigma * first[1], x))
        before, after = (jnp.where(known, image - x0, 0) for x0, _ in (first, again))
        change = after - before
        size = jnp.vdot(change, change)
        weight = jnp.where(size > 0, -jnp.vdot(before, change) / jnp.where(size > 0, size, 1), 1)
        weight = jnp.clip(weight, 0, 2)
        x0, eps = (one + weight * (two - one) for one, two in zip(first, again, strict=True))
        return x0, eps

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """One or two network calls a step."""
        return np.full(resampling.num_model_calls, float(self.calls))
