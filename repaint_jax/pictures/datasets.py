"""Collections of pictures: a folder, a zip, an npz or npy, or a pattern of files."""

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

from repaint_jax.errors import DataError, ImageError
from repaint_jax.pictures.finding import (
    find_images,
    is_picture_name,
    pictures_among,
    tell_left_out,
)
from repaint_jax.pictures.images import load_image
from repaint_jax.pictures.resizing import fit
from repaint_jax.runtime.files import expanded

Shape = tuple[int, int, int]  # H, W, C

_LARGEST_FILE = 2**30  # bytes of a picture in a zip


class Member(NamedTuple):
    """A file in a zip."""

    archive: zipfile.ZipFile
    name: str

    @property
    def path(self) -> Path:
        """Where it lies, as if the zip were a folder."""
        return Path(self.archive.filename or "", self.name)

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
    """The pictures of a folder (with its subfolders), a pattern or zips, in natural order.

    A folder that holds zips and no pictures stands for its zips.
    """
    paths = find_paths(data)
    if len(paths) == 1 and paths[0].is_dir():
        inside = list(_walked(paths[0]))
        zips = sorted(path for path in inside if _is_zip(path))
        if not zips or any(is_picture_name(path.name) for path in inside):
            return list(pictures_among(inside, data))
        paths = zips
    if paths and all(map(_is_zip, paths)):
        return [member for path in paths for member in _members(path)]
    return list(find_images(data))


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


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
    names = sorted(
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    )
    pictures = [name for name in names if is_picture_name(name)]
    if not pictures:
        raise DataError(
            f"{path}: none of the {len(names)} files in it is a picture by its name, such as a.png "
            "or a.jpg: convert them to PNG and zip them again"
        )
    tell_left_out([Path(name).name for name in names], path)
    return [Member(archive, name) for name in pictures]


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


def holds_arrays(paths: Sequence[Path]) -> bool:
    """Whether these are one file of arrays, .npz or .npy."""
    return len(paths) == 1 and paths[0].suffix.lower() in (".npz", ".npy")


def read_arrays(path: Path, array_names: Sequence[str]) -> np.ndarray:
    """uint8[N, H, W, C] from an npy, or an npz: the first of `array_names`, or the only array."""
    with _damage_of(path, "an npz or npy"), path.open("rb") as file:
        loaded = np.load(file)
        names = ["it"] if isinstance(loaded, np.ndarray) else loaded.files
        name = next((name for name in array_names if name in names), names[0])
        pictures = loaded if isinstance(loaded, np.ndarray) else np.asarray(loaded[name])
    if name not in array_names and len(names) > 1:
        raise DataError(f"{path}: holds {', '.join(names)}; call the pictures {array_names[0]!r}")
    return _as_pictures(pictures, f"{path}: {name}")


def _as_pictures(pictures: np.ndarray, name: str) -> np.ndarray:
    """uint8[N, H, W, C], after checking that the shape can mean nothing else."""
    shape = pictures.shape
    told = f"{name} is {pictures.dtype}{list(shape)}"
    if pictures.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            f"{told}; expected uint8[N, H, W] or uint8[N, H, W, C], values 0 to 255: save it as "
            "(255 * x).round().astype('uint8') if 1 is white"
        )
    if len(shape) == 4:
        if shape[3] in (1, 3):
            return pictures
        mend = "x.transpose(0, 2, 3, 1)" if shape[1] in (1, 3) else "x[..., :3], if those are RGB"
        raise DataError(f"{told}, of {shape[3]} channels; expected 1 or 3, last: save {mend}")
    if shape[2] in (1, 3) or shape[0] == 3:
        whole = "x[None]" if shape[2] in (1, 3) else "x.transpose(1, 2, 0)[None]"
        raise DataError(
            f"{told}, which may be {shape[0]} grey pictures or a single one: save x[..., None] for "
            f"grey ones, {whole} for a single one"
        )
    return pictures[..., None]


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
