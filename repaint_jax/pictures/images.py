"""Pictures: from any file, array or Pillow image to arrays, and back to PNG.

A picture is `uint8[H, W, C]` with C of 1 or 3, and `float32[H, W, C]` in [-1, 1] for the model.
Whatever is wrong with a file becomes an `ImageError` of one line that names it.
"""

from __future__ import annotations

import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from repaint_jax.errors import ImageError
from repaint_jax.files import in_text, replacing
from repaint_jax.pictures.resizing import Shape, as_shape, fit

PathLike = str | Path
Source = str | Path | BinaryIO | np.ndarray | Image.Image

_DARK = 64  # of 255: deeper pictures are rarely exposed so little


def load_image(source: Source, *, size: int | Shape | None = None, channels: int = 3) -> np.ndarray:
    """Reads a picture of any kind, upright.

    EXIF rotation is applied; 16-bit grey (65535 = white) and float grey (1 = white, or 255
    if any is above 1) are scaled to 8 bits; transparent parts are laid over white; animations give
    their first frame; colour profiles are ignored, as they were for the models' training data.

    Args:
        source: a file, one that is open, an array [H, W] or [H, W, C], or a Pillow image.
        size: (height, width), or the side of a square. The picture is cropped centrally to this
            aspect ratio and resized; one that fits already comes back byte for byte.
        channels: 3 for colour, 1 for grey.

    Returns:
        uint8[H, W, channels].

    Raises:
        ImageError: when the file is not there, not a picture, damaged, or too large to be safe.

    Warns:
        UserWarning: when a picture of more than 8 bits is nearly black.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    return as_array(over_white(to_8_bits(*opened(source))), size, channels)


def image_shape(source: Source) -> Shape:
    """(height, width) of a picture, upright."""
    picture, _ = opened(source)
    return picture.height, picture.width


def over_white(picture: Image.Image) -> Image.Image:
    """A picture of mode RGBA laid over white; any other as it is."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def as_array(picture: Image.Image, size: int | Shape | None, channels: int) -> np.ndarray:
    """uint8[H, W, channels], cropped and resized."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None:
        picture = fit(picture, as_shape(size))
    return np.array(picture).reshape(picture.height, picture.width, channels)


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
    return as_array(face, size, channels)


def opened(source: Source) -> tuple[Image.Image, str]:
    """The first frame of a picture, upright and decoded, and what messages call it."""
    if isinstance(source, np.ndarray):
        return _of_array(source), name_of(source)
    name = name_of(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                picture = ImageOps.exif_transpose(source)
            else:
                with Image.open(source) as file:
                    deep = ";16" in str(file.tile)  # of which Pillow keeps 8 bits in colours
                    picture = ImageOps.exif_transpose(file)
                    picture.info["deep"] = deep
        if 0 in picture.size:
            raise ImageError(f"{name}: the picture is empty ({picture.width}x{picture.height})")
        picture.load()
        return picture, name
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: there is no such file: check the path") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{name}: expected a picture to read, got: {error.strerror}") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not a picture of a known format: convert it to PNG or JPEG"
        ) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{name}: the picture is too large to be read safely ({error}): shrink it first"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise ImageError(
            f"{name}: the picture cannot be decoded ({error}): it may be damaged; export it anew"
        ) from error


def to_8_bits(picture: Image.Image, name: str) -> Image.Image:
    """A picture as L, RGB or RGBA."""
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(scale_to_8_bits(np.asarray(picture), name))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    converted = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    if picture.info.get("deep") and picture.mode == "RGB":
        _tell_dark(converted.getextrema(), 255, name)
    return converted


def scale_to_8_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Deep grey to uint8, rounded: see `load_image`."""
    white = white_of(values)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):
        raise ImageError(
            f"{name}: expected {values.dtype} values from 0 to {white}, "
            f"got {low} to {high}: rescale them or save as 8 bits"
        )
    _tell_dark((low, high), white, name)
    return np.rint(values * (255.0 / white)).astype(np.uint8)


def white_of(values: np.ndarray) -> int:
    """The level of white among numbers of this dtype: of floats 1, or 255 if any is above 1."""
    if values.dtype.kind == "f":
        return 255 if values.max() > 1 else 1
    return 255 if values.dtype == np.uint8 else 65535


def _tell_dark(extrema: Any, white: int, name: str) -> None:
    """Warns where numbers use so little of their range that they may be in another unit."""
    low, high = np.min(extrema), np.max(extrema)
    if low < high < white * _DARK / 255:
        warnings.warn(
            f"{name}: nearly black, for its numbers go from {low:.6g} to {high:.6g} where "
            f"{white} is white: if {high:.6g} should be about white, as in data of 12 bits, "
            f"multiply them by {white / high:.4g}",
            stacklevel=4,
        )


def _of_array(array: np.ndarray) -> Image.Image:
    """An array as an image of Pillow's."""
    squeezed = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    colour = squeezed.ndim == 3 and squeezed.shape[2] in (3, 4)
    if array.dtype.kind not in "buif" or not (squeezed.ndim == 2 or colour) or 0 in array.shape:
        raise ImageError(
            f"the array: expected a picture as numbers [H, W] or [H, W, C] with 1, 3 or 4 "
            f"channels, got {array.dtype}{list(array.shape)}"
        )
    if squeezed.dtype == bool:
        squeezed = np.uint8(255) * squeezed
    if squeezed.dtype != np.uint8 and colour:
        squeezed = scale_to_8_bits(squeezed, "the array")
    if squeezed.dtype.kind == "f":
        squeezed = squeezed.astype(np.float32)
    elif squeezed.dtype != np.uint8:
        squeezed = np.clip(squeezed, -(2**31), 2**31 - 1).astype(np.int32)
    return Image.fromarray(np.ascontiguousarray(squeezed))


def name_of(source: Source) -> str:
    """What messages call a picture."""
    if isinstance(source, np.ndarray):
        return "the array"
    if isinstance(source, Image.Image):
        return in_text(getattr(source, "filename", "") or "the picture")
    return in_text(source) if isinstance(source, str | Path) else str(source)
