"""The masks of the paper, made on the spot for any picture size.

A mask is `bool[H, W]`: True where the picture is known and kept, False in the hole that is
generated. Every generator takes the shape and a `numpy.random.Generator` (which the regular masks
ignore), and always leaves a hole and, but for `whole`, something known.

`wide` and `narrow` follow `random_thick_256` and `random_thin_256` of LaMa (Suvorov et al., WACV
2022; https://github.com/advimman/lama, Apache-2.0), from which the paper's Wide and Narrow masks
come. Kept are the kinds of shapes, the distributions of their numbers, sizes, places and directions
and the rejection of holes above one half. A shape has real coordinates and covers the pixels whose
centres lie in it, so that its share of the picture is the same at every size. Sizes below are those
for a side of 256 and scale with the shorter side.
"""

import math
from collections.abc import Callable

import numpy as np

Shape = tuple[int, int]

_SMALLEST_SIDE = 4
_LARGEST_HOLE = 0.5


def half(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Keeps the left half (the paper's Half)."""
    known = _empty(shape)
    known[:, : shape[1] // 2] = True
    return known


def expand(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Keeps the central rectangle of a quarter of each side (the paper's Expand, 64 of 256)."""
    return _central(shape, 4)


def box(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Loses the central rectangle of half of each side."""
    return ~_central(shape, 2)


def alternating_lines(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Keeps every second row, the first included (the paper's Alternating Lines)."""
    known = _empty(shape)
    known[::2] = True
    return known


def super_resolution(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Keeps every second pixel of every second row (the paper's Super-Resolve 2x)."""
    known = _empty(shape)
    known[::2, ::2] = True
    return known


def whole(shape: Shape, rng: np.random.Generator | None = None) -> np.ndarray:
    """Keeps nothing: the model draws what it likes."""
    return _empty(shape)


def wide(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Loses thick strokes or boxes (LaMa's `random_thick_256`, the paper's Wide).

    One kind a mask, with weights 1 : 0.3: 1 to 5 strokes, or 1 to 3 boxes with sides of 30 to 150
    that keep 10 pixels from the border.
    """

    def draw() -> np.ndarray:
        if rng.random() < 1 / 1.3:
            return _strokes(shape, rng, counts=(1, 5), max_length=200, max_width=100)
        return _boxes(shape, rng)

    return _accept(draw)


def narrow(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Loses 4 to 50 thin strokes (LaMa's `random_thin_256`, the paper's Narrow)."""
    return _accept(lambda: _strokes(shape, rng, counts=(4, 50), max_length=40, max_width=10))


MASKS: dict[str, Callable[[Shape, np.random.Generator], np.ndarray]] = {
    "wide": wide,
    "narrow": narrow,
    "super_resolution": super_resolution,
    "alternating_lines": alternating_lines,
    "half": half,
    "expand": expand,
    "box": box,
    "whole": whole,
}


def make_mask(name: str, shape: Shape, seed: int = 0) -> np.ndarray:
    """Makes the mask of that name; the same seed gives the same mask on every machine.

    Args:
        name: a key of `MASKS`.
        shape: (height, width), each at least 4.
        seed: used by `wide` and `narrow` only.

    Returns:
        bool[H, W], True = known.

    Raises:
        ValueError: for an unknown name or a side below 4.
    """
    if name not in MASKS:
        raise ValueError(f"no mask is called {name!r}: choose one of {', '.join(MASKS)}")
    return MASKS[name](shape, np.random.default_rng(seed))


def _empty(shape: Shape) -> np.ndarray:
    if min(shape) < _SMALLEST_SIDE:
        height, width = shape
        raise ValueError(
            f"a mask needs sides of at least {_SMALLEST_SIDE} pixels, got {height}x{width}"
        )
    return np.zeros(shape, bool)


def _central(shape: Shape, divisor: int) -> np.ndarray:
    """True in the central rectangle whose sides are those of the picture over `divisor`."""
    inside = _empty(shape)
    sizes = [side // divisor for side in shape]
    top, left = ((side - size) // 2 for side, size in zip(shape, sizes, strict=True))
    inside[top : top + sizes[0], left : left + sizes[1]] = True
    return inside


def _accept(draw: Callable[[], np.ndarray]) -> np.ndarray:
    """Draws holes until one covers no more than half, and returns what is known."""
    while True:
        hole = draw()
        if hole.mean() <= _LARGEST_HOLE:
            return ~hole


def _strokes(
    shape: Shape,
    rng: np.random.Generator,
    *,
    counts: tuple[int, int],
    max_length: float,
    max_width: float,
) -> np.ndarray:
    """Polylines of 1 to 5 segments from a random pixel, each with its own width and direction.

    As in LaMa's code, a segment is 10 + [0, max_length) long and 5 + [0, max_width) wide; its angle
    is 0.01 + 0, 1, 2 or 3 rad, to the left in one stroke and to the right in the next; and it ends
    at the border at the latest. (LaMa's code draws up to one stroke more than its configuration
    says; here `counts` holds.) A width is at least one pixel, or the stroke would break up.
    """
    hole = _empty(shape)
    scale = min(shape) / 256
    last = np.array(shape) - 1
    for index in range(rng.integers(counts[0], counts[1], endpoint=True)):
        start = rng.integers(0, last, endpoint=True).astype(float)
        side = -1 if index % 2 == 0 else 1
        for _ in range(rng.integers(1, 5, endpoint=True)):
            angle = 0.01 + int(rng.integers(4))
            length = scale * (10 + max_length * rng.random())
            width = max(1.0, scale * (5 + max_width * rng.random()))
            step = length * np.array([math.cos(angle), side * math.sin(angle)])
            end = np.clip(start + step, 0, last)
            _draw_segment(hole, start, end, width)
            start = end
    return hole


def _draw_segment(hole: np.ndarray, start: np.ndarray, end: np.ndarray, width: float) -> None:
    """Sets the pixels whose centre lies within width / 2 of the segment: a line with round ends."""
    low = np.maximum(np.floor(np.minimum(start, end) - width / 2), 0).astype(int)
    high = np.ceil(np.maximum(start, end) + width / 2).astype(int) + 1
    part = hole[low[0] : high[0], low[1] : high[1]]  # a view; slices stop at the border
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    y, x = y + low[0] - start[0], x + low[1] - start[1]
    dy, dx = end - start
    along = (y * dy + x * dx) / max(dy * dy + dx * dx, 1e-12)  # 0 at the start, 1 at the end
    along = np.clip(along, 0, 1)
    part |= (y - along * dy) ** 2 + (x - along * dx) ** 2 <= (width / 2) ** 2


def _boxes(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """1 to 3 boxes with sides of 30 to 150, at least a pixel, 10 from the border."""
    hole = _empty(shape)
    scale = min(shape) / 256
    for _ in range(rng.integers(1, 3, endpoint=True)):
        sides = np.maximum(1, scale * (30 + 120 * rng.random(2)))
        room = np.array(shape) - 20 * scale - sides
        corner = 10 * scale + room * rng.random(2)
        top, left = (corner + 0.5).astype(int)
        bottom, right = (corner + sides + 0.5).astype(int)
        hole[top:bottom, left:right] = True
    return hole
