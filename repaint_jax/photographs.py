"""Photographs of any size: a window round each hole is filled at the model's size and put back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from repaint_jax.errors import ArgumentError
from repaint_jax.pictures.windows import (
    Window,
    cut_out,
    put_back,
    softness,
    window_of_all,
    windows_round_holes,
)
from repaint_jax.runtime.batches import Task
from repaint_jax.sampler import Sampler

if TYPE_CHECKING:
    from repaint_jax.pipeline import Pipeline

Windows = Literal["hole", "whole"]


@dataclass(frozen=True, eq=False)
class PhotoProgress:
    """How far the filling of a photograph is.

    Attributes:
        calls: call equivalents done, over all windows.
        total: of how many.
        window: the part of the photograph that is being filled.
        preview: what is predicted for it so far, uint8[h, w, C] at the model's size, for each
            sample; empty before.
        pictures: the filled photographs, uint8[H, W, C] each, at the end; empty before.
    """

    calls: float
    total: float
    window: Window
    preview: list[np.ndarray]
    pictures: list[np.ndarray]


def stream_photo(
    pipeline: Pipeline,
    photo: np.ndarray,
    known: np.ndarray,
    key: jax.Array,
    *,
    num_samples: int,
    sampler: Sampler,
    window: Windows,
    margin: float,
    keep_partial: bool,
    segment: int,
) -> Iterator[PhotoProgress]:
    """See `Pipeline.stream_photo`."""
    if window not in ("hole", "whole"):
        raise ArgumentError("window", f"hole or whole, not {window!r}")
    if not margin >= 0:
        raise ArgumentError("margin", f"at least 0, not {margin}")
    if window == "whole":
        windows = [window_of_all(known.shape, pipeline.shape)] if not known.all() else []
    else:
        windows = windows_round_holes(known, pipeline.shape, margin=margin)
    if words := softness(windows, pipeline.shape):
        warnings.warn(words, stacklevel=2)
    photos = [photo] * num_samples
    unfilled = known.copy()
    total = len(windows) * sampler.total_calls
    for i, part in enumerate(windows):
        batches = pipeline.batches(num_samples, jax.random.fold_in(key, i), segment=segment)
        tasks = [
            Task("", *cut_out(each, unfilled, part, pipeline.shape, keep_partial=keep_partial), 0)
            for each in photos
        ]
        filled: list[np.ndarray] = []
        done = i * sampler.total_calls
        jobs = [(task, j) for j, task in enumerate(tasks)]
        with closing(batches.run(jobs, sampler)) as walk:
            for progress in walk:
                filled += progress.pictures
                share = progress.calls / progress.total  # of memory's parts, too
                calls = done + share * sampler.total_calls
                yield PhotoProgress(calls, total, part, progress.preview, [])
        photos = [
            put_back(each, unfilled, part, picture)
            for each, picture in zip(photos, filled, strict=True)
        ]
        unfilled[part.inside] = True  # a later window sees it
    last = windows[-1] if windows else window_of_all(known.shape, pipeline.shape)
    yield PhotoProgress(total, total, last, [], photos)
