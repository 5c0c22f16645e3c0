"""Batches of pictures on all devices of this process, in segments, as many as memory holds."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from repaint_jax.denoisers import Denoiser
from repaint_jax.pictures.images import to_float, to_uint8
from repaint_jax.pictures.plots import film_stops
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.devices import Sharing
from repaint_jax.runtime.progress import Progress
from repaint_jax.runtime.snapshots import Snapshot, SnapshotFile
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.trajectory import trajectory

Item = TypeVar("Item")

_LONGEST_SEGMENT = 10  # network calls between two looks at the clock


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True)
class Sampled:
    """Jobs that are done.

    Attributes:
        jobs: which.
        pictures: uint8[H, W, C] each.
        film: the first picture after each of `film_stops`, if it was asked for.
        seconds: what they took, without compilation; those before a kill included.
    """

    jobs: Sequence[Job]
    pictures: list[np.ndarray]
    film: list[np.ndarray]
    seconds: float


class CallBar(Progress):
    """A progress bar of network calls."""

    def __init__(self, calls: int, **options: Any):
        super().__init__(total=calls, unit="call", desc="compiling", **options)

    def credit(self, calls: int) -> None:
        """Counts calls that an earlier run made: they say nothing of this one's speed."""
        self.initial += calls
        self.n += calls
        self.last_print_n += calls
        self.refresh()


