"""The training loop: rounds of updates, and what is written, kept and shown between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from repaint_jax.training.checkpointing import Checkpoints
from repaint_jax.training.data import Stream
from repaint_jax.training.step import Metrics, Trainer, TrainState
from repaint_jax.training.watch import Watch

__all__ = ["Intervals", "check_metrics", "train"]

DIVERGED = 2.0  # mean squared error of the noise; predicting none at all has 1


@dataclass(frozen=True)
class Intervals:
    """How often something happens, in updates.

    Attributes:
        log_every: a line of metrics; on an accelerator also the updates of one call.
        checkpoint_every: a checkpoint; a multiple of `log_every`.
        sample_every: a preview; a multiple of `log_every`.
    """

    log_every: int
    checkpoint_every: int
    sample_every: int


def train(
    trainer: Trainer,
    state: TrainState,
    pictures: np.ndarray | Stream,
    *,
    intervals: Intervals,
    checkpoints: Checkpoints,
    watch: Watch,
    on_checkpoint: Callable[[TrainState], None],
    on_sample: Callable[[TrainState], None],
) -> TrainState:
    """Goes on from `state` to the end.

    Args:
        trainer: the updates.
        state: where to start.
        pictures: uint8[N, H, W, C], or a stream of them.
        intervals: how often something happens.
        checkpoints: where states are kept.
        watch: what shows the metrics.
        on_checkpoint: called with a state that has just been saved, the last one included.
        on_sample: called with a state of which pictures are to be shown.

    Raises:
        FloatingPointError: the loss is not finite, or the training diverges. The state is not
            saved: the last checkpoint is a good one.
    """
    settings = trainer.settings
    done = int(state.step)
    feed = _feed(trainer, pictures, done)
    while done < settings.num_steps:
        length = min(intervals.log_every - done % intervals.log_every, settings.num_steps - done)
        state, metrics = _round(trainer, state, feed, length, watch)
        done += length
        check_metrics(metrics, done, settings.optimizer.warmup_steps, checkpoints.latest)
        watch.line(done, metrics)
        last = done == settings.num_steps
        if last or done % intervals.checkpoint_every == 0:
            checkpoints.save(state)
            on_checkpoint(state)
        if last or done % intervals.sample_every == 0:
            on_sample(state)
        watch.skip_time()
    return state


Feed = Callable[[int], jax.Array]


def _feed(trainer: Trainer, pictures: np.ndarray | Stream, done: int) -> Feed:
    """What `Trainer.run` wants for the next n updates."""
    if isinstance(pictures, np.ndarray):
        resident = trainer.replicated(pictures)
        return lambda n: resident
    settings = trainer.settings
    batches = pictures.batches(done, settings.num_steps, settings.batch_size)
    return lambda n: trainer.replicated(np.stack(list(itertools.islice(batches, n))))


def _round(
    trainer: Trainer, state: TrainState, feed: Feed, length: int, watch: Watch
) -> tuple[TrainState, Metrics]:
    """`length` updates and their metrics, [length]."""
    # XLA has no fast convolutions in loops on the CPU, where a call costs next to nothing anyway.
    n = 1 if jax.default_backend() == "cpu" else length
    rows = []
    for _ in range(length // n):
        state, row = trainer.run(state, feed(n), n)
        rows.append(jax.device_get(row))
        watch.steps(rows[-1])
    return state, jax.tree.map(lambda *numbers: np.concatenate(numbers), *rows)


def check_metrics(metrics: Metrics, done: int, warmup_steps: int, latest: int | None) -> None:
    """Raises FloatingPointError where the updates up to `done` went wrong."""
    first = done - len(metrics.loss) + 1
    mend = (
        f"the checkpoint of step {latest} is kept" if latest else "there is no checkpoint yet"
    ) + "; lower the learning rate and run the same command again"
    sound = np.isfinite(metrics.loss) & np.isfinite(metrics.grad_norm)
    if not sound.all():
        step = first + int(np.argmin(sound))
        raise FloatingPointError(f"the loss or its gradient is not finite at step {step}: {mend}")
    mse = float(np.mean(metrics.mse))
    if done > warmup_steps and mse > DIVERGED:
        raise FloatingPointError(
            f"the training diverges: the noise's mean squared error is {mse:.3g} over steps "
            f"{first} to {done}, worse than the 1 of predicting none: {mend}"
        )
