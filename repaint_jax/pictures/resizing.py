"""Pictures and masks at another size; what is unknown never colours what is known.

A picture is cropped centrally to the new aspect ratio and resized: Lanczos when shrinking, bicubic
when enlarging. Both look at the pixels around. Where a hole is among those, a known pixel is the
filter's sum over the known ones, divided by their part of its weight (normalised convolution:
Knutsson and Westin, CVPR 1993); where that part is small, for the filters have negative weights,
too, a triangle takes their place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

Shape = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom

_LEAST_OVERLAP = 1e-6  # of a pixel; less is rounding
_LEAST_WEIGHT = 1e-3  # of the known pixels in a mean with positive weights
_SOUND_WEIGHT = 0.5  # of the known pixels in a sum with negative weights, too


def resize_masked(
    picture: np.ndarray, known: np.ndarray, size: int | Shape, *, keep_partial: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Crops and resizes a picture and its mask together.

    Known pixels far from a hole, and all pixels of a hole, are as without a mask.

    Args:
        picture: uint8 or float [H, W, C].
        known: bool[h, w], True = known; of the picture's size, or of another size with the aspect
            ratio of the picture or, if it belongs to what is left after cropping, of `size`.
        size: (height, width), or the side of a square.
        keep_partial: whether a pixel is known if any of it was known, and not only if all was.

    Returns:
        The picture, in its dtype, and the mask, bool.
    """
    shape = as_shape(size)
    source = picture.shape[:2]
    box = crop_box(source, shape)
    new_known = resize_known(known, shape, source_shape=source, keep_partial=keep_partial)
    if source == shape:
        return picture, new_known
    sharp = _resized(picture, shape, box)
    weights = known if known.shape == source else _at_source(known, source, shape, box)
    near = new_known & _seen(~weights, shape, box)
    if near.any():
        mean, weight = _known_mean(picture, weights, shape, box, sharpest(box, shape))
        if (weak := near & (weight < _SOUND_WEIGHT)).any():
            blurred, weight = _known_mean(picture, weights, shape, box, Image.Resampling.BILINEAR)
            mean[weak] = blurred[weak]
            new_known &= ~weak | (weight >= _LEAST_WEIGHT)
        if picture.dtype == np.uint8:
            mean = np.rint(np.clip(mean, 0, 255))
        sharp[near] = mean[near]
    return sharp, new_known


def resize_known(
    known: np.ndarray,
    size: int | Shape,
    *,
    source_shape: Shape | None = None,
    keep_partial: bool = False,
) -> np.ndarray:
    """A mask at another size: unknown wherever any pixel of it was unknown.

    Args:
        known: bool[h, w], True = known.
        size: (height, width), or the side of a square.
        source_shape: (height, width) of the picture that is cropped to `size`; a mask of its aspect
            ratio is cropped likewise. Any other mask is taken as a whole.
        keep_partial: whether a pixel is known if any of it was known, and not only if all was.

    Returns:
        bool[H, W], True = known.
    """
    shape = as_shape(size)
    left, top, right, bottom = 0.0, 0.0, float(known.shape[1]), float(known.shape[0])
    if source_shape is not None and same_aspect(known.shape, source_shape):
        down, across = (new / old for new, old in zip(known.shape, source_shape, strict=True))
        crop = crop_box(source_shape, shape)
        left, top, right, bottom = (
            side * ratio for side, ratio in zip(crop, [across, down] * 2, strict=True)
        )
    rows = _overlapped(top, (bottom - top) / shape[0], shape[0], known.shape[0])
    columns = _overlapped(left, (right - left) / shape[1], shape[1], known.shape[1])
    return _any_in(known, rows, columns) if keep_partial else ~_any_in(~known, rows, columns)


def as_shape(size: int | Shape) -> Shape:
    """(height, width), of that or of the side of a square."""
    return (size, size) if isinstance(size, int) else size


def fit(picture: Image.Image, shape: Shape) -> Image.Image:
    """Crops a picture centrally to the aspect ratio of `shape`, and resizes it to that."""
    box = crop_box((picture.height, picture.width), shape)
    if picture.size == shape[::-1]:
        return picture
    return picture.resize(shape[::-1], sharpest(box, shape), box=box)


def sharpest(box: Box, shape: Shape) -> Image.Resampling:
    """Lanczos when shrinking, bicubic when enlarging; neither aliases."""
    shrinks = box[2] - box[0] > shape[1]
    return Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC


def crop_box(source: Shape, shape: Shape) -> Box:
    """(left, top, right, bottom) of the largest centred part with the aspect ratio of `shape`.

    Raises:
        ValueError: a side of `shape` is below 1.
    """
    height, width = shape
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs sides of at least one pixel, got {sides(shape)}")
    scale = min(source[1] / width, source[0] / height)  # source pixels per target pixel
    # Bounded, as the product may exceed the side it was divided from in the last digit.
    across, down = min(width * scale, source[1]), min(height * scale, source[0])
    left, top = (source[1] - across) / 2, (source[0] - down) / 2
    return left, top, left + across, top + down


