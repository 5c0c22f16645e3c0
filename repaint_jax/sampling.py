"""Many pictures, many samples: batches, progress and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from repaint_jax.denoisers import Denoiser, split_model
from repaint_jax.devices import mesh_for
from repaint_jax.images import to_float, to_uint8
from repaint_jax.plots import film_stops
from repaint_jax.repaint import trajectory
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule


@dataclass(frozen=True)
class Task:
    """One picture to fill.

    Attributes:
        name: of its files.
        image: uint8[H, W, C].
        known: bool[H, W], True = known.
        stream: of its random numbers: sample j has the key `seed` folded with it and with j, and is
            the same picture whatever else is sampled.
    """

    name: str
    image: np.ndarray
    known: np.ndarray
    stream: int


Job = tuple[Task, int]  # a picture and which of its samples


@dataclass
class Sampled:
    """What a run made and how long it took.

    Attributes:
        pictures: uint8[H, W, C] by (task, sample).
        stops: numbers of network calls after which the film looked.
        film: the first picture's trajectory, uint8[H, W, C] after each of `stops`.
        seconds: time spent sampling, without compilation.
        compile_seconds: time spent compiling.
        batches: number of batches.
        batch_size: pictures a batch.
    """

    pictures: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    stops: list[int] = field(default_factory=list)
    film: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    batches: int = 0
    batch_size: int = 0


def sample(
    tasks: list[Task],
    model: Denoiser,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    num_samples: int,
    batch_size: int,
    seed: int,
    on_picture: Callable[[Task, int, np.ndarray], None],
    **sampler: Any,
) -> Sampled:
    """Fills each task's hole `num_samples` ways, with a progress bar.

    Args:
        tasks: the pictures, all of one shape.
        model: the noise predictor.
        noise: its schedule, respaced.
        resampling: the walk.
        num_samples: ways to fill each hole.
        batch_size: pictures sampled at once.
        seed: of all random numbers.
        on_picture: called with the task, the sample's number and uint8[H, W, C] as soon as a
            picture is ready, so that nothing finished is lost when the run is stopped.
        sampler: further arguments of `inpaint`.

    Raises:
        FloatingPointError: the trajectory left the finite numbers.
    """
    jobs = [(i, j) for i in range(len(tasks)) for j in range(num_samples)]
    batch_size = min(batch_size, len(jobs))
    batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
    result = Sampled(stops=film_stops(resampling), batches=len(batches), batch_size=batch_size)
    calls = len(batches) * resampling.num_model_calls
    shared = Sharing.of(model, batch_size)
    started = time.perf_counter()
    with compile_clock() as compiling, tqdm(total=calls, unit="call", desc="compiling") as bar:
        for number, batch in enumerate(batches):
            walk = sample_batch(
                [(tasks[i], j) for i, j in batch],
                shared,
                noise=noise,
                resampling=resampling,
                batch_size=batch_size,
                seed=seed,
                stops=result.stops,
                bar=bar,
                **sampler,
            )
            for pictures in walk:
                if number == 0:
                    result.film.append(to_uint8(pictures[0]))
            for (i, j), picture in zip(batch, pictures, strict=True):
                result.pictures[i, j] = to_uint8(picture)
                on_picture(tasks[i], j, result.pictures[i, j])
    result.compile_seconds = sum(compiling)
    result.seconds = time.perf_counter() - started - result.compile_seconds
    return result


def sample_batch(
    jobs: Sequence[Job],
    shared: Sharing,
    *,
    noise: NoiseSchedule,
    resampling: ResampleSchedule,
    batch_size: int,
    seed: int,
    stops: Sequence[int],
    bar: tqdm,
    **sampler: Any,
) -> Iterator[np.ndarray]:
    """Up to `batch_size` samples, shared evenly among this process's devices.

    Args:
        jobs: what to sample, all of one shape.
        shared: the noise predictor on its devices.
        noise: its schedule, respaced.
        resampling: the walk.
        batch_size: pictures on the devices: a smaller batch is filled up with its first job, so
            that there is one shape and one compilation.
        seed: of all random numbers.
        stops: numbers of network calls after which to look; the end is always one.
        bar: is told of the network calls.
        sampler: further arguments of `inpaint`.

    Yields:
        The noisy pictures at each stop, at last the clean ones, f32[len(jobs), H, W, C].

    Raises:
        FloatingPointError: the trajectory left the finite numbers.
    """
    filled = [*jobs, *[jobs[0]] * (batch_size - len(jobs))]
    walk = trajectory(
        shared.spread(_keys(seed, filled)),
        shared.model,
        shared.spread(np.stack([to_float(task.image) for task, _ in filled])),
        shared.spread(np.stack([task.known for task, _ in filled])),
        noise=noise,
        resampling=resampling,
        stops=stops,
        **sampler,
    )
    done = 0
    for calls, x in walk:
        pictures = np.asarray(x)
        if not np.isfinite(pictures).all():
            raise FloatingPointError(
                f"the pictures are no longer finite after {calls} network calls; check that the "
                "noise schedule is that of the model's training and that its weights are sound"
            )
        bar.set_description("sampling", refresh=False)
        bar.update(calls - done)
        done = calls
        yield pictures[: len(jobs)]


@dataclass(frozen=True)
class Sharing:
    """A model on all devices that share a batch, and how the batch is spread over them."""

    model: Denoiser
    mesh: Mesh

    @classmethod
    def of(cls, model: Denoiser, batch_size: int) -> Sharing:
        """Sends the weights once, and not with each call."""
        arrays, code = split_model(model)
        mesh = mesh_for(batch_size, arrays)
        return cls(code.rebuild(jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))), mesh)

    def spread(self, batch: Any) -> jax.Array:
        """A batch, [N, ...], each device with its part."""
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec("pictures")))


def _keys(seed: int, jobs: Sequence[Job]) -> jax.Array:
    streams, samples = np.array([(task.stream, j) for task, j in jobs], np.uint32).T
    return _folded(np.uint32(seed), streams, samples)


@jax.jit
def _folded(seed: jax.Array, streams: jax.Array, samples: jax.Array) -> jax.Array:
    """The seed's key, folded with a picture's stream and a sample's number, for each of them."""
    fold = jax.vmap(jax.random.fold_in)
    return fold(jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(streams), samples)


@contextmanager
def compile_clock() -> Iterator[list[float]]:
    """Collects the seconds that JAX spends tracing and compiling."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
