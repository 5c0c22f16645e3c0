"""A model with all that it takes to inpaint with it.

One object,

    pipeline = load_pipeline("celeba64")
    pictures = pipeline.inpaint(image, known, key=0, num_samples=10)

and one loop,

    for progress in pipeline.stream(image, known, key=0):
        show(progress.preview, progress.calls / progress.total)
    pictures = progress.pictures

whose iterator can be closed at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from repaint_jax.denoisers import Denoiser, Variance
from repaint_jax.errors import ArgumentError
from repaint_jax.methods import Method, RePaint
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.batches import SEGMENT, Batches, Progress, Sampled, Task
from repaint_jax.sampler import Sampler
from repaint_jax.schedules import NoiseSchedule

if TYPE_CHECKING:
    from repaint_jax.photographs import PhotoProgress, Windows

__all__ = ["Pipeline"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A model, and the pictures it takes.

    Attributes:
        model: the noise predictor, `model(x, t)`.
        noise: the noise schedule of its training.
        shape: height and width of its pictures.
        channels: 1 (grey) or 3 (colour).
        clip_denoised: whether methods clip the predicted pictures to [-1, 1], if not told.
        variance: of RePaint's reverse steps, if not told and the model has none of its own.
        fingerprint: tells its weights from others.
    """

    model: Denoiser
    noise: NoiseSchedule
    shape: tuple[int, int]
    channels: int = 3
    clip_denoised: bool = True
    variance: Variance = "fixed_small"
    fingerprint: str = ""

    def sampler(
        self,
        method: Method | None = None,
        *,
        num_steps: int | str = 100,
        jump_length: int = 10,
        num_resamples: int = 3,
        start_resampling: int | None = None,
    ) -> Sampler:
        """A method and a walk for this model.

        Args:
            method: by default RePaint.
            num_steps: how many steps of the noise schedule to visit; see `NoiseSchedule.respace`.
            jump_length: as the next two: see `ResampleSchedule.create`.
            num_resamples: how often each stretch is walked down.
            start_resampling: from where on to jump.

        Raises:
            ArgumentError: there is no such walk.
        """
        method = method or RePaint(clip_denoised=self.clip_denoised, variance=self.variance)
        try:
            noise = self.noise.respace(num_steps)
        except ValueError as error:
            raise ArgumentError("noise", str(error)) from error
        try:
            resampling = ResampleSchedule.create(
                noise.num_steps, jump_length, num_resamples, start_resampling
            )
        except ValueError as error:
            raise ArgumentError("resampling", str(error)) from error
        return Sampler(noise, resampling, method)

    def inpaint(
        self, image: np.ndarray, known: np.ndarray, key: jax.Array | int = 0, **more: Any
    ) -> np.ndarray:
        """Fills the hole of a picture in one or several ways.

        Takes the arguments of `stream`; returns uint8[num_samples, H, W, C], of which the known
        pixels are those of `image`.
        """
        *_, last = self.stream(image, known, key, **more)
        return np.stack(last.pictures)

    def stream(
        self,
        image: np.ndarray,
        known: np.ndarray,
        key: jax.Array | int = 0,
        *,
        num_samples: int = 1,
        sampler: Sampler | None = None,
        snapshots: Path | None = None,
    ) -> Iterator[Progress]:
        """`inpaint`, to watch it. Closing the iterator cancels it within a segment.

        Args:
            image: uint8[H, W, C], as `shape` and `channels` are.
            known: bool[H, W], True where the picture is kept.
            key: a JAX random key or a seed; sample j is the same whatever `num_samples` is.
            num_samples: in how many ways to fill the hole.
            sampler: how, by default as `self.sampler()`.
            snapshots: a folder for the state every five minutes and when it is closed, from which
                the same call goes on; None keeps none.

        Yields:
            How far it is and what is predicted so far; at the end with the `pictures`.

        Raises:
            ArgumentError: the picture or the mask are not such arrays.
            FloatingPointError, MemoryError: see `Batches.run`.
        """
        task = Task("picture", *self._checked(image, known, self.shape), 0)
        _check_samples(num_samples)
        sampler = sampler or self.sampler()
        batches = self.batches(num_samples, key, snapshots=snapshots)
        done: list[Sampled] = []
        jobs = [(task, j) for j in range(num_samples)]
        with closing(batches.run(jobs, sampler)) as walk:
            for progress in walk:
                if progress.sampled:
                    done.append(progress.sampled)
                if progress.calls < progress.total or not progress.sampled:
                    yield replace(progress, sampled=None)
        pictures = [picture for part in done for picture in part.pictures]
        seconds = sum(part.seconds for part in done)
        yield replace(progress, jobs=jobs, x0=None, sampled=Sampled(jobs, pictures, [], seconds))

    def inpaint_photo(
        self, image: np.ndarray, known: np.ndarray, key: jax.Array | int = 0, **more: Any
    ) -> np.ndarray:
        """Fills the holes of a photograph of any size.

        Takes the arguments of `stream_photo`; returns uint8[num_samples, H, W, C], of which every
        pixel outside of the holes is that of `image`.
        """
        *_, last = self.stream_photo(image, known, key, **more)
        return np.stack(last.pictures)

    def stream_photo(
        self,
        image: np.ndarray,
        known: np.ndarray,
        key: jax.Array | int = 0,
        *,
        num_samples: int = 1,
        sampler: Sampler | None = None,
        window: Windows = "hole",
        margin: float = 0.5,
        enlargement: float = 2.0,
        keep_partial: bool = False,
        segment: int = SEGMENT,
    ) -> Iterator[PhotoProgress]:
        """`inpaint_photo`, to watch it. Closing the iterator cancels it within a segment.

        A window round each hole is brought to the model's size, filled, and brought back; of it
        only the hole's pixels are taken. Long thin holes are cut into several, and small ones that
        are near share one. One window comes after the other and sees what was filled.

        Args:
            image: uint8[H, W, C] of any height and width.
            known: bool[H, W], True where the photograph is kept.
            key: a JAX random key or a seed.
            num_samples: in how many ways to fill the holes.
            sampler: how, by default as `self.sampler()`.
            window: round each "hole", or the "whole" photograph, mirrored at its border where its
                aspect ratio is not the model's.
            margin: what is seen round a hole, on each side, in units of its own longer side.
            enlargement: how many times a window may be larger than the model's pictures, where a
                hole is thin enough to be cut.
            keep_partial: whether a pixel of the model's size is known if any of it is, and not only
                if all is.
            segment: steps between two looks, at most.

        Yields:
            How far it is and what is predicted so far; at the end with the `pictures`.

        Raises:
            ArgumentError: an argument does not fit.
            FloatingPointError, MemoryError: see `Batches.run`.

        Warns:
            UserWarning: a window is more than twice the model's size, and will be soft.
        """
        from repaint_jax.photographs import stream_photo  # which needs the extra pictures

        _check_samples(num_samples)
        return stream_photo(
            self,
            *self._checked(image, known, None),
            _as_key(key),
            num_samples=num_samples,
            sampler=sampler or self.sampler(),
            window=window,
            margin=margin,
            enlargement=enlargement,
            keep_partial=keep_partial,
            segment=segment,
        )

    def batches(self, size: int, key: jax.Array | int, **more: Any) -> Batches:
        """The model on this process's devices, for `size` pictures at once."""
        key = _as_key(key)
        return Batches(self.model, size=size, key=key, fingerprint=self.fingerprint, **more)

    def _checked(
        self, image: np.ndarray, known: np.ndarray, shape: tuple[int, int] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture and its mask, of the height and width `shape`, or of any."""
        image, known = np.asarray(image), np.asarray(known)
        fits = image.ndim == 3 and shape in (None, image.shape[:2])
        if image.dtype != np.uint8 or not fits or image.shape[2] != self.channels:
            sides = "H, W" if shape is None else f"{shape[0]}, {shape[1]}"
            more = "" if shape is None else ", size=pipeline.shape"
            raise ArgumentError(
                "image",
                f"expected uint8[{sides}, {self.channels}]; got {image.dtype}{list(image.shape)}: "
                f"repaint_jax.pictures.images.load_image(file{more}) makes one",
            )
        if known.dtype != bool or known.shape != image.shape[:2]:
            raise ArgumentError(
                "known",
                f"expected bool{list(image.shape[:2])}, True where the picture is kept; got "
                f"{known.dtype}{list(known.shape)}",
            )
        return image, known


def _as_key(key: jax.Array | int) -> jax.Array:
    """A random key, which a seed is made one."""
    if isinstance(key, int | np.integer):
        return jax.random.key(key)
    if not isinstance(key, jax.Array):
        raise ArgumentError("key", f"expected a seed or jax.random.key(0), not {key!r}")
    return key


def _check_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise ArgumentError("num_samples", f"at least 1, not {num_samples}")
