"""Windows of a photograph, at the aspect ratio of a model's pictures.

A window is brought to the model's size, filled there, brought back, and only the holes' own pixels
of it are put into the photograph: everything else stays as it was, to the byte.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from repaint_jax.pictures.resizing import Shape, fit, resize_masked


class Window(NamedTuple):
    """A rectangle of pixels, which may reach beyond the photograph's border."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row below the last."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column right of the last."""
        return self.left + self.width

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.height, self.width)

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the photograph that lie in it."""
        rows = slice(max(self.top, 0), self.bottom)
        return rows, slice(max(self.left, 0), self.right)


class Patch(NamedTuple):
    """Holes that are filled together: the box round them, and the window that is seen for that."""

    box: Window
    window: Window


def box_of(marked: np.ndarray) -> Window:
    """The smallest box with all that is marked, bool[H, W], in it; something must be."""
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    top, left = int(rows[0]), int(columns[0])
    return Window(top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left)


def window_of_all(source: Shape, shape: Shape) -> Window:
    """The smallest window of that aspect ratio that has the whole photograph in it."""
    return _fitted(Window(0, 0, *source), source, shape)


def cut_out(
    photo: np.ndarray,
    known: np.ndarray,
    window: Window,
    shape: Shape,
    *,
    keep_partial: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """A window at the model's size: uint8[h, w, C], and bool[h, w].

    A pixel is unknown where any of it was or, with `keep_partial`, where all of it was. Beyond the
    border the photograph is mirrored, and so is what is known of it.
    """
    rows = _mirrored(window.top, window.bottom, len(photo))
    columns = _mirrored(window.left, window.right, photo.shape[1])
    part, part_known = photo[rows][:, columns], known[rows][:, columns]
    return resize_masked(part, part_known, shape, keep_partial=keep_partial)


def at_full_size(known: np.ndarray, window: Window, source: Shape) -> np.ndarray:
    """A mask of a window at the model's size, bool[h, w], at the photograph's, bool[H, W]."""
    rows, columns = (
        (np.arange(size) - start) * count // length
        for size, start, count, length in zip(
            source, window[:2], known.shape, window[2:], strict=True
        )
    )
    return known[rows][:, columns]


def put_back(photo: np.ndarray, known: np.ndarray, patch: Patch, filled: np.ndarray) -> None:
    """Puts what was filled in a window, uint8[h, w, C], into the photograph: its box's holes."""
    box, window = patch
    gray = filled.shape[2] == 1
    picture = Image.fromarray(filled[..., 0] if gray else filled)
    at_size = np.asarray(fit(picture, (window.height, window.width)))
    at_size = at_size.reshape(window.height, window.width, filled.shape[2])
    top, left = box.top - window.top, box.left - window.left
    inside = at_size[top : top + box.height, left : left + box.width]
    part = photo[box.inside]
    part[...] = np.where(known[box.inside][..., None], part, inside)


def window_round(box: Window, source: Shape, shape: Shape, margin: float) -> Window:
    """A window round a box, of the aspect ratio of `shape` and no smaller than that.

    Args:
        box: of the photograph.
        source: height and width of the photograph, beyond whose border it does not reach where it
            need not.
        shape: height and width of the model's pictures.
        margin: what is seen round the box, on each side, in units of its own longer side.
    """
    more = math.ceil(margin * box.longer)
    top, left = max(box.top - more, 0), max(box.left - more, 0)
    bottom, right = min(box.bottom + more, source[0]), min(box.right + more, source[1])
    return _fitted(Window(top, left, bottom - top, right - left), source, shape)


def _fitted(box: Window, source: Shape, shape: Shape) -> Window:
    """The box grown about its centre to the aspect ratio, moved into the photograph if it fits."""
    scale = max(
        box.height / shape[0],
        box.width / shape[1],
        min(1.0, source[0] / shape[0], source[1] / shape[1]),
    )
    sizes = [math.ceil(scale * side - 1e-9) for side in shape]
    starts = []
    for start, length, size, limit in zip(box[:2], box[2:], sizes, source, strict=True):
        centred = start - (size - length) // 2
        starts.append(min(max(centred, 0), limit - size) if size <= limit else (limit - size) // 2)
    return Window(*starts, *sizes)


def _mirrored(start: int, stop: int, size: int) -> np.ndarray:
    """Indices start .. stop - 1, those beyond 0 .. size - 1 reflected at the border."""
    period = 2 * size
    indices = np.arange(start, stop) % period
    return np.where(indices < size, indices, period - 1 - indices)
