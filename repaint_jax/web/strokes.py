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

MOST_WORK = 1e8  # rows of segments, which take about a quarter of a minute
THINNEST = 1.415  # a disk of this diameter covers the centre of a pixel wherever it lies
_PIXELS_A_ROW = 1000  # that are set in the time that a row of a segment takes
_ROWS_AT_ONCE = 1 << 18  # which bounds the memory


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
        Refused: these are no such operations, or too many.
    """
    hole = np.zeros(shape, bool)
    if not isinstance(operations, list):
        raise Refused(422, "the strokes must be a list")
    work = 0.0
    for operation in operations:
        kind = operation.get("kind") if isinstance(operation, dict) else None
        stroke = None
        if kind in ("brush", "eraser"):
            stroke = _points(operation.get("points")), _diameter(operation.get("size"), shape)
        work += _work(stroke, shape)
        if work > MOST_WORK:
            raise Refused(413, "too much is painted: save the mask, clear it, and load it again")
        if stroke is not None:
            _stroke(hole, *stroke, kind == "brush")
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
    number = isinstance(size, int | float) and not isinstance(size, bool)
    if not number or not 0 < size <= 4 * max(shape):
        raise Refused(422, "a brush needs a size above 0, and not far beyond the picture's")
    return max(float(size), THINNEST)


def _work(stroke: tuple[np.ndarray, float] | None, shape: Shape) -> float:
    """What an operation costs at most, in rows of a segment."""
    if stroke is None:
        return 1 + shape[0] * shape[1] / _PIXELS_A_ROW
    points, diameter = stroke
    return len(points) * min(diameter + 2, shape[0]) + np.abs(np.diff(points[:, 1])).sum()


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
    height, width = hole.shape
    starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    most = min(np.abs(ends - starts)[:, 1].max() + diameter + 2, height)  # rows of a segment
    several = max(1, int(_ROWS_AT_ONCE / most))
    for i in range(0, len(starts), several):
        rows, low, high = _runs(
            starts[i : i + several], ends[i : i + several], diameter / 2, height
        )
        first = np.clip(np.ceil(low - 0.5), 0, width).astype(int)
        stop = np.clip(np.floor(high - 0.5) + 1, 0, width).astype(int)
        covers = first < stop
        _set_runs(hole, (rows * width + first)[covers], (rows * width + stop)[covers], value)


def _runs(
    starts: np.ndarray, ends: np.ndarray, radius: float, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, and between which x the shape of each of N segments reaches in them.

    A segment and what is near it are two disks and a rectangle, together convex: one run a row.
    """
    top = np.floor(np.minimum(starts, ends)[:, 1] - radius).clip(0, height).astype(int)
    bottom = np.ceil(np.maximum(starts, ends)[:, 1] + radius).clip(0, height).astype(int)
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


def _set_runs(hole: np.ndarray, first: np.ndarray, stop: np.ndarray, value: bool) -> None:
    """Sets runs of the flattened hole, first .. stop - 1 each; those that meet are set as one."""
    if not len(first):
        return
    order = np.argsort(first, kind="stable")
    first, reach = first[order], np.maximum.accumulate(stop[order])
    begins = np.append(True, first[1:] > reach[:-1])
    ends = np.append(begins[1:], True)
    flat = hole.reshape(-1)
    for low, high in zip(first[begins].tolist(), reach[ends].tolist(), strict=True):
        flat[low:high] = value
