"""Training pictures: a folder, a zip or an npz as uint8[N, H, W, C], decoded once.

If they are too many for memory, files are decoded anew each time they are drawn, through grain.
"""

from __future__ import annotations

import glob
import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from repaint_jax.images import SUFFIXES, ImageError, find_images, fit, load_image

__all__ = ["Data", "DataError", "Stream", "load_data"]

ARRAY_NAMES = ("x_train", "train_images", "images", "train", "x", "arr_0")

Shape = tuple[int, int, int]  # H, W, C


class DataError(ValueError):
    """The data cannot be used; the message says in one line why, and the cure."""


class Data(NamedTuple):
    """What to train on, and pictures held out from it, uint8[V, H, W, C]."""

    train: np.ndarray | Stream
    validation: np.ndarray


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


def load_data(
    data: str, shape: Shape, *, num_validation: int, in_memory: bool | None = None, seed: int = 0
) -> Data:
    """Reads the pictures that `data` names, cropped centrally and resized to `shape`.

    Args:
        data: a folder (searched with its subfolders), a zip, an npz, or a pattern of pictures or
            zips such as "faces_*.zip". An npz holds uint8[N, H, W] or [N, H, W, C] under one of
            `ARRAY_NAMES`, or as its only array.
        shape: (height, width, channels); 1 channel is grey, 3 are colours.
        num_validation: pictures to hold out, spread evenly over the whole.
        in_memory: whether to decode everything now; None does so if it fits.
        seed: of the order in which a stream draws.

    Raises:
        DataError: there is nothing there, or too little of it can be used.
        ImageError: there are no pictures there.

    Warns:
        UserWarning: which pictures were skipped because they cannot be read.
    """
    path = Path(data).expanduser()
    paths = [path] if path.exists() else sorted(map(Path, glob.glob(str(path))))
    if len(paths) == 1 and paths[0].suffix == ".npz":
        pictures = _fitted(_read_npz(paths[0]), shape)
    else:
        files = _find_files(data, paths)
        num_bytes = len(files) * int(np.prod(shape))
        if not (_fits(num_bytes) if in_memory is None else in_memory):
            held = _held_out(len(files), num_validation)
            rest = [file for i, file in enumerate(files) if i not in set(held)]
            return Data(Stream(rest, shape, seed), _decode([files[i] for i in held], shape))
        pictures = _decode(files, shape)
    held = _held_out(len(pictures), num_validation)
    return Data(np.delete(pictures, held, axis=0), pictures[held])


@dataclass(frozen=True)
class Stream:
    """Pictures that are decoded whenever they are drawn.

    Picture i of a run is a function of `seed` and i alone, so that a run can go on anywhere.
    """

    files: Sequence[File]
    shape: Shape
    seed: int

    def batches(self, first: int, last: int, batch_size: int) -> Iterator[np.ndarray]:
        """The batches of updates first .. last - 1, uint8[batch_size, H, W, C] each."""
        try:
            import grain
        except ImportError as error:
            raise DataError(
                "the pictures do not fit into memory, and to stream them needs grain: "
                "pip install 'repaint-jax[train]'"
            ) from error
        rows = grain.MapDataset.range(first * batch_size, last * batch_size)
        options = grain.ReadOptions(
            num_threads=os.cpu_count() or 1, prefetch_buffer_size=4 * batch_size
        )
        return iter(rows.map(self.draw).batch(batch_size).to_iter_dataset(options))

    def draw(self, i: int) -> np.ndarray:
        """Picture i of a run, uint8[H, W, C]; another one for each that cannot be read."""
        rng = np.random.default_rng([self.seed, i])
        for _ in range(100):
            file = self.files[int(rng.integers(len(self.files)))]
            try:
                return _read(file, self.shape)
            except ImageError as error:
                warnings.warn(f"skipped: {error}", stacklevel=2)
        raise DataError(f"none of 100 pictures drawn from {len(self.files)} can be read")


def _find_files(data: str, paths: list[Path]) -> list[File]:
    """The pictures of a folder, a pattern or zips, in natural order."""
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


def _read(file: File, shape: Shape) -> np.ndarray:
    """One picture, uint8[H, W, C]."""
    opened = file.open() if isinstance(file, Member) else file
    return load_image(opened, size=shape[:2], channels=shape[2])


def _decode(files: Sequence[File], shape: Shape) -> np.ndarray:
    """All pictures that can be read, uint8[N, H, W, C]."""
    broken: list[str] = []

    def read(file: File) -> np.ndarray | None:
        try:
            return _read(file, shape)
        except ImageError as error:
            broken.append(str(error))
            return None

    with ThreadPoolExecutor() as pool:
        found = list(
            tqdm(pool.map(read, files), "reading pictures", len(files), leave=False, delay=1)
        )
    pictures = [picture for picture in found if picture is not None]
    if broken:
        some = "; ".join(sorted(broken)[:3]) + "; ..." * (len(broken) > 3)
        told = f"{len(broken)} of {len(files)} pictures cannot be read: {some}"
        if not pictures:
            raise DataError(told)
        warnings.warn(f"skipped: {told}", stacklevel=2)
    return np.array(pictures, np.uint8).reshape(-1, *shape)


def _read_npz(path: Path) -> np.ndarray:
    """uint8[N, H, W, C] from an npz."""
    try:
        with np.load(path) as arrays:
            names = arrays.files
            name = next((name for name in ARRAY_NAMES if name in names), names[0])
            pictures = arrays[name]
    except (zipfile.BadZipFile, EOFError, IndexError, ValueError) as error:
        raise DataError(f"{path}: not an npz with arrays, or damaged: write it again") from error
    if name not in ARRAY_NAMES and len(names) > 1:
        raise DataError(f"{path}: holds {', '.join(names)}; call the pictures 'images'")
    if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or 0 in pictures.shape:
        raise DataError(
            f"{path}: {name} is {pictures.dtype}{list(pictures.shape)}; expected "
            "uint8[N, H, W] or uint8[N, H, W, C], values 0 to 255"
        )
    pictures = pictures if pictures.ndim == 4 else pictures[..., None]
    if pictures.shape[-1] not in (1, 3):
        raise DataError(f"{path}: {name} has {pictures.shape[-1]} channels; expected 1 or 3")
    return pictures


def _fitted(pictures: np.ndarray, shape: Shape) -> np.ndarray:
    """Pictures uint8[N, H', W', C'] at `shape`."""
    if pictures.shape[1:] == shape:
        return pictures

    def fitted(picture: np.ndarray) -> np.ndarray:
        image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
        image = fit(image.convert("L" if shape[2] == 1 else "RGB"), shape[:2])
        return np.array(image).reshape(shape)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(fitted, pictures)))


def _held_out(count: int, num_validation: int) -> np.ndarray:
    """Indices of `num_validation` of `count` pictures, spread evenly."""
    if count <= num_validation:
        raise DataError(
            f"{count} pictures are too few to train on and to hold out {num_validation} for "
            "validation: give more, or lower num_validation"
        )
    return (np.arange(num_validation) * count) // max(num_validation, 1)


def _fits(num_bytes: int) -> bool:
    """Whether the pictures leave three quarters of a device's memory (or the machine's) free."""
    stats = jax.local_devices()[0].memory_stats() or {}
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return num_bytes < min(physical, stats.get("bytes_limit", physical)) / 4
