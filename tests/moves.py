"""Moves of RePaint with their noise given, as closed forms and other packages speak of them."""

from repaint_jax.denoisers import posterior, predict_x0, split_output
from repaint_jax.methods import Observation, RePaint


def reverse_distribution(output, x, at, *, clip, variance):
    """Mean and log variance of x_{t-1} given x_t and the model's output."""
    eps, learned = split_output(output, x)
    return posterior(predict_x0(x, eps, at, clip), x, at, learned, variance)


def repaint_step(model, x, image, known, step, z, **options):
    """One pass through the loop of Algorithm 1: x_t -> x_{t'}, f32[H, W, C]."""
    return RePaint(**options).move(model, x, Observation(image, known), step, z).x


def diffused(x0, t, eps, noise):
    """x_t drawn from q(x_t | x_0) (paper, Eq. 4)."""
    ac = float(noise.alpha_cumprod_at(t))
    return ac**0.5 * x0 + (1 - ac) ** 0.5 * eps
