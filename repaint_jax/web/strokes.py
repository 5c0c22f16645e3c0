"""Strokes to masks at a photograph's full size, whatever the size they were painted at.

A hole is a list of operations, as JSON, in the order in which they were made:

    {"kind": "brush", "size": 40, "points": [[x, y], ...]}      and "eraser"
    {"kind": "rectangle", "from": [x, y], "to": [x, y]}
    {"kind": "mask", "id": "..."}                               an uploaded one, in place of all
    {"kind": "invert"} and {"kind": "clear"}

Coordinates and sizes are in the photograph's pixels; pixel i reaches from i to i + 1. A shape
covers the pixels whose centres lie in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from repaint_jax.pictures.resizing import Shape
from repaint_jax.web.refusals import Refused

MOST_ROWS = 2e8  # of all segments together, which take half a minute
THINNEST = 2**0.5  # a disk of this diameter covers the centre of a pixel wherever it lies
_ROWS_AT_ONCE = 1 << 19  # which bounds the memory


def hole_of(
    operations: Any, shape: Shape, uploaded: Callable[[str], np.ndarray] | None = None
) -> np.ndarray:
    """The hole that was painted.

    Args:
        operations: as above.
        shape: height and width of the photograph.
        uploaded: the uploaded mask of an id, bool[H, W], True = known.

    Returns:
        bool[H, W], True where the photograph is to be filled.

    Raises:
        Refused: these are no such operations.
    """
    hole = np.zeros(shape, bool)
    if not isinstance(operations, list):
        raise Refused(422, "the strokes must be a list")
    work = 0.0
    for operation in operations:
        kind = operation.get("kind") if isinstance(operation, dict) else None
        if kind in ("brush", "eraser"):
            points = _points(operation.get("points"))
            size = _diameter(operation.get("size"), shape)
            work += len(points) * size + np.abs(np.diff(points[:, 1])).sum()
            if work > MOST_ROWS:
                raise Refused(413, "too much is painted: download the mask, clear, and upload it")
            _stroke(hole, points, size, kind == "brush")
        elif kind == "rectangle":
            _rectangle(hole, _points([operation.get("from"), operation.get("to")]))
        elif kind == "invert":
            np.logical_not(hole, out=hole)
        elif kind == "clear":
            hole[:] = False
        elif kind == "mask" and uploaded is not None:
            known = uploaded(str(operation.get("id")))
            if known.shape != shape:
                raise Refused(422, "that mask belongs to a picture of another size")
            np.logical_not(known, out=hole)
        else:
            raise Refused(422, f"there is no stroke of the kind {kind!r}")
    return hole


def _points(points: Any) -> np.ndarray:
    """float64[N, 2], N >= 1."""
    if not isinstance(points, list) or not points:
        raise Refused(422, "a stroke needs points")
    try:
        array = np.array(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.shape != (len(points), 2) or not (np.abs(array) < 1e6).all():
        raise Refused(422, "a point needs two numbers, x and y")
    return array


def _diameter(size: Any, shape: Shape) -> float:
    if (
        isinstance(size, bool)
        or not isinstance(size, int | float)
        or not 0 < size <= 4 * max(shape)
    ):
        raise Refused(422, "a brush needs a size above 0, and not far beyond the picture's")
    return max(float(size), THINNEST)


def _rectangle(hole: np.ndarray, corners: np.ndarray) -> None:
    """Fills the pixels whose centres lie in it, and the one it begins in however small it is."""
    low, high = corners.min(0), corners.max(0)
    first, stop = np.ceil(low - 0.5).astype(int), np.floor(high - 0.5).astype(int) + 1
    stop = np.where(stop > first, stop, np.floor(low).astype(int) + 1)
    first = np.minimum(first, stop - 1)
    (left, top), (right, bottom) = np.maximum(first, 0), np.maximum(stop, 0)
    hole[top:bottom, left:right] = True


def _stroke(hole: np.ndarray, points: np.ndarray, diameter: float, value: bool) -> None:
    """Sets the pixels whose centres are at most half the diameter away from a line of points."""
    radius = diameter / 2
    low = np.floor(points.min(0) - radius).astype(int)
    high = np.ceil(points.max(0) + radius).astype(int) + 1
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, hole.shape[::-1])
    if left >= right or top >= bottom:
        return
    starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    # Where runs of covered pixels begin and end: their running sum tells what is covered.
    edges = np.zeros((bottom - top, right - left + 1), np.int32)
    longest = np.abs(ends - starts)[:, 1].max() + diameter + 2
    several = max(1, int(_ROWS_AT_ONCE / longest))
    for i in range(0, len(starts), several):
        rows, low, high = _runs(starts[i : i + several], ends[i : i + several], radius)
        first = np.clip(np.ceil(low - 0.5) - left, 0, right - left).astype(int)
        stop = np.clip(np.floor(high - 0.5) + 1 - left, 0, right - left).astype(int)
        covers = (rows >= top) & (rows < bottom) & (first < stop)
        np.add.at(edges, (rows[covers] - top, first[covers]), 1)
        np.add.at(edges, (rows[covers] - top, stop[covers]), -1)
    hole[top:bottom, left:right][np.cumsum(edges, axis=1)[:, :-1] > 0] = value


def _runs(
    starts: np.ndarray, ends: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, and between which x the shape of each of N segments reaches in them.

    A segment and what is near it are two disks and a rectangle, together convex: one run a row.
    """
    top = np.floor(np.minimum(starts, ends)[:, 1] - radius).astype(int)
    bottom = np.ceil(np.maximum(starts, ends)[:, 1] + radius).astype(int)
    counts = bottom - top
    of = np.repeat(np.arange(len(starts)), counts)  # the segment of each row
    rows = np.arange(len(of)) - (np.cumsum(counts) - counts)[of] + top[of]
    y = rows + 0.5  # of the pixels' centres
    low, high = np.full(len(of), np.inf), np.full(len(of), -np.inf)
    for centres in (starts, ends):
        x, squared = centres[of, 0], radius**2 - (y - centres[of, 1]) ** 2
        half = np.where(squared >= 0, np.sqrt(np.abs(squared)), -np.inf)
        low, high = np.minimum(low, x - half), np.maximum(high, x + half)
    along = ends - starts
    length = np.hypot(*along.T)[:, None]
    across = radius * np.stack([-along[:, 1], along[:, 0]], 1) / np.where(length > 0, length, 1)
    corners = [starts + across, ends + across, ends - across, starts - across]
    for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
        (x1, y1), (x2, y2) = one[of].T, other[of].T
        share = np.divide(y - y1, y2 - y1, out=np.full(len(of), -1.0), where=y1 != y2)
        crosses, x = (share >= 0) & (share <= 1), x1 + share * (x2 - x1)
        low = np.where(crosses, np.minimum(low, x), low)
        high = np.where(crosses, np.maximum(high, x), high)
    return rows, low, high
