"""Windows round the holes of a photograph, at the aspect ratio of a model's pictures.

A window is brought to the model's size, filled there, brought back, and only the hole's own pixels
of it are put into the photograph: everything else stays as it was, to the byte.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from repaint_jax.pictures.resizing import Shape, fit, resize_masked, sides


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
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the photograph that lie in it."""
        rows = slice(max(self.top, 0), self.bottom)
        return rows, slice(max(self.left, 0), self.right)


def windows_round_holes(known: np.ndarray, shape: Shape, *, margin: float = 0.5) -> list[Window]:
    """A window for each hole, from the top; holes whose windows meet share one.

    Args:
        known: bool[H, W], True where the photograph is kept.
        shape: height and width of the model's pictures, whose aspect ratio windows have. None is
            smaller than that, as long as the photograph is not.
        margin: what is seen round a hole, on each side, in units of the hole's own longer side.
    """
    from scipy import ndimage  # takes a while to import

    labels, _ = ndimage.label(~known, np.ones((3, 3)))  # diagonal neighbours are one hole
    while True:
        slices = ndimage.find_objects(labels)
        holes = [Window(y.start, x.start, y.stop - y.start, x.stop - x.start) for y, x in slices]
        windows = [_round(hole, known.shape, shape, margin) for hole in holes]
        covered = np.zeros(known.shape, bool)
        for window in windows:
            covered[window.inside] = True
        areas, count = ndimage.label(covered)
        if count == len(windows):
            return sorted(windows)
        labels = np.where(known, 0, areas)


def window_of_all(source: Shape, shape: Shape) -> Window:
    """The smallest window of that aspect ratio that has the whole photograph in it."""
    return _fitted(Window(0, 0, *source), source, shape)


def softness(windows: list[Window], shape: Shape) -> str | None:
    """Words for windows of more than twice the model's size; None where there are none."""
    factor = max((window.height / shape[0] for window in windows), default=0.0)
    if factor <= 2:
        return None
    return (
        f"the model fills {sides(shape)} pixels, which are enlarged {factor:.1f} times for the "
        "largest hole and its margin: that will be soft; take a smaller margin, paint smaller "
        "holes one by one, or a model of larger pictures"
    )


def padding(windows: list[Window], source: Shape) -> str | None:
    """Words for windows that reach beyond the border of a photograph; None where none does."""
    beyond = [w for w in windows if w.height > source[0] or w.width > source[1]]
    if not beyond:
        return None
    largest = max(beyond)
    return (
        f"{sides(source)} pixels are not of the model's aspect ratio: mirrored at the border, what "
        f"is known and holes alike, to {sides((largest.height, largest.width))}"
    )


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


def put_back(
    photo: np.ndarray, known: np.ndarray, window: Window, filled: np.ndarray
) -> np.ndarray:
    """The photograph with what was filled in a window, uint8[h, w, C], where it is not known."""
    gray = filled.shape[2] == 1
    picture = Image.fromarray(filled[..., 0] if gray else filled)
    at_size = np.asarray(fit(picture, (window.height, window.width)))
    at_size = at_size.reshape(window.height, window.width, filled.shape[2])
    rows, columns = window.inside
    at_size = at_size[rows.start - window.top :, columns.start - window.left :]
    result = photo.copy()
    part = result[window.inside]
    inside = at_size[: len(part), : part.shape[1]]
    part[...] = np.where(known[window.inside][..., None], part, inside)
    return result


def _round(hole: Window, source: Shape, shape: Shape, margin: float) -> Window:
    """A hole with its margin, not beyond the border where it need not be."""
    more = math.ceil(margin * max(hole.height, hole.width))
    top, left = max(hole.top - more, 0), max(hole.left - more, 0)
    bottom, right = min(hole.bottom + more, source[0]), min(hole.right + more, source[1])
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