class Sampler:
    """A model on the devices of this process, and how it is asked.

    Attributes:
        size: pictures at once; halved when the devices' memory does not hold them.
        compile_seconds: spent compiling so far.
    """

    def __init__(
        self,
        model: Denoiser,
        *,
        size: int,
        seed: int,
        snapshots: Path,
        save_minutes: float,
        about: str = "",
        **options: Any,
    ):
        """Sends the weights to the devices.

        Args:
            model: the noise predictor.
            size: pictures at once. A smaller batch is filled up, so that there is one shape and one
                compilation.
            seed: of all random numbers.
            snapshots: folder for batches in mid-trajectory.
            save_minutes: how much time a kill may cost.
            about: tells this model from others, for the snapshots.
            **options: further arguments of `inpaint`.
        """
        self.size = size
        self.compile_seconds = 0.0
        self._seed, self._options, self._about = seed, options, about
        self._snapshots, self._save_minutes = snapshots, save_minutes
        self._shared = Sharing.of(model, size)

    def run(
        self,
        jobs: Sequence[Job],
        noise: NoiseSchedule,
        resampling: ResampleSchedule,
        *,
        bar: CallBar,
        film: bool = False,
        is_done: Callable[[Job], bool] = lambda job: False,
    ) -> Iterator[Sampled]:
        """Samples a batch, from where it was when an earlier run was killed.

        Args:
            jobs: what to sample, all of one shape.
            noise: the model's schedule, respaced.
            resampling: the walk.
            bar: is told of the network calls; its total counts those of these jobs once.
            film: whether to keep the first picture's trajectory.
            is_done: whether a job needs no work.

        Yields:
            The jobs that are done, at once or in parts that fit into memory. A part's snapshot is
            removed when the next one is asked for: by then its pictures should be on disk.

        Raises:
            FloatingPointError: the trajectory left the finite numbers.
            MemoryError: the devices' memory does not hold a single picture.
        """
        calls, rest, parts, done = resampling.num_model_calls, list(jobs), 1, 0
        while rest:
            needed = done + math.ceil(len(rest) / self.size)
            bar.total += (needed - parts) * calls
            parts = needed
            part = rest[: self.size]
            if all(map(is_done, part)):
                bar.credit(calls)
            else:
                file = self._snapshot_file(part, noise, resampling)
                look = film and done == 0
                sampled = self._attempt(part, noise, resampling, file=file, bar=bar, film=look)
                if sampled is None:
                    continue
                yield sampled
                file.remove()
            rest, done = rest[len(part) :], done + 1

    def _attempt(
        self,
        jobs: Sequence[Job],
        noise: NoiseSchedule,
        resampling: ResampleSchedule,
        *,
        bar: CallBar,
        **how: Any,
    ) -> Sampled | None:
        """`_walk`; or None, and fewer pictures at once from now on, if memory does not hold it."""
        before = bar.n
        try:
            return self._walk(jobs, noise, resampling, bar=bar, **how)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            fewer = fewer_at_once(self.size, self._shared.mesh)
            if fewer == 0:
                raise MemoryError(
                    "the device's memory does not hold a single picture: take a smaller "
                    "config.model.image_size, config.model.dtype=bfloat16, or a larger device"
                ) from error
        # Only here, where the error no longer holds on to the arrays.
        bar.n = before
        warnings.warn(
            f"{self.size} pictures at once do not fit into memory; going on with {fewer}",
            stacklevel=2,
        )
        self.size = fewer
        self._shared = Sharing.of(self._shared.model, fewer)
        return None

    def _walk(
        self,
        jobs: Sequence[Job],
        noise: NoiseSchedule,
        resampling: ResampleSchedule,
        *,
        file: SnapshotFile,
        bar: CallBar,
        film: bool,
    ) -> Sampled:
        """The trajectory of at most `size` jobs, or what a snapshot leaves of it."""
        looks = {*film_stops(resampling)} if film else {}
        state = file.load() or Snapshot(0, 0.0, np.zeros(0), ())
        bar.credit(state.calls)
        earlier, started = state.seconds, time.perf_counter()
        with compile_clock() as compiling, file.saved_when_interrupted(lambda: state):
            for calls, x in one_ahead(self._trajectory(jobs, noise, resampling, state)):
                pictures = np.asarray(x)
                check_finite(pictures, calls)
                bar.set_description("sampling", refresh=False)
                bar.update(calls - state.calls)
                seconds = earlier + time.perf_counter() - started - sum(compiling)
                seen = (to_uint8(pictures[0]),) if calls in looks else ()
                state = Snapshot(calls, seconds, pictures, (*state.film, *seen))
                file.save_if_due(state)
        self.compile_seconds += sum(compiling)
        pictures = to_uint8(state.x[: len(jobs)])
        return Sampled(jobs, list(pictures), list(state.film), state.seconds)

    def _trajectory(
        self,
        jobs: Sequence[Job],
        noise: NoiseSchedule,
        resampling: ResampleSchedule,
        start: Snapshot,
    ) -> Iterator[tuple[int, jax.Array]]:
        """`trajectory` of a batch that is filled up, spread over the devices."""
        filled = [*jobs, *[jobs[0]] * (self.size - len(jobs))]
        spread = self._shared.spread
        return trajectory(
            spread(_keys(self._seed, filled)),
            self._shared.model,
            spread(np.stack([to_float(task.image) for task, _ in filled])),
            spread(np.stack([task.known for task, _ in filled])),
            noise=noise,
            resampling=resampling,
            stops=segment_stops(resampling),
            resume=(start.calls, spread(start.x)) if start.calls else None,
            **self._options,
        )

    def _snapshot_file(
        self, jobs: Sequence[Job], noise: NoiseSchedule, resampling: ResampleSchedule
    ) -> SnapshotFile:
        """Where these jobs' snapshot lies: its name tells all that the pictures depend on."""
        digest = hashlib.blake2b(digest_size=16)
        for task, j in jobs:
            facts = (task.name, task.stream, j, task.image.shape)
            digest.update(repr(facts).encode() + task.image.tobytes() + task.known.tobytes())
        for numbers in (noise.betas, noise.timesteps, resampling.times):
            digest.update(numbers.tobytes())
        how = (self._about, self._seed, self.size, sorted(self._options.items()))
        digest.update(repr(how).encode())
        path = self._snapshots / f"{digest.hexdigest()}.safetensors"
        return SnapshotFile(path, self._save_minutes)


def fewer_at_once(size: int, mesh: Mesh) -> int:
    """How many pictures to try after `size` of them did not fit into memory; 0 if there is no way.

    Half as many a device; where each has but one, only cores of a CPU, which share one memory, can
    do with fewer at a time.
    """
    count = mesh.size
    if size > count:
        return count * max(1, size // count // 2)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return size // 2 if on_cpu else 0


def segment_stops(resampling: ResampleSchedule) -> list[int]:
    """Numbers of calls after which the host looks: for the film, the bar and the snapshots."""
    total = resampling.num_model_calls
    return sorted({*film_stops(resampling), *range(_LONGEST_SEGMENT, total, _LONGEST_SEGMENT)})


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each when the next has been asked for: devices need not wait for the host."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def check_finite(pictures: np.ndarray, calls: int) -> None:
    """Raises FloatingPointError where a picture is not finite."""
    if not np.isfinite(pictures).all():
        raise FloatingPointError(
            f"the pictures are no longer finite after {calls} network calls; check that the "
            "noise schedule is that of the model's training and that its weights are sound"
        )


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
