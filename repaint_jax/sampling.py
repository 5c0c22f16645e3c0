"""Many pictures, many samples: batches, progress and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from repaint_jax.denoisers import Denoiser
from repaint_jax.images import to_float, to_uint8
from repaint_jax.plots import film_stops
from repaint_jax.repaint import trajectory
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule


@dataclass(frozen=True)
class Task:
    """One picture to fill: uint8[H, W, C] and bool[H, W], True = known."""

    name: str
    image: np.ndarray
    known: np.ndarray


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

    Sample j of task i has the key `seed` folded with i and j, so that it is the same picture
    whatever the batch size and the number of samples.

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
    started = time.perf_counter()
    with _compile_clock() as compiling, tqdm(total=calls, unit="call", desc="compiling") as bar:
        for number, batch in enumerate(batches):
            # The last batch is filled up with its first job: one shape, one compilation.
            filled = batch + batch[:1] * (batch_size - len(batch))
            walk = trajectory(
                _keys(seed, filled),
                model,
                jnp.stack([to_float(tasks[i].image) for i, _ in filled]),
                jnp.stack([tasks[i].known for i, _ in filled]),
                noise=noise,
                resampling=resampling,
                stops=result.stops,
                **sampler,
            )
            for pictures in _watched(walk, bar):
                if number == 0:
                    result.film.append(to_uint8(pictures[0]))
            for (i, j), picture in zip(batch, pictures, strict=False):
                result.pictures[i, j] = to_uint8(picture)
                on_picture(tasks[i], j, result.pictures[i, j])
    result.compile_seconds = sum(compiling)
    result.seconds = time.perf_counter() - started - result.compile_seconds
    return result


def _keys(seed: int, jobs: list[tuple[int, int]]) -> jax.Array:
    root = jax.random.key(seed)
    return jnp.stack([jax.random.fold_in(jax.random.fold_in(root, i), j) for i, j in jobs])


def _watched(walk: Iterator[tuple[int, jax.Array]], bar: tqdm) -> Iterator[np.ndarray]:
    """The pictures at each stop of a trajectory, with the bar kept up to date."""
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
        yield pictures


@contextmanager
def _compile_clock() -> Iterator[list[float]]:
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