def same_aspect(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether the one may be the other resized, the sides of the smaller rounded to pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(sum(one), sum(other)) / 2


def sides(shape: tuple[int, ...]) -> str:
    """A shape as in "256x384", height first."""
    return f"{shape[0]}x{shape[1]}"


class _Spans(NamedTuple):
    """Of each of n cells the source pixels first .. last - 1, int[n]."""

    first: np.ndarray
    last: np.ndarray


def _overlapped(start: float, step: float, count: int, limit: int) -> _Spans:
    """The source pixels that each of `count` cells of `step` pixels overlaps."""
    edges = start + step * np.arange(count + 1)
    first = np.floor(edges[:-1] + _LEAST_OVERLAP).astype(int)
    last = np.ceil(edges[1:] - _LEAST_OVERLAP).astype(int)
    return _Spans(np.clip(first, 0, limit), np.clip(np.maximum(last, first + 1), 0, limit))


def _any_in(marked: np.ndarray, rows: _Spans, columns: _Spans) -> np.ndarray:
    """bool[len(rows), len(columns)]: whether any pixel of `marked` in a rectangle is set."""
    sums = np.zeros((marked.shape[0] + 1, marked.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(marked, 0, dtype=np.int64), 1, out=sums[1:, 1:])
    lower, upper = sums[rows.last], sums[rows.first]
    between = lower - upper
    return between[:, columns.last] - between[:, columns.first] > 0


def _seen(marked: np.ndarray, shape: Shape, box: Box) -> np.ndarray:
    """bool[H, W]: whether the sharpest filter looks at any pixel that is marked."""
    scale = (box[2] - box[0]) / shape[1]
    reach = 3 * scale if scale > 1 else 2  # of Lanczos, and of the bicubic filter
    spans = []
    for start, end, count, limit in (
        (box[1], box[3], shape[0], marked.shape[0]),
        (box[0], box[2], shape[1], marked.shape[1]),
    ):
        centres = start + (end - start) / count * (np.arange(count) + 0.5)
        low, high = np.floor(centres - reach).astype(int), np.ceil(centres + reach).astype(int)
        spans.append(_Spans(np.clip(low, 0, limit), np.clip(high, 0, limit)))
    return _any_in(marked, *spans)


def _at_source(known: np.ndarray, source: Shape, shape: Shape, box: Box) -> np.ndarray:
    """A mask of another size than its picture, bool at the picture's.

    A source pixel is known if every pixel of a finer mask in it is, or that of a coarser one at its
    centre; all are that the mask does not cover.
    """
    whole = (0.0, 0.0, float(source[1]), float(source[0]))
    left, top, right, bottom = whole if same_aspect(known.shape, source) else box
    spans = []
    for start, end, count, limit in (
        (top, bottom, source[0], known.shape[0]),
        (left, right, source[1], known.shape[1]),
    ):
        step = limit / (end - start)  # mask pixels per source pixel
        narrowed = (1 - 1e-3) * step / 2 if step < 1 else 0.0
        edges = step * (np.arange(count) - start)
        first = np.floor(edges + narrowed + _LEAST_OVERLAP).astype(int)
        last = np.ceil(edges + step - narrowed - _LEAST_OVERLAP).astype(int)
        spans.append(_Spans(np.clip(first, 0, limit), np.clip(last, 0, limit)))
    return ~_any_in(~known, *spans)


def _known_mean(
    picture: np.ndarray, known: np.ndarray, shape: Shape, box: Box, resample: Image.Resampling
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the known pixels over their weight, float[H, W, C], and that weight, float[H, W]."""

    def filtered(plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(plane.astype(np.float32))
        return np.array(image.resize(shape[::-1], resample, box=box))

    weight = filtered(known)
    safe = np.where(np.abs(weight) < _LEAST_WEIGHT, 1, weight)
    # By where, as an unknown pixel may be NaN.
    planes = [filtered(np.where(known, plane, 0)) / safe for plane in np.moveaxis(picture, 2, 0)]
    return np.stack(planes, axis=2), weight


def _resized(picture: np.ndarray, shape: Shape, box: Box) -> np.ndarray:
    """The picture without regard to a mask, a fresh array of its dtype."""
    if picture.dtype == np.uint8 and picture.shape[2] in (1, 3):
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        return np.array(fit(image, shape)).reshape(*shape, picture.shape[2])
    planes = [
        np.array(fit(Image.fromarray(plane.astype(np.float32)), shape))
        for plane in np.moveaxis(picture, 2, 0)
    ]
    stacked = np.stack(planes, axis=2)
    if picture.dtype == np.uint8:
        stacked = np.rint(np.clip(stacked, 0, 255))
    return stacked.astype(picture.dtype)
