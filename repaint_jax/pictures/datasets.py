"""Collections of pictures: a folder, a zip, an npz or a pattern of files."""

from __future__ import annotations

import glob
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from repaint_jax.pictures.images import (
    SUFFIXES,
    ImageError,
    find_images,
    fit,
    load_image,
    pictures_among,
)
from repaint_jax.runtime.files import expanded

Shape = tuple[int, int, int]  # H, W, C

_LARGEST_FILE = 2**30  # bytes of a picture in a zip


class DataError(ValueError):
    """The data cannot be used; the message says in one line why, and the cure."""


class Member(NamedTuple):
    """A file in a zip."""

    archive: zipfile.ZipFile
    name: str

    def open(self) -> NamedBytes:
        """Its contents."""
        name = f"{self.archive.filename}: {self.name}"
        size = self.archive.getinfo(self.name).file_size
        if size > _LARGEST_FILE:
            raise ImageError(f"{name}: too large to be read safely ({size} bytes): shrink it first")
        try:
            return NamedBytes(name, self.archive.read(self.name))
        except Exception as error:  # a damaged zip can fail in any way
            raise ImageError(f"{name}: damaged in the zip ({error}), or encrypted") from error


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
    path = expanded(data)
    return [path] if path.exists() else sorted(map(Path, glob.glob(str(path))))


def find_files(data: str) -> list[File]:
    """The pictures of a folder (with its subfolders), a pattern or zips, in natural order."""
    paths = find_paths(data)
    if paths and all(path.suffix.lower() == ".zip" for path in paths):
        return [member for path in paths for member in _members(path)]
    if len(paths) == 1 and paths[0].is_dir():
        return list(pictures_among(list(_walked(paths[0])), data))
    return list(find_images(data))


def _walked(folder: Path) -> Iterator[Path]:
    """Files of a folder and those in it, each folder once, even if links lead round in circles."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in files)


def _members(path: Path) -> list[Member]:
    with _damage_of(path, "a zip"):
        archive = zipfile.ZipFile(path)
    names = [
        name
        for name in sorted(archive.namelist())
        if name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX/")
    ]
    if not names:
        raise DataError(f"{path}: no pictures in it; expected one of {', '.join(SUFFIXES)}")
    return [Member(archive, name) for name in names]


@contextmanager
def _damage_of(path: Path, kind: str) -> Iterator[None]:
    """Makes a DataError of whatever a damaged file leads to."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it cannot be opened at all
        raise DataError(
            f"{path}: not {kind}, or damaged ({error}): copy or write it again"
        ) from error


def read_file(file: File, shape: Shape) -> np.ndarray:
    """One picture, uint8[H, W, C]."""
    opened = file.open() if isinstance(file, Member) else file
    return load_image(opened, size=shape[:2], channels=shape[2])


def read_npz(path: Path, array_names: Sequence[str]) -> np.ndarray:
    """uint8[N, H, W, C] from an npz: the first of `array_names` there, or the only array."""
    with _damage_of(path, "an npz"), path.open("rb") as file, np.load(file) as arrays:
        names = arrays.files
        name = next((name for name in array_names if name in names), names[0])
        pictures = np.asarray(arrays[name])
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
