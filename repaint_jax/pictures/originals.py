"""Picture files as they are: in their own mode, with what else they say, and filled.

What was not filled keeps its bytes. A file is written without loss: as PNG, or as TIFF if PNG has
no such mode. Transparency by a key colour becomes an alpha channel, which what is filled could
otherwise hit by chance.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from repaint_jax.files import replacing
from repaint_jax.pictures.images import Source, opened, white_of

SUFFIXES = (".png", ".tif")
_IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_IN_TIFF = ("CMYK", "LAB", "I", "F")


def read_original(source: Source) -> Image.Image:
    """A picture upright, in its own mode.

    Raises:
        ImageError: as `load_image` does.

    Warns:
        UserWarning: when colours have 16 bits, of which Pillow keeps 8.
    """
    picture, name = opened(source)
    if picture.info.get("deep") and picture.mode in ("RGB", "RGBA", "LA"):
        warnings.warn(
            f"{name}: of the 16 bits of its colours 8 are kept, in what is not filled, too",
            stacklevel=2,
        )
    if picture.has_transparency_data and picture.mode not in ("RGBA", "LA"):
        keyed = picture.convert("LA" if picture.mode == "L" else "RGBA")
        keyed.info.pop("transparency", None)
        return keyed
    return picture if picture.mode in _IN_PNG + _IN_TIFF else picture.convert("RGB")


def filled_original(picture: Image.Image, known: np.ndarray, filled: np.ndarray) -> Image.Image:
    """The picture with `filled` in its holes, in its own mode; holes are opaque.

    Args:
        picture: as `read_original` gives it.
        known: bool[H, W], True where it stays.
        filled: uint8[H, W, C], read where it is not known.
    """
    colours = Image.fromarray(filled[..., 0] if filled.shape[2] == 1 else filled)
    if picture.mode == "P":
        colours = colours.convert("RGB").quantize(palette=picture)  # the nearest, dithered
    elif picture.mode.startswith(("I", "F")):
        values = np.array(picture)
        scaled = filled.mean(2) * (white_of(values) / 255)
        values[~known] = (scaled if values.dtype.kind == "f" else np.rint(scaled))[~known]
        result = Image.fromarray(values)
        result.info = picture.info
        return result
    elif colours.mode != picture.mode:
        colours = colours.convert(picture.mode)
    result = picture.copy()
    result.paste(colours, mask=Image.fromarray(np.uint8(255) * ~known))
    return result


def save_original(stem: Path, picture: Image.Image) -> Path:
    """Writes a picture with its metadata to `stem`.png, or .tif; whole or not at all."""
    path = stem.with_name(stem.name + original_suffix(picture))
    if path.suffix == ".png":
        how: dict[str, Any] = {"format": "PNG", "pnginfo": _texts(picture)}
    else:
        how = {"format": "TIFF", "compression": "tiff_adobe_deflate"}
    if profile := picture.info.get("icc_profile"):
        how["icc_profile"] = profile
    if exif := picture.getexif():
        how["exif"] = exif
    if dots := picture.info.get("dpi"):
        how["dpi"] = dots
    with replacing(path) as temporary:
        picture.save(temporary, **how)
    return path


def original_suffix(picture: Image.Image) -> str:
    """What the file of a picture ends in, without loss."""
    return SUFFIXES[picture.mode in _IN_TIFF]


def _texts(picture: Image.Image) -> PngImagePlugin.PngInfo:
    """What a picture says in words, as a PNG does."""
    words = {
        str(key): value
        for key, value in picture.info.items()
        if isinstance(value, str) and key != "compression"  # a TIFF's own
    }
    for key, name in (("xmp", "XML:com.adobe.xmp"), ("comment", "Comment")):
        if isinstance(value := picture.info.get(key), bytes):
            words.setdefault(name, value.decode("utf-8", "replace"))
    texts = PngImagePlugin.PngInfo()
    for key, value in words.items():
        texts.add_itxt(key, value)
    return texts
