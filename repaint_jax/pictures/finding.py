"""Pictures among files: those that Pillow reads here, in natural order."""

from __future__ import annotations

import functools
import glob
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, features

from repaint_jax.errors import ImageError
from repaint_jax.runtime.files import expanded, in_text

PathLike = str | Path

# Formats that Pillow knows by name only, or through another program.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # which a build may lack


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """The suffixes of all formats that Pillow reads here, such as ".png"."""
    lacking = {kind for kind, codec in _CODECS.items() if not features.check(codec)}
    Image.init()
    readable = {*Image.OPEN} - lacking - _NOT_DECODED
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in readable
    )


def is_picture_name(name: str) -> bool:
    """Whether a file of that name is a picture by its suffix, and not hidden."""
    path = Path(name)
    return path.suffix.lower() in picture_suffixes() and not path.name.startswith(".")


def find_images(pattern: PathLike) -> list[Path]:
    """Finds the pictures that a file name, a folder or a glob pattern stands for.

    Hidden files and, in folders and patterns, files without the name of a picture are left out.

    Returns:
        Paths in natural order: `2.png` before `10.png`.

    Raises:
        ImageError: when there are none.

    Warns:
        UserWarning: how many files were left out that are not hidden.
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
    """Those that are pictures by their names, in natural order; `place` is for messages."""
    files = [file for file in files if file.is_file()]
    found = [file for file in files if is_picture_name(file.name)]
    if not found:
        raise ImageError(
            f"{place}: none of the {len(files)} files there is a picture by its name, such as "
            "a.png or a.jpg: name a file itself, or convert them to PNG"
        )
    tell_left_out([file.name for file in files], place)
    return sorted(found, key=natural_order)


def tell_left_out(names: Sequence[str], place: PathLike) -> None:
    """Warns of those files that are no pictures by their names; hidden ones do not count."""
    shown = [name for name in names if not name.startswith(".")]
    left_out = sorted(name for name in shown if not is_picture_name(name))
    if left_out:
        some = ", ".join(map(in_text, left_out[:3])) + ", ..." * (len(left_out) > 3)
        warnings.warn(
            f"{place}: left out {len(left_out)} of {len(shown)} files, no pictures by their names "
            f"that Pillow reads here: {some}",
            stacklevel=3,
        )


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """A key to sort paths by, 2.png before 10.png."""
    parts = re.split(r"([0-9]+)", str(path))
    numbered = [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]
    return numbered, str(path)
