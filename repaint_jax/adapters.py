"""Models that predict something else than the noise, made into models that predict the noise.

With a = sqrt(ac_t) and s = sqrt(1 - ac_t) of the schedule, x = a x_0 + s eps, and

    model of                                  is asked                 noise
    x_0                                       x_0(x, t)                (x - a x_0) / s
    v = a eps - s x_0                         v(x, t)                  a v + s x
    x_0 from y = x_0 + sigma eps (EDM)        D(x / a; s / a)          (x - a D) / s
    u = eps - x_0 along (1 - r) x_0 + r eps   u(x / (a + s), r)        x / (a + s) + (1 - r) u
    (a rectified flow)                        with r = s / (a + s)

which is the same number where the models are exact: they differ in what they are asked and answer.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from repaint_jax.denoisers import Denoiser, join_output, split_output
from repaint_jax.schedules import NoiseSchedule

__all__ = [
    "noise_from_denoiser",
    "noise_from_unit_range",
    "noise_from_v",
    "noise_from_velocity",
    "noise_from_x0",
    "noise_predictor",
]

Leveled = Callable[[jax.Array, jax.Array], jax.Array]  # pictures and a level float32[B] each


def noise_predictor(model: Denoiser, prediction: str, noise: NoiseSchedule) -> Denoiser:
    """A noise predictor made of a model whose `prediction` is "noise", "x0" or "v".

    `noise` is the original (not respaced) schedule of its training.
    """
    if prediction == "noise":
        return model
    convert = {"x0": noise_from_x0, "v": noise_from_v}
    if prediction not in convert:
        raise ValueError(f"a model predicts noise, x0 or v; this one says {prediction!r}")
    return convert[prediction](model, noise)


def noise_from_x0(model: Denoiser, noise: NoiseSchedule) -> Denoiser:
    """A noise predictor made of a model that predicts the clean picture x_0.

    `eps = (x_t - sqrt(ac) x_0) / sqrt(1 - ac)`. A variance in channels C to 2C is passed on.

    Args:
        model: called like any model, but returns x_0.
        noise: the original (not respaced) schedule of the model's training.
    """
    return Partial(_noise_from_x0, model, *levels(noise))


def noise_from_v(model: Denoiser, noise: NoiseSchedule) -> Denoiser:
    """A noise predictor made of a model that predicts v (Salimans & Ho 2022, Sec. 4).

    `v = sqrt(ac) eps - sqrt(1 - ac) x_0`, hence `eps = sqrt(ac) v + sqrt(1 - ac) x_t`. A variance
    in channels C to 2C is passed on.

    Args:
        model: called like any model, but returns v.
        noise: the original (not respaced) schedule of the model's training.
    """
    return Partial(_noise_from_v, model, *levels(noise))


def noise_from_denoiser(model: Leveled, noise: NoiseSchedule) -> Denoiser:
    """A noise predictor made of a denoiser D(y; sigma) (EDM, Karras et al. 2022, Sec. 2).

    `D` returns x_0 for `y = x_0 + sigma eps`; preconditioning (their Eq. 7) belongs to it. It is
    asked for `y = x_t / sqrt(ac)` at `sigma = sqrt(1/ac - 1)`, hence
    `eps = (x_t - sqrt(ac) D) / sqrt(1 - ac)`.

    Args:
        model: maps y f32[B, H, W, C] and sigma f32[B] to x_0, f32[B, H, W, C].
        noise: the levels to sample at: `NoiseSchedule.karras` or `from_sigmas`, not respaced.
    """
    return Partial(_noise_from_denoiser, model, *levels(noise))


def noise_from_velocity(model: Leveled, noise: NoiseSchedule) -> Denoiser:
    """A noise predictor made of a rectified flow's velocity (Liu et al. 2023; Esser et al. 2024).

    The path is `y = (1 - r) x_0 + r eps` and the velocity `u = dy/dr = eps - x_0`: r = 0 is the
    picture, 1 the noise. It is asked at `r = s / (a + s)`, with a and s as above, hence
    `eps = y + (1 - r) u`. Of a model whose time runs from the noise to the picture (Lipman et al.
    2023) give `lambda y, r: -network(y, 1 - r)`.

    Args:
        model: maps y f32[B, H, W, C] and r f32[B] in (0, 1) to u, f32[B, H, W, C].
        noise: the levels to sample at, not respaced; `NoiseSchedule.from_sigmas(r / (1 - r))`.
    """
    return Partial(_noise_from_velocity, model, *levels(noise))


def noise_from_unit_range(model: Denoiser, noise: NoiseSchedule) -> tuple[Denoiser, NoiseSchedule]:
    """A model of pictures in [0, 1], and its schedule, made into those of pictures in [-1, 1].

    With x_0 = (y_0 + 1) / 2, `2 x_t - sqrt(ac) = sqrt(ac) y_0 + 2 sqrt(1 - ac) eps`, which is
    r times a noisy y of the same noise at the level ac / r^2, r^2 = ac + 4 (1 - ac).

    Args:
        model: predicts the noise in pictures that are in [0, 1] when clean. A variance in channels
            C to 2C belongs to levels that are no more, and is left out.
        noise: the original (not respaced) schedule of the model's training.

    Returns:
        The model and the schedule for pictures in [-1, 1].
    """
    signal, _ = levels(noise)
    squares = noise.alphas_cumprod + 4 * (1 - noise.alphas_cumprod)
    scale = jnp.asarray(np.sqrt(squares), jnp.float32)
    wider = NoiseSchedule.from_alphas_cumprod(noise.alphas_cumprod / squares)
    return Partial(_noise_from_unit_range, model, signal, scale), wider


def _noise_from_x0(
    model: Denoiser, signal: jax.Array, sigma: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    x0, learned = split_output(model(x, t), x)
    return join_output((x - per_picture(signal[t]) * x0) / per_picture(sigma[t]), learned)


def _noise_from_v(
    model: Denoiser, signal: jax.Array, sigma: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    v, learned = split_output(model(x, t), x)
    return join_output(per_picture(signal[t]) * v + per_picture(sigma[t]) * x, learned)


def _noise_from_denoiser(
    model: Leveled, signal: jax.Array, sigma: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    a, s = signal[t], sigma[t]
    x0, learned = split_output(model(x / per_picture(a), s / a), x)
    return join_output((x - per_picture(a) * x0) / per_picture(s), learned)


def _noise_from_velocity(
    model: Leveled, signal: jax.Array, sigma: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    a, s = signal[t], sigma[t]
    y, r = x / per_picture(a + s), s / (a + s)
    u, learned = split_output(model(y, r), x)
    return join_output(y + per_picture(a / (a + s)) * u, learned)


def per_picture(level: jax.Array) -> jax.Array:
    """[B] -> [B, 1, 1, 1]."""
    return level[:, None, None, None]


def levels(noise: NoiseSchedule) -> tuple[jax.Array, jax.Array]:
    """sqrt(ac) and sqrt(1 - ac) by network time, f32[T_train]."""
    if noise.num_steps != noise.num_train_steps:
        raise ValueError(
            "give the original noise schedule, not a respaced one: the model is asked in network "
            f"time, 0 to {noise.num_train_steps - 1}; this one has {noise.num_steps} steps"
        )
    ac = noise.alphas_cumprod
    return jnp.asarray(np.sqrt(ac), jnp.float32), jnp.asarray(np.sqrt(1 - ac), jnp.float32)


def _noise_from_unit_range(
    model: Denoiser, signal: jax.Array, scale: jax.Array, y: jax.Array, t: jax.Array
) -> jax.Array:
    x = (per_picture(scale[t]) * y + per_picture(signal[t])) / 2
    return split_output(model(x, t), x)[0]
