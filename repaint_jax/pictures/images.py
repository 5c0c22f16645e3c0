"""Pictures and masks: from any file to arrays, and back to PNG.

A picture is `uint8[H, W, C]` with C of 1 or 3, and `float32[H, W, C]` in [-1, 1] for the model. A
mask is `bool[H, W]`, True = known and kept; in a file that is white (255), and black (0) is the
hole. Whatever is wrong with a file becomes an `ImageError` of one line that names it.
"""

import glob
import re
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from repaint_jax.runtime.files import expanded, replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

PathLike = str | Path
Shape = tuple[int, int]


class ImageError(ValueError):
    """A picture or mask file cannot be used; the message says in one line why, and the cure."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


def load_image(
    path: PathLike | BinaryIO, *, size: int | Shape | None = None, channels: int = 3
) -> np.ndarray:
    """Reads a picture of any kind, upright.

    EXIF rotation is applied; 16-bit grey (65535 = white) and float grey (1 = white, or 255
    if any is above 1) are scaled to 8 bits; transparent parts are laid over white; animations give
    their first frame; colour profiles are ignored, as they were for the models' training data.

    Args:
        path: the file, or one that is open.
        size: (height, width), or the side of a square. The picture is cropped centrally to this
            aspect ratio and resized; one that fits already comes back byte for byte.
        channels: 3 for colour, 1 for grey.

    Returns:
        uint8[H, W, channels].

    Raises:
        ImageError: when the file is not there, not a picture, damaged, or too large to be safe.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    picture = _read(path)
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return _as_array(picture, size, channels)


def load_mask(
    path: PathLike, shape: Shape, *, source_shape: Shape | None = None, invert: bool = False
) -> np.ndarray:
    """Reads a mask for pictures of `shape`: white (255) is kept, black (0) is filled.

    If the file has an alpha channel with both transparent and opaque parts, that is the mask (the
    part erased in an editor is the hole); otherwise its luminance is. Either is cut at one half.
    The mask is cropped as `load_image` crops the picture, and resized without blending.

    Args:
        path: the file.
        shape: (height, width) to return, that of the loaded picture.
        source_shape: (height, width) of the picture's file (`image_shape`), if it may have been
            cropped: the mask must have this aspect ratio or that of `shape`.
        invert: True if the file marks the hole in white.

    Returns:
        bool[H, W], True = known.

    Raises:
        ImageError: as `load_image`; and when the aspect ratio is another or there is no hole.

    Warns:
        UserWarning: when the mask looks wrong (see `check_mask`).
    """
    picture = _read(path)
    if picture.mode == "RGBA":
        alpha = picture.getchannel("A")
        opaque = np.asarray(alpha) >= 128
        if opaque.any() and not opaque.all():
            picture = alpha
    mask_shape = (picture.height, picture.width)
    if not any(_same_aspect(mask_shape, other) for other in (shape, source_shape or shape)):
        picture_shape = source_shape or shape
        raise ImageError(
            f"{path}: a mask needs the aspect ratio of its picture, which is "
            f"{_sides(picture_shape)}, but this one is {_sides(mask_shape)} (height x width): "
            f"draw it on the picture itself"
        )
    luminance = np.array(fit(picture.convert("L"), shape, Image.Resampling.NEAREST))
    known = (luminance >= 128) ^ invert
    check_mask(known, str(path), invert=invert)
    return known


