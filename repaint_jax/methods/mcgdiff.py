"""MCGDiff, sequential Monte Carlo for a diffusion prior (Cardoso et al. 2023, arXiv 2308.07983).

Algorithm 1, for known pixels without noise. Each picture has K particles. With DDPM's step
N(m(x_t), v I) of the model, and q_t = N(a y, s^2 I) for the known part of x_t,

    weigh by   N(a' y; m, v + s'^2) / q_t(x_t)    over the known pixels,
    draw K of them with these weights, where they are fewer than K / 2 in effect,
    move       the hole by the model's step, and the known part by that step times q_{t-1}.

Asymptotically, in K, exact for the model's own steps; the last has no noise and weighs nothing.
The picture is one of them, drawn with their weights at the time. To draw all anew only where need
be, and systematically (Kitagawa 1996), is no part of the paper: it keeps more of them apart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.methods.base import (
    Level,
    Observation,
    State,
    method,
    static,
    tabulate_levels,
)
from repaint_jax.resampling import ResampleSchedule

__all__ = ["MCGDiff"]


class Population(NamedTuple):
    """The state."""

    x: jax.Array  # f32[H, W, C], one of the particles
    x0: jax.Array
    particles: jax.Array  # f32[K, H, W, C]
    log_weights: jax.Array  # f32[K]


@method
class MCGDiff:
    """A population of pictures, drawn anew at each level by how well they fit what is known.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        eta: DDIM's noise, of which the weights need some; 1 is DDPM's.
        particles: K, network calls a step.
    """

    clip_denoised: bool = static(default=True)
    eta: float = 1.0
    particles: int = static(default=16)

    tabulate = tabulate_levels

    def init(self, key: jax.Array, observation: Observation, at: Level) -> Population:
        """Pure noise, times q_T in the known part."""
        keys = jax.random.split(key, self.particles)
        particles = jax.vmap(lambda key: State.noise(key, observation, at).x)(keys)
        share = 1 / (1 + at.sigma**2)
        image, known = observation.image[None], observation.known[None]
        both = share * at.signal * image + at.sigma * jnp.sqrt(share) * particles
        particles = jnp.where(known, both, particles)
        return Population(
            particles[0], jnp.zeros_like(particles[0]), particles, jnp.zeros(self.particles)
        )

    def step(
        self,
        model: Denoiser,
        state: Population,
        observation: Observation,
        at: Level,
        key: jax.Array,
    ) -> Population:
        """Weighs, draws and moves."""
        key_pick, key_draw, key = jax.random.split(key, 3)
        z, z_jump = jax.random.normal(key, (2, *state.particles.shape))
        image, known = observation.image[None], observation.known[None]
        x = state.particles
        x0, _ = jax.vmap(lambda x: at.predict(model, x, clip=self.clip_denoised))(x)
        fresh = at.ancestral(self.eta)
        mean = at.toward(x0, at.noise_in(x, x0), jnp.zeros(()), fresh)
        spread, level = (at.next_sigma * fresh) ** 2, at.next_sigma**2  # v and s'^2
        fit = _log_normal(mean, at.next_signal * image, spread + level)
        fit = jnp.where(at.next_sigma > 0, fit - _log_normal(x, at.signal * image, at.sigma**2), 0)
        log_weights = state.log_weights + jnp.where(known, fit, 0).sum((1, 2, 3))
        chosen, log_weights = _drawn(key_draw, log_weights)
        trust = jnp.where(at.next_sigma > 0, level / jnp.maximum(spread + level, 1e-30), 0)
        pulled = trust * mean + (1 - trust) * at.next_signal * image
        moved = jnp.where(
            known,
            pulled[chosen] + jnp.sqrt(trust * spread) * z,
            mean[chosen] + jnp.sqrt(spread) * z,
        )
        moved = at.renoise(moved, z_jump)
        one = jax.random.categorical(key_pick, log_weights)
        return Population(moved[one], x0[chosen[one]], moved, log_weights)

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """A network call a particle."""
        return np.full(resampling.num_model_calls, float(self.particles))


def _log_normal(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Log N(x; mean, variance) up to a constant, pixel by pixel."""
    return -((x - mean) ** 2) / (2 * jnp.maximum(variance, 1e-30))


def _drawn(key: jax.Array, log_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which particles go on, int[K], and with which weights."""
    count = log_weights.size
    weights = jax.nn.softmax(log_weights)
    places = (jnp.arange(count) + jax.random.uniform(key)) / count
    anew = jnp.searchsorted(jnp.cumsum(weights), places).clip(0, count - 1)
    few = jnp.vdot(weights, weights) * count > 2
    return (
        jnp.where(few, anew, jnp.arange(count)),
        jnp.where(few, 0, jnp.log(jnp.maximum(weights, 1e-30))),
    )
