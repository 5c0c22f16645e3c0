"""Steering a model by a label: wrappers that are models themselves.

    guided           eps' = eps - s sqrt(1 - ac) grad_x log p(y | x_t)   Dhariwal & Nichol, Alg. 2
    classifier_free  eps' = eps(x, ()) + s (eps(x, y) - eps(x, ()))      Ho & Salimans, Eq. 6
    with_label       eps' = eps(x, y), a class-conditional network with its label settled

Since eps = -sqrt(1 - ac) grad_x log p(x_t), the first is Bayes' rule at s = 1, and so is the second
for exact networks: they then agree. Larger s sharpens p(y | x_t) to its power s.

Each wrapper is a pytree that carries weights, label and scale as arrays, so that other ones do not
recompile. A label is one int, or int[B] for a batch of B. `inpaint` and `inpaint_batch` call the
model with one picture at a time; different labels in one batch are a `vmap` over both:

    jax.vmap(lambda key, y: inpaint(key, with_label(model, y), image, known, ...))(keys, labels)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike

from repaint_jax.adapters import levels, per_picture
from repaint_jax.denoisers import Denoiser, join_output, split_output
from repaint_jax.schedules import NoiseSchedule

__all__ = ["classifier_free", "guided", "with_label"]


def guided(
    model: Denoiser,
    classifier: Callable[[jax.Array, jax.Array], jax.Array],
    labels: ArrayLike,
    scale: ArrayLike,
    noise: NoiseSchedule,
) -> Denoiser:
    """Classifier guidance in the noise (Dhariwal & Nichol 2021, Alg. 2).

    At eta = 1 and without clipping it moves the mean of a reverse step by beta / sqrt(alpha) s g,
    g = grad_x log p(y | x_t). Alg. 1, the ancestral sampler of guided-diffusion, moves it by
    variance s g after x_0 was clipped: with "fixed_large" the same up to sqrt(alpha), and in the
    limit of small steps always the same. This form clips the guided x_0 and serves any eta.

    Args:
        model: the noise predictor, class-conditional (by `with_label`) or not. A variance in
            channels C to 2C is passed on.
        classifier: trained on noisy pictures, `classifier(x, t) -> logits [B, classes]`.
        labels: int or int[B], the class to steer to. One that the classifier does not know makes
            the noise NaN.
        scale: s; 0 leaves the model as it is, 1 is Bayes' rule.
        noise: the original (not respaced) schedule of the trainings.
    """
    _, sigma = levels(noise)
    return Partial(_guided, model, classifier, _labels(labels), _number(scale), sigma)


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: ArrayLike) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, Eq. 6, with s = 1 + w).

    A network trained for it plays both parts: `with_label(network, y)` and `with_label(network,
    null)`, null being its label for "no class". Each step costs a call of either.

    Args:
        conditional: predicts the noise given the label. Its variance, if any, is passed on.
        unconditional: predicts the noise given nothing.
        scale: s; 0 is `unconditional`, 1 is `conditional`, more goes beyond.
    """
    return Partial(_classifier_free, conditional, unconditional, _number(scale))


def with_label(model: Callable[..., jax.Array], labels: ArrayLike) -> Denoiser:
    """The model of one class.

    Args:
        model: class-conditional, `model(x, t, y)` with y int32[B].
        labels: int or int[B].
    """
    return Partial(_with_label, model, _labels(labels))


def _guided(
    model: Denoiser,
    classifier: Callable[[jax.Array, jax.Array], jax.Array],
    labels: jax.Array,
    scale: jax.Array,
    sigma: jax.Array,
    x: jax.Array,
    t: jax.Array,
) -> jax.Array:
    eps, learned = split_output(model(x, t), x)
    score = _class_score(classifier, _one_each(labels, x), x, t)
    return join_output(eps - scale * per_picture(sigma[t]) * score, learned)


def _class_score(classifier: Any, y: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """grad_x log p(y | x, t), f32[B, H, W, C]."""

    def log_probability(x: jax.Array) -> jax.Array:
        logits = classifier(x, t)
        if logits.ndim != 2 or len(logits) != len(x):
            raise ValueError(
                f"the classifier returned {list(logits.shape)} for pictures {list(x.shape)}: "
                f"expected logits [{len(x)}, classes]"
            )
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        # The sum: each picture has its own term, so that this is the gradient of each.
        return jnp.take_along_axis(log_p, y[:, None], axis=1, mode="fill").sum()

    total, score = jax.value_and_grad(log_probability)(x.astype(jnp.float32))
    # A label out of range has the probability NaN, but the gradient 0.
    return jnp.where(jnp.isnan(total), jnp.nan, score)


def _classifier_free(
    conditional: Denoiser, unconditional: Denoiser, scale: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    eps, learned = split_output(conditional(x, t), x)
    base, _ = split_output(unconditional(x, t), x)
    return join_output(base + scale * (eps - base), learned)


def _with_label(
    model: Callable[..., jax.Array], labels: jax.Array, x: jax.Array, t: jax.Array
) -> jax.Array:
    return model(x, t, _one_each(labels, x))


def _one_each(labels: jax.Array, x: jax.Array) -> jax.Array:
    """int32[B], the one label for all or the B given ones."""
    if labels.ndim and len(labels) != len(x):
        raise ValueError(
            f"{len(labels)} labels for a batch of {len(x)}: give one label; for one a picture, "
            "jax.vmap inpaint over keys and labels, as it calls the model picture by picture"
        )
    return jnp.broadcast_to(labels, len(x))


def _labels(labels: ArrayLike) -> jax.Array:
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim > 1:
        raise ValueError(
            f"labels must be an int or int[B]; got {labels.dtype}{list(labels.shape)}: a label is "
            "the number of a class, not its probabilities"
        )
    return labels.astype(jnp.int32)


def _number(scale: ArrayLike) -> jax.Array:
    scale = jnp.asarray(scale, jnp.float32)
    if scale.ndim:
        raise ValueError(f"scale must be one number; got {scale.shape}: vmap inpaint over scales")
    return scale
