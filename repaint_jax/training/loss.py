"""What a denoiser is trained to make small.

    L_simple = E |eps - eps_theta(x_t, t)|^2                               DDPM, Eq. 14
    L_hybrid = L_simple + lambda L_vlb,  lambda = 0.001      Improved DDPM, Eq. 16
    L_vlb    = sum_t KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t))   DDPM, Eq. 5

L_simple says nothing of the variance, and L_vlb trains nothing else: the mean is held fixed in it.
One t a picture is drawn evenly, so that the sum is T times the mean over the drawn t. The last step
(t = 0) draws no noise here and so has no variance to learn; its term is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser, Reverse, posterior, predict_x0, split_output
from repaint_jax.schedules import NoiseSchedule

__all__ = ["Forward", "Loss", "gaussian_kl", "noise_loss"]

VLB_WEIGHT = 0.001  # lambda


class Loss(NamedTuple):
    """The number that is made small, and the part of it that the noise makes: float32[]."""

    total: jax.Array
    mse: jax.Array


class Forward(NamedTuple):
    """The numbers of x_t = sqrt(ac_t) x_0 + sqrt(1 - ac_t) eps and of the step back, [T] each."""

    signal: Any  # sqrt(ac)
    sigma: Any  # sqrt(1 - ac)
    reverse: Reverse

    @classmethod
    def table(cls, noise: NoiseSchedule) -> Forward:
        """The numbers of every t, computed in float64 and cast once."""
        ac = noise.alphas_cumprod
        levels = (np.sqrt(ac).astype(np.float32), np.sqrt(1 - ac).astype(np.float32))
        return cls(*levels, Reverse.table(noise))

    def at(self, t: jax.Array) -> Forward:
        """The numbers of t int32[B], [B, 1, 1, 1] each."""
        return jax.tree.map(lambda numbers: jnp.asarray(numbers)[t][:, None, None, None], self)


def noise_loss(
    model: Denoiser, x0: jax.Array, t: jax.Array, eps: jax.Array, forward: Forward
) -> Loss:
    """The loss that fits the model's output: L_simple for C channels, L_hybrid for 2C.

    Args:
        model: the noise predictor.
        x0: f32[B, H, W, C] in [-1, 1], clean pictures.
        t: int32[B], indices of the (unspaced) schedule.
        eps: f32[B, H, W, C], standard normal noise.
        forward: the schedule's numbers, `Forward.table(noise)`.
    """
    at = forward.at(t)
    x = at.signal * x0 + at.sigma * eps
    output = model(x, jnp.asarray(forward.reverse.time)[t])
    predicted, learned = split_output(output, x)
    mse = jnp.mean((predicted - eps) ** 2)
    if learned is None:
        return Loss(mse, mse)
    num_steps = len(forward.signal)
    bound = variance_bound(predicted, learned, eps, x, at.reverse, t > 0)
    return Loss(mse + VLB_WEIGHT * num_steps * bound, mse)


def variance_bound(
    predicted: jax.Array,
    learned: jax.Array,
    eps: jax.Array,
    x: jax.Array,
    at: Reverse,
    counts: jax.Array,
) -> jax.Array:
    """KL of the model's reverse step from the true posterior, in bits a value; trains `learned`.

    Args:
        predicted: f32[B, H, W, C], the model's noise; no gradient goes through it.
        learned: f32[B, H, W, C], the model's variance channels.
        eps: f32[B, H, W, C], the noise in x.
        x: f32[B, H, W, C], the noisy pictures x_t.
        at: the numbers of the steps, [B, 1, 1, 1] each.
        counts: bool[B], which pictures count.
    """
    frozen = jax.lax.stop_gradient(predicted)
    # The posterior q(x_{t-1} | x_t, x_0) is the step of a model that knows the noise.
    true = posterior(predict_x0(x, eps, at, False), x, at, None, "fixed_small")
    ours = posterior(predict_x0(x, frozen, at, False), x, at, learned, "fixed_small")
    bits = gaussian_kl(*true, *ours) / np.log(2)
    return jnp.mean(jnp.where(counts[:, None, None, None], bits, 0.0))


def gaussian_kl(
    mean_q: jax.Array, log_var_q: jax.Array, mean_p: jax.Array, log_var_p: jax.Array
) -> jax.Array:
    """KL(N(mean_q, var_q) || N(mean_p, var_p)) in nats, value by value."""
    gap = (mean_q - mean_p) ** 2 * jnp.exp(-log_var_p)
    return 0.5 * (log_var_p - log_var_q + jnp.exp(log_var_q - log_var_p) + gap - 1)
