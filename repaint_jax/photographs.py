"""Photographs of any size: windows round the holes are filled at the model's size and put back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from repaint_jax.errors import ArgumentError
from repaint_jax.pictures.patches import patch_of_all, patches_of_holes, softness
from repaint_jax.pictures.windows import Window, cut_out, put_back, window_of_all
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
    enlargement: float,
    keep_partial: bool,
    segment: int,
) -> Iterator[PhotoProgress]:
    """See `Pipeline.stream_photo`."""
    if window not in ("hole", "whole"):
        raise ArgumentError("window", f"hole or whole, not {window!r}")
    if not margin >= 0:
        raise ArgumentError("margin", f"at least 0, not {margin}")
    if not enlargement >= 1:
        raise ArgumentError("enlargement", f"at least 1, not {enlargement}")
    shape = pipeline.shape
    if window == "whole":
        patches = [] if known.all() else [patch_of_all(known.shape, shape)]
    else:
        turns = patches_of_holes(known, shape, margin=margin, enlargement=enlargement)
        patches = [patch for turn in turns for patch in turn]
    if words := softness(patches, shape):
        warnings.warn(words, stacklevel=2)
    photos = [photo.copy() for _ in range(num_samples)]
    unfilled = known.copy()
    total = len(patches) * sampler.total_calls
    for i, patch in enumerate(patches):
        batches = pipeline.batches(num_samples, jax.random.fold_in(key, i), segment=segment)
        cut = [
            cut_out(each, unfilled, patch.window, shape, keep_partial=keep_partial)
            for each in photos
        ]
        jobs = [(Task("", *each, 0), j) for j, each in enumerate(cut)]
        filled: list[np.ndarray] = []
        done = i * sampler.total_calls
        with closing(batches.run(jobs, sampler)) as walk:
            for progress in walk:
                filled += progress.pictures
                share = progress.calls / progress.total  # of memory's parts, too
                calls = done + share * sampler.total_calls
                yield PhotoProgress(calls, total, patch.window, progress.preview, [])
        for each, picture in zip(photos, filled, strict=True):
            put_back(each, unfilled, patch, picture)
        unfilled[patch.box.inside] = True  # a later window sees it
    last = patches[-1].window if patches else window_of_all(known.shape, shape)
    yield PhotoProgress(total, total, last, [], photos)
