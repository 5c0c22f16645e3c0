"""RePaint (Lugmayr et al. 2022): Algorithm 1 as one scan.

    x_T ~ N(0, I)
    for each network call of the resample schedule, from time t to the next call's time t'
        unknown ~ p_theta(x_{t-1} | x_t)                              Eq. 8b
        known   = sqrt(ac_{t-1}) x_0 + sqrt(1 - ac_{t-1}) z           Eq. 8a
        x_{t-1} = known where the picture is known, else unknown      Eq. 8c
        x_{t'}  = sqrt(a) x_{t-1} + sqrt(1 - a) z                     line 10

with a = ac_{t'} / ac_{t-1}, which is 1 (no noise) unless the schedule jumps. Since ac_{-1} = 1, the
last merge puts the known pixels down exactly as they were given.

Conventions, here and everywhere: pictures are float32[H, W, C] in [-1, 1]; `known` is True where
the picture is given and kept; t is an index of the (respaced) noise schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import (
    Denoiser,
    ModelCode,
    Reverse,
    Variance,
    reverse_distribution,
    split_model,
)
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["inpaint", "inpaint_batch", "trajectory"]


class Step(NamedTuple):
    """The numbers of one scan step, or of N of them as arrays [N]."""

    index: Any  # int32 from 1 up: folded into the key, as 0 is for x_T
    reverse: Reverse  # t -> t - 1
    known_signal: Any  # sqrt(ac_{t-1})
    known_noise: Any  # sqrt(1 - ac_{t-1})
    jump_signal: Any  # sqrt(a)
    jump_noise: Any  # sqrt(1 - a)

    @classmethod
    def of(cls, noise: NoiseSchedule, plan: ResampleSchedule, eta: float = 1.0) -> Step:
        """All N steps of `plan`, computed in float64 and cast once."""
        if plan.num_steps != noise.num_steps:
            raise ValueError(
                f"the resample schedule starts at T = {plan.num_steps} but the noise schedule has "
                f"{noise.num_steps} steps; pure noise is only right at the last of them. Respace "
                f"the noise, noise.respace({plan.num_steps}), or plan with "
                f"num_steps={noise.num_steps}"
            )
        after, target = noise.alpha_cumprod_at(plan.t - 1), noise.alpha_cumprod_at(plan.t_next)
        ratio = target / after
        return cls(
            np.arange(1, plan.num_model_calls + 1, dtype=np.int32),
            jax.tree.map(lambda numbers: numbers[plan.t], Reverse.table(noise, eta)),
            *(np.sqrt(share).astype(np.float32) for share in (after, 1 - after, ratio, 1 - ratio)),
        )


class Draws(NamedTuple):
    """The standard normal noise of one step, float32[H, W, C] each."""

    reverse: jax.Array
    known: jax.Array
    jump: jax.Array


def reverse_step(
    model: Denoiser,
    x: jax.Array,
    at: Reverse,
    z: jax.Array,
    *,
    clip_denoised: bool,
    variance: Variance,
) -> jax.Array:
    """Draws x_{t-1} from p_theta(x_{t-1} | x_t), Eq. 8b; x and the noise `z` are f32[H, W, C]."""
    x, z = x[None], z[None]  # a batch of one, as models take it
    output = model(x, jnp.asarray(at.time)[None])
    mean, log_variance = reverse_distribution(output, x, at, clip=clip_denoised, variance=variance)
    return (mean + at.eta * jnp.exp(0.5 * log_variance) * z)[0]


def repaint_step(
    model: Denoiser,
    x: jax.Array,
    image: jax.Array,
    known: jax.Array,
    step: Step,
    z: Draws,
    *,
    clip_denoised: bool = True,
    variance: Variance = "fixed_small",
) -> jax.Array:
    """One pass through the loop of Algorithm 1: x_t -> x_{t'}, f32[H, W, C]; one network call."""
    x_unknown = reverse_step(
        model, x, step.reverse, z.reverse, clip_denoised=clip_denoised, variance=variance
    )
    x_known = step.known_signal * image + step.known_noise * z.known
    x = jnp.where(known, x_known, x_unknown)
    return step.jump_signal * x + step.jump_noise * z.jump


def inpaint(
    key: jax.Array,
    model: Denoiser,
    image: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    clip_denoised: bool = True,
    variance: Variance = "fixed_small",
    eta: float = 1.0,
) -> jax.Array:
    """Fills the unknown part of a picture (Algorithm 1).

    Args:
        key: a JAX random key; the same key gives the same picture.
        model: the noise predictor, `model(x[B, H, W, C], t[B]) -> [B, H, W, C or 2C]`. A pytree (an
            NNX module, `jax.tree_util.Partial`) has its arrays passed as arguments: other weights
            do not recompile. Any other callable is compiled in.
        image: f32[H, W, C] in [-1, 1]; what lies in the hole does not matter.
        known: bool[H, W] or [H, W, 1], True where the picture is kept.
        noise: the model's noise schedule, respaced to the steps to visit.
        resampling: the walk over those steps.
        clip_denoised: clip the predicted clean picture to [-1, 1].
        variance: "fixed_small" or "fixed_large"; a model with 2C channels brings its own.
        eta: 1 draws as DDPM does, 0 makes the reverse steps deterministic (DDIM).

    Returns:
        f32[H, W, C]; known pixels equal `image` exactly.

    Raises:
        ValueError: shapes, dtype or range do not fit; the message says how to mend it.
    """
    key = _typed(key)
    if key.ndim:
        raise ValueError(f"expected one random key; got {key.shape}: use inpaint_batch")
    image = jnp.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"image must be [H, W, C]; got {image.shape}: batches go to inpaint_batch")
    return inpaint_batch(
        key[None],
        model,
        image,
        known,
        noise=noise,
        resampling=resampling,
        clip_denoised=clip_denoised,
        variance=variance,
        eta=eta,
    )[0]


