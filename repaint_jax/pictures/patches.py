"""Which holes of a photograph are filled together, in which window, and which before which.

A window shows a model as much as fits on its pictures. So a hole that is long and thin, a scratch,
is cut into patches, whose windows need not be as large as the hole is long; and holes share a patch
where that makes no window coarser.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from repaint_jax.pictures.resizing import Shape, sides
from repaint_jax.pictures.windows import Patch, Window, box_of, window_of_all, window_round


def patches_of_holes(
    known: np.ndarray, shape: Shape, *, margin: float = 0.5, enlargement: float = 2.0
) -> list[list[Patch]]:
    """Patches that cover all holes, turn by turn: none sees the hole of another in its turn.

    Args:
        known: bool[H, W], True where the photograph is kept.
        shape: height and width of the model's pictures.
        margin: what is seen round a hole, on each side, in units of the hole's own longer side.
        enlargement: how many times a window may be larger than the model's pictures. Holes are cut
            for that, but to no less than four times their thickness: what is thicker is one thing.
    """
    size = enlargement * min(shape) / (1 + 2 * margin)
    boxes = _shared(_boxes(known, size), size)
    turns: list[list[Patch]] = []
    for patch in (Patch(box, window_round(box, known.shape, shape, margin)) for box in boxes):
        free = (turn for turn in turns if not any(_see(patch, other) for other in turn))
        turn = next(free, None)
        if turn is None:
            turns.append(turn := [])
        turn.append(patch)
    return turns


def patch_of_all(source: Shape, shape: Shape) -> Patch:
    """The whole photograph in one window."""
    return Patch(Window(0, 0, *source), window_of_all(source, shape))


def softness(patches: Sequence[Patch], shape: Shape) -> str | None:
    """Words for windows of more than twice the model's size; None where there are none."""
    factor = max((patch.window.height / shape[0] for patch in patches), default=0.0)
    if factor <= 2:
        return None
    return (
        f"the model's {sides(shape)} pixels are enlarged {factor:.1f} times for the largest "
        "window: that will be soft; take windows round the holes with a smaller margin, paint "
        "less, or take a model of larger pictures"
    )


def padding(patches: Sequence[Patch], source: Shape) -> str | None:
    """Words for windows that reach beyond the border of a photograph; None where none does."""
    beyond = [w for _, w in patches if w.height > source[0] or w.width > source[1]]
    if not beyond:
        return None
    largest = max(beyond, key=lambda window: window.longer)
    return (
        f"{sides(source)} pixels are not of the model's aspect ratio: mirrored at the border, what "
        f"is known and holes alike, to {sides((largest.height, largest.width))}"
    )


def _boxes(known: np.ndarray, size: float) -> list[Window]:
    """Boxes round the holes, of which those that are long and thin are cut."""
    from scipy import ndimage  # takes a while to import

    if known.all():
        return []
    if not known.any():
        return [Window(0, 0, *known.shape)]
    around = box_of(~known)  # all there is to look at
    labels, _ = ndimage.label(~known[around.inside], np.ones((3, 3)))
    boxes = []
    for i, found in enumerate(ndimage.find_objects(labels), 1):
        box = _within(around, found)
        if box.longer <= size:
            boxes.append(box)
        else:
            hole = labels[found] == i
            boxes += _pieces(hole, box, max(size, 4 * _thickness(hole, box, known.shape)))
    return boxes


def _thickness(hole: np.ndarray, box: Window, source: Shape) -> float:
    """Of a hole where it is thickest; it goes on beyond the photograph's border."""
    from scipy import ndimage

    around = (
        (int(box.top > 0), int(box.bottom < source[0])),
        (int(box.left > 0), int(box.right < source[1])),
    )
    return 2.0 * ndimage.distance_transform_cdt(np.pad(hole, around), "chessboard").max()


def _pieces(hole: np.ndarray, box: Window, length: float) -> Iterator[Window]:
    """Boxes round what of a hole lies in the cells of a grid, whose sides are at most `length`."""
    from scipy import ndimage

    rows, columns = (
        np.arange(side) * math.ceil(side / length) // side for side in (box.height, box.width)
    )
    cells = np.where(hole, rows[:, None] * (columns[-1] + 1) + columns + 1, 0)
    for found in ndimage.find_objects(cells):
        if found is not None:
            yield _within(box, found)


def _within(box: Window, found: tuple[slice, slice]) -> Window:
    """Rows and columns of a box as a box of the photograph."""
    rows, columns = found
    top, left = box.top + rows.start, box.left + columns.start
    return Window(top, left, rows.stop - rows.start, columns.stop - columns.start)


def _shared(boxes: list[Window], size: float) -> list[Window]:
    """Fewer boxes, each round several where none gets longer than `size`, or than it is anyway."""
    corners = np.zeros((0, 4), int)  # top, left, bottom, right
    for box in sorted(boxes, key=lambda box: -box.longer):
        low = np.minimum(corners[:, :2], box[:2])
        high = np.maximum(corners[:, 2:], (box.bottom, box.right))
        longer = (high - low).max(1)
        before = (corners[:, 2:] - corners[:, :2]).max(1)
        fits = np.flatnonzero(longer <= np.maximum(before, size))
        if fits.size:
            best = fits[np.argmin(longer[fits])]
            corners[best] = [*low[best], *high[best]]
        else:
            corners = np.vstack([corners, [box.top, box.left, box.bottom, box.right]])
    return sorted(
        Window(top, left, bottom - top, right - left)
        for top, left, bottom, right in corners.tolist()
    )


def _see(one: Patch, other: Patch) -> bool:
    """Whether the box of one lies in the window of the other, in part."""
    return _meet(one.window, other.box) or _meet(other.window, one.box)


def _meet(one: Window, other: Window) -> bool:
    return (
        one.top < other.bottom
        and other.top < one.bottom
        and one.left < other.right
        and other.left < one.right
    )
