"""What a model must be, and how its output becomes a reverse step.

A model is any callable `model(x, t)`: x float32[B, H, W, C] at noise level t, t int32[B] in network
time, result the predicted noise, float32[B, H, W, C]; or [B, H, W, 2C] when it also predicts a
variance (Nichol & Dhariwal 2021, Sec. 3.1), whose first C channels are the noise. Models that
predict something else are turned into noise predictors by `repaint_jax.adapters`.

With ac = alphas_cumprod and ac' = ac_{t-1}, a reverse step draws

    x_0     = x_t / sqrt(ac) - sqrt(1/ac - 1) eps                                DDPM, Eq. 15
    mean    = sqrt(ac') x_0 + sqrt(1 - ac' - sigma^2) (x_t - sqrt(ac) x_0) / sqrt(1 - ac)
    x_{t-1} ~ N(mean, (eta sd)^2 I),  sigma^2 = eta^2 beta_t (1 - ac') / (1 - ac)  DDIM, Eq. 12, 16

which at eta = 1 is DDPM's posterior mean (Eq. 7) and at eta = 0 deterministic DDIM. The deviation
sd is a fixed one or the learned one.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.schedules import NoiseSchedule

__all__ = ["Denoiser", "Variance"]

Variance = Literal["fixed_small", "fixed_large"]


class Denoiser(Protocol):
    """Predicts the noise in x: any function or module with this call."""

    def __call__(self, x: jax.Array, t: jax.Array, /) -> jax.Array:
        """Maps x f32[B, H, W, C] and t int32[B] to f32[B, H, W, C], or 2C with a variance."""
        ...


class ModelCode(NamedTuple):
    """What is left of a model without its arrays: hashable, so that equal models share code."""

    structure: Any
    leaves: tuple[Any, ...]  # None where an array belongs

    def rebuild(self, arrays: list[jax.Array]) -> Denoiser:
        """The model with these arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is None else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def split_model(model: Denoiser) -> tuple[list[jax.Array], ModelCode]:
    """A model's arrays, and the rest of it. A plain function is all rest."""
    if not callable(model):
        raise TypeError(f"model must be callable, model(x, t) -> noise; got {type(model).__name__}")
    leaves, structure = jax.tree.flatten(model)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf for leaf, yes in zip(leaves, is_array, strict=True) if yes]
    rest = tuple(None if yes else leaf for leaf, yes in zip(leaves, is_array, strict=True))
    return arrays, ModelCode(structure, rest)


class Reverse(NamedTuple):
    """The numbers of reverse steps, float32[...] each (network time: int32[...])."""

    time: Any  # what the network is told
    x_to_x0: Any  # 1 / sqrt(ac)
    noise_to_x0: Any  # sqrt(1/ac - 1)
    x0_to_mean: Any
    x_to_mean: Any
    log_variance_small: Any  # log of the posterior variance, DDPM Eq. 7
    log_variance_large: Any  # log beta
    eta: Any  # share of the noise that is drawn; 0 at t = 0, which draws none

    @classmethod
    def table(cls, noise: NoiseSchedule, eta: float = 1.0) -> Reverse:
        """The numbers of every step t -> t - 1, [T] each, computed in float64 and cast once."""
        beta, ac = noise.betas, noise.alphas_cumprod
        ac_prev = np.append(1.0, ac[:-1])
        ratio = (1 - ac_prev) / (1 - ac)
        # sqrt((1 - ac' - sigma^2) / (1 - ac)), factored so that no digits cancel.
        x_to_mean = np.sqrt(ratio * np.maximum(1 - eta**2 * beta / (1 - ac), 0))
        # The last step has variance 0; for its logarithm the step before stands in (DDPM's code).
        variance = beta * ratio
        variance[0] = variance[1] if variance.size > 1 else beta[0]
        numbers = (
            1 / np.sqrt(ac),
            np.sqrt(1 / ac - 1),
            np.sqrt(ac_prev) - x_to_mean * np.sqrt(ac),
            x_to_mean,
            np.log(variance),
            np.log(beta),
            eta * (np.arange(beta.size) > 0),
        )
        return cls(
            noise.timesteps.astype(np.int32), *(number.astype(np.float32) for number in numbers)
        )


def split_output(output: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The model's output for x [..., C] as noise [..., C] and, if it has 2C channels, the rest.

    Raises:
        TypeError: it is no array.
        ValueError: it has another shape.
    """
    if not hasattr(output, "shape"):
        mend = "(lambda x, t: model(x, t)[0])"
        if not isinstance(output, tuple | list):
            held = [*output] if isinstance(output, dict) else [*vars(output)][:4]
            mend = f"one of what it holds, {', '.join(map(str, held))}"
        raise TypeError(
            f"the model returned a {type(output).__name__}: expected the noise, one array of x's "
            f"shape; wrap the model so that it returns that, {mend}"
        )
    *pixels, channels = x.shape
    if output.shape not in ((*pixels, channels), (*pixels, 2 * channels)):
        raise ValueError(
            f"the model returned {list(output.shape)} for pictures {list(x.shape)}: expected that "
            f"shape (the noise), or {2 * channels} channels (noise and variance)"
        )
    if output.shape[-1] == channels:
        return output, None
    return output[..., :channels], output[..., channels:]


def join_output(eps: jax.Array, learned: jax.Array | None) -> jax.Array:
    """The inverse of `split_output`."""
    return eps if learned is None else jnp.concatenate([eps, learned], -1)


def predict_x0(x: jax.Array, eps: jax.Array, at: Reverse, clip: bool) -> jax.Array:
    """x_0 from x_t and its noise (DDPM, Eq. 15), clipped to [-1, 1] if asked."""
    x0 = at.x_to_x0 * x - at.noise_to_x0 * eps
    return clipped(x0, clip)


def clipped(x0: jax.Array, clip: bool) -> jax.Array:
    """A predicted clean picture, in [-1, 1] if it is to be clipped."""
    return jnp.clip(x0, -1, 1) if clip else x0


def posterior(
    x0: jax.Array, x: jax.Array, at: Reverse, learned: jax.Array | None, variance: Variance
) -> tuple[jax.Array, jax.Array]:
    """Mean and log variance of x_{t-1} given x_t and a predicted x_0.

    Args:
        x0: f32[..., C], the predicted clean picture.
        x: f32[..., C], the noisy picture x_t.
        at: the numbers of this step.
        learned: f32[..., C], what the model says of its variance, or None: it interpolates between
            the two fixed ones in the log domain (Nichol & Dhariwal 2021, Eq. 15).
        variance: "fixed_small" (posterior) or "fixed_large" (beta), where nothing is learned.

    Returns:
        mean f32[..., C], and the log variance, f32[..., C] or a scalar.
    """
    mean = at.x0_to_mean * x0 + at.x_to_mean * x
    if learned is not None:
        large = (learned + 1) / 2
        return mean, large * at.log_variance_large + (1 - large) * at.log_variance_small
    fixed = {"fixed_small": at.log_variance_small, "fixed_large": at.log_variance_large}
    return mean, fixed[variance]