def inpaint_batch(
    keys: jax.Array,
    model: Denoiser,
    images: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    clip_denoised: bool = True,
    variance: Variance = "fixed_small",
    eta: float = 1.0,
) -> jax.Array:
    """`inpaint` over a batch: picture i depends on its key alone, not on the batch.

    Takes `inpaint`'s arguments, with N random keys; images f32[N, H, W, C], or one [H, W, C] to
    fill N times; known bool[N, H, W] or [N, H, W, 1], or one mask [H, W] or [H, W, 1] for all.
    Returns f32[N, H, W, C].
    """
    segments = trajectory(
        keys,
        model,
        images,
        known,
        noise=noise,
        resampling=resampling,
        clip_denoised=clip_denoised,
        variance=variance,
        eta=eta,
    )
    return next(segments)[1]


def trajectory(
    keys: jax.Array,
    model: Denoiser,
    images: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    clip_denoised: bool = True,
    variance: Variance = "fixed_small",
    eta: float = 1.0,
    stops: Sequence[int] | None = None,
    resume: tuple[int, jax.Array] | None = None,
) -> Iterator[tuple[int, jax.Array]]:
    """`inpaint_batch` in segments, to watch it: the same walk, the same pictures.

    Takes `inpaint_batch`'s arguments, and

        stops: numbers of network calls after which to stop; the end is always one. All segments
            run through one compiled scan, as long as the longest of them, rounded up to a power
            of two: walks of like length share one program.
        resume: what this generator yielded at one of the same `stops`, to go on from there to the
            same pictures, bit for bit.

    Yields:
        How many network calls are done, and x f32[N, H, W, C]: noisy, the pictures at the end.
    """
    keys = _typed(keys)
    steps = Step.of(noise, resampling, eta)
    images, known = _checked(keys, images, known, clip_denoised)
    weights, code = split_model(model)
    stops = sorted({*(stops or ()), resampling.num_model_calls})
    done, x = resume or (0, _pure_noise(keys, images.shape[1:]))
    if done not in (0, *stops) or x.shape != images.shape:
        raise ValueError(
            f"resume must be what was yielded at one of the stops {stops}, with x of shape "
            f"{images.shape}; got {done} calls and {x.shape}"
        )
    for stop, segment, active in _segments(steps, stops):
        if stop <= done:
            continue
        x = _advance(
            weights,
            keys,
            x,
            images,
            known,
            segment,
            active,
            code=code,
            clip_denoised=clip_denoised,
            variance=variance,
        )
        yield stop, x


