"""Masks from files, arrays and Pillow images, alone or together with their picture.

A mask is `bool[H, W]`, True = known and kept; in a file that is white, and black is the hole.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from repaint_jax.errors import ImageError, mended_by
from repaint_jax.pictures.images import (
    Source,
    as_array,
    name_of,
    opened,
    over_white,
    to_8_bits,
    white_of,
)
from repaint_jax.pictures.resizing import (
    Shape,
    as_shape,
    resize_known,
    resize_masked,
    same_aspect,
    sides,
)

_BLURRED = 0.05  # of a mask's pixels; edges that are smooth have fewer grey ones


def load_masked(
    image: Source,
    mask: Source,
    *,
    size: int | Shape | None = None,
    channels: int = 3,
    invert: bool = False,
    keep_partial: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a picture with its mask, so that what is unknown never colours what is known.

    Args:
        image: the picture, as for `load_image`.
        mask: its mask, as for `load_mask`; may be the picture itself, where the part erased to
            transparent is the hole.
        size: (height, width), or the side of a square.
        channels: 3 for colour, 1 for grey.
        invert: True if the mask marks the hole in white.
        keep_partial: whether a pixel is known if any of it is in the file, and not only if all is.

    Returns:
        uint8[H, W, channels], and bool[H, W], True = known.

    Raises:
        ImageError: as `load_image` and `load_mask` do.

    Warns:
        UserWarning: as `load_image` and `load_mask` do.
    """
    picture, known = to_8_bits(*opened(image)), read_mask(mask, invert=invert)
    source_shape = (picture.height, picture.width)
    shape = source_shape if size is None else as_shape(size)
    name = name_of(mask)
    _check_aspect(known.shape, shape, source_shape, name)
    if picture.mode == "RGBA" and _is_one(image, mask) and known.shape == source_shape:
        # A brush with a soft edge leaves the colour of what is half erased.
        alpha = np.where(known, 255, np.asarray(picture.getchannel("A")))
        picture.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    whole = as_array(over_white(picture), None, channels)
    result, known = resize_masked(whole, known, shape, keep_partial=keep_partial)
    check_mask(known, name, invert=invert)
    return result, known


def load_mask(
    source: Source,
    shape: Shape,
    *,
    source_shape: Shape | None = None,
    invert: bool = False,
    keep_partial: bool = False,
) -> np.ndarray:
    """Reads a mask for pictures of `shape`: white is kept, black is filled.

    Values are read as `read_mask` does. The mask is cropped as `load_image` crops the picture; a
    pixel is unknown where any of it was.

    Args:
        source: a file, an array [H, W] or [H, W, C], or a Pillow image.
        shape: (height, width) to return, that of the loaded picture.
        source_shape: (height, width) of the picture's file (`image_shape`), if it may have been
            cropped: the mask must have this aspect ratio or that of `shape`.
        invert: True if the file marks the hole in white.
        keep_partial: whether a pixel is known if any of it is in the file, and not only if all is.

    Returns:
        bool[H, W], True = known.

    Raises:
        ImageError: as `load_image`; and when the aspect ratio is another, there is no hole, or
            nothing is known.

    Warns:
        UserWarning: when the mask looks wrong (see `read_mask`, `check_mask`).
    """
    known, name = read_mask(source, invert=invert), name_of(source)
    _check_aspect(known.shape, shape, source_shape or shape, name)
    known = resize_known(known, shape, source_shape=source_shape, keep_partial=keep_partial)
    check_mask(known, name, invert=invert)
    return known


