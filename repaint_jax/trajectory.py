"""A trajectory: the scan of a method's steps over a walk, for a batch of pictures.

It is blind to the method. It owns the keys (one a picture, folded with the number of the step), the
segments in which a trajectory can be watched and resumed, and the known pixels: they are put down
at the end, bit for bit, whatever a method did with them.

Conventions, here and everywhere: pictures are float32[H, W, C] in [-1, 1]; `known` is True where
the picture is given and kept; t is an index of the (respaced) noise schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser, ModelCode, split_model
from repaint_jax.methods import Method, Observation, RePaint
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["inpaint", "inpaint_batch", "trajectory"]


def inpaint(
    key: jax.Array,
    model: Denoiser,
    image: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    method: Method = RePaint(),
) -> jax.Array:
    """Fills the unknown part of a picture.

    Args:
        key: a JAX random key; the same key gives the same picture.
        model: the noise predictor, `model(x[B, H, W, C], t[B]) -> [B, H, W, C or 2C]`. A pytree (an
            NNX module, `jax.tree_util.Partial`) has its arrays passed as arguments: other weights
            do not recompile. Any other callable is compiled in.
        image: f32[H, W, C] in [-1, 1]; what lies in the hole does not matter.
        known: bool[H, W] or [H, W, 1], True where the picture is kept.
        noise: the model's noise schedule, respaced to the steps to visit.
        resampling: the walk over those steps.
        method: how each step is made; its numbers do not recompile.

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
        key[None], model, image, known, noise=noise, resampling=resampling, method=method
    )[0]


def inpaint_batch(
    keys: jax.Array,
    model: Denoiser,
    images: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    method: Method = RePaint(),
) -> jax.Array:
    """`inpaint` over a batch: picture i depends on its key alone, not on the batch.

    Takes `inpaint`'s arguments, with N random keys; images f32[N, H, W, C], or one [H, W, C] to
    fill N times; known bool[N, H, W] or [N, H, W, 1], or one mask [H, W] or [H, W, 1] for all.
    Returns f32[N, H, W, C].
    """
    segments = trajectory(
        keys, model, images, known, noise=noise, resampling=resampling, method=method
    )
    return next(segments)[1].x


