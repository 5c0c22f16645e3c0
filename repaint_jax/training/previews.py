"""What the network can do so far: a grid of samples, and one of inpainted pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.pictures.grids import grid, masked_preview, overview
from repaint_jax.pictures.images import to_float, to_uint8
from repaint_jax.pictures.masks import box, half
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.trajectory import inpaint_batch

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
            ValueError: the model's pictures are not finite.
        """
        noise = self.noise.respace(self.num_steps)
        shape = self.validation.shape[1:]
        if self.num_samples:
            samples = inpaint_batch(
                jax.random.split(jax.random.key(0), self.num_samples),
                model,
                jnp.zeros(shape),
                jnp.zeros(shape[:2], bool),
                noise=noise,
                resampling=ResampleSchedule.create(self.num_steps, num_resamples=1),
            )
            pictures = list(to_uint8(np.asarray(samples)))
            rows = range(0, len(pictures), _COLUMNS)
            yield "samples", grid([pictures[start : start + _COLUMNS] for start in rows])
        if len(self.validation):
            yield "inpainted", self._inpainted(model, noise)

    def _inpainted(self, model: Denoiser, noise: NoiseSchedule) -> np.ndarray:
        pictures = list(self.validation)
        size = self.validation.shape[1:3]
        known = [(half if i % 2 == 0 else box)(size) for i in range(len(pictures))]
        filled = inpaint_batch(
            jax.random.split(jax.random.key(0), _FILLS * len(pictures)),
            model,
            jnp.repeat(to_float(self.validation), _FILLS, axis=0),
            jnp.repeat(jnp.stack(known), _FILLS, axis=0),
            noise=noise,
            resampling=ResampleSchedule.create(
                self.num_steps, jump_length=10, num_resamples=self.num_resamples
            ),
        )
        drawn = to_uint8(np.asarray(filled)).reshape(len(pictures), _FILLS, *pictures[0].shape)
        hidden = [masked_preview(*pair) for pair in zip(pictures, known, strict=True)]
        return overview(pictures, hidden, [list(fills) for fills in drawn])