def check_mask(known: np.ndarray, name: str, *, invert: bool = False) -> None:
    """Checks a mask that came from a file; `load_mask` calls it.

    A mask looks inverted when it keeps less than half of the picture and less than a fifth of the
    border: a hole painted in white does, being mostly the smaller part and inside. So does a mask
    for outpainting, which is why this only warns.

    Args:
        known: bool[H, W], True = known.
        name: the file, for the message.
        invert: whether the mask has been inverted already.

    Raises:
        ImageError: when there is no hole.

    Warns:
        UserWarning: when nothing is known, or the mask looks inverted.
    """
    switch = f"--config.invert_mask={not invert}"
    if known.all():
        raise ImageError(
            f"{name}: the mask has no hole at {_sides(known.shape)}, so there is nothing to fill: "
            f"paint the hole black (0), or use {switch} if white marks it"
        )
    border = np.concatenate([known[0], known[-1], known[:, 0], known[:, -1]])
    if not known.any():
        warnings.warn(
            f"{name}: nothing is known at {_sides(known.shape)}, so the whole picture will be "
            f"generated: what is kept must be white (255, not 1) and not be lost in resizing; "
            f"use {switch} if black marks it",
            stacklevel=3,
        )
    elif known.mean() < 0.5 and border.mean() < 0.2:
        warnings.warn(
            f"{name}: the mask looks inverted, for only {known.mean():.0%} of the picture is kept: "
            f"use {switch} if {'black' if invert else 'white'} marks the hole",
            stacklevel=3,
        )


def image_shape(path: PathLike) -> Shape:
    """(height, width) of a picture's file, upright."""
    picture = _read(path)
    return picture.height, picture.width


def fit(
    picture: Image.Image, shape: Shape, resample: Image.Resampling | None = None
) -> Image.Image:
    """Crops a picture centrally to the aspect ratio of `shape` and resizes it to (height, width).

    `resample` is by default Lanczos when shrinking, bicubic when enlarging; neither aliases.
    """
    height, width = shape
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs sides of at least one pixel, got {_sides(shape)}")
    if picture.size == (width, height):
        return picture
    scale = min(picture.width / width, picture.height / height)  # source pixels per target pixel
    # Bounded, as the product may exceed the side it was divided from in the last digit.
    across, down = min(width * scale, picture.width), min(height * scale, picture.height)
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    if resample is None:
        resample = Image.Resampling.LANCZOS if scale > 1 else Image.Resampling.BICUBIC
    crop = (left, top, left + across, top + down)
    return picture.resize((width, height), resample, box=crop)


