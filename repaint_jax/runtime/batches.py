"""Batches of pictures on all devices of this process, in segments, as many as memory holds."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.pixels import to_float, to_uint8
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.devices import Sharing, fewer_at_once
from repaint_jax.runtime.snapshots import Snapshot, SnapshotFile
from repaint_jax.sampler import Sampler
from repaint_jax.trajectory import initial_state, trajectory

Item = TypeVar("Item")

SEGMENT = 10  # steps between two looks at the clock, at most
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # what XLA says of it


@dataclass(frozen=True, eq=False)
class Task:
    """One picture to fill.

    Attributes:
        name: of its files.
        image: uint8[H, W, C].
        known: bool[H, W], True = known.
        stream: of its random numbers: sample j has the run's key folded with it and with j, and is
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


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a batch is.

    Attributes:
        calls: call equivalents done of the batch.
        total: of how many; more when memory forces the batch into parts.
        resumed: how many of `calls` an earlier run made: they say nothing of this one's speed.
        jobs: those on their way.
        x0: f32[N, H, W, C], the clean pictures that were last predicted for them; None before.
        sampled: those that are done now, if any are.
    """

    calls: float
    total: float
    resumed: float = 0.0
    jobs: Sequence[Job] = ()
    x0: Any = None
    sampled: Sampled | None = None

    @property
    def pictures(self) -> list[np.ndarray]:
        """Those that are done now, uint8[H, W, C] each."""
        return self.sampled.pictures if self.sampled else []

    @property
    def preview(self) -> list[np.ndarray]:
        """The predicted pictures with the known pixels put down, uint8[H, W, C] each."""
        if self.x0 is None:
            return []
        predicted = to_uint8(np.asarray(self.x0)[: len(self.jobs)])
        return [
            np.where(task.known[..., None], task.image, picture)
            for (task, _), picture in zip(self.jobs, predicted, strict=True)
        ]


class Batches:
    """A model on the devices of this process, which fills pictures batch by batch.

    Attributes:
        size: pictures at once; halved when the devices' memory does not hold them.
        compile_seconds: spent compiling so far.
    """

    def __init__(
        self,
        model: Denoiser,
        *,
        size: int,
        key: jax.Array,
        snapshots: Path | None = None,
        save_minutes: float = 5.0,
        fingerprint: str = "",
        segment: int = SEGMENT,
    ):
        """Sends the weights to the devices.

        Args:
            model: the noise predictor.
            size: pictures at once. A smaller batch is filled up, so that there is one shape and one
                compilation.
            key: of all random numbers.
            snapshots: folder for batches in mid-trajectory; None keeps none.
            save_minutes: how much time a kill may cost.
            fingerprint: tells this model from others, for the snapshots.
            segment: steps between two looks, at most; each is one dispatch to the devices.
        """
        self.size = size
        self.compile_seconds = 0.0
        self._key, self._fingerprint = key, fingerprint
        self._snapshots, self._save_minutes = snapshots, save_minutes
        self._segment = segment
        self._shared = Sharing.of(model, size)

    def run(
        self,
        jobs: Sequence[Job],
        sampler: Sampler,
        *,
        film: bool = False,
        is_done: Callable[[Job], bool] = lambda job: False,
    ) -> Generator[Progress, None, None]:
        """Samples a batch, from where it was when an earlier run was killed.

        Args:
            jobs: what to sample, all of one shape.
            sampler: how.
            film: whether to keep the first picture's trajectory.
            is_done: whether a job needs no work.

        Yields:
            How far it is, after each segment. Pictures that are done come with it, at once or in
            parts that fit into memory. A part's snapshot is removed when the next progress is asked
            for: by then its pictures should be on disk.

        Raises:
            FloatingPointError: the trajectory left the finite numbers.
            MemoryError: the devices' memory does not hold a single picture.
        """
        calls, rest = sampler.total_calls, list(jobs)
        now = Progress(0.0, 0.0)
        while rest:
            now = replace(now, total=now.calls + math.ceil(len(rest) / self.size) * calls)
            part = rest[: self.size]
            if all(map(is_done, part)):
                now = Progress(now.calls + calls, now.total, now.resumed + calls)
                yield now
            else:
                file = self._snapshot_file(part, sampler)
                after = yield from self._attempt(
                    part, sampler, file, now, film=film and rest == list(jobs)
                )
                if after is None:
                    continue
                file.remove()
                now = after
            rest = rest[len(part) :]

    def _attempt(
        self,
        jobs: Sequence[Job],
        sampler: Sampler,
        file: SnapshotFile,
        before: Progress,
        **how: Any,
    ) -> Generator[Progress, None, Progress | None]:
        """`_walk`; or None, and fewer pictures at once from now on, if memory does not hold it."""
        try:
            return (yield from self._walk(jobs, sampler, file, before, **how))
        except jax.errors.JaxRuntimeError as error:
            if not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
            fewer = fewer_at_once(self.size, self._shared.mesh)
            if fewer == 0:
                raise MemoryError(
                    "the device's memory does not hold a single picture: take a smaller "
                    "image_size, the dtype bfloat16, or a larger device"
                ) from error
        # Only here, where the error no longer holds on to the arrays.
        warnings.warn(
            f"{self.size} pictures at once do not fit into memory; going on with {fewer}",
            stacklevel=2,
        )
        self.size, self._shared = fewer, Sharing.of(self._shared.model, fewer)
        return None

    def _walk(
        self,
        jobs: Sequence[Job],
        sampler: Sampler,
        file: SnapshotFile,
        before: Progress,
        *,
        film: bool,
    ) -> Generator[Progress, None, Progress]:
        """The trajectory of at most `size` jobs, or what a snapshot leaves of it."""
        looks = {*sampler.resampling.film_stops()} if film else set()
        batch = self._batch(jobs)
        now = file.load(initial_state(*batch, **sampler.arguments))
        resumed = before.resumed + sampler.calls[now.steps]
        earlier, started = now.seconds, time.perf_counter()
        with compile_clock() as compiling, file.saved_when_interrupted(lambda: now):
            for steps, state in one_ahead(self._trajectory(batch, sampler, now)):
                x = np.asarray(state.x)
                check_finite(x, steps)
                seconds = earlier + time.perf_counter() - started - sum(compiling)
                seen = (to_uint8(x[0]),) if steps in looks else ()
                now = Snapshot(steps, seconds, state, (*now.film, *seen))
                file.save_if_due(now)
                calls = before.calls + sampler.calls[steps]
                yield Progress(calls, before.total, resumed, jobs, state.x0)
        self.compile_seconds += sum(compiling)
        pictures = list(to_uint8(np.asarray(now.state.x)[: len(jobs)]))
        sampled = Sampled(jobs, pictures, list(now.film), now.seconds)
        calls = before.calls + sampler.total_calls
        end = Progress(calls, before.total, resumed, jobs, now.state.x0, sampled)
        yield end
        return end

    def _batch(self, jobs: Sequence[Job]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Keys, pictures and masks of a batch that is filled up, spread over the devices."""
        filled = [*jobs, *[jobs[0]] * (self.size - len(jobs))]
        spread = self._shared.spread
        return (
            spread(_keys(self._key, filled)),
            spread(np.stack([to_float(task.image) for task, _ in filled])),
            spread(np.stack([task.known for task, _ in filled])),
        )

    def _trajectory(
        self, batch: tuple[jax.Array, jax.Array, jax.Array], sampler: Sampler, start: Snapshot
    ) -> Iterator[tuple[int, Any]]:
        """What is left of `trajectory`."""
        keys, images, known = batch
        return trajectory(
            keys,
            self._shared.model,
            images,
            known,
            **sampler.arguments,
            stops=segment_stops(sampler.resampling, self._segment),
            resume=(start.steps, self._shared.spread(start.state)) if start.steps else None,
        )

    def _snapshot_file(self, jobs: Sequence[Job], sampler: Sampler) -> SnapshotFile:
        """Where these jobs' snapshot lies: its name tells all that the pictures depend on."""
        if self._snapshots is None:
            return SnapshotFile(None, self._save_minutes)
        digest = hashlib.blake2b(digest_size=16)
        for task, j in jobs:
            facts = (task.name, task.stream, j, task.image.shape)
            digest.update(repr(facts).encode() + task.image.tobytes() + task.known.tobytes())
        noise, resampling = sampler.noise, sampler.resampling
        for numbers in (noise.betas, noise.timesteps, resampling.times):
            digest.update(numbers.tobytes())
        digest.update(np.asarray(jax.random.key_data(self._key)).tobytes())
        digest.update(repr((self._fingerprint, self.size, sampler.method)).encode())
        path = self._snapshots / f"{digest.hexdigest()}.safetensors"
        return SnapshotFile(path, self._save_minutes)


def segment_stops(resampling: ResampleSchedule, segment: int = SEGMENT) -> list[int]:
    """Numbers of steps after which the host looks: for the film, the bar and the snapshots."""
    total = resampling.num_model_calls
    return sorted({*resampling.film_stops(), *range(segment, total, segment)})


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each when the next has been asked for: devices need not wait for the host."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def check_finite(pictures: np.ndarray, steps: int) -> None:
    """Raises FloatingPointError where a picture is not finite."""
    if not np.isfinite(pictures).all():
        raise FloatingPointError(
            f"the pictures are no longer finite after {steps} steps; check that the "
            "noise schedule is that of the model's training and that its weights are sound, or "
            "take another method"
        )


def _keys(key: jax.Array, jobs: Sequence[Job]) -> jax.Array:
    streams, samples = np.array([(task.stream, j) for task, j in jobs], np.uint32).T
    return _folded(key, streams, samples)


@jax.jit
def _folded(key: jax.Array, streams: jax.Array, samples: jax.Array) -> jax.Array:
    """The key, folded with a picture's stream and a sample's number, for each of them."""
    fold = jax.vmap(jax.random.fold_in)
    return fold(jax.vmap(partial(jax.random.fold_in, key))(streams), samples)


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