def trajectory(
    keys: jax.Array,
    model: Denoiser,
    images: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    method: Method = RePaint(),
    stops: Sequence[int] | None = None,
    resume: tuple[int, Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """`inpaint_batch` in segments, to watch it: the same walk, the same pictures.

    Takes `inpaint_batch`'s arguments, and

        stops: numbers of steps after which to stop; the end is always one. All segments run
            through one compiled scan, as long as the longest of them, rounded up to a power of
            two: walks of like length share one program.
        resume: what this generator yielded at one of the same `stops`, to go on from there to the
            same pictures, bit for bit.

    Yields:
        How many steps are done, and the method's state, a pytree of arrays [N, ...]: `x`, the noisy
        pictures f32[N, H, W, C], and at the end the results; `x0`, the clean ones last predicted;
        and whatever else the method carries.
    """
    keys = _typed(keys)
    check_walk(noise, resampling)
    observations = _checked(keys, images, known, method.clip_denoised)
    total = resampling.num_model_calls
    steps = np.arange(1, total + 1, dtype=np.int32), method.tabulate(noise, resampling)
    weights, code = split_model(model)
    stops = sorted({*(stops or ()), total})
    done, state = resume or (0, _spread(_begin(method, keys, observations, _first(steps[1])), keys))
    if done not in (0, *stops) or state.x.shape != observations.image.shape:
        raise ValueError(
            f"resume must be what was yielded at one of the stops {stops}, with x of shape "
            f"{observations.image.shape}; got {done} steps and {state.x.shape}"
        )
    for stop, segment, active in _segments(steps, stops, total):
        if stop <= done:
            continue
        state = _advance(weights, method, keys, state, observations, segment, active, code=code)
        yield stop, _finish(state, observations) if stop == total else state


def initial_state(
    keys: jax.Array,
    images: jax.Array,
    known: jax.Array,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    method: Method,
) -> Any:
    """Shapes and dtypes of the state that `trajectory` yields of these, by `jax.eval_shape`."""
    observations = Observation(images, known[..., None])
    first = _first(method.tabulate(noise, resampling))
    return jax.eval_shape(_begin, method, keys, observations, first)


def check_walk(noise: NoiseSchedule, resampling: ResampleSchedule) -> None:
    """Raises ValueError unless the walk begins where the noise schedule is pure noise."""
    if resampling.num_steps != noise.num_steps:
        raise ValueError(
            f"the resample schedule starts at T = {resampling.num_steps} but the noise schedule "
            f"has {noise.num_steps} steps; pure noise is only right at the last of them. Respace "
            f"the noise, noise.respace({resampling.num_steps}), or plan with "
            f"num_steps={noise.num_steps}"
        )


def _segments(
    steps: Any, stops: Sequence[int], total: int
) -> Iterator[tuple[int, Any, np.ndarray]]:
    """Cuts the steps at `stops`; all segments of one length, of which `active` rows count.

    The length is a power of two, so that walks of other lengths run through the same program.
    """
    if stops[0] < 1 or stops[-1] > total:
        raise ValueError(f"stops must lie in 1 to {total}, the steps; got {stops}")
    starts = [0, *stops[:-1]]
    length = 1 << int(max(np.subtract(stops, starts)) - 1).bit_length()
    for start, stop in zip(starts, stops, strict=True):
        rows = np.arange(start, start + length)
        at = np.minimum(rows, total - 1)
        yield stop, jax.tree.map(lambda numbers, at=at: numbers[at], steps), rows < stop


def _spread(state: Any, keys: jax.Array) -> Any:
    """A first state over the devices that share its keys, what is 0 as well.

    So that the first segment runs through the program of the others. On one device it may go
    where the model's weights are.
    """
    if isinstance(keys, jax.core.Tracer) or len(keys.sharding.device_set) == 1:
        return state
    return jax.device_put(state, keys.sharding)


def _first(table: Any) -> Any:
    """The numbers of the first step."""
    return jax.tree.map(lambda numbers: numbers[0], table)


@jax.jit
def _begin(method: Method, keys: jax.Array, observations: Observation, at: Any) -> Any:
    """The state of each picture before the first step."""

    def begin(key: jax.Array, observation: Observation) -> Any:
        return method.init(jax.random.fold_in(key, 0), observation, at)

    return jax.vmap(begin)(keys, observations)


@partial(jax.jit, static_argnames="code")
def _advance(
    weights: list[jax.Array],
    method: Method,
    keys: jax.Array,
    state: Any,
    observations: Observation,
    steps: Any,
    active: jax.Array,
    *,
    code: ModelCode,
) -> Any:
    """The scan over some steps; those not `active` only fill the segment up and are skipped."""
    model = code.rebuild(weights)

    def one_picture(key: jax.Array, state: Any, observation: Observation, step: Any) -> Any:
        index, at = step
        return method.step(model, state, observation, at, jax.random.fold_in(key, index))

    def advance(state: Any, step: Any) -> Any:
        return jax.vmap(one_picture, in_axes=(0, 0, 0, None))(keys, state, observations, step)

    def scanned(state: Any, row: tuple[Any, jax.Array]) -> tuple[Any, None]:
        step, go = row
        return jax.lax.cond(go, advance, lambda state, _: state, state, step), None

    return jax.lax.scan(scanned, state, (steps, active))[0]


@jax.jit
def _finish(state: Any, observations: Observation) -> Any:
    """The state with the known pixels in the results."""
    return state._replace(x=jax.vmap(Observation.put_down)(observations, state.x))


def _typed(keys: jax.Array) -> jax.Array:
    """Accepts the older uint32 keys too."""
    if not isinstance(keys, jax.Array | np.ndarray):
        raise TypeError(f"a random key is expected, jax.random.key(0) or several; got {keys!r}")
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return keys
    return jax.random.wrap_key_data(keys)


def _checked(
    keys: jax.Array, images: jax.Array, known: jax.Array, clip_denoised: bool
) -> Observation:
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
    # Zeros in the hole, so that no method meets a NaN there.
    return Observation(jnp.where(known, images, 0).astype(jnp.float32), known)


def _check_range(images: np.ndarray, known: np.ndarray) -> None:
    given = np.where(known, images, 0)
    if not np.all(np.abs(given) <= 1):
        raise ValueError(
            f"known pixels must lie in [-1, 1]; got {given.min():g} to {given.max():g}: scale "
            "them, or give the method clip_denoised=False if the model's data has another range"
        )
