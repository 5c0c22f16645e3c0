"""Collections of pictures: a folder, a zip, an npz or a pattern of files."""

from __future__ import annotations

import glob
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from repaint_jax.images import SUFFIXES, ImageError, find_images, fit, load_image

Shape = tuple[int, int, int]  # H, W, C


class DataError(ValueError):
    """The data cannot be used; the message says in one line why, and the cure."""


class Member(NamedTuple):
    """A file in a zip."""

    archive: zipfile.ZipFile
    name: str

    def open(self) -> NamedBytes:
        """Its contents."""
        name = f"{self.archive.filename}: {self.name}"
        try:
            return NamedBytes(name, self.archive.read(self.name))
        except zipfile.BadZipFile as error:
            raise ImageError(f"{name}: damaged in the zip ({error})") from error


class NamedBytes(io.BytesIO):
    """A file in memory that error messages call by its name."""

    def __init__(self, name: str, contents: bytes):
        super().__init__(contents)
        self.name = name

    def __str__(self) -> str:
        return self.name


File = Path | Member


def find_paths(data: str) -> list[Path]:
    """The file or folder that `data` names, or the files that fit its pattern."""
    path = Path(data).expanduser()
    return [path] if path.exists() else sorted(map(Path, glob.glob(str(path))))


def find_files(data: str) -> list[File]:
    """The pictures of a folder (with its subfolders), a pattern or zips, in natural order."""
    paths = find_paths(data)
    if paths and all(path.suffix.lower() == ".zip" for path in paths):
        return [member for path in paths for member in _members(path)]
    if len(paths) == 1 and paths[0].is_dir():
        return list(find_images(os.path.join(glob.escape(str(paths[0])), "**", "*")))
    return list(find_images(data))


def _members(path: Path) -> list[Member]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a zip, or damaged ({error}): copy it again") from error
    names = [
        name
        for name in sorted(archive.namelist())
        if name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX/")
    ]
    if not names:
        raise DataError(f"{path}: no pictures in it; expected one of {', '.join(SUFFIXES)}")
    return [Member(archive, name) for name in names]


def read_file(file: File, shape: Shape) -> np.ndarray:
    """One picture, uint8[H, W, C]."""
    opened = file.open() if isinstance(file, Member) else file
    return load_image(opened, size=shape[:2], channels=shape[2])


def read_npz(path: Path, array_names: Sequence[str]) -> np.ndarray:
    """uint8[N, H, W, C] from an npz: the first of `array_names` there, or the only array."""
    try:
        with np.load(path) as arrays:
            names = arrays.files
            name = next((name for name in array_names if name in names), names[0])
            pictures = arrays[name]
    except (zipfile.BadZipFile, EOFError, IndexError, ValueError) as error:
        raise DataError(f"{path}: not an npz with arrays, or damaged: write it again") from error
    if name not in array_names and len(names) > 1:
        raise DataError(f"{path}: holds {', '.join(names)}; call the pictures {array_names[0]!r}")
    if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or 0 in pictures.shape:
        raise DataError(
            f"{path}: {name} is {pictures.dtype}{list(pictures.shape)}; expected "
            "uint8[N, H, W] or uint8[N, H, W, C], values 0 to 255"
        )
    pictures = pictures if pictures.ndim == 4 else pictures[..., None]
    if pictures.shape[-1] not in (1, 3):
        raise DataError(f"{path}: {name} has {pictures.shape[-1]} channels; expected 1 or 3")
    return pictures


def fitted(pictures: np.ndarray, shape: Shape) -> np.ndarray:
    """Pictures uint8[N, H', W', C'] at `shape`."""
    if pictures.shape[1:] == shape:
        return pictures

    def one(picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
        image = fit(image.convert("L" if shape[2] == 1 else "RGB"), shape[:2])
        return np.array(image).reshape(shape)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(one, pictures)))