def read_mask(source: Source, *, invert: bool = False) -> np.ndarray:
    """Reads a mask at its own size.

    If there is an alpha channel with transparent and opaque parts, that is the mask (the part that
    was erased in an editor is the hole); otherwise its luminance is. Of two values, whichever they
    are, the higher one is known; more are cut at the middle of what their kind of file can hold.

    Returns:
        bool[H, W], True = known.

    Raises:
        ImageError: as `load_image`.

    Warns:
        UserWarning: when many values lie near the middle, so that it hardly is a mask.
    """
    picture, name = opened(source)
    if picture.mode.startswith(("I", "F")):
        return _parted(np.asarray(picture), name) ^ invert
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        low, high = alpha.min(), alpha.max()
        if low < high and (low < 128 <= high or np.isin(alpha, (low, high)).all()):
            return _parted(alpha, name) ^ invert
        picture = picture.convert("RGBA")
    return _parted(np.asarray(picture.convert("L")), name) ^ invert


def _parted(values: np.ndarray, name: str) -> np.ndarray:
    """bool[H, W], the upper part of a mask's values."""
    low, high = values.min(), values.max()
    if low < high and ((values == low) | (values == high)).all():
        return values == high
    white = white_of(values)
    if not (low >= 0 and high <= white):
        raise ImageError(
            f"{name}: expected a mask of two values, or {values.dtype} from 0 to {white}, got more "
            f"from {low} to {high}: save it in black and white"
        )
    grey = np.mean(np.abs(values / white - 0.5) < 1 / 8)
    if grey > _BLURRED:
        warnings.warn(
            f"{name}: {grey:.0%} of the mask are grey, neither black nor white, and cut at "
            f"{white / 2:g}: if that is no picture taken for a mask, save it in black and white",
            stacklevel=4,
        )
    return values > white / 2


def check_mask(known: np.ndarray, name: str, *, invert: bool = False) -> None:
    """Checks a mask that came from a file.

    A mask looks inverted when it keeps less than half of the picture and less than a fifth of the
    border: a hole painted in white does, being mostly the smaller part and inside. So does a mask
    for outpainting, which is why this only warns.

    Args:
        known: bool[H, W], True = known.
        name: the file, for the message.
        invert: whether the mask has been inverted already.

    Raises:
        ImageError: when there is no hole, or nothing is known.

    Warns:
        UserWarning: when the mask looks inverted.
    """
    switch = f"invert={not invert}"
    if known.all():
        fault = ImageError(
            f"{name}: the mask has no hole at {sides(known.shape)}, so there is nothing to fill: "
            f"paint the hole {'white' if invert else 'black'}, or pass {switch} if "
            f"{'black' if invert else 'white'} marks it"
        )
        raise mended_by(switch, fault)
    if not known.any():
        fault = ImageError(
            f"{name}: nothing is known at {sides(known.shape)}: what is kept must be "
            f"{'black' if invert else 'white'} and at least as wide as two pixels of this size, or "
            f"pass {switch} if {'white' if invert else 'black'} marks it; if the whole picture "
            "shall be generated, take the mask 'whole'"
        )
        raise mended_by(switch, fault)
    border = np.concatenate([known[0], known[-1], known[:, 0], known[:, -1]])
    if known.mean() < 0.5 and border.mean() < 0.2:
        doubt = UserWarning(
            f"{name}: the mask looks inverted, for only {known.mean():.0%} of the picture is kept: "
            f"pass {switch} if {'black' if invert else 'white'} marks the hole"
        )
        warnings.warn(mended_by(switch, doubt), stacklevel=3)


def _check_aspect(mask: tuple[int, ...], shape: Shape, source_shape: Shape, name: str) -> None:
    if not any(same_aspect(mask, other) for other in (shape, source_shape)):
        raise ImageError(
            f"{name}: a mask needs the aspect ratio of its picture, which is "
            f"{sides(source_shape)}, but this one is {sides(mask)} (height x width): "
            f"draw it on the picture itself"
        )


def _is_one(image: Source, mask: Source) -> bool:
    """Whether a picture is its own mask."""
    if isinstance(image, str | Path) and isinstance(mask, str | Path):
        return Path(image).resolve() == Path(mask).resolve()
    return image is mask