def _segments(steps: Step, stops: Sequence[int]) -> Iterator[tuple[int, Step, np.ndarray]]:
    """Cuts the steps at `stops`; all segments of one length, of which `active` rows count.

    The length is a power of two, so that walks of other lengths run through the same program.
    """
    total = steps.index.size
    if stops[0] < 1 or stops[-1] > total:
        raise ValueError(f"stops must lie in 1 to {total}, the network calls; got {stops}")
    starts = [0, *stops[:-1]]
    length = 1 << int(max(np.subtract(stops, starts)) - 1).bit_length()
    for start, stop in zip(starts, stops, strict=True):
        rows = np.arange(start, start + length)
        at = np.minimum(rows, total - 1)
        yield stop, jax.tree.map(lambda numbers, at=at: numbers[at], steps), rows < stop


@partial(jax.jit, static_argnames="shape")
def _pure_noise(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """x_T, f32[N, *shape]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 0), shape))(keys)


@partial(jax.jit, static_argnames=("code", "clip_denoised", "variance"))
def _advance(
    weights: list[jax.Array],
    keys: jax.Array,
    x: jax.Array,
    images: jax.Array,
    known: jax.Array,
    steps: Step,
    active: jax.Array,
    *,
    code: ModelCode,
    clip_denoised: bool,
    variance: Variance,
) -> jax.Array:
    """The scan over some steps; those not `active` only fill the segment up and are skipped."""
    model = code.rebuild(weights)

    def one_picture(
        key: jax.Array, x: jax.Array, image: jax.Array, known: jax.Array, step: Step
    ) -> jax.Array:
        z = Draws(*jax.random.normal(jax.random.fold_in(key, step.index), (3, *x.shape)))
        return repaint_step(
            model, x, image, known, step, z, clip_denoised=clip_denoised, variance=variance
        )

    def advance(x: jax.Array, step: Step) -> jax.Array:
        each = jax.vmap(one_picture, in_axes=(0, 0, 0, 0, None))
        return each(keys, x, images, known, step)

    def scanned(x: jax.Array, row: tuple[Step, jax.Array]) -> tuple[jax.Array, None]:
        step, go = row
        return jax.lax.cond(go, advance, lambda x, _: x, x, step), None

    return jax.lax.scan(scanned, x, (steps, active))[0]


def _typed(keys: jax.Array) -> jax.Array:
    """Accepts the older uint32 keys too."""
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return keys
    return jax.random.wrap_key_data(keys)


def _checked(
    keys: jax.Array, images: jax.Array, known: jax.Array, clip_denoised: bool
) -> tuple[jax.Array, jax.Array]:
    """Images as f32[N, H, W, C], masks as bool[N, H, W, 1], or an error that says what to do."""
    images, known = jnp.asarray(images), jnp.asarray(known)
    if keys.ndim != 1:
        raise ValueError(f"keys must be [N], one a picture (jax.random.split); got {keys.shape}")
    if images.ndim == 3:
        images = jnp.broadcast_to(images, (keys.size, *images.shape))
    if images.ndim != 4 or len(images) != keys.size:
        raise ValueError(
            f"images must be [H, W, C], or [N, H, W, C] for N = {keys.size} keys; "
            f"got {images.shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floats in [-1, 1]; got {images.dtype}: bytes / 127.5 - 1 are such"
        )
    if known.dtype != bool:
        raise ValueError(f"known must be bool, True = keep; got {known.dtype}: pass known > 0.5")
    size = images.shape[:3]
    if known.shape in (size[1:], (*size[1:], 1)):
        known = jnp.broadcast_to(known.reshape(size[1:]), size)
    if known.shape not in (size, (*size, 1)):
        raise ValueError(
            f"known must be [H, W] or [H, W, 1] for one mask or [N, H, W] or [N, H, W, 1], here "
            f"with N, H, W = {size}; got {known.shape}"
        )
    known = known.reshape(*size, 1)
    if clip_denoised and not isinstance(images, jax.core.Tracer):
        _check_range(np.asarray(images), np.asarray(known))
    return images.astype(jnp.float32), known


def _check_range(images: np.ndarray, known: np.ndarray) -> None:
    given = np.where(known, images, 0)
    if not np.all(np.abs(given) <= 1):
        raise ValueError(
            f"known pixels must lie in [-1, 1]; got {given.min():g} to {given.max():g}: scale "
            "them, or pass clip_denoised=False if the model's data has another range"
        )