def find_images(pattern: PathLike) -> list[Path]:
    """Finds the pictures that a file name, a folder or a glob pattern stands for.

    Hidden files and, in folders and patterns, files without the name of a picture are left out.

    Returns:
        Paths in natural order: `2.png` before `10.png`.

    Raises:
        ImageError: when there are none.
    """
    path = expanded(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = list(path.iterdir())
    else:
        candidates = [Path(name) for name in glob.glob(str(path), recursive=True)]
        if not candidates:
            raise ImageError(
                f"{pattern}: expected a picture, a folder of pictures or a pattern such as "
                f"'faces/*.png', but nothing is there: check the path"
            )
    return pictures_among(candidates, pattern)


def pictures_among(files: Sequence[Path], place: PathLike) -> list[Path]:
    """Those that are pictures by their names, in natural order; `place` is for the error."""
    found = [
        file
        for file in files
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not found:
        raise ImageError(
            f"{place}: none of the {len(files)} files there is a picture: "
            f"expected one of {', '.join(SUFFIXES)}"
        )
    return sorted(found, key=natural_order)


def pair_masks(images: Sequence[Path], masks: Sequence[Path]) -> list[Path]:
    """Finds each picture's mask: the only one, or the one of the same name.

    `face.png` goes with a mask `face.png`, `face_mask.png` or, as LaMa writes it,
    `face_mask000.png`, of any suffix. Order never decides. Masks without a picture are left out.

    Raises:
        ImageError: when pictures have no mask, or two masks have one name.
    """
    if len(masks) == 1:
        return [masks[0]] * len(images)
    by_name: dict[str, Path] = {}
    for mask in masks:
        name = re.sub(r"_mask\d*$", "", mask.stem)
        if name in by_name:
            raise ImageError(
                f"{mask}: a picture needs one mask, but {by_name[name]} has the same name: "
                f"remove one of them"
            )
        by_name[name] = mask
    missing = [image.name for image in images if image.stem not in by_name]
    if missing:
        others = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ImageError(
            f"{', '.join(missing[:3])}{others}: no mask of that name among {len(masks)} masks for "
            f"{len(images)} pictures: name each mask like its picture, or give one mask for all"
        )
    return [by_name[image.stem] for image in images]


def to_float(picture: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    if picture.dtype != np.uint8:
        raise ValueError(f"a picture's bytes must be uint8, got {picture.dtype}")
    return picture.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] -> uint8, rounded and clipped; the exact inverse of `to_float`.

    Raises:
        ValueError: for NaN or infinity.
    """
    picture = np.asarray(picture, np.float32)
    bad = np.count_nonzero(~np.isfinite(picture))
    if bad:
        raise ValueError(f"{bad} of the picture's {picture.size} numbers are NaN or infinite")
    return np.rint(np.clip((picture + 1) * 127.5, 0, 255)).astype(np.uint8)


def save_image(path: PathLike, picture: np.ndarray) -> None:
    """Writes uint8[H, W], [H, W, 1] or [H, W, 3] as PNG, making the folder if need be.

    The file appears whole or not at all: a run that is cut off leaves no half picture behind.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures are saved without loss: end the name in .png")
    if picture.dtype != np.uint8:
        raise ValueError(f"{path}: a picture to save must be uint8, got {picture.dtype}")
    squeezed = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    with replacing(path) as temporary:
        Image.fromarray(squeezed).save(temporary, format="PNG")


def astronaut(*, size: int | Shape | None = None, channels: int = 3) -> np.ndarray:
    """Eileen Collins (NASA, public domain), aligned as CelebA's faces are.

    uint8[158, 158, channels], or of the size asked for, as in `load_image`.
    """
    # Not by skimage's own function, which loads SciPy.
    with (files("skimage.data") / "astronaut.png").open("rb") as file:
        face = Image.open(file).crop((148, 21, 306, 179))  # eyes at (0.355, 0.513), (0.638, 0.513)
    return _as_array(face, size, channels)


def _as_array(picture: Image.Image, size: int | Shape | None, channels: int) -> np.ndarray:
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None:
        picture = fit(picture, (size, size) if isinstance(size, int) else size)
    return np.array(picture).reshape(picture.height, picture.width, channels)


def _read(path: PathLike | BinaryIO) -> Image.Image:
    """The first frame of a file, upright, as L, RGB or RGBA."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened)
        if 0 in picture.size:
            raise ImageError(f"{path}: the picture is empty ({picture.width}x{picture.height})")
        return _to_8_bits(picture, path)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file: check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{path}: expected a picture to read, got: {error.strerror}") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: not a picture of a known format: convert it to PNG or JPEG"
        ) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{path}: the picture is too large to be read safely ({error}): shrink it first"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise ImageError(
            f"{path}: the picture cannot be decoded ({error}): it may be damaged; export it anew"
        ) from error


def _to_8_bits(picture: Image.Image, path: PathLike | BinaryIO) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_scale_to_8_bits(np.asarray(picture), path))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _scale_to_8_bits(values: np.ndarray, path: PathLike | BinaryIO) -> np.ndarray:
    """Deep grey to uint8, rounded: see `load_image`."""
    white = 65535
    if values.dtype.kind == "f":
        white = 255 if values.max() > 1 else 1
    if not (values.min() >= 0 and values.max() <= white):
        raise ImageError(
            f"{path}: expected {values.dtype} values from 0 to {white}, "
            f"got {values.min()} to {values.max()}: rescale them or save as 8 bits"
        )
    return np.rint(values * (255.0 / white)).astype(np.uint8)


def _same_aspect(one: Shape, other: Shape) -> bool:
    """Whether the one may be the other resized, the sides of the smaller rounded to pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(sum(one), sum(other)) / 2


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"


def natural_order(path: Path) -> list[str | int]:
    """A key to sort paths by, 2.png before 10.png."""
    parts = re.split(r"([0-9]+)", str(path))
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]
