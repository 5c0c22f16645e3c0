"""What the network can do so far: a grid of samples, and one of inpainted pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.pictures.grids import grid, masked_preview, overview
from repaint_jax.pictures.masks import box, half
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.schedules import NoiseSchedule

__all__ = ["Previews"]

_COLUMNS = 8
_FILLS = 2  # ways to fill each validation picture


@dataclass(frozen=True)
class Previews:
    """Draws the same noise every time, so that grids can be compared.

    Attributes:
        noise: the schedule of the training.
        validation: uint8[V, H, W, C], pictures to inpaint, by turns with `half` and `box`.
        num_samples: pictures drawn out of nothing.
        num_steps: timesteps to visit.
        num_resamples: r of the inpaintings, at a jump length of 10.
    """

    noise: NoiseSchedule
    validation: np.ndarray
    num_samples: int = 16
    num_steps: int = 50
    num_resamples: int = 5

    def draw(self, model: Denoiser) -> Iterator[tuple[str, np.ndarray]]:
        """Names and grids, uint8[height, width, 3].

        Raises:
            FloatingPointError: the model's pictures are not finite.
        """
        height, width, channels = self.validation.shape[1:]
        pipeline = Pipeline(model, self.noise, (height, width), channels)
        if self.num_samples:
            pictures = pipeline.inpaint(
                np.zeros((height, width, channels), np.uint8),
                np.zeros((height, width), bool),
                num_samples=self.num_samples,
                sampler=pipeline.sampler(num_steps=self.num_steps, num_resamples=1),
            )
            rows = range(0, len(pictures), _COLUMNS)
            yield "samples", grid([list(pictures[start : start + _COLUMNS]) for start in rows])
        if len(self.validation):
            yield "inpainted", self._inpainted(pipeline)

    def _inpainted(self, pipeline: Pipeline) -> np.ndarray:
        pictures = list(self.validation)
        known = [(half if i % 2 == 0 else box)(pipeline.shape) for i in range(len(pictures))]
        tasks = [Task("", *pair, i) for i, pair in enumerate(zip(pictures, known, strict=True))]
        jobs = [(task, j) for task in tasks for j in range(_FILLS)]
        sampler = pipeline.sampler(num_steps=self.num_steps, num_resamples=self.num_resamples)
        walk = pipeline.batches(len(jobs), key=0).run(jobs, sampler)
        filled = [picture for progress in walk for picture in progress.pictures]
        hidden = [masked_preview(*pair) for pair in zip(pictures, known, strict=True)]
        rows = [filled[start : start + _FILLS] for start in range(0, len(filled), _FILLS)]
        return overview(pictures, hidden, rows)
