"""What goes into a run: pictures and masks as a user names them, at the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from repaint_jax.errors import ImageError, mended_by
from repaint_jax.files import expanded
from repaint_jax.pictures.finding import find_images
from repaint_jax.pictures.images import Source, astronaut, image_shape, load_image
from repaint_jax.pictures.mask_files import load_mask, load_masked
from repaint_jax.pictures.masks import MASKS, make_mask
from repaint_jax.pictures.naming import result_names
from repaint_jax.pictures.pairing import find_masks, without_masks
from repaint_jax.pictures.resizing import Shape


class Input(NamedTuple):
    """A picture uint8[H, W, C], its mask bool[H, W], True = known, and the name of its results."""

    name: str
    picture: np.ndarray
    known: np.ndarray


class InputFile(NamedTuple):
    """A picture that was found, the name of its results, and its mask's file, if it has one."""

    name: str
    source: Source
    mask: Path | None


def find_inputs(image: str, mask: str) -> list[InputFile]:
    """Finds every picture with its mask.

    Args:
        image: a file, a folder, a pattern, or "astronaut".
        mask: a generator's name; a file for all; or a folder or a pattern, with a mask of its name
            for each picture, which may lie among the pictures.

    Raises:
        ImageError: one line that says what cannot be used.
    """
    paths = [Path("astronaut")] if image == "astronaut" else find_images(image)
    check_mask_name(mask)
    if mask not in MASKS and image != "astronaut":
        paths = without_masks(paths, mask)
    sources: list[Source] = [astronaut()] if image == "astronaut" else [*paths]
    masks = [None] * len(paths) if mask in MASKS else find_masks(paths, mask)
    return list(map(InputFile, result_names(paths), sources, masks))


def read_inputs(
    image: str,
    mask: str,
    shape: Shape,
    channels: int,
    *,
    seed: int = 0,
    invert: bool = False,
    keep_partial: bool = False,
) -> list[Input]:
    """Reads every picture with its mask, cropped to the model's aspect ratio, at its size.

    Args:
        image: as for `find_inputs`.
        mask: likewise.
        shape: (height, width).
        channels: 3 for colour, 1 for grey.
        seed: of random masks; picture i's are drawn from (seed, i).
        invert: True if masks mark the hole in white.
        keep_partial: whether a pixel is known if any of it is in the mask's file, and not only if
            all is.

    Raises:
        ImageError: one line that says what cannot be used.
    """
    inputs = find_inputs(image, mask)
    if mask in MASKS:
        known = generated_masks(mask, shape, range(len(inputs)), seed=seed, invert=invert)
        pictures = [load_image(each.source, size=shape, channels=channels) for each in inputs]
        return [
            Input(each.name, picture, kept)
            for each, picture, kept in zip(inputs, pictures, known, strict=True)
        ]
    load = partial(
        load_masked, size=shape, channels=channels, invert=invert, keep_partial=keep_partial
    )
    return [Input(name, *load(source, file)) for name, source, file in inputs if file]


def generated_masks(
    mask: str, shape: Shape, streams: Sequence[int], *, seed: int = 0, invert: bool = False
) -> list[np.ndarray]:
    """A generator's mask for each picture, bool[H, W]; see `read_masks`."""
    try:
        return [make_mask(mask, shape, [seed, stream]) ^ invert for stream in streams]
    except ValueError as error:
        raise mended_by("mask", ImageError(f"{mask}: {error}")) from error


def read_masks(
    mask: str,
    paths: Sequence[Path],
    shape: Shape,
    streams: Sequence[int],
    *,
    seed: int = 0,
    invert: bool = False,
) -> list[np.ndarray]:
    """A mask for each picture, bool[H, W], from a generator's name or files.

    Args:
        mask: as for `read_inputs`.
        paths: the pictures' files; one that does not exist has no sides to compare.
        shape: (height, width).
        streams: numbers of the random streams, so that a mask does not depend on those before it.
        seed: of random masks.
        invert: True if masks mark the hole in white; inverts a generated one.

    Raises:
        ImageError: one line that says what cannot be used.
    """
    check_mask_name(mask)
    if mask in MASKS:
        return generated_masks(mask, shape, streams, seed=seed, invert=invert)
    return [
        load_mask(
            file, shape, source_shape=image_shape(path) if path.is_file() else None, invert=invert
        )
        for file, path in zip(find_masks(paths, mask), paths, strict=True)
    ]


def check_mask_name(mask: str) -> None:
    """Refuses what is neither a generator nor a file: most likely it is a typing error."""
    if mask in MASKS or expanded(mask).exists():
        return
    try:
        find_images(mask)
    except ImageError as error:
        fault = ImageError(f"expected one of {', '.join(MASKS)}, or a file or folder: {error}")
        raise mended_by("mask", fault) from error
