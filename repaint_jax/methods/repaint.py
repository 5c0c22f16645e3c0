"""RePaint (Lugmayr et al. 2022), Algorithm 1.

    for each network call of the resample schedule, from time t to the next call's time t'
        unknown ~ p_theta(x_{t-1} | x_t)                              Eq. 8b
        known   = sqrt(ac_{t-1}) x_0 + sqrt(1 - ac_{t-1}) z           Eq. 8a
        x_{t-1} = known where the picture is known, else unknown      Eq. 8c
        x_{t'}  = sqrt(a) x_{t-1} + sqrt(1 - a) z                     line 10

with a = ac_{t'} / ac_{t-1}, which is 1 (no noise) unless the schedule jumps. Since ac_{-1} = 1, the
last merge puts the known pixels down exactly as they were given.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import (
    Denoiser,
    Reverse,
    Variance,
    posterior,
    predict_x0,
    split_output,
)
from repaint_jax.methods.base import Level, Observation, State, method, static
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["RePaint"]


class Step(NamedTuple):
    """The numbers of one step, or of N of them as arrays [N]."""

    reverse: Reverse  # t -> t - 1
    level: Level


class Draws(NamedTuple):
    """The standard normal noise of one step, float32[H, W, C] each."""

    reverse: jax.Array
    known: jax.Array
    jump: jax.Array


@method
class RePaint:
    """Replaces the known part of each reverse step, and resamples where the walk jumps.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        variance: "fixed_small" or "fixed_large"; a model with 2C channels brings its own.
        eta: 1 draws as DDPM does, 0 makes the reverse steps deterministic (DDIM).
    """

    clip_denoised: bool = static(default=True)
    variance: Variance = static(default="fixed_small")
    eta: float = 1.0

    def __post_init__(self) -> None:
        if self.variance not in ("fixed_small", "fixed_large"):
            raise ValueError(f"variance: fixed_small or fixed_large, not {self.variance!r}")
        if isinstance(self.eta, int | float) and not 0 <= self.eta <= 1:  # else it is traced
            raise ValueError(f"eta: from 0 (DDIM) to 1 (DDPM), not {self.eta}")

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step."""
        reverse = jax.tree.map(
            lambda numbers: numbers[resampling.t], Reverse.table(noise, self.eta)
        )
        return Step(reverse, Level.of(noise, resampling))

    def init(self, key: jax.Array, observation: Observation, at: Step) -> State:
        """Pure noise."""
        return State.noise(key, observation, at.level)

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Step, key: jax.Array
    ) -> State:
        """One pass through the loop of Algorithm 1: x_t -> x_{t'}; one network call."""
        z = Draws(*jax.random.normal(key, (3, *state.x.shape)))
        return self.move(model, state.x, observation, at, z)

    def move(
        self, model: Denoiser, x: jax.Array, observation: Observation, at: Step, z: Draws
    ) -> State:
        """`step`, with its noise given."""
        image, known = observation
        x_unknown, x0 = self.reverse_step(model, x, at.reverse, z.reverse)
        x_known = at.level.next_signal * image + at.level.next_sigma * z.known
        return State(at.level.renoise(jnp.where(known, x_known, x_unknown), z.jump), x0)

    def reverse_step(
        self, model: Denoiser, x: jax.Array, at: Reverse, z: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Draws x_{t-1} from p_theta(x_{t-1} | x_t), Eq. 8b; and tells the predicted x_0."""
        x, z = x[None], z[None]  # a batch of one, as models take it
        eps, learned = split_output(model(x, jnp.asarray(at.time)[None]), x)
        x0 = predict_x0(x, eps, at, self.clip_denoised)
        mean, log_variance = posterior(x0, x, at, learned, self.variance)
        return (mean + at.eta * jnp.exp(0.5 * log_variance) * z)[0], x0[0]

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """One network call a step."""
        return np.ones(resampling.num_model_calls)
